//! `flowd decode`: a capture of export datagrams -> every record in them, in wire order.

use super::datagrams::{Carried, Datagrams};
use crate::collect::{Books, Decoder, DecoderConfig, Peer, Statistics, TemplateStore, Transport};
use crate::model::{FlowBatch, FlowRecord, Origin, time::UnixMillis};
use crate::probe::CaptureFile;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What to do with each record and who sent it.
pub type EachRecord<'a> = &'a mut dyn FnMut(&FlowRecord, &Origin) -> io::Result<()>;

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

/// Decodes the export datagrams of a capture, and the IPFIX messages of its TCP connections.
///
/// # Errors
/// If the file is no capture or is damaged (what precedes the damage is decoded), or if a record
/// cannot be handed on.
pub fn run(file: &Path, each: EachRecord<'_>) -> Result<Decoded> {
    let capture = CaptureFile::open(file)?;
    let named = || file.display().to_string();
    let mut work = Work::new(each);
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
    each: EachRecord<'a>,
    outcome: io::Result<()>,
}

impl<'a> Work<'a> {
    fn new(each: EachRecord<'a>) -> Self {
        let config = DecoderConfig { with_collection_time: false, ..DecoderConfig::default() };
        let books = Arc::new(Books::default());
        let templates = Arc::new(TemplateStore::new(&config));
        Self {
            decoder: Decoder::new(&config, templates, Arc::clone(&books)),
            books,
            batch: FlowBatch::new(),
            received: UnixMillis::default(),
            cut: 0,
            each,
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
                self.decoder.disconnect(Peer { address: from, transport: Transport::Tcp });
            }
        }
    }

    fn decode(&mut self, octets: &[u8], peer: Peer) {
        let Self { decoder, batch, received, each, outcome, .. } = self;
        decoder.decode(octets, peer, *received, batch, &mut |full| hand_on(full, each, outcome));
        hand_on(batch, each, outcome);
        batch.clear();
    }

    /// What became of the records so far.
    fn outcome(&mut self) -> Result<()> {
        std::mem::replace(&mut self.outcome, Ok(())).context("print records")
    }
}

fn hand_on(batch: &FlowBatch, each: &mut EachRecord<'_>, outcome: &mut io::Result<()>) {
    for run in batch.runs() {
        for record in run.rows.clone().filter_map(|row| batch.record(row)) {
            if outcome.is_ok() {
                *outcome = each(&record, &run.origin);
            }
        }
    }
}
