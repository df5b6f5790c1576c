//! Flow keys: what makes packets one flow. One form for each address family.

use crate::packet::{Addresses, Transport};
use core::hash::{Hash, Hasher};

/// Where a flow passed the observation point, as a key holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// Where packets are seen: an interface, and which way they pass it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct ObservationPoint {
    /// Interface, numbered across network namespaces.
    pub interface: u32,
    /// Which way.
    pub direction: Direction,
    /// Always zero.
    pub padding: [u8; 3],
}

const _: () = assert!(size_of::<ObservationPoint>() == 8 && align_of::<ObservationPoint>() == 4);

impl ObservationPoint {
    /// One direction of an interface.
    #[must_use]
    pub const fn new(interface: u32, direction: Direction) -> Self {
        Self { interface, direction, padding: [0; 3] }
    }
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

impl FlowKeyV4 {
    /// The key of a packet between these addresses.
    #[inline]
    #[must_use]
    pub const fn new(
        point: ObservationPoint,
        [source_address, destination_address]: [[u8; 4]; 2],
        protocol: u8,
        transport: Transport,
    ) -> Self {
        let mut key = Self {
            source_address,
            destination_address,
            interface: 0,
            source_port: 0,
            destination_port: 0,
            protocol: 0,
            direction: Direction::NONE,
            transport_kind: TransportKind::NONE,
            padding: 0,
        };
        key.set_rest(point, protocol, transport.to_key());
        key
    }

    /// Sets all but the addresses.
    #[inline]
    pub const fn set_rest(
        &mut self,
        point: ObservationPoint,
        protocol: u8,
        (transport_kind, source_port, destination_port): (TransportKind, u16, u16),
    ) {
        self.interface = point.interface;
        self.source_port = source_port;
        self.destination_port = destination_port;
        self.protocol = protocol;
        self.direction = point.direction;
        self.transport_kind = transport_kind;
        self.padding = 0;
    }
}

impl FlowKeyV6 {
    /// The key of a packet between these addresses.
    #[inline]
    #[must_use]
    pub const fn new(
        point: ObservationPoint,
        [source_address, destination_address]: [[u8; 16]; 2],
        protocol: u8,
        transport: Transport,
    ) -> Self {
        let mut key = Self {
            source_address,
            destination_address,
            interface: 0,
            source_port: 0,
            destination_port: 0,
            protocol: 0,
            direction: Direction::NONE,
            transport_kind: TransportKind::NONE,
            padding: 0,
        };
        key.set_rest(point, protocol, transport.to_key());
        key
    }

    /// Sets all but the addresses.
    #[inline]
    pub const fn set_rest(
        &mut self,
        point: ObservationPoint,
        protocol: u8,
        (transport_kind, source_port, destination_port): (TransportKind, u16, u16),
    ) {
        self.interface = point.interface;
        self.source_port = source_port;
        self.destination_port = destination_port;
        self.protocol = protocol;
        self.direction = point.direction;
        self.transport_kind = transport_kind;
        self.padding = 0;
    }
}

/// The key of a flow of either address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowKey {
    /// Of IPv4.
    V4(FlowKeyV4),
    /// Of IPv6.
    V6(FlowKeyV6),
}

impl FlowKey {
    /// The key of a packet between these addresses.
    #[inline]
    #[must_use]
    pub const fn new(
        point: ObservationPoint,
        addresses: Addresses,
        protocol: u8,
        transport: Transport,
    ) -> Self {
        match addresses {
            Addresses::V4 { source, destination } => {
                Self::V4(FlowKeyV4::new(point, [source, destination], protocol, transport))
            }
            Addresses::V6 { source, destination } => {
                Self::V6(FlowKeyV6::new(point, [source, destination], protocol, transport))
            }
        }
    }

    /// The protocol above IP.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        match self {
            Self::V4(key) => key.protocol,
            Self::V6(key) => key.protocol,
        }
    }

    /// Where the flow was seen.
    #[must_use]
    pub const fn point(&self) -> ObservationPoint {
        match self {
            Self::V4(key) => ObservationPoint::new(key.interface, key.direction),
            Self::V6(key) => ObservationPoint::new(key.interface, key.direction),
        }
    }
}

/// Few wide writes instead of one for each field: this runs for every packet.
impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match *self {
            Self::V4(FlowKeyV4 {
                source_address,
                destination_address,
                interface,
                source_port,
                destination_port,
                protocol,
                direction,
                transport_kind,
                padding: _,
            }) => {
                let source = u64::from(u32::from_ne_bytes(source_address));
                state.write_u64(source << 32 | u64::from(u32::from_ne_bytes(destination_address)));
                state.write_u64(ports_and_interface(source_port, destination_port, interface));
                state.write_u32(kinds(protocol, direction, transport_kind.0));
            }
            Self::V6(FlowKeyV6 {
                source_address,
                destination_address,
                interface,
                source_port,
                destination_port,
                protocol,
                direction,
                transport_kind,
                padding: _,
            }) => {
                state.write_u128(u128::from_ne_bytes(source_address));
                state.write_u128(u128::from_ne_bytes(destination_address));
                state.write_u64(ports_and_interface(source_port, destination_port, interface));
                state.write_u32(kinds(protocol, direction, transport_kind.0));
            }
        }
    }
}

const fn ports_and_interface(source_port: u16, destination_port: u16, interface: u32) -> u64 {
    (source_port as u64) << 48 | (destination_port as u64) << 32 | interface as u64
}

const fn kinds(protocol: u8, direction: Direction, transport_kind: u8) -> u32 {
    u32::from_ne_bytes([protocol, direction.0, transport_kind, 0])
}
