//! FlowKey: what makes packets one flow, in either address family.

use flowd_common::packet::{Addresses, Transport};
use flowd_common::{Direction, FlowKeyV4, FlowKeyV6};
use std::hash::{Hash, Hasher};

/// The key of a flow of either address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowKey {
    V4(FlowKeyV4),
    V6(FlowKeyV6),
}

impl FlowKey {
    /// The key of a packet seen where no direction is known.
    #[inline]
    pub(super) fn new(
        interface: u32,
        addresses: Addresses,
        protocol: u8,
        transport: Transport,
    ) -> Self {
        let (transport_kind, source_port, destination_port) = transport.to_key();
        match addresses {
            Addresses::V4 { source, destination } => Self::V4(FlowKeyV4 {
                source_address: source,
                destination_address: destination,
                interface,
                source_port,
                destination_port,
                protocol,
                direction: Direction::NONE,
                transport_kind,
                padding: 0,
            }),
            Addresses::V6 { source, destination } => Self::V6(FlowKeyV6 {
                source_address: source,
                destination_address: destination,
                interface,
                source_port,
                destination_port,
                protocol,
                direction: Direction::NONE,
                transport_kind,
                padding: 0,
            }),
        }
    }

    /// The protocol above IP.
    pub(super) const fn protocol(&self) -> u8 {
        match self {
            Self::V4(key) => key.protocol,
            Self::V6(key) => key.protocol,
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
