//! The templates of all exporters: shared by the workers, read without a lock.
//!
//! A template is found by (address, source port, domain), else it is the newest that any port of
//! (address, domain) announced: some exporters send templates and data from different ports.
//! Readers take a snapshot of one exporter and domain; a change makes a new snapshot.

use super::plan::Plan;
use crate::model::time::UnixMillis;
use crate::model::{ColumnSet, Origin, Protocol, RecordType};
use crate::telemetry::{Counter, Epoch, Flag};
use crate::wire::{FieldSpecifier, TemplateId, Withdrawal};
use arc_swap::{ArcSwap, Guard};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A domain that announced no template for so long gives way when there is no room.
const STALE_MILLIS: i64 = 24 * 3_600_000;
/// Room is looked for no more often than this.
const SWEEP_INTERVAL_MILLIS: i64 = 60_000;
/// A new exporter costs a copy of its shard's map: with 64 shards a flood of made-up ones stays
/// cheap.
const SHARD_COUNT: usize = 64;

/// How many templates are kept.
#[derive(Clone, Copy, Debug)]
pub struct TemplateLimits {
    /// Exporters and domains.
    pub domain_count_max: usize,
    /// Source ports of an exporter and domain that have templates of their own; the ones that
    /// announced least recently give way.
    pub port_count_max: usize,
    /// Templates of an exporter and domain.
    pub template_count_max: usize,
    /// Octets that all templates take, about.
    pub size_max: usize,
}

impl Default for TemplateLimits {
    fn default() -> Self {
        Self {
            domain_count_max: 65_536,
            port_count_max: 64,
            template_count_max: 1_024,
            size_max: 256 << 20,
        }
    }
}

/// A template that was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) id: TemplateId,
    pub(super) record_type: RecordType,
    pub(super) fields: Vec<FieldSpecifier>,
}

/// A template with its plan.
#[derive(Debug)]
pub(super) struct Template {
    announcement: Announcement,
    pub(super) plan: Plan,
    /// When it was announced last, ms since 1970: written by the workers, read when room is
    /// looked for.
    announced: Counter,
}

impl Template {
    fn size(&self) -> usize {
        size_of::<Self>()
            .saturating_add(size_of_val(self.announcement.fields.as_slice()))
            .saturating_add(self.plan.size())
    }

    fn touch(&self, now: UnixMillis) {
        self.announced.set(u64::try_from(now.0).unwrap_or(0));
    }

    fn announced(&self) -> UnixMillis {
        UnixMillis(i64::try_from(self.announced.value()).unwrap_or(i64::MAX))
    }
}

/// The templates of one exporter and domain.
#[derive(Debug)]
pub(super) struct DomainTemplates {
    snapshot: ArcSwap<Snapshot>,
    /// Raised when the store has given them up: whoever still holds them asks the store anew.
    forgotten: Flag,
}

#[derive(Clone, Debug, Default)]
struct Snapshot {
    by_port: HashMap<(u16, TemplateId), Arc<Template>>,
    newest: HashMap<TemplateId, Arc<Template>>,
}

impl DomainTemplates {
    /// The template that a set of this port and id is read by.
    pub(super) fn find(&self, port: u16, id: TemplateId) -> Option<Arc<Template>> {
        let snapshot: Guard<Arc<Snapshot>> = self.snapshot.load();
        let by_port = snapshot.by_port.get(&(port, id));
        by_port.or_else(|| snapshot.newest.get(&id)).cloned()
    }

    /// Is it of no more use?
    pub(super) fn is_forgotten(&self) -> bool {
        self.forgotten.is_raised()
    }

    /// Is the announcement a mere repeat?
    fn is_known(&self, port: u16, announcement: &Announcement, now: UnixMillis) -> bool {
        let snapshot = self.snapshot.load();
        let known = snapshot
            .by_port
            .get(&(port, announcement.id))
            .filter(|template| template.announcement == *announcement);
        if let Some(template) = known {
            template.touch(now);
        }
        known.is_some()
    }

    fn announced(&self) -> UnixMillis {
        let snapshot = self.snapshot.load();
        let times = snapshot.newest.values().map(|t| t.announced());
        times.max().unwrap_or_default()
    }

    fn size(&self) -> usize {
        let snapshot = self.snapshot.load();
        let templates = snapshot.by_port.values();
        templates.fold(0, |size: usize, t| size.saturating_add(t.size()))
    }
}

/// What came of announcements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    /// New or changed.
    pub(super) changed: usize,
    /// Refused because of a limit.
    pub(super) refused: usize,
}

/// The templates of all exporters.
#[derive(Debug)]
pub struct TemplateStore {
    limits: TemplateLimits,
    own_columns: ColumnSet,
    hasher: RandomState,
    shards: Box<[ArcSwap<Domains>]>,
    changes: Epoch,
    writing: Mutex<Room>,
}

/// One shard: the exporters and domains whose hash leads to it.
#[derive(Clone, Debug, Default)]
struct Domains(HashMap<Origin, Arc<DomainTemplates>>);

/// What only the writer of the moment looks at.
#[derive(Debug, Default)]
struct Room {
    domain_count: usize,
    /// Octets of all templates, or more: what was replaced is taken off by the next sweep.
    size: usize,
    next_sweep: UnixMillis,
}

impl TemplateStore {
    /// An empty store. Plans leave `own_columns` to the decoder.
    pub(super) fn with_own_columns(limits: TemplateLimits, own_columns: ColumnSet) -> Self {
        Self {
            limits,
            own_columns,
            hasher: RandomState::new(),
            shards: (0..SHARD_COUNT).map(|_| ArcSwap::default()).collect(),
            changes: Epoch::default(),
            writing: Mutex::default(),
        }
    }

    /// Rises whenever a template is new or changed.
    pub(super) fn epoch(&self) -> u64 {
        self.changes.current()
    }

    /// The templates of an exporter and domain, if it announced any.
    pub(super) fn domain(&self, origin: &Origin) -> Option<Arc<DomainTemplates>> {
        self.shard(origin).load().0.get(origin).cloned()
    }

    fn shard(&self, origin: &Origin) -> &ArcSwap<Domains> {
        let hash = usize::try_from(self.hasher.hash_one(origin) >> 32).unwrap_or(0);
        self.shards.get(hash % SHARD_COUNT).expect("there are SHARD_COUNT shards")
    }

    /// Takes in what a port of an exporter and domain announced.
    pub(super) fn learn(
        &self,
        origin: &Origin,
        port: u16,
        announcements: &mut Vec<Announcement>,
        now: UnixMillis,
    ) -> Learned {
        if let Some(domain) = self.domain(origin) {
            announcements.retain(|announcement| !domain.is_known(port, announcement, now));
        }
        if announcements.is_empty() {
            return Learned::default();
        }
        // A worker that panicked left a whole snapshot behind: they are swapped, not edited.
        let mut room = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(domain) = self.domain_for_writing(origin, now, &mut room) else {
            return Learned { changed: 0, refused: announcements.drain(..).count() };
        };
        let mut snapshot = Snapshot::clone(&domain.snapshot.load());
        let mut learned = Learned::default();
        for announcement in announcements.drain(..) {
            if self.add(&mut snapshot, (origin.protocol, port), announcement, now, &mut room) {
                learned.changed = learned.changed.saturating_add(1);
            } else {
                learned.refused = learned.refused.saturating_add(1);
            }
        }
        domain.snapshot.store(Arc::new(snapshot));
        self.changes.advance();
        learned
    }

    /// Forgets what a port has withdrawn (RFC 7011 section 8.1).
    pub(super) fn withdraw(&self, origin: &Origin, port: u16, withdrawal: Withdrawal) {
        // A worker that panicked left a whole snapshot behind: they are swapped, not edited.
        let _room = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(domain) = self.domain(origin) else {
            return;
        };
        let mut snapshot = Snapshot::clone(&domain.snapshot.load());
        let is_meant = |id: TemplateId, template: &Template| match withdrawal {
            Withdrawal::One(withdrawn) => id == withdrawn,
            Withdrawal::AllData => template.announcement.record_type == RecordType::Flow,
            Withdrawal::AllOptions => template.announcement.record_type == RecordType::Options,
        };
        let mut gone: Vec<Arc<Template>> = Vec::new();
        snapshot.by_port.retain(|&(of_port, id), template| {
            let goes = of_port == port && is_meant(id, template);
            if goes {
                gone.push(Arc::clone(template));
            }
            !goes
        });
        // Another port's template of the same number stays the newest.
        snapshot.newest.retain(|_, newest| !gone.iter().any(|gone| Arc::ptr_eq(gone, newest)));
        domain.snapshot.store(Arc::new(snapshot));
    }

    fn add(
        &self,
        snapshot: &mut Snapshot,
        (protocol, port): (Protocol, u16),
        announcement: Announcement,
        now: UnixMillis,
        room: &mut MutexGuard<'_, Room>,
    ) -> bool {
        let id = announcement.id;
        if !self.make_room_for_port(snapshot, port, id) {
            return false;
        }
        // Another port's twin is taken as it is, so that records of both have one shape.
        let twin = snapshot.newest.get(&id);
        let template = match twin.filter(|twin| twin.announcement == announcement) {
            Some(twin) => Arc::clone(twin),
            None => {
                let compiled = Plan::compile(
                    announcement.record_type,
                    &announcement.fields,
                    protocol,
                    self.own_columns,
                );
                let Some(plan) = compiled else {
                    return false;
                };
                Arc::new(Template { announcement, plan, announced: Counter::new() })
            }
        };
        let size = room.size.saturating_add(template.size());
        if size > self.limits.size_max && !self.sweep(now, room) {
            return false;
        }
        room.size = room.size.saturating_add(template.size());
        template.touch(now);
        snapshot.by_port.insert((port, id), Arc::clone(&template));
        snapshot.newest.insert(id, template);
        true
    }

    /// Makes room for one more template of a port; other ports give way, the ones that announced
    /// least recently first. Their data is then read by the newest template of the domain.
    fn make_room_for_port(&self, snapshot: &mut Snapshot, port: u16, id: TemplateId) -> bool {
        let TemplateLimits { port_count_max, template_count_max, .. } = self.limits;
        let is_new_id = !snapshot.newest.contains_key(&id);
        if is_new_id && snapshot.newest.len() >= template_count_max {
            return false;
        }
        if snapshot.by_port.contains_key(&(port, id)) {
            return true;
        }
        let mut ports: HashMap<u16, UnixMillis> = HashMap::new();
        for (&(other, _), template) in &snapshot.by_port {
            let announced = ports.entry(other).or_default();
            *announced = template.announced().max(*announced);
        }
        let has_port = ports.remove(&port).is_some();
        loop {
            let port_count = ports.len().saturating_add(1);
            let ports_fit = has_port || port_count <= port_count_max;
            if ports_fit && snapshot.by_port.len() < template_count_max {
                return true;
            }
            let Some((&oldest, _)) = ports.iter().min_by_key(|&(_, &announced)| announced) else {
                return false;
            };
            ports.remove(&oldest);
            snapshot.by_port.retain(|&(other, _), _| other != oldest);
        }
    }

    fn domain_for_writing(
        &self,
        origin: &Origin,
        now: UnixMillis,
        room: &mut MutexGuard<'_, Room>,
    ) -> Option<Arc<DomainTemplates>> {
        if let Some(domain) = self.domain(origin) {
            return Some(domain);
        }
        if room.domain_count >= self.limits.domain_count_max {
            self.sweep(now, room);
            if room.domain_count >= self.limits.domain_count_max {
                return None;
            }
        }
        let domain =
            Arc::new(DomainTemplates { snapshot: ArcSwap::default(), forgotten: Flag::default() });
        let shard = self.shard(origin);
        let mut domains = Domains::clone(&shard.load());
        domains.0.insert(origin.clone(), Arc::clone(&domain));
        shard.store(Arc::new(domains));
        room.domain_count = room.domain_count.saturating_add(1);
        Some(domain)
    }

    /// Gives up the templates of domains that are stale, and sums up the rest anew. Is there
    /// room for more templates?
    fn sweep(&self, now: UnixMillis, room: &mut MutexGuard<'_, Room>) -> bool {
        if now >= room.next_sweep {
            room.next_sweep = UnixMillis(now.0.saturating_add(SWEEP_INTERVAL_MILLIS));
            (room.domain_count, room.size) = (0, 0);
            for shard in &self.shards {
                let mut domains = Domains::clone(&shard.load());
                domains.0.retain(|_, domain| {
                    let is_stale = domain.announced().0 < now.0.saturating_sub(STALE_MILLIS);
                    if is_stale {
                        domain.forgotten.raise();
                    }
                    !is_stale
                });
                room.domain_count = room.domain_count.saturating_add(domains.0.len());
                for domain in domains.0.values() {
                    room.size = room.size.saturating_add(domain.size());
                }
                shard.store(Arc::new(domains));
            }
        }
        room.size < self.limits.size_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObservationDomainId;

    fn store(limits: TemplateLimits) -> TemplateStore {
        TemplateStore::with_own_columns(limits, ColumnSet::EMPTY)
    }

    fn origin(domain: u32) -> Origin {
        Origin {
            address: "192.0.2.1".parse().unwrap(),
            domain: ObservationDomainId(domain),
            protocol: Protocol::NetflowV9,
        }
    }

    fn id(raw: u16) -> TemplateId {
        TemplateId::new(raw).unwrap()
    }

    fn announcement(raw_id: u16, length: u16) -> Announcement {
        Announcement {
            id: id(raw_id),
            record_type: RecordType::Flow,
            fields: vec![FieldSpecifier { enterprise: 0, id: 1, length }],
        }
    }

    fn learn(
        store: &TemplateStore,
        domain: u32,
        port: u16,
        template: Announcement,
        now: i64,
    ) -> Learned {
        store.learn(&origin(domain), port, &mut vec![template], UnixMillis(now))
    }

    fn length(store: &TemplateStore, domain: u32, port: u16, raw_id: u16) -> Option<usize> {
        let template = store.domain(&origin(domain))?.find(port, id(raw_id))?;
        Some(template.plan.record_size_min().get())
    }

    const CHANGED: Learned = Learned { changed: 1, refused: 0 };
    const REFUSED: Learned = Learned { changed: 0, refused: 1 };

    #[test]
    fn a_port_s_own_template_comes_before_the_newest() {
        let store = store(TemplateLimits::default());
        assert_eq!(learn(&store, 7, 1000, announcement(256, 4), 1), CHANGED);
        assert_eq!(learn(&store, 7, 2000, announcement(256, 8), 2), CHANGED);
        assert_eq!(length(&store, 7, 1000, 256), Some(4));
        assert_eq!(length(&store, 7, 2000, 256), Some(8));
        assert_eq!(length(&store, 7, 3000, 256), Some(8));
        assert_eq!(length(&store, 7, 1000, 257), None);
        assert_eq!(length(&store, 8, 1000, 256), None);
    }

    #[test]
    fn a_repeat_is_no_change_and_twins_share_a_plan() {
        let store = store(TemplateLimits::default());
        assert_eq!(learn(&store, 7, 1000, announcement(256, 4), 1), CHANGED);
        let epoch = store.epoch();
        assert_eq!(learn(&store, 7, 1000, announcement(256, 4), 2), Learned::default());
        assert_eq!(store.epoch(), epoch);
        assert_eq!(learn(&store, 7, 2000, announcement(256, 4), 3), CHANGED);
        assert!(store.epoch() > epoch);
        let domain = store.domain(&origin(7)).unwrap();
        let [first, second] = [1000, 2000].map(|port| domain.find(port, id(256)).unwrap());
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn a_template_that_changes_is_replaced() {
        let store = store(TemplateLimits::default());
        learn(&store, 7, 1000, announcement(256, 4), 1);
        assert_eq!(learn(&store, 7, 1000, announcement(256, 2), 2), CHANGED);
        assert_eq!(length(&store, 7, 1000, 256), Some(2));
    }

    #[test]
    fn limits_hold() {
        let store = store(TemplateLimits {
            domain_count_max: 2,
            port_count_max: 2,
            template_count_max: 3,
            size_max: 1 << 20,
        });
        for raw_id in 256..259 {
            assert_eq!(learn(&store, 1, 1, announcement(raw_id, 4), 1), CHANGED);
        }
        assert_eq!(learn(&store, 1, 1, announcement(300, 4), 2), REFUSED);
        // A template that is known may still change.
        assert_eq!(learn(&store, 1, 1, announcement(256, 8), 2), CHANGED);
        assert_eq!(learn(&store, 2, 1, announcement(256, 4), 2), CHANGED);
        assert_eq!(learn(&store, 3, 1, announcement(256, 4), 2), REFUSED);
        // A day later the two others are stale.
        let later = 2 + STALE_MILLIS + SWEEP_INTERVAL_MILLIS;
        let kept = store.domain(&origin(1)).unwrap();
        assert_eq!(learn(&store, 3, 1, announcement(256, 4), later), CHANGED);
        assert!(kept.is_forgotten());
        assert_eq!(length(&store, 1, 1, 256), None);
    }

    #[test]
    fn ports_that_announced_long_ago_give_way_and_read_by_the_newest() {
        let store = store(TemplateLimits { port_count_max: 2, ..TemplateLimits::default() });
        for (port, length) in [(1, 1), (2, 2), (3, 4)] {
            learn(&store, 1, port, announcement(256, length), i64::from(port));
        }
        let lengths = [1, 2, 3].map(|port| length(&store, 1, port, 256));
        assert_eq!(lengths, [Some(4), Some(2), Some(4)]);
    }

    #[test]
    fn templates_take_no_more_memory_than_allowed() {
        let store = store(TemplateLimits { size_max: 4_096, ..TemplateLimits::default() });
        let refused: usize =
            (256..400).map(|raw_id| learn(&store, 1, 1, announcement(raw_id, 4), 1).refused).sum();
        assert!((100..144).contains(&refused), "{refused} refused");
    }
}
