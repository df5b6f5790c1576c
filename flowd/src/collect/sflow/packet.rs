//! The header of a sampled packet -> columns.
//!
//! IP and what is above it are read by flowd-common's parser, which keeps of the link only what a
//! flow needs, and nothing of a frame without IP. What sFlow's users ask beyond that, addresses
//! of such frames, further VLAN tags and labels, is read here.

use super::elements::{self, Id};
use super::row::{Row, set};
use crate::wire::sflow::{HeaderProtocol, RawHeader};
use flowd_common::limits::{MPLS_LABEL_COUNT_MAX, VLAN_TAG_COUNT_MAX};
use flowd_common::packet::{self, Addresses, Captured, LinkType, Packet, PacketBytes, Transport};

const TCP: u8 = 6;
/// 802.1Q, 802.1ad, and what came before 802.1ad.
const TAG_ETHERTYPES: [u16; 5] = [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300];
const MPLS_ETHERTYPES: [u16; 2] = [0x8847, 0x8848];
/// PPP's number of MPLS: what stands before a header that begins with labels.
const PPP_MPLS: &[u8] = &[0x02, 0x81];
/// An Ethernet header whose type field is a length: LLC follows it.
const ETHERNET_LLC: &[u8] = &[0; 14];

/// Octets of a frame behind others that the sender left out.
struct Prefixed<'a> {
    prefix: &'static [u8],
    captured: Captured<'a>,
}

impl PacketBytes for Prefixed<'_> {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if let Some(offset) = offset.checked_sub(self.prefix.len()) {
            return self.captured.load(offset);
        }
        let mut octets = [0; N];
        let held = self.prefix.iter().chain(self.captured.data).skip(offset);
        let mut count = 0usize;
        for (octet, &value) in octets.iter_mut().zip(held) {
            *octet = value;
            count = count.saturating_add(1);
        }
        (count == N).then_some(octets)
    }

    fn wire_size(&self) -> usize {
        self.captured.wire_size().saturating_add(self.prefix.len())
    }
}

/// Reads the IP packet of a sampled header, if it holds one.
pub(super) fn parse(header: &RawHeader<'_>) -> Option<Packet> {
    // What was stripped is the check sequence, and not the end that the header does not show;
    // an agent that counts the latter too must not make the frame shorter than its header.
    let on_wire = header.frame_length.saturating_sub(header.stripped);
    let captured =
        Captured { data: header.header, wire_size: usize::try_from(on_wire).unwrap_or(usize::MAX) };
    let behind = |prefix, link_type| packet::parse(link_type, &Prefixed { prefix, captured });
    let parsed = match header.protocol {
        HeaderProtocol::Ethernet => packet::parse(LinkType::Ethernet, &captured),
        HeaderProtocol::Ppp => packet::parse(LinkType::Ppp, &captured),
        HeaderProtocol::Pos => packet::parse(LinkType::PppHdlc, &captured),
        HeaderProtocol::Ipv4 => packet::parse(LinkType::Ipv4, &captured),
        HeaderProtocol::Ipv6 => packet::parse(LinkType::Ipv6, &captured),
        HeaderProtocol::Aal5Ip => packet::parse(LinkType::RawIp, &captured),
        HeaderProtocol::Mpls => behind(PPP_MPLS, LinkType::Ppp),
        HeaderProtocol::Aal5 | HeaderProtocol::Llc => behind(ETHERNET_LLC, LinkType::Ethernet),
        HeaderProtocol::Other(_) => return None,
    };
    parsed.ok()
}

/// Sets what the packet itself says.
pub(super) fn set_packet(row: &mut Row, packet: &Packet) {
    set!(row, protocol_identifier, ProtocolIdentifier, packet.protocol);
    set!(row, octet_delta_count, OctetDeltaCount, packet.octets);
    set!(row, ip_class_of_service, IpClassOfService, packet.class_of_service);
    set!(row, minimum_ttl, MinimumTtl, packet.ttl);
    set!(row, maximum_ttl, MaximumTtl, packet.ttl);
    let is_ipv4 = match packet.addresses {
        Addresses::V4 { source, destination } => {
            row.record.set_source_address(source.into());
            row.record.set_destination_address(destination.into());
            true
        }
        Addresses::V6 { source, destination } => {
            row.record.set_source_address(source.into());
            row.record.set_destination_address(destination.into());
            set!(row, flow_label_ipv6, FlowLabelIpv6, packet.flow_label);
            false
        }
    };
    match packet.transport {
        Transport::Ports { source, destination } => {
            set!(row, source_transport_port, SourceTransportPort, source);
            set!(row, destination_transport_port, DestinationTransportPort, destination);
            if packet.protocol == TCP {
                set!(row, tcp_control_bits, TcpControlBits, packet.tcp_control_bits);
            }
        }
        Transport::Icmp { type_code } if is_ipv4 => {
            set!(row, icmp_type_code_ipv4, IcmpTypeCodeIpv4, type_code);
        }
        Transport::Icmp { type_code } => {
            set!(row, icmp_type_code_ipv6, IcmpTypeCodeIpv6, type_code);
        }
        Transport::None => {}
    }
}

/// What an Ethernet header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// Destination and source.
    pub(super) addresses: Option<[[u8; 6]; 2]>,
    /// Priority, drop eligibility and VLAN of each tag, the outermost first.
    pub(super) tags: [Option<u16>; VLAN_TAG_COUNT_MAX],
    /// The type behind the tags.
    pub(super) ethertype: Option<u16>,
    /// Label, traffic class and end of stack of each label, the top one first.
    pub(super) labels: [Option<[u8; 3]>; MPLS_LABEL_COUNT_MAX],
}

impl Link {
    pub(super) fn read(header: &RawHeader<'_>) -> Self {
        let mut link = Self::default();
        match header.protocol {
            HeaderProtocol::Ethernet => link.read_ethernet(header.header),
            HeaderProtocol::Mpls => link.read_labels(header.header),
            _ => {}
        }
        link
    }

    fn read_ethernet(&mut self, frame: &[u8]) {
        let Some((&[destination, source], mut rest)) = split_addresses(frame) else {
            return;
        };
        self.addresses = Some([destination, source]);
        let Self { tags, ethertype: found, .. } = self;
        let mut tags = tags.iter_mut();
        while let Some((&[high, low], after)) = rest.split_first_chunk() {
            rest = after;
            let ethertype = u16::from_be_bytes([high, low]);
            *found = Some(ethertype);
            if !TAG_ETHERTYPES.contains(&ethertype) {
                break;
            }
            let (Some(tag), Some((&[high, low], after))) = (tags.next(), rest.split_first_chunk())
            else {
                return;
            };
            *tag = Some(u16::from_be_bytes([high, low]));
            rest = after;
        }
        if found.is_some_and(|ethertype| MPLS_ETHERTYPES.contains(&ethertype)) {
            self.read_labels(rest);
        }
    }

    fn read_labels(&mut self, stack: &[u8]) {
        let (entries, _) = stack.as_chunks::<4>();
        for (label, &[a, b, c, _]) in self.labels.iter_mut().zip(entries) {
            *label = Some([a, b, c]);
            // RFC 3032 section 2.1: the bottom of the stack.
            if c & 1 == 1 {
                return;
            }
        }
    }

    /// VLAN of the outermost tag.
    pub(super) fn vlan(&self) -> Option<u16> {
        self.outer().map(vlan)
    }

    /// Priority of the outermost tag.
    pub(super) fn priority(&self) -> Option<u8> {
        self.outer().map(priority)
    }

    fn outer(&self) -> Option<u16> {
        let [outer, ..] = self.tags;
        outer
    }

    /// Adds the tags as elements: the outermost and the one within it, which is the customer's.
    /// The outermost one's priority may be known from elsewhere.
    pub(super) fn add_tags(&self, row: &mut Row, outer_priority: Option<u8>) {
        let [outer, inner, ..] = self.tags;
        if let Some(tag) = outer {
            row.fixed(elements::DOT1Q_VLAN_ID, &vlan(tag).to_be_bytes());
        }
        if let Some(priority) = outer_priority.or_else(|| self.priority()) {
            row.fixed(elements::DOT1Q_PRIORITY, &[priority]);
        }
        if let Some(tag) = inner {
            row.fixed(elements::DOT1Q_CUSTOMER_VLAN_ID, &vlan(tag).to_be_bytes());
            row.fixed(elements::DOT1Q_CUSTOMER_PRIORITY, &[priority(tag)]);
        }
    }
}

/// Adds the labels of a stack, the top one first; the elements end with the tenth.
pub(super) fn add_labels(row: &mut Row, labels: impl Iterator<Item = [u8; 3]>) {
    for (element, label) in elements::MPLS_LABELS.into_iter().zip(labels) {
        let element: Id = element;
        row.fixed(element, &label);
    }
}

fn split_addresses(frame: &[u8]) -> Option<(&[[u8; 6]; 2], &[u8])> {
    let (addresses, rest) = frame.split_at_checked(12)?;
    let (addresses, _) = addresses.as_chunks::<6>();
    Some((addresses.first_chunk()?, rest))
}

const fn vlan(tag: u16) -> u16 {
    tag & 0x0fff
}

const fn priority(tag: u16) -> u8 {
    let [high, _] = tag.to_be_bytes();
    high >> 5
}
