use super::*;
use crate::probe::LinkType;
use flowd_common::{Direction, ObservationPoint};

const POINT: ObservationPoint = ObservationPoint::new(0, Direction::NONE);

/// What came out, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Datagram(u16, Vec<u8>, bool),
    Message(u16, Vec<u8>),
    Closed(u16),
}

/// A capture that is read packet by packet.
#[derive(Default)]
struct Reading {
    datagrams: Datagrams,
    got: Vec<Got>,
    now_nanos: i64,
}

impl Reading {
    fn packet(&mut self, data: &[u8]) {
        self.packet_cut(data, data.len());
    }

    /// Only the first octets of a packet.
    fn packet_cut(&mut self, data: &[u8], held: usize) {
        let packet = CapturedPacket {
            time_nanos: self.now_nanos,
            link_type: LinkType::RawIp,
            point: POINT,
            wire_size: u32::try_from(data.len()).unwrap(),
            data: &data[..held],
        };
        let Self { datagrams, got, .. } = self;
        datagrams.packet(&packet, &mut |carried| got.push(owned(carried)));
    }

    fn tcp(&mut self, segment: &Tcp<'_>) {
        self.packet(&segment.packet());
    }

    /// The capture ends.
    fn end(&mut self) -> (Vec<Got>, BTreeMap<&'static str, u64>) {
        let Self { datagrams, got, .. } = self;
        datagrams.finish(&mut |carried| got.push(owned(carried)));
        (std::mem::take(got), datagrams.drops())
    }
}

fn owned(carried: Carried<'_>) -> Got {
    match carried {
        Carried::Datagram { from, payload, is_whole } => {
            Got::Datagram(from.port(), payload.to_vec(), is_whole)
        }
        Carried::Message { from, octets } => Got::Message(from.port(), octets.to_vec()),
        Carried::Closed { from } => Got::Closed(from.port()),
    }
}

fn be(value: usize) -> [u8; 2] {
    u16::try_from(value).unwrap().to_be_bytes()
}

/// An IPv4 packet, perhaps a part: its number, flag and offset.
fn ipv4(protocol: u8, part: Option<(u16, bool, usize)>, body: &[u8]) -> Vec<u8> {
    let (id, more, offset) = part.unwrap_or_default();
    let mut packet = vec![0x45, 0];
    packet.extend(be(20 + body.len()));
    packet.extend(id.to_be_bytes());
    packet.extend(be((offset / 8) | (usize::from(more) << 13)));
    packet.extend([64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend(body);
    packet
}

fn ipv6_part(id: u32, more: bool, offset: usize, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(be(8 + body.len()));
    packet.extend([44, 64]);
    packet.extend([0x20; 16]);
    packet.extend([0x21; 16]);
    packet.extend([17, 0]);
    packet.extend(be(offset | usize::from(more)));
    packet.extend(id.to_be_bytes());
    packet.extend(body);
    packet
}

fn udp_datagram(payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(be(2_055));
    datagram.extend(be(9_999));
    datagram.extend(be(8 + payload.len()));
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// An export payload of this size: v9, then numbers.
fn payload(size: usize) -> Vec<u8> {
    let numbers = (0..size.saturating_sub(2)).map(|number| u8::try_from(number % 251).unwrap());
    [0, 9].into_iter().chain(numbers).collect()
}

struct Tcp<'a> {
    port: u16,
    sequence: u32,
    flags: u8,
    payload: &'a [u8],
}

impl Tcp<'_> {
    fn packet(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(self.port.to_be_bytes());
        body.extend(be(4_739));
        body.extend(self.sequence.to_be_bytes());
        body.extend([0; 4]);
        // A header of 24 octets, with an option of four.
        body.extend([0x60, self.flags, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 1, 1]);
        body.extend(self.payload);
        ipv4(6, None, &body)
    }
}

const FIN: u8 = 0x11;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// An IPFIX message with one data set of so many octets, marked with a number.
fn message(number: u32, size: usize) -> Vec<u8> {
    let mut message = vec![0, 10];
    message.extend(be(20 + size));
    message.extend(1_700_000_000_u32.to_be_bytes());
    message.extend(number.to_be_bytes());
    message.extend([0, 0, 0, 7]);
    message.extend([1, 0]);
    message.extend(be(4 + size));
    message.extend((0..size).map(|at| u8::try_from(at % 7).unwrap()));
    message
}

fn messages(count: u32) -> (Vec<u8>, Vec<Got>) {
    let all: Vec<Vec<u8>> = (0..count).map(|number| message(number, 40)).collect();
    let got = all.iter().map(|message| Got::Message(5_000, message.clone())).collect();
    (all.concat(), got)
}

/// A connection's octets from a SYN on, as segments of this size with their sequence numbers.
fn segments(initial: u32, octets: &[u8], size: usize) -> Vec<(u32, &[u8])> {
    let mut sequence = initial.wrapping_add(1);
    let mut segments = Vec::new();
    for chunk in octets.chunks(size) {
        segments.push((sequence, chunk));
        sequence = sequence.wrapping_add(u32::try_from(chunk.len()).unwrap());
    }
    segments
}

const fn tcp(sequence: u32, flags: u8, payload: &[u8]) -> Tcp<'_> {
    Tcp { port: 5_000, sequence, flags, payload }
}

#[test]
fn a_datagram_ends_where_its_header_says() {
    let mut reading = Reading::default();
    let mut packet = ipv4(17, None, &udp_datagram(&payload(30)));
    packet.extend([0; 6]);
    reading.packet(&packet);
    reading.packet_cut(&packet, 40);
    reading.packet(&ipv4(17, None, &udp_datagram(b"something else")));
    let (got, drops) = reading.end();
    let whole = payload(30);
    let cut = whole[..12].to_vec();
    assert_eq!(got, [Got::Datagram(2_055, whole, true), Got::Datagram(2_055, cut, false)]);
    assert!(drops.is_empty());
}

#[test]
fn parts_in_any_order_make_a_whole_of_both_families() {
    let whole = payload(3_000);
    let datagram = udp_datagram(&whole);
    let parts: Vec<(usize, &[u8])> =
        datagram.chunks(1_000).enumerate().map(|(number, part)| (number * 1_000, part)).collect();
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        for is_v6 in [false, true] {
            let mut reading = Reading::default();
            for number in order {
                let (offset, part) = parts[number];
                let more = number < 3;
                let packet = if is_v6 {
                    ipv6_part(77, more, offset, part)
                } else {
                    ipv4(17, Some((77, more, offset)), part)
                };
                reading.packet(&packet);
                if number != order[3] {
                    // The same part twice is no overlap.
                    reading.packet(&packet);
                }
            }
            let (got, drops) = reading.end();
            assert_eq!(got, [Got::Datagram(2_055, whole.clone(), true)], "{order:?} {is_v6}");
            assert!(drops.is_empty());
        }
    }
}

#[test]
fn parts_that_overlap_make_nothing() {
    let datagram = udp_datagram(&payload(3_000));
    let mut reading = Reading::default();
    reading.packet(&ipv4(17, Some((1, true, 0)), &datagram[..1_000]));
    reading.packet(&ipv4(17, Some((1, true, 992)), &datagram[992..2_000]));
    reading.packet(&ipv4(17, Some((1, false, 2_000)), &datagram[2_000..]));
    // Other octets in the same place.
    reading.packet(&ipv4(17, Some((2, true, 0)), &datagram[..1_000]));
    reading.packet(&ipv4(17, Some((2, true, 0)), &[0; 1_000]));
    reading.packet(&ipv4(17, Some((2, false, 1_000)), &datagram[1_000..]));
    // A part behind the last one.
    reading.packet(&ipv4(17, Some((3, true, 2_000)), &datagram[2_000..2_800]));
    reading.packet(&ipv4(17, Some((3, false, 1_000)), &datagram[1_000..2_000]));
    let (got, drops) = reading.end();
    assert_eq!(got, []);
    assert_eq!(drops, BTreeMap::from([(CaptureDrop::FragmentsOverlap.name(), 3)]));
}

#[test]
fn what_lacks_parts_is_counted_if_it_may_have_been_an_export() {
    let datagram = udp_datagram(&payload(3_000));
    let other = udp_datagram(&[7; 3_000]);
    let mut reading = Reading::default();
    reading.packet(&ipv4(17, Some((1, true, 0)), &datagram[..1_000]));
    reading.packet(&ipv4(17, Some((2, true, 0)), &other[..1_000]));
    reading.packet(&ipv4(17, Some((3, false, 1_000)), &datagram[1_000..]));
    // The number comes round: what is left of the first is given up, not joined to.
    reading.now_nanos = 31_000_000_000;
    reading.packet(&ipv4(17, Some((1, false, 1_000)), &datagram[1_000..]));
    // A part of which the end was not captured.
    reading.packet_cut(&ipv4(17, Some((4, true, 0)), &datagram[..1_000]), 500);
    let (got, drops) = reading.end();
    assert_eq!(got, []);
    assert_eq!(drops, BTreeMap::from([(CaptureDrop::FragmentMissing.name(), 4)]));
}

#[test]
fn a_flood_of_parts_takes_bounded_room_and_the_oldest_give_way() {
    let datagram = udp_datagram(&payload(1_000));
    let mut reading = Reading::default();
    for id in 0..1_000 {
        reading.packet(&ipv4(17, Some((id, true, 0)), &datagram[..1_000]));
    }
    reading.packet(&ipv4(17, Some((999, false, 1_000)), &datagram[1_000..]));
    // In crumbs of eight octets, more of them than any sender makes.
    let crumbs = udp_datagram(&payload(8 * 300 - 8));
    for (number, crumb) in crumbs.chunks(8).enumerate() {
        reading.packet(&ipv4(17, Some((2_000, number < 299, number * 8)), crumb));
    }
    let (got, drops) = reading.end();
    assert_eq!(got, [Got::Datagram(2_055, payload(1_000), true)]);
    let over_limit = drops[CaptureDrop::FragmentsOverLimit.name()];
    let missing = drops[CaptureDrop::FragmentMissing.name()];
    assert_eq!((over_limit, missing), (1_000 - 256 + 1, 255));
}

#[test]
fn messages_of_a_connection_come_whole_however_it_is_cut() {
    let (octets, mut wanted) = messages(20);
    wanted.push(Got::Closed(5_000));
    for size in [1, 3, 19, 60, 61, 500, octets.len()] {
        // Sequence numbers wrap in the middle.
        let initial = 0_u32.wrapping_sub(300);
        let mut reading = Reading::default();
        reading.tcp(&tcp(initial, SYN, &[]));
        for (sequence, segment) in segments(initial, &octets, size) {
            reading.tcp(&tcp(sequence, ACK, segment));
        }
        let end = initial.wrapping_add(1).wrapping_add(u32::try_from(octets.len()).unwrap());
        reading.tcp(&tcp(end, FIN, &[]));
        // The last segment again, after the end.
        let last = &octets[octets.len() - 10..];
        reading.tcp(&tcp(end.wrapping_sub(10), ACK, last));
        let (got, drops) = reading.end();
        assert_eq!(got, wanted, "segments of {size}");
        assert!(drops.is_empty());
    }
}

#[test]
fn segments_out_of_order_again_and_overlapping_are_put_in_order() {
    let (octets, wanted) = messages(20);
    let mut reading = Reading::default();
    reading.tcp(&tcp(100, SYN, &[]));
    reading.tcp(&tcp(100, SYN, &[]));
    let segments = segments(100, &octets, 50);
    for group in segments.chunks(4) {
        for (sequence, segment) in group.iter().rev() {
            reading.tcp(&tcp(*sequence, ACK, segment));
            reading.tcp(&tcp(*sequence, ACK, segment));
        }
        // One that covers the middle of the group.
        let at = usize::try_from(group[0].0 - 101).unwrap();
        let covering = &octets[at + 20..(at + 90).min(octets.len())];
        reading.tcp(&tcp(group[0].0 + 20, ACK, covering));
    }
    let (mut got, drops) = reading.end();
    assert_eq!(got.pop(), Some(Got::Closed(5_000)));
    assert_eq!(got, wanted);
    assert!(drops.is_empty());
}

#[test]
fn a_stream_is_picked_up_in_its_middle() {
    let (octets, wanted) = messages(20);
    for start in [1, 16, 30, 59, 60] {
        for size in [1, 7, 33, 1_000] {
            let mut reading = Reading::default();
            for (sequence, segment) in segments(0, &octets[start..], size) {
                reading.tcp(&tcp(sequence, ACK, segment));
            }
            let (mut got, drops) = reading.end();
            assert_eq!(got.pop(), Some(Got::Closed(5_000)));
            assert_eq!(got, wanted[1..], "from {start} on, segments of {size}");
            assert!(drops.is_empty(), "what stands before the first message is nobody's loss");
        }
    }
}

#[test]
fn a_hole_costs_the_messages_that_it_touches() {
    let (octets, wanted) = messages(40);
    let mut reading = Reading::default();
    reading.tcp(&tcp(9, SYN, &[]));
    for (number, (sequence, segment)) in segments(9, &octets, 100).into_iter().enumerate() {
        if number != 3 {
            reading.tcp(&tcp(sequence, ACK, segment));
        }
    }
    let (mut got, drops) = reading.end();
    assert_eq!(got.pop(), Some(Got::Closed(5_000)));
    // Octets 300 to 399 are missing: of messages 5 and 6, which are 60 long.
    assert_eq!(got, [&wanted[..5], &wanted[7..]].concat());
    assert_eq!(drops[CaptureDrop::StreamMissing.name()], 100);
    // What there is of message 6, from octet 400 to 419.
    assert_eq!(drops[CaptureDrop::StreamMalformed.name()], 20);
}

#[test]
fn a_hole_is_waited_for_within_bounds() {
    let mut reading = Reading::default();
    let first = message(1, 40);
    reading.tcp(&tcp(9, SYN, &[]));
    reading.tcp(&tcp(10, ACK, &first));
    let behind = message(2, 1_380);
    let mut sequence = 10_000;
    for number in 0..600 {
        reading.tcp(&tcp(sequence, ACK, &behind));
        sequence += 1_400;
        // 256 KiB are 187 such segments: then the hole is given up.
        let count = if number < 187 { 1 } else { 2 + number };
        assert_eq!(reading.got.len(), count);
    }
    let (got, drops) = reading.end();
    assert_eq!(got.len(), 602);
    assert_eq!(drops[CaptureDrop::StreamMissing.name()], 10_000 - 10 - 60);
}

#[test]
fn octets_that_are_no_message_are_counted_and_passed_over() {
    let (octets, wanted) = messages(4);
    let stray = [&octets[..120], &[0, 3, 7, 7, 0, 10, 0], &octets[120..]].concat();
    let mut reading = Reading::default();
    reading.tcp(&tcp(9, SYN, &[]));
    reading.tcp(&tcp(10, ACK, &stray));
    let (mut got, drops) = reading.end();
    assert_eq!(got.pop(), Some(Got::Closed(5_000)));
    assert_eq!(got, wanted);
    assert_eq!(drops, BTreeMap::from([(CaptureDrop::StreamMalformed.name(), 7)]));
}

#[test]
fn other_streams_are_left_alone() {
    let mut reading = Reading::default();
    reading.tcp(&tcp(9, SYN, &[]));
    reading.tcp(&tcp(10, ACK, b"GET / HTTP/1.1\r\n\r\n"));
    // Behind its beginning, a stream of another kind is not searched.
    reading.tcp(&tcp(28, ACK, &message(1, 40)));
    // One that is picked up in its middle is searched for a while.
    let noise = vec![0x55; 1_000];
    for number in 0..140 {
        reading.tcp(&Tcp { port: 6_000, sequence: number * 1_000, flags: ACK, payload: &noise });
    }
    let late = message(1, 40);
    reading.tcp(&Tcp { port: 6_000, sequence: 140_000, flags: ACK, payload: &late });
    let (got, drops) = reading.end();
    assert_eq!(got, []);
    assert!(drops.is_empty());
}

#[test]
fn a_reset_ends_a_connection_and_a_new_one_begins() {
    let mut reading = Reading::default();
    for (number, initial) in [(1, 100), (2, 70_000)] {
        reading.tcp(&tcp(initial, SYN, &[]));
        reading.tcp(&tcp(initial + 1, ACK, &message(number, 40)));
        reading.tcp(&tcp(initial + 61, RST, &[]));
    }
    let (got, drops) = reading.end();
    let wanted =
        [1, 2].map(|number| [Got::Message(5_000, message(number, 40)), Got::Closed(5_000)]);
    assert_eq!(got, wanted.concat());
    assert!(drops.is_empty());
}

#[test]
fn a_flood_of_connections_takes_bounded_room() {
    let mut reading = Reading::default();
    for port in 1_000..5_000 {
        reading.tcp(&Tcp { port, sequence: 9, flags: SYN, payload: &[] });
        reading.tcp(&Tcp { port, sequence: 10, flags: ACK, payload: &message(1, 40) });
    }
    let (got, drops) = reading.end();
    assert_eq!(got.iter().filter(|got| matches!(got, Got::Message(..))).count(), 4_000);
    assert_eq!(got.iter().filter(|got| matches!(got, Got::Closed(_))).count(), 4_000);
    let given_up = drops[CaptureDrop::ConnectionsOverLimit.name()];
    assert!((2_976..3_500).contains(&given_up), "{given_up}");
}

proptest::proptest! {
    #[test]
    fn whatever_the_packets_are_nothing_breaks(
        packets in proptest::collection::vec(
            (proptest::bool::ANY, 0_u32..200, 0_u8..32, 0_usize..300, 0_usize..300), 0..60
        )
    ) {
        let (octets, _) = messages(10);
        let mut reading = Reading::default();
        for (is_tcp, sequence, flags, from, to) in packets {
            let part = octets.get(from..to).unwrap_or_default();
            if is_tcp {
                reading.tcp(&tcp(sequence.wrapping_sub(100), flags, part));
            } else {
                let id = u16::from(flags / 8);
                let offset = usize::try_from(sequence).unwrap() / 8 * 8;
                reading.packet(&ipv4(17, Some((id, flags & 1 == 1, offset)), part));
            }
        }
        let (got, _) = reading.end();
        for got in got {
            if let Got::Message(_, octets) = got {
                let size = usize::from(u16::from_be_bytes([octets[2], octets[3]]));
                proptest::prop_assert_eq!(octets.len(), size);
            }
        }
    }
}
