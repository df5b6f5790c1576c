//! account: a packet -> key and delta for the map of its family, or why it is not accounted.

use flowd_common::packet::{Addresses, LinkType, PacketBytes, parse};
use flowd_common::{Direction, DropReason, FirstPacket, FlowCounters, FlowKeyV4, FlowKeyV6};

/// Where and when a packet was seen, and what the kernel holds of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    /// Interface, numbered across network namespaces.
    pub(crate) interface: u32,
    /// Ingress or egress.
    pub(crate) direction: Direction,
    /// Boot clock.
    pub(crate) time_nanos: i64,
    /// Packets on the wire: more than one where the kernel holds several segments as one.
    pub(crate) segments: u64,
    /// Octets of headers that each segment after the first repeats on the wire.
    pub(crate) header_octets: u64,
}

/// What is to be added to the flow of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delta<K> {
    /// Which flow.
    pub(crate) key: K,
    /// What is added.
    pub(crate) counters: FlowCounters,
    /// What is fixed if the flow is new.
    pub(crate) first: FirstPacket,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// To the map of IPv4 flows.
    V4(Delta<FlowKeyV4>),
    /// To the map of IPv6 flows.
    V6(Delta<FlowKeyV6>),
    /// To the counter of this reason.
    Refused(DropReason),
}

/// Parses a packet and says what is to be added where.
#[inline(always)]
pub(crate) fn account<P: PacketBytes>(
    link_type: LinkType,
    bytes: &P,
    observation: &Observation,
) -> Account {
    let packet = match parse(link_type, bytes) {
        Ok(packet) => packet,
        Err(refusal) => return Account::Refused(refusal.drop_reason()),
    };
    let mut counters = FlowCounters::of_packet(&packet, observation.time_nanos);
    // A super-packet stands for what the wire carries: every segment has the headers again.
    counters.packets = observation.segments.max(1);
    let repeated = counters.packets.wrapping_sub(1).wrapping_mul(observation.header_octets);
    counters.octets = counters.octets.wrapping_add(repeated);
    let first = FirstPacket::of_packet(&packet);
    let (transport_kind, source_port, destination_port) = packet.transport.to_key();
    match packet.addresses {
        Addresses::V4 { source, destination } => Account::V4(Delta {
            key: FlowKeyV4 {
                source_address: source,
                destination_address: destination,
                interface: observation.interface,
                source_port,
                destination_port,
                protocol: packet.protocol,
                direction: observation.direction,
                transport_kind,
                padding: 0,
            },
            counters,
            first,
        }),
        Addresses::V6 { source, destination } => Account::V6(Delta {
            key: FlowKeyV6 {
                source_address: source,
                destination_address: destination,
                interface: observation.interface,
                source_port,
                destination_port,
                protocol: packet.protocol,
                direction: observation.direction,
                transport_kind,
                padding: 0,
            },
            counters,
            first,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: [u8; 28] = [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, //
        0x30, 0x39, 0, 53, 0, 8, 0, 0,
    ];

    const SEEN: Observation = Observation {
        interface: 3,
        direction: Direction::EGRESS,
        time_nanos: 5,
        segments: 1,
        header_octets: 28,
    };

    fn octets(observation: &Observation) -> (u64, u64) {
        match account(LinkType::RawIp, &&UDP[..], observation) {
            Account::V4(Delta { counters, .. }) => (counters.packets, counters.octets),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_packet_becomes_key_and_delta() {
        let Account::V4(delta) = account(LinkType::RawIp, &&UDP[..], &SEEN) else {
            panic!("an IPv4 packet goes to the IPv4 map");
        };
        let FlowKeyV4 { interface, destination_port, direction, .. } = delta.key;
        assert_eq!((interface, destination_port, direction), (3, 53, Direction::EGRESS));
        assert_eq!(delta.counters.first_seen_nanos, 5);
        assert_eq!(octets(&SEEN), (1, 28));
    }

    #[test]
    fn a_super_packet_counts_as_its_segments() {
        let three = Observation { segments: 3, ..SEEN };
        assert_eq!(octets(&three), (3, 28 + 2 * 28));
        let unknown = Observation { segments: 0, ..SEEN };
        assert_eq!(octets(&unknown), (1, 28));
    }

    #[test]
    fn what_is_not_ip_is_refused_by_reason() {
        let account = account(LinkType::RawIp, &&[0x50_u8; 40][..], &SEEN);
        assert_eq!(account, Account::Refused(DropReason::IpVersion));
    }
}
