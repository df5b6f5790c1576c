//! The meter over packets built by hand.

use super::*;
use crate::model::FlowEndReason::{
    self, ActiveTimeout, EndOfFlow, ForcedEnd, IdleTimeout, LackOfResources,
};
use crate::model::{Column, FlowRecord};
use crate::probe::{CapturedPacket, LinkType};
use flowd_common::{Direction, DropReason, ObservationPoint};

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

/// A TCP segment from a source port to port 80, its payload `payload` octets, not captured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) millis: i64,
    pub(super) source_port: u16,
    pub(super) flags: u8,
    pub(super) payload: u16,
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

    pub(super) const fn octets(self) -> u64 {
        40 + self.payload as u64
    }
}

fn raw(time_nanos: i64, data: &[u8]) -> CapturedPacket<'_> {
    let point = ObservationPoint::new(0, Direction::NONE);
    CapturedPacket { time_nanos, link_type: LinkType::RawIp, point, wire_size: 0, data }
}

pub(super) fn observe(meter: &mut Meter, segment: Segment, out: &mut Vec<FlowRecord>) {
    meter.observe(&raw(segment.millis * 1_000_000, &segment.frame()), out);
}

/// Start, end, packets and reason of each record that these (millis, flags) of one flow give.
fn lives(config: &MeterConfig, packets: &[(i64, u8)]) -> Vec<(i64, i64, u64, FlowEndReason)> {
    let mut meter = Meter::new(config);
    let mut records = Vec::new();
    for &(millis, flags) in packets {
        let segment = Segment { millis, source_port: 1025, flags, payload: 0 };
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

#[test]
fn a_quiet_flow_ends_and_its_next_packet_is_another() {
    let config = MeterConfig::default();
    let lives = lives(&config, &[(0, ACK), (14_999, ACK), (29_999, ACK)]);
    assert_eq!(lives, [(0, 14_999, 2, IdleTimeout), (29_999, 29_999, 1, ForcedEnd)]);
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
        let lives =
            lives(&config, &[(0, SYN), (100, end), (1_000, ACK), (2_099, FIN | ACK), (2_100, ACK)]);
        assert_eq!(lives, [(0, 2_099, 4, EndOfFlow), (2_100, 2_100, 1, ForcedEnd)]);
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
    assert_eq!(lives(&config, &[(0, SYN), (10, FIN), (20, SYN | ACK)]), [(0, 20, 3, ForcedEnd)]);
    // A SYN sent again, before any end: the same flow.
    assert_eq!(lives(&config, &[(0, SYN), (1_000, SYN)]), [(0, 1_000, 2, ForcedEnd)]);
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
    let config = MeterConfig { flow_count_max: 3, ..MeterConfig::default() };
    let mut meter = Meter::new(&config);
    let mut records = Vec::new();
    // The first flow is touched again, and the third has seen its end.
    for (millis, source_port, flags) in
        [(0, 1, ACK), (1, 2, ACK), (2, 3, FIN), (3, 1, ACK), (4, 4, ACK), (5, 5, ACK)]
    {
        let segment = Segment { millis, source_port, flags, payload: 0 };
        observe(&mut meter, segment, &mut records);
        assert!(meter.flow_count() <= 3);
    }
    let ports: Vec<_> = records.iter().map(|record| record.source_transport_port).collect();
    assert_eq!(ports, [3, 2]);
    assert_eq!(meter.books().records(LackOfResources), 2);
}

#[test]
fn records_carry_what_was_measured_and_nothing_else() {
    let mut meter = Meter::new(&MeterConfig::default());
    let mut records = Vec::new();
    let segment = Segment { millis: 1, source_port: 1025, flags: SYN, payload: 3 };
    observe(&mut meter, segment, &mut records);
    let mut esp = segment.frame();
    esp[9] = 50;
    meter.observe(&raw(1, &esp), &mut records);
    let mut icmp = segment.frame();
    icmp[9] = 1;
    (icmp[20], icmp[21]) = (8, 0);
    let mut tagged = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0xe0, 9, 8, 0];
    tagged.extend(icmp);
    let ethernet = CapturedPacket { link_type: LinkType::Ethernet, ..raw(2, &tagged) };
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
    let frame = Segment { millis: 0, source_port: 1, flags: ACK, payload: 0 }.frame();
    for interface in [0, 1, 0] {
        let point = ObservationPoint::new(interface, Direction::NONE);
        let packet = CapturedPacket { point, ..raw(0, &frame) };
        meter.observe(&packet, &mut records);
    }
    meter.finish(&mut records);
    let packets: Vec<_> = records.iter().map(|record| record.packet_delta_count).collect();
    assert_eq!(packets, [2, 1]);
}

#[test]
fn later_fragments_join_their_first_and_are_counted() {
    let mut first = Segment { millis: 0, source_port: 7, flags: ACK, payload: 1_000 }.frame();
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
        let packet = CapturedPacket { link_type, ..raw(0, data) };
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
