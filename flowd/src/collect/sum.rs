//! Statistics of several runs, added up.

use super::books::{ExporterStatistics, Statistics};
use std::collections::BTreeMap;

/// Data sets that waited for their template, and connections that were open, when a run was
/// killed, and that the next one does not know.
const NOT_KEPT: &str = "notKept";

impl Statistics {
    /// Each exporter, and in the end those that gave way to others, as one.
    pub fn all_exporters(&self) -> impl Iterator<Item = &ExporterStatistics> {
        self.exporters.iter().chain(&self.other_exporters)
    }

    /// Adds the counters of a later run, which took over what waited at the end of the earlier
    /// ones. After a kill either may have known of sets that the other does not: those that were
    /// lost are dropped, and those that were received after the last count are counted now.
    pub fn add(&mut self, later: &Self) {
        let Self {
            datagrams,
            octets,
            datagrams_decoded,
            drops,
            kernel_drops,
            connections: _,
            connections_open: _,
            connection_ends: _,
            records,
            sets,
            sets_decoded,
            sets_held: _,
            set_drops,
            sets_restored,
            sets_waited,
            sets_late,
            templates,
            template_drops,
            withdrawals,
            withdrawals_ignored,
            samples,
            elements_learned,
            elements_refused,
            lists_over_limit,
            sessions_over_limit,
            standings_over_limit,
            redefinitions,
            redefinitions_not_withdrawn,
            exporters_over_limit,
            forwarded,
            exporters,
            other_exporters,
        } = later;
        self.add_what_lasts(later);
        add(&mut self.sets_restored, *sets_restored);
        add(&mut self.sets_waited, *sets_waited);
        add(&mut self.sets_late, *sets_late);
        add(&mut self.datagrams, *datagrams);
        add(&mut self.octets, *octets);
        add(&mut self.datagrams_decoded, *datagrams_decoded);
        add(&mut self.kernel_drops, *kernel_drops);
        add(&mut self.records, *records);
        add(&mut self.sets, *sets);
        add(&mut self.sets_decoded, *sets_decoded);
        add(&mut self.templates, *templates);
        add(&mut self.withdrawals, *withdrawals);
        add(&mut self.withdrawals_ignored, *withdrawals_ignored);
        self.samples.add(samples);
        add(&mut self.elements_learned, *elements_learned);
        add(&mut self.elements_refused, *elements_refused);
        add(&mut self.lists_over_limit, *lists_over_limit);
        add(&mut self.sessions_over_limit, *sessions_over_limit);
        add(&mut self.standings_over_limit, *standings_over_limit);
        add(&mut self.redefinitions, *redefinitions);
        add(&mut self.redefinitions_not_withdrawn, *redefinitions_not_withdrawn);
        add(&mut self.exporters_over_limit, *exporters_over_limit);
        for (target, counts) in forwarded {
            self.forwarded.entry(target.clone()).or_default().add(counts);
        }
        add_by_name(&mut self.drops, drops);
        add_by_name(&mut self.set_drops, set_drops);
        add_by_name(&mut self.template_drops, template_drops);
        self.add_exporters(exporters, other_exporters.as_ref());
    }

    /// Adds what outlasts a run or should: sets that wait, and connections.
    fn add_what_lasts(&mut self, later: &Self) {
        let lost = self.sets_held.saturating_sub(later.sets_restored);
        if lost > 0 {
            add(self.set_drops.entry(NOT_KEPT.to_owned()).or_default(), lost);
        }
        add(&mut self.sets, later.sets_restored.saturating_sub(self.sets_held));
        self.sets_held = later.sets_held;
        if self.connections_open > 0 {
            let not_kept = self.connection_ends.entry(NOT_KEPT.to_owned()).or_default();
            add(not_kept, self.connections_open);
        }
        self.connections_open = later.connections_open;
        add(&mut self.connections, later.connections);
        add_by_name(&mut self.connection_ends, &later.connection_ends);
    }

    fn add_exporters(&mut self, later: &[ExporterStatistics], others: Option<&ExporterStatistics>) {
        let mut known: BTreeMap<_, _> =
            self.exporters.drain(..).map(|exporter| (key(&exporter), exporter)).collect();
        for exporter in later {
            known
                .entry(key(exporter))
                .and_modify(|sum| sum.add(exporter))
                .or_insert_with(|| exporter.clone());
        }
        self.exporters = known.into_values().collect();
        match (&mut self.other_exporters, others) {
            (Some(sum), Some(others)) => sum.add(others),
            (sum @ None, others) => *sum = others.cloned(),
            (Some(_), None) => {}
        }
    }
}

impl ExporterStatistics {
    /// Adds the counters of a later run, or of another exporter whose sum this becomes.
    pub fn add(&mut self, later: &Self) {
        let Self {
            address: _,
            domain: _,
            protocol: _,
            messages,
            records,
            templates,
            sequence_gaps,
            messages_missing,
            messages_lost,
            records_missing,
            records_late,
            records_lost,
            messages_late,
            messages_repeated,
            restarts,
            sets_late,
            set_drops,
            sampling,
            samplers_over_limit,
            samples,
        } = later;
        add(&mut self.samplers_over_limit, *samplers_over_limit);
        self.samples.add(samples);
        add(&mut self.messages, *messages);
        add(&mut self.records, *records);
        add(&mut self.templates, *templates);
        add(&mut self.sequence_gaps, *sequence_gaps);
        add(&mut self.messages_missing, *messages_missing);
        add(&mut self.messages_lost, *messages_lost);
        add(&mut self.records_missing, *records_missing);
        add(&mut self.records_late, *records_late);
        add(&mut self.records_lost, *records_lost);
        add(&mut self.messages_late, *messages_late);
        add(&mut self.messages_repeated, *messages_repeated);
        add(&mut self.restarts, *restarts);
        add(&mut self.sets_late, *sets_late);
        add_by_name(&mut self.set_drops, set_drops);
        for later in sampling {
            match self.sampling.iter_mut().find(|known| known.sampler == later.sampler) {
                // What was so before has been so since then.
                Some(known) if known.interval == later.interval => {}
                Some(known) => *known = *later,
                None => self.sampling.push(*later),
            }
        }
    }
}

fn key(exporter: &ExporterStatistics) -> (std::net::IpAddr, u32, String) {
    (exporter.address, exporter.domain, exporter.protocol.clone())
}

/// Earlier sums come from a file, which may say anything.
const fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

fn add_by_name(sums: &mut BTreeMap<String, u64>, later: &BTreeMap<String, u64>) {
    for (name, count) in later {
        add(sums.entry(name.clone()).or_default(), *count);
    }
}

#[cfg(test)]
impl Statistics {
    /// Sets received = decoded + held + dropped by reason.
    pub(super) fn sets_add_up(&self) -> bool {
        let dropped: u64 = self.set_drops.values().sum();
        self.sets == self.sets_decoded + self.sets_held + dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter(domain: u32, messages: u64) -> ExporterStatistics {
        ExporterStatistics {
            address: "192.0.2.1".parse().unwrap(),
            domain,
            protocol: "netflow-v9".into(),
            messages,
            records: 10 * messages,
            templates: 1,
            sequence_gaps: 0,
            messages_missing: 0,
            messages_lost: 0,
            records_missing: 0,
            records_late: 0,
            records_lost: 0,
            messages_late: 0,
            messages_repeated: 0,
            restarts: 0,
            samples: crate::collect::SampleStatistics::default(),
            sets_late: 0,
            set_drops: BTreeMap::new(),
            sampling: Vec::new(),
            samplers_over_limit: 0,
        }
    }

    #[test]
    fn what_waited_is_in_the_books_over_a_restart() {
        // A clean end, and kills after which the later run took over fewer and more.
        for (sets_restored, not_kept) in [(5, 0), (3, 2), (9, 0)] {
            let mut sum =
                Statistics { sets: 12, sets_decoded: 7, sets_held: 5, ..Statistics::default() };
            let later = Statistics {
                sets: 4,
                sets_decoded: 5,
                sets_restored,
                sets_held: sets_restored - 1,
                ..Statistics::default()
            };
            sum.add(&later);
            assert!(sum.sets_add_up(), "{sum:?}");
            assert_eq!(sum.set_drops.get(NOT_KEPT).copied().unwrap_or(0), not_kept);
        }
    }

    #[test]
    fn runs_add_up_by_exporter_and_what_waited_is_dropped() {
        let mut sum = Statistics {
            datagrams: 5,
            sets_held: 2,
            connections: 3,
            connections_open: 2,
            exporters: vec![exporter(1, 5)],
            other_exporters: None,
            ..Statistics::default()
        };
        let later = Statistics {
            datagrams: 7,
            sets_held: 1,
            connections: 1,
            connections_open: 1,
            exporters: vec![exporter(0, 3), exporter(1, 4)],
            other_exporters: Some(exporter(0, 6)),
            ..Statistics::default()
        };
        sum.add(&later);
        assert_eq!((sum.datagrams, sum.sets_held, sum.set_drops[NOT_KEPT]), (12, 1, 2));
        assert_eq!((sum.connections, sum.connections_open), (4, 1));
        assert_eq!(sum.connection_ends[NOT_KEPT], 2);
        let messages: Vec<_> = sum.exporters.iter().map(|e| (e.domain, e.messages)).collect();
        assert_eq!(messages, [(0, 3), (1, 9)]);
        sum.add(&later);
        assert_eq!(sum.other_exporters.unwrap().messages, 12);
    }
}
