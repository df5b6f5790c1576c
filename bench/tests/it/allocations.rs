//! What decoding allocates: nothing for a record, once its template's plan is there.

use bench::alloc::measure;
use bench::streams::Stream;
use flowd::collect::{Books, Decoder, DecoderConfig, TemplateStore};
use flowd::model::FlowBatch;
use flowd::model::time::UnixMillis;
use std::net::SocketAddr;
use std::sync::Arc;

#[test]
fn records_of_every_protocol_allocate_nothing() {
    let streams = [
        Stream::v9(50),
        Stream::ipfix(50),
        Stream::ipfix_with_extras(50),
        Stream::ipfix_with_lists(50),
        Stream::v5(50),
        Stream::sflow(50),
    ];
    for Stream { name, records, messages } in streams {
        let config = DecoderConfig::default();
        let books = Arc::new(Books::default());
        let templates = Arc::new(TemplateStore::new(&config));
        let mut decoder = Decoder::new(&config, templates, Arc::default(), Arc::clone(&books));
        let mut batch = FlowBatch::new();
        let peer: SocketAddr = "127.0.0.1:2055".parse().unwrap();
        let mut decode = |messages: &[Vec<u8>]| {
            for message in messages {
                decoder.decode(message, peer.into(), UnixMillis(1), &mut batch, &mut |_| {});
            }
            batch.clear();
        };
        // The first pass learns the template, makes the plan's variants and the batch's memory.
        decode(&messages);
        let ((), counts) = measure(|| decode(&messages[1..]));
        assert_eq!(books.statistics().records, (records * (2 * messages.len() - 1)) as u64);
        assert_eq!(books.statistics().lists_over_limit, 0, "{name}");
        assert_eq!(counts.allocations, 0, "{name}");
    }
}
