//! Datagrams in memory -> rows of a batch, and on into the ring's columns.

use bench::traffic;
use bench::v9::{self, Header, RECORDS_MAX};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowd::collect::{Books, Decoder, DecoderConfig, PendingStore, TemplateStore};
use flowd::model::FlowBatch;
use flowd::model::time::UnixMillis;
use std::net::SocketAddr;
use std::sync::Arc;

/// Datagrams a measurement, as one busy second of a router brings.
const DATAGRAMS: u32 = 1_000;

fn datagrams() -> Vec<Vec<u8>> {
    let encode = |sequence: u32| {
        let first = u64::from(sequence) * RECORDS_MAX as u64;
        let flows: Vec<_> =
            (first..first + RECORDS_MAX as u64).map(|index| traffic::flow(1, index)).collect();
        let header =
            Header { unix_seconds: 1_700_000_000, uptime_millis: 3_600_000, sequence, domain: 0 };
        let mut out = Vec::new();
        v9::encode(&mut out, header, sequence == 0, &flows);
        out
    };
    (0..DATAGRAMS).map(encode).collect()
}

fn decode(c: &mut Criterion) {
    let datagrams = datagrams();
    let peer: SocketAddr = "127.0.0.1:2055".parse().expect("an address");
    let config = DecoderConfig::default();
    let templates = Arc::new(TemplateStore::new(&config));
    let pending = Arc::new(PendingStore::in_memory(config.pending));
    let mut decoder = Decoder::new(&config, templates, pending, Arc::new(Books::default()));
    let mut batch = FlowBatch::new();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(DATAGRAMS) * RECORDS_MAX as u64));
    group.bench_function("v9/18-fields", |b| {
        b.iter(|| {
            for datagram in &datagrams {
                decoder.decode(datagram, peer.into(), UnixMillis(0), &mut batch, &mut |_| {});
            }
            batch.clear();
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
