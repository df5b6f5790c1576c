//! The templates of all exporters: shared by the workers, read without a lock.
//!
//! A template is found by (address, source port, domain), else it is the newest that any port of
//! (address, domain) announced: some exporters send templates and data from different ports.
//! Readers take a snapshot of one exporter and domain; a change makes a new snapshot.
//!
//! What an exporter may have is limited, and how often it may change it. A template that is
//! refused takes with it the one that its data would be misread by: that data waits then, as if
//! no template had come.

mod domain;
mod file;
mod limits;
mod room;
#[cfg(test)]
mod tests;

pub(super) use domain::{Announcement, DomainTemplates, Source, Template};
pub(super) use limits::Learned;
pub use limits::TemplateLimits;

use super::peer::{Peer, Transport};
use super::plan::Plan;
use crate::model::time::UnixMillis;
use crate::model::{ColumnSet, Origin};
use crate::telemetry::{Counter, Epoch};
use crate::wire::Withdrawal;
use arc_swap::ArcSwap;
use domain::{Repeat, Snapshot, Withdrawn};
use limits::{Bucket, Refusal};
use room::Room;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A domain that announced no template for so long gives way before all others.
const STALE_MILLIS: i64 = 24 * 3_600_000;
/// A new exporter costs a copy of its shard's map: of 65,536 a shard has 16, so that a flood of
/// made-up ones stays cheap.
const SHARD_COUNT: usize = 4_096;

/// The templates of all exporters.
#[derive(Debug)]
pub struct TemplateStore {
    limits: TemplateLimits,
    own_columns: ColumnSet,
    hasher: RandomState,
    shards: Box<[ArcSwap<Domains>]>,
    changes: Epoch,
    /// Announcements, repeats included.
    announcements: Counter,
    /// Entries of maps that were copied so far: what changes cost.
    copied: Counter,
    /// How often the writer's lock was taken.
    locked: Counter,
    writing: Mutex<Room>,
    saved: Mutex<file::Saved>,
}

/// One shard: the exporters and domains whose hash leads to it.
#[derive(Clone, Debug, Default)]
struct Domains(HashMap<Origin, Arc<DomainTemplates>>);

impl TemplateStore {
    /// An empty store. Plans leave `own_columns` to the decoder.
    pub(super) fn with_own_columns(limits: TemplateLimits, own_columns: ColumnSet) -> Self {
        Self {
            limits,
            own_columns,
            hasher: RandomState::new(),
            shards: (0..SHARD_COUNT).map(|_| ArcSwap::default()).collect(),
            changes: Epoch::default(),
            announcements: Counter::new(),
            copied: Counter::new(),
            locked: Counter::new(),
            writing: Mutex::default(),
            saved: Mutex::default(),
        }
    }

    /// Rises whenever a template can be used that could not before, or the other way round.
    pub(super) fn epoch(&self) -> u64 {
        self.changes.current()
    }

    /// How often the writer's lock was taken so far.
    #[cfg(test)]
    pub(super) fn locked(&self) -> u64 {
        self.locked.value()
    }

    /// The templates of an exporter and domain, if it announced any.
    pub(super) fn domain(&self, origin: &Origin) -> Option<Arc<DomainTemplates>> {
        self.shard(origin).load().0.get(origin).cloned()
    }

    fn shard(&self, origin: &Origin) -> &ArcSwap<Domains> {
        let hash = usize::try_from(self.hasher.hash_one(origin) >> 32).unwrap_or(0);
        self.shards.get(hash % SHARD_COUNT).expect("there are SHARD_COUNT shards")
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.locked.add(1);
        // A worker that panicked left a whole snapshot behind: they are swapped, not edited.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a port of an exporter and domain announced.
    pub(super) fn learn(
        &self,
        origin: &Origin,
        source: Source,
        announcements: &mut Vec<Announcement>,
        now: UnixMillis,
    ) -> Learned {
        self.announcements.add(1);
        if let Some(domain) = self.domain(origin) {
            domain.hear(now);
            let mut has_revived = false;
            announcements.retain(|announcement| {
                let repeat = domain.repeat(source, announcement, now);
                has_revived |= repeat == Repeat::Revived;
                repeat == Repeat::New
            });
            if has_revived {
                self.changes.advance();
            }
        }
        let mut learned = Learned::default();
        if announcements.is_empty() {
            return learned;
        }
        let mut room = self.room();
        match self.domain_for_writing(origin, now, &mut room) {
            Ok((domain, is_new)) => {
                let mut change = Change::begin(self, &mut room, origin, domain);
                for announcement in announcements.drain(..) {
                    change.take(source, announcement, now, &mut learned);
                }
                let is_empty = change.end();
                if is_new && is_empty {
                    self.give_up(origin, &mut room);
                }
            }
            Err(refusal) => learned.refuse(refusal, announcements.drain(..).count()),
        }
        learned
    }

    /// Forgets what a connection has withdrawn (RFC 7011 section 8.1): all at once, since each
    /// time costs a look at all templates of the exporter and domain.
    pub(super) fn withdraw(&self, origin: &Origin, source: Source, withdrawals: &[Withdrawal]) {
        let withdrawn = Withdrawn::new(withdrawals);
        let mut room = self.room();
        self.remove(origin, &mut room, |of, template| {
            of == source && withdrawn.has(&template.announcement)
        });
    }

    /// Forgets the templates of a connection that has ended.
    pub(super) fn disconnect(&self, peer: Peer) {
        if peer.transport == Transport::Udp {
            return;
        }
        let mut room = self.room();
        for origin in room.origins(peer.ip()) {
            if self.remove(&origin, &mut room, |of, _| of == Source::from(peer)) {
                self.give_up(&origin, &mut room);
            }
        }
    }

    /// Removes what is meant. Has the domain nothing now?
    fn remove(
        &self,
        origin: &Origin,
        room: &mut Room,
        is_meant: impl Fn(Source, &Template) -> bool,
    ) -> bool {
        let Some(domain) = self.domain(origin) else {
            return false;
        };
        let mut change = Change::begin(self, room, origin, domain);
        if change.view().has(&is_meant) {
            change.edit().remove(&is_meant);
        }
        change.end()
    }

    /// An exporter and domain's templates, and whether they are new.
    fn domain_for_writing(
        &self,
        origin: &Origin,
        now: UnixMillis,
        room: &mut Room,
    ) -> Result<(Arc<DomainTemplates>, bool), Refusal> {
        if let Some(domain) = self.domain(origin) {
            return Ok((domain, false));
        }
        room.admit_domain(origin.address, &self.limits)?;
        if room.domain_count >= self.limits.domain_count_max {
            self.make_room(origin, now, room);
            if room.domain_count >= self.limits.domain_count_max {
                return Err(Refusal::OverLimit);
            }
        }
        let bucket = Bucket::full(&self.limits, now);
        let domain = Arc::new(DomainTemplates::new(bucket, self.limits.lifetime_millis));
        domain.hear(now);
        self.edit_shard(self.shard(origin), |domains| {
            domains.insert(origin.clone(), Arc::clone(&domain));
        });
        room.add_domain(origin);
        Ok((domain, true))
    }

    fn edit_shard(
        &self,
        shard: &ArcSwap<Domains>,
        edit: impl FnOnce(&mut HashMap<Origin, Arc<DomainTemplates>>),
    ) {
        let mut domains = Domains::clone(&shard.load());
        self.copied.add(u64::try_from(domains.0.len()).unwrap_or(u64::MAX));
        edit(&mut domains.0);
        shard.store(Arc::new(domains));
    }

    /// Gives up domains until an eighth of all room is free: those that are stale, then those
    /// that announced least often, by powers of two, the longest silent ones first. So a flood of
    /// forged exporters displaces itself, and not the exporters that announce all the time.
    fn make_room(&self, keep: &Origin, now: UnixMillis, room: &mut Room) {
        let stale = u64::try_from(now.0.saturating_sub(STALE_MILLIS)).unwrap_or(0);
        let rank = |domain: &DomainTemplates| {
            let heard_at = domain.heard_at.value();
            let often = if heard_at < stale { None } else { domain.heard.value().checked_ilog2() };
            (often, heard_at)
        };
        let mut by_rank = Vec::with_capacity(room.domain_count);
        for shard in &self.shards {
            let domains = shard.load();
            by_rank.extend(domains.0.iter().map(|(origin, d)| (rank(d), origin.clone())));
        }
        by_rank.sort_unstable();
        let kept = |max: usize| max.saturating_sub((max / 8).max(1));
        let count_kept = kept(self.limits.domain_count_max);
        let size_kept = kept(self.limits.size_max);
        for (_, origin) in by_rank {
            if room.domain_count <= count_kept && room.size() <= size_kept {
                return;
            }
            if origin != *keep {
                self.give_up(&origin, room);
            }
        }
    }

    fn give_up(&self, origin: &Origin, room: &mut Room) {
        let Some(domain) = self.domain(origin) else {
            return;
        };
        self.edit_shard(self.shard(origin), |domains| {
            domains.remove(origin);
        });
        domain.forgotten.raise();
        room.remove_domain(origin, domain.snapshot.load().footprint());
    }
}

/// One change of the templates of an exporter and domain: copied when first touched, and shown to
/// the readers at its end.
struct Change<'a> {
    store: &'a TemplateStore,
    room: &'a mut Room,
    origin: &'a Origin,
    domain: Arc<DomainTemplates>,
    before: Arc<Snapshot>,
    after: Option<Snapshot>,
}

impl<'a> Change<'a> {
    fn begin(
        store: &'a TemplateStore,
        room: &'a mut Room,
        origin: &'a Origin,
        domain: Arc<DomainTemplates>,
    ) -> Self {
        let before = domain.snapshot.load_full();
        Self { store, room, origin, domain, before, after: None }
    }

    fn view(&self) -> &Snapshot {
        self.after.as_ref().unwrap_or(&self.before)
    }

    fn edit(&mut self) -> &mut Snapshot {
        let (before, copied) = (&self.before, &self.store.copied);
        self.after.get_or_insert_with(|| {
            copied.add(u64::try_from(before.len()).unwrap_or(u64::MAX));
            Snapshot::clone(before)
        })
    }

    /// Shows the change to the readers. Has the domain nothing now? It stays all the same, for
    /// it knows how often it was changed.
    fn end(self) -> bool {
        let is_empty = self.view().is_empty();
        let Self { store, room, origin, domain, before, after } = self;
        if let Some(after) = after {
            room.resize(origin.address, before.footprint(), after.footprint());
            domain.snapshot.store(Arc::new(after));
            store.changes.advance();
        }
        is_empty
    }

    /// Takes a template in, or what would misread its data out.
    fn take(
        &mut self,
        source: Source,
        announcement: Announcement,
        now: UnixMillis,
        learned: &mut Learned,
    ) {
        let replaced = self.view().of_source(source, announcement.id);
        let is_redefinition = replaced.is_some_and(|known| known.announcement != announcement);
        match self.add(source, &announcement, now) {
            Ok(()) => {
                learned.changed = learned.changed.saturating_add(1);
                learned.redefined = learned.redefined.saturating_add(usize::from(is_redefinition));
            }
            Err(refusal) => {
                learned.refuse(refusal, 1);
                if self.view().misreads(source, &announcement) {
                    self.edit().remove_misreading(source, &announcement);
                }
            }
        }
    }

    fn add(
        &mut self,
        source: Source,
        announcement: &Announcement,
        now: UnixMillis,
    ) -> Result<(), Refusal> {
        let limits = &self.store.limits;
        let has_token = {
            let mut bucket = self.domain.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(limits, now)
        };
        if !has_token {
            return Err(Refusal::TooOften);
        }
        // Another port's twin is taken as it is, so that records of both have one shape.
        let twin = self.view().newest(announcement.id).filter(|twin| {
            twin.announcement == *announcement && twin.transport == source.transport
        });
        let template = match twin {
            Some(twin) => {
                twin.touch(now);
                Arc::clone(twin)
            }
            None => self.store.compile(self.origin, source.transport, announcement, now)?,
        };
        let replaced = self.view().of_source(source, announcement.id);
        let replaced = replaced.map(|replaced| Snapshot::footprint_of(replaced));
        let more = Snapshot::footprint_of(&template).minus(replaced.unwrap_or_default());
        self.admit(more, now)?;
        let maxima = (limits.port_count_max, limits.template_count_max);
        if !self.edit().make_room(source, announcement.id, maxima) {
            return Err(Refusal::OverShare);
        }
        self.edit().insert(source, &template);
        Ok(())
    }

    /// May this domain grow by so much, if others give way?
    fn admit(&mut self, more: domain::Footprint, now: UnixMillis) -> Result<(), Refusal> {
        let limits = &self.store.limits;
        let growth = self.view().footprint().plus(more).minus(self.before.footprint());
        let address = self.origin.address;
        if self.room.admit(address, growth, limits) == Err(Refusal::OverLimit) {
            self.store.make_room(self.origin, now, self.room);
        }
        self.room.admit(address, growth, limits)
    }
}

impl TemplateStore {
    fn compile(
        &self,
        origin: &Origin,
        transport: Transport,
        announcement: &Announcement,
        announced: UnixMillis,
    ) -> Result<Arc<Template>, Refusal> {
        let Announcement { id: _, record_type, ref fields } = *announcement;
        let plan = Plan::compile(record_type, fields, origin.protocol, self.own_columns);
        let plan = plan.ok_or(Refusal::OverLimit)?;
        Ok(Arc::new(Template::new(announcement.clone(), plan, transport, announced)))
    }

    /// All domains.
    fn domains(&self) -> Vec<(Origin, Arc<DomainTemplates>)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.load().0.iter().map(|(origin, d)| (origin.clone(), Arc::clone(d))));
        }
        all
    }
}
