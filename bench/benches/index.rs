//! A row group as it lies in a ring block -> the octets of its index; and a store of 10,000
//! segments -> that it has no record of an address.

#[path = "index/year.rs"]
mod year;

use bench::streams::Stream;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowd::archive::block_batch;
use flowd::archive::index::IndexBuilder;
use flowd::collect::{Books, Decoder, DecoderConfig, TemplateStore};
use flowd::model::time::UnixMillis;
use flowd::model::{Column, FlowBatch};
use flowd::ring::{Block, NumberFloors, Ring, RingConfig, StoreLock};
use std::hint::black_box;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Messages whose records make the row group.
const MESSAGES: u32 = 4_000;

/// Blocks of a ring that hold the records of a v9 stream.
fn blocks(store: &Path) -> anyhow::Result<Vec<Arc<Block>>> {
    let config = DecoderConfig::default();
    let templates = Arc::new(TemplateStore::new(&config));
    let mut decoder = Decoder::new(&config, templates, Arc::default(), Arc::new(Books::default()));
    let lock = StoreLock::acquire(store)?;
    let (ring, _) = Ring::open(lock, RingConfig::default(), NumberFloors::default())?;
    let mut writer = ring.writer(0, UnixMillis(0))?;
    let peer: SocketAddr = "127.0.0.1:2055".parse()?;
    let mut batch = FlowBatch::new();
    for message in &Stream::v9(MESSAGES).messages {
        decoder.decode(message, peer.into(), UnixMillis(0), &mut batch, &mut |_| {});
        writer.append(&batch);
        batch.clear();
    }
    writer.seal_all()?;
    let files = ring.store().block_files()?;
    Ok(files.iter().map(|(_, path)| Block::open(path).map(Arc::new)).collect::<Result<_, _>>()?)
}

fn index(c: &mut Criterion) {
    let store = tempfile::tempdir().expect("a directory");
    let blocks = blocks(store.path()).expect("a ring");
    let columns = IndexBuilder::COLUMNS.map(Column::index);
    let batches: Vec<_> = blocks
        .iter()
        .map(|block| block_batch(block, 0..block.rows(), &columns).expect("columns of a block"))
        .collect();
    let rows: usize = blocks.iter().map(|block| block.rows()).sum();
    let build = || {
        let mut builder = IndexBuilder::new(7);
        batches.iter().for_each(|batch| builder.add_rows(batch));
        builder.end_row_group();
        builder.finish("")
    };
    let size = build().len() as f64 / rows as f64;
    writeln!(std::io::stdout(), "index: {size:.2} octets a row").expect("stdout takes a line");
    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Elements(rows as u64));
    group.bench_function("build", |b| b.iter(|| black_box(build())));
    group.finish();
}

/// A question whose answer is that there is nothing, from opening the store to what is said of
/// its gaps.
fn never_seen(c: &mut Criterion) {
    let store = tempfile::tempdir().expect("a directory");
    year::make(store.path()).expect("a store of many segments");
    let mut group = c.benchmark_group("never seen");
    for filter in ["host 203.0.113.9", "host 10.3.7.77", "net 203.0.113.0/24", "host 2001:db8::9"] {
        group.bench_function(filter, |b| b.iter(|| year::ask(store.path(), filter, 0)));
    }
    // One that was there for an hour every four days.
    group.bench_function("host 10.3.7.7", |b| {
        b.iter(|| year::ask(store.path(), "host 10.3.7.7 and bytes > 1g", 0));
    });
    group.finish();
}

criterion_group!(benches, index, never_seen);
criterion_main!(benches);
