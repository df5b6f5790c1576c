//! A flow sample or discarded packet -> one row.

use super::SampleCounts;
use super::elements;
use super::packet::{self, Link};
use super::row::{Row, set};
use crate::model::{Column, RecordType};
use crate::wire::sflow::{
    Blocks, DiscardedPacket, Ethernet, Fields, FlowData, FlowSample, Gateway, HeaderProtocol,
    Interface, Ip, Mpls, Nat, NatPort, RawHeader, Router, SourceId, Switch, Url, User,
};
use std::fmt::Write;
use std::net::IpAddr;

/// Autonomous systems of a path that is kept. A BGP message has room for about a thousand.
const AS_PATH_COUNT_MAX: usize = 1_024;
/// RFC 7270 section 4.12: dropped, for a reason that its list does not have.
const FORWARDING_STATUS_DROPPED: u8 = 0x80;
/// What an agent says of a VLAN or priority that it does not know.
const UNKNOWN: u32 = u32::MAX;
const PRIORITY_MAX: u32 = 7;

/// What the records of a sample tell, one of each kind: agents send no more.
#[derive(Debug, Default)]
struct Parts<'a> {
    header: Option<RawHeader<'a>>,
    /// The same packet, after it was decrypted.
    payload: Option<RawHeader<'a>>,
    ethernet: Option<Ethernet>,
    ip: Option<Ip>,
    switch: Option<Switch>,
    router: Option<Router>,
    gateway: Option<Gateway<'a>>,
    user: Option<User<'a>>,
    url: Option<Url<'a>>,
    mpls: Option<Mpls<'a>>,
    nat: Option<Nat>,
    nat_port: Option<NatPort>,
    /// How many records stand for themselves.
    fields_count: usize,
}

impl<'a> Parts<'a> {
    /// Reads the records, up to damage. None if damage was all that there is.
    fn read(records: Blocks<'a>, counts: &mut SampleCounts) -> Option<Self> {
        let mut parts = Self::default();
        let (mut sound, mut damaged) = (0u64, 0u64);
        for block in records {
            match block.and_then(|block| FlowData::decode(&block)) {
                Ok(data) => {
                    sound = sound.saturating_add(1);
                    if !parts.take(data) {
                        counts.parts_unknown = counts.parts_unknown.saturating_add(1);
                    }
                }
                Err(_) => damaged = damaged.saturating_add(1),
            }
        }
        if sound == 0 && damaged > 0 {
            return None;
        }
        counts.parts_malformed = counts.parts_malformed.saturating_add(damaged);
        Some(parts)
    }

    /// Takes a record; false if it is of no use.
    fn take(&mut self, data: FlowData<'a>) -> bool {
        match data {
            FlowData::RawHeader(header) if header.protocol == HeaderProtocol::Llc => {
                first(&mut self.payload, header)
            }
            FlowData::RawHeader(header) => first(&mut self.header, header),
            FlowData::Ethernet(ethernet) => first(&mut self.ethernet, ethernet),
            FlowData::Ip(ip) => first(&mut self.ip, ip),
            FlowData::Switch(switch) => first(&mut self.switch, switch),
            FlowData::Router(router) => first(&mut self.router, router),
            FlowData::Gateway(gateway) => first(&mut self.gateway, gateway),
            FlowData::User(user) => first(&mut self.user, user),
            FlowData::Url(url) => first(&mut self.url, url),
            FlowData::Mpls(mpls) => first(&mut self.mpls, mpls),
            FlowData::Nat(nat) => first(&mut self.nat, nat),
            FlowData::NatPort(ports) => first(&mut self.nat_port, ports),
            FlowData::Fields(_) => {
                self.fields_count = self.fields_count.saturating_add(1);
                true
            }
            FlowData::Unknown(_) => false,
        }
    }
}

fn first<T>(place: &mut Option<T>, value: T) -> bool {
    let is_free = place.is_none();
    place.get_or_insert(value);
    is_free
}

/// Makes the row of a sampled packet; false if its records are damaged.
pub(super) fn sampled(
    sample: &FlowSample<'_>,
    row: &mut Row,
    text: &mut String,
    counts: &mut SampleCounts,
) -> bool {
    let Some(parts) = Parts::read(sample.records.clone(), counts) else {
        return false;
    };
    row.begin(RecordType::Flow);
    set!(row, sampling_interval, SamplingInterval, sample.sampling_rate);
    row.number(elements::TOTAL_PACKETS_OBSERVED, sample.sample_pool);
    add_source(row, sample.source, sample.drops);
    if let Interface::Index(index) = sample.input {
        set!(row, ingress_interface, IngressInterface, index);
    }
    match sample.output {
        Interface::Index(index) => set!(row, egress_interface, EgressInterface, index),
        Interface::Discarded(reason) => set_discarded(row, reason),
        Interface::Multiple(count) => row.number(elements::EGRESS_INTERFACE_COUNT, count),
        Interface::Unknown { .. } => {}
    }
    set!(row, packet_delta_count, PacketDeltaCount, 1);
    fill(&parts, sample.records.clone(), row, text);
    true
}

/// Makes the row of a discarded packet; false if its records are damaged.
pub(super) fn discarded(
    sample: &DiscardedPacket<'_>,
    row: &mut Row,
    text: &mut String,
    counts: &mut SampleCounts,
) -> bool {
    let Some(parts) = Parts::read(sample.records.clone(), counts) else {
        return false;
    };
    row.begin(RecordType::Flow);
    add_source(row, sample.source, sample.drops);
    set!(row, ingress_interface, IngressInterface, sample.input);
    set!(row, egress_interface, EgressInterface, sample.output);
    set_discarded(row, sample.reason);
    fill(&parts, sample.records.clone(), row, text);
    // It did not pass the device: RFC 7012 counts such packets apart.
    row.fixed(elements::DROPPED_PACKETS, &1u64.to_be_bytes());
    if row.has(Column::OctetDeltaCount) {
        row.record.present.remove(Column::OctetDeltaCount);
        let octets = row.record.octet_delta_count;
        row.fixed(elements::DROPPED_OCTETS, &octets.to_be_bytes());
    }
    true
}

fn add_source(row: &mut Row, source: SourceId, drops: u32) {
    row.number(elements::SAMPLING_SOURCE_CLASS, source.class);
    row.number(elements::SAMPLING_SOURCE_INDEX, source.index);
    row.number(elements::SAMPLING_DROPS, drops);
}

fn set_discarded(row: &mut Row, reason: u32) {
    set!(row, forwarding_status, ForwardingStatus, FORWARDING_STATUS_DROPPED);
    row.number(elements::DISCARD_REASON, reason);
}

/// Sets what the records tell, in an order that does not depend on theirs: so records that tell
/// the same have one shape.
fn fill(parts: &Parts<'_>, records: Blocks<'_>, row: &mut Row, text: &mut String) {
    let link = fill_packet(parts, row);
    fill_vlans(parts.switch, &link, row);
    if let Some(router) = &parts.router {
        set_route(router, row);
    }
    if let Some(gateway) = &parts.gateway {
        set_gateway(gateway, row, text);
    }
    fill_labels(parts.mpls.as_ref(), &link, row);
    fill_translation(parts, row);
    fill_users(parts, row);
    if parts.fields_count > 0 {
        let data = records.filter_map(|block| FlowData::decode(&block.ok()?).ok());
        for data in data {
            if let FlowData::Fields(fields) = data {
                add_fields(fields, row);
            }
        }
    }
}

/// Adds fields that stand for themselves.
fn add_fields(fields: Fields<'_>, row: &mut Row) {
    for field in fields.iter() {
        add_field(&field, row);
    }
}

/// Adds a field that stands for itself.
pub(super) fn add_field(field: &crate::wire::sflow::Field<'_>, row: &mut Row) {
    let element = elements::of_field(field.number);
    match field.kind.size() {
        Some(_) => row.fixed(element, field.value),
        None => row.variable(element, field.value),
    }
}

/// Sets what the packet's own headers say, as the agent sent or read them.
fn fill_packet(parts: &Parts<'_>, row: &mut Row) -> Link {
    let link = parts.header.as_ref().map(Link::read).unwrap_or_default();
    let frame_size = parts.header.map(|header| header.frame_length);
    if let Some(size) = frame_size.or_else(|| parts.ethernet.map(|ethernet| ethernet.length)) {
        row.number(elements::DATA_LINK_FRAME_SIZE, size);
    }
    let headers = parts.header.iter().chain(&parts.payload);
    let packet = headers.filter_map(packet::parse).next();
    if let Some(packet) = &packet {
        packet::set_packet(row, packet);
    } else if let Some(HeaderProtocol::Other(number)) = parts.header.map(|header| header.protocol) {
        row.number(elements::SAMPLED_HEADER_PROTOCOL, number);
    }
    if let Some(ip) = &parts.ip {
        set_ip(ip, packet.is_some(), row);
    }
    let told = parts.ethernet.map(|ethernet| [ethernet.destination, ethernet.source]);
    if let Some([destination, source]) = link.addresses.or(told) {
        set!(row, source_mac_address, SourceMacAddress, source);
        set!(row, destination_mac_address, DestinationMacAddress, destination);
    }
    // Of IP packets the addresses tell the type.
    if packet.is_none() && parts.ip.is_none() {
        let told = parts.ethernet.and_then(|ethernet| u16::try_from(ethernet.ethertype).ok());
        if let Some(ethertype) = link.ethertype.or(told) {
            row.fixed(elements::ETHERNET_TYPE, &ethertype.to_be_bytes());
        }
    }
    link
}

/// Sets what the agent read of the IP header, unless the header itself is there.
fn set_ip(ip: &Ip, is_known: bool, row: &mut Row) {
    if !row.has(Column::TcpControlBits)
        && let Ok(flags) = u16::try_from(ip.tcp_flags)
    {
        set!(row, tcp_control_bits, TcpControlBits, flags);
    }
    if is_known {
        return;
    }
    row.record.set_source_address(ip.source);
    row.record.set_destination_address(ip.destination);
    set!(row, octet_delta_count, OctetDeltaCount, u64::from(ip.length));
    if let Ok(class_of_service) = u8::try_from(ip.class_of_service) {
        set!(row, ip_class_of_service, IpClassOfService, class_of_service);
    }
    let Ok(protocol) = u8::try_from(ip.protocol) else {
        return;
    };
    set!(row, protocol_identifier, ProtocolIdentifier, protocol);
    // TCP, UDP, DCCP, SCTP, UDP-Lite. What agents put here for others differs.
    if let (6 | 17 | 33 | 132 | 136, Ok(source), Ok(destination)) =
        (protocol, u16::try_from(ip.source_port), u16::try_from(ip.destination_port))
    {
        set!(row, source_transport_port, SourceTransportPort, source);
        set!(row, destination_transport_port, DestinationTransportPort, destination);
    }
}

/// Sets VLANs: as the switch has them, else as the frame does.
fn fill_vlans(switch: Option<Switch>, link: &Link, row: &mut Row) {
    let Some(switch) = switch else {
        if let Some(vlan) = link.vlan() {
            set!(row, vlan_id, VlanId, vlan);
        }
        link.add_tags(row, None);
        return;
    };
    let Switch { source_vlan, source_priority, destination_vlan, destination_priority } = switch;
    if let Some(vlan) = known_vlan(source_vlan).or_else(|| link.vlan()) {
        set!(row, vlan_id, VlanId, vlan);
    }
    if let Some(vlan) = known_vlan(destination_vlan) {
        set!(row, post_vlan_id, PostVlanId, vlan);
    }
    let priority = u8::try_from(source_priority).ok();
    link.add_tags(row, priority.filter(|&priority| u32::from(priority) <= PRIORITY_MAX));
    if destination_priority != UNKNOWN {
        row.number(elements::POST_DOT1Q_PRIORITY, destination_priority);
    }
}

/// A VLAN's number; what does not fit is what the agent does not know.
pub(super) fn known_vlan(number: u32) -> Option<u16> {
    u16::try_from(number).ok().filter(|&number| number <= 0x0fff)
}

fn set_route(router: &Router, row: &mut Row) {
    match router.next_hop {
        Some(IpAddr::V4(address)) => {
            set!(row, ip_next_hop_ipv4_address, IpNextHopIpv4Address, address.to_bits());
        }
        Some(IpAddr::V6(address)) => {
            set!(row, ip_next_hop_ipv6_address, IpNextHopIpv6Address, address.octets());
        }
        None => {}
    }
    // The prefixes are those of the packet's addresses; where it shows none, of the next hop's
    // family.
    let is_ipv6 = row.has(Column::SourceIpv6Address)
        || !row.has(Column::SourceIpv4Address) && router.next_hop.is_some_and(|hop| hop.is_ipv6());
    let length_max = if is_ipv6 { 128 } else { 32 };
    let length = |mask| u8::try_from(mask).ok().filter(|&length| length <= length_max);
    match (is_ipv6, length(router.source_mask)) {
        (false, Some(mask)) => {
            set!(row, source_ipv4_prefix_length, SourceIpv4PrefixLength, mask);
        }
        (true, Some(mask)) => {
            set!(row, source_ipv6_prefix_length, SourceIpv6PrefixLength, mask);
        }
        (_, None) => {}
    }
    match (is_ipv6, length(router.destination_mask)) {
        (false, Some(mask)) => {
            set!(row, destination_ipv4_prefix_length, DestinationIpv4PrefixLength, mask);
        }
        (true, Some(mask)) => {
            set!(row, destination_ipv6_prefix_length, DestinationIpv6PrefixLength, mask);
        }
        (_, None) => {}
    }
}

fn set_gateway(gateway: &Gateway<'_>, row: &mut Row, text: &mut String) {
    set!(row, bgp_source_as_number, BgpSourceAsNumber, gateway.source_as);
    if let Some(number) = gateway.as_path.last() {
        set!(row, bgp_destination_as_number, BgpDestinationAsNumber, number);
    }
    row.address(elements::BGP_NEXT_HOP_IPV4, elements::BGP_NEXT_HOP_IPV6, gateway.next_hop);
    row.number(elements::ROUTER_AS, gateway.router_as);
    row.number(elements::BGP_PREVIOUS_ADJACENT_AS, gateway.source_peer_as);
    row.number(elements::BGP_LOCAL_PREFERENCE, gateway.local_preference);
    if let Some(number) = gateway.as_path.first() {
        row.number(elements::BGP_NEXT_ADJACENT_AS, number);
        if write_as_path(gateway, text) {
            row.variable(elements::BGP_DESTINATION_AS_PATH, text.as_bytes());
        } else {
            row.over_limit = row.over_limit.saturating_add(1);
        }
    }
    let communities = gateway.communities.as_bytes();
    if !communities.is_empty() {
        // RFC 6313 section 4.5.1: all of them apply (3); the element, its length, the values.
        let [high, low] = elements::BGP_COMMUNITY.id.to_be_bytes();
        let head = [3, high, low, 0, 4];
        row.variable_of(elements::BGP_DESTINATION_COMMUNITY_LIST, &[&head, communities]);
    }
}

/// Writes the path as operators do: `64500 64501 {64502,64503}`, a set between braces. False if it
/// is too long.
fn write_as_path(gateway: &Gateway<'_>, text: &mut String) -> bool {
    text.clear();
    let mut count = 0usize;
    for segment in gateway.as_path.iter() {
        count = count.saturating_add(segment.numbers.iter().len());
        if count > AS_PATH_COUNT_MAX {
            return false;
        }
        let (open, between, close) = if segment.is_set { ("{", ",", "}") } else { ("", " ", "") };
        let mut joint = open;
        if !text.is_empty() && segment.numbers.iter().len() > 0 {
            text.push(' ');
        }
        for number in segment.numbers.iter() {
            text.push_str(joint);
            joint = between;
            if write!(text, "{number}").is_err() {
                return false;
            }
        }
        if segment.numbers.iter().len() > 0 {
            text.push_str(close);
        }
    }
    true
}

/// Adds labels: as the router has them, else as the frame does.
fn fill_labels(mpls: Option<&Mpls<'_>>, link: &Link, row: &mut Row) {
    let Some(mpls) = mpls else {
        packet::add_labels(row, link.labels.iter().map_while(|&label| label));
        return;
    };
    let Mpls { next_hop, in_stack, out_stack } = *mpls;
    packet::add_labels(
        row,
        in_stack.iter().map(|word| {
            let [a, b, c, _] = word.to_be_bytes();
            [a, b, c]
        }),
    );
    row.address(elements::MPLS_TOP_LABEL_IPV4, elements::MPLS_TOP_LABEL_IPV6, next_hop);
    if !out_stack.as_bytes().is_empty() {
        row.variable(elements::MPLS_OUT_LABEL_STACK, out_stack.as_bytes());
    }
}

/// Adds what address translation made of the packet.
fn fill_translation(parts: &Parts<'_>, row: &mut Row) {
    use elements::{
        POST_NAPT_DESTINATION_PORT, POST_NAPT_SOURCE_PORT, POST_NAT_DESTINATION_IPV4,
        POST_NAT_DESTINATION_IPV6, POST_NAT_SOURCE_IPV4, POST_NAT_SOURCE_IPV6,
    };
    if let Some(Nat { source, destination }) = parts.nat {
        row.address(POST_NAT_SOURCE_IPV4, POST_NAT_SOURCE_IPV6, source);
        row.address(POST_NAT_DESTINATION_IPV4, POST_NAT_DESTINATION_IPV6, destination);
    }
    if let Some(NatPort { source, destination }) = parts.nat_port {
        for (element, port) in
            [(POST_NAPT_SOURCE_PORT, source), (POST_NAPT_DESTINATION_PORT, destination)]
        {
            if let Ok(port) = u16::try_from(port) {
                row.fixed(element, &port.to_be_bytes());
            }
        }
    }
}

/// Adds who sent the packet and for what. A name that is empty is not known.
fn fill_users(parts: &Parts<'_>, row: &mut Row) {
    let mut add = |element, text: &[u8]| {
        if !text.is_empty() {
            row.variable(element, text);
        }
    };
    if let Some(User { source, destination }) = parts.user {
        add(elements::USER_NAME, source);
        add(elements::DESTINATION_USER_NAME, destination);
    }
    if let Some(Url { direction, url, host }) = parts.url {
        add(elements::HTTP_REQUEST_TARGET, url);
        add(elements::HTTP_REQUEST_HOST, host);
        row.number(elements::URL_DIRECTION, direction);
    }
}
