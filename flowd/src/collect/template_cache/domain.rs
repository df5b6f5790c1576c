//! The templates of one exporter and domain.

use super::limits::Bucket;
use crate::collect::peer::{Peer, Transport};
use crate::collect::plan::Plan;
use crate::model::RecordType;
use crate::model::time::UnixMillis;
use crate::telemetry::{Counter, Flag};
use crate::wire::{FieldSpecifier, TemplateId, Withdrawal};
use arc_swap::ArcSwap;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// Octets that a place in one of the maps takes: they are filled to 7/16 after they have grown.
const PLACE_SIZE: usize = 3 * size_of::<((Source, TemplateId), Arc<Template>)>();

/// What a template was announced by, or data came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::collect) struct Source {
    pub(in crate::collect) port: u16,
    pub(in crate::collect) transport: Transport,
}

impl From<Peer> for Source {
    fn from(peer: Peer) -> Self {
        Self { port: peer.address.port(), transport: peer.transport }
    }
}

/// A template that was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::collect) struct Announcement {
    pub(in crate::collect) id: TemplateId,
    pub(in crate::collect) record_type: RecordType,
    pub(in crate::collect) fields: Vec<FieldSpecifier>,
}

/// A template with its plan.
#[derive(Debug)]
pub(in crate::collect) struct Template {
    pub(super) announcement: Announcement,
    pub(in crate::collect) plan: Plan,
    pub(super) transport: Transport,
    /// When it was announced last, ms since 1970: written by the workers that hear of it, read
    /// by all to see whether it is still good.
    announced: Counter,
}

impl Template {
    pub(super) fn new(
        announcement: Announcement,
        plan: Plan,
        transport: Transport,
        now: UnixMillis,
    ) -> Self {
        let template = Self { announcement, plan, transport, announced: Counter::new() };
        template.touch(now);
        template
    }

    /// Octets that it takes in a snapshot: each of the two maps that it stands in counts it whole.
    fn size(&self) -> usize {
        size_of::<Self>()
            .saturating_add(size_of_val(self.announcement.fields.as_slice()))
            .saturating_add(self.plan.size())
            .saturating_add(PLACE_SIZE)
    }

    pub(super) fn touch(&self, now: UnixMillis) {
        self.announced.set(u64::try_from(now.0).unwrap_or(0));
    }

    pub(super) fn announced(&self) -> UnixMillis {
        UnixMillis(i64::try_from(self.announced.value()).unwrap_or(i64::MAX))
    }

    /// A connection's templates live as long as it does; those of datagrams have a lifetime
    /// (RFC 7011 sections 8.1 and 8.4).
    fn is_alive(&self, now: UnixMillis, lifetime_millis: i64) -> bool {
        let age = now.0.saturating_sub(self.announced().0);
        self.transport == Transport::Tcp || age <= lifetime_millis
    }
}

/// The templates of one exporter and domain.
#[derive(Debug)]
pub(in crate::collect) struct DomainTemplates {
    pub(super) snapshot: ArcSwap<Snapshot>,
    lifetime_millis: i64,
    /// Raised when the store has given them up: whoever still holds them asks the store anew.
    pub(super) forgotten: Flag,
    /// How often templates were announced, and when last: written by the workers that hear of
    /// them, read when room is made.
    pub(super) heard: Counter,
    pub(super) heard_at: Counter,
    /// Locked only by whoever has the store's own lock.
    pub(super) bucket: Mutex<Bucket>,
}

impl DomainTemplates {
    pub(super) fn new(bucket: Bucket, lifetime_millis: i64) -> Self {
        Self {
            snapshot: ArcSwap::default(),
            lifetime_millis,
            forgotten: Flag::default(),
            heard: Counter::new(),
            heard_at: Counter::new(),
            bucket: Mutex::new(bucket),
        }
    }

    /// The template that a set which came at this time is read by.
    pub(in crate::collect) fn find(
        &self,
        source: Source,
        id: TemplateId,
        now: UnixMillis,
    ) -> Option<Arc<Template>> {
        let snapshot = self.snapshot.load();
        let is_alive = |template: &&Arc<Template>| template.is_alive(now, self.lifetime_millis);
        let own = snapshot.by_source.get(&(source, id)).filter(is_alive);
        // The Template IDs of a connection are its own (RFC 7011 section 8).
        let is_shared = source.transport == Transport::Udp;
        let newest = || snapshot.newest.get(&id).filter(is_alive).filter(|_| is_shared);
        own.or_else(newest).cloned()
    }

    /// Lets `read` look up the fields of the templates that a source's sets are read by.
    pub(in crate::collect) fn with_fields<R>(
        &self,
        source: Source,
        read: impl for<'t> FnOnce(&'t dyn Fn(u16) -> Option<&'t [FieldSpecifier]>) -> R,
    ) -> R {
        let snapshot: Arc<Snapshot> = self.snapshot.load_full();
        let snapshot = &*snapshot;
        let lookup = move |raw_id| {
            let id = TemplateId::new(raw_id)?;
            let own = snapshot.by_source.get(&(source, id));
            let template = own.or_else(|| snapshot.newest.get(&id))?;
            Some(template.announcement.fields.as_slice())
        };
        read(&lookup)
    }

    /// Is it of no more use?
    pub(in crate::collect) fn is_forgotten(&self) -> bool {
        self.forgotten.is_raised()
    }

    pub(super) fn hear(&self, now: UnixMillis) {
        self.heard.add(1);
        self.heard_at.set(u64::try_from(now.0).unwrap_or(0));
    }

    /// What an announcement says that is known already.
    pub(super) fn repeat(
        &self,
        source: Source,
        announcement: &Announcement,
        now: UnixMillis,
    ) -> Repeat {
        let snapshot = self.snapshot.load();
        let known = snapshot
            .by_source
            .get(&(source, announcement.id))
            .filter(|template| template.announcement == *announcement);
        let Some(template) = known else {
            return Repeat::New;
        };
        let was_alive = template.is_alive(now, self.lifetime_millis);
        template.touch(now);
        if was_alive { Repeat::Known } else { Repeat::Revived }
    }
}

/// How an announcement stands to what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    New,
    Known,
    /// Known, and not good any more until now.
    Revived,
}

/// How much a snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    pub(super) template_count: usize,
    pub(super) size: usize,
}

impl Footprint {
    pub(super) const fn plus(self, more: Self) -> Self {
        Self {
            template_count: self.template_count.saturating_add(more.template_count),
            size: self.size.saturating_add(more.size),
        }
    }

    pub(super) const fn minus(self, less: Self) -> Self {
        Self {
            template_count: self.template_count.saturating_sub(less.template_count),
            size: self.size.saturating_sub(less.size),
        }
    }
}

/// The templates of an exporter and domain at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    by_source: HashMap<(Source, TemplateId), Arc<Template>>,
    newest: HashMap<TemplateId, Arc<Template>>,
    size: usize,
}

impl Snapshot {
    /// Entries that a copy copies.
    pub(super) fn len(&self) -> usize {
        self.by_source.len().saturating_add(self.newest.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_source.is_empty() && self.newest.is_empty()
    }

    pub(super) fn footprint(&self) -> Footprint {
        let template_count = self.by_source.len().max(self.newest.len());
        Footprint { template_count, size: self.size }
    }

    /// What one more template of its own adds.
    pub(super) fn footprint_of(template: &Template) -> Footprint {
        Footprint { template_count: 1, size: template.size().saturating_mul(2) }
    }

    pub(super) fn newest(&self, id: TemplateId) -> Option<&Arc<Template>> {
        self.newest.get(&id)
    }

    pub(super) fn of_source(&self, source: Source, id: TemplateId) -> Option<&Arc<Template>> {
        self.by_source.get(&(source, id))
    }

    /// Each template with where it was announced, and each of the newest.
    pub(super) fn iter(
        &self,
    ) -> (impl Iterator<Item = (Source, &Arc<Template>)>, impl Iterator<Item = &Arc<Template>>)
    {
        let own = self.by_source.iter().map(|(&(source, _), template)| (source, template));
        (own, self.newest.values())
    }

    /// A source's template; it is the newest of its number besides.
    pub(super) fn insert(&mut self, source: Source, template: &Arc<Template>) {
        self.insert_own(source, template);
        self.insert_newest(template);
    }

    pub(super) fn insert_own(&mut self, source: Source, template: &Arc<Template>) {
        let key = (source, template.announcement.id);
        let replaced = self.by_source.insert(key, Arc::clone(template));
        self.account(template, replaced.as_deref());
    }

    pub(super) fn insert_newest(&mut self, template: &Arc<Template>) {
        let replaced = self.newest.insert(template.announcement.id, Arc::clone(template));
        self.account(template, replaced.as_deref());
    }

    fn account(&mut self, added: &Template, replaced: Option<&Template>) {
        let removed = replaced.map_or(0, Template::size);
        self.size = self.size.saturating_add(added.size()).saturating_sub(removed);
    }

    /// Would removing what is meant remove anything?
    pub(super) fn has(&self, is_meant: impl Fn(Source, &Template) -> bool) -> bool {
        self.by_source.iter().any(|(&(source, _), template)| is_meant(source, template))
    }

    /// Removes what is meant. Where it was the newest, the one announced last of those that other
    /// ports have is so now.
    pub(super) fn remove(&mut self, is_meant: impl Fn(Source, &Template) -> bool) {
        let (mut gone, mut size) = (Vec::new(), self.size);
        self.by_source.retain(|&(source, _), template| {
            let goes = is_meant(source, template);
            if goes {
                size = size.saturating_sub(template.size());
                gone.push(Arc::clone(template));
            }
            !goes
        });
        let mut headless = HashSet::new();
        for template in gone {
            let id = template.announcement.id;
            if self.newest.get(&id).is_some_and(|newest| Arc::ptr_eq(newest, &template)) {
                size = size.saturating_sub(template.size());
                self.newest.remove(&id);
                headless.insert(id);
            }
        }
        self.size = size;
        let mut heirs: HashMap<TemplateId, Arc<Template>> = HashMap::new();
        for (&(_, id), template) in
            self.by_source.iter().filter(|((_, id), _)| headless.contains(id))
        {
            let heir = heirs.entry(id).or_insert_with(|| Arc::clone(template));
            if heir.announced() < template.announced() {
                *heir = Arc::clone(template);
            }
        }
        for heir in heirs.values() {
            self.insert_newest(heir);
        }
    }

    /// Removes what data of this source and number would be read by, for it is known to be
    /// different now.
    pub(super) fn remove_misreading(&mut self, source: Source, announcement: &Announcement) {
        let id = announcement.id;
        self.remove(|of, template| of == source && template.announcement.id == id);
        let newest = self.newest.get(&id);
        if newest.is_some_and(|newest| newest.announcement != *announcement)
            && let Some(newest) = self.newest.remove(&id)
        {
            self.size = self.size.saturating_sub(newest.size());
        }
    }

    /// Would data of this source and number be read by another layout than this one?
    pub(super) fn misreads(&self, source: Source, announcement: &Announcement) -> bool {
        let id = announcement.id;
        let found = self.by_source.get(&(source, id)).or_else(|| self.newest.get(&id));
        found.is_some_and(|template| template.announcement != *announcement)
    }

    /// Makes room for one more template of a source; others give way, the ones that announced
    /// least recently first. Their data is then read by the newest template of the domain.
    pub(super) fn make_room(
        &mut self,
        source: Source,
        id: TemplateId,
        (port_count_max, template_count_max): (usize, usize),
    ) -> bool {
        if !self.newest.contains_key(&id) && self.newest.len() >= template_count_max {
            return false;
        }
        if self.by_source.contains_key(&(source, id)) {
            return true;
        }
        let mut sources: HashMap<Source, UnixMillis> = HashMap::new();
        for (&(other, _), template) in &self.by_source {
            let announced = sources.entry(other).or_default();
            *announced = template.announced().max(*announced);
        }
        let has_place = sources.remove(&source).is_some();
        loop {
            let source_count = sources.len().saturating_add(1);
            let sources_fit = has_place || source_count <= port_count_max;
            if sources_fit && self.by_source.len() < template_count_max {
                return true;
            }
            let oldest = sources.iter().min_by_key(|&(_, &announced)| announced);
            let Some((&oldest, _)) = oldest else {
                return false;
            };
            sources.remove(&oldest);
            let mut size = self.size;
            self.by_source.retain(|&(other, _), template| {
                if other == oldest {
                    size = size.saturating_sub(template.size());
                }
                other != oldest
            });
            self.size = size;
        }
    }
}

/// What a connection has withdrawn.
#[derive(Debug)]
pub(super) struct Withdrawn {
    ids: HashSet<TemplateId>,
    has_all_data: bool,
    has_all_options: bool,
}

impl Withdrawn {
    pub(super) fn new(withdrawals: &[Withdrawal]) -> Self {
        let one = |withdrawal: &Withdrawal| match withdrawal {
            Withdrawal::One(id) => Some(*id),
            Withdrawal::AllData | Withdrawal::AllOptions => None,
        };
        Self {
            ids: withdrawals.iter().filter_map(one).collect(),
            has_all_data: withdrawals.contains(&Withdrawal::AllData),
            has_all_options: withdrawals.contains(&Withdrawal::AllOptions),
        }
    }

    /// Is this template withdrawn?
    pub(super) fn has(&self, announcement: &Announcement) -> bool {
        let has_its_kind = match announcement.record_type {
            RecordType::Flow => self.has_all_data,
            RecordType::Options => self.has_all_options,
            RecordType::Counters => false,
        };
        has_its_kind || self.ids.contains(&announcement.id)
    }
}
