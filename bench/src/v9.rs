//! NetFlow v9 datagrams of the 18 fields that routers commonly send (RFC 3954).

use crate::layout::{Header, push_set_header, push_template, record_size, records_max};
use crate::traffic::Flow;

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
const HEADER_SIZE: usize = 20;
/// Records that fit a datagram beside the template.
pub const RECORDS_MAX: usize = records_max(HEADER_SIZE, &FIELDS);

/// Writes one datagram. Flows end their age before the message says it was made.
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
        push_template(out, 0, &FIELDS);
    }
    if flows.is_empty() {
        return;
    }
    let body = flows.len() * record_size(&FIELDS);
    let padding = body.next_multiple_of(4) - body;
    push_set_header(out, body + padding);
    for flow in flows {
        encode_flow(out, header.uptime_millis, flow);
    }
    out.extend_from_slice(&[0; 3][..padding]);
}

/// Puts time, sequence and Source ID into a datagram that is there.
pub fn stamp(datagram: &mut [u8], unix_seconds: u32, sequence: u32, domain: u32) {
    for (place, word) in
        datagram[8..HEADER_SIZE].chunks_exact_mut(4).zip([unix_seconds, sequence, domain])
    {
        place.copy_from_slice(&word.to_be_bytes());
    }
}

fn encode_flow(out: &mut Vec<u8>, uptime_millis: u32, flow: &Flow) {
    let last = uptime_millis.wrapping_sub(flow.age_millis);
    let first = last.wrapping_sub(flow.duration_millis);
    for word in [
        flow.source_address,
        flow.destination_address,
        flow.next_hop,
        flow.ingress_interface,
        flow.egress_interface,
        flow.packets,
        flow.octets,
        first,
        last,
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
    use crate::layout::{MESSAGE_SIZE_MAX, TEMPLATE_ID};
    use crate::traffic;

    #[test]
    fn a_stamp_is_what_would_have_been_written() {
        let flows = [traffic::flow(1, 1)];
        let header = Header { unix_seconds: 1, uptime_millis: 2, sequence: 3, domain: 4 };
        let (mut made, mut stamped) = (Vec::new(), Vec::new());
        encode(&mut made, header, true, &flows);
        let blank = Header { unix_seconds: 0, sequence: 0, domain: 0, ..header };
        encode(&mut stamped, blank, true, &flows);
        stamp(&mut stamped, 1, 3, 4);
        assert_eq!(stamped, made);
    }

    #[test]
    fn a_datagram_s_sets_fill_it_exactly() {
        let flows: Vec<Flow> = (0..RECORDS_MAX as u64).map(|i| traffic::flow(1, i)).collect();
        let header = Header { unix_seconds: 1, uptime_millis: 2, sequence: 3, domain: 4 };
        let mut out = Vec::new();
        encode(&mut out, header, true, &flows);
        assert!(out.len() <= MESSAGE_SIZE_MAX);
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
