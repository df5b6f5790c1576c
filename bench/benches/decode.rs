//! Messages in memory -> rows of a batch, by column as the ring takes them; and the same messages
//! through netflow_parser, as far as it decodes them.

use bench::streams::Stream;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flowd::collect::{Books, Decoder, DecoderConfig, TemplateStore};
use flowd::model::FlowBatch;
use flowd::model::time::UnixMillis;
use netflow_parser::NetflowParser;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

/// Messages a measurement, as one busy second of a router brings.
const MESSAGES: u32 = 1_000;

fn ours(c: &mut Criterion, stream: &Stream) {
    let peer: SocketAddr = "127.0.0.1:2055".parse().expect("an address");
    let config = DecoderConfig::default();
    let templates = Arc::new(TemplateStore::new(&config));
    let books = Arc::new(Books::default());
    let mut decoder = Decoder::new(&config, templates, Arc::default(), books);
    let mut batch = FlowBatch::new();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(MESSAGES) * stream.records as u64));
    group.bench_function(stream.name, |b| {
        b.iter(|| {
            for message in &stream.messages {
                decoder.decode(message, peer.into(), UnixMillis(0), &mut batch, &mut |_| {});
            }
            batch.clear();
        });
    });
    group.finish();
}

fn theirs(c: &mut Criterion, stream: &Stream) {
    let mut parser = NetflowParser::default();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(MESSAGES) * stream.records as u64));
    group.bench_function(BenchmarkId::new("netflow_parser", stream.name), |b| {
        b.iter(|| {
            for message in &stream.messages {
                assert!(black_box(parser.parse_bytes(message)).error.is_none());
            }
        });
    });
    group.finish();
}

fn decode(c: &mut Criterion) {
    for stream in [Stream::v9(MESSAGES), Stream::ipfix(MESSAGES), Stream::v5(MESSAGES)] {
        ours(c, &stream);
        theirs(c, &stream);
    }
    ours(c, &Stream::ipfix_with_extras(MESSAGES));
    ours(c, &Stream::ipfix_with_lists(MESSAGES));
    ours(c, &Stream::sflow(MESSAGES));
}

criterion_group!(benches, decode);
criterion_main!(benches);
