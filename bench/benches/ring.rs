//! Rows into the ring and out of it: what one shard appends a second while its blocks are freed
//! behind it, what readers take, and what a restart needs.
//!
//! Appending is measured in CPU time of the writing thread, page faults that it takes included: it
//! is what bounds a shard, and other work on the machine disturbs it least. What all threads of
//! the process use a row, those included that make and free files, is printed beside.
//!
//! Two places: a tmpfs, and a directory of `FLOWD_BENCH_DIR`, or of the system's for temporary
//! files, as the disk.

use bench::cpu;
use bench::in_place::InPlaceRing;
use bench::rows::{NOW, batch};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flowd::model::FlowBatch;
use flowd::ring::{Block, Lane, NumberFloors, Ring, RingConfig, ShardWriter, StoreLock};
use flowd::telemetry::Flag;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// Rows that a worker appends at a time: one message's, and one reception's.
const RUNS: [usize; 2] = [30, 1_000];
/// Rows of the stores that are read.
const STORED_ROWS: usize = 4_000_000;
/// Rows of 76 octets that fill a ring of 1 GiB.
const RING_ROWS: usize = (1 << 30) / 76;

/// Where the ring lies, by name.
fn places() -> Vec<(&'static str, PathBuf)> {
    let disk = std::env::var_os("FLOWD_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let tmpfs = PathBuf::from("/dev/shm");
    [("tmpfs", tmpfs), ("disk", disk)].into_iter().filter(|(_, path)| path.is_dir()).collect()
}

fn store(directory: &Path) -> (TempDir, Arc<Ring>) {
    store_with(directory, RingConfig::default())
}

fn store_with(directory: &Path, config: RingConfig) -> (TempDir, Arc<Ring>) {
    let directory = tempfile::tempdir_in(directory).expect("a directory for the store");
    let ring = open(directory.path(), config);
    (directory, ring)
}

/// A ring of no size keeps no files to use them again; its blocks have the backlog's room.
fn without_reuse() -> RingConfig {
    RingConfig { ring_size_max: 0, ..RingConfig::default() }
}

fn open(path: &Path, config: RingConfig) -> Arc<Ring> {
    let lock = StoreLock::acquire(path).expect("a store of our own");
    Ring::open(lock, config, NumberFloors::default()).expect("a ring").0
}

#[expect(clippy::print_stderr, reason = "a benchmark's words")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Frees sealed blocks as they come, as an archiver that keeps up does.
fn free_sealed(ring: &Arc<Ring>) -> (Arc<Flag>, JoinHandle<()>) {
    let stop = Arc::new(Flag::default());
    let (ring, stopped) = (Arc::clone(ring), Arc::clone(&stop));
    let thread = std::thread::spawn(move || {
        while !stopped.is_raised() {
            ring.wakeups().recv_timeout(Duration::from_millis(20)).ok();
            let ids: Vec<_> = ring.sealed_blocks().iter().map(|block| block.id).collect();
            ring.claim(&ids);
            ring.free(&ids).expect("our own files are removed");
        }
    });
    (stop, thread)
}

fn append_all(writer: &mut ShardWriter, batch: &FlowBatch, rows: usize) {
    for _ in 0..rows.div_ceil(batch.len()) {
        assert_eq!(writer.append(batch).dropped, 0, "nothing is refused");
    }
}

/// An endless stream whose blocks are freed behind it.
fn append(c: &mut Criterion) {
    let forms = [("append", RingConfig::default()), ("append-new-files", without_reuse())];
    for ((place, directory), (form, config)) in
        places().into_iter().flat_map(|place| forms.map(|form| (place.clone(), form)))
    {
        for run in RUNS {
            let (_directory, ring) = store_with(&directory, config);
            let (stop, freeing) = free_sealed(&ring);
            let mut writer = ring.writer(0, NOW).expect("the shard's writer");
            let batch = batch(run);
            let mut group = c.benchmark_group("ring");
            group.throughput(Throughput::Elements(run as u64));
            let before = (cpu::of_process(), ring.appended().value());
            group.bench_function(BenchmarkId::new(format!("{form}/{place}"), run), |b| {
                b.iter_custom(|iterations| {
                    let start = cpu::of_thread();
                    for _ in 0..iterations {
                        assert_eq!(writer.append(&batch).dropped, 0, "nothing is refused");
                    }
                    cpu::of_thread() - start
                });
            });
            group.finish();
            let rows = ring.appended().value() - before.1;
            let nanos = (cpu::of_process() - before.0).as_nanos() / u128::from(rows.max(1));
            let blocks = rows / ring.config().block_rows as u64;
            let (unprepared, reused) = (ring.unprepared().value(), ring.reused().value());
            say(&format!(
                "{nanos} ns a row in all; of {blocks} blocks {unprepared} not prepared, {reused} in \
                 files used again"
            ));
            drop(writer);
            stop.raise();
            freeing.join().expect("the freeing thread ends");
        }
    }
}

/// A burst into a ring from which nothing is freed, from its first row on.
fn burst(c: &mut Criterion) {
    for (place, directory) in places() {
        let batch = batch(1_000);
        let mut group = c.benchmark_group("ring");
        group.throughput(Throughput::Elements(STORED_ROWS as u64)).sample_size(10);
        group.bench_function(BenchmarkId::new("burst", place), |b| {
            b.iter_custom(|iterations| {
                let mut taken = Duration::ZERO;
                for _ in 0..iterations {
                    let (_directory, ring) = store(&directory);
                    let mut writer = ring.writer(0, NOW).expect("the shard's writer");
                    let start = cpu::of_thread();
                    append_all(&mut writer, &batch, STORED_ROWS);
                    taken += cpu::of_thread() - start;
                }
                taken
            });
        });
        group.finish();
    }
}

fn blocks(ring: &Ring) -> Vec<Block> {
    let files = ring.store().block_files().expect("the ring's directory");
    files.iter().map(|(_, path)| Block::open(path).expect("a whole block")).collect()
}

/// A reader that opens all blocks and looks at one column, and one that copies all rows.
fn read(c: &mut Criterion) {
    use flowd::model::{Column, ColumnRef};
    let Some((_, directory)) = places().into_iter().next() else {
        return;
    };
    let (_directory, ring) = store(&directory);
    let mut writer = ring.writer(0, NOW).expect("the shard's writer");
    append_all(&mut writer, &batch(1_000), STORED_ROWS);
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(STORED_ROWS as u64)).sample_size(20);
    group.bench_function("read/one-column", |b| {
        b.iter(|| {
            let octets = blocks(&ring).into_iter().map(|block| {
                match block.column(Column::OctetDeltaCount) {
                    Some(ColumnRef::U64(octets)) => octets.iter().sum::<u64>(),
                    _ => unreachable!("the rows have octets"),
                }
            });
            black_box(octets.sum::<u64>())
        });
    });
    let mut copy = FlowBatch::new();
    group.bench_function("read/all-columns", |b| {
        b.iter(|| {
            for block in blocks(&ring) {
                let mut row = 0;
                while row < block.rows() {
                    copy.clear();
                    row += block.copy_to(row..block.rows(), &mut copy);
                }
            }
        });
    });
    group.finish();
}

/// A start that finds a full ring of 1 GiB, whose last block was left open.
fn recover(c: &mut Criterion) {
    for (place, directory) in places() {
        let (directory, ring) = store(&directory);
        let mut writer = ring.writer(0, NOW).expect("the shard's writer");
        append_all(&mut writer, &batch(1_000), RING_ROWS);
        drop((writer, ring));
        let mut group = c.benchmark_group("ring");
        group.sample_size(10);
        group.bench_function(BenchmarkId::new("recover", place), |b| {
            b.iter(|| {
                assert_eq!(
                    open(directory.path(), RingConfig::default()).sealed_blocks()[0].id.lane,
                    Lane::Ipv4
                )
            });
        });
        group.finish();
    }
}

/// The other form of a ring: blocks used again in place, without files or checksums.
fn in_place(c: &mut Criterion) {
    let mut ring = InPlaceRing::new(RingConfig::default().block_rows, 64);
    for run in RUNS {
        let (mut writer, batch) = (ring.writer(), batch(run));
        let mut group = c.benchmark_group("ring");
        group.throughput(Throughput::Elements(run as u64));
        group.bench_function(BenchmarkId::new("in-place", run), |b| {
            b.iter_custom(|iterations| {
                let start = cpu::of_thread();
                for _ in 0..iterations {
                    writer.append(&batch);
                }
                cpu::of_thread() - start
            });
        });
        group.finish();
    }
}

criterion_group!(benches, append, burst, read, recover, in_place);
criterion_main!(benches);
