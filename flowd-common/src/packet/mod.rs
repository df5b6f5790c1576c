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

/// Reads a frame of this link type down to its outermost IP header's transport.
///
/// # Errors
/// The frame carries no IP, or nothing that can be read as IP.
#[inline]
pub fn parse<P: PacketBytes + ?Sized>(link_type: LinkType, bytes: &P) -> Result<Packet, Refusal> {
    let mut cursor = Cursor::new(bytes);
    let (network, link) = ethernet::find_network(link_type, &mut cursor)?;
    let packet = match network {
        Network::Ipv4 => ipv4::parse(&cursor, link),
        Network::Ipv6 => ipv6::parse(&cursor, link),
    };
    packet.map_err(Refusal::Malformed)
}
