//! `flowd decode`: messages over TCP, datagrams in fragments, and what explains them.

use crate::interop::write_capture;
use crate::support::run;
use serde_json::{Value, json};
use std::path::Path;

fn be(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap().to_be_bytes()
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &be(body.len() + 4), body].concat()
}

/// An IPFIX message of domain 7.
fn ipfix(sequence: u32, sets: &[u8]) -> Vec<u8> {
    let mut message = [&[0, 10][..], &be(16 + sets.len())].concat();
    message.extend(1_700_000_000_u32.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(7_u32.to_be_bytes());
    message.extend(sets);
    message
}

/// A template of a source address and octets, of an option, and one element nobody described.
fn templates() -> Vec<u8> {
    let layout = [&be(256)[..], &be(3), &be(8), &be(4), &be(1), &be(8)].concat();
    let unknown = [&be(0x8000 | 77)[..], &be(2), &64_999_u32.to_be_bytes()].concat();
    let options = [&be(257)[..], &be(2), &be(1), &be(149), &be(4), &be(83), &be(65_535)].concat();
    [set(2, &[layout, unknown].concat()), set(3, &options)].concat()
}

fn flow(last_octet: u8) -> Vec<u8> {
    set(256, &[10, 0, 0, last_octet, 0, 0, 0, 0, 0, 0, 4, 210, 0xab, 0xcd])
}

/// Raw IPv4 packets as a capture, a second apart.
fn write_packets(path: &Path, packets: &[Vec<u8>]) {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 228] {
        file.extend(word.to_le_bytes());
    }
    for (number, packet) in packets.iter().enumerate() {
        for word in [number, 0, packet.len(), packet.len()] {
            file.extend(u32::try_from(word).unwrap().to_le_bytes());
        }
        file.extend(packet);
    }
    std::fs::write(path, file).unwrap();
}

fn ipv4(protocol: u8, part: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut packet = [&[0x45, 0][..], &be(20 + body.len()), &part].concat();
    packet.extend([64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend(body);
    packet
}

fn tcp(sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [be(40_000), be(4_739)].concat();
    segment.extend(sequence.to_be_bytes());
    segment.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    ipv4(6, [0; 4], &segment)
}

fn decode(path: &Path, options: &[&str]) -> crate::support::Ended {
    run(&[&["decode", path.to_str().unwrap()], options].concat()).ok()
}

#[test]
fn messages_of_a_connection_are_decoded_whatever_the_segments() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tcp.pcap");
    let stream =
        [ipfix(0, &templates()), ipfix(0, &flow(1)), ipfix(1, &[flow(2), flow(3)].concat())]
            .concat();
    let start = u32::MAX - 40;
    let at = |place: usize| start.wrapping_add(1 + u32::try_from(place).unwrap());
    write_packets(
        &path,
        &[
            tcp(start, 0x02, &[]),
            tcp(at(0), 0x10, &stream[..70]),
            tcp(at(100), 0x10, &stream[100..]),
            tcp(at(50), 0x10, &stream[50..120]),
            tcp(at(stream.len()), 0x11, &[]),
        ],
    );
    let ended = decode(&path, &["-o", "json"]);
    assert_eq!(ended.stderr, "");
    let records = ended.json();
    let sources: Vec<&str> =
        records.iter().map(|record| record["sourceIPv4Address"].as_str().unwrap()).collect();
    assert_eq!(sources, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert!(records.iter().all(|record| record["octetDeltaCount"] == 1_234));
    assert!(records.iter().all(|record| record["exporterIPv4Address"] == "192.0.2.1"));

    // Without its end and a piece in the middle: what is there is decoded, the rest is told.
    write_packets(
        &path,
        &[
            tcp(start, 0x02, &[]),
            tcp(at(0), 0x10, &stream[..80]),
            tcp(at(90), 0x10, &stream[90..stream.len() - 1]),
        ],
    );
    let ended = decode(&path, &["-o", "json"]);
    assert!(ended.stderr.contains("10 octets missing in TCP streams"), "{}", ended.stderr);
    assert!(ended.json().len() < 3);
}

#[test]
fn a_datagram_in_fragments_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fragments.pcap");
    let message = ipfix(0, &[templates(), flow(1)].concat());
    let header = [be(2_055), be(4_739), be(8 + message.len()), [0, 0]].concat();
    let datagram = [header, message].concat();
    let parts = [
        ipv4(17, [0, 9, 0, 6], &datagram[48..]),
        ipv4(17, [0, 9, 0x20, 0], &datagram[..48]),
        // Another datagram, of which the rest does not come.
        ipv4(17, [0, 10, 0x20, 0], &datagram[..48]),
    ];
    write_packets(&path, &parts);
    let ended = decode(&path, &["-o", "json"]);
    assert_eq!(ended.json().len(), 1);
    assert!(ended.stderr.contains("1 datagrams with fragments missing"), "{}", ended.stderr);
}

#[test]
fn explain_tells_of_templates_messages_and_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exports.pcap");
    let unknown = set(300, &[1; 8]);
    write_capture(
        &path,
        &[
            ipfix(0, &[templates(), flow(1)].concat()),
            ipfix(1, &[templates(), flow(2), unknown].concat()),
            ipfix(9, &flow(3)),
        ],
    );
    let lines = decode(&path, &["-o", "json", "--explain"]).json();
    let kinds: Vec<&str> =
        lines.iter().map(|line| line["recordType"].as_str().unwrap_or("flow")).collect();
    let wanted =
        ["message", "template", "optionsTemplate", "flow", "message", "flow", "message", "flow"];
    assert_eq!(kinds, wanted);
    let message = |line: &Value| (line["sequence"].clone(), line["records"].clone());
    assert_eq!(message(&lines[0]), (json!(0), json!(1)));
    assert_eq!(lines[0]["sets"][0]["templates"], json!([256]));
    assert_eq!(lines[0]["sets"][2], json!({"setId": 256, "holds": "data", "octets": 14}));
    let fields = json!([
        {"name": "sourceIPv4Address", "element": "0:8", "length": 4, "type": "ipv4Address"},
        {"name": "octetDeltaCount", "element": "0:1", "length": 8, "type": "unsigned"},
        {"name": "64999:77", "element": "64999:77", "length": 2, "type": null},
    ]);
    assert_eq!(lines[1]["fields"], fields);
    assert_eq!((&lines[1]["templateId"], &lines[1]["state"]), (&json!(256), &json!("new")));
    assert_eq!(lines[2]["scopeFieldCount"], 1);
    assert_eq!(lines[2]["fields"][1]["length"], Value::Null);
    assert_eq!(lines[4]["sets"][3]["holds"], "data without template");
    assert_eq!(lines[4]["counted"]["sets held for their template"], 1);

    let table = decode(&path, &["--explain"]).stdout;
    assert!(table.contains("template 256 of 127.0.0.1:32768 ipfix domain 7, new: 3 fields"));
    assert!(table.contains("set 300: data without template, 8 octets"), "{table}");
    assert!(table.contains("10.0.0.3"), "{table}");
    let refused = run(&["decode", path.to_str().unwrap(), "-o", "csv", "--explain"]);
    assert_eq!(refused.code(), Some(2));
    assert!(refused.stderr.contains("write -o table or -o json"), "{}", refused.stderr);
}

/// What `--explain` says of each set, by message.
fn sets(lines: &[Value]) -> Vec<Value> {
    let messages = lines.iter().filter(|line| line["recordType"] == "message");
    messages.map(|message| message["sets"].clone()).collect()
}

#[test]
fn explain_tells_what_a_connection_withdraws_and_what_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("withdrawals.pcap");
    let one = set(2, &[be(256), be(0)].concat());
    let all_options = set(3, &[be(3), be(0)].concat());
    // An options template of one field that says it has two scopes.
    let refused = set(3, &[be(258), be(1), be(2), be(1), be(4)].concat());
    let messages = [
        ipfix(0, &[templates(), flow(1)].concat()),
        ipfix(1, &[one, all_options, flow(2)].concat()),
        ipfix(1, &[templates(), refused].concat()),
    ];
    let stream = messages.concat();
    let packets = [tcp(0, 0x02, &[]), tcp(1, 0x10, &stream)];
    write_packets(&path, &packets);
    let lines = decode(&path, &["-o", "json", "--explain"]).json();
    let told = sets(&lines);
    assert_eq!(told[1][0], json!({"setId": 2, "holds": "templates", "withdrawn": ["256"]}));
    assert_eq!(told[1][1]["withdrawn"], json!(["all of options"]));
    assert_eq!(told[1][2]["holds"], "data without template");
    assert_eq!((&told[2][2]["setId"], &told[2][2]["templates"]), (&json!(3), &Value::Null));
    assert_eq!(told[2][2]["refused"].as_array().map(Vec::len), Some(1));
    let states = |lines: &[Value]| -> Vec<String> {
        let states = lines.iter().filter_map(|line| line["state"].as_str());
        states.map(str::to_owned).collect()
    };
    assert_eq!(states(&lines), ["new"; 4], "a template that was withdrawn is new again");
    let table = decode(&path, &["--explain"]).stdout;
    assert!(table.contains("set 2: templates; withdrawn: 256\n"), "{table}");

    write_capture(&path, &messages);
    let lines = decode(&path, &["-o", "json", "--explain"]).json();
    let told = sets(&lines);
    assert_eq!(told[1][0]["withdrawn"], json!(["256 (ignored over UDP)"]));
    assert_eq!(told[1][2]["holds"], "data");
    assert_eq!(states(&lines), ["new"; 2]);
}

#[test]
fn explain_holds_the_templates_of_ports_apart_and_forgets_those_of_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ports.pcap");
    let udp = |port: usize, message: &[u8]| {
        let header = [be(port), be(4_739), be(8 + message.len()), [0, 0]].concat();
        ipv4(17, [0; 4], &[header, message.to_vec()].concat())
    };
    let other = set(2, &[be(256), be(1), be(8), be(4)].concat());
    let (first, second) = (ipfix(0, &templates()), ipfix(0, &other));
    let packets = [&first, &second, &first, &second];
    let packets: Vec<_> =
        packets.iter().enumerate().map(|(at, message)| udp(3_000 + at % 2, message)).collect();
    write_packets(&path, &packets);
    let lines = decode(&path, &["-o", "json", "--explain"]).json();
    let states: Vec<_> = lines.iter().filter_map(|line| line["state"].as_str()).collect();
    assert_eq!(states, ["new"; 3]);

    let size = u32::try_from(first.len()).unwrap();
    let connection = |start: u32| {
        [tcp(start, 0x02, &[]), tcp(start + 1, 0x10, &first), tcp(start + 1 + size, 0x11, &[])]
    };
    write_packets(&path, &[connection(0), connection(900_000)].concat());
    let lines = decode(&path, &["-o", "json", "--explain"]).json();
    let states: Vec<_> = lines.iter().filter_map(|line| line["state"].as_str()).collect();
    assert_eq!(states, ["new"; 4]);
}

#[test]
fn every_message_of_a_datagram_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("several.pcap");
    let (first, second) = (ipfix(0, &templates()), ipfix(0, &[flow(1), flow(2)].concat()));
    write_capture(&path, &[[&first[..], &second].concat()]);
    let lines = decode(&path, &["-o", "json", "--explain"]).json();
    let messages: Vec<_> = lines.iter().filter(|line| line["recordType"] == "message").collect();
    let [one, two] = &messages[..] else { panic!("{lines:?}") };
    assert_eq!((&one["octets"], &one["records"]), (&json!(first.len()), &json!(2)));
    assert_eq!((&two["octets"], &two["place"]), (&json!(second.len()), &json!(2)));
    assert_eq!((&two["sets"][1]["holds"], &two["records"]), (&json!("data"), &Value::Null));
    let table = decode(&path, &["--explain"]).stdout;
    assert!(table.contains("(number 2 of its datagram): 52 octets\n"), "{table}");
}
