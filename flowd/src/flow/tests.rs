//! The meter over packets built by hand, against a naive meter, and over any octets whatever.

use super::*;
use crate::model::{Column, FlowEndReason, FlowRecord};
use crate::probe::{CapturedPacket, LinkType};
use flowd_common::DropReason;
use proptest::prelude::*;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A TCP segment from a source port to port 80, its payload `payload` octets, not captured.
#[derive(Clone, Copy, Debug)]
struct Segment {
    millis: i64,
    source_port: u16,
    flags: u8,
    payload: u16,
}

impl Segment {
    fn frame(self) -> Vec<u8> {
        let [t0, t1] = (40 + self.payload).to_be_bytes();
        let [p0, p1] = self.source_port.to_be_bytes();
        let mut frame = vec![0x45, 0, t0, t1, 0, 0, 0, 0, 64, 6, 0, 0];
        frame.extend([192, 0, 2, 1, 192, 0, 2, 2, p0, p1, 0, 80]);
        frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, self.flags, 0, 0, 0, 0, 0, 0]);
        frame
    }

    const fn octets(self) -> u64 {
        40 + self.payload as u64
    }
}

fn raw(time_nanos: i64, data: &[u8]) -> CapturedPacket<'_> {
    CapturedPacket {
        time_nanos,
        link_type: LinkType::RawIp,
        interface: 0,
        wire_size: 0,
        data,
    }
}

fn observe(meter: &mut Meter, segment: Segment, out: &mut Vec<FlowRecord>) {
    meter.observe(&raw(segment.millis * 1_000_000, &segment.frame()), out);
}

/// Start, end, packets and reason of each record that these (millis, flags) of one flow give.
fn lives(config: &MeterConfig, packets: &[(i64, u8)]) -> Vec<(i64, i64, u64, FlowEndReason)> {
    let mut meter = Meter::new(config);
    let mut records = Vec::new();
    for &(millis, flags) in packets {
        let segment = Segment {
            millis,
            source_port: 1025,
            flags,
            payload: 0,
        };
        observe(&mut meter, segment, &mut records);
    }
    meter.finish(&mut records);
    records
        .iter()
        .map(|record| {
            (
                record.flow_start_milliseconds,
                record.flow_end_milliseconds,
                record.packet_delta_count,
                FlowEndReason::from_number(record.flow_end_reason),
            )
        })
        .collect()
}

use FlowEndReason::{ActiveTimeout, EndOfFlow, ForcedEnd, IdleTimeout, LackOfResources};

#[test]
fn a_quiet_flow_ends_and_its_next_packet_is_another() {
    let config = MeterConfig::default();
    let lives = lives(&config, &[(0, ACK), (14_999, ACK), (29_999, ACK)]);
    assert_eq!(
        lives,
        [(0, 14_999, 2, IdleTimeout), (29_999, 29_999, 1, ForcedEnd)]
    );
}

#[test]
fn a_long_flow_is_cut_at_the_active_timeout() {
    let config = MeterConfig::default();
    let packets: Vec<_> = (0..150).map(|second| (second * 1_000, ACK)).collect();
    assert_eq!(
        lives(&config, &packets),
        [
            (0, 59_000, 60, ActiveTimeout),
            (60_000, 119_000, 60, ActiveTimeout),
            (120_000, 149_000, 30, ForcedEnd)
        ]
    );
}

#[test]
fn late_acknowledgements_join_a_tcp_flow_whose_end_was_seen() {
    let config = MeterConfig::default();
    for end in [FIN | ACK, RST] {
        let lives = lives(
            &config,
            &[
                (0, SYN),
                (100, end),
                (1_000, ACK),
                (2_099, FIN | ACK),
                (2_100, ACK),
            ],
        );
        assert_eq!(
            lives,
            [(0, 2_099, 4, EndOfFlow), (2_100, 2_100, 1, ForcedEnd)]
        );
    }
}

#[test]
fn the_end_that_was_seen_outweighs_both_timeouts() {
    let config = MeterConfig {
        active_timeout_millis: 1_000,
        inactive_timeout_millis: 500,
        ..MeterConfig::default()
    };
    assert_eq!(
        lives(&config, &[(0, SYN), (400, FIN), (1_700, ACK), (2_400, ACK)]),
        [(0, 1_700, 3, EndOfFlow), (2_400, 2_400, 1, ForcedEnd)]
    );
}

#[test]
fn a_syn_onto_an_ended_flow_opens_another_but_its_answer_does_not() {
    let config = MeterConfig::default();
    assert_eq!(
        lives(&config, &[(0, SYN), (10, RST), (20, SYN), (30, ACK)]),
        [(0, 10, 2, EndOfFlow), (20, 30, 2, ForcedEnd)]
    );
    assert_eq!(
        lives(&config, &[(0, SYN), (10, FIN), (20, SYN | ACK)]),
        [(0, 20, 3, ForcedEnd)]
    );
    // A SYN sent again, before any end: the same flow.
    assert_eq!(
        lives(&config, &[(0, SYN), (1_000, SYN)]),
        [(0, 1_000, 2, ForcedEnd)]
    );
}

#[test]
fn packets_out_of_order_do_not_turn_the_clock_back() {
    let config = MeterConfig::default();
    assert_eq!(
        lives(&config, &[(10_000, ACK), (2_000, ACK), (24_999, ACK)]),
        [(2_000, 24_999, 3, ForcedEnd)]
    );
}

#[test]
fn a_full_cache_ends_the_flow_that_is_nearest_to_its_end() {
    let config = MeterConfig {
        flow_count_max: 3,
        ..MeterConfig::default()
    };
    let mut meter = Meter::new(&config);
    let mut records = Vec::new();
    // The first flow is touched again, and the third has seen its end.
    for (millis, source_port, flags) in [
        (0, 1, ACK),
        (1, 2, ACK),
        (2, 3, FIN),
        (3, 1, ACK),
        (4, 4, ACK),
        (5, 5, ACK),
    ] {
        let segment = Segment {
            millis,
            source_port,
            flags,
            payload: 0,
        };
        observe(&mut meter, segment, &mut records);
        assert!(meter.flow_count() <= 3);
    }
    let ports: Vec<_> = records
        .iter()
        .map(|record| record.source_transport_port)
        .collect();
    assert_eq!(ports, [3, 2]);
    assert_eq!(meter.books().records(LackOfResources), 2);
}

#[test]
fn records_carry_what_was_measured_and_nothing_else() {
    let mut meter = Meter::new(&MeterConfig::default());
    let mut records = Vec::new();
    let segment = Segment {
        millis: 1,
        source_port: 1025,
        flags: SYN,
        payload: 3,
    };
    observe(&mut meter, segment, &mut records);
    let mut esp = segment.frame();
    esp[9] = 50;
    meter.observe(&raw(1, &esp), &mut records);
    let mut icmp = segment.frame();
    icmp[9] = 1;
    (icmp[20], icmp[21]) = (8, 0);
    let mut tagged = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0xe0, 9, 8, 0];
    tagged.extend(icmp);
    let ethernet = CapturedPacket {
        link_type: LinkType::Ethernet,
        ..raw(2, &tagged)
    };
    meter.observe(&ethernet, &mut records);
    meter.finish(&mut records);
    let names =
        |record: &FlowRecord| -> Vec<_> { record.present.iter().map(Column::name).collect() };
    let mut esp_names = vec![
        "sourceIPv4Address",
        "destinationIPv4Address",
        "protocolIdentifier",
        "octetDeltaCount",
        "packetDeltaCount",
        "flowStartMilliseconds",
        "flowEndMilliseconds",
        "ipClassOfService",
        "flowEndReason",
        "minimumTTL",
        "maximumTTL",
    ];
    assert_eq!(names(&records[1]), esp_names);
    let mut tcp_names = esp_names.clone();
    tcp_names.splice(2..2, ["sourceTransportPort", "destinationTransportPort"]);
    tcp_names.insert(9, "tcpControlBits");
    assert_eq!(names(&records[0]), tcp_names);
    esp_names.insert(3, "icmpTypeCodeIPv4");
    esp_names.insert(10, "vlanId");
    esp_names.extend(["sourceMacAddress", "destinationMacAddress"]);
    assert_eq!(names(&records[2]), esp_names);
    assert_eq!(records[2].icmp_type_code_ipv4, 0x0800);
    assert_eq!(records[2].vlan_id, 9);
    assert_eq!(records[0].octet_delta_count, 43);
}

#[test]
fn interfaces_are_observation_points_of_their_own() {
    let mut meter = Meter::new(&MeterConfig::default());
    let mut records = Vec::new();
    let frame = Segment {
        millis: 0,
        source_port: 1,
        flags: ACK,
        payload: 0,
    }
    .frame();
    for interface in [0, 1, 0] {
        let packet = CapturedPacket {
            interface,
            ..raw(0, &frame)
        };
        meter.observe(&packet, &mut records);
    }
    meter.finish(&mut records);
    let packets: Vec<_> = records
        .iter()
        .map(|record| record.packet_delta_count)
        .collect();
    assert_eq!(packets, [2, 1]);
}

#[test]
fn later_fragments_join_their_first_and_are_counted() {
    let mut first = Segment {
        millis: 0,
        source_port: 7,
        flags: ACK,
        payload: 1_000,
    }
    .frame();
    first[6] = 0x20;
    let mut later = first.clone();
    (later[6], later[7]) = (0, 125);
    let mut meter = Meter::new(&MeterConfig::default());
    let mut records = Vec::new();
    for frame in [&later, &first, &later] {
        meter.observe(&raw(0, frame), &mut records);
    }
    meter.finish(&mut records);
    assert_eq!(records[0].packet_delta_count, 1);
    assert!(!records[0].present.contains(Column::SourceTransportPort));
    assert_eq!(records[1].packet_delta_count, 2);
    assert_eq!(records[1].source_transport_port, 7);
    assert_eq!(meter.books().fragments_unstitched, 1);
    assert_eq!(meter.books().fragments_stitched, 1);
}

#[test]
fn what_is_refused_is_counted_by_reason() {
    let mut meter = Meter::new(&MeterConfig::default());
    let mut records = Vec::new();
    let arp = [&[0; 12][..], &[8, 6], &[0; 28]].concat();
    for (link_type, data) in [
        (LinkType::Ethernet, &arp[..]),
        (LinkType::Ethernet, &arp[..13]),
        (LinkType::Unknown(195), &arp[..]),
        (LinkType::RawIp, &[0x45; 8]),
    ] {
        let packet = CapturedPacket {
            link_type,
            ..raw(0, data)
        };
        meter.observe(&packet, &mut records);
    }
    meter.finish(&mut records);
    assert_eq!(records, []);
    let refusals: Vec<_> = meter.books().refusals().collect();
    assert_eq!(
        refusals,
        [
            (DropReason::Arp, 1),
            (DropReason::UnsupportedLinkType, 1),
            (DropReason::LinkHeaderCut, 1),
            (DropReason::Ipv4HeaderCut, 1)
        ]
    );
    assert_eq!(meter.books().refused_total(), meter.books().packets_seen);
}

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
        let place = self
            .flows
            .iter()
            .position(|flow| flow.source_port == segment.source_port);
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
        let place = self
            .flows
            .iter()
            .position(|flow| flow.source_port == segment.source_port);
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
        let NaiveRecord {
            source_port: _,
            packets,
            octets,
            first,
            last,
            flags,
            reason: _,
        } = &mut flow.result;
        *packets += 1;
        *octets += segment.octets();
        *first = segment.millis.min(*first);
        *last = segment.millis.max(*last);
        *flags |= u16::from(segment.flags);
    }
}

fn segments() -> impl Strategy<Value = Vec<Segment>> {
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
            Segment {
                millis,
                source_port,
                flags,
                payload,
            }
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
                interface: 0,
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
