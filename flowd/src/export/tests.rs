//! What collectors receive, message by message.

use super::*;
use crate::model::time::{SysUptime, UnixMillis};
use crate::model::{
    Column, ColumnSet, Extra, ExtraSpec, FlowRecord, ObservationDomainId, RecordType,
    VARIABLE_LENGTH,
};
use crate::wire::v9::{Header, Message, Set};
use crate::wire::{DataSet, OptionsTemplateRecord, TemplateChange, TemplateRecord};
use proptest::prelude::*;
use std::net::{SocketAddr, UdpSocket};

const BOOT: UnixMillis = UnixMillis(1_700_000_000_500);
pub(super) const NOW: UnixMillis = UnixMillis(1_700_003_600_999);

/// A message as a collector sees it.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) header: Header,
    pub(super) size: usize,
    templates: Vec<TemplateRecord>,
    pub(super) options_templates: Vec<OptionsTemplateRecord>,
    pub(super) data: Vec<Data>,
}

/// A data set.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) template_id: u16,
    pub(super) size: usize,
    pub(super) body: Vec<u8>,
    /// Templates that stand before it in the message.
    template_count: usize,
}

pub(super) struct Collector(pub(super) UdpSocket);

impl Collector {
    pub(super) fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self::on(socket)
    }

    /// Over loopback what was sent has arrived: there is nothing to wait for.
    pub(super) fn on(socket: UdpSocket) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    pub(super) fn config(&self) -> ExporterConfig {
        ExporterConfig {
            source_id: ObservationDomainId(42),
            ..ExporterConfig::new(vec![self.0.local_addr().unwrap()], BOOT)
        }
    }

    /// Ends, and waits until nobody has the address any more: a process that another test starts
    /// holds all sockets of this one for a moment, until it runs its own program.
    pub(super) fn close(self) {
        let SocketAddr::V4(address) = self.0.local_addr().unwrap() else { panic!("IPv4") };
        drop(self);
        let ip = u32::from_ne_bytes(address.ip().octets());
        // The local address is the first of a line.
        let entry = format!(": {ip:08X}:{:04X} ", address.port());
        let is_held =
            || std::fs::read_to_string("/proc/thread-self/net/udp").unwrap().contains(&entry);
        let mut looks = (0..5_000).take_while(|_| is_held());
        assert!(!looks.any(|look| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            look == 4_999
        }));
    }

    fn datagrams(&self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 65_536];
        std::iter::from_fn(|| {
            let size = self.0.recv(&mut buffer).ok()?;
            Some(buffer[..size].to_vec())
        })
        .collect()
    }

    pub(super) fn messages(&self) -> Vec<Received> {
        let datagrams = self.datagrams();
        datagrams.iter().map(|datagram| received(datagram)).collect()
    }
}

fn received(datagram: &[u8]) -> Received {
    let message = Message::decode(datagram).unwrap();
    let mut received = Received {
        header: message.header,
        size: datagram.len(),
        templates: Vec::new(),
        options_templates: Vec::new(),
        data: Vec::new(),
    };
    for set in message.sets {
        match set.unwrap() {
            Set::Templates(templates) => {
                for change in templates.map(Result::unwrap) {
                    match change {
                        TemplateChange::Data(template) => received.templates.push(template),
                        TemplateChange::Options(template) => {
                            received.options_templates.push(template);
                        }
                        TemplateChange::Withdrawal(other) => panic!("{other:?}"),
                    }
                }
            }
            Set::Data(DataSet { template_id, body }) => {
                received.data.push(Data {
                    template_id: template_id.get(),
                    size: body.len(),
                    body: body.to_vec(),
                    template_count: received.templates.len(),
                });
            }
            Set::Unknown(id) => panic!("set {id}"),
        }
    }
    received
}

fn record(columns: &[Column]) -> FlowRecord {
    FlowRecord {
        present: ColumnSet::of(columns),
        octet_delta_count: 1_000,
        packet_delta_count: 10,
        ..FlowRecord::default()
    }
}

pub(super) fn plain() -> FlowRecord {
    record(&[Column::OctetDeltaCount, Column::PacketDeltaCount, Column::FlowStartMilliseconds])
}

#[test]
fn a_message_tells_the_uptime_at_its_whole_second() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    exporter.export(&[plain()], NOW);
    assert!(collector.datagrams().is_empty(), "there is room for more");
    exporter.flush(NOW);
    let [message] = &collector.messages()[..] else {
        panic!("one message");
    };
    let expected = Header {
        count: 2,
        sys_uptime: SysUptime(3_599_500),
        unix_seconds: 1_700_003_600,
        sequence_number: 0,
        source_id: ObservationDomainId(42),
    };
    assert_eq!(message.header, expected);
}

#[test]
fn templates_come_in_the_first_message_and_then_every_twentieth() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    for _ in 0..45 {
        exporter.export(&[plain()], NOW);
        exporter.flush(NOW);
    }
    let messages = collector.messages();
    let with_templates: Vec<u32> = messages
        .iter()
        .filter(|message| !message.templates.is_empty())
        .map(|message| message.header.sequence_number)
        .collect();
    assert_eq!(with_templates, [0, 20, 40]);
    let sequence: Vec<u32> = messages.iter().map(|m| m.header.sequence_number).collect();
    assert_eq!(sequence, (0..45).collect::<Vec<_>>());
}

#[test]
fn templates_come_again_after_thirty_seconds() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    for seconds in [0, 10, 29, 30, 31, 59, 60] {
        let now = UnixMillis(NOW.0 + seconds * 1_000);
        exporter.export(&[plain()], now);
        exporter.flush(now);
    }
    let counts: Vec<usize> = collector.messages().iter().map(|m| m.templates.len()).collect();
    assert_eq!(counts, [1, 0, 0, 1, 0, 0, 1]);
}

#[test]
fn a_refresh_of_many_messages_is_not_due_again_at_once() {
    let collector = Collector::new();
    let config = ExporterConfig { message_size_max: 200, ..collector.config() };
    let mut exporter = Exporter::new(&config).unwrap();
    // Each template fills a message by itself.
    let kind = |first: u16| {
        let mut record = record(&[Column::OctetDeltaCount]);
        record.extras = (0..30).map(|field| extra(0, first + field, 1, &[1])).collect();
        record
    };
    let kinds: Vec<FlowRecord> = (0..25).map(|number| kind(1_000 + 30 * number)).collect();
    exporter.export(&kinds, NOW);
    for _ in 0..40 {
        exporter.export(&kinds[..1], NOW);
        exporter.flush(NOW);
    }
    let templates: usize = collector.messages().iter().map(|m| m.templates.len()).sum();
    // At first use, and again when twenty messages of records have been sent.
    assert!((50..=100).contains(&templates), "{templates} templates");
}

#[test]
fn a_template_is_announced_in_the_message_that_first_uses_it() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    exporter.export(&[plain()], NOW);
    exporter.flush(NOW);
    let other = record(&[Column::PacketDeltaCount, Column::VlanId]);
    // The new kind comes when a message of the old one is nearly full.
    let mut records = vec![plain(); 58];
    records.push(other);
    exporter.export(&records, NOW);
    exporter.flush(NOW);
    let mut known: Vec<u16> = Vec::new();
    for message in collector.messages() {
        assert!(message.size <= 1_432);
        let announced: Vec<u16> = message.templates.iter().map(|t| t.id.get()).collect();
        for data in &message.data {
            let is_known = known.contains(&data.template_id);
            let before = &announced[..data.template_count];
            assert!(is_known || before.contains(&data.template_id));
        }
        let has_new = message.data.iter().any(|data| data.template_id == 260);
        assert_eq!(has_new, announced.contains(&260));
        known.extend(announced);
    }
    assert_eq!(known, [259, 260]);
}

#[test]
fn a_template_has_what_the_record_has() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    let mut icmp = record(&[Column::ProtocolIdentifier, Column::IcmpTypeCodeIpv6]);
    icmp.extras = vec![
        extra(0, 82, 4, b"eth0"),
        extra(424_242, 1, 4, &[0; 4]),
        extra(0, 83, VARIABLE_LENGTH, b"long"),
    ];
    let mut flags = record(&[
        Column::TcpControlBits,
        Column::FlowEndMilliseconds,
        Column::ReverseOctetDeltaCount,
        Column::ExportSequenceNumber,
    ]);
    exporter.export(&[icmp, flags.clone()], NOW);
    flags.tcp_control_bits = 0x100;
    exporter.export(&[flags], NOW);
    exporter.flush(NOW);
    let templates = collector.messages().remove(0).templates;
    let fields = |index: usize| -> Vec<(u16, u16)> {
        let fields = &templates[index].fields;
        fields.iter().map(|field| (field.id, field.length)).collect()
    };
    assert_eq!(fields(0), [(4, 1), (7, 2), (11, 2), (32, 2), (82, 4)]);
    assert_eq!(fields(1), [(21, 4), (153, 8), (6, 1)]);
    assert_eq!(fields(2), [(21, 4), (153, 8), (6, 2)]);
    assert_eq!(exporter.statistics()[0].fields_left_out, 4);
}

fn extra(enterprise: u32, id: u16, length: u16, value: &[u8]) -> Extra {
    Extra { spec: ExtraSpec { enterprise, id, length }, value: value.to_vec() }
}

#[test]
fn what_cannot_be_exported_is_counted_by_reason() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    let mut options = plain();
    options.record_type = RecordType::Options;
    let mut large = plain();
    large.extras = vec![extra(0, 313, 1_450, &[1; 1_450])];
    let nothing = record(&[Column::CollectionTimeMilliseconds]);
    // Its record has room in a datagram, but its template of four octets a field has not.
    let mut narrow = plain();
    narrow.extras = (1_000..1_360).map(|id| extra(0, id, 1, &[1])).collect();
    exporter.export(&[options, large, narrow, nothing, plain()], NOW);
    exporter.flush(NOW);
    let statistics = exporter.statistics().remove(0);
    let reasons: Vec<(&str, u64)> = statistics
        .not_sent
        .iter()
        .map(|(reason, totals)| (reason.as_str(), totals.records))
        .collect();
    assert_eq!(reasons, [("noFields", 1), ("notAFlow", 1), ("tooLarge", 2)]);
    let one = Totals { records: 1, packets: 10, octets: 1_000 };
    assert_eq!(statistics.exported, one);
    let two = Totals { records: 2, packets: 20, octets: 2_000 };
    assert_eq!(statistics.not_sent["tooLarge"], two);
}

#[test]
fn each_collector_has_its_own_books() {
    let (first, second) = (Collector::new(), Collector::new());
    let closed = Collector::new().0.local_addr().unwrap();
    let mut config = first.config();
    config.collectors.push(closed);
    config.collectors.push(second.0.local_addr().unwrap());
    let mut exporter = Exporter::new(&config).unwrap();
    for _ in 0..5 {
        exporter.export(&vec![plain(); 100], NOW);
    }
    exporter.flush(NOW);
    assert_eq!(first.messages().len(), second.messages().len());
    let [one, refused, other] = &exporter.statistics()[..] else {
        panic!("three collectors");
    };
    assert_eq!((one.exported.records, other.exported.records), (500, 500));
    assert_eq!(refused.exported.records, 0);
    assert_eq!(refused.not_sent["refused"].records, 500);
    let text = serde_json::to_string(one).unwrap();
    assert_eq!(&serde_json::from_str::<CollectorStatistics>(&text).unwrap(), one);
}

#[test]
fn a_collector_that_comes_back_gets_the_templates_first() {
    let collector = Collector::new();
    let address = collector.0.local_addr().unwrap();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    let mut send = || {
        exporter.export(&[plain()], NOW);
        exporter.flush(NOW);
    };
    send();
    assert_eq!(collector.messages().len(), 1);
    collector.close();
    send();
    let collector = Collector::on(UdpSocket::bind(address).unwrap());
    send();
    let messages = collector.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].templates.len(), 1);
    assert_eq!(messages[0].header.sequence_number, 2);
    let statistics = exporter.statistics().remove(0);
    assert_eq!(statistics.exported.records, 2);
    assert_eq!(statistics.not_sent["refused"].records, 1);
}

#[test]
fn there_is_no_way_to_some_collectors() {
    let config = ExporterConfig::new(vec!["255.255.255.255:2055".parse().unwrap()], BOOT);
    let error = Exporter::new(&config).unwrap_err();
    assert!(error.to_string().contains("255.255.255.255:2055"), "{error}");
}

proptest! {
    #[test]
    fn records_of_any_kind_fill_their_template(
        kinds in proptest::collection::vec(any::<u64>(), 1..60),
        messages_of in 1usize..40,
    ) {
        let collector = Collector::new();
        let mut exporter = Exporter::new(&collector.config()).unwrap();
        let all = (1u64 << Column::COUNT) - 1;
        let records: Vec<FlowRecord> = kinds
            .iter()
            .map(|bits| FlowRecord {
                present: ColumnSet::from_bits(bits & all).unwrap(),
                tcp_control_bits: u16::try_from(bits & 0xfff).unwrap(),
                ..FlowRecord::default()
            })
            .collect();
        for chunk in records.chunks(messages_of) {
            exporter.export(chunk, NOW);
        }
        exporter.flush(NOW);
        let mut sizes = std::collections::HashMap::new();
        let mut received = 0;
        for message in collector.messages() {
            prop_assert!(message.size <= 1_432);
            for template in &message.templates {
                let size: usize = template.fields.iter().map(|f| usize::from(f.length)).sum();
                sizes.insert(template.id.get(), size);
            }
            for data in message.data {
                let record_size = sizes[&data.template_id];
                prop_assert!(data.size % record_size < 4);
                received += data.size / record_size;
            }
        }
        let statistics = exporter.statistics().remove(0);
        prop_assert_eq!(u64::try_from(received).unwrap(), statistics.exported.records);
        let not_sent: u64 = statistics.not_sent.values().map(|totals| totals.records).sum();
        let given = u64::try_from(records.len()).unwrap();
        prop_assert_eq!(statistics.exported.records + not_sent, given);
    }
}
