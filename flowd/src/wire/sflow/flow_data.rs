//! Records of a flow sample: what is told of the packet.

use super::layout::{FLOW_LAYOUTS, Fields};
use super::{Block, DataFormat, Words, address, ipv4, ipv6, mac, opaque};
use crate::wire::{Reader, WireError};
use std::net::IpAddr;

/// Numbers of the records that have a type of their own here; the others have a layout.
mod format {
    pub(super) const RAW_HEADER: u32 = 1;
    pub(super) const ETHERNET: u32 = 2;
    pub(super) const IPV4: u32 = 3;
    pub(super) const IPV6: u32 = 4;
    pub(super) const SWITCH: u32 = 1001;
    pub(super) const ROUTER: u32 = 1002;
    pub(super) const GATEWAY: u32 = 1003;
    pub(super) const USER: u32 = 1004;
    pub(super) const URL: u32 = 1005;
    pub(super) const MPLS: u32 = 1006;
    pub(super) const NAT: u32 = 1007;
    pub(super) const WIFI_PAYLOAD: u32 = 1013;
    pub(super) const NAT_PORT: u32 = 1020;
}

/// What a sampled header begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderProtocol {
    /// An Ethernet header.
    Ethernet,
    /// PPP.
    Ppp,
    /// AAL5, whose payload begins with LLC (RFC 2684 section 5).
    Aal5,
    /// AAL5 with nothing but IP in it.
    Aal5Ip,
    /// An IPv4 header.
    Ipv4,
    /// An IPv6 header.
    Ipv6,
    /// MPLS labels.
    Mpls,
    /// Packet over SONET.
    Pos,
    /// LLC, of a frame that was decrypted (sFlow 802.11 structures).
    Llc,
    /// Any other, by its number: token bus and ring, FDDI, frame relay, X.25, SMDS, 802.11.
    Other(u32),
}

impl HeaderProtocol {
    const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Ethernet,
            7 => Self::Ppp,
            9 => Self::Aal5,
            10 => Self::Aal5Ip,
            11 => Self::Ipv4,
            12 => Self::Ipv6,
            13 => Self::Mpls,
            14 => Self::Pos,
            other => Self::Other(other),
        }
    }
}

/// The first octets of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawHeader<'a> {
    /// What they begin with.
    pub protocol: HeaderProtocol,
    /// Octets of the frame on the wire, with its check sequence.
    pub frame_length: u32,
    /// Octets that were taken off the frame before the header was cut: its check sequence, and
    /// perhaps what precedes the header.
    pub stripped: u32,
    /// The octets.
    pub header: &'a [u8],
}

/// The Ethernet header, read by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Octets of the frame.
    pub length: u32,
    /// Source MAC.
    pub source: [u8; 6],
    /// Destination MAC.
    pub destination: [u8; 6],
    /// Ethertype.
    pub ethertype: u32,
}

/// The IP header, read by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Octets of the IP packet.
    pub length: u32,
    /// The protocol above IP.
    pub protocol: u32,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port, or what stands in its place.
    pub source_port: u32,
    /// Destination port, or what stands in its place.
    pub destination_port: u32,
    /// TCP flags.
    pub tcp_flags: u32,
    /// ToS or traffic class.
    pub class_of_service: u32,
}

/// VLANs of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// VLAN by which it came in.
    pub source_vlan: u32,
    /// 802.1p priority with which it came in.
    pub source_priority: u32,
    /// VLAN by which it left.
    pub destination_vlan: u32,
    /// 802.1p priority with which it left.
    pub destination_priority: u32,
}

/// Its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// Next hop.
    pub next_hop: Option<IpAddr>,
    /// Prefix length of the source's route.
    pub source_mask: u32,
    /// Prefix length of the destination's route.
    pub destination_mask: u32,
}

/// Its route as BGP has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway<'a> {
    /// The border router that leads to the destination.
    pub next_hop: Option<IpAddr>,
    /// The router's own autonomous system.
    pub router_as: u32,
    /// The source's.
    pub source_as: u32,
    /// The neighbour by which the source is reached.
    pub source_peer_as: u32,
    /// The way to the destination.
    pub as_path: AsPathSegments<'a>,
    /// Communities of the route.
    pub communities: Words<'a>,
    /// Local preference of the route.
    pub local_preference: u32,
}

/// The segments of an AS path: whole, since they were read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsPathSegments<'a>(&'a [u8]);

/// A part of an AS path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsPathSegment<'a> {
    /// Has it no order? Then it is a set, else a sequence.
    pub is_set: bool,
    /// Its autonomous systems.
    pub numbers: Words<'a>,
}

impl<'a> AsPathSegments<'a> {
    /// Finds where the path ends. Each segment takes eight octets at least, so that a count that
    /// lies ends with the octets.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let count = reader.u32()?;
        let start = reader.rest();
        for _ in 0..count {
            AsPathSegment::decode(reader)?;
        }
        let size = start.len().saturating_sub(reader.left());
        Ok(Self(start.get(..size).unwrap_or_default()))
    }

    /// The segments, from the nearest on.
    pub fn iter(self) -> impl Iterator<Item = AsPathSegment<'a>> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || AsPathSegment::decode(&mut reader).ok())
    }

    /// The nearest autonomous system of the path.
    #[must_use]
    pub fn first(self) -> Option<u32> {
        self.iter().find_map(|segment| segment.numbers.iter().next())
    }

    /// The last one of the path, which is the destination's.
    #[must_use]
    pub fn last(self) -> Option<u32> {
        self.iter().filter_map(|segment| segment.numbers.iter().next_back()).last()
    }
}

impl<'a> AsPathSegment<'a> {
    const SET: u32 = 1;

    fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self { is_set: reader.u32()? == Self::SET, numbers: Words::decode(reader)? })
    }
}

/// Who uses the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// User of the source.
    pub source: &'a [u8],
    /// User of the destination.
    pub destination: &'a [u8],
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// 1 if it belongs to the source, 2 if to the destination.
    pub direction: u32,
    /// The URL.
    pub url: &'a [u8],
    /// HTTP's host field.
    pub host: &'a [u8],
}

/// Its way through an MPLS network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mpls<'a> {
    /// Next hop.
    pub next_hop: Option<IpAddr>,
    /// Labels with which it came in, from the top of the stack on (RFC 3032 section 2.1).
    pub in_stack: Words<'a>,
    /// Labels with which it left.
    pub out_stack: Words<'a>,
}

/// Addresses after their translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat {
    /// Source address.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: Option<IpAddr>,
}

/// Ports after their translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatPort {
    /// Source port.
    pub source: u32,
    /// Destination port.
    pub destination: u32,
}

/// One record of a flow sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are named as their types")]
pub enum FlowData<'a> {
    RawHeader(RawHeader<'a>),
    Ethernet(Ethernet),
    Ip(Ip),
    Switch(Switch),
    Router(Router),
    Gateway(Gateway<'a>),
    User(User<'a>),
    Url(Url<'a>),
    Mpls(Mpls<'a>),
    Nat(Nat),
    NatPort(NatPort),
    /// Fields that stand for themselves.
    Fields(Fields<'a>),
    /// A format that is not read.
    Unknown(DataFormat),
}

impl<'a> FlowData<'a> {
    /// Reads a record. Octets behind its last field belong to a later revision of the format.
    ///
    /// # Errors
    /// If it is cut short, or holds an address of a type unheard of.
    pub fn decode(block: &Block<'a>) -> Result<Self, WireError> {
        let reader = &mut Reader::new(block.body);
        Ok(match block.format.word() {
            format::RAW_HEADER => Self::RawHeader(raw_header(reader)?),
            format::ETHERNET => Self::Ethernet(Ethernet {
                length: reader.u32()?,
                source: mac(reader)?,
                destination: mac(reader)?,
                ethertype: reader.u32()?,
            }),
            format::IPV4 => Self::Ip(ip(reader, ipv4)?),
            format::IPV6 => Self::Ip(ip(reader, ipv6)?),
            format::SWITCH => Self::Switch(Switch {
                source_vlan: reader.u32()?,
                source_priority: reader.u32()?,
                destination_vlan: reader.u32()?,
                destination_priority: reader.u32()?,
            }),
            format::ROUTER => Self::Router(Router {
                next_hop: address(reader)?,
                source_mask: reader.u32()?,
                destination_mask: reader.u32()?,
            }),
            format::GATEWAY => Self::Gateway(Gateway {
                next_hop: address(reader)?,
                router_as: reader.u32()?,
                source_as: reader.u32()?,
                source_peer_as: reader.u32()?,
                as_path: AsPathSegments::decode(reader)?,
                communities: Words::decode(reader)?,
                local_preference: reader.u32()?,
            }),
            format::USER => Self::User(user(reader)?),
            format::URL => Self::Url(Url {
                direction: reader.u32()?,
                url: opaque(reader)?,
                host: opaque(reader)?,
            }),
            format::MPLS => Self::Mpls(Mpls {
                next_hop: address(reader)?,
                in_stack: Words::decode(reader)?,
                out_stack: Words::decode(reader)?,
            }),
            format::NAT => {
                Self::Nat(Nat { source: address(reader)?, destination: address(reader)? })
            }
            format::NAT_PORT => {
                Self::NatPort(NatPort { source: reader.u32()?, destination: reader.u32()? })
            }
            format::WIFI_PAYLOAD => {
                let _cipher_suite = reader.u32()?;
                Self::RawHeader(RawHeader { protocol: HeaderProtocol::Llc, ..raw_header(reader)? })
            }
            _ => match Fields::decode(FLOW_LAYOUTS, block)? {
                Some(fields) => Self::Fields(fields),
                None => Self::Unknown(block.format),
            },
        })
    }
}

fn raw_header<'a>(reader: &mut Reader<'a>) -> Result<RawHeader<'a>, WireError> {
    Ok(RawHeader {
        protocol: HeaderProtocol::from_number(reader.u32()?),
        frame_length: reader.u32()?,
        stripped: reader.u32()?,
        header: opaque(reader)?,
    })
}

fn ip(
    reader: &mut Reader<'_>,
    address: fn(&mut Reader<'_>) -> Result<IpAddr, WireError>,
) -> Result<Ip, WireError> {
    Ok(Ip {
        length: reader.u32()?,
        protocol: reader.u32()?,
        source: address(reader)?,
        destination: address(reader)?,
        source_port: reader.u32()?,
        destination_port: reader.u32()?,
        tcp_flags: reader.u32()?,
        class_of_service: reader.u32()?,
    })
}

/// Before each name stands the number of its character set.
fn user<'a>(reader: &mut Reader<'a>) -> Result<User<'a>, WireError> {
    let _source_charset = reader.u32()?;
    let source = opaque(reader)?;
    let _destination_charset = reader.u32()?;
    Ok(User { source, destination: opaque(reader)? })
}
