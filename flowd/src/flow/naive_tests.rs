//! The meter against a naive one, and over any octets whatever.

use super::tests::{ACK, FIN, RST, SYN, Segment, observe};
use super::*;
use crate::model::FlowEndReason::{
    self, ActiveTimeout, EndOfFlow, ForcedEnd, IdleTimeout, LackOfResources,
};
use crate::probe::{CapturedPacket, LinkType};
use flowd_common::{Direction, ObservationPoint};
use proptest::prelude::*;

/// A flow as the naive meter keeps it.
#[derive(Clone, Debug)]
struct NaiveFlow {
    source_port: u16,
    began: i64,
    touched: i64,
    over: Option<i64>,
    sequence: u64,
    result: NaiveRecord,
}

#[derive(Clone, Debug, PartialEq)]
struct NaiveRecord {
    source_port: u16,
    packets: u64,
    octets: u64,
    first: i64,
    last: i64,
    flags: u16,
    reason: FlowEndReason,
}

/// The rules as a list that is searched from end to end for every packet.
struct NaiveMeter {
    config: MeterConfig,
    clock: i64,
    sequence: u64,
    flows: Vec<NaiveFlow>,
    records: Vec<NaiveRecord>,
}

impl NaiveMeter {
    fn end_of(&self, flow: &NaiveFlow) -> (i64, FlowEndReason) {
        let idle = flow.touched + i64::try_from(self.config.inactive_timeout_millis).unwrap();
        let active = flow.began + i64::try_from(self.config.active_timeout_millis).unwrap();
        match flow.over {
            Some(over) => (over, EndOfFlow),
            None if idle <= active => (idle, IdleTimeout),
            None => (active, ActiveTimeout),
        }
    }

    fn emit(&mut self, place: usize, reason: FlowEndReason) {
        let mut record = self.flows.remove(place).result;
        record.reason = reason;
        self.records.push(record);
    }

    fn nearest(&self) -> Option<(i64, usize, FlowEndReason)> {
        let ends = self.flows.iter().enumerate().map(|(place, flow)| {
            let (end, reason) = self.end_of(flow);
            (end, flow.sequence, place, reason)
        });
        let nearest = ends.min_by_key(|&(end, sequence, _, _)| (end, sequence))?;
        Some((nearest.0, nearest.2, nearest.3))
    }

    fn observe(&mut self, segment: Segment) {
        self.clock = self.clock.max(segment.millis);
        while let Some((end, place, reason)) = self.nearest()
            && end <= self.clock
        {
            self.emit(place, reason);
        }
        let place = self.flows.iter().position(|flow| flow.source_port == segment.source_port);
        if let Some(place) = place {
            let is_open = segment.flags & (SYN | ACK) == SYN;
            if is_open && self.flows[place].over.is_some() {
                self.emit(place, EndOfFlow);
            }
        } else if self.flows.len() == self.config.flow_count_max {
            let (_, nearest, _) = self.nearest().unwrap();
            self.emit(nearest, LackOfResources);
        }
        let is_end = segment.flags & (FIN | RST) != 0;
        let place = self.flows.iter().position(|flow| flow.source_port == segment.source_port);
        let place = place.unwrap_or_else(|| {
            self.flows.push(NaiveFlow {
                source_port: segment.source_port,
                began: self.clock,
                touched: self.clock,
                over: None,
                sequence: self.sequence,
                result: NaiveRecord {
                    source_port: segment.source_port,
                    packets: 0,
                    octets: 0,
                    first: i64::MAX,
                    last: i64::MIN,
                    flags: 0,
                    reason: ForcedEnd,
                },
            });
            self.sequence += 1;
            self.flows.len() - 1
        });
        let flow = &mut self.flows[place];
        flow.touched = self.clock;
        if is_end && flow.over.is_none() {
            flow.over = Some(self.clock + 2_000);
        }
        let NaiveRecord { source_port: _, packets, octets, first, last, flags, reason: _ } =
            &mut flow.result;
        *packets += 1;
        *octets += segment.octets();
        *first = segment.millis.min(*first);
        *last = segment.millis.max(*last);
        *flags |= u16::from(segment.flags);
    }
}

pub(super) fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let flags = prop::sample::select(vec![ACK, ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST]);
    let wait = prop_oneof![
        10 => 0_i64..300,
        3 => 300_i64..3_000,
        1 => 3_000_i64..20_000,
        1 => -5_000_i64..0,
    ];
    let steps = (wait, 0_u16..12, flags, 0_u16..1_400);
    prop::collection::vec(steps, 1..150).prop_map(|steps| {
        let mut millis = 1_700_000_000_000;
        let one = |(wait, source_port, flags, payload)| {
            millis += wait;
            Segment { millis, source_port, flags, payload }
        };
        steps.into_iter().map(one).collect()
    })
}

proptest! {
    #[test]
    fn the_meter_does_what_a_naive_one_does(
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
        let mut naive = NaiveMeter {
            config: config.clone(),
            clock: i64::MIN,
            sequence: 0,
            flows: Vec::new(),
            records: Vec::new(),
        };
        let mut meter = Meter::new(&config);
        let mut records = Vec::new();
        for (index, &segment) in segments.iter().enumerate() {
            observe(&mut meter, segment, &mut records);
            naive.observe(segment);
            prop_assert_eq!(meter.flow_count(), naive.flows.len());
            prop_assert_eq!(meter.clock().0, naive.clock);
            // The law holds at every step.
            let (books, cached) = (meter.books(), meter.cached());
            prop_assert_eq!(books.packets_seen, index as u64 + 1);
            prop_assert_eq!(books.packets_seen, books.accounted.packets + books.refused_total());
            prop_assert_eq!(books.accounted.packets, books.recorded.packets + cached.packets);
            prop_assert_eq!(books.accounted.octets, books.recorded.octets + cached.octets);
        }
        meter.finish(&mut records);
        naive.flows.sort_by_key(|flow| flow.sequence);
        while !naive.flows.is_empty() {
            naive.emit(0, ForcedEnd);
        }
        let records: Vec<_> = records.iter().map(|record| NaiveRecord {
            source_port: record.source_transport_port,
            packets: record.packet_delta_count,
            octets: record.octet_delta_count,
            first: record.flow_start_milliseconds,
            last: record.flow_end_milliseconds,
            flags: record.tcp_control_bits,
            reason: FlowEndReason::from_number(record.flow_end_reason),
        }).collect();
        prop_assert_eq!(records, naive.records);
    }

    #[test]
    fn any_octets_of_any_link_type_are_accounted_or_refused(
        frames in prop::collection::vec(
            (any::<i64>(), 0_u32..300, any::<u32>(), prop::collection::vec(any::<u8>(), 0..80)),
            1..50,
        ),
        start in prop::sample::select(vec![&[][..], &[0x45], &[0x60], &[0; 12], &[0x0f, 0, 8, 0, 0x45]]),
    ) {
        let mut meter = Meter::new(&MeterConfig { flow_count_max: 8, ..MeterConfig::default() });
        let mut records = Vec::new();
        for (time_nanos, link_type, wire_size, octets) in &frames {
            let data = [start, octets].concat();
            let packet = CapturedPacket {
                time_nanos: *time_nanos,
                link_type: LinkType::from_number(*link_type),
                point: ObservationPoint::new(0, Direction::NONE),
                wire_size: *wire_size,
                data: &data,
            };
            meter.observe(&packet, &mut records);
        }
        meter.finish(&mut records);
        let books = meter.books();
        prop_assert_eq!(books.packets_seen, frames.len() as u64);
        prop_assert_eq!(books.packets_seen, books.accounted.packets + books.refused_total());
        prop_assert_eq!(books.accounted, books.recorded);
        let packets: u64 = records.iter().map(|record| record.packet_delta_count).sum();
        let octets: u64 = records.iter().map(|record| record.octet_delta_count).sum();
        prop_assert_eq!(Volume { packets, octets }, books.recorded);
    }
}
