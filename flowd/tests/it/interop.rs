//! Foreign programs at both ends: nfcapd reads what flowd exports, flowd reads what softflowd does.

use crate::support::{
    Background, Collector, Ended, end_of, free_port, has_program, run, summary, test_pcap,
    wait_until,
};
use flowd::collect::{Books, Decoder, DecoderConfig, PendingStore, TemplateStore};
use flowd::export::{Exporter, ExporterConfig, InterfaceOptions, PointLedger, Sampling};
use flowd::model::ie::PEN_V9_SCOPE;
use flowd::model::time::UnixMillis;
use flowd::model::{Column, Extra, FlowBatch, FlowRecord, RecordType, Volume};
use flowd_common::{Direction, ObservationPoint};
use serde_json::Value;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const NFCAPD: &str = "/usr/bin/nfcapd";
pub(crate) const NFDUMP: &str = "/usr/bin/nfdump";
const SOFTFLOWD: &str = "/usr/sbin/softflowd";
pub(crate) const TSHARK: &str = "/usr/bin/tshark";

/// Starts nfcapd on a free port, writing into `folder`.
pub(crate) fn start_nfcapd(folder: &Path) -> (Background, u16) {
    let port = free_port();
    std::fs::create_dir_all(folder).unwrap();
    let nfcapd = Background::start(Command::new(NFCAPD).args([
        "-b",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-B",
        "4000000",
        "-w",
        folder.to_str().unwrap(),
    ]));
    wait_until("nfcapd listens", || is_bound(port));
    (nfcapd, port)
}

/// Does somebody listen on this UDP port?
fn is_bound(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    table.contains(&format!(":{port:04X} "))
}

/// Waits until the socket on this port has been read empty. nfcapd works on what it has read
/// before it looks at a signal.
pub(crate) fn wait_until_read(port: u16) {
    wait_until("the datagrams are read", || {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap();
        let line = table.lines().find(|line| line.contains(&format!(":{port:04X} "))).unwrap();
        line.split_whitespace().nth(4).unwrap().ends_with(":00000000")
    });
}

/// All records that nfcapd stored.
pub(crate) fn nfdump(folder: &Path) -> Vec<Value> {
    let ended =
        end_of(Command::new(NFDUMP).args(["-o", "json", "-R", folder.to_str().unwrap()])).ok();
    let start = ended.stdout.find('[').expect("a JSON array");
    serde_json::from_str(&ended.stdout[start..]).expect("nfdump's JSON")
}

/// One flow as both programs tell it.
type Flow = (String, String, u64, u64, u64, u64, u64, String, i64, i64);

fn millis(text: &str) -> i64 {
    let digits: Vec<i64> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().unwrap())
        .collect();
    let [year, month, day, hour, minute, second, milli] = digits[..] else {
        panic!("a time: {text}")
    };
    let in_day = ((hour * 60 + minute) * 60 + second) * 1000 + milli;
    let (month, day) = (u8::try_from(month).unwrap(), u8::try_from(day).unwrap());
    UnixMillis::from_civil(year, month, day, in_day).0
}

fn text_of(record: &Value, names: [&str; 2]) -> String {
    let text = names.iter().find_map(|name| record[name].as_str()).unwrap_or_default();
    text.parse::<std::net::IpAddr>().map_or_else(|_| text.to_owned(), |address| address.to_string())
}

fn flow_of_nfdump(record: &Value) -> Flow {
    let number = |name: &str| record[name].as_u64().unwrap_or_default();
    let is_icmp = matches!(number("proto"), 1 | 58);
    let icmp = number("icmp_type") * 256 + number("icmp_code");
    (
        text_of(record, ["src4_addr", "src6_addr"]),
        text_of(record, ["dst4_addr", "dst6_addr"]),
        number("proto"),
        if is_icmp { 0 } else { number("src_port") },
        if is_icmp { icmp } else { number("dst_port") },
        number("in_packets"),
        number("in_bytes"),
        record["tcp_flags"].as_str().unwrap_or("........").to_owned(),
        millis(record["first"].as_str().unwrap()),
        millis(record["last"].as_str().unwrap()),
    )
}

fn flow_of_flowd(record: &Value) -> Flow {
    let number = |name: &str| record[name].as_u64().unwrap_or_default();
    let is_icmp = matches!(number("protocolIdentifier"), 1 | 58);
    let icmp = number("icmpTypeCodeIPv4") + number("icmpTypeCodeIPv6");
    let flags = flowd::model::TcpControlBits(u16::try_from(number("tcpControlBits")).unwrap());
    (
        text_of(record, ["sourceIPv4Address", "sourceIPv6Address"]),
        text_of(record, ["destinationIPv4Address", "destinationIPv6Address"]),
        number("protocolIdentifier"),
        if is_icmp { 0 } else { number("sourceTransportPort") },
        if is_icmp { icmp } else { number("destinationTransportPort") },
        number("packetDeltaCount"),
        number("octetDeltaCount"),
        flags.to_string(),
        millis(record["flowStartMilliseconds"].as_str().unwrap()),
        millis(record["flowEndMilliseconds"].as_str().unwrap()),
    )
}

/// The line in which nfcapd sums up an exporter at its end; no fault may stand in it.
pub(crate) fn assert_no_fault(nfcapd: &Ended) {
    let said = format!("{}{}", nfcapd.stdout, nfcapd.stderr);
    let sums: Vec<&str> = said.lines().filter(|line| line.contains("Sequence Errors:")).collect();
    assert!(!sums.is_empty(), "{said}");
    for line in sums {
        assert!(line.contains("Sequence Errors: 0"), "{line}");
        assert!(line.contains("Bad Packets: 0"), "{line}");
    }
    for word in ["rror:", "orrupt", "nknown", "ailed", "arning", "nvalid", "error", "extra bytes"] {
        assert!(!said.contains(word), "{said}");
    }
}

#[test]
fn nfcapd_reads_our_export_without_a_fault_and_sees_the_same_flows() {
    if !(has_program(NFCAPD) && has_program(NFDUMP)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let capture = test_pcap("demo-traffic.pcap");
    let (nfcapd, port) = start_nfcapd(folder.path());
    run(&["replay", &capture, "--collector", &format!("udp://127.0.0.1:{port}")]).ok();
    wait_until_read(port);
    assert_no_fault(&nfcapd.terminate());

    let mut theirs: Vec<Flow> = nfdump(folder.path()).iter().map(flow_of_nfdump).collect();
    let ours = run(&["replay", &capture, "-o", "json"]).ok().json();
    let mut ours: Vec<Flow> = ours.iter().map(flow_of_flowd).collect();
    theirs.sort();
    ours.sort();
    assert_eq!(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs, ours);
    }
}

#[test]
fn tshark_finds_nothing_malformed_in_our_export() {
    if !has_program(TSHARK) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let listener = std::net::UdpSocket::bind(("127.0.0.1", port)).unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let collector = format!("udp://127.0.0.1:{port}");
    let receiver = std::thread::spawn(move || received(&listener));
    run(&["replay", &test_pcap("demo-traffic.pcap"), "--collector", &collector, "--speed", "1000"])
        .ok();
    let datagrams = receiver.join().unwrap();
    assert!(datagrams.len() > 10);
    tshark_of(&datagrams, folder.path());
}

/// All that tshark says of these datagrams; it must not find fault with any.
pub(crate) fn tshark_of(datagrams: &[Vec<u8>], folder: &Path) -> String {
    let capture = folder.join("export.pcap");
    write_capture(&capture, datagrams);
    let ended = end_of(Command::new(TSHARK).args([
        "-r",
        capture.to_str().unwrap(),
        "-d",
        "udp.port==2055,cflow",
        "-V",
    ]))
    .ok();
    assert!(ended.stdout.contains("Cisco NetFlow/IPFIX"));
    assert!(!ended.stdout.contains("Malformed"), "malformed for tshark");
    let warning = ended.stdout.lines().find(|line| line.contains("Expert Info"));
    assert_eq!(warning, None, "a warning of tshark");
    assert!(!ended.stdout.contains("No template found"), "a template is missing for tshark");
    ended.stdout
}

pub(crate) fn received(listener: &std::net::UdpSocket) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    let mut buffer = vec![0; 65_536];
    let mut quiet = 0;
    while quiet < 5 {
        match listener.recv(&mut buffer) {
            Ok(size) => {
                datagrams.push(buffer[..size].to_vec());
                quiet = 0;
            }
            Err(_) => quiet += 1,
        }
    }
    datagrams
}

/// Writes datagrams as a pcap of raw IPv4 packets to UDP port 2055.
pub(crate) fn write_capture(path: &Path, datagrams: &[Vec<u8>]) {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 228] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for (number, datagram) in datagrams.iter().enumerate() {
        let (udp_size, size) = (datagram.len() + 8, datagram.len() + 28);
        for word in [number, 0, size, size] {
            file.extend_from_slice(&u32::try_from(word).unwrap().to_le_bytes());
        }
        file.extend_from_slice(&[0x45, 0]);
        file.extend_from_slice(&u16::try_from(size).unwrap().to_be_bytes());
        file.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        file.extend_from_slice(&[0x80, 0, 0x08, 0x07]);
        file.extend_from_slice(&u16::try_from(udp_size).unwrap().to_be_bytes());
        file.extend_from_slice(&[0, 0]);
        file.extend_from_slice(datagram);
    }
    std::fs::write(path, file).unwrap();
}

/// softflowd reads a capture and exports NetFlow v9 to this port.
fn softflowd(capture: &str, port: u16, folder: &Path) {
    end_of(Command::new(SOFTFLOWD).args([
        "-d",
        "-a",
        "-r",
        capture,
        "-n",
        &format!("127.0.0.1:{port}"),
        "-v",
        "9",
        "-p",
        folder.join("softflowd.pid").to_str().unwrap(),
        // Its control socket keeps it waiting after the end of a file.
        "-c",
        "none",
    ]))
    .ok();
}

#[test]
fn softflowd_s_export_gives_the_totals_that_nfcapd_gives_for_it() {
    if !(has_program(NFCAPD) && has_program(NFDUMP) && has_program(SOFTFLOWD)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let capture = test_pcap("demo-traffic.pcap");

    let nfcapd_files = folder.path().join("nfcapd");
    let (nfcapd, port) = start_nfcapd(&nfcapd_files);
    softflowd(&capture, port, folder.path());
    wait_until_read(port);
    nfcapd.terminate();
    let theirs = nfdump(&nfcapd_files);
    let sum = |name: &str| theirs.iter().map(|record| record[name].as_u64().unwrap_or(0)).sum();
    let wanted: (u64, u64, u64) = (theirs.len() as u64, sum("in_packets"), sum("in_bytes"));
    assert!(wanted.0 > 100, "softflowd exported flows");

    let collector = Collector::start(&folder.path().join("store"));
    softflowd(&capture, collector.port, folder.path());
    collector.wait_for_flows(wanted.0);
    let sums = summary(&collector.store);
    let count = |name: &str| sums[name].as_u64().unwrap();
    let got = (count("deltaFlowCount"), count("packetDeltaCount"), count("octetDeltaCount"));
    assert_eq!(got, wanted);
    collector.stop();
}

/// A flow that was seen at this point, its number in the source port.
fn seen_at(point: ObservationPoint, number: u16) -> FlowRecord {
    let mut record = FlowRecord {
        protocol_identifier: 17,
        source_transport_port: number,
        destination_transport_port: 53,
        packet_delta_count: 3,
        octet_delta_count: 300,
        flow_start_milliseconds: LIVE_NOW.0 - 5_000,
        flow_end_milliseconds: LIVE_NOW.0 - 1_000,
        ..FlowRecord::default()
    };
    let columns = [
        Column::ProtocolIdentifier,
        Column::SourceTransportPort,
        Column::DestinationTransportPort,
        Column::PacketDeltaCount,
        Column::OctetDeltaCount,
        Column::FlowStartMilliseconds,
        Column::FlowEndMilliseconds,
    ];
    for column in columns {
        record.present.insert(column);
    }
    record.set_source_address([192, 0, 2, 1].into());
    record.set_destination_address([198, 51, 100, 1].into());
    record.set_point(point);
    record
}

const LIVE_NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// What a live exporter tells of so many interfaces. All but one have no description.
fn interfaces(count: u32, description: &str) -> Vec<InterfaceOptions> {
    let ledger = |direction| PointLedger {
        direction,
        seen: Volume { packets: 5_000_000_000, octets: 7_000_000_000 },
        flows: 40,
        ignored: Volume { packets: 2, octets: 120 },
    };
    let interface = |interface| InterfaceOptions {
        interface,
        name: format!("veth{interface}"),
        description: if interface == 2 { description.to_owned() } else { String::new() },
        ledgers: [Direction::INGRESS, Direction::EGRESS].map(ledger).to_vec(),
    };
    (2..count + 2).map(interface).collect()
}

/// Exports as a live exporter does for 65 s: flows of both directions, sampling, and options data
/// of a dozen interfaces. Returns how many flows that were.
fn export_live(collector: SocketAddr, description: &str) -> u64 {
    let config = ExporterConfig {
        sampling: Some(Sampling { interval: NonZeroU32::new(10).unwrap() }),
        ..ExporterConfig::new(vec![collector], UnixMillis(LIVE_NOW.0 - 3_600_000))
    };
    let mut exporter = Exporter::new(&config).unwrap();
    let mut count = 0;
    for second in 0..65 {
        exporter.describe(interfaces(12, description));
        let now = UnixMillis(LIVE_NOW.0 + second * 1_000);
        // Silence between, in which only the keep-alive speaks.
        if !(20..55).contains(&second) {
            let number = u16::try_from(second).unwrap();
            let ingress = ObservationPoint::new(2, Direction::INGRESS);
            let egress = ObservationPoint::new(3, Direction::EGRESS);
            exporter.export(&[seen_at(ingress, number), seen_at(egress, number)], now);
            count += 2;
        }
        exporter.flush(now);
        std::thread::sleep(Duration::from_millis(2));
    }
    exporter.finish(UnixMillis(LIVE_NOW.0 + 65_000));
    let statistics = exporter.statistics().remove(0);
    assert_eq!(statistics.exported.records, count);
    assert!(statistics.options_records > 3 * 36, "{statistics:?}");
    count
}

#[test]
fn nfcapd_reads_our_interfaces_and_passes_over_our_options_data() {
    if !(has_program(NFCAPD) && has_program(NFDUMP)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (nfcapd, port) = start_nfcapd(folder.path());
    // Beyond ASCII, nfcapd 1.7.1 takes UTF-8 for damage: it reads octets as signed numbers.
    let count = export_live(SocketAddr::from(([127, 0, 0, 1], port)), "to the office");
    wait_until_read(port);
    assert_no_fault(&nfcapd.terminate());

    let records = nfdump(folder.path());
    assert_eq!(records.len() as u64, count);
    for record in &records {
        let number = |name: &str| record[name].as_u64().unwrap_or_default();
        let interfaces = (number("input_snmp"), number("output_snmp"), number("direction"));
        assert!(matches!(interfaces, (2, 0, 0) | (0, 3, 1)), "{record}");
    }
    let egress = records.iter().filter(|record| record["direction"] == 1).count();
    assert_eq!(egress as u64, count / 2);
}

#[test]
fn tshark_decodes_every_set_of_our_live_export() {
    if !has_program(TSHARK) {
        return;
    }
    let listener = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let collector = listener.local_addr().unwrap();
    let receiver = std::thread::spawn(move || received(&listener));
    export_live(collector, "to the büro");
    let folder = tempfile::tempdir().unwrap();
    let said = tshark_of(&receiver.join().unwrap(), folder.path());
    for text in [
        "IfName: veth2",
        "IfDescr: to the büro",
        "ScopeInterface: 13",
        "InputInt: 2",
        "Direction: Egress (1)",
        "OutputInt: 3",
        "Sampling interval: 10",
    ] {
        assert!(said.contains(text), "{text} is missing: {said}");
    }
}

#[test]
fn our_collector_keeps_names_and_ledgers_as_options_records() {
    let listener = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let collector = listener.local_addr().unwrap();
    let receiver = std::thread::spawn(move || received(&listener));
    let count = export_live(collector, "to the büro");
    let config = DecoderConfig::default();
    let books = Arc::new(Books::default());
    let templates = Arc::new(TemplateStore::new(&config));
    let pending = Arc::new(PendingStore::in_memory(config.pending));
    let mut decoder = Decoder::new(&config, templates, pending, Arc::clone(&books));
    let mut batch = FlowBatch::new();
    let peer = SocketAddr::from(([127, 0, 0, 1], 2055));
    for datagram in receiver.join().unwrap() {
        decoder
            .decode(&datagram, peer.into(), LIVE_NOW, &mut batch, &mut |_| panic!("there is room"));
    }
    let statistics = books.statistics();
    assert!(statistics.drops.values().all(|&dropped| dropped == 0), "{statistics:?}");
    let records: Vec<FlowRecord> = (0..batch.len()).map(|row| batch.record(row).unwrap()).collect();
    let of_type =
        |wanted| records.iter().filter(move |record: &&FlowRecord| record.record_type == wanted);
    assert_eq!(of_type(RecordType::Flow).count() as u64, count);
    let value = |record: &FlowRecord, enterprise, id| -> Option<Vec<u8>> {
        let is_it = |extra: &&Extra| (extra.spec.enterprise, extra.spec.id) == (enterprise, id);
        record.extras.iter().find(is_it).map(|extra| extra.value.clone())
    };
    let of_second: Vec<&FlowRecord> = of_type(RecordType::Options)
        .filter(|record| value(record, PEN_V9_SCOPE, 2) == Some(vec![0, 0, 0, 2]))
        .collect();
    let names = of_second.iter().find_map(|record| value(record, 0, 82)).unwrap();
    assert_eq!(names, b"veth2\0\0\0\0\0\0\0\0\0\0\0");
    let description = of_second.iter().find_map(|record| value(record, 0, 83)).unwrap();
    assert_eq!(std::str::from_utf8(&description).unwrap().trim_end_matches('\0'), "to the büro");
    let egress = of_second.iter().find(|record| record.flow_direction == 1).unwrap();
    let expected =
        [(85, 7_000_000_000_u64), (86, 5_000_000_000), (163, 40), (164, 2), (165, 120), (166, 0)];
    for (id, number) in expected {
        let column = Column::from_element(id).and_then(|column| egress.value(column));
        let found = match column {
            Some(flowd::model::Value::Unsigned(number)) => Some(number.to_be_bytes().to_vec()),
            _ => value(egress, 0, id),
        };
        assert_eq!(found, Some(number.to_be_bytes().to_vec()), "element {id}");
    }
}
