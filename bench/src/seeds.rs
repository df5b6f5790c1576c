//! What fuzzing starts from: a few inputs of every protocol, always the same.
//!
//! An input is messages one after another, each behind an octet for its sender and two for its
//! size, as `flowd/fuzz/src/input.rs` reads them.

use crate::layout::Header;
use crate::message::{
    IPFIX_OPTIONS, IPFIX_TEMPLATES, V9_OPTIONS, V9_TEMPLATES, VARIABLE, counter_sample,
    enterprise_field, field, fixed, flow_sample, frame, ipfix, ipfix_options_template, set, sflow,
    template, v9, v9_options_template, variable, words,
};
use crate::traffic::{Flow, flow};
use crate::v9 as v9_encoder;

/// The bit of a sender that says that it has a connection.
const CONNECTION: u8 = 0x80;
/// The bit that says that the connection ends after the message.
const ENDS: u8 = 0x40;

const HEADER: Header =
    Header { unix_seconds: 1_700_000_000, uptime_millis: 3_600_000, sequence: 0, domain: 7 };

/// An input of these messages.
fn input(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut input = Vec::new();
    for (peer, octets) in messages {
        input.push(*peer);
        input.extend((octets.len() as u16).to_be_bytes());
        input.extend(octets);
    }
    input
}

fn flows(count: u64) -> Vec<Flow> {
    (0..count).map(|index| flow(1, index)).collect()
}

/// All seeds with their names.
#[must_use]
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let fixed = |version| input(&[(1, fixed(version, HEADER, &flows(2)))]);
    vec![
        ("v1", fixed(1)),
        ("v5", fixed(5)),
        ("v7", fixed(7)),
        ("v9", v9_flows()),
        ("v9-late-template", v9_late_template()),
        ("v9-options", v9_options()),
        ("ipfix", ipfix_flows()),
        ("ipfix-variable", ipfix_variable()),
        ("ipfix-lists", ipfix_lists()),
        ("ipfix-withdrawal", ipfix_withdrawal()),
        ("sflow", sflow_samples()),
    ]
}

fn v9_flows() -> Vec<u8> {
    let mut both = Vec::new();
    v9_encoder::encode(&mut both, HEADER, true, &flows(3));
    let mut more = Vec::new();
    v9_encoder::encode(&mut more, Header { sequence: 1, ..HEADER }, false, &flows(2));
    input(&[(1, both), (1, more)])
}

fn v9_late_template() -> Vec<u8> {
    let data = set(300, &[10, 0, 0, 1, 0, 0, 1, 0, 10, 0, 0, 2, 0, 0, 2, 0]);
    let template = set(V9_TEMPLATES, &template(300, &[field(8, 4), field(1, 4)]));
    input(&[(1, v9(HEADER, 2, &[data])), (2, v9(HEADER, 1, &[template]))])
}

fn v9_options() -> Vec<u8> {
    let template =
        v9_options_template(260, &[field(1, 4)], &[field(34, 4), field(35, 1), field(82, 8)]);
    let data = set(260, b"\x00\x00\x00\x07\x00\x00\x00\x64\x02eth0\x00\x00\x00\x00\x00\x00\x00");
    input(&[(1, v9(HEADER, 2, &[set(V9_OPTIONS, &template), data]))])
}

fn ipfix_flows() -> Vec<u8> {
    let fields = [field(8, 4), field(12, 4), field(1, 8), field(2, 3), field(152, 8), field(4, 1)];
    let mut record = vec![10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 5, 220, 0, 0, 9];
    record.extend(1_700_000_000_123_u64.to_be_bytes());
    record.push(17);
    let sets = [set(IPFIX_TEMPLATES, &template(256, &fields)), set(256, &record.repeat(3))];
    input(&[(1, ipfix(HEADER, &sets)), (1, ipfix(Header { sequence: 3, ..HEADER }, &sets[1..]))])
}

fn ipfix_variable() -> Vec<u8> {
    let fields = [
        field(27, 16),
        enterprise_field(35_632, 168, 4),
        enterprise_field(29_305, 1, 8),
        field(96, VARIABLE),
        enterprise_field(9, 12_235, VARIABLE),
    ];
    let record = |name: &[u8], other: &[u8]| {
        let mut record = vec![0x20; 16];
        record.extend([0, 0, 4, 210, 0, 0, 0, 0, 0, 0, 1, 0]);
        [record, variable(name), variable(other)].concat()
    };
    let data = [record(b"https", b""), record(&[b'x'; 300], &[3, 0, 0, 1, 52, 1])].concat();
    let options =
        ipfix_options_template(257, 1, &[field(149, 4), field(160, 8), field(82, 65_535)]);
    let mut about = vec![0, 0, 0, 7];
    about.extend(1_699_000_000_000_u64.to_be_bytes());
    about.extend(variable(b"ge-0/0/1"));
    let sets = [
        set(IPFIX_TEMPLATES, &template(256, &fields)),
        set(IPFIX_OPTIONS, &options),
        set(257, &about),
        set(256, &data),
    ];
    input(&[(1, ipfix(HEADER, &sets))])
}

/// A record with a basicList, a subTemplateList and a subTemplateMultiList (RFC 6313).
fn ipfix_lists() -> Vec<u8> {
    let inner = template(258, &[field(8, 4), field(7, 2)]);
    let outer = [field(291, VARIABLE), field(292, VARIABLE), field(293, VARIABLE)];
    let basic = [&[3][..], &words(&[4, 1]), &[6, 17, 1]].concat();
    let rows = [10, 0, 0, 1, 0, 80, 10, 0, 0, 2, 1, 187];
    let of_one = [&[4][..], &words(&[258]), &rows].concat();
    let of_many = [&[255][..], &words(&[258, 16]), &rows].concat();
    let record = [variable(&basic), variable(&of_one), variable(&of_many)].concat();
    let templates = [template(259, &outer), inner].concat();
    let sets = [set(IPFIX_TEMPLATES, &templates), set(259, &record)];
    input(&[(1, ipfix(HEADER, &sets))])
}

fn ipfix_withdrawal() -> Vec<u8> {
    let peer = CONNECTION | 1;
    let fields = [field(8, 4), field(1, 4)];
    let data = set(256, &[10, 0, 0, 1, 0, 0, 1, 0]);
    let sets = [set(IPFIX_TEMPLATES, &template(256, &fields)), data.clone()];
    let withdrawal = set(IPFIX_TEMPLATES, &words(&[256, 0]));
    let all = set(IPFIX_OPTIONS, &words(&[3, 0]));
    input(&[
        (peer, ipfix(HEADER, &sets)),
        (peer, ipfix(HEADER, &[withdrawal, all])),
        (peer | ENDS, ipfix(HEADER, &[data])),
    ])
}

fn sflow_samples() -> Vec<u8> {
    let frames = flows(2);
    let samples = [
        flow_sample(1, &frame(&frames[0])),
        counter_sample(1, 3),
        flow_sample(2, &frame(&frames[1])),
    ];
    input(&[(1, sflow(HEADER, &samples))])
}
