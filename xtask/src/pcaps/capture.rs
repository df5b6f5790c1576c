//! Capture files written from frames, each with what is to be made of it.

use super::packet::{Link, Packet};

/// 2024-01-01T00:00:00Z: when all captures begin.
pub(super) const START_SECONDS: i64 = 1_704_067_200;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// What is to be made of a frame.
#[derive(Clone, Debug)]
pub(super) enum Meaning {
    /// It is accounted.
    Accounted(Box<Packet>),
    /// It is refused, for the reason of this name.
    Refused(&'static str),
}

/// A frame and what is to be made of it.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) octets: Vec<u8>,
    pub(super) meaning: Meaning,
}

pub(super) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
pub(super) const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x20];

impl Frame {
    /// A packet behind these octets, of which the link says nothing.
    pub(super) fn behind(header: &[u8], packet: &Packet) -> Self {
        Self {
            octets: [header, &packet.octets_on_wire()].concat(),
            meaning: Meaning::Accounted(Box::new(packet.clone())),
        }
    }

    /// A packet in an Ethernet frame, behind these octets: tags, then what leads to IP.
    pub(super) fn ethernet(header: &[u8], vlan_id: Option<u16>, packet: &Packet) -> Self {
        let mut packet = packet.clone();
        packet.link =
            Link { source_mac: Some(CLIENT_MAC), destination_mac: Some(SERVER_MAC), vlan_id };
        let mut frame = Self::behind(&[&SERVER_MAC, &CLIENT_MAC, header].concat(), &packet);
        // Ethernet's own minimum, without the checksum.
        frame.octets.resize(frame.octets.len().max(60), 0);
        frame
    }

    /// A packet in a plain Ethernet frame.
    pub(super) fn plain(packet: &Packet) -> Self {
        let header: &[u8] = if packet.source.is_ipv4() { &[0x08, 0x00] } else { &[0x86, 0xdd] };
        Self::ethernet(header, None, packet)
    }

    /// A frame that is refused.
    pub(super) fn refused(reason: &'static str, octets: &[u8]) -> Self {
        Self { octets: octets.to_vec(), meaning: Meaning::Refused(reason) }
    }
}

/// A frame in a capture.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) time_nanos: i64,
    pub(super) interface: u32,
    pub(super) frame: Frame,
}

impl Entry {
    /// A frame so many milliseconds after the start, on the first interface.
    pub(super) fn at(millis: i64, frame: Frame) -> Self {
        Self {
            time_nanos: START_SECONDS * 1_000_000_000 + millis * NANOS_PER_MILLI,
            interface: 0,
            frame,
        }
    }
}

/// A capture file and what is to be made of it.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) name: &'static str,
    /// One sentence for the README.
    pub(super) proves: &'static str,
    pub(super) file: Vec<u8>,
    /// What a reader finds in it.
    pub(super) entries: Vec<Entry>,
    /// Where it finds damage.
    pub(super) damaged_at: Option<usize>,
}

/// How a pcap file is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pcap {
    pub(super) magic: u32,
    pub(super) is_big_endian: bool,
    pub(super) link_type: u32,
    pub(super) snaplen: usize,
}

pub(super) const MICROS: u32 = 0xa1b2_c3d4;
pub(super) const NANOS: u32 = 0xa1b2_3c4d;
pub(super) const MODIFIED: u32 = 0xa1b2_cd34;

impl Pcap {
    /// What most captures are: microseconds, little-endian, whole packets.
    pub(super) const fn of_link_type(link_type: u32) -> Self {
        Self { magic: MICROS, is_big_endian: false, link_type, snaplen: 65_535 }
    }

    /// Writes the file.
    pub(super) fn capture(
        self,
        name: &'static str,
        proves: &'static str,
        entries: Vec<Entry>,
    ) -> Capture {
        let order = Order { is_big: self.is_big_endian };
        let mut file = order.words(&[self.magic]);
        file.extend(order.u16(2));
        file.extend(order.u16(4));
        file.extend(order.words(&[0, 0, word(self.snaplen), self.link_type]));
        for entry in &entries {
            let fraction_nanos = if self.magic == NANOS { 1 } else { 1_000 };
            let octets = &entry.frame.octets;
            let captured = &octets[..octets.len().min(self.snaplen)];
            file.extend(order.words(&[
                u32::try_from(entry.time_nanos / 1_000_000_000).unwrap_or(u32::MAX),
                u32::try_from(entry.time_nanos % 1_000_000_000 / fraction_nanos).unwrap_or(0),
                word(captured.len()),
                word(octets.len()),
            ]));
            if self.magic == MODIFIED {
                // Interface, protocol, packet type and padding.
                file.extend(order.words(&[2, 0x0800_0000]));
            }
            file.extend(captured);
        }
        Capture { name, proves, file, entries, damaged_at: None }
    }
}

/// Numbers in the byte order of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) is_big: bool,
}

/// A size as files hold it.
pub(super) fn word(size: usize) -> u32 {
    u32::try_from(size).expect("captures are small")
}

impl Order {
    pub(super) fn u16(self, number: u16) -> [u8; 2] {
        if self.is_big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    pub(super) fn u32(self, number: u32) -> [u8; 4] {
        if self.is_big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    pub(super) fn words(self, numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|&number| self.u32(number)).collect()
    }

    /// A pcapng block.
    pub(super) fn block(self, block_type: u32, body: &[u8]) -> Vec<u8> {
        let padding = body.len().next_multiple_of(4) - body.len();
        let size = word(12 + body.len() + padding);
        let head = self.words(&[block_type, size]);
        [&head, body, &[0; 3][..padding], &self.u32(size)].concat()
    }

    /// A section header block, its length unknown.
    pub(super) fn section(self) -> Vec<u8> {
        let mut body = self.words(&[0x1a2b_3c4d]);
        body.extend(self.u16(1));
        body.extend(self.u16(0));
        body.extend([0xff; 8]);
        self.block(0x0a0d_0d0a, &body)
    }

    /// An interface description block with a name, a time resolution and a time offset.
    pub(super) fn interface(
        self,
        link_type: u16,
        snaplen: u32,
        resolution: u8,
        offset_seconds: i64,
    ) -> Vec<u8> {
        let offset =
            if self.is_big { offset_seconds.to_be_bytes() } else { offset_seconds.to_le_bytes() };
        let mut body = self.u16(link_type).to_vec();
        body.extend([0, 0]);
        body.extend(self.u32(snaplen));
        for (code, value) in [(2, &b"eth0"[..]), (9, &[resolution]), (14, &offset), (0, &[])] {
            body.extend(self.u16(code));
            body.extend(self.u16(u16::try_from(value.len()).unwrap_or(0)));
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &body)
    }

    /// An enhanced packet block, its time in ticks of the interface.
    pub(super) fn enhanced(
        self,
        interface: u32,
        ticks: u64,
        captured: &[u8],
        size: usize,
    ) -> Vec<u8> {
        let high = u32::try_from(ticks >> 32).unwrap_or(u32::MAX);
        let low = u32::try_from(ticks & 0xffff_ffff).unwrap_or(u32::MAX);
        let head = self.words(&[interface, high, low, word(captured.len()), word(size)]);
        self.block(6, &[&head, captured].concat())
    }
}
