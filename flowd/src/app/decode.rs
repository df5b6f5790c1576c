//! `flowd decode`: a capture of export datagrams -> every record in them, in wire order.

use crate::collect::{Books, Decoder, DecoderConfig, PendingStore, Statistics, TemplateStore};
use crate::model::{FlowBatch, FlowRecord, Origin, time::UnixMillis};
use crate::probe::{CaptureFile, CapturedPacket};
use anyhow::{Context, Result};
use flowd_common::packet::{self, Addresses, Captured};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// Version words that NetFlow datagrams begin with: v1, v5, v7, v9, and IPFIX's 10.
const NETFLOW_VERSIONS: [u16; 5] = [1, 5, 7, 9, 10];
const SFLOW_VERSION: [u8; 4] = [0, 0, 0, 5];
const UDP: u8 = 17;
const UDP_HEADER_SIZE: usize = 8;

/// What to do with each record and who sent it.
pub type EachRecord<'a> = &'a mut dyn FnMut(&FlowRecord, &Origin) -> io::Result<()>;

/// Decodes the export datagrams of a capture. What was decoded and dropped comes back.
///
/// # Errors
/// If the file is no capture or is damaged (what precedes the damage is decoded), or if a record
/// cannot be handed on.
pub fn run(file: &Path, each: EachRecord<'_>) -> Result<Statistics> {
    let capture = CaptureFile::open(file)?;
    let config = DecoderConfig { with_collection_time: false, ..DecoderConfig::default() };
    let books = Arc::new(Books::default());
    let templates = Arc::new(TemplateStore::new(&config));
    let pending = Arc::new(PendingStore::in_memory(config.pending));
    let mut decoder = Decoder::new(&config, templates, pending, Arc::clone(&books));
    let mut batch = FlowBatch::new();
    let mut outcome = Ok(());
    let named = || file.display().to_string();
    for packet in capture.packets().with_context(named)? {
        let packet = packet.with_context(named)?;
        let Some((peer, payload)) = export_datagram(&packet) else { continue };
        let received = UnixMillis::from_nanos(packet.time_nanos);
        decoder.decode(payload, peer.into(), received, &mut batch, &mut |full| {
            hand_on(full, each, &mut outcome);
        });
        hand_on(&batch, each, &mut outcome);
        batch.clear();
        std::mem::replace(&mut outcome, Ok(())).context("print records")?;
    }
    Ok(books.statistics())
}

fn hand_on(batch: &FlowBatch, each: EachRecord<'_>, outcome: &mut io::Result<()>) {
    for run in batch.runs() {
        for record in run.rows.clone().filter_map(|row| batch.record(row)) {
            if outcome.is_ok() {
                *outcome = each(&record, &run.origin);
            }
        }
    }
}

/// The sender and payload of a UDP datagram that begins as an export message does.
fn export_datagram<'a>(packet: &CapturedPacket<'a>) -> Option<(SocketAddr, &'a [u8])> {
    let wire_size = usize::try_from(packet.wire_size).ok()?;
    let captured = Captured { data: packet.data, wire_size };
    let parsed = packet::parse(packet.link_type, &captured).ok()?;
    if parsed.protocol != UDP || parsed.fragment.is_some() {
        return None;
    }
    let udp = packet.data.get(parsed.transport_offset..)?;
    let (header, payload) = udp.split_first_chunk::<UDP_HEADER_SIZE>()?;
    let [source_high, source_low, _, _, size_high, size_low, ..] = *header;
    let size = usize::from(u16::from_be_bytes([size_high, size_low]));
    // Behind the datagram may come the frame's padding; a size of 0 is that of a jumbogram.
    let payload = match size.checked_sub(UDP_HEADER_SIZE) {
        Some(size) => payload.get(..size).unwrap_or(payload),
        None => payload,
    };
    if !begins_as_export(payload) {
        return None;
    }
    let address = match parsed.addresses {
        Addresses::V4 { source, .. } => IpAddr::V4(Ipv4Addr::from(source)),
        Addresses::V6 { source, .. } => IpAddr::V6(Ipv6Addr::from(source)),
    };
    let port = u16::from_be_bytes([source_high, source_low]);
    Some((SocketAddr::new(address, port), payload))
}

fn begins_as_export(payload: &[u8]) -> bool {
    let Some(&[high, low]) = payload.first_chunk() else { return false };
    NETFLOW_VERSIONS.contains(&u16::from_be_bytes([high, low]))
        || payload.starts_with(&SFLOW_VERSION)
}
