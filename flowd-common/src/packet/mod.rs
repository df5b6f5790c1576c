//! packet: the octets of a frame -> addresses, ports, octets, or a refusal that says why.
//!
//! One parser serves the kernel programs, captures, sFlow headers and fuzzing. It loads constant
//! sizes at bounded offsets, its loops are bounded, it does not recurse and cannot panic.
//!
//! An IP packet is refused only when its fixed header cannot be read. What is missing behind it,
//! because the capture was cut or the packet is broken, is left out: a flow without ports.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod cursor;
mod ethernet;
mod ipv4;
mod ipv6;
mod link_type;
mod refusal;
mod transport;

#[cfg(test)]
mod tests;

pub use link_type::LinkType;
pub use refusal::{Malformed, NonIp, Refusal};
pub use transport::Transport;

use cursor::Cursor;
use ethernet::Network;

/// The octets of one frame.
pub trait PacketBytes {
    /// The `N` octets from `offset` on, or none if the frame is not held that far.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Octets that the frame had on the wire; no less than are held.
    fn wire_size(&self) -> usize;

    /// The same number. The kernel's verifier follows every path with the numbers that it knows;
    /// where it forgets one, the paths that differ in nothing else become one.
    #[inline]
    fn forget(&self, number: usize) -> usize {
        number
    }

    /// VLAN tags that were taken off the frame before it came here. They count for how many are
    /// walked.
    #[inline]
    fn tags_taken(&self) -> usize {
        0
    }
}

impl PacketBytes for [u8] {
    #[inline]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    #[inline]
    fn wire_size(&self) -> usize {
        self.len()
    }
}

impl<P: PacketBytes + ?Sized> PacketBytes for &P {
    #[inline]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        (**self).load(offset)
    }

    #[inline]
    fn wire_size(&self) -> usize {
        (**self).wire_size()
    }

    #[inline]
    fn forget(&self, number: usize) -> usize {
        (**self).forget(number)
    }

    #[inline]
    fn tags_taken(&self) -> usize {
        (**self).tags_taken()
    }
}

/// A frame of which perhaps only the beginning was captured.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// The octets that were captured.
    pub data: &'a [u8],
    /// Octets that the frame had on the wire.
    pub wire_size: usize,
}

impl PacketBytes for Captured<'_> {
    #[inline]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.data.load(offset)
    }

    #[inline]
    fn wire_size(&self) -> usize {
        self.wire_size.max(self.data.len())
    }
}

/// Source and destination address, in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Addresses {
    /// Of an IPv4 packet.
    V4 {
        /// Who sent it.
        source: [u8; 4],
        /// Whom it was sent to.
        destination: [u8; 4],
    },
    /// Of an IPv6 packet.
    V6 {
        /// Who sent it.
        source: [u8; 16],
        /// Whom it was sent to.
        destination: [u8; 16],
    },
}

/// What the link says of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkHeader {
    /// Source MAC, where the link has one.
    pub source_mac: Option<[u8; 6]>,
    /// Destination MAC, where the link has one.
    pub destination_mac: Option<[u8; 6]>,
    /// VLAN of the outermost tag.
    pub vlan_id: Option<u16>,
}

/// Which part of a fragmented packet this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification, which all parts share.
    pub id: u32,
    /// Where this part begins in the whole, in octets; 0 is the first part.
    pub offset: u16,
    /// More parts follow this one.
    pub more: bool,
    /// The protocol that every part names: for IPv6 the fragment header's next header, which
    /// may be another extension header.
    pub protocol: u8,
}

/// What one IP packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source and destination, and with them the IP version.
    pub addresses: Addresses,
    /// The protocol above IP, or the extension header at which walking ended.
    pub protocol: u8,
    /// Ports, or ICMP type and code.
    pub transport: Transport,
    /// Where the IP header begins, from the start of the frame.
    pub network_offset: usize,
    /// Where the protocol's own header begins, from the start of the frame.
    pub transport_offset: usize,
    /// Which part of a fragmented packet it is, if it is one.
    pub fragment: Option<Fragment>,
    /// Octets of layer 3 on the wire, however much was captured.
    pub octets: u64,
    /// TCP flags: the low twelve bits. Zero for other protocols.
    pub tcp_control_bits: u16,
    /// ToS or traffic class.
    pub class_of_service: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv6 flow label; zero for IPv4.
    pub flow_label: u32,
    /// What the link says of it.
    pub link: LinkHeader,
}

impl Packet {
    /// What [`parse_into`] begins with.
    pub const NONE: Self = Self {
        addresses: Addresses::V4 { source: [0; 4], destination: [0; 4] },
        protocol: 0,
        transport: Transport::None,
        network_offset: 0,
        transport_offset: 0,
        fragment: None,
        octets: 0,
        tcp_control_bits: 0,
        class_of_service: 0,
        ttl: 0,
        flow_label: 0,
        link: LinkHeader { source_mac: None, destination_mac: None, vlan_id: None },
    };
}

/// Reads a frame of this link type down to its outermost IP header's transport.
///
/// # Errors
/// The frame carries no IP, or nothing that can be read as IP.
#[inline]
pub fn parse<P: PacketBytes + ?Sized>(link_type: LinkType, bytes: &P) -> Result<Packet, Refusal> {
    let mut packet = Packet::NONE;
    parse_into(link_type, bytes, &mut packet)?;
    Ok(packet)
}

/// As [`parse`], into memory of the caller's: a kernel program's stack has no room for what is
/// handed on by value from function to function.
///
/// # Errors
/// As [`parse`]; what is in `packet` means nothing then.
#[inline]
pub fn parse_into<P: PacketBytes + ?Sized>(
    link_type: LinkType,
    bytes: &P,
    packet: &mut Packet,
) -> Result<(), Refusal> {
    let mut cursor = Cursor::new(bytes);
    let network = ethernet::find_network(link_type, &mut cursor, &mut packet.link)?;
    cursor.forget();
    let parsed = match network {
        Network::Ipv4 => ipv4::parse(&cursor, packet),
        Network::Ipv6 => ipv6::parse(&cursor, packet),
    };
    parsed.map_err(Refusal::Malformed)
}
