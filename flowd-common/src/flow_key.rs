//! Flow keys: what makes packets one flow. One form for each address family.

use crate::packet::Transport;

/// Where a flow passed the observation point, as a key holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Direction(pub u8);

impl Direction {
    /// Into the host by the interface.
    pub const INGRESS: Self = Self(0);
    /// Out of the host by the interface.
    pub const EGRESS: Self = Self(1);
    /// The observation point does not tell, as in a capture file.
    pub const NONE: Self = Self(0xff);
}

/// What the ports of a key mean. A flow of port 0 differs from a flow without ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct TransportKind(pub u8);

impl TransportKind {
    /// No ports: both are 0.
    pub const NONE: Self = Self(0);
    /// Source and destination port.
    pub const PORTS: Self = Self(1);
    /// ICMP of the key's family: the destination port is type * 256 + code, as on the v9 wire.
    pub const ICMP: Self = Self(2);
}

impl Transport {
    /// How a key holds it: kind, source port, destination port.
    #[must_use]
    pub const fn to_key(self) -> (TransportKind, u16, u16) {
        match self {
            Self::None => (TransportKind::NONE, 0, 0),
            Self::Ports { source, destination } => (TransportKind::PORTS, source, destination),
            Self::Icmp { type_code } => (TransportKind::ICMP, 0, type_code),
        }
    }
}

/// The key of an IPv4 flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKeyV4 {
    /// Source address, network order.
    pub source_address: [u8; 4],
    /// Destination address, network order.
    pub destination_address: [u8; 4],
    /// Interface of the observation point, numbered across network namespaces.
    pub interface: u32,
    /// Source port, native order.
    pub source_port: u16,
    /// Destination port, or ICMP type and code; native order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Which way the packets went.
    pub direction: Direction,
    /// What the ports mean.
    pub transport_kind: TransportKind,
    /// Always zero.
    pub padding: u8,
}

/// The key of an IPv6 flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKeyV6 {
    /// Source address, network order.
    pub source_address: [u8; 16],
    /// Destination address, network order.
    pub destination_address: [u8; 16],
    /// Interface of the observation point, numbered across network namespaces.
    pub interface: u32,
    /// Source port, native order.
    pub source_port: u16,
    /// Destination port, or ICMP type and code; native order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Which way the packets went.
    pub direction: Direction,
    /// What the ports mean.
    pub transport_kind: TransportKind,
    /// Always zero.
    pub padding: u8,
}

const _: () = assert!(size_of::<FlowKeyV4>() == 20 && align_of::<FlowKeyV4>() == 4);
const _: () = assert!(size_of::<FlowKeyV6>() == 44 && align_of::<FlowKeyV6>() == 4);
