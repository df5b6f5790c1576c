//! Datagrams in memory -> rows of a batch, by column as the ring takes them.

use bench::traffic::{self, Flow};
use bench::v9::Header;
use bench::{ipfix, v5, v9};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowd::collect::{Books, Decoder, DecoderConfig, PendingStore, TemplateStore};
use flowd::model::FlowBatch;
use flowd::model::time::UnixMillis;
use std::net::SocketAddr;
use std::sync::Arc;

/// Datagrams a measurement, as one busy second of a router brings.
const DATAGRAMS: u32 = 1_000;

/// Datagrams of `records` flows each, numbered by `units` a datagram.
fn datagrams(
    records: usize,
    units: u32,
    encode: impl Fn(&mut Vec<u8>, Header, bool, &[Flow]),
) -> Vec<Vec<u8>> {
    let datagram = |number: u32| {
        let first = u64::from(number) * records as u64;
        let flows: Vec<_> =
            (first..first + records as u64).map(|index| traffic::flow(1, index)).collect();
        let header = Header {
            unix_seconds: 1_700_000_000,
            uptime_millis: 3_600_000,
            sequence: number * units,
            domain: 0,
        };
        let mut out = Vec::new();
        encode(&mut out, header, number == 0, &flows);
        out
    };
    (0..DATAGRAMS).map(datagram).collect()
}

fn bench(c: &mut Criterion, name: &str, records: usize, datagrams: &[Vec<u8>]) {
    let peer: SocketAddr = "127.0.0.1:2055".parse().expect("an address");
    let config = DecoderConfig::default();
    let templates = Arc::new(TemplateStore::new(&config));
    let pending = Arc::new(PendingStore::in_memory(config.pending));
    let mut decoder = Decoder::new(&config, templates, pending, Arc::new(Books::default()));
    let mut batch = FlowBatch::new();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(DATAGRAMS) * records as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            for datagram in datagrams {
                decoder.decode(datagram, peer.into(), UnixMillis(0), &mut batch, &mut |_| {});
            }
            batch.clear();
        });
    });
    group.finish();
}

fn decode(c: &mut Criterion) {
    let v9_datagrams = datagrams(v9::RECORDS_MAX, 1, v9::encode);
    bench(c, "v9/18-fields", v9::RECORDS_MAX, &v9_datagrams);
    let units = ipfix::RECORDS_MAX as u32;
    let ipfix_datagrams = datagrams(ipfix::RECORDS_MAX, units, ipfix::encode);
    bench(c, "ipfix/18-fields", ipfix::RECORDS_MAX, &ipfix_datagrams);
    let v5_datagrams =
        datagrams(v5::RECORDS_MAX, v5::RECORDS_MAX as u32, |out, header, _, flows| {
            v5::encode(out, header, flows);
        });
    bench(c, "v5", v5::RECORDS_MAX, &v5_datagrams);
}

criterion_group!(benches, decode);
criterion_main!(benches);
