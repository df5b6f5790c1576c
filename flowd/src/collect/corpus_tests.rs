//! Export datagrams of many devices, held against their expected records. The corpus is no part
//! of the project: without it the test says so and passes.

use super::*;
use crate::model::{
    Column, ExtraSpec, FlowBatch, FlowRecord, RecordType, Value, element_value, ie,
    time::UnixMillis,
};
use serde_json::Value as Json;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An expected field, and the elements that may carry it; the first one present counts.
const FIELDS: &[(&str, &[&str])] = &[
    ("src", &["sourceIPv4Address", "sourceIPv6Address"]),
    ("dst", &["destinationIPv4Address", "destinationIPv6Address"]),
    ("sport", &["sourceTransportPort", "udpSourcePort", "tcpSourcePort"]),
    ("dport", &["destinationTransportPort", "udpDestinationPort", "tcpDestinationPort"]),
    ("proto", &["protocolIdentifier"]),
    ("bytes", &["octetDeltaCount", "octetTotalCount"]),
    ("packets", &["packetDeltaCount", "packetTotalCount"]),
    ("first_ms", &["flowStartMilliseconds"]),
    ("last_ms", &["flowEndMilliseconds"]),
    ("tcp_flags", &["tcpControlBits"]),
    ("tos", &["ipClassOfService"]),
    ("in_if", &["ingressInterface"]),
    ("out_if", &["egressInterface"]),
    ("src_as", &["bgpSourceAsNumber"]),
    ("dst_as", &["bgpDestinationAsNumber"]),
    ("src_mask", &["sourceIPv4PrefixLength", "sourceIPv6PrefixLength"]),
    ("dst_mask", &["destinationIPv4PrefixLength", "destinationIPv6PrefixLength"]),
    ("next_hop", &["ipNextHopIPv4Address", "ipNextHopIPv6Address"]),
    ("bgp_next_hop", &["bgpNextHopIPv4Address", "bgpNextHopIPv6Address"]),
    ("direction", &["flowDirection"]),
    ("vlan", &["vlanId"]),
    ("post_vlan", &["postVlanId"]),
    ("src_mac", &["sourceMacAddress"]),
    ("dst_mac", &["destinationMacAddress", "postDestinationMacAddress"]),
    ("end_reason", &["flowEndReason"]),
    ("fwd_status", &["forwardingStatus"]),
    ("in_vrf", &["ingressVRFID"]),
    ("out_vrf", &["egressVRFID"]),
    ("nat_src", &["postNATSourceIPv4Address", "postNATSourceIPv6Address"]),
    ("nat_dst", &["postNATDestinationIPv4Address", "postNATDestinationIPv6Address"]),
    ("nat_sport", &["postNAPTSourceTransportPort"]),
    ("nat_dport", &["postNAPTDestinationTransportPort"]),
    ("fw_event", &["firewallEvent"]),
    ("nat_event", &["natEvent"]),
    ("flow_label", &["flowLabelIPv6"]),
    ("min_ttl", &["minimumTTL"]),
    ("max_ttl", &["maximumTTL"]),
];
/// Fields that must agree even where they are absent.
const KEY: &[&str] = &["src", "dst", "sport", "dport", "proto", "bytes", "packets"];

/// Fields that the answers say of frames and sFlow's own records, flowd of the sampled IP packet.
const SFLOW_OTHERWISE: &[&str] =
    &["bytes", "tos", "vlan", "post_vlan", "src_as", "dst_as", "in_if", "out_if"];

/// Cases in which our reading is another one, argued in `docs/decoding.md`: uptimes far ahead of
/// the message's own are old and not of the future; and of a packet within a packet both pairs of
/// addresses stand in their columns, told apart where they are shown.
const READ_OTHERWISE: &[&str] = &["ls_v5_invalid01", "pm_400_00", "pm_500_00", "pm_502_00"];

/// Cases whose data comes before its template, and the records that a collector which holds such
/// data decodes; the answers list none.
const HELD: &[(&str, usize)] = &[("bk_v9_mixed", 8), ("ak_v9_data_before_template", 4)];

pub(super) fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    path.is_dir().then_some(path)
}

/// The UDP payloads of a capture with their senders.
pub(super) fn datagrams(path: &Path) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut capture = pcap::Capture::from_file(path).unwrap();
    let mut datagrams = Vec::new();
    while let Ok(packet) = capture.next_packet() {
        // Ethernet, perhaps with VLAN tags.
        let mut at = 12;
        while packet.data.get(at..at + 2) == Some(&[0x81, 0]) {
            at += 4;
        }
        if let Some(datagram) = packet.data.get(at + 2..).and_then(udp) {
            datagrams.push(datagram);
        }
    }
    datagrams
}

fn udp(packet: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    let (source, udp): (IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 if packet[9] == 17 => {
            let header_size = usize::from(packet[0] & 15) * 4;
            let source: [u8; 4] = packet[12..16].try_into().unwrap();
            (source.into(), packet.get(header_size..)?)
        }
        6 if packet[6] == 17 => {
            let source: [u8; 16] = packet[8..24].try_into().unwrap();
            (source.into(), packet.get(40..)?)
        }
        _ => return None,
    };
    let number = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
    let port = number(0)?;
    let size = usize::from(number(4)?);
    Some((SocketAddr::new(source, port), udp.get(8..size.min(udp.len()))?.to_vec()))
}

fn decode(path: &Path) -> (Vec<FlowRecord>, Statistics) {
    let config = DecoderConfig { with_collection_time: false, ..DecoderConfig::default() };
    let books = Arc::new(Books::default());
    let store = Arc::new(TemplateStore::new(&config));
    let pending = Arc::new(PendingStore::in_memory(config.pending));
    let mut decoder = Decoder::new(&config, store, pending, Arc::clone(&books));
    let mut batch = FlowBatch::new();
    let mut records = Vec::new();
    let mut take = |batch: &FlowBatch| {
        records.extend((0..batch.len()).map(|row| batch.record(row).unwrap()));
    };
    for (peer, datagram) in datagrams(path) {
        decoder.decode(&datagram, peer.into(), UnixMillis(0), &mut batch, &mut take);
    }
    take(&batch);
    (records, books.statistics())
}

/// The value of the first of these elements that the record carries, as the answers write it.
fn value(record: &FlowRecord, names: &[&str]) -> Json {
    let find = |name: &&str| {
        let column = Column::from_name(name).and_then(|column| record.value(column));
        column.map(json).or_else(|| {
            let named = |spec: &ExtraSpec| ie::display_name(spec.enterprise, spec.id) == **name;
            let extra = record.extras.iter().find(|extra| named(&extra.spec))?;
            let element_type = ie::element_type(extra.spec.enterprise, extra.spec.id);
            Some(json(element_value(element_type, &extra.value)))
        })
    };
    names.iter().find_map(find).unwrap_or(Json::Null)
}

fn json(value: Value<'_>) -> Json {
    match value {
        Value::Unsigned(number) => number.into(),
        Value::Millis(millis) => millis.into(),
        other => other.to_string().into(),
    }
}

/// Addresses in one spelling, all else as it is.
fn normal(value: &Json) -> Json {
    match value.as_str().map(str::to_lowercase) {
        Some(text) => match text.parse::<IpAddr>() {
            Ok(address) => address.to_string().into(),
            Err(_) => text.into(),
        },
        None => value.clone(),
    }
}

fn differences(kind: &str, expected: &Json, record: &FlowRecord) -> Vec<String> {
    let compared = FIELDS.iter().filter(|(field, _)| {
        let value = &expected[*field];
        if kind == "sflow" && SFLOW_OTHERWISE.contains(field) {
            return false;
        }
        KEY.contains(field) || !(value.is_null() || value.is_array() || value.is_object())
    });
    compared
        .filter_map(|(field, names)| {
            let (want, got) = (normal(&expected[*field]), normal(&value(record, names)));
            (want != got).then(|| format!("{field}: want {want} got {got}"))
        })
        .collect()
}

#[test]
fn records_of_every_device_are_as_expected() {
    let Some(corpus) = corpus() else {
        println!("skipped: there is no corpus beside the workspace");
        return;
    };
    let mut failures = Vec::new();
    let (mut cases, mut compared) = (0, 0);
    for entry in std::fs::read_dir(corpus.join("expected")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let case: Json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let kind = case["kind"].as_str().unwrap();
        let name = case["name"].as_str().unwrap();
        let pcap = case["pcap"].as_str().unwrap();
        let (records, statistics) = decode(&corpus.join("collector").join(pcap));
        let dropped: u64 = statistics.drops.values().sum();
        assert_eq!(statistics.datagrams, statistics.datagrams_decoded + dropped, "{name}");
        if case["class"] == "nocrash" {
            continue;
        }
        cases += 1;
        let flows: Vec<&FlowRecord> =
            records.iter().filter(|record| record.record_type == RecordType::Flow).collect();
        let others = records.len() - flows.len();
        if let Some((_, held)) = HELD.iter().find(|(held, _)| *held == name) {
            assert_eq!(flows.len(), *held, "{name}");
            continue;
        }
        let expected = case["records"].as_array().unwrap();
        if READ_OTHERWISE.contains(&name) {
            assert_eq!(
                (&case["class"], flows.len()),
                (&"lenient".into(), expected.len()),
                "{name}"
            );
            continue;
        }
        let options = case["options"].as_array().unwrap();
        let mut found: Vec<String> = Vec::new();
        // Of sFlow the others are counters, which the answers count by their kind and not by sample.
        let others_agree = kind == "sflow" || others == options.len();
        if flows.len() != expected.len() || !others_agree {
            found.push(format!(
                "{} flows and {} options, want {} and {}",
                flows.len(),
                others,
                expected.len(),
                options.len()
            ));
        }
        for (index, (expected, flow)) in expected.iter().zip(&flows).enumerate() {
            compared += 1;
            for difference in differences(kind, expected, flow) {
                found.push(format!("record {index} {difference}"));
            }
        }
        if !found.is_empty() {
            found.truncate(4);
            failures.push(format!("{} {name}: {}", case["class"], found.join("; ")));
        }
    }
    println!("{cases} cases, {compared} records compared");
    assert!(cases > 0 && compared > 0);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
