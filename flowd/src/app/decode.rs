//! `flowd decode`: a capture of export datagrams -> every record in them, in wire order.

use super::datagrams::{Carried, Datagrams};
use super::explain::Explainer;
pub use super::explain::{Explained, FieldSeen, MessageSeen, SetSeen, TemplateSeen};
use crate::collect::{
    Books, Decoder, DecoderConfig, Peer, PendingStore, Statistics, TemplateStore, Transport,
};
use crate::model::{FlowBatch, FlowRecord, Origin, time::UnixMillis};
use crate::probe::CaptureFile;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What comes of a capture, in its order.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// A record, and who sent it.
    Record(&'a FlowRecord, &'a Origin),
    /// A message or template, before the records of that message.
    Explained(&'a Explained),
}

/// What to do with what comes.
pub type EachFound<'a> = &'a mut dyn FnMut(Found<'_>) -> io::Result<()>;

/// What was found in a capture.
#[derive(Debug)]
pub struct Decoded {
    /// What the decoder did with it.
    pub statistics: Statistics,
    /// Datagrams of which the capture holds the beginning only.
    pub cut: u64,
    /// What did not even become a datagram or message, in words, with its count.
    pub not_whole: BTreeMap<&'static str, u64>,
}

/// Decodes the export datagrams of a capture, and the IPFIX messages of its TCP connections;
/// tells of the messages themselves too if it is to explain them.
///
/// # Errors
/// If the file is no capture or is damaged (what precedes the damage is decoded), or if a record
/// cannot be handed on.
pub fn run(file: &Path, explain: bool, each: EachFound<'_>) -> Result<Decoded> {
    let capture = CaptureFile::open(file)?;
    let named = || file.display().to_string();
    let mut work = Work::new(explain, each);
    let mut datagrams = Datagrams::default();
    for packet in capture.packets().with_context(named)? {
        let packet = packet.with_context(named)?;
        work.received = UnixMillis::from_nanos(packet.time_nanos);
        datagrams.packet(&packet, &mut |carried| work.take(carried));
        work.outcome()?;
    }
    datagrams.finish(&mut |carried| work.take(carried));
    work.outcome()?;
    Ok(Decoded { statistics: work.books.statistics(), cut: work.cut, not_whole: datagrams.drops() })
}

/// The decoder with what it needs, and what came of the last records.
struct Work<'a> {
    decoder: Decoder,
    books: Arc<Books>,
    batch: FlowBatch,
    received: UnixMillis,
    cut: u64,
    each: EachFound<'a>,
    /// With the records of the message at hand, which come after what explains it.
    explainer: Option<(Explainer, Vec<(FlowRecord, Origin)>)>,
    outcome: io::Result<()>,
}

impl<'a> Work<'a> {
    fn new(explain: bool, each: EachFound<'a>) -> Self {
        let config = DecoderConfig { with_collection_time: false, ..DecoderConfig::default() };
        let books = Arc::new(Books::default());
        let templates = Arc::new(TemplateStore::new(&config));
        let pending = Arc::new(PendingStore::in_memory(config.pending));
        Self {
            decoder: Decoder::new(&config, templates, pending, Arc::clone(&books)),
            books,
            batch: FlowBatch::new(),
            received: UnixMillis::default(),
            cut: 0,
            each,
            explainer: explain.then(Default::default),
            outcome: Ok(()),
        }
    }

    fn take(&mut self, carried: Carried<'_>) {
        match carried {
            Carried::Datagram { from, payload, is_whole } => {
                self.cut += u64::from(!is_whole);
                self.decode(payload, from.into());
            }
            Carried::Message { from, octets } => {
                self.decode(octets, Peer { address: from, transport: Transport::Tcp });
            }
            Carried::Closed { from } => {
                let peer = Peer { address: from, transport: Transport::Tcp };
                self.decoder.disconnect(peer);
                if let Some((explainer, _)) = &mut self.explainer {
                    explainer.forget(peer);
                }
            }
        }
    }

    fn decode(&mut self, octets: &[u8], peer: Peer) {
        let Self { decoder, books, batch, received, each, explainer, outcome, .. } = self;
        let Some((explainer, records)) = explainer else {
            let mut each = |record: &FlowRecord, origin: &Origin| {
                if outcome.is_ok() {
                    *outcome = each(Found::Record(record, origin));
                }
            };
            decoder.decode(octets, peer, *received, batch, &mut |full| hand_on(full, &mut each));
            hand_on(batch, &mut each);
            batch.clear();
            return;
        };
        let mut seen = explainer.look(octets, peer, received.0);
        let before = seen.first().map(|(message, _)| message.counted(books));
        let mut keep = |record: &FlowRecord, origin: &Origin| {
            records.push((record.clone(), origin.clone()));
        };
        decoder.decode(octets, peer, *received, batch, &mut |full| hand_on(full, &mut keep));
        hand_on(batch, &mut keep);
        batch.clear();
        if let (Some((message, _)), Some(before)) = (seen.first_mut(), before) {
            let after = message.counted(books);
            message.note(&before, &after);
        }
        let explained: Vec<_> = seen
            .into_iter()
            .flat_map(|(message, templates)| {
                let templates = templates.into_iter().map(Explained::Template);
                std::iter::once(Explained::Message(message)).chain(templates)
            })
            .collect();
        let explained = explained.iter().map(Found::Explained);
        let found = records.iter().map(|(record, origin)| Found::Record(record, origin));
        if outcome.is_ok() {
            *outcome = explained.chain(found).try_for_each(each);
        }
        records.clear();
    }

    /// What became of the records so far.
    fn outcome(&mut self) -> Result<()> {
        std::mem::replace(&mut self.outcome, Ok(())).context("print records")
    }
}

fn hand_on(batch: &FlowBatch, each: &mut dyn FnMut(&FlowRecord, &Origin)) {
    for run in batch.runs() {
        for record in run.rows.clone().filter_map(|row| batch.record(row)) {
            each(&record, &run.origin);
        }
    }
}
