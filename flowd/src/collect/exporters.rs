//! The counters of each exporter: as many as there is room for, and the sum of all others.

use super::books::{Books, CollectDrop, ExporterStatistics, SamplingStatistics, by_name};
use super::facts::{Facts, Sampling};
use super::sequence::Arrival;
use super::sflow::SampleBooks;
use crate::model::time::UnixMillis;
use crate::model::{ObservationDomainId, Origin, Protocol};
use crate::telemetry::{Counter, Drops, Flag, Reason};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Exporters that have counters of their own. Addresses can be forged: beyond so many, the ones
/// that sent least give way.
const EXPORTER_COUNT_MAX: usize = 65_536;
/// Samplers of an exporter that are told apart: a line card has a handful, but each interface of
/// an sFlow agent is one, and a chassis has some hundred.
pub(super) const SAMPLER_COUNT_MAX: usize = 1_024;
/// Samplers of all exporters, about: addresses can be forged. Each takes some 40 octets.
const ALL_SAMPLERS_COUNT_MAX: u64 = 1 << 20;
/// What the sum of all others is called where an exporter has its protocol.
const OTHERS: &str = "other";

/// The counters of one exporter and domain.
#[derive(Debug, Default)]
pub(super) struct ExporterBooks {
    pub(super) messages: Counter,
    pub(super) records: Counter,
    pub(super) templates: Counter,
    pub(super) sequence_gaps: Counter,
    pub(super) units_missing: Counter,
    pub(super) units_late: Counter,
    pub(super) messages_late: Counter,
    pub(super) messages_repeated: Counter,
    pub(super) restarts: Counter,
    pub(super) sets_late: Counter,
    pub(super) set_drops: Drops<CollectDrop>,
    /// When it booted, in milliseconds since 1970, as a record of it said (IPFIX, where messages
    /// do not tell the uptime); 0 while that is not known.
    booted: Counter,
    /// When the record came that told last of the exporter itself, in milliseconds since 1970.
    told: Counter,
    /// What it told of its sampling, by sampler.
    samplings: Mutex<BTreeMap<u64, SamplingStatistics>>,
    /// Samplers of all exporters: raised here, and summed up anew when rows are taken away.
    all_samplers: Arc<Counter>,
    /// Times that it told of a sampler that there was no room for.
    pub(super) samplers_over_limit: Counter,
    pub(super) samples: SampleBooks,
    /// How many datagrams had come from all exporters when this one was heard last.
    heard: Counter,
    /// Its row went to another exporter.
    gave_way: Flag,
}

impl ExporterBooks {
    /// Octets that they take.
    pub(super) const SIZE: usize =
        size_of::<Self>() + CollectDrop::ALL.len() * size_of::<Counter>() + 16;

    /// It told of itself in a record that was received at this time.
    pub(super) fn heard_facts(&self, received: UnixMillis) {
        self.told.set(u64::try_from(received.0).unwrap_or(0));
    }

    /// It told of itself in a record that has waited. What was told since is not overwritten.
    pub(super) fn take_late(&self, facts: Facts, received: UnixMillis) {
        let is_newest = self.told.value() <= u64::try_from(received.0).unwrap_or(0);
        if is_newest {
            self.heard_facts(received);
        }
        if let Some(booted) = facts.booted.filter(|_| is_newest || self.booted().is_none()) {
            self.note_boot(booted);
        }
        let is_news = |sampling: &Sampling| is_newest || !self.knows_sampler(sampling.sampler);
        if let Some(sampling) = facts.sampling.filter(is_news) {
            self.note_sampling(sampling, received);
        }
    }

    /// Counts what a sequence number told.
    pub(super) fn count(&self, arrival: Arrival) {
        match arrival {
            Arrival::InOrder => {}
            Arrival::Gap(missing) => {
                self.sequence_gaps.add(1);
                self.units_missing.add(u64::from(missing));
            }
            Arrival::Late(found) => {
                self.messages_late.add(1);
                self.units_late.add(u64::from(found));
            }
            Arrival::Repeated => self.messages_repeated.add(1),
            Arrival::Restarted => self.restarts.add(1),
        }
    }

    fn knows_sampler(&self, sampler: u64) -> bool {
        let samplings = self.samplings.lock().unwrap_or_else(PoisonError::into_inner);
        samplings.contains_key(&sampler)
    }

    /// It told when it booted.
    pub(super) fn note_boot(&self, booted: UnixMillis) {
        self.booted.set(u64::try_from(booted.0).unwrap_or(0));
    }

    /// When it booted, if it told that.
    pub(super) fn booted(&self) -> Option<UnixMillis> {
        let booted = i64::try_from(self.booted.value()).ok()?;
        (booted > 0).then_some(UnixMillis(booted))
    }

    /// It told how it samples. The time is that of the change: a rate that is told again is no
    /// news.
    pub(super) fn note_sampling(&self, sampling: Sampling, received: UnixMillis) {
        let Sampling { sampler, interval } = sampling;
        // A thread that panicked left a whole map behind.
        let mut samplings = self.samplings.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = samplings.get(&sampler).is_some_and(|known| known.interval == interval);
        if is_known {
            return;
        }
        let is_new = !samplings.contains_key(&sampler);
        let has_room = samplings.len() < SAMPLER_COUNT_MAX
            && self.all_samplers.value() < ALL_SAMPLERS_COUNT_MAX;
        if is_new && !has_room {
            self.samplers_over_limit.add(1);
            return;
        }
        self.all_samplers.add(u64::from(is_new));
        let since = received.0;
        samplings.insert(sampler, SamplingStatistics { sampler, interval, since });
    }

    fn sampler_count(&self) -> u64 {
        let samplings = self.samplings.lock().unwrap_or_else(PoisonError::into_inner);
        u64::try_from(samplings.len()).unwrap_or(u64::MAX)
    }

    fn samplings(&self) -> Vec<SamplingStatistics> {
        let samplings = self.samplings.lock().unwrap_or_else(PoisonError::into_inner);
        samplings.values().copied().collect()
    }

    /// A message came from it.
    pub(super) fn heard(&self, books: &Books) {
        self.heard.set(books.datagrams.value());
    }

    /// Did its row go to another exporter? What is counted here is still part of the sum of the
    /// others.
    pub(super) fn has_given_way(&self) -> bool {
        self.gave_way.is_raised()
    }
}

/// The counters of all exporters.
#[derive(Debug)]
pub(super) struct Exporters {
    rows: HashMap<Origin, Arc<ExporterBooks>>,
    count_max: usize,
    all_samplers: Arc<Counter>,
    /// Books without a row that some session or held set may still write into.
    leaving: Vec<Arc<ExporterBooks>>,
    /// What stood in books that nobody writes into any more.
    left: Option<ExporterStatistics>,
    given_way: u64,
}

impl Default for Exporters {
    fn default() -> Self {
        Self::with_count_max(EXPORTER_COUNT_MAX)
    }
}

impl Exporters {
    fn with_count_max(count_max: usize) -> Self {
        Self {
            rows: HashMap::new(),
            count_max,
            all_samplers: Arc::default(),
            leaving: Vec::new(),
            left: None,
            given_way: 0,
        }
    }

    /// The counters of an exporter, made when it is new.
    pub(super) fn get_or_make(&mut self, origin: &Origin) -> Arc<ExporterBooks> {
        if let Some(books) = self.rows.get(origin) {
            return Arc::clone(books);
        }
        if self.rows.len() >= self.count_max {
            self.make_room();
        }
        let all_samplers = Arc::clone(&self.all_samplers);
        let books = Arc::new(ExporterBooks { all_samplers, ..ExporterBooks::default() });
        self.rows.insert(origin.clone(), Arc::clone(&books));
        books
    }

    /// Takes an eighth of the rows away: of those with the fewest messages, by powers of two,
    /// the ones that were not heard of for longest. So a flood of forged addresses displaces
    /// itself, and not the exporters that send all the time.
    fn make_room(&mut self) {
        let rank =
            |books: &ExporterBooks| (books.messages.value().checked_ilog2(), books.heard.value());
        let mut by_rank: Vec<_> =
            self.rows.iter().map(|(origin, books)| (rank(books), origin.clone())).collect();
        let count = (by_rank.len() / 8).max(1);
        by_rank.sort_unstable_by_key(|&(rank, _)| rank);
        for (_, origin) in by_rank.iter().take(count) {
            if let Some(books) = self.rows.remove(origin) {
                books.gave_way.raise();
                self.leaving.push(books);
                self.given_way = self.given_way.saturating_add(1);
            }
        }
        self.sum_up();
        let count = |books: &Arc<ExporterBooks>| books.sampler_count();
        self.all_samplers.set(self.rows.values().chain(&self.leaving).map(count).sum());
    }

    /// Sums up the books that nobody can write into any more: the only other holders of one are
    /// sessions and held sets, whose number is limited, and none can come by it again.
    fn sum_up(&mut self) {
        let left = &mut self.left;
        self.leaving.retain_mut(|books| {
            let Some(books) = Arc::get_mut(books) else {
                return true;
            };
            add(left, books);
            false
        });
    }

    pub(super) fn statistics(&self) -> Vec<ExporterStatistics> {
        self.rows.iter().map(|(origin, books)| ExporterStatistics::of(origin, books)).collect()
    }

    pub(super) fn statistics_of(&self, origin: &Origin) -> Option<ExporterStatistics> {
        self.rows.get(origin).map(|books| ExporterStatistics::of(origin, books))
    }

    /// All exporters that lost their row, if some did.
    pub(super) fn others(&self) -> Option<ExporterStatistics> {
        let mut others = self.left.clone();
        for books in &self.leaving {
            add(&mut others, books);
        }
        others
    }

    /// Rows that were taken away.
    pub(super) const fn given_way(&self) -> u64 {
        self.given_way
    }
}

fn add(sum: &mut Option<ExporterStatistics>, books: &ExporterBooks) {
    let origin = Origin {
        address: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        domain: ObservationDomainId(0),
        protocol: Protocol::NetflowV9,
    };
    let more =
        ExporterStatistics { protocol: OTHERS.into(), ..ExporterStatistics::of(&origin, books) };
    match sum {
        Some(sum) => sum.add(&more),
        None => *sum = Some(more),
    }
}

impl ExporterStatistics {
    fn of(origin: &Origin, books: &ExporterBooks) -> Self {
        let Origin { address, domain: ObservationDomainId(domain), protocol } = *origin;
        // In this order: what comes late meanwhile must not be more than what is missing.
        let units_late = books.units_late.value();
        let units_missing = books.units_missing.value();
        let counts_records =
            matches!(protocol, Protocol::NetflowV5 | Protocol::NetflowV7 | Protocol::Ipfix);
        let of_messages = |units| if counts_records { 0 } else { units };
        let of_records = |units| if counts_records { units } else { 0 };
        let lost = units_missing.saturating_sub(units_late);
        Self {
            address,
            domain,
            protocol: Protocol::name(protocol).to_owned(),
            messages: books.messages.value(),
            records: books.records.value(),
            templates: books.templates.value(),
            sequence_gaps: books.sequence_gaps.value(),
            messages_missing: of_messages(units_missing),
            messages_lost: of_messages(lost),
            records_missing: of_records(units_missing),
            records_late: of_records(units_late),
            records_lost: of_records(lost),
            messages_late: books.messages_late.value(),
            messages_repeated: books.messages_repeated.value(),
            restarts: books.restarts.value(),
            sets_late: books.sets_late.value(),
            set_drops: by_name(&books.set_drops),
            sampling: books.samplings(),
            samplers_over_limit: books.samplers_over_limit.value(),
            samples: books.samples.statistics(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(domain: u32) -> Origin {
        Origin {
            address: "192.0.2.1".parse().unwrap(),
            domain: ObservationDomainId(domain),
            protocol: Protocol::NetflowV9,
        }
    }

    #[test]
    fn what_has_waited_does_not_overwrite_what_was_told_since() {
        let books = ExporterBooks::default();
        let rate = |sampler, interval| Some(Sampling { sampler, interval });
        let facts = |booted, sampling| Facts { booted: Some(UnixMillis(booted)), sampling };
        let known = || {
            let rates = books.samplings().into_iter().map(|it| (it.sampler, it.interval));
            (books.booted().unwrap().0, rates.collect::<Vec<_>>())
        };
        books.take_late(facts(5, rate(1, 10)), UnixMillis(1_000));
        books.take_late(facts(6, rate(1, 20)), UnixMillis(1_001));
        assert_eq!(known(), (6, vec![(1, 20)]));
        // Live, then older ones.
        books.heard_facts(UnixMillis(2_000));
        books.note_boot(UnixMillis(7));
        books.take_late(facts(6, rate(1, 30)), UnixMillis(1_999));
        books.take_late(facts(6, rate(2, 40)), UnixMillis(1_999));
        assert_eq!(known(), (7, vec![(1, 20), (2, 40)]));
        books.take_late(facts(8, rate(2, 50)), UnixMillis(2_000));
        assert_eq!(known(), (8, vec![(1, 20), (2, 50)]));
    }

    #[test]
    fn a_flood_of_forged_exporters_displaces_itself_and_nothing_is_lost() {
        let mut exporters = Exporters::with_count_max(64);
        let old = exporters.get_or_make(&origin(0));
        old.messages.add(100);
        let mut sent = 100;
        for domain in 1..1_000 {
            let forged = exporters.get_or_make(&origin(domain));
            forged.messages.add(1);
            forged.heard.set(u64::from(domain));
            sent += 1;
        }
        let new = exporters.get_or_make(&origin(5_000));
        new.messages.add(7);
        let rows = exporters.statistics();
        assert!(rows.len() <= 64);
        for (domain, messages) in [(0, 100), (5_000, 7), (999, 1)] {
            let row = rows.iter().find(|row| row.domain == domain);
            assert_eq!(row.map(|row| row.messages), Some(messages), "{domain}");
        }
        assert!(rows.iter().all(|row| row.domain != 1), "the oldest gave way");
        let others = exporters.others().unwrap();
        let in_rows: u64 = rows.iter().map(|row| row.messages).sum();
        assert_eq!(in_rows + others.messages, sent + 7);
        assert_eq!(others.messages, exporters.given_way());
        assert!(exporters.leaving.is_empty());
    }

    #[test]
    fn what_is_counted_after_a_row_was_taken_away_is_counted() {
        let mut exporters = Exporters::with_count_max(1);
        let first = exporters.get_or_make(&origin(1));
        assert!(!first.has_given_way());
        exporters.get_or_make(&origin(2)).records.add(3);
        assert!(first.has_given_way());
        first.records.add(5);
        assert_eq!(exporters.others().unwrap().records, 5);
        drop(first);
        exporters.get_or_make(&origin(1));
        assert_eq!(exporters.others().unwrap().records, 8);
        assert_eq!((exporters.leaving.len(), exporters.given_way()), (0, 2));
    }
}
