//! record: what the cache holds of a flow -> its flow record.

use crate::model::{
    Column, ColumnSet, FlowEndReason, FlowRecord, TcpControlBits, time::UnixMillis,
};
use flowd_common::{FirstPacket, FlowCounters, FlowKey, TransportKind};

/// IANA number of TCP.
pub(super) const PROTOCOL_TCP: u8 = 6;

/// What every record of a flow has, whatever the flow.
const ALWAYS: [Column; 9] = [
    Column::ProtocolIdentifier,
    Column::OctetDeltaCount,
    Column::PacketDeltaCount,
    Column::FlowStartMilliseconds,
    Column::FlowEndMilliseconds,
    Column::IpClassOfService,
    Column::FlowEndReason,
    Column::MinimumTtl,
    Column::MaximumTtl,
];

/// Makes the record of a flow that ended. A column is there if it was measured: no ports where
/// there were none, no VLAN where no tag was, and no interface where no direction is known, as in
/// a capture file.
pub(super) fn flow_record(
    key: &FlowKey,
    counters: &FlowCounters,
    first: &FirstPacket,
    reason: FlowEndReason,
) -> FlowRecord {
    let FlowCounters {
        octets,
        packets,
        first_seen_nanos,
        last_seen_nanos,
        tcp_control_bits,
        minimum_ttl,
        maximum_ttl,
        padding: _,
    } = *counters;
    let mut record = FlowRecord {
        present: ColumnSet::of(&ALWAYS),
        octet_delta_count: octets,
        packet_delta_count: packets,
        flow_start_milliseconds: UnixMillis::from_nanos(first_seen_nanos).0,
        flow_end_milliseconds: UnixMillis::from_nanos(last_seen_nanos).0,
        flow_end_reason: reason.number(),
        minimum_ttl,
        maximum_ttl,
        ..FlowRecord::default()
    };
    set_key(&mut record, key);
    record.set_point(key.point());
    if key.protocol() == PROTOCOL_TCP {
        record.tcp_control_bits = tcp_control_bits & TcpControlBits::MASK;
        record.present.insert(Column::TcpControlBits);
    }
    set_first(&mut record, first);
    record
}

fn set_key(record: &mut FlowRecord, key: &FlowKey) {
    record.protocol_identifier = key.protocol();
    let (ports, icmp) = match *key {
        FlowKey::V4(key) => {
            record.set_source_address(key.source_address.into());
            record.set_destination_address(key.destination_address.into());
            let ports = (key.transport_kind, key.source_port, key.destination_port);
            (ports, Column::IcmpTypeCodeIpv4)
        }
        FlowKey::V6(key) => {
            record.set_source_address(key.source_address.into());
            record.set_destination_address(key.destination_address.into());
            record.present.insert(Column::FlowLabelIpv6);
            let ports = (key.transport_kind, key.source_port, key.destination_port);
            (ports, Column::IcmpTypeCodeIpv6)
        }
    };
    match ports {
        (TransportKind::PORTS, source, destination) => {
            record.source_transport_port = source;
            record.destination_transport_port = destination;
            record.present.insert(Column::SourceTransportPort);
            record.present.insert(Column::DestinationTransportPort);
        }
        (TransportKind::ICMP, _, type_code) => {
            match icmp {
                Column::IcmpTypeCodeIpv4 => record.icmp_type_code_ipv4 = type_code,
                _ => record.icmp_type_code_ipv6 = type_code,
            }
            record.present.insert(icmp);
        }
        _ => {}
    }
}

fn set_first(record: &mut FlowRecord, first: &FirstPacket) {
    let FirstPacket {
        flow_label,
        source_mac,
        destination_mac,
        vlan_id,
        class_of_service,
        present: _,
    } = *first;
    record.flow_label_ipv6 = flow_label;
    record.ip_class_of_service = class_of_service;
    if first.has(FirstPacket::HAS_VLAN) {
        record.vlan_id = vlan_id;
        record.present.insert(Column::VlanId);
    }
    if first.has(FirstPacket::HAS_SOURCE_MAC) {
        record.source_mac_address = source_mac;
        record.present.insert(Column::SourceMacAddress);
    }
    if first.has(FirstPacket::HAS_DESTINATION_MAC) {
        record.destination_mac_address = destination_mac;
        record.present.insert(Column::DestinationMacAddress);
    }
}
