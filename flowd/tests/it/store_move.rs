//! Years brought along and records sent on: nfdump's files into a store, a store to collectors,
//! datagrams repeated.

use crate::interop::{NFCAPD, NFDUMP, assert_no_fault, nfdump, start_nfcapd, wait_until_read};
use crate::support::{
    Background, Collector, end_of, flowd, free_port, has_program, info, run, summary, test_pcap,
    wait_until,
};
use flowd::export::{Exporter, ExporterConfig};
use flowd::model::time::UnixMillis;
use flowd::model::{Column, Extra, ExtraSpec, FlowRecord, Value as Stored};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// All records of a store, in JSON.
fn stored(store: &Path) -> Vec<Value> {
    run(&["query", "--store", text(store), "-o", "json", "--quiet"]).ok().json()
}

/// Records with many elements: of both families, of each kind that nfdump has extensions for.
pub(crate) fn rich_records() -> Vec<FlowRecord> {
    let start = 1_700_000_000_000_i64;
    let mut records = Vec::new();
    for index in 0..300_u64 {
        let mut record = FlowRecord::default();
        let is_ipv6 = index % 3 == 2;
        let address = |last: u64| match is_ipv6 {
            true => format!("2001:db8::{last:x}").parse().unwrap(),
            false => format!("192.0.2.{}", last % 256).parse().unwrap(),
        };
        record.set_source_address(address(index));
        record.set_destination_address(address(index + 7));
        let at = start + i64::try_from(index).unwrap() * 1_000;
        let protocol = [6, 17, 1][usize::try_from(index % 3).unwrap()];
        let number = |value: u64| Stored::Unsigned(value);
        let columns = [
            (Column::ProtocolIdentifier, number(if is_ipv6 { 17 } else { protocol })),
            (Column::SourceTransportPort, number(1_024 + index)),
            (Column::DestinationTransportPort, number(443)),
            (Column::PacketDeltaCount, number(index + 1)),
            (Column::OctetDeltaCount, number((index + 1) << 33)),
            (Column::FlowStartMilliseconds, Stored::Millis(at)),
            (Column::FlowEndMilliseconds, Stored::Millis(at + 777)),
            (Column::TcpControlBits, number(0x1b)),
            (Column::IpClassOfService, number(index % 256)),
            (Column::IngressInterface, number(70_000 + index)),
            (Column::EgressInterface, number(8)),
            (Column::VlanId, number(30)),
            (Column::PostVlanId, number(31)),
            (Column::SourceMacAddress, Stored::Mac([2, 0, 0, 0, 0, 1])),
            (Column::DestinationMacAddress, Stored::Mac([2, 0, 0, 0, 0, 2])),
            (Column::BgpSourceAsNumber, number(64_512)),
            (Column::BgpDestinationAsNumber, number(4_200_000_000)),
        ];
        for (column, value) in columns {
            assert!(record.set_value(column, value), "{column:?}");
        }
        if !is_ipv6 {
            for (column, value) in [
                (Column::SourceIpv4PrefixLength, 24),
                (Column::DestinationIpv4PrefixLength, 16),
                (Column::IpNextHopIpv4Address, 0),
            ] {
                record.set_value(column, number(value));
            }
            record.ip_next_hop_ipv4_address = 0x0a00_0001;
            record.present.insert(Column::IpNextHopIpv4Address);
        }
        let extra = |id, value: &[u8]| Extra {
            spec: ExtraSpec { enterprise: 0, id, length: u16::try_from(value.len()).unwrap() },
            value: value.to_vec(),
        };
        record.extras.push(extra(18, &[10, 0, 0, 2]));
        record.extras.push(extra(70, &[1, 0x23, 0x41]));
        record.extras.push(extra(128, &64_600_u32.to_be_bytes()));
        record.extras.push(extra(129, &64_601_u32.to_be_bytes()));
        records.push(record);
    }
    records
}

/// Exports records to a collector on a port.
pub(crate) fn export(records: &[FlowRecord], port: u16) {
    let collector = SocketAddr::from(([127, 0, 0, 1], port));
    let boot = UnixMillis(1_700_000_000_000 - 3_600_000);
    let mut exporter = Exporter::new(&ExporterConfig::new(vec![collector], boot)).unwrap();
    let now = UnixMillis(1_700_000_400_000);
    for chunk in records.chunks(50) {
        exporter.export(chunk, now);
        exporter.flush(now);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The file that nfcapd made of these records.
fn nfcapd_file(folder: &Path, records: &[FlowRecord]) -> PathBuf {
    let (nfcapd, port) = start_nfcapd(folder);
    export(records, port);
    wait_until_read(port);
    nfcapd.terminate();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !text(path).contains("current"))
        .collect();
    assert_eq!(files.len(), 1, "{files:?}: the test ran over the end of five minutes");
    files.remove(0)
}

/// What nfdump and flowd call the same.
const NUMBERS: &[(&str, &str)] = &[
    ("in_packets", "packetDeltaCount"),
    ("in_bytes", "octetDeltaCount"),
    ("proto", "protocolIdentifier"),
    ("src_tos", "ipClassOfService"),
    ("input_snmp", "ingressInterface"),
    ("output_snmp", "egressInterface"),
    ("src_as", "bgpSourceAsNumber"),
    ("dst_as", "bgpDestinationAsNumber"),
    ("src_vlan", "vlanId"),
    ("dst_vlan", "postVlanId"),
    ("next_as", "bgpNextAdjacentAsNumber"),
    ("prev_as", "bgpPrevAdjacentAsNumber"),
];
const TEXTS: &[(&str, &str)] = &[
    ("src4_addr", "sourceIPv4Address"),
    ("dst4_addr", "destinationIPv4Address"),
    ("in_src_mac", "sourceMacAddress"),
    ("in_dst_mac", "destinationMacAddress"),
    ("ip4_next_hop", "ipNextHopIPv4Address"),
    ("bgp4_next_hop", "bgpNextHopIPv4Address"),
    ("ip4_router", "exporterIPv4Address"),
];
const TIMES: &[(&str, &str)] = &[
    ("first", "flowStartMilliseconds"),
    ("last", "flowEndMilliseconds"),
    ("received", "collectionTimeMilliseconds"),
];

/// Asserts that nfdump tells of a record what flowd does, field by field; returns how many fields
/// both have.
fn assert_same(theirs: &Value, ours: &Value) -> usize {
    let mut count = 0;
    for (their, our) in NUMBERS.iter().chain(TEXTS) {
        if !theirs[their].is_null() && !ours[our].is_null() {
            assert_eq!(theirs[their], ours[our], "{their}: {theirs} {ours}");
            count += 1;
        }
    }
    for (their, our) in TIMES {
        let their = theirs[their].as_str().unwrap();
        assert_eq!(format!("{their}Z"), ours[our].as_str().unwrap(), "{theirs}");
        count += 1;
    }
    for (their, our) in
        [("src6_addr", "sourceIPv6Address"), ("dst6_addr", "destinationIPv6Address")]
    {
        if let Some(address) = theirs[their].as_str() {
            let address: std::net::IpAddr = address.parse().unwrap();
            assert_eq!(address.to_string(), ours[our], "{theirs}");
            count += 1;
        }
    }
    if matches!(ours["protocolIdentifier"].as_u64(), Some(6 | 17)) {
        assert_eq!(theirs["src_port"], ours["sourceTransportPort"]);
        assert_eq!(theirs["dst_port"], ours["destinationTransportPort"]);
        count += 2;
    }
    if !ours["sourceIPv4PrefixLength"].is_null() {
        assert_eq!(theirs["src_mask"], ours["sourceIPv4PrefixLength"], "{theirs}");
        assert_eq!(theirs["dst_mask"], ours["destinationIPv4PrefixLength"], "{theirs}");
        count += 2;
    }
    count
}

#[test]
fn every_compression_of_nfdump_is_imported_field_by_field() {
    if !has_program(NFCAPD) || !has_program(NFDUMP) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let flows = folder.path().join("flows");
    let original = nfcapd_file(&flows, &rich_records());
    let theirs = nfdump(&flows);
    assert_eq!(theirs.len(), 300);
    let mut files = vec![original.clone()];
    for (name, option) in
        [("plain", None), ("lzo", Some("-z")), ("bz2", Some("-j")), ("lz4", Some("-y"))]
    {
        let file = folder.path().join(name);
        let mut command = Command::new(NFDUMP);
        command.args(["-r", text(&original), "-w", text(&file)]).args(option);
        end_of(&mut command).ok();
        files.push(file);
    }
    for file in &files {
        let store = folder.path().join("store");
        let imported = run(&["store", "import", "--store", text(&store), text(file)]).ok();
        assert!(imported.stderr.contains("imported 300 records of 1 files"), "{imported:?}");
        assert!(imported.stdout.is_empty());
        let mut ours = stored(&store);
        let mut theirs = theirs.clone();
        ours.sort_by_key(|record| record["packetDeltaCount"].as_u64());
        theirs.sort_by_key(|record| record["in_packets"].as_u64());
        assert_eq!(ours.len(), theirs.len());
        for (theirs, ours) in theirs.iter().zip(&ours) {
            let count = assert_same(theirs, ours);
            assert!(count >= 18, "{count} fields of {theirs} {ours}");
            assert_eq!(ours["exportProtocol"], "netflow-v9");
            assert_eq!(ours["mplsTopLabelStackSection"], "012341", "{ours}");
        }
        // It lies in the hour of its receipt.
        let received = theirs[0]["received"].as_str().unwrap();
        let (date, hour) = (&received[..10], &received[11..13]);
        let hour = store.join(format!("archive/date={date}/hour={hour}"));
        assert!(hour.is_dir(), "{}", hour.display());
        std::fs::remove_dir_all(&store).unwrap();
    }
}

#[test]
fn a_file_is_imported_once_and_damage_is_told_with_its_place() {
    if !has_program(NFCAPD) || !has_program(NFDUMP) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let whole = nfcapd_file(&folder.path().join("flows"), &rich_records());
    let store = folder.path().join("store");
    let import =
        |options: &[&str]| run(&[&["store", "import", "--store", text(&store)], options].concat());
    import(&[text(&whole)]).ok();
    // Under another name it is the same file.
    let copy = folder.path().join("copy");
    std::fs::copy(&whole, &copy).unwrap();
    let twice = import(&[text(&copy)]);
    assert_eq!(twice.code(), Some(2));
    assert!(twice.stderr.contains("copy: was imported"), "{twice:?}");
    assert!(twice.stderr.contains("300 records; --again"), "{twice:?}");
    assert_eq!(summary(&store)["deltaFlowCount"], 300);
    import(&[text(&copy), "--again"]).ok();
    assert_eq!(summary(&store)["deltaFlowCount"], 600);

    let cut = folder.path().join("cut");
    let octets = std::fs::read(&whole).unwrap();
    std::fs::write(&cut, &octets[..octets.len() / 2]).unwrap();
    let damaged = import(&[text(&cut)]);
    assert_eq!(damaged.code(), Some(2));
    assert!(
        damaged.stderr.contains("cut: is damaged at offset 40: the file ends within"),
        "{damaged:?}"
    );
    let count = summary(&store)["deltaFlowCount"].as_u64().unwrap();
    assert!((650..900).contains(&count), "{count}");

    let other = folder.path().join("other");
    std::fs::write(&other, "no flows").unwrap();
    let none = folder.path().join("none");
    let wrong = import(&[text(&other), text(&none)]);
    assert_eq!(wrong.code(), Some(2));
    assert!(wrong.stderr.contains("other: is no file of nfdump"), "{wrong:?}");
    assert!(wrong.stderr.contains("none: "), "{wrong:?}");
    assert_eq!(summary(&store)["deltaFlowCount"], count);
}

/// What the next collector writes anew of each record.
const OF_RECEIPT: &[&str] =
    &["collectionTimeMilliseconds", "exportSequenceNumber", "exportRecordIndex"];

/// Records without what is of their receipt, each with how often it occurs.
fn without_receipt(records: Vec<Value>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for mut record in records {
        OF_RECEIPT.iter().for_each(|name| {
            record.as_object_mut().unwrap().remove(*name);
        });
        *counts.entry(record.to_string()).or_default() += 1;
    }
    counts
}

#[test]
fn what_a_store_sends_on_arrives_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let first = Collector::start(&folder.path().join("first"));
    export(&rich_records(), first.port);
    // The capture's records are of January 2024, beyond what an uptime can tell.
    run(&["replay", &test_pcap("demo-traffic.pcap"), "--collector", &first.url()]).ok();
    first.wait_for_flows(300 + 1_342);
    let second = Collector::start(&folder.path().join("second"));
    let store = text(&first.store).to_owned();
    let sent = run(&["store", "send", "--store", &store, "--to", &second.url()]).ok();
    assert_eq!(sent.stderr.lines().count(), 1, "{sent:?}");
    assert!(sent.stderr.contains("sent 1642 of 1642 records"), "{sent:?}");
    second.wait_for_flows(1_642);
    let (ours, theirs) = (stored(&first.store), stored(&second.store));
    let (ours, theirs) = (without_receipt(ours), without_receipt(theirs));
    let only: Vec<&String> = ours.keys().filter(|key| ours.get(*key) != theirs.get(*key)).collect();
    assert!(
        only.is_empty() && ours.len() == theirs.len(),
        "{:?} {:?}",
        only.first(),
        theirs.first_key_value()
    );
    assert_eq!(info(&second.store)["exporters"][0]["sequenceGaps"], json!(0));

    // A filter, slowly.
    let sent = run(&[
        "store",
        "send",
        "--store",
        &store,
        "--to",
        &second.url(),
        "--rate",
        "2000",
        "src net 192.0.2.0/24",
    ])
    .ok();
    assert!(sent.stderr.contains("sent 200 of 200 records"), "{sent:?}");
    second.wait_for_flows(1_842);
    first.stop();
    second.stop();

    let nobody = format!("udp://127.0.0.1:{}", free_port());
    let lost = run(&["store", "send", "--store", &store, "--to", &nobody]);
    assert_eq!(lost.code(), Some(2));
    assert!(
        lost.stderr.contains("of 1642 records") && lost.stderr.contains("not sent ("),
        "{lost:?}"
    );
}

#[test]
fn nfcapd_takes_what_a_store_sends() {
    if !has_program(NFCAPD) || !has_program(NFDUMP) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    run(&["replay", &test_pcap("demo-traffic.pcap"), "--store", text(&store)]).ok();
    let flows = folder.path().join("flows");
    let (nfcapd, port) = start_nfcapd(&flows);
    let to = format!("udp://127.0.0.1:{port}");
    run(&["store", "send", "--store", text(&store), "--to", &to]).ok();
    wait_until_read(port);
    assert_no_fault(&nfcapd.terminate());
    let theirs = nfdump(&flows);
    let ours = stored(&store);
    assert_eq!(theirs.len(), ours.len());
    let times = |records: &[Value], names: [&str; 2]| {
        let mut times: Vec<String> = records
            .iter()
            .map(|it| names.map(|name| it[name].as_str().unwrap().replace('Z', "")).join(" "))
            .collect();
        times.sort();
        times
    };
    assert_eq!(
        times(&theirs, ["first", "last"]),
        times(&ours, ["flowStartMilliseconds", "flowEndMilliseconds"])
    );
}

#[test]
fn datagrams_are_repeated_octet_by_octet() {
    let folder = tempfile::tempdir().unwrap();
    let watcher = UdpSocket::bind("127.0.0.1:0").unwrap();
    watcher.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let second = Collector::start(&folder.path().join("second"));
    let nobody = free_port();
    let nfcapd_there = has_program(NFCAPD) && has_program(NFDUMP);
    let flows = folder.path().join("flows");
    let nfcapd = nfcapd_there.then(|| start_nfcapd(&flows));
    let mut targets = vec![
        second.url(),
        format!("udp://{}", watcher.local_addr().unwrap()),
        format!("udp://127.0.0.1:{nobody}"),
    ];
    targets.extend(nfcapd.as_ref().map(|(_, port)| format!("udp://127.0.0.1:{port}")));
    let store = folder.path().join("first");
    let port = free_port();
    let listen = format!("udp://127.0.0.1:{port}");
    let mut first = Background::start(flowd().args([
        "collect",
        "--listen",
        &listen,
        "--store",
        text(&store),
        "--forward",
        &targets.join(","),
    ]));
    first.says("listening");
    // What is no message is repeated too.
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for size in [0_usize, 1, 700, 9_000, 60_000] {
        // The first word is the version of no protocol.
        let octets: Vec<u8> = (0..size).map(|at| u8::try_from(255 - at % 251).unwrap()).collect();
        sender.send_to(&octets, ("127.0.0.1", port)).unwrap();
        let mut got = vec![0; 65_536];
        let length = watcher.recv(&mut got).unwrap();
        assert_eq!(got[..length], octets);
    }
    let replay =
        run(&["replay", &test_pcap("demo-traffic.pcap"), "--speed", "200", "--collector", &listen])
            .ok();
    assert!(replay.stderr.contains("exported 1342 records"), "{replay:?}");
    second.wait_for_flows(1_342);
    wait_until("the first has them too", || summary(&store)["deltaFlowCount"] == 1_342);
    assert_eq!(info(&second.store)["exporters"][0]["sequenceGaps"], json!(0));
    let before = info(&store);
    let datagrams = before["datagrams"].as_u64().unwrap();
    assert_eq!(before["forwarded"][&targets[0][6..]]["sent"], datagrams, "{before}");
    let refused = before["forwarded"][format!("127.0.0.1:{nobody}")]["notSent"]["refused"].as_u64();
    assert!(refused.unwrap() > 0, "{before}");
    assert_eq!(before["kernelDrops"], 0);
    if let Some((nfcapd, port)) = nfcapd {
        wait_until_read(port);
        nfcapd.terminate();
        assert_eq!(nfdump(&flows).len(), 1_342);
    }
    let ended = first.terminate().ok();
    assert!(
        ended.stderr.contains(&format!("forwarded {datagrams} to {}", targets[0])),
        "{ended:?}"
    );
    second.stop();
}

#[test]
fn a_loop_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    for listen in ["127.0.0.1", "0.0.0.0", "[::]"] {
        let ended = run(&[
            "collect",
            "--listen",
            &format!("udp://{listen}:{port}"),
            "--store",
            text(&folder.path().join("store")),
            "--forward",
            &format!("udp://127.0.0.1:{port}"),
        ]);
        assert_eq!(ended.code(), Some(2), "{ended:?}");
        assert!(ended.stderr.contains("where this collector listens itself"), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}
