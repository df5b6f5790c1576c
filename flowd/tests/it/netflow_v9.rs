//! NetFlow v9 from end to end: what is exported is what is collected, by flowd and by others.

#![expect(clippy::unwrap_used, reason = "what fails here is the test itself")]

use flowd::collect::{Books, Decoder, DecoderConfig, PendingStore, Statistics, TemplateStore};
use flowd::export::{Exporter, ExporterConfig, Pace, Sampling};
use flowd::model::time::UnixMillis;
use flowd::model::{
    Column, Extra, ExtraSpec, FlowBatch, FlowRecord, RecordType, TcpControlBits, ie,
};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The clock of the capture that the flows below are of.
const BEGIN: i64 = 1_700_000_000_123;
const BOOT: UnixMillis = UnixMillis(BEGIN - 3_600_000);

fn flow(number: u16, source: &str, destination: &str, protocol: u8) -> FlowRecord {
    let mut record = FlowRecord {
        protocol_identifier: protocol,
        octet_delta_count: 5_000_000_000 + u64::from(number),
        packet_delta_count: 40 + u64::from(number),
        flow_start_milliseconds: BEGIN + i64::from(number) * 7,
        flow_end_milliseconds: BEGIN + i64::from(number) * 11 + 1,
        ip_class_of_service: 0x28,
        minimum_ttl: 63,
        maximum_ttl: 64,
        flow_end_reason: 1,
        ..FlowRecord::default()
    };
    record.present.insert(Column::ProtocolIdentifier);
    record.present.insert(Column::OctetDeltaCount);
    record.present.insert(Column::PacketDeltaCount);
    record.present.insert(Column::FlowStartMilliseconds);
    record.present.insert(Column::FlowEndMilliseconds);
    record.present.insert(Column::IpClassOfService);
    record.present.insert(Column::MinimumTtl);
    record.present.insert(Column::MaximumTtl);
    record.present.insert(Column::FlowEndReason);
    record.set_source_address(source.parse().unwrap());
    record.set_destination_address(destination.parse().unwrap());
    record
}

fn with_ports(mut record: FlowRecord, source: u16, destination: u16, flags: u16) -> FlowRecord {
    record.source_transport_port = source;
    record.destination_transport_port = destination;
    record.present.insert(Column::SourceTransportPort);
    record.present.insert(Column::DestinationTransportPort);
    if record.protocol_identifier == 6 {
        record.tcp_control_bits = flags;
        record.present.insert(Column::TcpControlBits);
    }
    record
}

/// Flows of every kind that metering makes, `count` in all.
fn flows(count: u16) -> Vec<FlowRecord> {
    let one = |number: u16| match number % 6 {
        0 => with_ports(flow(number, "192.0.2.1", "198.51.100.2", 6), 40_000, 443, 0x1b),
        1 => with_ports(flow(number, "192.0.2.3", "198.51.100.4", 17), 53, 1_024, 0),
        2 => with_ports(flow(number, "2001:db8::1", "2001:db8::2", 6), 50_000, 22, 0x12),
        3 => {
            let mut record = flow(number, "192.0.2.5", "198.51.100.6", 1);
            record.icmp_type_code_ipv4 = 0x0301;
            record.present.insert(Column::IcmpTypeCodeIpv4);
            record
        }
        4 => {
            let mut record = flow(number, "2001:db8::3", "2001:db8::4", 58);
            record.icmp_type_code_ipv6 = 0x8000;
            record.flow_label_ipv6 = 0x000a_bcde;
            record.present.insert(Column::IcmpTypeCodeIpv6);
            record.present.insert(Column::FlowLabelIpv6);
            record
        }
        _ => {
            let mut record = flow(number, "192.0.2.7", "198.51.100.8", 6);
            record.vlan_id = 42;
            record.source_mac_address = [2, 0, 0, 0, 0, 1];
            record.destination_mac_address = [2, 0, 0, 0, 0, 2];
            record.present.insert(Column::VlanId);
            record.present.insert(Column::SourceMacAddress);
            record.present.insert(Column::DestinationMacAddress);
            // AccECN's bit lies above the eight that most flows have.
            with_ports(record, 50_001, 80, 0x11b)
        }
    };
    (0..count).map(one).collect()
}

/// Exports records to a socket of ours and decodes what arrives.
fn export_and_decode(
    records: &[FlowRecord],
    configure: impl FnOnce(&mut ExporterConfig),
) -> (Vec<FlowRecord>, Statistics) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut config = ExporterConfig::new(vec![socket.local_addr().unwrap()], BOOT);
    configure(&mut config);
    let mut exporter = Exporter::new(&config).unwrap();

    let decoder_config = DecoderConfig { with_collection_time: false, ..DecoderConfig::default() };
    let books = Arc::new(Books::default());
    let store = Arc::new(TemplateStore::new(&decoder_config));
    let pending = Arc::new(PendingStore::in_memory(decoder_config.pending));
    let mut decoder = Decoder::new(&decoder_config, store, pending, Arc::clone(&books));
    let mut batch = FlowBatch::new();
    let mut decoded = Vec::new();
    let mut receive = |is_last: bool| {
        let mut datagram = [0; 65_536];
        socket.set_nonblocking(!is_last).unwrap();
        let mut take = |batch: &FlowBatch| {
            decoded.extend((0..batch.len()).map(|row| batch.record(row).unwrap()));
        };
        while let Ok((size, peer)) = socket.recv_from(&mut datagram) {
            assert!(size <= 1_432);
            decoder.decode(&datagram[..size], peer.into(), BOOT, &mut batch, &mut take);
        }
        take(&batch);
        batch.clear();
    };
    for (part, chunk) in records.chunks(100).enumerate() {
        let now = BEGIN + 60_000 + i64::try_from(part).unwrap() * 999;
        exporter.export(chunk, UnixMillis(now));
        receive(false);
    }
    exporter.flush(UnixMillis(BEGIN + 120_777));
    receive(true);
    let statistics = exporter.statistics();
    assert_eq!(statistics[0].exported.records, u64::try_from(records.len()).unwrap());
    assert!(statistics[0].not_sent.is_empty());
    (decoded, books.statistics())
}

/// A record without what the exporter adds for collectors that know no better: for ICMP the
/// destination port.
fn essential(mut record: FlowRecord) -> FlowRecord {
    record.present.remove(Column::ExportSequenceNumber);
    record.present.remove(Column::ExportRecordIndex);
    (record.export_sequence_number, record.export_record_index) = (0, 0);
    let icmp = match record.protocol_identifier {
        1 => record.icmp_type_code_ipv4,
        58 => record.icmp_type_code_ipv6,
        _ => return record,
    };
    assert_eq!(record.source_transport_port, 0);
    assert_eq!(record.destination_transport_port, icmp);
    record.present.remove(Column::SourceTransportPort);
    record.present.remove(Column::DestinationTransportPort);
    record.destination_transport_port = 0;
    record
}

#[test]
fn what_is_exported_is_collected() {
    let mut records = flows(5_000);
    for (number, record) in records.iter_mut().enumerate().step_by(9) {
        record.extras = vec![
            extra(ie::PEN_PROCESS, 168, &u32::try_from(number).unwrap().to_be_bytes()),
            extra(0, 82, b"eth0\0\0\0\0"),
        ];
    }
    let (decoded, statistics) = export_and_decode(&records, |_| {});
    let decoded: Vec<FlowRecord> = decoded.into_iter().map(essential).collect();
    assert_eq!(decoded.len(), records.len());
    for (number, (decoded, record)) in decoded.iter().zip(&records).enumerate() {
        assert_eq!(decoded, record, "record {number}");
    }
    let exporter = &statistics.exporters[0];
    assert_eq!((exporter.sequence_gaps, exporter.restarts, exporter.messages_lost), (0, 0, 0));
    assert_eq!((exporter.messages, exporter.records), (statistics.datagrams, 5_000));
    assert_eq!(statistics.sets, statistics.sets_decoded);
    assert!(statistics.drops.is_empty() && statistics.template_drops.is_empty());
}

fn extra(enterprise: u32, id: u16, value: &[u8]) -> Extra {
    Extra {
        spec: ExtraSpec { enterprise, id, length: u16::try_from(value.len()).unwrap() },
        value: value.to_vec(),
    }
}

#[test]
fn sampling_is_told_as_options_data() {
    let (decoded, _) = export_and_decode(&flows(10), |config| {
        config.sampling = Some(Sampling { interval: NonZeroU32::new(64).unwrap() });
    });
    assert_eq!(decoded.len(), 11);
    let options = &decoded[0];
    assert_eq!(options.record_type, RecordType::Options);
    assert_eq!(options.extras, [extra(ie::PEN_V9_SCOPE, 1, &[0; 4]), extra(0, 35, &[2])]);
    assert!(options.present.contains(Column::SamplingInterval));
    assert_eq!(options.sampling_interval, 64);
}

#[test]
fn records_for_a_collector_that_is_not_there_are_not_called_exported() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut exporter = Exporter::new(&ExporterConfig::new(vec![closed], BOOT)).unwrap();
    let records = flows(500);
    exporter.export(&records, UnixMillis(BEGIN));
    exporter.flush(UnixMillis(BEGIN));
    let statistics = exporter.statistics().remove(0);
    assert_eq!(statistics.exported.records, 0);
    assert_eq!(statistics.not_sent["refused"].records, 500);
    let packets: u64 = records.iter().map(|r| r.packet_delta_count).sum();
    assert_eq!(statistics.not_sent["refused"].packets, packets);
}

/// Debian's nfcapd, collecting into a folder.
struct Nfcapd {
    child: Child,
    folder: tempfile::TempDir,
}

impl Nfcapd {
    /// None if nfdump is not installed.
    fn start(port: u16) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let flows = folder.path().join("flows");
        std::fs::create_dir(&flows).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("nfcapd")
            .args(["-w", flows.to_str().unwrap(), "-p"])
            .args([&port.to_string(), "-b", "127.0.0.1", "-t", "3600", "-E"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .ok()?;
        let nfcapd = Self { child, folder };
        let end = Instant::now() + Duration::from_secs(10);
        while UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], port))).is_ok() {
            assert!(Instant::now() < end, "nfcapd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(nfcapd)
    }

    /// Stops it; its flows as JSON, and what it said.
    fn stop(mut self) -> (serde_json::Value, String) {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.child.wait().unwrap();
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        let dump = Command::new("nfdump")
            .env("TZ", "UTC")
            .args(["-R", self.folder.path().join("flows").to_str().unwrap(), "-o", "json"])
            .output()
            .unwrap();
        let flows = serde_json::from_slice(&dump.stdout).unwrap_or_default();
        (flows, log)
    }
}

#[test]
fn nfcapd_reads_the_same_flows_without_complaint() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(nfcapd) = Nfcapd::start(port) else {
        println!("skipped: nfdump is not installed");
        return;
    };
    let mut config = ExporterConfig::new(vec![SocketAddr::from(([127, 0, 0, 1], port))], BOOT);
    config.pace = Pace::AsTaken { remote_rate: NonZeroU32::MIN };
    let mut exporter = Exporter::new(&config).unwrap();
    let records = flows(3_000);
    exporter.export(&records, UnixMillis(BEGIN + 40_000));
    exporter.flush(UnixMillis(BEGIN + 40_500));
    std::thread::sleep(Duration::from_millis(500));
    let (flows, log) = nfcapd.stop();
    for complaint in ["Sequence Errors: 0, Bad Packets: 0", "Flows: 3000,"] {
        assert!(log.contains(complaint), "{log}");
    }
    assert!(!log.to_lowercase().contains("unknown"), "{log}");
    let flows = flows.as_array().unwrap();
    assert_eq!(flows.len(), records.len());
    for (flow, record) in flows.iter().zip(&records) {
        let text = |name: &str| flow[name].as_str().map(str::to_owned);
        let number = |name: &str| flow[name].as_u64();
        let address = |end: &str| {
            let address = text(&format!("{end}4_addr")).or_else(|| text(&format!("{end}6_addr")));
            address.and_then(|address| address.parse::<IpAddr>().ok())
        };
        assert_eq!(address("src"), record.source_address());
        assert_eq!(address("dst"), record.destination_address());
        assert_eq!(number("proto"), Some(record.protocol_identifier.into()));
        assert_eq!(number("in_packets"), Some(record.packet_delta_count));
        assert_eq!(number("in_bytes"), Some(record.octet_delta_count));
        let time = |millis| Some(UnixMillis(millis).to_string());
        let zulu = |name| text(name).map(|time| format!("{time}Z"));
        assert_eq!(zulu("first"), time(record.flow_start_milliseconds));
        assert_eq!(zulu("last"), time(record.flow_end_milliseconds));
        if record.present.contains(Column::SourceTransportPort) {
            assert_eq!(number("src_port"), Some(record.source_transport_port.into()));
            assert_eq!(number("dst_port"), Some(record.destination_transport_port.into()));
        } else {
            let icmp = record.icmp_type_code_ipv4 | record.icmp_type_code_ipv6;
            assert_eq!(number("icmp_type"), Some((icmp >> 8).into()));
            assert_eq!(number("icmp_code"), Some((icmp & 0xff).into()));
        }
        if record.present.contains(Column::TcpControlBits) {
            let flags = TcpControlBits(record.tcp_control_bits).to_string();
            assert_eq!(text("tcp_flags"), Some(flags));
        }
    }
}
