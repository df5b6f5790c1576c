//! The parser over frames built by hand, and over any octets whatever.

#![expect(clippy::arithmetic_side_effects, reason = "the tests' own numbers are small")]

extern crate std;

use super::*;
use crate::DropReason;
use proptest::prelude::*;
use std::vec::Vec;

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

fn concat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// An IPv4 packet from 192.0.2.1 to 198.51.100.2.
fn ipv4(protocol: u8, flags_offset: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let size = 20 + options.len() + payload.len();
    let [t0, t1] = u16::try_from(size).unwrap().to_be_bytes();
    let [f0, f1] = flags_offset.to_be_bytes();
    let version_size = 0x45 + u8::try_from(options.len() / 4).unwrap();
    let header = [
        version_size,
        0xb8,
        t0,
        t1,
        0xbe,
        0xef,
        f0,
        f1,
        61,
        protocol,
        0,
        0, //
        192,
        0,
        2,
        1,
        198,
        51,
        100,
        2,
    ];
    concat(&[&header, options, payload])
}

/// An IPv6 packet from 2001:db8::1 to 2001:db8::2, class 0x28, label 0xabcde.
fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let [p0, p1] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut header = [0; 40];
    header[..8].copy_from_slice(&[0x62, 0x8a, 0xbc, 0xde, p0, p1, next_header, 255]);
    header[8..12].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    header[24..28].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    (header[23], header[39]) = (1, 2);
    concat(&[&header, payload])
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    concat(&[&MACS, &ethertype.to_be_bytes(), payload])
}

/// Ports 1025 and 443, with SYN, ECE and AE set.
const TCP: [u8; 20] = [4, 1, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x51, 0x42, 1, 0, 0, 0, 0, 0];

const UDP: [u8; 8] = [4, 1, 0, 53, 0, 8, 0, 0];

fn parsed(link_type: LinkType, frame: &[u8]) -> Packet {
    parse(link_type, frame).unwrap()
}

fn refused(link_type: LinkType, frame: &[u8]) -> Refusal {
    parse(link_type, frame).unwrap_err()
}

#[test]
fn reads_every_field_of_tcp_over_ipv4() {
    let frame = ethernet(0x0800, &ipv4(6, 0x4000, &[], &TCP));
    let expected = Packet {
        addresses: Addresses::V4 { source: [192, 0, 2, 1], destination: [198, 51, 100, 2] },
        protocol: 6,
        transport: Transport::Ports { source: 1025, destination: 443 },
        network_offset: 14,
        transport_offset: 34,
        fragment: None,
        octets: 40,
        tcp_control_bits: 0x142,
        class_of_service: 0xb8,
        ttl: 61,
        flow_label: 0,
        link: LinkHeader {
            source_mac: Some([2, 0, 0, 0, 0, 2]),
            destination_mac: Some([2, 0, 0, 0, 0, 1]),
            vlan_id: None,
        },
    };
    assert_eq!(parsed(LinkType::Ethernet, &frame), expected);
}

#[test]
fn reads_every_field_of_icmpv6_over_ipv6() {
    let packet = parsed(LinkType::Ipv6, &ipv6(58, &[128, 0, 0, 0]));
    assert_eq!(packet.transport, Transport::Icmp { type_code: 0x8000 });
    assert_eq!((packet.octets, packet.ttl), (44, 255));
    assert_eq!((packet.class_of_service, packet.flow_label), (0x28, 0xa_bcde));
    let Addresses::V6 { source, destination } = packet.addresses else {
        panic!("an IPv6 packet has IPv6 addresses");
    };
    assert_eq!((source[0], source[15]), (0x20, 1));
    assert_eq!((destination[0], destination[15]), (0x20, 2));
    assert_eq!(packet.link, LinkHeader::default());
}

#[test]
fn ports_are_of_five_protocols_and_icmp_is_of_its_own_family() {
    for protocol in 0..=255 {
        let packet = parsed(LinkType::Ipv4, &ipv4(protocol, 0, &[], &TCP));
        let expected = match protocol {
            6 | 17 | 33 | 132 | 136 => Transport::Ports { source: 1025, destination: 443 },
            1 => Transport::Icmp { type_code: 0x0401 },
            _ => Transport::None,
        };
        assert_eq!((packet.protocol, packet.transport), (protocol, expected), "{protocol}");
        assert_eq!(packet.tcp_control_bits, if protocol == 6 { 0x142 } else { 0 });
    }
}

#[test]
fn options_are_stepped_over_and_padding_is_not_read() {
    let with_options = ipv4(17, 0, &[1; 12], &UDP);
    let packet = parsed(LinkType::Ipv4, &with_options);
    assert_eq!(packet.transport.to_key().1, 1025);
    assert_eq!(packet.octets, 40);
    // Two octets of UDP, then the frame's padding.
    let padded = concat(&[&ipv4(17, 0, &[], &UDP[..2]), &[9; 24]]);
    let packet = parsed(LinkType::Ipv4, &padded);
    assert_eq!((packet.transport, packet.octets), (Transport::None, 22));
}

#[test]
fn walks_four_tags_and_refuses_a_fifth() {
    let tags: [u16; 5] = [0x9100, 0x88a8, 0x8100, 0x8100, 0x9200];
    for (count, tail) in [(0, 0x0800), (4, 0x0800), (5, 0x0800)] {
        let mut frame = MACS.to_vec();
        for (index, tag) in tags[..count].iter().enumerate() {
            frame.extend(tag.to_be_bytes());
            // Priority 7 in the upper bits, and a different VLAN in each tag.
            frame.extend((0xe000 | (100 + u16::try_from(index).unwrap())).to_be_bytes());
        }
        frame.extend(u16::to_be_bytes(tail));
        frame.extend(ipv4(17, 0, &[], &UDP));
        match (count, parse(LinkType::Ethernet, &frame[..])) {
            (0, Ok(packet)) => assert_eq!(packet.link.vlan_id, None),
            (4, Ok(packet)) => assert_eq!(packet.link.vlan_id, Some(100)),
            (_, result) => assert_eq!(
                result,
                Err(Refusal::Malformed(Malformed::TooManyLayers)),
                "{count} tags"
            ),
        }
    }
}

#[test]
fn walks_eight_labels_and_refuses_a_ninth() {
    for (count, is_read) in [(1, true), (8, true), (9, false)] {
        let mut labels = [0, 1, 0, 64].repeat(count);
        labels[count * 4 - 2] |= 1;
        let frame = ethernet(0x8847, &concat(&[&labels, &ipv6(17, &UDP)]));
        assert_eq!(parse(LinkType::Ethernet, &frame[..]).is_ok(), is_read);
    }
}

#[test]
fn finds_ethernet_below_labels_with_and_without_control_word() {
    let label = [0, 1, 1, 64];
    // The inner destination MAC begins with 4, as an IPv4 header would.
    let inner_macs = [0x44, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let packet = ipv4(17, 0, &[], &UDP);
    let tagged = concat(&[&inner_macs, &[0x81, 0, 0, 5, 8, 0], &packet]);
    for control_word in [&[][..], &[0; 4]] {
        let frame = ethernet(0x8847, &concat(&[&label, control_word, &tagged]));
        let packet = parsed(LinkType::Ethernet, &frame);
        assert_eq!(packet.transport.to_key().2, 53);
        // What the pseudowire carries has MACs and tags of its own.
        assert_eq!(packet.link.vlan_id, None);
        assert_eq!(packet.link.destination_mac, Some([2, 0, 0, 0, 0, 1]));
    }
    let other = ethernet(0x8847, &concat(&[&label, &[0x10, 0, 0, 7], &[0xee; 30]]));
    assert_eq!(refused(LinkType::Ethernet, &other), Refusal::NonIp(NonIp::MplsPayload));
}

#[test]
fn reads_pppoe_llc_snap_and_ip_over_llc() {
    let packet = ipv4(17, 0, &[], &UDP);
    let session = [0x11, 0, 0, 1, 0, 30];
    let length = u16::try_from(packet.len() + 8).unwrap();
    let frames = [
        ethernet(0x8864, &concat(&[&session, &[0, 0x21], &packet])),
        // A compressed protocol number.
        ethernet(0x8864, &concat(&[&session, &[0x21], &packet])),
        ethernet(length, &concat(&[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &packet])),
        ethernet(length, &concat(&[&[6, 6, 3], &packet])),
    ];
    for frame in &frames {
        assert_eq!(parsed(LinkType::Ethernet, frame).transport.to_key().2, 53, "{frame:?}");
    }
}

#[test]
fn reads_each_link_type() {
    let four = ipv4(17, 0, &[], &UDP);
    let six = ipv6(17, &UDP);
    let sll = [
        0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0, 0x86, 0xdd, //
    ];
    let sll2 = [0x86, 0xdd, 0, 0, 0, 0, 0, 3, 0, 1, 4, 6, 2, 0, 0, 0, 0, 9, 0, 0];
    let cases: [(u32, &[u8], &[u8]); 21] = [
        (1, &concat(&[&MACS, &[8, 0]]), &four),
        (12, &[], &four),
        (14, &[], &six),
        (101, &[], &six),
        (228, &[], &four),
        (229, &[], &six),
        (113, &sll, &six),
        (276, &sll2, &six),
        (0, &[2, 0, 0, 0], &four),
        (0, &[0, 0, 0, 30], &six),
        (0, &[24, 0, 0, 0], &six),
        (108, &[0, 0, 0, 28], &six),
        (9, &[0, 0x57], &six),
        (9, &[0xff, 3, 0, 0x21], &four),
        (50, &[0xff, 3, 0x21], &four),
        (50, &[0x0f, 0, 8, 0], &four),
        (9, &[0x0f, 0, 8, 0], &four),
        (51, &[0x11, 0, 0, 1, 0, 50, 0, 0x57], &six),
        (104, &[0x8f, 0, 0x86, 0xdd], &six),
        (104, &[0x0f, 0, 8, 0], &four),
        (113, &[0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0], &four),
    ];
    for (number, header, packet) in cases {
        let frame = concat(&[header, packet]);
        let read = parsed(LinkType::from_number(number), &frame);
        assert_eq!(read.transport.to_key().2, 53, "link type {number}");
        assert_eq!(read.octets, u64::try_from(packet.len()).unwrap());
    }
    let cooked = parsed(LinkType::LinuxSll, &concat(&[&sll, &six]));
    assert_eq!(cooked.link.source_mac, Some([2, 0, 0, 0, 0, 9]));
    assert_eq!(cooked.link.destination_mac, None);
    assert_eq!(refused(LinkType::from_number(195), &four), Refusal::LinkType(195));
}

#[test]
fn names_what_is_not_ip() {
    for (ethertype, reason) in [
        (0x0806, DropReason::Arp),
        (0x8035, DropReason::Arp),
        (0x88cc, DropReason::Lldp),
        (0x888e, DropReason::Eapol),
        (0x8809, DropReason::SlowProtocol),
        (0x88e5, DropReason::Macsec),
        (0x8863, DropReason::PppoeDiscovery),
        (0x9000, DropReason::OtherEthertype),
        (0x0026, DropReason::Llc),
    ] {
        let frame = ethernet(ethertype, &[0x42; 46]);
        let refusal = refused(LinkType::Ethernet, &frame);
        assert_eq!(refusal.drop_reason(), reason);
    }
    let lcp = refused(LinkType::Ppp, &[0xff, 3, 0xc0, 0x21]);
    assert_eq!(lcp, Refusal::NonIp(NonIp::PppControl(0xc021)));
    let family = refused(LinkType::BsdNull, &[7, 0, 0, 0]);
    assert_eq!(family, Refusal::NonIp(NonIp::Family(7)));
    let slarp = refused(LinkType::CiscoHdlc, &[0x8f, 0, 0x80, 0x35]);
    assert_eq!(slarp, Refusal::NonIp(NonIp::Other(0x8035)));
}

#[test]
fn names_how_a_packet_is_malformed() {
    let malformed = |link_type, frame: &[u8]| match refused(link_type, frame) {
        Refusal::Malformed(malformed) => malformed,
        other => panic!("{other:?}"),
    };
    let whole = ipv4(17, 0, &[], &UDP);
    let mut short_header = whole.clone();
    short_header[0] = 0x44;
    let mut short_total = whole.clone();
    short_total[2..4].copy_from_slice(&[0, 19]);
    let six = ipv6(17, &UDP);
    for (link_type, frame, expected) in [
        (LinkType::Ethernet, &MACS[..], Malformed::LinkHeaderCut),
        (LinkType::Ipv4, &whole[..19], Malformed::Ipv4HeaderCut),
        (LinkType::Ipv4, &six, Malformed::Ipv4Version(6)),
        (LinkType::Ipv4, &short_header, Malformed::Ipv4HeaderLength(4)),
        (LinkType::Ipv4, &short_total, Malformed::Ipv4TotalLength(19)),
        (LinkType::Ipv6, &six[..39], Malformed::Ipv6HeaderCut),
        (LinkType::Ipv6, &whole, Malformed::Ipv6Version(4)),
        (LinkType::RawIp, &[0x50; 40], Malformed::IpVersion(5)),
    ] {
        assert_eq!(malformed(link_type, frame), expected);
    }
}

#[test]
fn walks_extension_headers_to_the_protocol() {
    let chain = concat(&[
        &[43, 0, 0, 0, 0, 0, 0, 0],
        &[60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[6, 0, 0, 0, 0, 0, 0, 0],
        &TCP,
    ]);
    let packet = parsed(LinkType::Ipv6, &ipv6(0, &chain));
    assert_eq!((packet.protocol, packet.octets), (6, 40 + 32 + 20));
    assert_eq!(packet.transport.to_key().2, 443);
    for protocol in [50, 51, 135, 59] {
        let packet = parsed(LinkType::Ipv6, &ipv6(protocol, &chain));
        assert_eq!((packet.protocol, packet.transport), (protocol, Transport::None));
    }
}

#[test]
fn a_chain_that_is_cut_or_too_long_ends_at_the_header_it_came_to() {
    let routing = [43, 0, 0, 0, 0, 0, 0, 0];
    let cut = parsed(LinkType::Ipv6, &ipv6(0, &routing));
    assert_eq!((cut.protocol, cut.transport), (43, Transport::None));
    let last = [17, 0, 0, 0, 0, 0, 0, 0];
    let eight = concat(&[&routing.repeat(7), &last, &UDP]);
    let nine = concat(&[&routing.repeat(8), &last, &UDP]);
    assert_eq!(parsed(LinkType::Ipv6, &ipv6(43, &eight)).transport.to_key().2, 53);
    let nine = parsed(LinkType::Ipv6, &ipv6(43, &nine));
    assert_eq!((nine.protocol, nine.transport), (43, Transport::None));
}

#[test]
fn tells_fragments_apart() {
    let first = parsed(LinkType::Ipv4, &ipv4(17, 0x2000, &[], &UDP));
    assert_eq!(first.transport.to_key().2, 53);
    let expected = Fragment { id: 0xbeef, offset: 0, more: true, protocol: 17 };
    assert_eq!(first.fragment, Some(expected));
    let last = parsed(LinkType::Ipv4, &ipv4(17, 0x0002, &[], &UDP));
    assert_eq!(last.transport, Transport::None);
    let expected = Fragment { offset: 16, more: false, ..expected };
    assert_eq!(last.fragment, Some(expected));

    let six = |offset_more: u16| {
        let [o0, o1] = offset_more.to_be_bytes();
        let header = [17, 0, o0, o1, 0, 0, 0, 7];
        parsed(LinkType::Ipv6, &ipv6(44, &concat(&[&header, &UDP])))
    };
    assert_eq!(six(0).fragment, None);
    assert_eq!(six(0).transport.to_key().2, 53);
    assert_eq!(six(1).fragment.map(|part| (part.offset, part.more)), Some((0, true)));
    assert_eq!(six(0x5a8).fragment.map(|part| (part.offset, part.more)), Some((0x5a8, false)));
    assert_eq!((six(0x5a8).protocol, six(0x5a8).transport), (17, Transport::None));
}

#[test]
fn octets_come_from_the_header_unless_it_cannot_say() {
    let mut long = ipv4(6, 0, &[], &TCP);
    long[2..4].copy_from_slice(&9000_u16.to_be_bytes());
    assert_eq!(parsed(LinkType::Ipv4, &long).octets, 9000);
    long[2..4].copy_from_slice(&[0, 0]);
    let captured = Captured { data: &long, wire_size: 70_000 };
    assert_eq!(parse(LinkType::Ipv4, &captured).unwrap().octets, 70_000);

    let jumbo_option = [6, 0, 0xc2, 4, 0, 1, 0x38, 0xa8];
    let mut jumbo = ipv6(0, &concat(&[&jumbo_option, &TCP]));
    jumbo[4..6].copy_from_slice(&[0, 0]);
    let packet = parsed(LinkType::Ipv6, &jumbo);
    assert_eq!((packet.octets, packet.protocol), (40 + 80_040, 6));
    // Without the option a short frame holds nothing but its padding.
    let mut empty = ipv6(6, &TCP);
    empty[4..6].copy_from_slice(&[0, 0]);
    let packet = parsed(LinkType::Ipv6, &empty);
    assert_eq!((packet.octets, packet.transport), (40, Transport::None));
    let captured = Captured { data: &empty, wire_size: 70_000 };
    assert_eq!(parse(LinkType::Ipv6, &captured).unwrap().octets, 70_000);
}

/// Octets that look enough like frames to get past the first header.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let starts: [&[u8]; 9] = [
        &[],
        &[8, 0, 0x45],
        &[0x86, 0xdd, 0x60],
        &[0x81, 0, 0, 1, 0x88, 0x47, 0, 0, 1, 1],
        &[0x88, 0x64, 0x11, 0, 0, 1, 0, 40, 0, 0x57, 0x60],
        &[0, 40, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 0x46],
        &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 64, 0],
        &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 64, 44],
        &[0x88, 0x47, 0, 0, 1, 1, 0, 0, 0, 0],
    ];
    (prop::sample::select(starts.to_vec()), prop::collection::vec(any::<u8>(), 0..140))
        .prop_map(|(start, rest)| concat(&[&MACS, start, &rest]))
}

fn link_type() -> impl Strategy<Value = LinkType> {
    prop::sample::select([0, 1, 9, 50, 51, 101, 104, 108, 113, 228, 229, 276, 147].to_vec())
        .prop_map(LinkType::from_number)
}

proptest! {
    #[test]
    fn any_octets_are_read_or_refused(octets: Vec<u8>, link_type in link_type()) {
        match parse(link_type, &octets[..]) {
            Ok(packet) => {
                prop_assert!(packet.octets >= 20);
                prop_assert!(packet.tcp_control_bits <= 0x0fff);
                prop_assert!(packet.protocol == 6 || packet.tcp_control_bits == 0);
            }
            Err(refusal) => prop_assert!(refusal.drop_reason().index() < DropReason::COUNT),
        }
    }

    /// Cutting a capture takes away what lies beyond the cut and changes nothing else.
    #[test]
    fn a_cut_capture_never_says_otherwise(frame in frame(), cut in 0_usize..160) {
        let whole = parse(LinkType::Ethernet, &frame[..]);
        let captured = Captured { data: &frame[..cut.min(frame.len())], wire_size: frame.len() };
        let Ok(part) = parse(LinkType::Ethernet, &captured) else { return Ok(()) };
        // Below labels the guess of what they carry may need octets beyond the cut.
        prop_assume!(frame[12..14] != [0x88, 0x47] && frame[16..18] != [0x88, 0x47]);
        let Ok(whole) = whole else {
            return Err(TestCaseError::fail("refused whole, read when cut"));
        };
        prop_assert_eq!(part.addresses, whole.addresses);
        prop_assert_eq!(part.octets, whole.octets);
        prop_assert_eq!(part.link, whole.link);
        prop_assert!(part.transport == whole.transport || part.transport == Transport::None);
    }
}
