//! IPFIX Messages of 18 fields (RFC 7011), the flow's times in milliseconds since 1970.

use crate::layout::{Header, push_set_header, push_template, record_size, records_max};
use crate::traffic::Flow;

/// Elements and lengths, in the order that [`encode_flow`] writes them.
const FIELDS: [(u16, u16); 18] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 8),
    (1, 8),
    (152, 8),
    (153, 8),
    (7, 2),
    (11, 2),
    (6, 2),
    (4, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
];
const HEADER_SIZE: usize = 16;
/// Records that fit a Message beside the template.
pub const RECORDS_MAX: usize = records_max(HEADER_SIZE, &FIELDS);

/// Writes one Message. Flows end their age before it says it was made; `sequence` counts Data Records.
pub fn encode(out: &mut Vec<u8>, header: Header, with_template: bool, flows: &[Flow]) {
    assert!(flows.len() <= RECORDS_MAX, "the records fit a Message");
    out.clear();
    out.extend_from_slice(&[0, 10, 0, 0]);
    for word in [header.unix_seconds, header.sequence, header.domain] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    if with_template {
        push_template(out, 2, &FIELDS);
    }
    if !flows.is_empty() {
        push_set_header(out, flows.len() * record_size(&FIELDS));
        for flow in flows {
            encode_flow(out, header.unix_seconds, flow);
        }
    }
    let size = out.len() as u16;
    out[2..4].copy_from_slice(&size.to_be_bytes());
}

fn encode_flow(out: &mut Vec<u8>, unix_seconds: u32, flow: &Flow) {
    for word in [
        flow.source_address,
        flow.destination_address,
        flow.next_hop,
        flow.ingress_interface,
        flow.egress_interface,
    ] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    let end = u64::from(unix_seconds) * 1_000 - u64::from(flow.age_millis);
    let start = end - u64::from(flow.duration_millis);
    for number in [u64::from(flow.packets), u64::from(flow.octets), start, end] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    for number in [flow.source_port, flow.destination_port, u16::from(flow.tcp_control_bits)] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&[flow.protocol, flow.class_of_service]);
    for system in [flow.source_as, flow.destination_as] {
        out.extend_from_slice(&system.to_be_bytes());
    }
    out.extend_from_slice(&[flow.source_prefix_length, flow.destination_prefix_length]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::MESSAGE_SIZE_MAX;
    use crate::traffic;

    #[test]
    fn the_length_of_a_message_is_its_own() {
        let flows: Vec<Flow> = (0..RECORDS_MAX as u64).map(|i| traffic::flow(1, i)).collect();
        let header =
            Header { unix_seconds: 1_700_000_000, uptime_millis: 2, sequence: 3, domain: 4 };
        let mut out = Vec::new();
        encode(&mut out, header, true, &flows);
        assert!(out.len() <= MESSAGE_SIZE_MAX);
        assert_eq!(usize::from(u16::from_be_bytes([out[2], out[3]])), out.len());
    }
}
