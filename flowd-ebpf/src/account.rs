//! account: a packet -> key and entry for the table of its family, or why it is not accounted.

use flowd_common::packet::{Addresses, Packet, PacketBytes};
use flowd_common::{
    FirstPacket, FlowCounters, FlowEntry, FlowKeyV4, FlowKeyV6, ObservationPoint, TransportKind,
};

/// IANA protocol numbers of those whose segments the kernel holds as one.
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_SCTP: u8 = 132;

/// Where and when a packet was seen, and what the kernel knows of it besides its octets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    /// Interface and direction.
    pub(crate) point: ObservationPoint,
    /// Boot clock.
    pub(crate) time_nanos: i64,
    /// How it goes over the wire.
    pub(crate) segments: Segments,
    /// The outermost VLAN, if the kernel has taken its tag off the frame.
    pub(crate) vlan_id: Option<u16>,
}

/// A super-packet stands for several packets of the wire, which all have its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segments {
    /// How many; 0 if the kernel does not say.
    pub(crate) count: u32,
    /// Octets of payload in each but the last; 0 if it is one packet.
    pub(crate) size: u32,
}

/// What is to be added where. It is filled in place: a program's stack has 512 octets.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Work {
    /// The flow's key, if it is of IPv4.
    pub(crate) key_v4: FlowKeyV4,
    /// The flow's key, if it is of IPv6.
    pub(crate) key_v6: FlowKeyV6,
    /// What is added to it.
    pub(crate) entry: FlowEntry,
}

/// To which table a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What tells flows between the same hosts apart, as a key holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) protocol: u8,
    pub(crate) transport: (TransportKind, u16, u16),
}

impl Ports {
    /// What the packet says itself.
    #[inline(always)]
    pub(crate) const fn of_packet(packet: &Packet) -> Self {
        Self { protocol: packet.protocol, transport: packet.transport.to_key() }
    }
}

/// Says what is to be added where for a packet that was parsed from these octets. Its ports are
/// those of its first fragment, if it is a later one.
#[inline(always)]
pub(crate) fn account<P: PacketBytes>(
    packet: &Packet,
    ports: Ports,
    bytes: &P,
    observation: &Observation,
    work: &mut Work,
) -> Family {
    work.entry.counters = counters(packet, bytes, observation);
    work.entry.first = first(packet, observation);
    work.entry.padding = [0; 4];
    let Ports { protocol, transport } = ports;
    match packet.addresses {
        Addresses::V4 { source, destination } => {
            work.key_v4.source_address = source;
            work.key_v4.destination_address = destination;
            work.key_v4.set_rest(observation.point, protocol, transport);
            Family::V4
        }
        Addresses::V6 { source, destination } => {
            work.key_v6.source_address = source;
            work.key_v6.destination_address = destination;
            work.key_v6.set_rest(observation.point, protocol, transport);
            Family::V6
        }
    }
}

#[inline(always)]
fn first(packet: &Packet, observation: &Observation) -> FirstPacket {
    let mut first = FirstPacket::of_packet(packet);
    if let Some(vlan_id) = observation.vlan_id {
        first.vlan_id = vlan_id;
        first.present |= FirstPacket::HAS_VLAN;
    }
    first
}

#[inline(always)]
fn counters<P: PacketBytes>(packet: &Packet, bytes: &P, observation: &Observation) -> FlowCounters {
    let mut counters = FlowCounters::of_packet(packet, observation.time_nanos);
    if observation.segments.size != 0 {
        let header_octets = header_octets(packet, bytes);
        let count = segment_count(observation.segments, packet.octets, header_octets);
        counters.packets = count;
        let repeated = count.wrapping_sub(1).wrapping_mul(header_octets);
        counters.octets = counters.octets.wrapping_add(repeated);
    }
    counters
}

/// Packets on the wire; at least one. Where the kernel does not say how many, because the frame
/// came from another machine's kernel, it cuts the payload as it would then.
#[inline(always)]
fn segment_count(segments: Segments, octets: u64, header_octets: u64) -> u64 {
    let (count, size) = (u64::from(segments.count), u64::from(segments.size));
    if count != 0 || size == 0 {
        return count.max(1);
    }
    octets.saturating_sub(header_octets).div_ceil(size).max(1)
}

/// Octets of headers from IP on, which every segment has.
#[inline(always)]
fn header_octets<P: PacketBytes>(packet: &Packet, bytes: &P) -> u64 {
    let network_size = packet.transport_offset.saturating_sub(packet.network_offset);
    let transport_size = match packet.protocol {
        PROTOCOL_TCP => match bytes.load(packet.transport_offset.saturating_add(12)) {
            // RFC 9293 section 3.1: the data offset, in words of 32 bits.
            Some([offset_flags]) => usize::from(offset_flags >> 4) * 4,
            None => 20,
        },
        PROTOCOL_UDP => 8,
        // RFC 9260 section 3.1: the common header.
        PROTOCOL_SCTP => 12,
        _ => 0,
    };
    network_size.saturating_add(transport_size) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowd_common::Direction;
    use flowd_common::packet::{LinkType, Transport, parse};

    const UDP: [u8; 28] = [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, //
        0x30, 0x39, 0, 53, 0, 8, 0, 0,
    ];

    /// 20 octets of IP, 32 of TCP, 4,000 of payload that was not captured.
    const TCP: [u8; 52] = [
        0x45, 0, 0x0f, 0xd4, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, //
        0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x80, 0x18, 1, 0, 0, 0, 0, 0, //
        1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2,
    ];

    const SEEN: Observation = Observation {
        point: ObservationPoint::new(3, Direction::EGRESS),
        time_nanos: 5,
        segments: Segments { count: 0, size: 0 },
        vlan_id: None,
    };

    fn work() -> Work {
        let nobody = ObservationPoint::new(0, Direction::NONE);
        Work {
            key_v4: FlowKeyV4::new(nobody, [[0; 4]; 2], 0, Transport::None),
            key_v6: FlowKeyV6::new(nobody, [[0; 16]; 2], 0, Transport::None),
            entry: FlowEntry {
                counters: FlowCounters {
                    octets: 0,
                    packets: 0,
                    first_seen_nanos: 0,
                    last_seen_nanos: 0,
                    tcp_control_bits: 0,
                    minimum_ttl: 0,
                    maximum_ttl: 0,
                    padding: [0; 4],
                },
                first: FirstPacket::default(),
                padding: [0; 4],
            },
        }
    }

    fn account_v4(octets: &[u8], observation: &Observation) -> (FlowKeyV4, FlowEntry) {
        let mut work = work();
        let packet = parse(LinkType::RawIp, octets).unwrap();
        let ports = Ports::of_packet(&packet);
        let family = account(&packet, ports, &octets, observation, &mut work);
        assert_eq!(family, Family::V4);
        (work.key_v4, work.entry)
    }

    fn volume(octets: &[u8], segments: Segments) -> (u64, u64) {
        let (_, entry) = account_v4(octets, &Observation { segments, ..SEEN });
        (entry.counters.packets, entry.counters.octets)
    }

    #[test]
    fn a_packet_becomes_key_and_entry() {
        let (key, entry) = account_v4(&UDP, &SEEN);
        assert_eq!(
            (key.interface, key.destination_port, key.direction),
            (3, 53, Direction::EGRESS)
        );
        assert_eq!(entry.counters.first_seen_nanos, 5);
        assert_eq!((entry.counters.packets, entry.counters.octets), (1, 28));
        assert!(!entry.first.has(FirstPacket::HAS_VLAN));
    }

    #[test]
    fn a_tag_that_the_kernel_took_off_is_the_outermost() {
        let (_, entry) = account_v4(&UDP, &Observation { vlan_id: Some(42), ..SEEN });
        assert!(entry.first.has(FirstPacket::HAS_VLAN));
        assert_eq!(entry.first.vlan_id, 42);
    }

    #[test]
    fn a_super_packet_counts_as_its_segments() {
        let size = 1_448;
        assert_eq!(volume(&TCP, Segments { count: 3, size }), (3, 4_052 + 2 * 52));
        // Not told how many: 4,000 octets in parts of 1,448 are three.
        assert_eq!(volume(&TCP, Segments { count: 0, size }), (3, 4_052 + 2 * 52));
        assert_eq!(volume(&TCP, Segments { count: 1, size: 0 }), (1, 4_052));
        assert_eq!(volume(&UDP, Segments { count: 2, size: 1 }), (2, 28 + 28));
        assert_eq!(volume(&UDP, Segments { count: 0, size: 9_000 }), (1, 28));
    }

    #[test]
    fn a_fragment_has_the_ports_that_it_is_given() {
        let mut later = UDP;
        later[7] = 1;
        let packet = parse(LinkType::RawIp, &later[..]).unwrap();
        let ports = Ports { protocol: 17, transport: (TransportKind::PORTS, 1, 2) };
        let mut work = work();
        assert_eq!(account(&packet, ports, &&later[..], &SEEN, &mut work), Family::V4);
        assert_eq!((work.key_v4.source_port, work.key_v4.destination_port), (1, 2));
    }
}
