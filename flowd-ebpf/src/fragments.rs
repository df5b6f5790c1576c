//! fragments: what a first fragment says of the later ones, which have no ports of their own.

use crate::account::KeyTransport;
use crate::maps;
use flowd_common::limits::FRAGMENT_TIMEOUT_NANOS;
use flowd_common::packet::{Addresses, Fragment, Packet};
use flowd_common::{ObservationPoint, TransportKind};

/// What all fragments of a packet share (RFC 791 section 3.2; RFC 8200 section 4.5, where the
/// protocol is the fragment header's).
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct FragmentKey {
    source: [u8; 16],
    destination: [u8; 16],
    id: u32,
    point: ObservationPoint,
    protocol: u8,
    family: u8,
    padding: [u8; 2],
}

const _: () = assert!(size_of::<FragmentKey>() == 48);

/// What the first fragment of a packet said.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct FragmentPorts {
    seen_nanos: i64,
    source_port: u16,
    destination_port: u16,
    transport_kind: TransportKind,
    protocol: u8,
    padding: [u8; 2],
}

const _: () = assert!(size_of::<FragmentPorts>() == 16);

/// How a fragment came to its ports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stitch {
    /// It brought them.
    First,
    /// From its first fragment.
    Stitched,
    /// Not at all.
    Unstitched,
}

/// The protocol and transport of a fragment: a first one tells, a later one asks.
#[inline(always)]
pub(crate) fn resolve(
    point: ObservationPoint,
    time_nanos: i64,
    packet: &Packet,
    fragment: Fragment,
    key: &mut FragmentKey,
) -> (u8, KeyTransport, Stitch) {
    key.fill(point, packet, fragment);
    if fragment.offset == 0 {
        let (transport_kind, source_port, destination_port) = packet.transport.to_key();
        let protocol = packet.protocol;
        let seen_nanos = time_nanos;
        let padding = [0; 2];
        let ports = FragmentPorts {
            seen_nanos,
            source_port,
            destination_port,
            transport_kind,
            protocol,
            padding,
        };
        // It fails when the kernel has no memory at hand; then later fragments go without.
        let _ = maps::FRAGMENTS.insert(&*key, ports, 0);
        return (packet.protocol, packet.transport.to_key(), Stitch::First);
    }
    // SAFETY: a value that is overwritten while it is read gives ports of another packet with
    // the same addresses and identification; nothing else depends on it.
    match unsafe { maps::FRAGMENTS.get(&*key) } {
        Some(first) if time_nanos.wrapping_sub(first.seen_nanos) < FRAGMENT_TIMEOUT_NANOS => {
            let FragmentPorts { source_port, destination_port, transport_kind, protocol, .. } =
                *first;
            let transport = (transport_kind, source_port, destination_port);
            (protocol, transport, Stitch::Stitched)
        }
        _ => (packet.protocol, packet.transport.to_key(), Stitch::Unstitched),
    }
}

impl FragmentKey {
    #[inline(always)]
    fn fill(&mut self, point: ObservationPoint, packet: &Packet, fragment: Fragment) {
        self.source = [0; 16];
        self.destination = [0; 16];
        self.id = fragment.id;
        self.point = point;
        self.protocol = fragment.protocol;
        self.padding = [0; 2];
        match packet.addresses {
            Addresses::V4 { source, destination } => {
                [self.source[0], self.source[1], self.source[2], self.source[3]] = source;
                [
                    self.destination[0],
                    self.destination[1],
                    self.destination[2],
                    self.destination[3],
                ] = destination;
                self.family = 4;
            }
            Addresses::V6 { source, destination } => {
                self.source = source;
                self.destination = destination;
                self.family = 6;
            }
        }
    }
}
