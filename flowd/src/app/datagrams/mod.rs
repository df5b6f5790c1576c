//! datagrams: the packets of a capture -> the export datagrams and messages that they carried.
//!
//! ```text
//! CapturedPacket --+--[UDP]---------------------------> Carried::Datagram
//!                  +--[UDP in parts: Fragments]-------> Carried::Datagram
//!                  '--[TCP: Streams, a Stream a way]--> Carried::Message, Carried::Closed
//! ```
//!
//! Any UDP datagram that begins with a version word of NetFlow, IPFIX or sFlow is taken for one,
//! whatever its ports. TCP is searched for IPFIX (RFC 7011 section 10.4) in the same way. What
//! is known to be missing is counted by [`CaptureDrop`].

mod fragments;
mod stream;
mod streams;
#[cfg(test)]
mod tests;

use crate::probe::CapturedPacket;
use crate::telemetry::{Drops, Reason};
use crate::wire::sflow;
use flowd_common::packet::{self, Addresses, Captured, Packet};
use fragments::{Fragments, Part};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use streams::{Segment, Streams};

/// Version words that NetFlow datagrams begin with: v1, v5, v7, v9, and IPFIX's 10.
const NETFLOW_VERSIONS: [u16; 5] = [1, 5, 7, 9, 10];
const TCP: u8 = 6;
const UDP: u8 = 17;
const UDP_HEADER_SIZE: usize = 8;

/// What the packets of a capture carried, as it becomes whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried<'a> {
    /// A UDP datagram.
    Datagram {
        /// Who sent it.
        from: SocketAddr,
        /// Its payload, as far as it was captured.
        payload: &'a [u8],
        /// Was all of it captured?
        is_whole: bool,
    },
    /// An IPFIX message of a TCP connection.
    Message {
        /// Who sent it.
        from: SocketAddr,
        /// The message.
        octets: &'a [u8],
    },
    /// A connection that carried messages has ended.
    Closed {
        /// Who sent them.
        from: SocketAddr,
    },
}

/// Why octets of a capture reached nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaptureDrop {
    /// Datagrams of which parts are not in the capture.
    FragmentMissing,
    /// Datagrams whose parts overlap: which octets its receiver took is not known.
    FragmentsOverlap,
    /// Datagrams in parts that gave way to newer ones, or in too many parts.
    FragmentsOverLimit,
    /// Octets of TCP streams that are not in the capture.
    StreamMissing,
    /// Octets of TCP streams that are no message.
    StreamMalformed,
    /// TCP connections that gave way to newer ones.
    ConnectionsOverLimit,
}

impl Reason for CaptureDrop {
    const ALL: &'static [Self] = &[
        Self::FragmentMissing,
        Self::FragmentsOverlap,
        Self::FragmentsOverLimit,
        Self::StreamMissing,
        Self::StreamMalformed,
        Self::ConnectionsOverLimit,
    ];

    fn index(self) -> usize {
        match self {
            Self::FragmentMissing => 0,
            Self::FragmentsOverlap => 1,
            Self::FragmentsOverLimit => 2,
            Self::StreamMissing => 3,
            Self::StreamMalformed => 4,
            Self::ConnectionsOverLimit => 5,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::FragmentMissing => "datagrams with fragments missing",
            Self::FragmentsOverlap => "datagrams whose fragments overlap",
            Self::FragmentsOverLimit => "datagrams in more fragments than are kept",
            Self::StreamMissing => "octets missing in TCP streams",
            Self::StreamMalformed => "octets of TCP streams that are no message",
            Self::ConnectionsOverLimit => "TCP connections beyond those followed at once",
        }
    }
}

/// Takes what was carried.
pub(super) type Take<'a> = &'a mut dyn FnMut(Carried<'_>);

/// Finds what the packets of one capture carried.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    fragments: Fragments,
    streams: Streams,
    drops: Drops<CaptureDrop>,
}

impl Datagrams {
    /// Looks at the next packet.
    pub(super) fn packet(&mut self, packet: &CapturedPacket<'_>, take: Take<'_>) {
        let Ok(wire_size) = usize::try_from(packet.wire_size) else { return };
        let captured = Captured { data: packet.data, wire_size };
        let Ok(parsed) = packet::parse(packet.link_type, &captured) else { return };
        let Some(body) = Body::of(&parsed, packet.data) else { return };
        match (parsed.fragment, parsed.protocol) {
            (Some(fragment), UDP) if fragment.protocol == UDP => {
                let part = Part { addresses: parsed.addresses, fragment, body };
                let source = source_of(parsed.addresses);
                self.fragments.add(&part, packet.time_nanos, &self.drops, &mut |whole| {
                    let body = Body { octets: whole, is_whole: true };
                    udp(source, body, take);
                });
            }
            (None, UDP) => udp(source_of(parsed.addresses), body, take),
            (None, TCP) => {
                if let Some(segment) = Segment::parse(parsed.addresses, body) {
                    self.streams.segment(&segment, &self.drops, take);
                }
            }
            _ => {}
        }
    }

    /// The capture is over: what waits for something that did not come is looked at as it is.
    pub(super) fn finish(&mut self, take: Take<'_>) {
        self.fragments.finish(&self.drops);
        self.streams.finish(&self.drops, take);
    }

    /// What did not become whole, by reason.
    pub(super) fn drops(&self) -> BTreeMap<&'static str, u64> {
        let drops = self.drops.iter().filter(|&(_, count)| count > 0);
        drops.map(|(reason, count)| (reason.name(), count)).collect()
    }
}

/// What an IP packet holds behind its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Body<'a> {
    octets: &'a [u8],
    /// False if only its beginning was captured.
    is_whole: bool,
}

impl<'a> Body<'a> {
    /// Up to the end of the IP packet: what follows it in the frame is padding.
    fn of(parsed: &Packet, data: &'a [u8]) -> Option<Self> {
        let octets = usize::try_from(parsed.octets).ok()?;
        let end = parsed.network_offset.checked_add(octets)?;
        let held = data.get(..end).unwrap_or(data);
        let octets = held.get(parsed.transport_offset..)?;
        Some(Self { octets, is_whole: end <= data.len() })
    }
}

fn source_of(addresses: Addresses) -> IpAddr {
    match addresses {
        Addresses::V4 { source, .. } => IpAddr::V4(Ipv4Addr::from(source)),
        Addresses::V6 { source, .. } => IpAddr::V6(Ipv6Addr::from(source)),
    }
}

/// Hands on a UDP datagram that begins as an export message does.
fn udp(source: IpAddr, body: Body<'_>, take: Take<'_>) {
    let Some((header, payload)) = body.octets.split_first_chunk::<UDP_HEADER_SIZE>() else {
        return;
    };
    let [source_high, source_low, _, _, size_high, size_low, ..] = *header;
    let size = usize::from(u16::from_be_bytes([size_high, size_low]));
    // A size of 0 is that of a jumbogram (RFC 2675 section 4): the IP packet's end is its own.
    let (payload, is_whole) = match size.checked_sub(UDP_HEADER_SIZE) {
        Some(size) => payload.get(..size).map_or((payload, false), |payload| (payload, true)),
        None => (payload, body.is_whole),
    };
    if begins_as_export(payload) {
        let port = u16::from_be_bytes([source_high, source_low]);
        take(Carried::Datagram { from: SocketAddr::new(source, port), payload, is_whole });
    }
}

fn begins_as_export(payload: &[u8]) -> bool {
    let Some(&[high, low]) = payload.first_chunk() else { return false };
    NETFLOW_VERSIONS.contains(&u16::from_be_bytes([high, low])) || sflow::is_announced_by(payload)
}
