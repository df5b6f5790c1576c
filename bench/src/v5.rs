//! NetFlow v5 datagrams, as the format's 48 octets a record ask for.

use crate::traffic::Flow;
use crate::v9::Header;

/// Records that a datagram may have (the format's own limit).
pub const RECORDS_MAX: usize = 30;

/// Writes one datagram. Flows end when the message says it was made; `sequence` counts flows.
pub fn encode(out: &mut Vec<u8>, header: Header, flows: &[Flow]) {
    assert!(flows.len() <= RECORDS_MAX, "the records fit a datagram");
    out.clear();
    out.extend_from_slice(&5_u16.to_be_bytes());
    out.extend_from_slice(&(flows.len() as u16).to_be_bytes());
    for word in [header.uptime_millis, header.unix_seconds, 0, header.sequence, header.domain << 16]
    {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for flow in flows {
        encode_flow(out, header.uptime_millis, flow);
    }
}

fn encode_flow(out: &mut Vec<u8>, uptime_millis: u32, flow: &Flow) {
    for word in [flow.source_address, flow.destination_address, flow.next_hop] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for interface in [flow.ingress_interface, flow.egress_interface] {
        out.extend_from_slice(&(interface as u16).to_be_bytes());
    }
    let first = uptime_millis.wrapping_sub(flow.duration_millis);
    for word in [flow.packets, flow.octets, first, uptime_millis] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for port in [flow.source_port, flow.destination_port] {
        out.extend_from_slice(&port.to_be_bytes());
    }
    out.extend_from_slice(&[0, flow.tcp_control_bits, flow.protocol, flow.class_of_service]);
    for system in [flow.source_as, flow.destination_as] {
        out.extend_from_slice(&(system as u16).to_be_bytes());
    }
    out.extend_from_slice(&[flow.source_prefix_length, flow.destination_prefix_length, 0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic;

    #[test]
    fn a_datagram_has_a_header_and_its_records() {
        let flows: Vec<Flow> = (0..RECORDS_MAX as u64).map(|i| traffic::flow(1, i)).collect();
        let header = Header { unix_seconds: 1, uptime_millis: 2, sequence: 3, domain: 4 };
        let mut out = Vec::new();
        encode(&mut out, header, &flows);
        assert_eq!(out.len(), 24 + 48 * RECORDS_MAX);
    }
}
