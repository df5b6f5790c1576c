//! What datagrams are decoded to, and that the books balance whatever comes.

use super::*;
use crate::model::ie::{PEN_PROCESS, PEN_V9_SCOPE};
use crate::model::time::{SysUptime, UnixMillis};
use crate::model::{
    BATCH_ROWS_MAX, Column, ColumnSet, Extra, ExtraSpec, FlowBatch, FlowRecord,
    ObservationDomainId, RecordType, VARIABLE_LENGTH, Value,
};
use crate::wire::v9::{Header, MessageEncoder};
use crate::wire::{FieldSpecifier, OptionsTemplateRecord, TemplateId, TemplateRecord};
use std::net::SocketAddr;
use std::sync::Arc;

const EXPORT_SECONDS: u32 = 1_700_000_000;
const EXPORT_MILLIS: i64 = 1_700_000_000_000;
const UPTIME: SysUptime = SysUptime(3_600_000);
pub(super) const RECEIVED: UnixMillis = UnixMillis(EXPORT_MILLIS + 5_000);

/// A decoder with its books, and what it has decoded.
pub(super) struct Collector {
    decoder: Decoder,
    books: Arc<Books>,
    batch: FlowBatch,
    pub(super) records: Vec<FlowRecord>,
    full_count: usize,
}

impl Collector {
    pub(super) fn new() -> Self {
        Self::with_store(&DecoderConfig::default(), None)
    }

    fn with_store(config: &DecoderConfig, store: Option<Arc<TemplateStore>>) -> Self {
        let store = store.unwrap_or_else(|| Arc::new(TemplateStore::new(config)));
        let pending = Arc::new(PendingStore::in_memory(config.pending));
        let books = Arc::new(Books::default());
        Self {
            decoder: Decoder::new(config, store, pending, Arc::clone(&books)),
            books,
            batch: FlowBatch::new(),
            records: Vec::new(),
            full_count: 0,
        }
    }

    pub(super) fn receive_from(&mut self, peer: &str, datagram: &[u8], received: UnixMillis) {
        let peer: SocketAddr = peer.parse().unwrap();
        let (records, full_count) = (&mut self.records, &mut self.full_count);
        let mut full = |batch: &FlowBatch| {
            *full_count += 1;
            take(batch, records);
        };
        self.decoder.decode(datagram, peer.into(), received, &mut self.batch, &mut full);
        take(&self.batch, &mut self.records);
        self.batch.clear();
    }

    pub(super) fn receive(&mut self, datagram: &[u8]) {
        self.receive_from("192.0.2.1:2055", datagram, RECEIVED);
    }

    pub(super) fn idle(&mut self, now: UnixMillis) {
        self.decoder.idle(now, &mut self.batch, &mut |_| panic!("there is room"));
        take(&self.batch, &mut self.records);
        self.batch.clear();
    }

    pub(super) fn statistics(&self) -> Statistics {
        let statistics = self.books.statistics();
        let dropped: u64 = statistics.drops.values().sum();
        assert_eq!(statistics.datagrams, statistics.datagrams_decoded + dropped);
        assert_eq!(statistics.records, u64::try_from(self.records.len()).unwrap());
        statistics
    }
}

fn take(batch: &FlowBatch, records: &mut Vec<FlowRecord>) {
    records.extend((0..batch.len()).map(|row| batch.record(row).unwrap()));
}

fn id(raw: u16) -> TemplateId {
    TemplateId::new(raw).unwrap()
}

pub(super) fn template(raw_id: u16, fields: &[(u16, u16)]) -> TemplateRecord {
    TemplateRecord {
        id: id(raw_id),
        fields: fields.iter().map(|&field| specifier(0, field)).collect(),
    }
}

fn specifier(enterprise: u32, (id, length): (u16, u16)) -> FieldSpecifier {
    FieldSpecifier { enterprise, id, length }
}

/// A message of templates, then data sets.
pub(super) fn message(
    sequence: u32,
    templates: &[TemplateRecord],
    sets: &[(u16, &[u8])],
) -> Vec<u8> {
    let mut encoder = MessageEncoder::new(65_000);
    for template in templates {
        assert!(encoder.template(template));
    }
    for (raw_id, body) in sets {
        assert!(encoder.data(id(*raw_id), body.len(), |writer| writer.bytes(body)));
    }
    encoder.finish(header(sequence)).to_vec()
}

pub(super) fn header(sequence_number: u32) -> Header {
    Header {
        count: 0,
        sys_uptime: UPTIME,
        unix_seconds: EXPORT_SECONDS,
        sequence_number,
        source_id: ObservationDomainId(7),
    }
}

/// The one record of a template with these fields.
fn decode_one(fields: &[(u16, u16)], body: &[u8]) -> FlowRecord {
    let mut collector = Collector::new();
    collector.receive(&message(3, &[template(256, fields)], &[(256, body)]));
    assert_eq!(collector.statistics().records, 1);
    collector.records.remove(0)
}

pub(super) fn extra(enterprise: u32, id: u16, length: u16, value: &[u8]) -> Extra {
    Extra { spec: ExtraSpec { enterprise, id, length }, value: value.to_vec() }
}

pub(super) const OWN: &[Column] =
    &[Column::CollectionTimeMilliseconds, Column::ExportSequenceNumber, Column::ExportRecordIndex];

fn present(columns: &[Column]) -> ColumnSet {
    ColumnSet::of(OWN).union(ColumnSet::of(columns))
}

#[test]
fn every_record_says_when_and_in_which_message_it_came() {
    let mut collector = Collector::new();
    let body: Vec<u8> = (0..12).collect();
    collector.receive(&message(9, &[template(256, &[(1, 4)])], &[(256, &body)]));
    let octets: Vec<u64> = collector.records.iter().map(|r| r.octet_delta_count).collect();
    assert_eq!(octets, [0x0001_0203, 0x0405_0607, 0x0809_0a0b]);
    for (index, record) in collector.records.iter().enumerate() {
        assert_eq!(record.present, present(&[Column::OctetDeltaCount]));
        assert_eq!(record.collection_time_milliseconds, RECEIVED.0);
        assert_eq!(record.export_sequence_number, 9);
        assert_eq!(usize::from(record.export_record_index), index);
    }
}

#[test]
fn the_collection_time_can_be_left_out() {
    let config = DecoderConfig { with_collection_time: false, ..DecoderConfig::default() };
    let mut collector = Collector::with_store(&config, None);
    collector.receive(&message(9, &[template(256, &[(1, 4)])], &[(256, &[0; 4])]));
    let columns = collector.records[0].present;
    assert!(!columns.contains(Column::CollectionTimeMilliseconds));
    assert!(columns.contains(Column::ExportSequenceNumber));
}

#[test]
fn all_start_and_end_times_come_out_as_milliseconds() {
    let ntp = |seconds: u64, fraction: u64| {
        ((seconds + 2_208_988_800) << 32 | fraction).to_be_bytes().to_vec()
    };
    let millis = |millis: i64| millis.to_be_bytes().to_vec();
    let word = |value: u32| value.to_be_bytes().to_vec();
    let cases = [
        ("ms", 152, 153, [millis(1_234), millis(5_678)], [1_234, 5_678]),
        ("us", 154, 155, [ntp(5, 1 << 31), ntp(6, 0)], [5_500, 6_000]),
        ("ns", 156, 157, [ntp(7, 1 << 30), ntp(8, 0)], [7_250, 8_000]),
        ("s", 150, 151, [word(11), word(12)], [11_000, 12_000]),
        (
            "before export",
            158,
            159,
            [word(2_500_001), word(1_000)],
            [EXPORT_MILLIS - 2_501, EXPORT_MILLIS - 1],
        ),
        (
            "uptime",
            22,
            21,
            [word(UPTIME.0 - 2_000), word(UPTIME.0 + 10)],
            [EXPORT_MILLIS - 2_000, EXPORT_MILLIS + 10],
        ),
    ];
    for (name, start, end, [start_octets, end_octets], expected) in &cases {
        let length = |octets: &[u8]| u16::try_from(octets.len()).unwrap();
        let fields = [(*start, length(start_octets)), (*end, length(end_octets))];
        let record = decode_one(&fields, &[&start_octets[..], end_octets].concat());
        let times = [record.flow_start_milliseconds, record.flow_end_milliseconds];
        assert_eq!(times, *expected, "{name}");
        assert!(record.extras.is_empty(), "{name}");
        let columns = [Column::FlowStartMilliseconds, Column::FlowEndMilliseconds];
        assert_eq!(record.present, present(&columns), "{name}");
    }
}

#[test]
fn the_best_time_sent_is_used_and_the_others_are_dropped() {
    let best_first = [(152, 8u16), (154, 8), (150, 4), (158, 4), (22, 4)];
    for sent in 0..best_first.len() {
        // All from this one on, the best last in the record.
        let fields: Vec<(u16, u16)> = best_first[sent..].iter().rev().copied().collect();
        let size: usize = fields.iter().map(|&(_, length)| usize::from(length)).sum();
        let best = usize::from(best_first[sent].1);
        let mut body = vec![0xff; size - best];
        body.extend(&[0; 8][..best]);
        let record = decode_one(&fields, &body);
        let expected = match best_first[sent].0 {
            152 | 150 => 0,
            154 => -2_208_988_800_000,
            158 => EXPORT_MILLIS,
            _ => EXPORT_MILLIS - i64::from(UPTIME.0),
        };
        assert_eq!(record.flow_start_milliseconds, expected, "{fields:?}");
        assert!(record.extras.is_empty());
    }
}

#[test]
fn of_both_address_families_the_one_that_is_not_zero_is_kept() {
    let fields = [(8, 4), (27, 16), (12, 4), (28, 16), (4, 1)];
    let row = |source4: u8, source6: u8, destination4: u8, destination6: u8| {
        let mut row = vec![source4; 4];
        row.extend([source6; 16]);
        row.extend([destination4; 4]);
        row.extend([destination6; 16]);
        row.push(17);
        row
    };
    let (source4, source6) = (Column::SourceIpv4Address, Column::SourceIpv6Address);
    let (destination4, destination6) =
        (Column::DestinationIpv4Address, Column::DestinationIpv6Address);
    let cases = [
        (row(1, 0, 2, 0), vec![source4, destination4]),
        (row(3, 0, 4, 0), vec![source4, destination4]),
        (row(0, 1, 0, 2), vec![source6, destination6]),
        (row(0, 0, 2, 0), vec![source4, destination4]),
        (row(0, 0, 0, 2), vec![source6, destination6]),
        (row(0, 0, 0, 0), vec![source4, destination4]),
        (row(1, 1, 2, 2), vec![source4, source6, destination4, destination6]),
    ];
    let body: Vec<u8> = cases.iter().flat_map(|(row, _)| row.clone()).collect();
    let mut collector = Collector::new();
    collector.receive(&message(1, &[template(256, &fields)], &[(256, &body)]));
    assert_eq!(collector.records.len(), cases.len());
    for (record, (row, columns)) in collector.records.iter().zip(&cases) {
        let columns = present(columns).with(Column::ProtocolIdentifier);
        assert_eq!(record.present, columns);
        assert_eq!(record.protocol_identifier, 17);
        if columns.contains(source6) {
            assert_eq!(record.source_ipv6_address, [row[4]; 16]);
        } else {
            assert_eq!(record.source_ipv4_address, u32::from_be_bytes([row[0]; 4]));
        }
    }
    let indexes: Vec<u16> = collector.records.iter().map(|r| r.export_record_index).collect();
    assert_eq!(indexes, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn numbers_are_read_in_whatever_size_they_are_sent() {
    let fields = [(1, 3), (2, 1), (10, 2), (14, 4), (31, 3), (4, 2), (48, 8)];
    let small = [1, 0, 0, 5, 0, 9, 0, 0, 0, 8, 1, 2, 3, 0, 6, 0, 0, 0, 0, 0, 0, 0, 7];
    let record = decode_one(&fields, &small);
    assert_eq!(record.octet_delta_count, 65_536);
    assert_eq!(record.packet_delta_count, 5);
    assert_eq!((record.ingress_interface, record.egress_interface), (9, 8));
    assert_eq!(record.flow_label_ipv6, 0x0001_0203);
    assert_eq!((record.protocol_identifier, record.sampler_id), (6, 7));
    assert!(record.extras.is_empty());

    // A protocol beyond 255 does not fit its column: it and the sampler id are kept as sent.
    let mut large = small;
    large[13] = 1;
    let record = decode_one(&fields, &large);
    assert!(!record.present.contains(Column::ProtocolIdentifier));
    assert_eq!(
        record.extras,
        [extra(0, 4, 2, &[1, 6]), extra(0, 48, 8, &[0, 0, 0, 0, 0, 0, 0, 7])]
    );
    assert_eq!(record.packet_delta_count, 5);
}

#[test]
fn flags_are_the_low_twelve_bits() {
    assert_eq!(decode_one(&[(6, 2)], &[0x51, 0x12]).tcp_control_bits, 0x112);
    assert_eq!(decode_one(&[(6, 1)], &[0x12]).tcp_control_bits, 0x12);
}

#[test]
fn what_has_no_column_is_kept_as_sent() {
    let record = decode_one(
        &[(8, 4), (8, 4), (0, 0), (210, 2), (82, 4), (1, 0), (12_345, 1)],
        &[1, 1, 1, 1, 2, 2, 2, 2, 9, 9, b'e', b't', b'h', 0, 5],
    );
    assert_eq!(record.present, present(&[Column::SourceIpv4Address]));
    assert_eq!(record.source_ipv4_address, 0x0101_0101);
    assert_eq!(
        record.extras,
        [extra(0, 8, 4, &[2; 4]), extra(0, 82, 4, b"eth\0"), extra(0, 12_345, 1, &[5])]
    );
}

#[test]
fn field_types_of_firewalls_and_processes_are_their_elements() {
    let record = decode_one(
        &[(40_001, 4), (40_003, 2), (40_005, 1), (57_640, 4), (57_472, 1)],
        &[1, 2, 3, 4, 0, 80, 2, 0, 0, 0, 99, 7],
    );
    assert_eq!(record.value(Column::FirewallEvent), Some(Value::Unsigned(2)));
    assert_eq!(
        record.extras,
        [
            extra(0, 225, 4, &[1, 2, 3, 4]),
            extra(0, 227, 2, &[0, 80]),
            extra(PEN_PROCESS, 168, 4, &[0, 0, 0, 99]),
            extra(0, 57_472, 1, &[7]),
        ]
    );
}

#[test]
fn values_of_variable_length_keep_their_octets() {
    let long = [7; 300];
    let mut body = vec![3, b'a', b'b', b'c', 0, 6];
    body.extend([255, 1, 44]);
    body.extend(long);
    body.extend([0, 17]);
    let fields = [(82, VARIABLE_LENGTH), (7, 2)];
    let mut collector = Collector::new();
    collector.receive(&message(1, &[template(256, &fields)], &[(256, &body)]));
    assert_eq!(collector.statistics().sets_decoded, 1);
    let [first, second] = &collector.records[..] else {
        panic!("{} records", collector.records.len());
    };
    assert_eq!(first.extras, [extra(0, 82, VARIABLE_LENGTH, b"abc")]);
    assert_eq!(first.source_transport_port, 6);
    assert_eq!(second.extras, [extra(0, 82, VARIABLE_LENGTH, &long)]);
    assert_eq!(second.source_transport_port, 17);

    // A length that leads past the set.
    collector.receive(&message(2, &[], &[(256, &[200, 1, 2, 3])]));
    assert_eq!(collector.statistics().set_drops["malformed"], 1);
}

#[test]
fn options_data_are_records_with_their_scope() {
    let options = OptionsTemplateRecord {
        id: id(300),
        scopes: vec![specifier(PEN_V9_SCOPE, (2, 4))],
        options: vec![specifier(0, (48, 2)), specifier(0, (34, 4))],
    };
    let mut encoder = MessageEncoder::new(1_432);
    assert!(encoder.options_template(&options));
    let body = [0, 0, 0, 5, 0, 1, 0, 0, 3, 232];
    assert!(encoder.data(id(300), 10, |writer| writer.bytes(&body)));
    let mut collector = Collector::new();
    collector.receive(encoder.finish(header(1)));
    let record = &collector.records[0];
    assert_eq!(record.record_type, RecordType::Options);
    assert_eq!(record.present, present(&[Column::SamplerId, Column::SamplingInterval]));
    assert_eq!(record.value(Column::SamplerId), Some(Value::Unsigned(1)));
    assert_eq!(record.value(Column::SamplingInterval), Some(Value::Unsigned(1_000)));
    assert_eq!(record.extras, [extra(PEN_V9_SCOPE, 2, 4, &[0, 0, 0, 5])]);
}

#[test]
fn data_that_comes_before_its_template_is_decoded_when_it_is_there() {
    let mut collector = Collector::new();
    collector.receive(&message(1, &[], &[(256, &[1; 4])]));
    collector.receive(&message(2, &[], &[(256, &[2; 8]), (257, &[9; 4])]));
    let statistics = collector.statistics();
    assert_eq!((statistics.records, statistics.sets_held), (0, 3));
    let later = UnixMillis(RECEIVED.0 + 60_000);
    let with_template = message(3, &[template(256, &[(1, 4)])], &[(256, &[3; 4])]);
    collector.receive_from("192.0.2.1:2055", &with_template, later);
    let found: Vec<(u32, u32, i64)> = collector
        .records
        .iter()
        .map(|r| {
            let octet = u32::try_from(r.octet_delta_count & 0xff).unwrap();
            let received = r.collection_time_milliseconds - RECEIVED.0;
            (octet, r.export_sequence_number, received)
        })
        .collect();
    assert_eq!(found, [(1, 1, 0), (2, 2, 0), (2, 2, 0), (3, 3, 60_000)]);
    let statistics = collector.statistics();
    assert_eq!((statistics.sets_decoded, statistics.sets_held), (3, 1));

    // The other template never comes.
    collector.idle(UnixMillis(RECEIVED.0 + 3_600_000));
    let statistics = collector.statistics();
    assert_eq!(statistics.sets_held, 0);
    assert_eq!(statistics.set_drops["templateMissing"], 1);
    assert_eq!(statistics.exporters[0].set_drops["templateMissing"], 1);
}

#[test]
fn no_two_records_of_a_message_have_the_same_place() {
    let mut collector = Collector::new();
    let known = template(256, &[(4, 1)]);
    let sets: [(u16, &[u8]); 4] = [(256, &[1; 4]), (257, &[2; 8]), (256, &[3; 4]), (258, &[4; 4])];
    collector.receive(&message(1, &[known], &sets));
    assert_eq!(collector.records.len(), 8);
    // Records of one octet: as many as there can be.
    collector.receive(&message(2, &[template(257, &[(4, 1)]), template(258, &[(4, 1)])], &[]));
    let mut places: Vec<u16> = collector.records.iter().map(|r| r.export_record_index).collect();
    assert_eq!(places[..4], [0, 1, 2, 3]);
    places.sort_unstable();
    assert_eq!(places, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_template_that_another_worker_learns_serves_what_waits_here() {
    let config = DecoderConfig::default();
    let store = Arc::new(TemplateStore::new(&config));
    let mut waiting = Collector::with_store(&config, Some(Arc::clone(&store)));
    let mut learning = Collector::with_store(&config, Some(store));
    waiting.receive_from("192.0.2.1:1111", &message(1, &[], &[(256, &[1; 4])]), RECEIVED);
    assert!(waiting.records.is_empty());
    let templates = message(1, &[template(256, &[(1, 4)])], &[]);
    learning.receive_from("[::ffff:192.0.2.1]:2222", &templates, RECEIVED);
    waiting.idle(UnixMillis(RECEIVED.0 + 2_000));
    assert_eq!(waiting.records.len(), 1);
    assert_eq!(waiting.statistics().sets_held, 0);
}

#[test]
fn data_that_waits_finds_its_template_although_the_clock_was_set_back() {
    let config = DecoderConfig::default();
    let store = Arc::new(TemplateStore::new(&config));
    let mut waiting = Collector::with_store(&config, Some(Arc::clone(&store)));
    let mut learning = Collector::with_store(&config, Some(store));
    waiting.receive(&message(1, &[], &[(256, &[1; 4]), (257, &[1; 4])]));
    for (raw_id, ahead) in [(256, 2_000), (257, -86_400_000)] {
        learning.receive(&message(1, &[template(raw_id, &[(1, 4)])], &[]));
        waiting.idle(UnixMillis(RECEIVED.0 + ahead));
    }
    assert_eq!(waiting.statistics().sets_held, 0);
}

#[test]
fn a_full_batch_is_handed_on_and_nothing_is_lost() {
    let mut collector = Collector::new();
    // A multiple of four: no padding, which would read as records of one octet.
    let rows = 3 * BATCH_ROWS_MAX + 8;
    let body: Vec<u8> = (0..rows).map(|row| u8::try_from(row % 251).unwrap()).collect();
    collector.receive(&message(1, &[template(256, &[(4, 1)])], &[(256, &body)]));
    assert_eq!(collector.full_count, 3);
    let decoded: Vec<u8> = collector.records.iter().map(|r| r.protocol_identifier).collect();
    assert!(decoded == body, "rows differ from what was sent");
    let last = collector.records.last().unwrap();
    assert_eq!(usize::from(last.export_record_index), rows - 1);
}

#[test]
fn each_exporter_s_messages_and_gaps_are_counted() {
    let mut collector = Collector::new();
    collector.receive(&message(1, &[template(256, &[(4, 1)])], &[(256, &[1])]));
    collector.receive(&message(2, &[], &[(256, &[1, 2, 3, 4])]));
    collector.receive(&message(6, &[], &[(256, &[1])]));
    collector.receive(&message(4, &[], &[(256, &[1])]));
    // Another port has a sequence of its own.
    let other = message(1_000, &[], &[(256, &[1])]);
    collector.receive_from("192.0.2.1:3000", &other, RECEIVED);
    let statistics = collector.statistics();
    let [exporter] = &statistics.exporters[..] else {
        panic!("one exporter and domain");
    };
    assert_eq!(exporter.address.to_string(), "192.0.2.1");
    assert_eq!((exporter.domain, &*exporter.protocol), (7, "netflow-v9"));
    assert_eq!((exporter.messages, exporter.records), (5, 8));
    assert_eq!((exporter.sequence_gaps, exporter.messages_lost), (1, 2));
    assert_eq!((exporter.messages_missing, exporter.records_missing), (3, 0));
    assert_eq!((exporter.messages_late, exporter.restarts), (1, 0));
    let origin = crate::model::Origin {
        address: exporter.address,
        domain: ObservationDomainId(7),
        protocol: crate::model::Protocol::NetflowV9,
    };
    assert_eq!(collector.books.statistics_of(&origin).as_ref(), Some(exporter));
    assert_eq!(collector.books.totals().records, statistics.records);
    let text = serde_json::to_string(&statistics).unwrap();
    assert!(text.contains("\"sequenceGaps\":1"), "{text}");
    assert_eq!(serde_json::from_str::<Statistics>(&text).unwrap(), statistics);
}

#[test]
fn datagrams_of_no_protocol_or_without_a_header_are_dropped_by_reason() {
    let mut collector = Collector::new();
    collector.receive(&[]);
    collector.receive(&[0]);
    collector.receive(&[0, 9, 0, 0]);
    collector.receive(&[0, 5, 0, 0]);
    collector.receive(&[0, 10, 0, 0]);
    collector.receive(&[0, 6, 0, 0]);
    collector.receive(&[71, 69, 84]);
    // What comes before the damage is kept.
    let mut damaged = message(1, &[template(256, &[(4, 1)])], &[(256, &[1])]);
    damaged.extend([1, 0, 0, 99, 1]);
    collector.receive(&damaged);
    let statistics = collector.statistics();
    assert_eq!(statistics.drops["malformed"], 6);
    assert_eq!(statistics.drops["unsupportedVersion"], 2);
    assert_eq!((statistics.datagrams, statistics.records), (8, 1));
}

#[test]
fn a_message_that_alternates_templates_and_data_endlessly_is_bounded() {
    let mut encoder = MessageEncoder::new(65_000);
    for round in 0..100u16 {
        let length = round % 8 + 1;
        assert!(encoder.template(&template(256, &[(1, length)])));
        assert!(encoder.data(id(256), 8, |writer| writer.u64(0)));
    }
    let mut collector = Collector::new();
    collector.receive(encoder.finish(header(1)));
    let statistics = collector.statistics();
    assert_eq!(statistics.templates, 100);
    assert_eq!(statistics.template_drops["overLimit"], 84);
    assert_eq!(statistics.sets_decoded, 100);
}
