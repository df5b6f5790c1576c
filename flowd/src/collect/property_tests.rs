//! Decoding by column held against decoding by row, and the books against whatever comes.

use super::tests::{Collector, OWN, RECEIVED, extra, header, message, template};
use crate::model::time::UnixMillis;
use crate::model::{Column, ColumnSet, FlowRecord, VARIABLE_LENGTH};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::HashMap;

/// Fields whose meaning depends on no other field: what decodes them row by row is plain.
fn independent_fields() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let number = prop::sample::select(vec![1, 2, 4, 5, 6, 7, 10, 11, 14, 16, 31, 48, 58, 89]);
    let field = prop_oneof![
        4 => (number, 0u16..=8),
        1 => prop::sample::select(vec![(8, 4), (12, 4), (56, 6), (80, 6), (27, 16), (8, 3)]),
        1 => (60u16..130, 0u16..20),
        1 => Just((82, VARIABLE_LENGTH)),
    ];
    vec(field, 1..12).prop_filter("an address of one family", |fields| {
        let has = |id| fields.iter().any(|&(field, _)| field == id);
        let sends_octets = fields.iter().any(|&(_, length)| length > 0);
        sends_octets && !(has(8) && has(27)) && !(has(15) && has(62))
    })
}

/// A record read by the rules one field after another.
fn naive(fields: &[(u16, u16)], mut octets: &[u8]) -> Option<(FlowRecord, usize)> {
    let before = octets.len();
    let mut values = Vec::new();
    for &(id, length) in fields {
        let size = match length {
            VARIABLE_LENGTH => {
                let (&size, rest) = octets.split_first()?;
                octets = rest;
                if size == 255 {
                    let (size, rest) = octets.split_first_chunk::<2>()?;
                    octets = rest;
                    usize::from(u16::from_be_bytes(*size))
                } else {
                    usize::from(size)
                }
            }
            length => usize::from(length),
        };
        let (value, rest) = octets.split_at_checked(size)?;
        octets = rest;
        if length > 0 && id != 210 {
            values.push((id, length, value));
        }
    }
    let column_of = |id: u16, length: u16| {
        let column = Column::from_element(id)?;
        let suits = match column.kind().width() {
            width @ (6 | 16) => usize::from(length) == width,
            _ if matches!(id, 8 | 12 | 15) => length == 4,
            _ => length <= 8,
        };
        suits.then_some(column)
    };
    let mut seen = ColumnSet::EMPTY;
    let firsts: Vec<Option<Column>> = values
        .iter()
        .map(|&(id, length, _)| column_of(id, length).filter(|&column| seen.insert(column)))
        .collect();
    let is_wide = |column: Column, value: &[u8]| value.len() > column.kind().width();
    let overflows = firsts.iter().zip(&values).any(|(column, (_, _, value))| {
        column.is_some_and(|column| {
            let excess = value.len().saturating_sub(column.kind().width());
            value[..excess].iter().any(|&octet| octet != 0)
        })
    });
    let mut record = FlowRecord::default();
    for (column, (id, length, value)) in firsts.into_iter().zip(values) {
        match column.filter(|&column| !(overflows && is_wide(column, value))) {
            Some(column) => set(&mut record, column, value),
            None => record.extras.push(extra(0, id, length, value)),
        }
    }
    icmp_from_port(&mut record, &firsts_of(fields));
    Some((record, before - octets.len()))
}

/// The length in which each element is sent first.
fn firsts_of(fields: &[(u16, u16)]) -> HashMap<u16, u16> {
    let sent = fields.iter().rev().filter(|(_, length)| (1..=8).contains(length));
    sent.copied().collect()
}

/// Type and code in the destination port, where nothing else tells them.
fn icmp_from_port(record: &mut FlowRecord, lengths: &HashMap<u16, u16>) {
    let has = |id, length| lengths.get(&id) == Some(&length);
    let is_habit = has(4, 1) && has(7, 2) && has(11, 2);
    if !is_habit || record.source_transport_port != 0 || record.destination_transport_port == 0 {
        return;
    }
    match record.protocol_identifier {
        1 => {
            record.icmp_type_code_ipv4 = record.destination_transport_port;
            record.present.insert(Column::IcmpTypeCodeIpv4);
        }
        58 => {
            record.icmp_type_code_ipv6 = record.destination_transport_port;
            record.present.insert(Column::IcmpTypeCodeIpv6);
        }
        _ => {}
    }
}

/// Puts a value into a record's column.
fn set(record: &mut FlowRecord, column: Column, value: &[u8]) {
    record.present.insert(column);
    let number = value.iter().fold(0u64, |n, &octet| n << 8 | u64::from(octet));
    match column {
        Column::OctetTotalCount => record.octet_total_count = number,
        Column::PacketTotalCount => record.packet_total_count = number,
        Column::OctetDeltaCount => record.octet_delta_count = number,
        Column::PacketDeltaCount => record.packet_delta_count = number,
        Column::ProtocolIdentifier => record.protocol_identifier = number.try_into().unwrap(),
        Column::IpClassOfService => record.ip_class_of_service = number.try_into().unwrap(),
        Column::TcpControlBits => {
            record.tcp_control_bits = u16::try_from(number).unwrap() & 0xfff;
        }
        Column::SourceTransportPort => record.source_transport_port = number.try_into().unwrap(),
        Column::DestinationTransportPort => {
            record.destination_transport_port = number.try_into().unwrap();
        }
        Column::IngressInterface => record.ingress_interface = number.try_into().unwrap(),
        Column::EgressInterface => record.egress_interface = number.try_into().unwrap(),
        Column::BgpSourceAsNumber => record.bgp_source_as_number = number.try_into().unwrap(),
        Column::FlowLabelIpv6 => record.flow_label_ipv6 = number.try_into().unwrap(),
        Column::SamplerId => record.sampler_id = number.try_into().unwrap(),
        Column::VlanId => record.vlan_id = number.try_into().unwrap(),
        Column::FlowDirection => record.flow_direction = number.try_into().unwrap(),
        Column::ForwardingStatus => record.forwarding_status = number.try_into().unwrap(),
        Column::SourceIpv4Address => record.source_ipv4_address = number.try_into().unwrap(),
        Column::DestinationIpv4Address => {
            record.destination_ipv4_address = number.try_into().unwrap();
        }
        Column::SourceMacAddress => record.source_mac_address = value.try_into().unwrap(),
        Column::DestinationMacAddress => record.destination_mac_address = value.try_into().unwrap(),
        Column::SourceIpv6Address => record.source_ipv6_address = value.try_into().unwrap(),
        Column::IpNextHopIpv6Address => record.ip_next_hop_ipv6_address = value.try_into().unwrap(),
        other => panic!("no test sends {}", other.name()),
    }
}

proptest! {
    #[test]
    fn decoding_by_column_is_decoding_by_row(
        fields in independent_fields(),
        mut body in vec(prop_oneof![2 => Just(0u8), 1 => any::<u8>()], 1..600),
    ) {
        // Padding could be taken for records of one octet.
        body.truncate(body.len() & !3);
        prop_assume!(!body.is_empty());
        let is_variable = fields.iter().any(|&(_, length)| length == VARIABLE_LENGTH);
        let mut expected = Vec::new();
        let mut rest = &body[..];
        while !(is_variable && rest.len() < 4 && rest.iter().all(|&octet| octet == 0)) {
            let Some((record, size)) = naive(&fields, rest) else { break };
            expected.push(record);
            rest = &rest[size..];
            if rest.is_empty() {
                break;
            }
        }
        let mut collector = Collector::new();
        collector.receive(&message(1, &[template(256, &fields)], &[(256, &body)]));
        for record in &mut collector.records {
            for &column in OWN {
                record.present.remove(column);
            }
            record.collection_time_milliseconds = 0;
            record.export_sequence_number = 0;
            record.export_record_index = 0;
        }
        prop_assert_eq!(&collector.records, &expected);
        collector.statistics();
    }

    #[test]
    fn the_books_balance_whatever_comes(
        datagrams in vec((0u16..4, prop_oneof![
            vec(any::<u8>(), 0..300),
            vec(any::<u8>(), 0..300).prop_map(|body| [&header(1).encode()[..], &body].concat()),
            vec(prop_oneof![Just(0u8), Just(1), Just(4), Just(8), any::<u8>()], 0..400)
                .prop_map(|body| [&header(1).encode()[..], &body].concat()),
            (independent_fields(), vec(any::<u8>(), 4..200), 256u16..258).prop_map(
                |(fields, body, id)| message(1, &[template(id, &fields)], &[(id, &body)])
            ),
            (vec(any::<u8>(), 4..200), 256u16..260)
                .prop_map(|(body, id)| message(1, &[], &[(id, &body)])),
        ]), 0..40),
    ) {
        let mut collector = Collector::new();
        for (port, datagram) in &datagrams {
            collector.receive_from(&format!("192.0.2.1:{port}"), datagram, RECEIVED);
        }
        let count = u64::try_from(datagrams.len()).unwrap();
        prop_assert_eq!(collector.statistics().datagrams, count);
        collector.idle(UnixMillis(RECEIVED.0 + 86_400_000));
        let statistics = collector.statistics();
        let dropped: u64 = statistics.set_drops.values().sum();
        prop_assert_eq!(statistics.sets, statistics.sets_decoded + dropped);
        let exporters = statistics.exporters.iter().chain(&statistics.other_exporters);
        let by_exporter: u64 = exporters.map(|e| e.records).sum();
        prop_assert_eq!(statistics.records, by_exporter);
    }
}
