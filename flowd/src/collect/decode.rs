//! Messages of all protocols -> records: which protocol a message speaks, and who sent it.

use super::books::{Books, CollectDrop};
use super::copy::Clocks;
use super::core::Core;
use super::fixed::{FixedDecoder, decode_fixed_message};
use super::message::decode_sets;
use super::peer::{Peer, Transport};
use super::pending::{PendingLimits, PendingStore};
use super::rows::{Output, RecordContext};
use super::session::{Session, SessionKey, Sessions};
use super::sflow::SflowDecoder;
use super::template_cache::{TemplateLimits, TemplateStore};
use crate::model::time::{SysUptime, UnixMillis};
use crate::model::{Column, ColumnSet, FlowBatch, ObservationDomainId, Origin, Protocol};
use crate::wire::{WireError, WireErrorKind, fixed, ipfix, sflow, v9};
use std::sync::Arc;

/// Sample sequences of sFlow that a worker follows. Agents are named by datagrams, which anyone
/// can forge: beyond so many, all begin anew.
const SAMPLE_STREAM_COUNT_MAX: usize = 1 << 18;

/// What a decoder keeps, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct DecoderConfig {
    /// Does every record say when it was received?
    pub with_collection_time: bool,
    /// Sessions (exporter address, port, domain) that a worker remembers.
    pub session_count_max: usize,
    /// Of these from one address; the ones that sent but once give way, then the longest silent.
    pub session_count_per_address_max: usize,
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
            session_count_per_address_max: 4_096,
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

/// Decodes the messages of one worker.
///
/// ```
/// use flowd::collect::{Books, Decoder, DecoderConfig, PendingStore, TemplateStore};
/// use flowd::model::{FlowBatch, time::UnixMillis};
/// use std::net::SocketAddr;
/// use std::sync::Arc;
///
/// let config = DecoderConfig::default();
/// let books = Arc::new(Books::default());
/// let templates = Arc::new(TemplateStore::new(&config));
/// let pending = Arc::new(PendingStore::in_memory(config.pending));
/// let mut decoder = Decoder::new(&config, templates, pending, books.clone());
/// let mut batch = FlowBatch::new();
/// let peer = "192.0.2.1:2055".parse::<SocketAddr>().unwrap().into();
/// decoder.decode(b"no flow", peer, UnixMillis(0), &mut batch, &mut |_full| {});
/// assert!(batch.is_empty());
/// assert_eq!(books.statistics().drops["unsupportedVersion"], 1);
/// ```
#[derive(Debug)]
pub struct Decoder {
    sessions: Sessions,
    fixed: FixedDecoder,
    sflow: SflowDecoder,
    /// Sample sequences of all sessions, or more: those of forgotten sessions still count.
    stream_count: usize,
    core: Core,
}

impl Decoder {
    /// A decoder that has seen nothing yet.
    #[must_use]
    pub fn new(
        config: &DecoderConfig,
        store: Arc<TemplateStore>,
        pending: Arc<PendingStore>,
        books: Arc<Books>,
    ) -> Self {
        Self {
            sessions: Sessions::new(config.session_count_max, config.session_count_per_address_max),
            fixed: FixedDecoder::new(config.own_columns()),
            sflow: SflowDecoder::new(config.own_columns()),
            stream_count: 0,
            core: Core::new(store, pending, books),
        }
    }

    /// Appends the records of a message to `batch`, together with those that waited for the
    /// templates it brings: a datagram, or one IPFIX Message of a connection. A batch without
    /// room is handed to `full` and cleared.
    pub fn decode(
        &mut self,
        message: &[u8],
        peer: Peer,
        received: UnixMillis,
        batch: &mut FlowBatch,
        full: &mut dyn FnMut(&FlowBatch),
    ) {
        self.core.books.received(message.len());
        self.core.lists.begin(message.len());
        let mut output = Output { batch, full };
        let outcome = match (peer.transport, version(message)) {
            (_, Some(ipfix::VERSION)) => self.decode_ipfix(message, peer, received, &mut output),
            (Transport::Udp, Some(v9::VERSION)) => {
                self.decode_v9(message, peer, received, &mut output)
            }
            (Transport::Udp, Some(word)) if fixed::Version::from_word(word).is_some() => {
                self.decode_fixed(message, peer, received, &mut output)
            }
            // sFlow's version has four octets.
            (Transport::Udp, Some(0)) => self.decode_sflow(message, peer, received, &mut output),
            (_, Some(_)) => Err(CollectDrop::UnsupportedVersion),
            (_, None) => Err(CollectDrop::Malformed),
        };
        match outcome {
            Ok(()) => self.core.books.datagrams_decoded.add(1),
            Err(reason) => self.core.books.datagram_drops.count(reason, 1),
        }
        // What waited for another worker's templates is no part of this message.
        self.core.lists.begin(0);
        self.core.retry(received, &mut output);
    }

    /// A connection has ended: its session ends with it, and so do its templates
    /// and what waits for them.
    pub fn disconnect(&mut self, peer: Peer) {
        self.sessions.forget_peer(peer);
        self.core.disconnect(peer);
    }

    /// Looks after what waits for its template: decodes what another worker has learned the
    /// template of, and gives up what has waited too long.
    pub fn idle(
        &mut self,
        now: UnixMillis,
        batch: &mut FlowBatch,
        full: &mut dyn FnMut(&FlowBatch),
    ) {
        self.core.lists.begin(0);
        self.core.retry(now, &mut Output { batch, full });
        self.core.expire(now);
        self.core.books.sessions_over_limit.add(self.sessions.take_given_way());
        self.note_standings();
    }

    /// Notes where the sequences stand, to be saved even when this decoder is no more.
    pub(super) fn note_standings(&mut self) {
        self.sessions.note_standings(&self.core.books.standings);
    }

    fn decode_v9(
        &mut self,
        datagram: &[u8],
        peer: Peer,
        received: UnixMillis,
        output: &mut Output<'_>,
    ) -> Result<(), CollectDrop> {
        let v9::Message { header, sets } = v9::Message::decode(datagram).map_err(drop_reason)?;
        let key = SessionKey::new(peer, header.source_id, Protocol::NetflowV9);
        let session = session(&mut self.sessions, &self.core.books, key, received);
        // RFC 3954 section 5.1: the sequence counts Export Packets.
        session.observe(header.sequence_number, Some(1), Some(header.sys_uptime));
        let context = MessageContext {
            export_time: header.export_time(),
            sys_uptime: Some(header.sys_uptime),
            sequence_number: header.sequence_number,
            received,
            transport: peer.transport,
        };
        decode_sets(&mut self.core, session, context, sets, output).1
    }

    /// A datagram should have one Message (RFC 7011 section 10.3.3); where it has more, all are
    /// read.
    fn decode_ipfix(
        &mut self,
        octets: &[u8],
        peer: Peer,
        received: UnixMillis,
        output: &mut Output<'_>,
    ) -> Result<(), CollectDrop> {
        let mut rest = octets;
        loop {
            let message = ipfix::Message::decode(rest).map_err(drop_reason)?;
            let ipfix::Message { header, sets, after } = message;
            let key = SessionKey::new(peer, header.domain, Protocol::Ipfix);
            let session = session(&mut self.sessions, &self.core.books, key, received);
            let context = MessageContext {
                export_time: header.export_time(),
                sys_uptime: None,
                sequence_number: header.sequence_number,
                received,
                transport: peer.transport,
            };
            let (records, outcome) = decode_sets(&mut self.core, session, context, sets, output);
            // RFC 7011 section 3.1: the sequence counts Data Records.
            session.observe(header.sequence_number, records, None);
            outcome?;
            if usize::from(header.length) > rest.len() {
                return Err(CollectDrop::Malformed);
            }
            if version(after) != Some(ipfix::VERSION) || peer.transport == Transport::Tcp {
                return Ok(());
            }
            rest = after;
        }
    }

    fn decode_fixed(
        &mut self,
        datagram: &[u8],
        peer: Peer,
        received: UnixMillis,
        output: &mut Output<'_>,
    ) -> Result<(), CollectDrop> {
        let message = fixed::Message::decode(datagram).map_err(drop_reason)?;
        let protocol = match message.header.version {
            fixed::Version::V1 | fixed::Version::V1Short => Protocol::NetflowV1,
            fixed::Version::V5 => Protocol::NetflowV5,
            fixed::Version::V7 => Protocol::NetflowV7,
        };
        let domain = ObservationDomainId(u32::from(message.header.engine));
        let key = SessionKey::new(peer, domain, protocol);
        let session = session(&mut self.sessions, &self.core.books, key, received);
        decode_fixed_message(&mut self.fixed, &mut self.core, session, &message, received, output)
    }

    fn decode_sflow(
        &mut self,
        datagram: &[u8],
        peer: Peer,
        received: UnixMillis,
        output: &mut Output<'_>,
    ) -> Result<(), CollectDrop> {
        let datagram = sflow::Datagram::decode(datagram).map_err(drop_reason)?;
        // The agent is who says so, whichever way its datagrams take (sFlow version 5).
        let key = SessionKey {
            address: datagram.agent.map_or_else(|| peer.ip(), |agent| agent.to_canonical()),
            port: 0,
            domain: ObservationDomainId(datagram.sub_agent),
            protocol: Protocol::Sflow,
        };
        let books = &self.core.books;
        let session = session(&mut self.sessions, books, key, received);
        session.observe(datagram.sequence_number, Some(1), Some(datagram.uptime));
        let clocks = Clocks { export_time: received, sys_uptime: Some(datagram.uptime) };
        let number = datagram.sequence_number;
        let mut context = RecordContext::new(&session.origin, clocks, number, received);
        let streams_before = session.samples.len();
        let counts = self.sflow.decode(&datagram, &mut session.samples, &mut context, output);
        self.stream_count =
            self.stream_count.saturating_add(session.samples.len()).saturating_sub(streams_before);
        if let Some(sampling) = counts.sampling {
            session.note_sampling(sampling, received);
        }
        books.records.add(counts.records);
        session.books.records.add(counts.records);
        books.samples.count(&counts);
        session.books.samples.count(&counts);
        if self.stream_count > SAMPLE_STREAM_COUNT_MAX {
            self.sessions.forget_samples();
            self.stream_count = 0;
        }
        if counts.is_cut { Err(CollectDrop::Malformed) } else { Ok(()) }
    }
}

/// What a message says of all its records.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageContext {
    pub(super) export_time: UnixMillis,
    pub(super) sys_uptime: Option<SysUptime>,
    pub(super) sequence_number: u32,
    pub(super) received: UnixMillis,
    pub(super) transport: Transport,
}

fn session<'a>(
    sessions: &'a mut Sessions,
    books: &Books,
    key: SessionKey,
    received: UnixMillis,
) -> &'a mut Session {
    books.sessions_over_limit.add(sessions.take_given_way());
    let session = sessions.get_or_make(key, received, || {
        let origin = Origin { address: key.address, domain: key.domain, protocol: key.protocol };
        let exporter = books.exporter(&origin);
        (Arc::new(origin), exporter, books.standings.resume(&key, received))
    });
    if session.books.has_given_way() {
        session.books = books.exporter(&session.origin);
    }
    session.books.heard(books);
    session.books.messages.add(1);
    session
}

/// The word that all flow protocols begin with.
fn version(message: &[u8]) -> Option<u16> {
    message.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

pub(super) fn drop_reason(error: WireError) -> CollectDrop {
    match error.kind() {
        WireErrorKind::Malformed => CollectDrop::Malformed,
        WireErrorKind::Unsupported => CollectDrop::UnsupportedVersion,
        WireErrorKind::OverLimit => CollectDrop::OverLimit,
    }
}
