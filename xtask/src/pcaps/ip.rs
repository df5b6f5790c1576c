//! Captures of IP and of what lies above it.

use super::capture::{CLIENT_MAC, Capture, Entry, Frame, Pcap, SERVER_MAC};
use super::links::in_turn;
use super::packet::{ACK, CLIENT, Packet, SERVER, SYN, Transport, address};

const ETHERNET: Pcap = Pcap::of_link_type(1);

pub(super) fn captures() -> Vec<Capture> {
    vec![
        ipv4_options(),
        ipv6_extensions(),
        fragments(),
        icmp(),
        sctp_dccp_udplite(),
        unknown_l4(),
        malformed(),
        cut_packets(),
    ]
}

fn plain(packets: &[Packet]) -> Vec<Entry> {
    in_turn(packets.iter().map(Frame::plain).collect())
}

fn ipv4_options() -> Capture {
    // Router alert; then a record route that fills the header to its 60 octets.
    let router_alert = [0x94, 4, 0, 0];
    let mut record_route = [0; 40];
    record_route[..3].copy_from_slice(&[7, 39, 4]);
    let client = (address(CLIENT[0]), 1025);
    let server = (address(SERVER[0]), 80);
    ETHERNET.capture(
        "ipv4-options.pcap",
        "Ports are found behind options of any length; what is first in a flow stays.",
        plain(&[
            Packet::tcp(client, server, SYN, 0)
                .options(&router_alert)
                .class_of_service(0xb8)
                .ttl(63),
            Packet::tcp(client, server, ACK, 10).options(&record_route).ttl(61),
            Packet::tcp(client, server, ACK, 20).class_of_service(0x20).ttl(64),
            Packet::between(2, &[0x16, 0, 0, 0, 224, 0, 0, 5]).options(&router_alert).ttl(1),
        ]),
    )
}

fn ipv6_extensions() -> Capture {
    let eight = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let question = || Packet::question(1).flow_label(0xbeef).class_of_service(0x48);
    let routing = [17, 2, 4, 0, 0, 0, 0, 0].iter().copied().chain([0; 16]);
    let routing: Vec<u8> = routing.collect();
    let chain = [&eight(60)[..], &eight(43), &routing].concat();
    // Eight headers are walked, nine are not: then the record says where walking ended.
    let eight_headers = [eight(60).repeat(7), eight(17).to_vec()].concat();
    let nine_headers = [eight(60).repeat(8), eight(17).to_vec()].concat();
    let atomic = [17, 0, 0, 0, 0, 0, 0, 9];
    ETHERNET.capture(
        "ipv6-extensions.pcap",
        "Options, routing and atomic fragment headers are walked; AH, ESP and mobility are not.",
        plain(&[
            question(),
            question().extensions(0, &chain),
            question().extensions(60, &eight_headers),
            question().extensions(60, &nine_headers).means(60, Transport::None),
            question().extensions(44, &atomic),
            Packet::between6(51, &[17; 24]),
            Packet::between6(50, &[0x55; 24]),
            Packet::between6(135, &[59, 0, 0, 0, 0, 0, 0, 0]),
            Packet::between6(59, &[]),
        ]),
    )
}

fn fragments() -> Capture {
    let client = (address(CLIENT[0]), 2049);
    let server = (address(SERVER[0]), 53);
    let ports = Transport::Ports(client.1, server.1);
    // A datagram of 2,000 octets in two parts, the second without ports of its own.
    let first = Packet::udp(client, server, 1472).fragment(7, 0, true);
    let later = Packet::between(17, &[0; 528]).fragment(7, 1480, false);
    // The same identification between the same hosts, but no first part seen.
    let orphan = Packet::between(17, &[0; 64]).fragment(8, 1480, false);
    let other_protocol = Packet::between(6, &[0; 64]).fragment(7, 1480, false);
    let echo = Packet::icmp(client.0, server.0, 8, 0).fragment(9, 0, true);
    let echo_later = Packet::between(1, &[0; 16]).fragment(9, 40, false);
    let six = |next: u8, offset: u16, more: u16| {
        let [high, low] = (offset | more).to_be_bytes();
        [next, 0, high, low, 0, 0, 0, 77]
    };
    // The first part has options above its fragment header: the later one cannot know.
    let options = [17, 0, 1, 4, 0, 0, 0, 0];
    let six_first = Packet::question(1).extensions(44, &[six(60, 0, 1), options].concat());
    let six_later = Packet::between6(60, &[0; 40]).extensions(44, &six(60, 48, 0));
    let six_ports = six_first.transport;
    let mut entries = plain(&[
        first.clone(),
        later.clone().means(17, ports),
        orphan.clone(),
        other_protocol,
        echo,
        echo_later.means(1, Transport::Icmp(0x0800)),
        six_first,
        six_later.means(17, six_ports),
    ]);
    // Thirty seconds later the first part is forgotten.
    entries.push(Entry::at(30_000, Frame::plain(&later)));
    ETHERNET.capture(
        "fragments.pcap",
        "Later fragments take protocol, ports or ICMP type of their first one for 30 s, else none.",
        entries,
    )
}

fn icmp() -> Capture {
    let hosts = [0, 1].map(|family| (address(CLIENT[family]), address(SERVER[family])));
    let [(client, server), (client6, server6)] = hosts;
    ETHERNET.capture(
        "icmp.pcap",
        "Type and code stand instead of ports; ICMP of the other family is a protocol like any.",
        plain(&[
            Packet::icmp(client, server, 8, 0),
            Packet::icmp(server, client, 0, 0),
            Packet::icmp(client, server, 8, 0),
            Packet::icmp(server, client, 3, 1),
            Packet::icmp(server, client, 3, 3),
            Packet::icmp(client6, server6, 128, 0).flow_label(1),
            Packet::icmp(server6, client6, 129, 0),
            Packet::icmp(client6, server6, 135, 0).ttl(255),
            Packet::between(58, &[128, 0, 0, 0]),
            Packet::between6(1, &[8, 0, 0, 0]),
        ]),
    )
}

fn sctp_dccp_udplite() -> Capture {
    ETHERNET.capture(
        "sctp-dccp-udplite.pcap",
        "SCTP, DCCP and UDP-Lite have ports as UDP has; the protocol keeps them apart.",
        plain(&[
            Packet::ported(132, (9, 36412), &[0; 28]),
            Packet::ported(33, (9, 36412), &[0; 20]),
            Packet::ported(136, (9, 36412), &[0, 8, 0, 0]),
            Packet::ported(17, (9, 36412), &[0, 8, 0, 0]),
            Packet::ported(132, (9, 36412), &[0; 60]),
        ]),
    )
}

fn unknown_l4() -> Capture {
    ETHERNET.capture(
        "unknown-l4.pcap",
        "A protocol that is not known is a flow without ports: GRE, ESP, OSPF, 253, none.",
        plain(&[
            Packet::between(47, &[0, 0, 8, 0, 0x45, 0, 0, 20]),
            Packet::between(50, &[1; 40]),
            Packet::between(89, &[2; 44]),
            Packet::between(253, &[]),
            Packet::between(0, &[3; 8]),
            Packet::between(50, &[4; 40]),
        ]),
    )
}

fn malformed() -> Capture {
    let header = [&SERVER_MAC[..], &CLIENT_MAC, &[8, 0]].concat();
    let six_header = [&SERVER_MAC[..], &CLIENT_MAC, &[0x86, 0xdd]].concat();
    let four = Packet::question(0).octets_on_wire();
    let six = Packet::question(1).octets_on_wire();
    let changed = |at: usize, octet: u8| {
        let mut packet = four.clone();
        packet[at] = octet;
        [&header[..], &packet].concat()
    };
    let frames = vec![
        Frame::refused("linkHeaderCut", &header[..13]),
        Frame::refused("linkHeaderCut", &[&header[..12], &[0x81, 0, 0]].concat()),
        Frame::refused("ipv4HeaderCut", &[&header, &four[..19]].concat()),
        Frame::refused("ipv4Version", &changed(0, 0x65)),
        Frame::refused("ipv4HeaderLength", &changed(0, 0x44)),
        Frame::refused("ipv4TotalLength", &changed(3, 19)),
        Frame::refused("ipv6HeaderCut", &[&six_header, &six[..39]].concat()),
        Frame::refused("ipv6Version", &[&six_header[..], &four].concat()),
    ];
    ETHERNET.capture(
        "malformed.pcap",
        "Frames whose IP header cannot be read give no flow, and are counted by kind.",
        in_turn(frames),
    )
}

fn cut_packets() -> Capture {
    let client = (address(CLIENT[0]), 1025);
    let server = (address(SERVER[0]), 80);
    let segment = || Packet::tcp(client, server, SYN, 0);
    let bare = |packet: &Packet| Frame::behind(&[], packet);
    // A card that cuts segments itself was handed a packet of total length 0.
    let mut offloaded = Packet::tcp(client, server, ACK, 3_000).claims(0).octets_on_wire();
    offloaded[10..12].fill(0);
    let offloaded = Frame { octets: offloaded, ..bare(&Packet::tcp(client, server, ACK, 3_000)) };
    Pcap::of_link_type(101).capture(
        "cut-packets.pcap",
        "Octets are the header's claim; ports that are not there are absent, flags that are not are 0.",
        in_turn(vec![
            bare(&segment().claims(9_000)),
            bare(&segment().cut_payload(12).claims(500)),
            bare(&segment().cut_payload(3).claims(700).means(6, Transport::None)),
            offloaded,
        ]),
    )
}
