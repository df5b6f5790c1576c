//! A record that is being made of the parts that a file has of it.

use crate::model::ie::{PEN_PROCESS, v9_element};
use crate::model::{Column, Extra, ExtraSpec, FlowRecord};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMP_V6: u8 = 58;
/// TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [TCP, 17, 33, 132, 136];

/// Octets and packets of both directions, as nfdump counts them.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    packets: u64,
    octets: u64,
    /// Packets and octets that went out.
    out: Option<(u64, u64)>,
}

/// A record that is being made.
#[derive(Debug, Default)]
pub(super) struct Builder {
    record: FlowRecord,
    counters: Counters,
    received: u64,
    is_firewall_event: bool,
    /// Prefix lengths of source and destination.
    masks: (u8, u8),
    /// The exporter's address, where the record itself has it.
    pub(super) exporter: Option<IpAddr>,
}

/// What all records have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Generic {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) protocol: u8,
    pub(super) tcp_flags: u8,
    pub(super) forwarding_status: u8,
    pub(super) tos: u8,
}

macro_rules! set {
    ($self:ident, $field:ident, $column:ident, $value:expr) => {{
        $self.record.$field = $value;
        $self.record.present.insert(Column::$column);
    }};
}
macro_rules! set_unless_zero {
    ($self:ident, $field:ident, $column:ident, $value:expr) => {{
        let value = $value;
        if !is_zero(&value) {
            set!($self, $field, $column, value);
        }
    }};
}

impl Builder {
    pub(super) fn generic(&mut self, it: &Generic) {
        set_unless_zero!(self, flow_start_milliseconds, FlowStartMilliseconds, millis(it.first));
        set_unless_zero!(self, flow_end_milliseconds, FlowEndMilliseconds, millis(it.last));
        set!(self, protocol_identifier, ProtocolIdentifier, it.protocol);
        set!(self, ip_class_of_service, IpClassOfService, it.tos);
        set_unless_zero!(self, forwarding_status, ForwardingStatus, it.forwarding_status);
        if it.protocol == TCP || it.tcp_flags != 0 {
            set!(self, tcp_control_bits, TcpControlBits, u16::from(it.tcp_flags));
        }
        let (source_port, destination_port) = (it.source_port, it.destination_port);
        match it.protocol {
            ICMP => set!(self, icmp_type_code_ipv4, IcmpTypeCodeIpv4, destination_port),
            ICMP_V6 => set!(self, icmp_type_code_ipv6, IcmpTypeCodeIpv6, destination_port),
            _ if WITH_PORTS.contains(&it.protocol) || source_port != 0 || destination_port != 0 => {
                set!(self, source_transport_port, SourceTransportPort, source_port);
                set!(self, destination_transport_port, DestinationTransportPort, destination_port);
            }
            _ => {}
        }
    }

    /// When it was received, in milliseconds since 1970; 0 is not known.
    pub(super) const fn received(&mut self, millis: u64) {
        self.received = millis;
    }

    pub(super) const fn incoming(&mut self, packets: u64, octets: u64) {
        self.counters.packets = packets;
        self.counters.octets = octets;
    }

    pub(super) const fn outgoing_packets(&mut self, packets: u64) {
        let octets = match self.counters.out {
            Some((_, octets)) => octets,
            None => 0,
        };
        self.counters.out = Some((packets, octets));
    }

    pub(super) const fn outgoing_octets(&mut self, octets: u64) {
        let packets = match self.counters.out {
            Some((packets, _)) => packets,
            None => 0,
        };
        self.counters.out = Some((packets, octets));
    }

    /// Records that an aggregated one stands for.
    pub(super) fn flows(&mut self, count: u64) {
        if count > 1 {
            self.element(3, &count.to_be_bytes());
        }
    }

    pub(super) fn addresses_v4(&mut self, source: u32, destination: u32) {
        set!(self, source_ipv4_address, SourceIpv4Address, source);
        set!(self, destination_ipv4_address, DestinationIpv4Address, destination);
    }

    pub(super) fn addresses_v6(&mut self, source: [u8; 16], destination: [u8; 16]) {
        set!(self, source_ipv6_address, SourceIpv6Address, source);
        set!(self, destination_ipv6_address, DestinationIpv6Address, destination);
    }

    pub(super) fn interfaces(&mut self, input: u32, output: u32) {
        if input != 0 || output != 0 {
            set!(self, ingress_interface, IngressInterface, input);
            set!(self, egress_interface, EgressInterface, output);
        }
    }

    /// Prefix lengths, of the family that the record's addresses turn out to have.
    pub(super) const fn masks(&mut self, source: u8, destination: u8) {
        self.masks = (source, destination);
    }

    pub(super) fn direction(&mut self, direction: u8) {
        set_unless_zero!(self, flow_direction, FlowDirection, direction);
    }

    pub(super) fn end_reason(&mut self, reason: u8) {
        set_unless_zero!(self, flow_end_reason, FlowEndReason, reason);
    }

    pub(super) fn autonomous_systems(&mut self, source: u32, destination: u32) {
        set!(self, bgp_source_as_number, BgpSourceAsNumber, source);
        set!(self, bgp_destination_as_number, BgpDestinationAsNumber, destination);
    }

    pub(super) fn next_hop_v4(&mut self, address: u32) {
        set!(self, ip_next_hop_ipv4_address, IpNextHopIpv4Address, address);
    }

    pub(super) fn next_hop_v6(&mut self, address: [u8; 16]) {
        set!(self, ip_next_hop_ipv6_address, IpNextHopIpv6Address, address);
    }

    /// VLANs have 12 bits; nfdump keeps them in 16 or 32.
    pub(super) fn vlans(&mut self, source: u32, destination: u32) {
        let low = |number: u32| u16::try_from(number & 0xffff).unwrap_or(0);
        set_unless_zero!(self, vlan_id, VlanId, low(source));
        set_unless_zero!(self, post_vlan_id, PostVlanId, low(destination));
    }

    /// MAC addresses of the packets that came in: source, and of those that left: destination.
    pub(super) fn macs_in_source_out_destination(&mut self, source: u64, destination: u64) {
        set_unless_zero!(self, source_mac_address, SourceMacAddress, mac(source));
        self.mac_element(57, destination);
    }

    /// The other two.
    pub(super) fn macs_in_destination_out_source(&mut self, destination: u64, source: u64) {
        set_unless_zero!(self, destination_mac_address, DestinationMacAddress, mac(destination));
        self.mac_element(81, source);
    }

    fn mac_element(&mut self, id: u16, address: u64) {
        if address != 0 {
            self.element(id, &mac(address));
        }
    }

    /// A label with its class and bottom bit, of three octets.
    pub(super) fn mpls(&mut self, index: u16, label: u32) {
        if label != 0 {
            let [_, octets @ ..] = label.to_be_bytes();
            self.element(70_u16.saturating_add(index), &octets);
        }
    }

    /// Microseconds, as the seconds and the microseconds that nProbe sends.
    pub(super) fn latency(&mut self, first_id: u16, microseconds: u64) {
        let parts = [microseconds / 1_000_000, microseconds % 1_000_000];
        for (id, part) in (first_id..).zip(parts) {
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            self.extra(PEN_PROCESS, id, &part.to_be_bytes());
        }
    }

    pub(super) fn sampler(&mut self, id: u64) {
        match u32::try_from(id) {
            Ok(id) => set!(self, sampler_id, SamplerId, id),
            Err(_) => self.element(302, &id.to_be_bytes()),
        }
    }

    /// What a firewall logged: time, connection, what it did.
    pub(super) fn firewall(&mut self, time: u64, connection: u32, extended: u16, event: u8) {
        self.is_firewall_event = true;
        self.event_time(time);
        self.element(148, &connection.to_be_bytes());
        self.v9_type(33_002, &extended.to_be_bytes());
        set!(self, firewall_event, FirewallEvent, event);
    }

    /// What a translator did.
    pub(super) fn nat_event(&mut self, event: u8) {
        set!(self, nat_event, NatEvent, event);
    }

    pub(super) fn event_time(&mut self, millis: u64) {
        if millis != 0 {
            self.element(323, &millis.to_be_bytes());
        }
    }

    /// An element by its IANA number.
    pub(super) fn element(&mut self, id: u16, value: &[u8]) {
        self.extra(0, id, value);
    }

    /// An element by its type in NetFlow v9.
    pub(super) fn v9_type(&mut self, field_type: u16, value: &[u8]) {
        let (enterprise, id) = v9_element(field_type);
        self.extra(enterprise, id, value);
    }

    /// A small number that is absent if it is zero.
    pub(super) fn flag_element(&mut self, id: u16, value: u8) {
        if value != 0 {
            self.element(id, &[value]);
        }
    }

    fn put_masks(&mut self) {
        let (source, destination) = self.masks;
        if self.record.present.contains(Column::SourceIpv6Address) {
            set_unless_zero!(self, source_ipv6_prefix_length, SourceIpv6PrefixLength, source);
            set_unless_zero!(
                self,
                destination_ipv6_prefix_length,
                DestinationIpv6PrefixLength,
                destination
            );
        } else {
            set_unless_zero!(self, source_ipv4_prefix_length, SourceIpv4PrefixLength, source);
            set_unless_zero!(
                self,
                destination_ipv4_prefix_length,
                DestinationIpv4PrefixLength,
                destination
            );
        }
    }

    fn extra(&mut self, enterprise: u32, id: u16, value: &[u8]) {
        let Ok(length) = u16::try_from(value.len()) else {
            return;
        };
        let spec = ExtraSpec { enterprise, id, length };
        self.record.extras.push(Extra { spec, value: value.to_vec() });
    }

    /// The record. Where the file has no time of its receipt, its end is taken, else `fallback`.
    pub(super) fn finish(mut self, fallback: i64) -> FlowRecord {
        let Counters { packets, octets, out } = self.counters;
        if self.is_firewall_event {
            // Firewalls count by side of the connection.
            set!(self, initiator_packets, InitiatorPackets, packets);
            set!(self, initiator_octets, InitiatorOctets, octets);
            if let Some((packets, octets)) = out {
                set!(self, responder_packets, ResponderPackets, packets);
                set!(self, responder_octets, ResponderOctets, octets);
            }
        } else {
            set!(self, packet_delta_count, PacketDeltaCount, packets);
            set!(self, octet_delta_count, OctetDeltaCount, octets);
            if let Some((packets, octets)) = out.filter(|&out| out != (0, 0)) {
                self.element(24, &packets.to_be_bytes());
                self.element(23, &octets.to_be_bytes());
            }
        }
        self.put_masks();
        let record = &self.record;
        let candidates =
            [millis(self.received), record.flow_end_milliseconds, record.flow_start_milliseconds];
        let received = candidates.into_iter().find(|&time| time != 0).unwrap_or(fallback);
        set!(self, collection_time_milliseconds, CollectionTimeMilliseconds, received);
        self.record
    }
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The last millisecond of the year 9999: a time beyond it is none.
const MILLIS_MAX: u64 = 253_402_300_799_999;

/// A time; 0 where there is none.
fn millis(millis: u64) -> i64 {
    i64::try_from(millis).ok().filter(|_| millis <= MILLIS_MAX).unwrap_or(0)
}

/// The six low octets, in network order.
const fn mac(number: u64) -> [u8; 6] {
    let [_, _, octets @ ..] = number.to_be_bytes();
    octets
}

/// An exporter's address as a record has it.
pub(super) fn router_v4(address: u32) -> Option<IpAddr> {
    (address != 0).then(|| IpAddr::V4(Ipv4Addr::from_bits(address)))
}

/// The same of the other family.
pub(super) fn router_v6(address: [u8; 16]) -> Option<IpAddr> {
    (address != [0; 16]).then(|| Ipv6Addr::from(address).to_canonical())
}
