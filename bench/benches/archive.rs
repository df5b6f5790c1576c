//! Blocks of the ring -> a segment: NetFlow v9 of 18 fields, as a busy router sends it. Prints
//! first what a row takes on disk, by column, and in CPU time.

#![expect(clippy::print_stdout, reason = "octets a row are what it measures")]

use bench::layout::Header;
use bench::random::Draws;
use bench::{traffic, v9};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowd::archive::{ArchiveConfig, StoreSnapshot, open_store};
use flowd::collect::{Books, Decoder, DecoderConfig, TemplateStore};
use flowd::model::FlowBatch;
use flowd::model::time::UnixMillis;
use flowd::ring::{RingConfig, ShardWriter};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Flows of a measurement: eight row groups.
const FLOWS: u64 = 1 << 20;
/// Flows a second of all exporters.
const RATE: u64 = 100_000;
/// When the first is received: within an hour.
const NOW: UnixMillis = UnixMillis(1_700_000_100_000);
/// After that hour's end.
const LATER: UnixMillis = UnixMillis(NOW.0 + 7_200_000);

/// Appends the flows of some exporters, who send in no order.
fn append(writer: &mut ShardWriter, exporters: u64) {
    let config = DecoderConfig::default();
    let templates = Arc::new(TemplateStore::new(&config));
    let mut decoder = Decoder::new(&config, templates, Arc::default(), Arc::new(Books::default()));
    let (mut batch, mut message) = (FlowBatch::new(), Vec::new());
    let mut sequences = vec![0; exporters as usize];
    let mut draws = Draws(5);
    let records = v9::RECORDS_MAX as u64;
    for first in (0..FLOWS).step_by(v9::RECORDS_MAX) {
        let exporter = draws.below(exporters);
        let sequence = &mut sequences[exporter as usize];
        let millis = first * 1_000 / RATE;
        let flows: Vec<_> =
            (first..FLOWS.min(first + records)).map(|index| traffic::flow(1, index)).collect();
        let header = Header {
            unix_seconds: ((NOW.0 as u64 + millis) / 1_000) as u32,
            uptime_millis: 3_600_000 + millis as u32,
            sequence: *sequence,
            domain: 0,
        };
        v9::encode(&mut message, header, *sequence == 0, &flows);
        *sequence += 1;
        let peer = SocketAddr::from(([10, 200, 0, exporter as u8], 2055));
        let received = UnixMillis(NOW.0 + millis as i64);
        decoder.decode(&message, peer.into(), received, &mut batch, &mut |full| {
            writer.append(full);
        });
        writer.append(&batch);
        batch.clear();
    }
}

/// How long this thread has had a processor, as the kernel counts it.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// What archiving took.
struct Taken {
    /// From the sealed blocks to the manifest, by the clock.
    wall: Duration,
    /// The same in time of the processor.
    segment: Duration,
    /// What the ledger of addresses took after that.
    ledger: Duration,
}

/// Makes a store in a directory and archives the flows.
fn archive(store: &Path, exporters: u64) -> Taken {
    let ring = RingConfig::default();
    let open = open_store(store, ring, ArchiveConfig::for_ring(&ring)).expect("a new store");
    let mut archiver = open.archiver;
    let mut writer = open.ring.writer(0, NOW).expect("the first writer");
    append(&mut writer, exporters);
    writer.seal_all().expect("blocks are sealed");
    let (wall, processor) = (Instant::now(), processor_time());
    let segments = archiver.archive_due(LATER).expect("the flows are archived");
    let (wall, archived) = (wall.elapsed(), processor_time());
    assert_eq!(segments, 1, "all flows are of one hour");
    archiver.advance_ledger(None, &|| true).expect("the ledger is written");
    Taken { wall, segment: archived - processor, ledger: processor_time() - archived }
}

/// The octets of all files below a directory.
fn size_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(file) if file.is_dir() => size_of(&entry.path()),
        Ok(file) => file.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn report(exporters: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let Taken { segment: processor, ledger, .. } = archive(dir.path(), exporters);
    let snapshot = StoreSnapshot::open(dir.path()).expect("the store");
    let segment = snapshot.segments.first().expect("one segment");
    let rows = segment.entry().rows as f64;
    let index = size_of(&dir.path().join("index"));
    let ledger_size = size_of(&dir.path().join("index/ledger"));
    println!(
        "{exporters} exporters: {:.2} octets of segment, {:.2} of index, {:.2} of ledger a row; \
         {:.3} CPU-us a row, {:.3} for the ledger",
        segment.entry().bytes as f64 / rows,
        (index - ledger_size) as f64 / rows,
        ledger_size as f64 / rows,
        processor.as_secs_f64() * 1e6 / rows,
        ledger.as_secs_f64() * 1e6 / rows,
    );
    for (name, bytes) in segment.column_bytes().expect("a footer") {
        println!("  {name:28} {:6.3}", bytes as f64 / rows);
    }
}

fn archives(c: &mut Criterion) {
    for exporters in [1, 4, 20] {
        report(exporters);
    }
    let mut group = c.benchmark_group("archive");
    group.throughput(Throughput::Elements(FLOWS)).sample_size(10);
    group.bench_function("v9/18-fields", |b| {
        b.iter_custom(|times| {
            let runs = (0..times).map(|_| {
                let dir = tempfile::tempdir().expect("a directory");
                archive(dir.path(), 1).wall
            });
            runs.sum()
        });
    });
    group.finish();
}

criterion_group!(benches, archives);
criterion_main!(benches);
