//! Column: the Information Elements that every record has a fixed place for.
//!
//! One table makes the enum, the fields of [`FlowRecord`](super::FlowRecord) and the vectors of
//! [`FlowBatch`](super::FlowBatch); the ring's block layout, the archive's schema, the query
//! language's fields and the decoder's copy plans all follow from it.

/// How a column's values are laid out: fixed width, native byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// Unsigned, one octet.
    U8,
    /// Unsigned, two octets.
    U16,
    /// Unsigned, four octets.
    U32,
    /// Unsigned, eight octets.
    U64,
    /// IPv4 address as a number, so that ranges compare as prefixes do.
    Ipv4,
    /// IPv6 address in network order.
    Ipv6,
    /// MAC address in network order.
    Mac,
    /// Milliseconds since 1970 UTC, signed (a wrong clock can lie before it).
    Millis,
}

impl ColumnKind {
    /// Octets a value.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 | Self::Ipv4 => 4,
            Self::Mac => 6,
            Self::U64 | Self::Millis => 8,
            Self::Ipv6 => 16,
        }
    }
}

/// Calls a macro with the table of columns:
/// `(Variant, field_name, RustType, Kind, element id, "elementName", "doc")`.
/// The order is the order of output: keys first, then counters, then the rest.
macro_rules! with_columns {
    ($callback:ident) => {
        $callback! {
            (SourceIpv4Address, source_ipv4_address, u32, Ipv4, 8, "sourceIPv4Address", "Source address of an IPv4 flow."),
            (DestinationIpv4Address, destination_ipv4_address, u32, Ipv4, 12, "destinationIPv4Address", "Destination address of an IPv4 flow."),
            (SourceIpv6Address, source_ipv6_address, [u8; 16], Ipv6, 27, "sourceIPv6Address", "Source address of an IPv6 flow."),
            (DestinationIpv6Address, destination_ipv6_address, [u8; 16], Ipv6, 28, "destinationIPv6Address", "Destination address of an IPv6 flow."),
            (SourceTransportPort, source_transport_port, u16, U16, 7, "sourceTransportPort", "Source port."),
            (DestinationTransportPort, destination_transport_port, u16, U16, 11, "destinationTransportPort", "Destination port."),
            (ProtocolIdentifier, protocol_identifier, u8, U8, 4, "protocolIdentifier", "IP protocol number."),
            (IcmpTypeCodeIpv4, icmp_type_code_ipv4, u16, U16, 32, "icmpTypeCodeIPv4", "ICMP type * 256 + code."),
            (IcmpTypeCodeIpv6, icmp_type_code_ipv6, u16, U16, 139, "icmpTypeCodeIPv6", "ICMPv6 type * 256 + code."),
            (OctetDeltaCount, octet_delta_count, u64, U64, 1, "octetDeltaCount", "Octets of layer 3, forward direction."),
            (PacketDeltaCount, packet_delta_count, u64, U64, 2, "packetDeltaCount", "Packets, forward direction."),
            (ReverseOctetDeltaCount, reverse_octet_delta_count, u64, U64, 1, "reverseOctetDeltaCount", "Octets of the reverse direction (RFC 5103)."),
            (ReversePacketDeltaCount, reverse_packet_delta_count, u64, U64, 2, "reversePacketDeltaCount", "Packets of the reverse direction (RFC 5103)."),
            (OctetTotalCount, octet_total_count, u64, U64, 85, "octetTotalCount", "Octets since the flow began, where the exporter counts so."),
            (PacketTotalCount, packet_total_count, u64, U64, 86, "packetTotalCount", "Packets since the flow began, where the exporter counts so."),
            (ReverseOctetTotalCount, reverse_octet_total_count, u64, U64, 85, "reverseOctetTotalCount", "The same of the reverse direction (RFC 5103)."),
            (ReversePacketTotalCount, reverse_packet_total_count, u64, U64, 86, "reversePacketTotalCount", "The same of the reverse direction (RFC 5103)."),
            (InitiatorOctets, initiator_octets, u64, U64, 231, "initiatorOctets", "Octets of payload from the side that opened the connection."),
            (ResponderOctets, responder_octets, u64, U64, 232, "responderOctets", "Octets of payload from the other side."),
            (InitiatorPackets, initiator_packets, u64, U64, 298, "initiatorPackets", "Packets from the side that opened the connection."),
            (ResponderPackets, responder_packets, u64, U64, 299, "responderPackets", "Packets from the other side."),
            (FlowStartMilliseconds, flow_start_milliseconds, i64, Millis, 152, "flowStartMilliseconds", "Time of the first packet."),
            (FlowEndMilliseconds, flow_end_milliseconds, i64, Millis, 153, "flowEndMilliseconds", "Time of the last packet."),
            (TcpControlBits, tcp_control_bits, u16, U16, 6, "tcpControlBits", "TCP flags seen, or-ed."),
            (IpClassOfService, ip_class_of_service, u8, U8, 5, "ipClassOfService", "ToS or traffic class of the first packet."),
            (IngressInterface, ingress_interface, u32, U32, 10, "ingressInterface", "Interface the flow came in by."),
            (EgressInterface, egress_interface, u32, U32, 14, "egressInterface", "Interface the flow left by."),
            (FlowDirection, flow_direction, u8, U8, 61, "flowDirection", "0 ingress, 1 egress."),
            (FlowEndReason, flow_end_reason, u8, U8, 136, "flowEndReason", "Why the record was made."),
            (VlanId, vlan_id, u16, U16, 58, "vlanId", "VLAN of the first packet."),
            (PostVlanId, post_vlan_id, u16, U16, 59, "postVlanId", "VLAN on leaving."),
            (MinimumTtl, minimum_ttl, u8, U8, 52, "minimumTTL", "Least TTL or hop limit seen."),
            (MaximumTtl, maximum_ttl, u8, U8, 53, "maximumTTL", "Greatest TTL or hop limit seen."),
            (SourceMacAddress, source_mac_address, [u8; 6], Mac, 56, "sourceMacAddress", "Source MAC of the first packet."),
            (DestinationMacAddress, destination_mac_address, [u8; 6], Mac, 80, "destinationMacAddress", "Destination MAC of the first packet."),
            (FlowLabelIpv6, flow_label_ipv6, u32, U32, 31, "flowLabelIPv6", "IPv6 flow label of the first packet."),
            (BgpSourceAsNumber, bgp_source_as_number, u32, U32, 16, "bgpSourceAsNumber", "Autonomous system of the source."),
            (BgpDestinationAsNumber, bgp_destination_as_number, u32, U32, 17, "bgpDestinationAsNumber", "Autonomous system of the destination."),
            (SourceIpv4PrefixLength, source_ipv4_prefix_length, u8, U8, 9, "sourceIPv4PrefixLength", "Route's prefix length, source."),
            (DestinationIpv4PrefixLength, destination_ipv4_prefix_length, u8, U8, 13, "destinationIPv4PrefixLength", "Route's prefix length, destination."),
            (SourceIpv6PrefixLength, source_ipv6_prefix_length, u8, U8, 29, "sourceIPv6PrefixLength", "Route's prefix length, source."),
            (DestinationIpv6PrefixLength, destination_ipv6_prefix_length, u8, U8, 30, "destinationIPv6PrefixLength", "Route's prefix length, destination."),
            (IpNextHopIpv4Address, ip_next_hop_ipv4_address, u32, Ipv4, 15, "ipNextHopIPv4Address", "Next hop."),
            (IpNextHopIpv6Address, ip_next_hop_ipv6_address, [u8; 16], Ipv6, 62, "ipNextHopIPv6Address", "Next hop."),
            (ForwardingStatus, forwarding_status, u8, U8, 89, "forwardingStatus", "Forwarded, dropped or consumed, and why (RFC 7270)."),
            (FirewallEvent, firewall_event, u8, U8, 233, "firewallEvent", "What a firewall did: 1 flow created, 2 deleted, 3 denied, 4 alert, 5 update."),
            (NatEvent, nat_event, u8, U8, 230, "natEvent", "What a translator did (RFC 8158)."),
            (SamplingInterval, sampling_interval, u32, U32, 34, "samplingInterval", "One of so many packets was looked at; counters are not scaled by it."),
            (SamplerId, sampler_id, u32, U32, 48, "samplerId", "Sampler that chose the packets."),
            (CollectionTimeMilliseconds, collection_time_milliseconds, i64, Millis, 258, "collectionTimeMilliseconds", "When flowd received the record."),
            (ExportSequenceNumber, export_sequence_number, u32, U32, 0, "exportSequenceNumber", "Sequence number of the message that carried the record."),
            (ExportRecordIndex, export_record_index, u16, U16, 0, "exportRecordIndex", "Place of the record in that message."),
        }
    };
}
pub(crate) use with_columns;

macro_rules! define_column {
    ($(($variant:ident, $field:ident, $rust:ty, $kind:ident, $id:literal, $name:literal, $doc:literal),)*) => {
        /// An Information Element with a fixed place in every record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Column {
            $(#[doc = $doc] $variant,)*
        }

        impl Column {
            /// All columns in output order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The Information Element's name; flowd's own where no element says it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The Information Element's number; 0 where no element says it.
            #[must_use]
            pub const fn element_id(self) -> u16 {
                match self { $(Self::$variant => $id,)* }
            }

            /// How its values are laid out.
            #[must_use]
            pub const fn kind(self) -> ColumnKind {
                match self { $(Self::$variant => ColumnKind::$kind,)* }
            }
        }
    };
}
with_columns!(define_column);

impl Column {
    /// The counters of octets, in both directions each. A record's volume is the first pair that
    /// it has one of: exporters that keep no deltas count by side of a connection, or from its
    /// beginning.
    pub const OCTETS: [[Self; 2]; 3] = [
        [Self::OctetDeltaCount, Self::ReverseOctetDeltaCount],
        [Self::InitiatorOctets, Self::ResponderOctets],
        [Self::OctetTotalCount, Self::ReverseOctetTotalCount],
    ];
    /// The counters of packets, as [`Column::OCTETS`] has those of octets.
    pub const PACKETS: [[Self; 2]; 3] = [
        [Self::PacketDeltaCount, Self::ReversePacketDeltaCount],
        [Self::InitiatorPackets, Self::ResponderPackets],
        [Self::PacketTotalCount, Self::ReversePacketTotalCount],
    ];

    /// How many columns there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The column that an Information Element without enterprise number fills.
    ///
    /// The reverse counters share their number with the forward ones and are found by
    /// [`Column::from_reverse_element`] instead.
    #[must_use]
    pub fn from_element(id: u16) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|column| id != 0 && column.element_id() == id && !column.is_reverse())
    }

    /// The column that an element of the reverse direction fills (RFC 5103, PEN 29305).
    #[must_use]
    pub fn from_reverse_element(id: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|column| column.element_id() == id && column.is_reverse())
    }

    /// The column with this Information Element name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|column| column.name() == name)
    }

    /// Is it a counter of the reverse direction?
    #[must_use]
    pub const fn is_reverse(self) -> bool {
        matches!(
            self,
            Self::ReverseOctetDeltaCount
                | Self::ReversePacketDeltaCount
                | Self::ReverseOctetTotalCount
                | Self::ReversePacketTotalCount
        )
    }

    /// Does it count packets or octets of the flow?
    #[must_use]
    pub const fn is_volume(self) -> bool {
        matches!(
            self,
            Self::OctetDeltaCount
                | Self::PacketDeltaCount
                | Self::OctetTotalCount
                | Self::PacketTotalCount
                | Self::InitiatorOctets
                | Self::ResponderOctets
                | Self::InitiatorPackets
                | Self::ResponderPackets
        ) || self.is_reverse()
    }

    /// Its place in [`Column::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

const _: () = assert!(Column::COUNT <= 64, "a ColumnSet is one 64-bit word");

/// A set of columns: which ones a record carries.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ColumnSet(u64);

impl ColumnSet {
    /// No column.
    pub const EMPTY: Self = Self(0);

    /// These columns.
    #[must_use]
    pub fn of(columns: &[Column]) -> Self {
        columns.iter().copied().collect()
    }

    /// The set with one more column.
    #[must_use]
    pub const fn with(self, column: Column) -> Self {
        Self(self.0 | 1 << column.index())
    }

    /// Adds a column; true if it was not there.
    pub const fn insert(&mut self, column: Column) -> bool {
        let added = !self.contains(column);
        self.0 |= 1 << column.index();
        added
    }

    /// Takes a column out.
    pub const fn remove(&mut self, column: Column) {
        self.0 &= !(1 << column.index());
    }

    /// Is the column there?
    #[must_use]
    pub const fn contains(self, column: Column) -> bool {
        self.0 & (1 << column.index()) != 0
    }

    /// Columns that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// How many columns.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Is it empty?
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The columns in output order.
    pub fn iter(self) -> impl Iterator<Item = Column> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let index = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            Column::ALL.get(index).copied()
        })
    }

    /// The set as a word, for storage.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// A set from a stored word; none if it names a column that does not exist.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits >> Column::COUNT == 0).then_some(Self(bits))
    }
}

impl FromIterator<Column> for ColumnSet {
    fn from_iter<I: IntoIterator<Item = Column>>(columns: I) -> Self {
        columns.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl std::fmt::Debug for ColumnSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter().map(Column::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_elements_lead_back_to_their_column() {
        for &column in Column::ALL {
            assert_eq!(Column::from_name(column.name()), Some(column));
            if column.element_id() != 0 {
                let found = if column.is_reverse() {
                    Column::from_reverse_element(column.element_id())
                } else {
                    Column::from_element(column.element_id())
                };
                assert_eq!(found, Some(column));
            }
        }
    }

    #[test]
    fn sets_iterate_in_output_order_and_survive_storage() {
        let set = ColumnSet::of(&[Column::FlowEndReason, Column::SourceIpv4Address]);
        let names: Vec<_> = set.iter().map(Column::name).collect();
        assert_eq!(names, ["sourceIPv4Address", "flowEndReason"]);
        assert_eq!(ColumnSet::from_bits(set.to_bits()), Some(set));
        assert_eq!(ColumnSet::from_bits(u64::MAX), None);
    }
}
