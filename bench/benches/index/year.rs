//! A store of 10,000 segments: the hours of four days, listed again and again.

use anyhow::{Context, Result, ensure};
use flowd::archive::{ArchiveConfig, Expiry, OpenStore, StoreSnapshot, open_store};
use flowd::model::time::UnixMillis;
use flowd::model::{Column, FlowBatch, FlowRecord, ObservationDomainId, Origin, Protocol, Value};
use flowd::query::{Plan, QueryRequest, Sink};
use flowd::ring::RingConfig;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

/// Segments in all, and those that differ in more than their hour.
const SEGMENTS: u64 = 10_000;
const HOURS: u64 = 96;
/// Records of a segment, each between two addresses of its own.
const ROWS: u32 = 512;
/// A midnight.
const BEGIN: UnixMillis = UnixMillis(1_719_964_800_000);
const HOUR_MILLIS: i64 = 3_600_000;
const DAY_HOURS: u64 = 24;

struct Nothing;

impl Sink for Nothing {
    fn row(&mut self, _row: &[(&str, Value<'_>)]) -> io::Result<()> {
        Ok(())
    }
}

/// Asks a store for records, as `flowd query` does, and checks how many there are.
pub(super) fn ask(store: &Path, filter: &str, rows: u64) {
    let request = QueryRequest { filter: Some(filter.to_owned()), ..QueryRequest::default() };
    let plan = Plan::new(&request, BEGIN).expect("a filter");
    let outcome = flowd::app::query::run(store, &plan, &mut Nothing).expect("an answer");
    assert_eq!(outcome.rows, rows, "{filter}");
    assert!(outcome.coverage.damage.is_empty(), "{:?}", outcome.coverage.damage);
}

/// Makes the store.
pub(super) fn make(store: &Path) -> Result<()> {
    let ring = RingConfig { block_rows: 512, stripe_rows: 64, ..RingConfig::default() };
    let config = ArchiveConfig { merges: false, ..ArchiveConfig::for_ring(&ring) };
    {
        let OpenStore { ring, mut archiver, .. } = open_store(store, ring, config)?;
        let mut writer = ring.writer(0, BEGIN)?;
        for hour in 0..HOURS {
            writer.append(&batch(hour as u32));
            writer.seal_all()?;
            archiver.finish(|| BEGIN, UnixMillis(i64::MAX))?;
        }
    }
    multiply(store)?;
    let OpenStore { mut archiver, .. } = open_store(store, ring, config)?;
    // Lets go the oldest, so that the manifest is written anew as it is now.
    let oldest = StoreSnapshot::open(store)?.segments.first().context("a segment")?.entry().clone();
    archiver.expire(&Expiry { segments: vec![oldest], for_room: false }, BEGIN)?;
    while archiver.advance_ledger(None, &|| true)? {}
    Ok(())
}

fn batch(hour: u32) -> FlowBatch {
    let origin = Arc::new(Origin {
        address: "192.0.2.9".parse().expect("an address"),
        domain: ObservationDomainId(7),
        protocol: Protocol::NetflowV9,
    });
    let mut batch = FlowBatch::new();
    for row in 0..ROWS {
        let mut record = FlowRecord::default();
        // 10.HOUR.NETWORK.HOST, of which some hosts are never met.
        let source = 0x0a00_0000 | (hour << 16) | ((row % 16) << 8) | (row / 16);
        record.set_source_address(Ipv4Addr::from_bits(source).into());
        let destination = 0xac10_0000 | (row << 4) | (hour % 16);
        record.set_destination_address(Ipv4Addr::from_bits(destination).into());
        record.collection_time_milliseconds = BEGIN.0 + i64::from(hour) * HOUR_MILLIS;
        record.octet_delta_count = 100;
        for column in [Column::CollectionTimeMilliseconds, Column::OctetDeltaCount] {
            record.present.insert(column);
        }
        let shape = Arc::new(FlowBatch::shape_of(&record));
        batch.push(&record, &shape, &origin);
    }
    batch
}

/// The path of a segment of some hour, under one of its number.
fn path(hour: u64, id: u64) -> String {
    let date = UnixMillis(BEGIN.0 + hour as i64 * HOUR_MILLIS).to_string();
    format!("date={}/hour={:02}/{id:08}.parquet", &date[..10], hour % DAY_HOURS)
}

/// Lists the segments once more every four days, in the form that has all lines in one file.
fn multiply(store: &Path) -> Result<()> {
    let archive = store.join("archive");
    let snapshot = StoreSnapshot::open(store)?;
    ensure!(snapshot.segments.len() as u64 == HOURS, "a segment each hour");
    let (mut lines, mut previous) = (Vec::new(), String::new());
    for id in 0..SEGMENTS {
        let hour = id;
        let model = snapshot.segments[(hour % HOURS) as usize].entry();
        let mut entry: Json = serde_json::to_value(model)?;
        let to = path(hour, id);
        let shift = (hour - hour % HOURS) as i64;
        entry["id"] = id.into();
        entry["path"] = to.as_str().into();
        entry["hour"] = (model.hour + shift).into();
        entry["covered"][0]["first"] = hour.into();
        entry["covered"][0]["last"] = hour.into();
        let moved = |time: i64| time + shift * HOUR_MILLIS;
        entry["received"] = json!([moved(model.received.0), moved(model.received.1)]);
        if to != model.path {
            link(&archive.join(&model.path), &archive.join(&to))?;
            let index = store.join("index");
            let sidecar = |path: &str| index.join(format!("{path}.idx"));
            link(&sidecar(&model.path), &sidecar(&to))?;
            let day = |path: &str| index.join(&path[..15]).join("day.idx");
            if !day(&to).exists() {
                link(&day(&model.path), &day(&to))?;
            }
        }
        let line = json!({ "segment": entry, "previous": previous }).to_string();
        previous = hex(line.as_bytes());
        lines.push(line);
    }
    let head = json!({
        "format": "flowd-manifest", "version": 1, "generation": 1, "nextSegment": SEGMENTS,
        "entries": SEGMENTS, "head": previous,
    });
    fs::remove_file(archive.join("manifest.copy.jsonl"))?;
    fs::write(archive.join("manifest.jsonl"), format!("{head}\n{}\n", lines.join("\n")))?;
    Ok(())
}

fn link(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a directory")?)?;
    Ok(fs::hard_link(from, to)?)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|octet| format!("{octet:02x}")).collect()
}
