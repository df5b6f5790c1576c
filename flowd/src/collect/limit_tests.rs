//! What a peer can make the collector do, counted: locks, sessions, templates, sets that wait.

use super::facts::Sampling;
use super::plan::Plan;
use super::*;
use crate::model::time::UnixMillis;
use crate::model::{ColumnSet, FlowBatch, ObservationDomainId, Origin, Protocol, RecordType};
use crate::wire::ipfix::{Header, MessageEncoder};
use crate::wire::{FieldSpecifier, TemplateId, TemplateRecord};
use std::net::SocketAddr;
use std::sync::Arc;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

struct Collector {
    store: Arc<TemplateStore>,
    pending: Arc<PendingStore>,
    books: Arc<Books>,
    decoder: Decoder,
    /// The source ports of all records.
    ports: Vec<u16>,
}

impl Collector {
    fn new() -> Self {
        let config = DecoderConfig::default();
        let store = Arc::new(TemplateStore::new(&config));
        let (pending, books) = (Arc::<PendingStore>::default(), Arc::<Books>::default());
        let decoder =
            Decoder::new(&config, Arc::clone(&store), Arc::clone(&pending), Arc::clone(&books));
        Self { store, pending, books, decoder, ports: Vec::new() }
    }

    fn receive(&mut self, peer: Peer, message: &[u8]) {
        let mut batch = FlowBatch::new();
        self.decoder.decode(message, peer, NOW, &mut batch, &mut |_| panic!("there is room"));
        let port = |row| batch.record(row).unwrap().source_transport_port;
        self.ports.extend((0..batch.len()).map(port));
    }
}

fn tcp(port: u16) -> Peer {
    Peer::tcp(SocketAddr::from(([192, 0, 2, 1], port)))
}

fn id(raw: u16) -> TemplateId {
    TemplateId::new(raw).unwrap()
}

/// Templates of a source port, then data sets.
fn message(templates: &[u16], sets: &[(u16, &[u8])]) -> Vec<u8> {
    let mut encoder = MessageEncoder::new(65_000);
    for &raw_id in templates {
        let fields = vec![FieldSpecifier { enterprise: 0, id: 7, length: 2 }];
        assert!(encoder.template(&TemplateRecord { id: id(raw_id), fields }));
    }
    for (raw_id, body) in sets {
        assert!(encoder.data(id(*raw_id), body.len(), |writer| writer.bytes(body)));
    }
    let domain = ObservationDomainId(0);
    let header = Header { length: 0, export_seconds: 1_700_000_000, sequence_number: 0, domain };
    encoder.finish(header).to_vec()
}

/// A message of one Set of id 2 with these words.
fn template_set(words: &[u16]) -> Vec<u8> {
    let mut message = message(&[], &[]);
    let size = 4 + 2 * words.len();
    message.extend([0, 2]);
    message.extend(u16::try_from(size).unwrap().to_be_bytes());
    message.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    message[2..4].copy_from_slice(&length);
    message
}

#[test]
fn a_storm_of_withdrawals_takes_the_lock_once() {
    let mut collector = Collector::new();
    let ids: Vec<u16> = (256..356).collect();
    collector.receive(tcp(1), &message(&ids, &[]));
    let words: Vec<u16> = (256..16_000).flat_map(|raw_id| [raw_id, 0]).collect();
    let locked = collector.store.locked();
    collector.receive(tcp(1), &template_set(&words));
    assert_eq!(collector.store.locked() - locked, 1);
    let statistics = collector.books.statistics();
    assert_eq!(statistics.withdrawals, 1_024);
    assert_eq!(statistics.template_drops["overLimit"], 15_744 - 1_024);
    // Those that were known are gone: their data waits.
    collector.receive(tcp(1), &message(&[], &[(256, &[0, 1]), (355, &[0, 2])]));
    assert_eq!((collector.pending.count(), collector.ports.len()), (2, 0));
}

#[test]
fn withdrawals_and_templates_alternate_at_no_more_cost_and_in_their_order() {
    let mut collector = Collector::new();
    let words: Vec<u16> = (256..1_000).flat_map(|id| [id, 0, id, 1, 7, 2]).collect();
    collector.receive(tcp(1), &template_set(&words));
    assert_eq!(collector.store.locked(), 2);
    collector.receive(tcp(1), &message(&[], &[(256, &[0, 1]), (999, &[0, 2])]));
    assert_eq!(collector.ports, [1, 2]);
    // Announced and withdrawn at once; no more than some times in one message.
    let words: Vec<u16> = (256..1_000).flat_map(|id| [id, 1, 7, 2, id, 0]).collect();
    let locked = collector.store.locked();
    collector.receive(tcp(1), &template_set(&words));
    assert!(collector.store.locked() - locked <= 32, "{}", collector.store.locked());
    collector.receive(tcp(1), &message(&[], &[(256, &[0, 3])]));
    assert_eq!(collector.pending.count(), 1);
}

#[test]
fn what_waits_for_a_template_goes_with_its_connection() {
    let mut collector = Collector::new();
    collector.receive(tcp(1), &message(&[], &[(256, &[0, 1])]));
    collector.receive(tcp(2), &message(&[256], &[(256, &[0, 2])]));
    assert_eq!(collector.ports, [2], "another connection's template is none of its own");
    collector.receive(tcp(3), &message(&[], &[(256, &[0, 3])]));
    collector.decoder.disconnect(tcp(1));
    assert_eq!(collector.pending.count(), 1);
    // The same port again, with another layout under the number.
    collector.receive(tcp(1), &message(&[256], &[(256, &[0, 4])]));
    collector.receive(tcp(3), &message(&[256], &[]));
    assert_eq!(collector.ports, [2, 4, 3]);
    let statistics = collector.books.statistics();
    assert_eq!((statistics.set_drops["templateMissing"], statistics.sets_held), (1, 0));
}

fn plan(fields: &[(u16, u16)]) -> Plan {
    let field = |&(id, length)| FieldSpecifier { enterprise: 0, id, length };
    let specifiers: Vec<_> = fields.iter().map(field).collect();
    Plan::compile(RecordType::Flow, &specifiers, Protocol::Ipfix, ColumnSet::EMPTY).unwrap()
}

#[test]
fn a_template_of_many_variants_counts_what_its_records_can_make_of_it() {
    let mut fields = vec![
        (8, 4),
        (27, 16),
        (12, 4),
        (28, 16),
        (15, 4),
        (62, 16), // both families
        (4, 1),
        (7, 2),
        (11, 2), // ICMP in the port
        (1, 16), // wide
    ];
    let few = plan(&fields).size();
    fields.extend(vec![(82, 1); 1_000]);
    let many = plan(&fields);
    let made: usize = (0..162).map(|index| size_of_val(&*many.variant(index).shape.extras)).sum();
    assert!(made >= 162 * 8_000, "{made}");
    assert!(many.size() > made, "{} {made}", many.size());
    assert!(few < 100_000, "{few}");
}

#[test]
fn samplers_beyond_the_limit_are_counted_and_the_others_stay() {
    let books = Books::default();
    let origin = Origin {
        address: [192, 0, 2, 1].into(),
        domain: ObservationDomainId(0),
        protocol: Protocol::Sflow,
    };
    let exporter = books.exporter(&origin);
    for round in 0..3 {
        for sampler in 0..1_030 {
            exporter.note_sampling(Sampling { sampler, interval: 10 + round }, NOW);
        }
    }
    let statistics = books.statistics();
    let row = &statistics.exporters[0];
    assert_eq!((row.sampling.len(), row.samplers_over_limit), (1_024, 18));
    assert!(row.sampling.iter().all(|sampling| sampling.interval == 12));
}
