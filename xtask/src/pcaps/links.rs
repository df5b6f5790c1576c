//! Captures of what lies below IP: tags, labels, PPPoE, LLC, and each link type.

use super::capture::{CLIENT_MAC, Capture, Entry, Frame, Pcap, SERVER_MAC};
use super::packet::{Link, Packet};

const ETHERNET: Pcap = Pcap::of_link_type(1);

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

pub(super) fn captures() -> Vec<Capture> {
    let mut captures = vec![vlan_stack(), qinq(), mpls(), pppoe(), llc_snap(), non_ip()];
    captures.extend(link_types());
    captures
}

/// Frames one millisecond apart.
pub(super) fn in_turn(frames: Vec<Frame>) -> Vec<Entry> {
    (0_i64..).zip(frames).map(|(millis, frame)| Entry::at(millis, frame)).collect()
}

fn vlan_stack() -> Capture {
    // Priority 5 and drop eligible above VLAN 100 to 104.
    let tags = |count: u16| -> Vec<u8> {
        (0..count)
            .flat_map(|depth| [0x81, 0x00, 0xb0, 100 + u8::try_from(depth).unwrap_or(0)])
            .collect()
    };
    let mut frames = Vec::new();
    for count in 0..=4 {
        let vlan_id = (count > 0).then_some(100);
        // A flow each: ports tell them apart.
        let packet = Packet::ported(17, (4000 + count, 53), &[0, 12, 0, 0, 1, 2, 3, 4]);
        let header = [&tags(count)[..], &IPV4].concat();
        frames.push(Frame::ethernet(&header, vlan_id, &packet));
    }
    let five = Frame::ethernet(&[&tags(5)[..], &IPV4].concat(), None, &Packet::question(0));
    frames.push(Frame::refused("tooManyLayers", &five.octets));
    // Priority without a VLAN is VLAN 0.
    let header = [&[0x81, 0x00, 0xe0, 0x00][..], &IPV6].concat();
    frames.push(Frame::ethernet(&header, Some(0), &Packet::question(1)));
    ETHERNET.capture(
        "vlan-stack.pcap",
        "None to four VLAN tags are walked, the outermost is the record's; a fifth is refused.",
        in_turn(frames),
    )
}

fn qinq() -> Capture {
    let mut frames = Vec::new();
    for (outer, vlan) in [([0x88, 0xa8], 10), ([0x91, 0x00], 20), ([0x92, 0x00], 30)] {
        let header = [&outer[..], &[0, vlan, 0x81, 0x00, 0, 99], &IPV4].concat();
        let packet = Packet::ported(17, (5000 + u16::from(vlan), 53), &[0, 8, 0, 0]);
        frames.push(Frame::ethernet(&header, Some(u16::from(vlan)), &packet));
        // The same flow in another VLAN: the record keeps its first packet's.
        let header = [&outer[..], &[0, 200, 0x81, 0x00, 0, 99], &IPV4].concat();
        frames.push(Frame::ethernet(&header, Some(200), &packet));
    }
    ETHERNET.capture(
        "qinq.pcap",
        "802.1ad and its forerunners outside 802.1Q; the VLAN is the first packet's, not the key's.",
        in_turn(frames),
    )
}

fn mpls() -> Capture {
    let labels = |count: usize| -> Vec<u8> {
        let mut labels = [0, 1, 0x00, 64].repeat(count);
        labels[count * 4 - 2] |= 1;
        labels
    };
    let unicast = [0x88, 0x47];
    let one = |header: &[&[u8]], packet: &Packet| {
        Frame::ethernet(&[&[&unicast[..]], header].concat().concat(), None, packet)
    };
    let inner_ethernet = [[0x44, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]].concat();
    let zero_mac = [[0x00, 0x1b, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]].concat();
    let port = |port: u16| Packet::ported(17, (port, 53), &[0, 12, 0, 0, 1, 2, 3, 4]);
    let tagged = Frame::ethernet(
        &[&[0x81, 0x00, 0, 7, 0x88, 0x48][..], &labels(1)].concat(),
        Some(7),
        &port(6),
    );
    let frames = vec![
        one(&[&labels(1)], &port(1)),
        one(&[&labels(8)], &port(2)),
        one(&[&labels(2)], &Packet::question(1)),
        // A pseudowire: with the control word, without it, and with an inner MAC that begins
        // as the control word does.
        one(&[&labels(2), &[0; 4], &inner_ethernet, &IPV4], &port(3)),
        one(&[&labels(2), &inner_ethernet, &[0x81, 0, 0, 9], &IPV4], &port(4)),
        one(&[&labels(2), &zero_mac, &IPV4], &port(5)),
        tagged,
        Frame::refused("tooManyLayers", &one(&[&labels(9)], &Packet::question(0)).octets),
        Frame::refused(
            "mplsPayload",
            &[&SERVER_MAC, &CLIENT_MAC, &unicast[..], &labels(1), &[0x1f; 40]].concat(),
        ),
    ];
    ETHERNET.capture(
        "mpls.pcap",
        "One to eight labels, IP and Ethernet below them, with and without a control word.",
        in_turn(frames),
    )
}

fn pppoe() -> Capture {
    let session = |size: u8, rest: &[u8]| [&[0x88, 0x64, 0x11, 0, 0, 0x2a, 0, size], rest].concat();
    let behind_tag = [&[0x81, 0x00, 0, 35][..], &session(62, &[0, 0x21])].concat();
    let control = |protocol: [u8; 2]| {
        let session = session(10, &protocol);
        [&SERVER_MAC, &CLIENT_MAC, &session[..], &[1, 1, 0, 8, 5, 6, 7, 8]].concat()
    };
    let discovery =
        [&SERVER_MAC, &CLIENT_MAC, &[0x88, 0x63, 0x11, 9, 0, 0, 0, 4][..], &[1, 1, 0, 0]];
    let frames = vec![
        Frame::refused("pppoeDiscovery", &discovery.concat()),
        Frame::refused("pppControl", &control([0xc0, 0x21])),
        Frame::refused("pppControl", &control([0x80, 0x21])),
        Frame::ethernet(&session(62, &[0, 0x21]), None, &Packet::question(0)),
        Frame::ethernet(&session(82, &[0, 0x57]), None, &Packet::question(1)),
        Frame::ethernet(&behind_tag, Some(35), &Packet::question(0)),
    ];
    ETHERNET.capture(
        "pppoe.pcap",
        "IPv4 and IPv6 in PPPoE sessions, tagged and not; discovery and PPP control are refused.",
        in_turn(frames),
    )
}

fn llc_snap() -> Capture {
    let length = [0, 68];
    let snap = |oui: [u8; 3], rest: &[u8]| [&length[..], &[0xaa, 0xaa, 3], &oui, rest].concat();
    let vlan_inside = snap([0, 0, 0], &[0x81, 0x00, 0, 8, 0x08, 0x00]);
    let refused = |header: &[u8]| {
        let octets = [&SERVER_MAC, &CLIENT_MAC, header, &[0; 40]].concat();
        Frame::refused("llc", &octets)
    };
    let frames = vec![
        Frame::ethernet(&snap([0, 0, 0], &IPV4), None, &Packet::question(0)),
        Frame::ethernet(&snap([0, 0, 0], &IPV6), None, &Packet::question(1)),
        Frame::ethernet(&snap([0, 0, 0xf8], &IPV4), None, &Packet::question(0)),
        Frame::ethernet(&vlan_inside, Some(8), &Packet::question(0)),
        Frame::ethernet(&[0, 63, 6, 6, 3], None, &Packet::question(0)),
        // Spanning tree, IS-IS, IPX, and Cisco's discovery in SNAP.
        refused(&[0, 38, 0x42, 0x42, 3]),
        refused(&[0, 38, 0xfe, 0xfe, 3]),
        refused(&[0, 38, 0xff, 0xff]),
        refused(&snap([0, 0, 0x0c], &[0x20, 0])),
    ];
    ETHERNET.capture(
        "llc-snap.pcap",
        "IP in SNAP and in LLC; other networks' LLC frames are refused.",
        in_turn(frames),
    )
}

fn non_ip() -> Capture {
    let frames = [
        ("arp", [0x08, 0x06]),
        ("arp", [0x80, 0x35]),
        ("lldp", [0x88, 0xcc]),
        ("eapol", [0x88, 0x8e]),
        ("slowProtocol", [0x88, 0x09]),
        ("macsec", [0x88, 0xe5]),
        ("otherEthertype", [0x90, 0x00]),
        ("otherEthertype", [0x88, 0xf7]),
    ]
    .map(|(reason, ethertype)| {
        let octets = [&SERVER_MAC, &CLIENT_MAC, &ethertype[..], &[0; 46]].concat();
        Frame::refused(reason, &octets)
    });
    let tagged_arp = [&SERVER_MAC, &CLIENT_MAC, &[0x81, 0, 0, 3, 8, 6][..], &[0; 42]].concat();
    let mut frames = Vec::from(frames);
    frames.push(Frame::refused("arp", &tagged_arp));
    ETHERNET.capture(
        "non-ip.pcap",
        "What is not IP gives no flow, and is counted by kind.",
        in_turn(frames),
    )
}

/// A question over IPv4 and one over IPv6 behind these octets.
fn pair(
    number: u32,
    name: &'static str,
    proves: &'static str,
    (four, six): (&[u8], &[u8]),
    link: Link,
) -> Capture {
    let frame = |header: &[u8], family| {
        let mut packet = Packet::question(family);
        packet.link = link;
        Frame::behind(header, &packet)
    };
    let frames = vec![frame(four, 0), frame(six, 1)];
    Pcap::of_link_type(number).capture(name, proves, in_turn(frames))
}

fn link_types() -> Vec<Capture> {
    let mut captures = raw_links();
    captures.extend(cooked_links());
    captures.extend(loopback_links());
    captures.extend(serial_links());
    captures
}

const NO_LINK: Link = Link { source_mac: None, destination_mac: None, vlan_id: None };

fn raw_links() -> Vec<Capture> {
    let question = |family| Frame::behind(&[], &Packet::question(family));
    let ipv4_only = vec![question(0), Frame::refused("ipv4Version", &question(1).octets)];
    let ipv6_only = vec![question(1), Frame::refused("ipv6Version", &question(0).octets)];
    let unsupported = vec![Frame::refused("unsupportedLinkType", &question(0).octets)];
    let raw = "Raw IP, the version tells which.";
    vec![
        pair(12, "link-raw-12.pcap", raw, (&[], &[]), NO_LINK),
        pair(14, "link-raw-14.pcap", raw, (&[], &[]), NO_LINK),
        pair(101, "link-raw-101.pcap", raw, (&[], &[]), NO_LINK),
        Pcap::of_link_type(228).capture(
            "link-ipv4.pcap",
            "Raw IPv4; anything else there is malformed.",
            in_turn(ipv4_only),
        ),
        Pcap::of_link_type(229).capture(
            "link-ipv6.pcap",
            "Raw IPv6; anything else there is malformed.",
            in_turn(ipv6_only),
        ),
        Pcap::of_link_type(195).capture(
            "link-unsupported.pcap",
            "A link type that is not read is no error: its packets are counted.",
            in_turn(unsupported),
        ),
    ]
}

fn cooked_links() -> Vec<Capture> {
    let cooked = Link { source_mac: Some(CLIENT_MAC), ..NO_LINK };
    let sll =
        |ethertype: [u8; 2]| [&[0, 4, 0, 1, 0, 6][..], &CLIENT_MAC, &[0, 0], &ethertype].concat();
    let sll2 = |ethertype: [u8; 2]| {
        let fixed = [0, 0, 0, 0, 0, 3, 0, 1, 4, 6];
        [&ethertype[..], &fixed, &CLIENT_MAC, &[0, 0]].concat()
    };
    vec![
        pair(
            113,
            "link-sll.pcap",
            "Linux's cooked header; it has a source address only.",
            (&sll(IPV4), &sll(IPV6)),
            cooked,
        ),
        pair(
            276,
            "link-sll2.pcap",
            "Linux's cooked header, version 2.",
            (&sll2(IPV4), &sll2(IPV6)),
            cooked,
        ),
    ]
}

fn loopback_links() -> Vec<Capture> {
    vec![
        pair(
            0,
            "link-null.pcap",
            "BSD's loopback from a little-endian host, IPv6 as macOS numbers it.",
            (&[2, 0, 0, 0], &[30, 0, 0, 0]),
            NO_LINK,
        ),
        pair(
            0,
            "link-null-big-endian.pcap",
            "BSD's loopback from a big-endian host, IPv6 as FreeBSD numbers it.",
            (&[0, 0, 0, 2], &[0, 0, 0, 28]),
            NO_LINK,
        ),
        pair(
            108,
            "link-loop.pcap",
            "OpenBSD's loopback.",
            (&[0, 0, 0, 2], &[0, 0, 0, 24]),
            NO_LINK,
        ),
    ]
}

fn serial_links() -> Vec<Capture> {
    vec![
        pair(
            9,
            "link-ppp.pcap",
            "PPP, with and without HDLC's octets.",
            (&[0, 0x21], &[0xff, 3, 0, 0x57]),
            NO_LINK,
        ),
        pair(
            50,
            "link-ppp-serial.pcap",
            "PPP in HDLC framing, its protocol compressed or not.",
            (&[0xff, 3, 0, 0x21], &[0xff, 3, 0x57]),
            NO_LINK,
        ),
        pair(
            50,
            "link-ppp-serial-cisco.pcap",
            "Cisco's HDLC under the link type of PPP.",
            (&[0x0f, 0, 8, 0], &[0x8f, 0, 0x86, 0xdd]),
            NO_LINK,
        ),
        pair(
            51,
            "link-ppp-ether.pcap",
            "PPPoE sessions without Ethernet.",
            (&[0x11, 0, 0, 1, 0, 62, 0, 0x21], &[0x11, 0, 0, 1, 0, 82, 0, 0x57]),
            NO_LINK,
        ),
        pair(
            104,
            "link-cisco-hdlc.pcap",
            "Cisco's HDLC.",
            (&[0x0f, 0, 8, 0], &[0x8f, 0, 0x86, 0xdd]),
            NO_LINK,
        ),
    ]
}
