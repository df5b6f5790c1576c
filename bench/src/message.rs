//! Export messages of every protocol, octet by octet and by rules of their own, so that each can
//! be bent: the parts of a message are octets, and nobody checks that they fit together.

use crate::layout::Header;
use crate::traffic::Flow;

/// The length of a field that says that each record tells it (RFC 7011 section 7).
pub const VARIABLE: u16 = u16::MAX;
/// Set ids of templates and options templates.
pub const V9_TEMPLATES: u16 = 0;
/// Options templates of NetFlow v9.
pub const V9_OPTIONS: u16 = 1;
/// Templates of IPFIX.
pub const IPFIX_TEMPLATES: u16 = 2;
/// Options templates of IPFIX.
pub const IPFIX_OPTIONS: u16 = 3;

/// A field of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Whose element it is: 0 is IANA.
    pub enterprise: u32,
    /// Its number.
    pub id: u16,
    /// Octets in a record.
    pub length: u16,
}

/// A field of IANA's.
#[must_use]
pub const fn field(id: u16, length: u16) -> Field {
    Field { enterprise: 0, id, length }
}

/// A field of an enterprise's.
#[must_use]
pub const fn enterprise_field(enterprise: u32, id: u16, length: u16) -> Field {
    Field { enterprise, id, length }
}

/// Words of two octets, one after another.
#[must_use]
pub fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Words of four octets, one after another.
#[must_use]
pub fn long_words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The specifiers of fields (RFC 3954 section 5.2, RFC 7011 section 3.2).
#[must_use]
pub fn specifiers(fields: &[Field]) -> Vec<u8> {
    let mut octets = Vec::new();
    for Field { enterprise, id, length } in fields {
        let bit = if *enterprise == 0 { 0 } else { 0x8000 };
        octets.extend(words(&[id | bit, *length]));
        if *enterprise != 0 {
            octets.extend(enterprise.to_be_bytes());
        }
    }
    octets
}

/// A template of either protocol.
#[must_use]
pub fn template(id: u16, fields: &[Field]) -> Vec<u8> {
    [words(&[id, fields.len() as u16]), specifiers(fields)].concat()
}

/// An options template of NetFlow v9: the lengths of scopes and options in octets.
#[must_use]
pub fn v9_options_template(id: u16, scopes: &[Field], options: &[Field]) -> Vec<u8> {
    let lengths = [id, 4 * scopes.len() as u16, 4 * options.len() as u16];
    [words(&lengths), specifiers(scopes), specifiers(options)].concat()
}

/// An options template of IPFIX, the first so many fields of which are scopes.
#[must_use]
pub fn ipfix_options_template(id: u16, scope_count: u16, fields: &[Field]) -> Vec<u8> {
    [words(&[id, fields.len() as u16, scope_count]), specifiers(fields)].concat()
}

/// A set, without padding.
#[must_use]
pub fn set(id: u16, body: &[u8]) -> Vec<u8> {
    [&words(&[id, body.len() as u16 + 4]), body].concat()
}

/// A value of variable length in its short form; in its long one from 255 octets on.
#[must_use]
pub fn variable(value: &[u8]) -> Vec<u8> {
    if value.len() < 255 {
        return [&[value.len() as u8][..], value].concat();
    }
    [&[255][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// An Export Packet of NetFlow v9.
#[must_use]
pub fn v9(header: Header, count: u16, sets: &[Vec<u8>]) -> Vec<u8> {
    let Header { unix_seconds, uptime_millis, sequence, domain } = header;
    let clocks = long_words(&[uptime_millis, unix_seconds, sequence, domain]);
    [words(&[9, count]), clocks, sets.concat()].concat()
}

/// A Message of IPFIX.
#[must_use]
pub fn ipfix(header: Header, sets: &[Vec<u8>]) -> Vec<u8> {
    let Header { unix_seconds, sequence, domain, uptime_millis: _ } = header;
    let sets = sets.concat();
    let rest = long_words(&[unix_seconds, sequence, domain]);
    [words(&[10, sets.len() as u16 + 16]), rest, sets].concat()
}

/// A datagram of NetFlow v1, v5 or v7. The domain's low octets are the engine's type and number.
#[must_use]
pub fn fixed(version: u16, header: Header, flows: &[Flow]) -> Vec<u8> {
    let Header { unix_seconds, uptime_millis, sequence, domain } = header;
    let mut out = words(&[version, flows.len() as u16]);
    out.extend(long_words(&[uptime_millis, unix_seconds, 500_000_000]));
    match version {
        1 => {}
        5 => {
            out.extend(sequence.to_be_bytes());
            // Mode 1, one packet of 100.
            out.extend(words(&[domain as u16, 0x4064]));
        }
        _ => out.extend(long_words(&[sequence, 0])),
    }
    for flow in flows {
        fixed_record(&mut out, version, uptime_millis, flow);
    }
    out
}

fn fixed_record(out: &mut Vec<u8>, version: u16, uptime_millis: u32, flow: &Flow) {
    out.extend(long_words(&[flow.source_address, flow.destination_address, flow.next_hop]));
    out.extend(words(&[flow.ingress_interface as u16, flow.egress_interface as u16]));
    let last = uptime_millis.wrapping_sub(flow.age_millis);
    let first = last.wrapping_sub(flow.duration_millis);
    out.extend(long_words(&[flow.packets, flow.octets, first, last]));
    out.extend(words(&[flow.source_port, flow.destination_port]));
    if version == 1 {
        out.extend([0, 0, flow.protocol, flow.class_of_service, flow.tcp_control_bits]);
        out.extend([0; 11]);
        return;
    }
    out.extend([0, flow.tcp_control_bits, flow.protocol, flow.class_of_service]);
    out.extend(words(&[flow.source_as as u16, flow.destination_as as u16]));
    out.extend([flow.source_prefix_length, flow.destination_prefix_length, 0, 0]);
    if version == 7 {
        out.extend([192, 0, 2, 250]);
    }
}

/// A datagram of sFlow v5 with these samples.
#[must_use]
pub fn sflow(header: Header, samples: &[Vec<u8>]) -> Vec<u8> {
    let Header { uptime_millis, sequence, domain, unix_seconds: _ } = header;
    let agent = 0xc000_02c8;
    let count = samples.len() as u32;
    let header = long_words(&[5, 1, agent, domain, sequence, uptime_millis, count]);
    [header, samples.concat()].concat()
}

/// A sample, or a record of one: its format, its length, its octets.
#[must_use]
pub fn block(format: u32, body: &[u8]) -> Vec<u8> {
    [&long_words(&[format, body.len() as u32]), body].concat()
}

/// An sFlow flow sample of one packet's header.
#[must_use]
pub fn flow_sample(sequence: u32, frame: &[u8]) -> Vec<u8> {
    let mut header = long_words(&[1, frame.len() as u32, 4, frame.len() as u32]);
    header.extend(frame);
    header.resize(header.len().next_multiple_of(4), 0);
    let sample = long_words(&[sequence, 3, 512, sequence * 512, 0, 3, 4, 1]);
    block(1, &[sample, block(1, &header)].concat())
}

/// An sFlow counter sample of one interface.
#[must_use]
pub fn counter_sample(sequence: u32, interface: u32) -> Vec<u8> {
    let counters: Vec<u32> = (0..22).map(|number| interface * 100 + number).collect();
    let sample = long_words(&[sequence, interface, 1]);
    block(2, &[sample, block(1, &long_words(&counters))].concat())
}

/// An Ethernet frame of an IPv4 packet of this flow.
#[must_use]
pub fn frame(flow: &Flow) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, flow.class_of_service];
    frame.extend(words(&[60, 7, 0]));
    frame.extend([64, flow.protocol, 0, 0]);
    frame.extend(long_words(&[flow.source_address, flow.destination_address]));
    frame.extend(words(&[flow.source_port, flow.destination_port]));
    frame.extend([0; 8]);
    frame.extend([0x50, flow.tcp_control_bits]);
    frame.resize(74, 0);
    frame
}
