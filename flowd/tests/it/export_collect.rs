//! From a capture to an answer: what was replayed is what the store gives back.

use crate::support::{Collector, Ended, info, run, summary, test_pcap};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Elements that say which flow a record is of and how much it tells.
const COMPARED: &[&str] = &[
    "sourceIPv4Address",
    "destinationIPv4Address",
    "sourceIPv6Address",
    "destinationIPv6Address",
    "protocolIdentifier",
    "icmpTypeCodeIPv4",
    "icmpTypeCodeIPv6",
    "octetDeltaCount",
    "packetDeltaCount",
    "flowStartMilliseconds",
    "flowEndMilliseconds",
    "tcpControlBits",
    "ipClassOfService",
    "flowEndReason",
    "vlanId",
    "minimumTTL",
    "maximumTTL",
    "sourceMacAddress",
    "destinationMacAddress",
    "flowLabelIPv6",
];

/// Each record's compared elements, with how often it occurs. Ports are compared where the
/// record has no ICMP type: on the wire an ICMP type also stands in the destination port.
fn flows(records: &[Value]) -> BTreeMap<String, usize> {
    let mut flows = BTreeMap::new();
    for record in records {
        let is_icmp = matches!(record["protocolIdentifier"].as_u64(), Some(1 | 58));
        let ports: &[&str] =
            if is_icmp { &[] } else { &["sourceTransportPort", "destinationTransportPort"] };
        let text: Vec<String> =
            COMPARED.iter().chain(ports).map(|name| format!("{name}={}", record[name])).collect();
        *flows.entry(text.join(" ")).or_default() += 1;
    }
    flows
}

fn replayed(capture: &str) -> Vec<Value> {
    run(&["replay", capture, "-o", "json"]).ok().json()
}

fn stored(store: &Path) -> Vec<Value> {
    let ended = run(&["query", "--store", store.to_str().unwrap(), "-o", "json", "--quiet"]);
    assert!(matches!(ended.code(), Some(0 | 1)), "{ended:?}");
    ended.json()
}

fn assert_same_flows(left: &[Value], right: &[Value]) {
    let (left, right) = (flows(left), flows(right));
    let only = |a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>| {
        a.iter().find(|(key, count)| b.get(*key) != Some(count)).map(|(key, _)| key.clone())
    };
    assert_eq!((only(&left, &right), only(&right, &left)), (None, None));
}

#[test]
fn every_capture_comes_back_record_by_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut captures: Vec<String> = std::fs::read_dir(test_pcap(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".pcap") || name.ends_with(".pcapng"))
        .collect();
    captures.sort();
    assert!(captures.len() > 10);
    let collector = Collector::start(&folder.path().join("store"));
    let mut all = Vec::new();
    for name in &captures {
        let capture = test_pcap(name);
        let printed = run(&["replay", &capture, "-o", "json"]).json();
        let sent = run(&["replay", &capture, "--collector", &collector.url()]);
        assert!(matches!(sent.code(), Some(0 | 2)), "{sent:?}");
        all.extend(printed);
        collector.wait_for_flows(all.len() as u64);
    }
    assert_same_flows(&all, &stored(&collector.store));
    let store = collector.store.clone();
    collector.stop();
    assert_same_flows(&all, &stored(&store));
}

#[test]
fn ring_and_archive_answer_as_one_through_stop_and_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let capture = test_pcap("demo-traffic.pcap");
    let count = replayed(&capture).len() as u64;
    for round in 1..=3 {
        let collector = Collector::start(&store);
        run(&["replay", &capture, "--collector", &collector.url()]).ok();
        collector.wait_for_flows(round * count);
        let info_live = info(&store);
        assert_eq!(info_live["flowRecords"], round * count);
        // How much of it is archived already depends on the hour.
        let held = [&info_live["ringRecords"], &info_live["archiveRecords"]];
        let held: u64 = held.iter().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(held, round * count, "{info_live}");
        collector.stop();
        let info_after = info(&store);
        assert_eq!(info_after["flowRecords"], round * count);
        assert_eq!(info_after["archiveRecords"], round * count, "{info_after}");
        assert_eq!(info_after["ringRecords"], 0, "{info_after}");
    }
    assert_eq!(summary(&store)["deltaFlowCount"], 3 * count);
    // Twice nobody listened; what was missed then, nobody knows.
    let ended = run(&["query", "--store", store.to_str().unwrap(), "--summary"]).ok();
    assert_eq!(ended.stderr.matches("noCollector").count(), 2, "{ended:?}");
}

#[test]
fn replaying_into_a_store_gives_what_printing_gives() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let capture = test_pcap("demo-traffic.pcap");
    run(&["replay", &capture, "--store", store.to_str().unwrap()]).ok();
    assert_same_flows(&replayed(&capture), &stored(&store));
}

#[test]
fn several_collectors_each_get_everything() {
    let folder = tempfile::tempdir().unwrap();
    let collectors =
        [Collector::start(&folder.path().join("a")), Collector::start(&folder.path().join("b"))];
    let capture = test_pcap("demo-traffic.pcap");
    let count = replayed(&capture).len() as u64;
    let urls = format!("{},{}", collectors[0].url(), collectors[1].url());
    run(&["replay", &capture, "--collector", &urls]).ok();
    for collector in collectors {
        collector.wait_for_flows(count);
        let info = info(&collector.store);
        let exporter = &info["exporters"][0];
        assert_eq!(exporter["records"], count, "{info}");
        assert_eq!(exporter["sequenceGaps"], 0, "{info}");
        assert_eq!(exporter["protocol"], "netflow-v9", "{info}");
        collector.stop();
    }
}

#[test]
fn what_cannot_be_read_is_told_with_every_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let collector = Collector::start(&store);
    let capture = test_pcap("demo-traffic.pcap");
    let count = replayed(&capture).len() as u64;
    run(&["replay", &capture, "--collector", &collector.url()]).ok();
    collector.wait_for_flows(count);
    // Dropping it kills it: its blocks stay as they are.
    drop(collector);
    assert_eq!(summary(&store)["deltaFlowCount"], count);
    let mut blocks = std::fs::read_dir(store.join("ring")).unwrap().map(|it| it.unwrap().path());
    let block = blocks.find(|path| path.extension().is_some_and(|it| it == "block")).unwrap();
    let mut octets = std::fs::read(&block).unwrap();
    octets[..64].fill(0);
    std::fs::write(&block, octets).unwrap();

    let ended = run(&["query", "--store", store.to_str().unwrap(), "--summary", "-o", "json"]);
    let name = block.file_name().unwrap().to_str().unwrap();
    assert!(ended.stderr.contains("damage") && ended.stderr.contains(name), "{ended:?}");
    assert!(info(&store)["damage"][0].as_str().unwrap().contains(name));
}

#[test]
fn a_segment_that_is_cut_leaves_the_others_and_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    for name in ["demo-traffic.pcap", "icmp.pcap"] {
        run(&["replay", &test_pcap(name), "--store", store.to_str().unwrap()]).ok();
    }
    let small = replayed(&test_pcap("icmp.pcap")).len() as u64;
    let listed = std::fs::read_to_string(store.join("archive/manifest.jsonl")).unwrap();
    let first = listed.lines().find(|line| line.contains("00000000.parquet")).unwrap();
    let first: Value = serde_json::from_str(first).unwrap();
    let path = store.join("archive").join(find_text(&first, ".parquet").unwrap());
    let octets = std::fs::read(&path).unwrap();
    std::fs::write(&path, &octets[..octets.len() / 2]).unwrap();

    assert_eq!(summary(&store)["deltaFlowCount"], small);
    let ended = run(&["query", "--store", store.to_str().unwrap(), "--summary"]).ok();
    assert!(ended.stderr.contains("damage") && ended.stderr.contains("00000000"), "{ended:?}");
    assert_eq!(info(&store)["flowRecords"], small);
}

/// The first string in a JSON value that has this ending.
fn find_text<'a>(value: &'a Value, ending: &str) -> Option<&'a str> {
    match value {
        Value::String(text) if text.ends_with(ending) => Some(text),
        Value::Object(fields) => fields.values().find_map(|field| find_text(field, ending)),
        _ => None,
    }
}

#[test]
fn the_store_can_be_moved() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let capture = test_pcap("demo-traffic.pcap");
    run(&["replay", &capture, "--store", here.to_str().unwrap()]).ok();
    let before = summary(&here);
    std::fs::rename(&here, &there).unwrap();
    assert_eq!(summary(&there), before);
}

#[test]
fn top_agrees_with_a_sum_over_all_records() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let capture = test_pcap("demo-traffic.pcap");
    run(&["replay", &capture, "--store", store.to_str().unwrap()]).ok();
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for record in replayed(&capture) {
        if let Some(source) = record["sourceIPv4Address"].as_str() {
            *sums.entry(source.to_owned()).or_default() +=
                record["octetDeltaCount"].as_u64().unwrap();
        }
    }
    let mut wanted: Vec<u64> = sums.values().copied().collect();
    wanted.sort_unstable_by(|a, b| b.cmp(a));
    let top: Ended =
        run(&["top", "--store", store.to_str().unwrap(), "srcip/bytes", "ipv4", "-o", "json"]).ok();
    let rows = top.json();
    assert_eq!(rows.len(), 10.min(wanted.len()));
    for (row, octets) in rows.iter().zip(wanted) {
        assert_eq!(row["octetDeltaCount"], octets);
        assert_eq!(sums[row["sourceIPv4Address"].as_str().unwrap()], octets);
    }
}
