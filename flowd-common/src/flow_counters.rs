//! What is counted of a flow, and what its first packet fixes.

use crate::packet::Packet;

/// What is counted of a flow. Two sets of counters merge in either order to the same sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlowCounters {
    /// Octets of layer 3.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
    /// Earliest packet time, by the clock of whoever counts: boot time in the kernel, Unix time
    /// in a capture.
    pub first_seen_nanos: i64,
    /// Latest packet time, by the same clock.
    pub last_seen_nanos: i64,
    /// TCP flags or-ed, the low twelve bits.
    pub tcp_control_bits: u16,
    /// Least TTL or hop limit.
    pub minimum_ttl: u8,
    /// Greatest TTL or hop limit.
    pub maximum_ttl: u8,
    /// Always zero.
    pub padding: [u8; 4],
}

const _: () = assert!(size_of::<FlowCounters>() == 40 && align_of::<FlowCounters>() == 8);

impl FlowCounters {
    /// The counters of one packet.
    #[must_use]
    pub const fn of_packet(packet: &Packet, time_nanos: i64) -> Self {
        Self {
            octets: packet.octets,
            packets: 1,
            first_seen_nanos: time_nanos,
            last_seen_nanos: time_nanos,
            tcp_control_bits: packet.tcp_control_bits,
            minimum_ttl: packet.ttl,
            maximum_ttl: packet.ttl,
            padding: [0; 4],
        }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, delta: &Self) {
        let Self {
            octets,
            packets,
            first_seen_nanos,
            last_seen_nanos,
            tcp_control_bits,
            minimum_ttl,
            maximum_ttl,
            padding: _,
        } = *delta;
        self.octets = self.octets.wrapping_add(octets);
        self.packets = self.packets.wrapping_add(packets);
        self.first_seen_nanos = self.first_seen_nanos.min(first_seen_nanos);
        self.last_seen_nanos = self.last_seen_nanos.max(last_seen_nanos);
        self.tcp_control_bits |= tcp_control_bits;
        self.minimum_ttl = self.minimum_ttl.min(minimum_ttl);
        self.maximum_ttl = self.maximum_ttl.max(maximum_ttl);
    }
}

/// What a flow's first packet fixes for the whole record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FirstPacket {
    /// IPv6 flow label.
    pub flow_label: u32,
    /// Source MAC, if [`FirstPacket::HAS_SOURCE_MAC`].
    pub source_mac: [u8; 6],
    /// Destination MAC, if [`FirstPacket::HAS_DESTINATION_MAC`].
    pub destination_mac: [u8; 6],
    /// Outermost VLAN, if [`FirstPacket::HAS_VLAN`].
    pub vlan_id: u16,
    /// ToS or traffic class.
    pub class_of_service: u8,
    /// Which of the fields mean something.
    pub present: u8,
}

const _: () = assert!(size_of::<FirstPacket>() == 20 && align_of::<FirstPacket>() == 4);

const TCP_SYN: u16 = 0x002;
const TCP_ACK: u16 = 0x010;

impl FirstPacket {
    /// The link named a source MAC.
    pub const HAS_SOURCE_MAC: u8 = 1;
    /// The link named a destination MAC.
    pub const HAS_DESTINATION_MAC: u8 = 2;
    /// The frame was tagged.
    pub const HAS_VLAN: u8 = 4;
    /// It is a TCP SYN without ACK: it opens a connection.
    pub const OPENS_CONNECTION: u8 = 8;

    /// What this packet would fix if it were a flow's first.
    #[must_use]
    pub fn of_packet(packet: &Packet) -> Self {
        let mut first = Self {
            flow_label: packet.flow_label,
            class_of_service: packet.class_of_service,
            ..Self::default()
        };
        if let Some(mac) = packet.link.source_mac {
            first.source_mac = mac;
            first.present |= Self::HAS_SOURCE_MAC;
        }
        if let Some(mac) = packet.link.destination_mac {
            first.destination_mac = mac;
            first.present |= Self::HAS_DESTINATION_MAC;
        }
        if let Some(vlan_id) = packet.link.vlan_id {
            first.vlan_id = vlan_id;
            first.present |= Self::HAS_VLAN;
        }
        if packet.tcp_control_bits & (TCP_SYN | TCP_ACK) == TCP_SYN {
            first.present |= Self::OPENS_CONNECTION;
        }
        first
    }

    /// Does the packet fix this field, or is it of this kind? `field` is one of the constants.
    #[must_use]
    pub const fn has(&self, field: u8) -> bool {
        self.present & field != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_is_the_same_in_either_order() {
        let early = FlowCounters {
            octets: 40,
            packets: 1,
            first_seen_nanos: -5,
            last_seen_nanos: 10,
            tcp_control_bits: 0x002,
            minimum_ttl: 60,
            maximum_ttl: 64,
            padding: [0; 4],
        };
        let late = FlowCounters {
            octets: 1500,
            packets: 2,
            first_seen_nanos: 3,
            last_seen_nanos: 7,
            tcp_control_bits: 0x110,
            minimum_ttl: 61,
            maximum_ttl: 128,
            padding: [0; 4],
        };
        let (mut one, mut other) = (early, late);
        one.merge(&late);
        other.merge(&early);
        assert_eq!(one, other);
        assert_eq!((one.octets, one.packets), (1540, 3));
        assert_eq!((one.first_seen_nanos, one.last_seen_nanos), (-5, 10));
        assert_eq!(one.tcp_control_bits, 0x112);
        assert_eq!((one.minimum_ttl, one.maximum_ttl), (60, 128));
    }
}
