//! Datagram + templates -> records: which set is decoded by what, and which one waits.

use super::Peer;
use super::books::{Books, CollectDrop};
use super::copy::Clocks;
use super::exporters::ExporterBooks;
use super::pending::{Held, Pending, PendingKey, PendingLimits};
use super::plan::Plan;
use super::rows::{Output, RecordContext, decode_records};
use super::session::{Session, SessionKey, Sessions};
use super::template_cache::{Announcement, Template, TemplateLimits, TemplateStore};
use crate::model::time::UnixMillis;
use crate::model::{Column, ColumnSet, FlowBatch, Origin, Protocol, RecordType};
use crate::wire::v9::{DataSet, Header, Message, Set};
use crate::wire::{TemplateId, WireError, WireErrorKind, v9};
use std::sync::Arc;

/// Times that one message may make the shared templates change: what alternates templates and
/// data more often than that is no exporter.
const LEARN_COUNT_MAX: usize = 16;
/// How often data that waits looks for templates that other workers learned.
const RETRY_INTERVAL_MILLIS: i64 = 1_000;

/// What a decoder keeps, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct DecoderConfig {
    /// Does every record say when it was received?
    pub with_collection_time: bool,
    /// Sessions (exporter address, port, domain) that a worker remembers.
    pub session_count_max: usize,
    /// Data that waits for its template.
    pub pending: PendingLimits,
    /// Templates.
    pub templates: TemplateLimits,
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self {
            with_collection_time: true,
            session_count_max: 65_536,
            pending: PendingLimits::default(),
            templates: TemplateLimits::default(),
        }
    }
}

impl DecoderConfig {
    /// The columns that the decoder fills itself.
    fn own_columns(&self) -> ColumnSet {
        let columns = ColumnSet::of(&[Column::ExportSequenceNumber, Column::ExportRecordIndex]);
        if self.with_collection_time {
            columns.with(Column::CollectionTimeMilliseconds)
        } else {
            columns
        }
    }
}

impl TemplateStore {
    /// An empty store for the decoders of this configuration.
    #[must_use]
    pub fn new(config: &DecoderConfig) -> Self {
        Self::with_own_columns(config.templates, config.own_columns())
    }
}

/// Decodes the datagrams of one worker.
///
/// ```
/// use flowd::collect::{Books, Decoder, DecoderConfig, TemplateStore};
/// use flowd::model::{FlowBatch, time::UnixMillis};
/// use std::sync::Arc;
///
/// let config = DecoderConfig::default();
/// let books = Arc::new(Books::default());
/// let mut decoder = Decoder::new(&config, Arc::new(TemplateStore::new(&config)), books.clone());
/// let mut batch = FlowBatch::new();
/// let peer = "192.0.2.1:2055".parse::<std::net::SocketAddr>().unwrap().into();
/// decoder.decode(b"no flow", peer, UnixMillis(0), &mut batch, &mut |_full| {});
/// assert!(batch.is_empty());
/// assert_eq!(books.statistics().drops["unsupportedVersion"], 1);
/// ```
#[derive(Debug)]
pub struct Decoder {
    sessions: Sessions,
    core: Core,
}

/// What is shared by all sessions of a decoder.
#[derive(Debug)]
struct Core {
    store: Arc<TemplateStore>,
    books: Arc<Books>,
    pending: Pending,
    /// The store's epoch when data that waits last looked for its templates, and the time.
    retried: (u64, UnixMillis),
    announcements: Vec<Announcement>,
    offsets: Vec<usize>,
}

impl Decoder {
    /// A decoder that has seen nothing yet.
    #[must_use]
    pub fn new(config: &DecoderConfig, store: Arc<TemplateStore>, books: Arc<Books>) -> Self {
        Self {
            sessions: Sessions::new(config.session_count_max),
            core: Core {
                store,
                books,
                pending: Pending::new(config.pending),
                retried: (0, UnixMillis::default()),
                announcements: Vec::new(),
                offsets: Vec::new(),
            },
        }
    }

    /// Appends the records of a datagram to `batch`, together with those that waited for the
    /// templates it brings. A batch without room is handed to `full` and cleared.
    pub fn decode(
        &mut self,
        datagram: &[u8],
        peer: Peer,
        received: UnixMillis,
        batch: &mut FlowBatch,
        full: &mut dyn FnMut(&FlowBatch),
    ) {
        self.core.books.received(datagram.len());
        let mut output = Output { batch, full };
        let outcome = match version(datagram) {
            Some(v9::VERSION) => self.decode_v9(datagram, peer, received, &mut output),
            Some(_) => Err(CollectDrop::UnsupportedVersion),
            None => Err(CollectDrop::Malformed),
        };
        match outcome {
            Ok(()) => self.core.books.datagrams_decoded.add(1),
            Err(reason) => self.core.books.datagram_drops.count(reason, 1),
        }
        self.core.retry(received, &mut output);
    }

    /// A connection has ended.
    pub fn disconnect(&mut self, _peer: Peer) {}

    /// Looks after what waits for its template: decodes what another worker has learned the
    /// template of, and gives up what has waited too long.
    pub fn idle(
        &mut self,
        now: UnixMillis,
        batch: &mut FlowBatch,
        full: &mut dyn FnMut(&FlowBatch),
    ) {
        self.core.retry(now, &mut Output { batch, full });
        self.core.expire(now);
    }

    fn decode_v9(
        &mut self,
        datagram: &[u8],
        peer: Peer,
        received: UnixMillis,
        output: &mut Output<'_>,
    ) -> Result<(), CollectDrop> {
        let Message { header, sets } = Message::decode(datagram).map_err(drop_reason)?;
        let key = SessionKey::new(peer.address, header.source_id, Protocol::NetflowV9);
        let books = &self.core.books;
        let session = self.sessions.get_or_make(key, received, || {
            let origin =
                Origin { address: key.address, domain: key.domain, protocol: key.protocol };
            let exporter = books.exporter(&origin);
            (Arc::new(origin), exporter)
        });
        if session.books.has_given_way() {
            session.books = books.exporter(&session.origin);
        }
        session.books.heard(books);
        session.observe(header.sequence_number, header.sys_uptime);
        let mut work = MessageWork {
            core: &mut self.core,
            session,
            header,
            received,
            record_index: 0,
            learn_count: 0,
        };
        for set in sets {
            match set {
                Ok(Set::Templates(templates)) => {
                    for template in templates {
                        work.announce(template.map(|template| Announcement {
                            id: template.id,
                            record_type: RecordType::Flow,
                            fields: template.fields,
                        }));
                    }
                }
                Ok(Set::OptionsTemplates(templates)) => {
                    for template in templates {
                        work.announce(template.map(|template| Announcement {
                            id: template.id,
                            record_type: RecordType::Options,
                            fields: template.fields().collect(),
                        }));
                    }
                }
                Ok(Set::Data(set)) => {
                    work.learn(output);
                    work.data(set, output);
                }
                // RFC 3954 gives these ids no meaning: there is nothing to decode.
                Ok(Set::Unknown(_)) => {}
                Err(error) => {
                    work.learn(output);
                    return Err(drop_reason(error));
                }
            }
        }
        work.learn(output);
        Ok(())
    }
}

/// The word that all flow protocols begin with.
fn version(datagram: &[u8]) -> Option<u16> {
    datagram.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

fn drop_reason(error: WireError) -> CollectDrop {
    match error.kind() {
        WireErrorKind::Malformed => CollectDrop::Malformed,
        WireErrorKind::Unsupported => CollectDrop::UnsupportedVersion,
        WireErrorKind::OverLimit => CollectDrop::OverLimit,
    }
}

/// One message on its way through its sets.
struct MessageWork<'a> {
    core: &'a mut Core,
    session: &'a mut Session,
    header: Header,
    received: UnixMillis,
    /// Place of the next record. Records decoded so far, and for each set that waits as many as
    /// it has octets, which is the most that it can hold: no two records of a message share a
    /// place, whenever they are decoded. A message has fewer octets than there are places.
    record_index: u32,
    learn_count: usize,
}

impl MessageWork<'_> {
    /// Takes note of a template; [`MessageWork::learn`] comes before the next data.
    fn announce(&mut self, template: Result<Announcement, WireError>) {
        match template {
            Ok(announcement) => {
                self.core.books.templates.add(1);
                self.session.books.templates.add(1);
                self.core.announcements.push(announcement);
            }
            Err(error) => {
                let drops = &self.core.books.template_drops;
                drops.count(drop_reason(error), 1);
            }
        }
    }

    /// Shares the templates noted so far, and decodes what waited for them.
    fn learn(&mut self, output: &mut Output<'_>) {
        if self.core.announcements.is_empty() {
            return;
        }
        self.learn_count = self.learn_count.saturating_add(1);
        if self.learn_count > LEARN_COUNT_MAX {
            let refused = self.core.announcements.drain(..).count();
            self.refuse(refused);
            return;
        }
        let waited_for: Vec<TemplateId> = if self.core.pending.is_empty() {
            Vec::new()
        } else {
            self.core.announcements.iter().map(|a| a.id).collect()
        };
        let learned = self.core.store.learn(
            &self.session.origin,
            self.session.port,
            &mut self.core.announcements,
            self.received,
        );
        self.refuse(learned.refused);
        for template_id in waited_for {
            let key = PendingKey { origin: Arc::clone(&self.session.origin), template_id };
            self.core.resume(&key, output);
        }
    }

    fn refuse(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let drops = &self.core.books.template_drops;
        drops.count(CollectDrop::OverLimit, count);
    }

    /// Decodes a data set, or holds it until its template comes.
    fn data(&mut self, set: DataSet<'_>, output: &mut Output<'_>) {
        self.core.books.sets.add(1);
        let DataSet { template_id, body } = set;
        let Some(template) = self.template(template_id) else {
            self.hold(template_id, body);
            return;
        };
        let mut context = RecordContext {
            origin: &self.session.origin,
            clocks: clocks(&self.header),
            sequence_number: self.header.sequence_number,
            received: self.received,
            record_index: self.record_index,
        };
        self.core.decode_set(&template.plan, body, &mut context, &self.session.books, output);
        self.record_index = context.record_index;
    }

    fn template(&mut self, id: TemplateId) -> Option<Arc<Template>> {
        let session = &mut *self.session;
        if session.templates.as_ref().is_none_or(|templates| templates.is_forgotten()) {
            session.templates = self.core.store.domain(&session.origin);
        }
        session.templates.as_ref()?.find(session.port, id)
    }

    fn hold(&mut self, template_id: TemplateId, body: &[u8]) {
        let Core { books, pending, .. } = &mut *self.core;
        let key = PendingKey { origin: Arc::clone(&self.session.origin), template_id };
        let held = Held {
            port: self.session.port,
            header: self.header,
            received: self.received,
            record_index: self.record_index,
            exporter: Arc::clone(&self.session.books),
            body: body.into(),
        };
        let places = u32::try_from(body.len()).unwrap_or(u32::MAX);
        self.record_index = self.record_index.saturating_add(places);
        pending.hold(key, held, &mut |held| drop_held(books, held, CollectDrop::OverLimit));
    }
}

fn drop_held(books: &Books, held: &Held, reason: CollectDrop) {
    books.set_drops.count(reason, 1);
    held.exporter.set_drops.count(reason, 1);
}

fn clocks(header: &Header) -> Clocks {
    Clocks { export_time: header.export_time(), sys_uptime: header.sys_uptime }
}

impl Core {
    /// Decodes what waited for a template that is here now.
    fn resume(&mut self, key: &PendingKey, output: &mut Output<'_>) {
        let Some(domain) = self.store.domain(&key.origin) else {
            return;
        };
        let mut sets = self.pending.take(key).into_iter();
        for held in sets.by_ref() {
            let Some(template) = domain.find(held.port, key.template_id) else {
                // It was refused: all of these wait on.
                let Self { books, pending, .. } = self;
                for held in std::iter::once(held).chain(sets) {
                    pending.hold(key.clone(), held, &mut |held| {
                        drop_held(books, held, CollectDrop::OverLimit);
                    });
                }
                return;
            };
            let mut context = RecordContext {
                origin: &key.origin,
                clocks: clocks(&held.header),
                sequence_number: held.header.sequence_number,
                received: held.received,
                record_index: held.record_index,
            };
            self.decode_set(&template.plan, &held.body, &mut context, &held.exporter, output);
        }
    }

    /// Looks whether another worker has learned a template that is waited for.
    fn retry(&mut self, now: UnixMillis, output: &mut Output<'_>) {
        if self.pending.is_empty() {
            return;
        }
        let (epoch, (seen, at)) = (self.store.epoch(), self.retried);
        // A clock that was set back counts as due.
        let since = now.0.saturating_sub(at.0);
        if epoch == seen || (0..RETRY_INTERVAL_MILLIS).contains(&since) {
            return;
        }
        self.retried = (epoch, now);
        for key in self.pending.keys() {
            let domain = self.store.domain(&key.origin);
            // By any port: whether a set of this port is decodable, resume() sees.
            if domain.is_some_and(|domain| domain.find(0, key.template_id).is_some()) {
                self.resume(&key, output);
            }
        }
    }

    fn expire(&mut self, now: UnixMillis) {
        let Self { books, pending, .. } = self;
        pending.expire(now, &mut |held| drop_held(books, held, CollectDrop::TemplateMissing));
    }

    /// Appends the records of a set.
    fn decode_set(
        &mut self,
        plan: &Plan,
        body: &[u8],
        context: &mut RecordContext<'_>,
        exporter: &ExporterBooks,
        output: &mut Output<'_>,
    ) {
        let first_index = context.record_index;
        let outcome = decode_records(plan, body, &mut self.offsets, context, output);
        let records = u64::from(context.record_index.saturating_sub(first_index));
        self.books.records.add(records);
        exporter.records.add(records);
        match outcome {
            Ok(()) => self.books.sets_decoded.add(1),
            Err(reason) => {
                self.books.set_drops.count(reason, 1);
                exporter.set_drops.count(reason, 1);
            }
        }
    }
}
