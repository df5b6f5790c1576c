//! NetFlow v9 datagrams of the 18 fields that routers commonly send (RFC 3954).

use crate::traffic::Flow;

/// The template's id.
const TEMPLATE_ID: u16 = 256;
/// Field types and lengths, in the order that [`encode_flow`] writes them.
const FIELDS: [(u16, u16); 18] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
];
const RECORD_SIZE: usize = record_size();
const HEADER_SIZE: usize = 20;
const SET_HEADER_SIZE: usize = 4;
const TEMPLATE_SET_SIZE: usize = SET_HEADER_SIZE + 4 + 4 * FIELDS.len();
/// Payload that fits an Ethernet frame beside IPv4 and IPv6 headers and some encapsulation.
const DATAGRAM_SIZE_MAX: usize = 1_432;
/// Records that fit a datagram beside the template.
pub const RECORDS_MAX: usize =
    (DATAGRAM_SIZE_MAX - HEADER_SIZE - TEMPLATE_SET_SIZE - SET_HEADER_SIZE) / RECORD_SIZE;

const fn record_size() -> usize {
    let mut size = 0;
    let mut field = 0;
    while field < FIELDS.len() {
        size += FIELDS[field].1 as usize;
        field += 1;
    }
    size
}

/// Where a datagram stands in its exporter's stream.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Seconds since 1970.
    pub unix_seconds: u32,
    /// Milliseconds since the exporter's boot, at that second.
    pub uptime_millis: u32,
    /// Datagrams sent before this one.
    pub sequence: u32,
    /// Source ID.
    pub domain: u32,
}

/// Writes one datagram. Flows end when the message says it was made.
pub fn encode(out: &mut Vec<u8>, header: Header, with_template: bool, flows: &[Flow]) {
    assert!(flows.len() <= RECORDS_MAX, "the records fit a datagram");
    out.clear();
    let count = flows.len() as u16 + u16::from(with_template);
    out.extend_from_slice(&9_u16.to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    for word in [header.uptime_millis, header.unix_seconds, header.sequence, header.domain] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    if with_template {
        encode_template(out);
    }
    if flows.is_empty() {
        return;
    }
    let body = flows.len() * RECORD_SIZE;
    let padding = body.next_multiple_of(4) - body;
    out.extend_from_slice(&TEMPLATE_ID.to_be_bytes());
    out.extend_from_slice(&((SET_HEADER_SIZE + body + padding) as u16).to_be_bytes());
    for flow in flows {
        encode_flow(out, header.uptime_millis, flow);
    }
    out.extend_from_slice(&[0; 3][..padding]);
}

fn encode_template(out: &mut Vec<u8>) {
    let words = [0, TEMPLATE_SET_SIZE as u16, TEMPLATE_ID, FIELDS.len() as u16];
    for word in words.into_iter().chain(FIELDS.into_iter().flat_map(|(id, size)| [id, size])) {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

fn encode_flow(out: &mut Vec<u8>, uptime_millis: u32, flow: &Flow) {
    let first = uptime_millis.wrapping_sub(flow.duration_millis);
    for word in [
        flow.source_address,
        flow.destination_address,
        flow.next_hop,
        flow.ingress_interface,
        flow.egress_interface,
        flow.packets,
        flow.octets,
        first,
        uptime_millis,
    ] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&flow.source_port.to_be_bytes());
    out.extend_from_slice(&flow.destination_port.to_be_bytes());
    out.extend_from_slice(&[flow.tcp_control_bits, flow.protocol, flow.class_of_service]);
    out.extend_from_slice(&flow.source_as.to_be_bytes());
    out.extend_from_slice(&flow.destination_as.to_be_bytes());
    out.extend_from_slice(&[flow.source_prefix_length, flow.destination_prefix_length]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic;

    #[test]
    fn a_datagram_s_sets_fill_it_exactly() {
        let flows: Vec<Flow> = (0..RECORDS_MAX as u64).map(|i| traffic::flow(1, i)).collect();
        let header = Header { unix_seconds: 1, uptime_millis: 2, sequence: 3, domain: 4 };
        let mut out = Vec::new();
        encode(&mut out, header, true, &flows);
        assert!(out.len() <= DATAGRAM_SIZE_MAX);
        let mut at = HEADER_SIZE;
        let mut sets = Vec::new();
        while at < out.len() {
            sets.push(u16::from_be_bytes([out[at], out[at + 1]]));
            at += usize::from(u16::from_be_bytes([out[at + 2], out[at + 3]]));
        }
        assert_eq!(at, out.len());
        assert_eq!(sets, [0, TEMPLATE_ID]);
    }
}
