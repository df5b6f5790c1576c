//! The meter over deltas, as the kernel counts them.

use super::naive_tests::segments;
use super::tests::{ACK, FIN, RST, SYN, Segment, observe};
use super::*;
use crate::model::FlowEndReason::{self, EndOfFlow, ForcedEnd, IdleTimeout};
use crate::model::{Column, FlowRecord, Totals};
use flowd_common::packet::{Addresses, Transport};
use flowd_common::{Direction, FirstPacket, FlowCounters, FlowDelta, FlowKey, ObservationPoint};
use proptest::prelude::*;
use std::collections::BTreeMap;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// The same flow key, wherever a segment of the port is seen.
fn key(point: ObservationPoint, source_port: u16) -> FlowKey {
    let addresses = Addresses::V4 { source: [192, 0, 2, 1], destination: [192, 0, 2, 2] };
    let transport = Transport::Ports { source: source_port, destination: 80 };
    FlowKey::new(point, addresses, 6, transport)
}

/// A segment as a delta of one packet.
fn delta(point: ObservationPoint, segment: Segment) -> FlowDelta {
    let mut first = FirstPacket::default();
    if segment.flags & (SYN | ACK) == SYN {
        first.present |= FirstPacket::OPENS_CONNECTION;
    }
    let time_nanos = segment.millis * NANOS_PER_MILLI;
    let counters = FlowCounters {
        octets: segment.octets(),
        packets: 1,
        first_seen_nanos: time_nanos,
        last_seen_nanos: time_nanos,
        tcp_control_bits: u16::from(segment.flags),
        minimum_ttl: 64,
        maximum_ttl: 64,
        padding: [0; 4],
    };
    FlowDelta { key: key(point, segment.source_port), counters, first }
}

const NOWHERE: ObservationPoint = ObservationPoint::new(0, Direction::NONE);
const INGRESS: ObservationPoint = ObservationPoint::new(3, Direction::INGRESS);
const EGRESS: ObservationPoint = ObservationPoint::new(3, Direction::EGRESS);

/// Deltas of at most a second, in the order of their first packets: one for each flow, and one
/// more where a connection opens after the end of another.
fn aggregated(segments: &[Segment]) -> Vec<FlowDelta> {
    const END: u16 = (FIN | RST) as u16;
    let mut seconds: BTreeMap<i64, Vec<FlowDelta>> = BTreeMap::new();
    for &segment in segments {
        let one = delta(NOWHERE, segment);
        let deltas = seconds.entry(segment.millis.div_euclid(1_000)).or_default();
        let opens = one.first.has(FirstPacket::OPENS_CONNECTION);
        let same = deltas.iter_mut().rev().find(|delta| {
            let has_ended = delta.counters.tcp_control_bits & END != 0;
            delta.key == one.key && !(opens && has_ended)
        });
        match same {
            Some(delta) => delta.counters.merge(&one.counters),
            None => deltas.push(one),
        }
    }
    let mut deltas: Vec<FlowDelta> = seconds.into_values().flatten().collect();
    deltas.sort_by_key(|delta| delta.counters.first_seen_nanos);
    deltas
}

/// Packets and octets by source port.
fn by_port(records: &[FlowRecord]) -> BTreeMap<u16, Totals> {
    let mut sums: BTreeMap<u16, Totals> = BTreeMap::new();
    for record in records {
        let volume =
            Volume { packets: record.packet_delta_count, octets: record.octet_delta_count };
        let sum = sums.entry(record.source_transport_port).or_default();
        sum.add(Totals { records: 0, ..Totals::of_one(volume) });
    }
    sums
}

/// The laws of the books, at one observation point that has seen all.
fn assert_balanced(meter: &Meter, point: ObservationPoint) {
    let (books, cached) = (meter.books(), meter.cached());
    assert_eq!(books.packets_seen, books.accounted.packets);
    assert_eq!(books.accounted.packets, books.recorded.packets + cached.packets);
    assert_eq!(books.accounted.octets, books.recorded.octets + cached.octets);
    let cached_here = meter.cached_at().of(point);
    assert_eq!(cached_here.volume(), cached);
    assert_eq!(cached_here.records, meter.flow_count() as u64);
}

proptest! {
    #[test]
    fn deltas_of_one_packet_make_the_same_records_as_packets(
        segments in segments(),
        active in 500_u64..20_000,
        inactive in 100_u64..20_000,
        flow_count_max in 1_usize..16,
    ) {
        let config = MeterConfig {
            active_timeout_millis: active,
            inactive_timeout_millis: inactive,
            flow_count_max,
        };
        let (mut by_packet, mut by_delta) = (Meter::new(&config), Meter::new(&config));
        let (mut expected, mut records) = (Vec::new(), Vec::new());
        for &segment in &segments {
            observe(&mut by_packet, segment, &mut expected);
            by_delta.account(&delta(NOWHERE, segment), &mut records);
            prop_assert_eq!(&records, &expected);
            prop_assert_eq!(by_delta.books(), by_packet.books());
            prop_assert_eq!(by_delta.clock(), by_packet.clock());
            assert_balanced(&by_delta, NOWHERE);
        }
        by_packet.finish(&mut expected);
        by_delta.finish(&mut records);
        prop_assert_eq!(records, expected);
    }

    #[test]
    fn deltas_of_a_second_lose_and_double_nothing(
        segments in segments(),
        active in 500_u64..20_000,
        inactive in 100_u64..20_000,
        flow_count_max in 1_usize..16,
    ) {
        let config = MeterConfig {
            active_timeout_millis: active,
            inactive_timeout_millis: inactive,
            flow_count_max,
        };
        let (mut by_packet, mut by_delta) = (Meter::new(&config), Meter::new(&config));
        let (mut expected, mut records) = (Vec::new(), Vec::new());
        for &segment in &segments {
            observe(&mut by_packet, segment, &mut expected);
        }
        by_packet.finish(&mut expected);
        for delta in aggregated(&segments) {
            by_delta.account(&delta, &mut records);
            assert_balanced(&by_delta, NOWHERE);
            prop_assert!(by_delta.flow_count() <= flow_count_max);
        }
        by_delta.finish(&mut records);
        assert_balanced(&by_delta, NOWHERE);
        prop_assert_eq!(by_port(&records), by_port(&expected));
        prop_assert_eq!(by_delta.books().accounted, by_packet.books().accounted);
    }
}

/// A delta of two packets between these times.
fn spanning(first_millis: i64, last_millis: i64, flags: u8) -> FlowDelta {
    let segment = Segment { millis: first_millis, source_port: 1025, flags, payload: 0 };
    let mut delta = delta(INGRESS, segment);
    delta.counters.packets = 2;
    delta.counters.octets *= 2;
    delta.counters.last_seen_nanos = last_millis * NANOS_PER_MILLI;
    delta
}

/// Start, end, packets and reason of each record that these deltas of one flow give.
fn lives(deltas: &[FlowDelta]) -> Vec<(i64, i64, u64, FlowEndReason)> {
    let mut meter = Meter::new(&MeterConfig::default());
    let mut records = Vec::new();
    for delta in deltas {
        meter.account(delta, &mut records);
    }
    meter.finish(&mut records);
    let life = |record: &FlowRecord| {
        let reason = FlowEndReason::from_number(record.flow_end_reason);
        let (start, end) = (record.flow_start_milliseconds, record.flow_end_milliseconds);
        (start, end, record.packet_delta_count, reason)
    };
    records.iter().map(life).collect()
}

#[test]
fn a_flow_is_quiet_from_the_last_packet_of_its_delta_on() {
    let near = [spanning(0, 900, ACK), spanning(15_899, 15_899, ACK)];
    assert_eq!(lives(&near), [(0, 15_899, 4, ForcedEnd)]);
    let far = [spanning(0, 900, ACK), spanning(15_900, 15_900, ACK)];
    assert_eq!(lives(&far), [(0, 900, 2, IdleTimeout), (15_900, 15_900, 2, ForcedEnd)]);
    // One that comes late does not make the flow older than it is.
    let late = [spanning(0, 900, ACK), spanning(100, 200, ACK), spanning(15_899, 15_899, ACK)];
    assert_eq!(lives(&late), [(0, 15_899, 6, ForcedEnd)]);
}

#[test]
fn the_end_lingers_from_the_last_packet_of_its_delta_on() {
    let near = [spanning(0, 900, FIN | ACK), spanning(2_899, 2_899, ACK)];
    assert_eq!(lives(&near), [(0, 2_899, 4, ForcedEnd)]);
    let far = [spanning(0, 900, FIN | ACK), spanning(2_900, 2_900, ACK)];
    assert_eq!(lives(&far), [(0, 900, 2, EndOfFlow), (2_900, 2_900, 2, ForcedEnd)]);
    // As well when it joins a flow under way.
    let joined = [spanning(0, 100, ACK), spanning(200, 900, RST), spanning(2_900, 2_900, ACK)];
    assert_eq!(lives(&joined), [(0, 900, 4, EndOfFlow), (2_900, 2_900, 2, ForcedEnd)]);
}

#[test]
fn only_a_delta_that_opens_a_connection_begins_another_flow() {
    let ended = spanning(0, 100, SYN | FIN);
    let opening = spanning(200, 900, SYN);
    assert_eq!(lives(&[ended, opening]), [(0, 100, 2, EndOfFlow), (200, 900, 2, ForcedEnd)]);
    // Its acknowledgements come in the same delta.
    let mut with_answers = opening;
    with_answers.counters.tcp_control_bits |= u16::from(ACK);
    assert_eq!(lives(&[ended, with_answers]).len(), 2);
    // A SYN that is not its first packet opens nothing here.
    let mut continued = opening;
    continued.first.present = 0;
    assert_eq!(lives(&[ended, continued]), [(0, 900, 4, ForcedEnd)]);
}

#[test]
fn a_delta_from_before_the_clock_joins_its_flow() {
    let mut meter = Meter::new(&MeterConfig::default());
    let mut records = Vec::new();
    meter.account(&spanning(0, 900, ACK), &mut records);
    meter.advance(1_000 * NANOS_PER_MILLI, &mut records);
    meter.account(&spanning(950, 990, ACK), &mut records);
    assert_eq!(meter.clock().0, 1_000);
    assert_eq!(meter.cached_at().of(INGRESS), Totals { records: 1, packets: 4, octets: 160 });
    assert_eq!(records, []);
}

#[test]
fn records_say_by_which_interface_a_flow_came_or_went() {
    let mut meter = Meter::new(&MeterConfig::default());
    let mut records = Vec::new();
    let segment = Segment { millis: 0, source_port: 1, flags: ACK, payload: 0 };
    for point in [INGRESS, EGRESS, NOWHERE] {
        meter.account(&delta(point, segment), &mut records);
    }
    assert_eq!(meter.cached_at().iter().count(), 3);
    meter.finish(&mut records);
    let columns = [Column::IngressInterface, Column::EgressInterface, Column::FlowDirection];
    let of = |record: &FlowRecord| {
        let numbers =
            [record.ingress_interface, record.egress_interface, record.flow_direction.into()];
        (columns.map(|column| record.present.contains(column)), numbers)
    };
    assert_eq!(of(&records[0]), ([true; 3], [3, 0, 0]));
    assert_eq!(of(&records[1]), ([true; 3], [0, 3, 1]));
    assert_eq!(of(&records[2]), ([false; 3], [0; 3]));
}
