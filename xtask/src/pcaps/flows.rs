//! Captures of how flows begin and end.

use super::capture::{Capture, Entry, Frame, Pcap};
use super::packet::{ACK, CLIENT, FIN, PSH, Packet, RST, SERVER, SYN, address};

const ETHERNET: Pcap = Pcap::of_link_type(1);

pub(super) fn captures() -> Vec<Capture> {
    vec![tcp_lifecycle(), active_timeout(), inactive_timeout(), out_of_order()]
}

/// A segment from the client's port to the server's web port, so many milliseconds in.
fn out(millis: i64, port: u16, flags: u16) -> Entry {
    let from = (address(CLIENT[0]), port);
    let to = (address(SERVER[0]), 80);
    Entry::at(millis, Frame::plain(&Packet::tcp(from, to, flags, 0)))
}

/// A segment from the server's web port to the client's port.
fn back(millis: i64, port: u16, flags: u16) -> Entry {
    let from = (address(SERVER[0]), 80);
    let to = (address(CLIENT[0]), port);
    Entry::at(millis, Frame::plain(&Packet::tcp(from, to, flags, 100)))
}

fn tcp_lifecycle() -> Capture {
    let entries = vec![
        // An orderly connection; its last acknowledgements come after the FINs.
        out(0, 1000, SYN),
        back(10, 1000, SYN | ACK),
        out(20, 1000, ACK),
        out(30, 1000, PSH | ACK),
        back(40, 1000, PSH | ACK),
        out(50, 1000, FIN | ACK),
        back(60, 1000, FIN | ACK),
        out(70, 1000, ACK),
        out(1_500, 1000, ACK),
        // A reset, and the same port again at once: another flow.
        out(2_000, 1001, SYN),
        out(2_010, 1001, RST),
        out(2_020, 1001, SYN),
        out(2_030, 1001, ACK),
        // Two seconds after its FIN the flow is over, whatever still comes.
        out(3_000, 1002, FIN | ACK),
        out(4_999, 1002, ACK),
        out(5_000, 1002, ACK),
        // A SYN sent again, and a SYN with ACK after the end, open nothing.
        out(6_000, 1003, SYN),
        out(6_500, 1003, SYN),
        back(7_000, 1004, FIN | ACK),
        back(7_100, 1004, SYN | ACK),
        // Flags beyond the classic eight: ECN's AE bit.
        out(8_000, 1005, 0x100 | SYN | 0xc0),
    ];
    ETHERNET.capture(
        "tcp-lifecycle.pcap",
        "TCP flows end 2 s after the first FIN or RST; a SYN onto an ended flow opens another.",
        entries,
    )
}

fn active_timeout() -> Capture {
    // One packet a second for 150 s, its class of service and TTL changing every 50.
    let mut entries = Vec::new();
    for second in 0..150 {
        let step = u8::try_from(second / 50).unwrap_or(0);
        let packet = Packet::question(0).class_of_service(step * 8).ttl(64 - step);
        entries.push(Entry::at(second * 1000, Frame::plain(&packet)));
    }
    ETHERNET.capture(
        "active-timeout.pcap",
        "A flow of 150 s is three records at an active timeout of 60 s, each with its own first packet.",
        entries,
    )
}

fn inactive_timeout() -> Capture {
    let question =
        |millis: i64, family: usize| Entry::at(millis, Frame::plain(&Packet::question(family)));
    ETHERNET.capture(
        "inactive-timeout.pcap",
        "A flow without a packet for 15 s is over; 1 ms less and it goes on. Other packets are the clock.",
        vec![
            question(0, 0),
            question(14_999, 0),
            question(20_000, 1),
            question(29_999, 0),
            Entry::at(40_000, Frame::refused("arp", &[&[0; 12][..], &[8, 6], &[0; 46]].concat())),
        ],
    )
}

fn out_of_order() -> Capture {
    ETHERNET.capture(
        "out-of-order.pcap",
        "Packets that go back in time stretch their flow and never turn the clock back.",
        vec![
            out(10_000, 1000, ACK),
            back(10_001, 1000, ACK),
            out(2_000, 1000, ACK),
            out(20_000, 1000, ACK),
            back(4_000, 1000, ACK),
            out(24_500, 1001, ACK),
        ],
    )
}
