//! Captures of the file formats themselves.

use super::capture::{Capture, Entry, Frame, MODIFIED, NANOS, Order, Pcap, START_SECONDS, word};
use super::packet::{ACK, CLIENT, Packet, SERVER, address};

pub(super) fn captures() -> Vec<Capture> {
    vec![
        nanosecond(),
        big_endian(),
        modified(),
        truncated(),
        snaplen(),
        empty(),
        multi_interface(),
        multi_section(),
        big_endian_pcapng(),
        old_blocks(),
        truncated_pcapng(),
    ]
}

const ETHERNET: Pcap = Pcap::of_link_type(1);

fn question(millis: i64, family: usize) -> Entry {
    Entry::at(millis, Frame::plain(&Packet::question(family)))
}

fn questions() -> Vec<Entry> {
    vec![question(0, 0), question(250, 1), question(1_750, 0)]
}

fn nanosecond() -> Capture {
    let mut entries = questions();
    // The last nanosecond of a millisecond: the record's time is floored.
    entries[2].time_nanos += 999_999;
    let nanos = Pcap { magic: NANOS, ..ETHERNET };
    nanos.capture("nanosecond.pcap", "A pcap with nanoseconds; milliseconds are floored.", entries)
}

fn big_endian() -> Capture {
    let big = Pcap { is_big_endian: true, ..ETHERNET };
    big.capture("big-endian.pcap", "A pcap written by a big-endian host.", questions())
}

fn modified() -> Capture {
    let modified = Pcap { magic: MODIFIED, ..ETHERNET };
    modified.capture(
        "modified.pcap",
        "Kuznetzov's modified pcap, whose packet headers are longer.",
        questions(),
    )
}

fn truncated() -> Capture {
    let mut capture = ETHERNET.capture(
        "truncated.pcap",
        "A file cut within its third packet: two packets, then one error that says where.",
        questions(),
    );
    let last = capture.entries.remove(2);
    capture.file.truncate(capture.file.len() - 7);
    capture.damaged_at = Some(capture.file.len() + 7 - last.frame.octets.len() - 16);
    capture
}

fn snaplen() -> Capture {
    let client = (address(CLIENT[0]), 1025);
    let server = (address(SERVER[0]), 80);
    let segment = |size| Frame::plain(&Packet::tcp(client, server, ACK, size));
    let snapped = Pcap { snaplen: 54, ..ETHERNET };
    snapped.capture(
        "snaplen.pcap",
        "Packets cut to their headers count with the octets that they had on the wire.",
        vec![Entry::at(0, segment(1_460)), Entry::at(1, segment(1_460)), Entry::at(2, segment(0))],
    )
}

fn empty() -> Capture {
    ETHERNET.capture(
        "empty.pcap",
        "A file without packets gives no flow and is no error.",
        Vec::new(),
    )
}

/// The time of an entry since 1970 in units of `nanos_per_tick`.
fn ticks(entry: &Entry, nanos_per_tick: i64) -> u64 {
    u64::try_from(entry.time_nanos / nanos_per_tick).unwrap_or(0)
}

fn enhanced(order: Order, entry: &Entry, nanos_per_tick: i64) -> Vec<u8> {
    let octets = &entry.frame.octets;
    let ticks = ticks(entry, nanos_per_tick);
    order.enhanced(entry.interface, ticks, octets, octets.len())
}

const LITTLE: Order = Order { is_big: false };
const BIG: Order = Order { is_big: true };

fn multi_interface() -> Capture {
    let on = |interface, mut entry: Entry| {
        entry.interface = interface;
        entry
    };
    let raw = Frame::behind(&[], &Packet::question(0));
    let entries = vec![
        on(0, question(0, 0)),
        on(1, question(1, 0)),
        on(2, Entry::at(2, raw)),
        on(0, question(3, 0)),
    ];
    // Milliseconds, microseconds, nanoseconds; the last two are described once packets flow.
    let file = [
        LITTLE.section(),
        LITTLE.interface(1, 0, 3, 0),
        enhanced(LITTLE, &entries[0], 1_000_000),
        LITTLE.interface(1, 262_144, 6, 0),
        LITTLE.interface(101, 262_144, 9, 0),
        enhanced(LITTLE, &entries[1], 1_000),
        enhanced(LITTLE, &entries[2], 1),
        // Interface statistics, and a custom block.
        LITTLE.block(5, &[0; 12]),
        LITTLE.block(0x0bad, &[0, 0, 0, 1, 2, 3]),
        enhanced(LITTLE, &entries[3], 1_000_000),
    ]
    .concat();
    Capture {
        name: "multi-interface.pcapng",
        proves: "Each interface has its link type and its clock, and is an observation point.",
        file,
        entries,
        damaged_at: None,
    }
}

/// An enhanced packet block of 1/1024 s since the captures' start.
fn since_start(entry: &Entry, millis: i64) -> Vec<u8> {
    let octets = &entry.frame.octets;
    let ticks = u64::try_from(millis * 1_024 / 1_000).unwrap_or(0);
    BIG.enhanced(0, ticks, octets, octets.len())
}

fn multi_section() -> Capture {
    let mut second = question(2_500, 1);
    second.interface = 1;
    let entries = vec![question(0, 0), second];
    let file = [
        LITTLE.section(),
        LITTLE.interface(1, 0, 6, 0),
        enhanced(LITTLE, &entries[0], 1_000),
        BIG.section(),
        BIG.interface(1, 0, 0x8a, START_SECONDS),
        since_start(&entries[1], 2_500),
    ]
    .concat();
    Capture {
        name: "multi-section.pcapng",
        proves: "A second section has its own byte order, interfaces, and a clock with an offset.",
        file,
        entries,
        damaged_at: None,
    }
}

fn big_endian_pcapng() -> Capture {
    let entries = vec![question(0, 0), question(250, 1)];
    let file = [
        BIG.section(),
        BIG.interface(1, 0, 0x8a, START_SECONDS),
        since_start(&entries[0], 0),
        since_start(&entries[1], 250),
    ]
    .concat();
    Capture {
        name: "big-endian.pcapng",
        proves: "A pcapng written by a big-endian host, its clock in 1/1024 s from an offset.",
        file,
        entries,
        damaged_at: None,
    }
}

fn old_blocks() -> Capture {
    let entries = vec![question(0, 0), question(0, 1), question(1_000, 0)];
    let captured = &entries[0].frame.octets;
    let simple = &entries[1].frame.octets;
    let time = ticks(&entries[0], 1_000);
    let [high, low] = [time >> 32, time & 0xffff_ffff].map(|half| u32::try_from(half).unwrap_or(0));
    let size = word(captured.len());
    // Interface 0, 3 drops.
    let obsolete =
        [&LITTLE.u16(0)[..], &LITTLE.u16(3), &LITTLE.words(&[high, low, size, size]), captured]
            .concat();
    let file = [
        LITTLE.section(),
        LITTLE.interface(1, 0, 6, 0),
        LITTLE.block(2, &obsolete),
        LITTLE.block(3, &[&LITTLE.u32(word(simple.len()))[..], simple].concat()),
        enhanced(LITTLE, &entries[2], 1_000),
    ]
    .concat();
    Capture {
        name: "old-blocks.pcapng",
        proves: "Obsolete packet blocks are read; simple ones, which have no time, take that of the packet before.",
        file,
        entries,
        damaged_at: None,
    }
}

fn truncated_pcapng() -> Capture {
    let entries = questions();
    let mut file = [LITTLE.section(), LITTLE.interface(1, 0, 6, 0)].concat();
    let mut last = 0;
    for entry in &entries {
        last = file.len();
        file.extend(enhanced(LITTLE, entry, 1_000));
    }
    file.truncate(last + 40);
    Capture {
        name: "truncated.pcapng",
        proves: "A file cut within its third packet: two packets, then one error that says where.",
        file,
        entries: entries[..2].to_vec(),
        damaged_at: Some(last),
    }
}
