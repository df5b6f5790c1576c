//! Transport: ports, ICMP type and code, TCP flags.

use super::{Cursor, PacketBytes};

/// What tells flows between the same hosts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Neither ports nor type, or they were not captured.
    None,
    /// Ports of TCP, UDP, UDP-Lite, SCTP or DCCP.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP in an IPv4 packet or ICMPv6 in an IPv6 packet.
    Icmp {
        /// Type * 256 + code.
        type_code: u16,
    },
}

/// IANA protocol numbers.
pub(super) mod protocol {
    /// Hop-by-hop options of IPv6.
    pub(in super::super) const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub(in super::super) const ICMP: u8 = 1;
    /// TCP.
    pub(in super::super) const TCP: u8 = 6;
    /// UDP.
    pub(in super::super) const UDP: u8 = 17;
    /// DCCP.
    pub(in super::super) const DCCP: u8 = 33;
    /// Routing header of IPv6.
    pub(in super::super) const ROUTING: u8 = 43;
    /// Fragment header of IPv6.
    pub(in super::super) const FRAGMENT: u8 = 44;
    /// ICMPv6.
    pub(in super::super) const ICMPV6: u8 = 58;
    /// Nothing follows the IPv6 header.
    pub(in super::super) const NO_NEXT_HEADER: u8 = 59;
    /// Destination options of IPv6.
    pub(in super::super) const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub(in super::super) const SCTP: u8 = 132;
    /// UDP-Lite.
    pub(in super::super) const UDP_LITE: u8 = 136;
}

/// Where TCP's data offset and flags lie: RFC 9293 section 3.1.
const TCP_FLAGS_OFFSET: usize = 12;

/// The bits of that word which are flags; the four above them are the data offset.
const TCP_FLAGS_MASK: u16 = 0x0fff;

/// Reads what the transport header says: ports or type, and TCP's flags. The header begins
/// `ahead` of the IP header's start, the IP packet ends at `end`.
#[inline]
pub(super) fn parse<P: PacketBytes + ?Sized>(
    cursor: &Cursor<'_, P>,
    ahead: usize,
    end: usize,
    number: u8,
    icmp_number: u8,
) -> (Transport, u16) {
    match number {
        protocol::TCP => {
            let flags_at = ahead.saturating_add(TCP_FLAGS_OFFSET);
            let flags = cursor.peek_before(flags_at, end).map_or(0, u16::from_be_bytes);
            (ports(cursor, ahead, end), flags & TCP_FLAGS_MASK)
        }
        protocol::UDP | protocol::UDP_LITE | protocol::SCTP | protocol::DCCP => {
            (ports(cursor, ahead, end), 0)
        }
        _ if number == icmp_number => {
            let transport = match cursor.peek_before(ahead, end) {
                Some(octets) => Transport::Icmp { type_code: u16::from_be_bytes(octets) },
                None => Transport::None,
            };
            (transport, 0)
        }
        _ => (Transport::None, 0),
    }
}

/// All five protocols with ports begin with them.
#[inline]
fn ports<P: PacketBytes + ?Sized>(cursor: &Cursor<'_, P>, ahead: usize, end: usize) -> Transport {
    match cursor.peek_before::<4>(ahead, end) {
        Some([s0, s1, d0, d1]) => Transport::Ports {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_be_bytes([d0, d1]),
        },
        None => Transport::None,
    }
}
