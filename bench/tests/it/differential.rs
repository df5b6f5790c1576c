//! The same datagrams through another decoder, netflow_parser: as many records, and of every
//! element that both give the same value.
//!
//! Their values are compared as the octets that they write back; ours are a column's number or
//! address, or the octets kept with the record.

use bench::layout::Header;
use bench::message::{
    IPFIX_OPTIONS, IPFIX_TEMPLATES, V9_OPTIONS, V9_TEMPLATES, VARIABLE, enterprise_field, field,
    fixed, ipfix, ipfix_options_template, set, template, v9, v9_options_template, variable,
};
use bench::random::Draws;
use bench::traffic::flow;
use bench::v9 as v9_encoder;
use flowd::collect::{Books, Decoder, DecoderConfig, TemplateStore};
use flowd::model::ie;
use flowd::model::time::UnixMillis;
use flowd::model::{Column, Extra, FlowBatch, FlowRecord, Value};
use flowd::probe::CaptureFile;
use netflow_parser::variable_versions::ipfix::lookup::IPFixField;
use netflow_parser::variable_versions::{ipfix as their_ipfix, v9 as their_v9};
use netflow_parser::{FieldValue, NetflowPacket, NetflowParser};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Elements whose value here is another than the octets sent, and why.
const NOT_AS_SENT: &[(&[u16], &str)] = &[
    (&[21, 22], "times since boot become times since 1970"),
    (&[150, 151, 152, 153, 154, 155, 156, 157, 158, 159], "all times become milliseconds"),
    (&[32, 139, 176, 177, 178, 179], "ICMP's type and code are one number of 16 bits"),
    (&[8, 12, 15, 18, 27, 28, 62, 63], "of two families the one that is not zero"),
    (&[6], "of the flags the low twelve bits"),
    (&[210], "padding says nothing and is not kept"),
];

/// Captures in which the count of records differs, and who is right by the RFC.
const COUNTS_DIFFER: &[(&str, &str)] = &[
    ("ak_v9_data_before_template", "data waits here for the template that comes after it"),
    ("bk_v9_mixed", "data waits here for the template that comes after it"),
    ("ce_01_odid0", EMPTY),
    ("ce_03_odid0_a", EMPTY),
    ("ls_ipfix_ixia_256", EMPTY),
    ("ls_ipfix_procera", EMPTY),
    ("tg_ipfix_pen_35632", EMPTY),
    (
        "np_ipfix_with_v9_options_template_packet",
        "behind a set of NetFlow v9's in an IPFIX message the others are read here",
    ),
    ("ls_v5_invalid01", "of a datagram that is cut the whole records are read here"),
    ("ls_v9_paloalto_81_zerofill", "zeros behind the last set are no fault here"),
];
/// RFC 7011 section 7 allows it; theirs ends the set there.
const EMPTY: &str = "values of variable length that have no octets";

/// The elements of a record, by enterprise and number, with their octets.
type Elements = Vec<((u32, u16), Vec<u8>)>;

/// What ours decodes of the datagrams of one exporter each.
fn ours(datagrams: &[(SocketAddr, Vec<u8>)]) -> Vec<FlowRecord> {
    let config = DecoderConfig::default();
    let templates = Arc::new(TemplateStore::new(&config));
    let mut decoder = Decoder::new(&config, templates, Arc::default(), Arc::new(Books::default()));
    let mut batch = FlowBatch::new();
    let mut records = Vec::new();
    for (peer, datagram) in datagrams {
        let now = UnixMillis(1_700_000_000_000);
        let take = |batch: &FlowBatch, records: &mut Vec<FlowRecord>| {
            records.extend((0..batch.len()).filter_map(|row| batch.record(row)));
        };
        decoder.decode(datagram, (*peer).into(), now, &mut batch, &mut |full| {
            take(full, &mut records);
        });
        take(&batch, &mut records);
        batch.clear();
    }
    records
}

/// What theirs does: a parser for each address and domain, as ours scopes templates.
fn theirs(datagrams: &[(SocketAddr, Vec<u8>)]) -> Vec<Elements> {
    let mut parsers: HashMap<(IpAddr, Vec<u8>), NetflowParser> = HashMap::new();
    let mut records = Vec::new();
    for (peer, datagram) in datagrams {
        let domain = match datagram.first_chunk() {
            Some([0, 9]) => datagram.get(16..20),
            Some([0, 10]) => datagram.get(12..16),
            _ => None,
        };
        let key = (peer.ip(), domain.unwrap_or_default().to_vec());
        let parsed = parsers.entry(key).or_default().parse_bytes(datagram);
        for packet in parsed.packets {
            records_of(packet, &mut records);
        }
    }
    records
}

fn records_of(packet: NetflowPacket, records: &mut Vec<Elements>) {
    match packet {
        NetflowPacket::V5(message) => {
            records.extend(message.flowsets.iter().map(|flow| {
                let numbers = [
                    (8, u32::from(flow.src_addr)),
                    (12, u32::from(flow.dst_addr)),
                    (15, u32::from(flow.next_hop)),
                    (10, u32::from(flow.input)),
                    (14, u32::from(flow.output)),
                    (2, flow.d_pkts),
                    (1, flow.d_octets),
                    (7, u32::from(flow.src_port)),
                    (11, u32::from(flow.dst_port)),
                    (6, u32::from(flow.tcp_flags)),
                    (4, u32::from(flow.protocol_number)),
                    (5, u32::from(flow.tos)),
                    (16, u32::from(flow.src_as)),
                    (17, u32::from(flow.dst_as)),
                    (9, u32::from(flow.src_mask)),
                    (13, u32::from(flow.dst_mask)),
                ];
                numbers.map(|(id, value)| ((0, id), value.to_be_bytes().to_vec())).to_vec()
            }));
        }
        NetflowPacket::V9(message) => {
            for set in message.flowsets {
                match set.body {
                    their_v9::FlowSetBody::Data(data) => {
                        records.extend(data.fields.iter().map(|record| v9_elements(record)));
                    }
                    their_v9::FlowSetBody::OptionsData(data) => records.extend(
                        data.fields.iter().map(|record| v9_elements(&record.options_fields)),
                    ),
                    _ => {}
                }
            }
        }
        NetflowPacket::IPFix(message) => {
            for set in message.flowsets {
                match set.body {
                    their_ipfix::FlowSetBody::Data(data) => {
                        records.extend(data.fields.iter().map(|record| ipfix_elements(record)));
                    }
                    their_ipfix::FlowSetBody::V9Data(data) => {
                        records.extend(data.fields.iter().map(|record| v9_elements(record)));
                    }
                    their_ipfix::FlowSetBody::V9OptionsData(data) => records.extend(
                        data.fields.iter().map(|record| v9_elements(&record.options_fields)),
                    ),
                    their_ipfix::FlowSetBody::OptionsData(data) => {
                        records.extend(data.fields.iter().map(|record| ipfix_elements(record)));
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn octets(value: &FieldValue) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    value.write_be_bytes(&mut octets).ok()?;
    Some(octets)
}

fn v9_elements(record: &[netflow_parser::V9FieldPair]) -> Elements {
    // Types beyond the registry are elements of enterprises here.
    let element = |(field, value): &_| Some((ie::v9_element(u16::from(*field)), octets(value)?));
    record.iter().filter_map(element).collect()
}

fn ipfix_elements(record: &[netflow_parser::IpfixFieldPair]) -> Elements {
    let element = |(field, value): &(IPFixField, FieldValue)| {
        let key = match field {
            IPFixField::Enterprise { enterprise_number, field_number } => {
                (*enterprise_number, ie::foreign_number(*enterprise_number, *field_number))
            }
            field => *numbers().get(&format!("{field:?}"))?,
        };
        Some((key, octets(value)?))
    };
    record.iter().filter_map(element).collect()
}

/// Their names of elements, which have no way back to the numbers.
fn numbers() -> &'static HashMap<String, (u32, u16)> {
    static NUMBERS: OnceLock<HashMap<String, (u32, u16)>> = OnceLock::new();
    NUMBERS.get_or_init(|| {
        let of = |enterprise: Option<u32>| {
            (0..0x8000_u16).map(move |id| {
                let name = format!("{:?}", IPFixField::new(id, enterprise));
                (name, (enterprise.unwrap_or(0), id))
            })
        };
        of(None).chain(of(Some(9))).collect()
    })
}

/// The value of an element in our record, as octets without leading zeros if it is a number.
fn value_of(record: &FlowRecord, (enterprise, id): (u32, u16)) -> Option<Ours> {
    let column = Column::from_element(id).filter(|_| enterprise == 0);
    let Some(value) = column.and_then(|column| record.value(column)) else {
        let is_it = |e: &&Extra| (e.spec.enterprise, e.spec.id) == (enterprise, id);
        let extra = record.extras.iter().find(is_it)?;
        return Some(Ours::Octets(extra.value.to_vec()));
    };
    match value {
        Value::Unsigned(number) => Some(Ours::Number(number)),
        Value::Address(IpAddr::V4(address)) => Some(Ours::Octets(address.octets().to_vec())),
        Value::Address(IpAddr::V6(address)) => Some(Ours::Octets(address.octets().to_vec())),
        Value::Mac(octets) => Some(Ours::Octets(octets.to_vec())),
        _ => None,
    }
}

#[derive(Debug, PartialEq)]
enum Ours {
    Number(u64),
    Octets(Vec<u8>),
}

impl Ours {
    fn is(&self, theirs: &[u8]) -> bool {
        match self {
            Self::Number(number) => {
                let value = theirs.iter().fold(0, |sum: u128, octet| sum << 8 | u128::from(*octet));
                theirs.len() <= 16 && value == u128::from(*number)
            }
            Self::Octets(octets) => octets == theirs,
        }
    }
}

/// Compares; how many values were, and what is wrong with the others.
fn compare(name: &str, datagrams: &[(SocketAddr, Vec<u8>)]) -> (usize, Vec<String>) {
    let (ours, theirs) = (ours(datagrams), theirs(datagrams));
    let mut faults = Vec::new();
    if ours.len() != theirs.len() {
        let known = COUNTS_DIFFER.iter().find(|(known, _)| *known == name);
        let has_empty = ours.iter().flat_map(|record| &record.extras).any(|e| e.value.is_empty());
        if known.is_none_or(|(_, reason)| *reason == EMPTY && !has_empty) {
            faults.push(format!("{name}: {} records, theirs {}", ours.len(), theirs.len()));
        }
        return (0, faults);
    }
    let mut compared = 0;
    for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        for (place, (key, octets)) in theirs.iter().enumerate() {
            let is_repeated = theirs[..place].iter().any(|(known, _)| known == key);
            let is_known = key.0 == 0 && NOT_AS_SENT.iter().any(|(ids, _)| ids.contains(&key.1));
            if is_repeated || is_known || octets.is_empty() {
                continue;
            }
            match value_of(ours, *key) {
                Some(value) if value.is(octets) => compared += 1,
                value => faults.push(format!(
                    "{name}, record {index} ({:?}), element {key:?}: {value:?}, theirs {octets:?}",
                    ours.record_type
                )),
            }
        }
    }
    (compared, faults)
}

fn peer() -> SocketAddr {
    "192.0.2.1:2055".parse().unwrap()
}

const HEADER: Header =
    Header { unix_seconds: 1_700_000_000, uptime_millis: 3_600_000, sequence: 0, domain: 7 };

#[track_caller]
fn agree(name: &str, datagrams: Vec<Vec<u8>>, values_min: usize) {
    let datagrams: Vec<_> = datagrams.into_iter().map(|datagram| (peer(), datagram)).collect();
    let (compared, faults) = compare(name, &datagrams);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(compared >= values_min, "{name}: {compared} values");
}

#[test]
fn generated_v5_is_read_alike() {
    let datagrams = (0..50).map(|number| {
        let flows: Vec<_> = (0..number % 30 + 1).map(|index| flow(number, index)).collect();
        fixed(5, HEADER, &flows)
    });
    agree("v5", datagrams.collect(), 500 * 8);
}

#[test]
fn generated_v9_is_read_alike() {
    let mut datagrams = Vec::new();
    for number in 0..50 {
        let flows: Vec<_> = (0..20).map(|index| flow(number, index)).collect();
        let mut datagram = Vec::new();
        v9_encoder::encode(&mut datagram, HEADER, number == 0, &flows);
        datagrams.push(datagram);
    }
    let options = v9_options_template(300, &[field(1, 4)], &[field(41, 8), field(42, 4)]);
    let sets = [set(V9_OPTIONS, &options), set(300, &[1; 32])];
    datagrams.push(v9(HEADER, 3, &sets));
    // Random templates of elements that neither takes for more than octets.
    let mut draws = Draws(9);
    for id in 400..450 {
        let count = draws.below(12) + 1;
        let length = |draws: &mut Draws| draws.below(9) as u16 + 1;
        let fields: Vec<_> =
            (0..count).map(|at| field(50_000 + at as u16, length(&mut draws))).collect();
        let size: u16 = fields.iter().map(|field| field.length).sum();
        let body: Vec<u8> = (0..size * 3).map(|_| draws.below(255) as u8 + 1).collect();
        let sets = [set(V9_TEMPLATES, &template(id, &fields)), set(id, &body)];
        datagrams.push(v9(HEADER, 4, &sets));
    }
    agree("v9", datagrams, 1_000 * 8 + 150 * 3);
}

#[test]
fn generated_ipfix_is_read_alike() {
    let mut datagrams = Vec::new();
    let mut draws = Draws(10);
    for id in 256..400_u16 {
        let candidates = [
            field(1, 8),
            field(1, 4),
            field(2, 3),
            field(4, 1),
            field(5, 1),
            field(10, 4),
            field(14, 2),
            field(16, 4),
            field(58, 2),
            field(61, 1),
            field(82, VARIABLE),
            field(83, 12),
            field(96, VARIABLE),
            field(136, 1),
            field(234, 4),
            enterprise_field(9, 12_232, VARIABLE),
            enterprise_field(35_632, 168, 4),
            enterprise_field(64_999, 7, 5),
        ];
        let mut fields = Vec::new();
        for candidate in candidates {
            let is_new =
                fields.iter().all(|known: &bench::message::Field| known.id != candidate.id);
            if is_new && draws.below(3) > 0 {
                fields.push(candidate);
            }
        }
        fields.push(field(8, 4));
        let is_options = id % 4 == 0;
        let layout = if is_options {
            set(IPFIX_OPTIONS, &ipfix_options_template(id, 1, &fields))
        } else {
            set(IPFIX_TEMPLATES, &template(id, &fields))
        };
        let mut body = Vec::new();
        for _ in 0..4 {
            for field in &fields {
                match field.length {
                    VARIABLE => {
                        // Theirs ends a set at a value of no octets, which RFC 7011 section 7 allows.
                        let size = draws.below(299) + 1;
                        let value: Vec<u8> =
                            (0..size).map(|_| b'a' + draws.below(26) as u8).collect();
                        body.extend(variable(&value));
                    }
                    length => body.extend((0..length).map(|_| draws.below(100) as u8 + 1)),
                }
            }
        }
        datagrams.push(ipfix(HEADER, &[layout, set(id, &body)]));
    }
    agree("ipfix", datagrams, 144 * 4 * 6);
}

/// The UDP payloads of a capture of Ethernet and IPv4, with their senders.
fn payloads(path: &Path) -> Vec<(SocketAddr, Vec<u8>)> {
    let capture = CaptureFile::open(path).unwrap();
    let packets = capture.packets().unwrap().map_while(Result::ok);
    let payload = |data: &[u8]| {
        let is_udp = data.get(12..15)? == [8, 0, 0x45] && data.get(23)? == &17;
        let source: [u8; 4] = data.get(26..30)?.try_into().ok()?;
        let port = u16::from_be_bytes(data.get(34..36)?.try_into().ok()?);
        let size = usize::from(u16::from_be_bytes(data.get(38..40)?.try_into().ok()?));
        let payload = data.get(42..34 + size)?;
        is_udp.then(|| (SocketAddr::from((source, port)), payload.to_vec()))
    };
    packets.filter_map(|packet| payload(packet.data)).collect()
}

#[test]
fn real_captures_are_read_alike() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let Ok(entries) = std::fs::read_dir(root.join("../shared/corpus/collector")) else {
        println!("skipped: no corpus beside the project");
        return;
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let (mut values, mut all) = (0, Vec::new());
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "pcap")) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        // They speak neither v1 nor sFlow.
        let datagrams: Vec<_> = payloads(path)
            .into_iter()
            .filter(|(_, datagram)| matches!(datagram.first_chunk(), Some([0, 5 | 9 | 10])))
            .collect();
        let (compared, faults) = compare(name, &datagrams);
        println!("{name}: {compared} values, {} faults", faults.len());
        values += compared;
        all.extend(faults.into_iter().take(5));
    }
    println!("{values} values compared");
    assert!(all.is_empty(), "{}", all.join("\n"));
}
