//! Both formats, written here in every variant, read back and cut at every place.

use super::*;
use proptest::prelude::*;

/// A packet as a test wants it in a file: its time is in nanoseconds.
#[derive(Clone, Debug)]
struct Wanted {
    time_nanos: i64,
    wire_size: u32,
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Writer {
    is_big: bool,
}

impl Writer {
    fn u16(self, number: u16) -> [u8; 2] {
        if self.is_big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn u32(self, number: u32) -> [u8; 4] {
        if self.is_big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn words(self, numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|&number| self.u32(number)).collect()
    }

    fn pcap(self, magic: u32, link_type: u32, packets: &[Wanted]) -> Vec<u8> {
        let mut file = self.words(&[magic]);
        file.extend(self.u16(2));
        file.extend(self.u16(4));
        file.extend(self.words(&[0, 0, 65_535, link_type]));
        let fraction_nanos = if magic == 0xa1b2_3c4d { 1 } else { 1_000 };
        for packet in packets {
            file.extend(self.words(&[
                u32::try_from(packet.time_nanos / 1_000_000_000).unwrap(),
                u32::try_from(packet.time_nanos % 1_000_000_000 / fraction_nanos).unwrap(),
                u32::try_from(packet.data.len()).unwrap(),
                packet.wire_size,
            ]));
            if magic == 0xa1b2_cd34 {
                file.extend(self.words(&[3, 0x0800]));
            }
            file.extend(&packet.data);
        }
        file
    }

    fn block(self, block_type: u32, body: &[u8]) -> Vec<u8> {
        let padding = body.len().next_multiple_of(4) - body.len();
        let size = u32::try_from(12 + body.len() + padding).unwrap();
        let head = self.words(&[block_type, size]);
        [&head, body, &[0; 3][..padding], &self.u32(size)].concat()
    }

    fn section(self) -> Vec<u8> {
        let mut body = self.words(&[0x1a2b_3c4d]);
        body.extend(self.u16(1));
        body.extend(self.u16(0));
        body.extend([0xff; 8]);
        self.block(0x0a0d_0d0a, &body)
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let padding = value.len().next_multiple_of(4) - value.len();
        let length = self.u16(u16::try_from(value.len()).unwrap());
        [&self.u16(code)[..], &length, value, &[0; 3][..padding]].concat()
    }

    fn interface(self, link_type: u16, snaplen: u32, options: &[u8]) -> Vec<u8> {
        let head = [self.u16(link_type), [0, 0]].concat();
        self.block(1, &[&head, &self.u32(snaplen)[..], options].concat())
    }

    fn enhanced(self, interface: u32, ticks: u64, data: &[u8]) -> Vec<u8> {
        let size = u32::try_from(data.len()).unwrap();
        let high = u32::try_from(ticks >> 32).unwrap();
        let low = u32::try_from(ticks & 0xffff_ffff).unwrap();
        let head = self.words(&[interface, high, low, size, size + 7]);
        self.block(6, &[&head, data].concat())
    }
}

const BOTH: [Writer; 2] = [Writer { is_big: false }, Writer { is_big: true }];

fn all(bytes: &[u8]) -> (Vec<CapturedPacket<'_>>, Option<CaptureError>) {
    let mut packets = Vec::new();
    let mut reader = match Packets::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (packets, Some(error)),
    };
    for packet in reader.by_ref() {
        match packet {
            Ok(packet) => packets.push(packet),
            Err(error) => {
                assert!(reader.next().is_none(), "an error is the last item");
                return (packets, Some(error));
            }
        }
    }
    (packets, None)
}

fn damage(bytes: &[u8]) -> (usize, u64, Damage) {
    match all(bytes) {
        (packets, Some(CaptureError::Damaged { offset, damage })) => {
            (packets.len(), offset, damage)
        }
        other => panic!("no damage was found: {other:?}"),
    }
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (0_i64..0xffff_ffff, 0_i64..1_000_000, prop::collection::vec(any::<u8>(), 0..64), 0_u32..9000)
        .prop_map(|(seconds, micros, data, more)| Wanted {
            time_nanos: seconds * 1_000_000_000 + micros * 1_000,
            wire_size: u32::try_from(data.len()).unwrap() + more,
            data,
        })
}

proptest! {
    #[test]
    fn pcap_comes_back_as_it_was_written(
        packets in prop::collection::vec(wanted(), 0..8),
        variant in 0_usize..6,
        cut in 0_usize..2000,
    ) {
        let magic = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34][variant % 3];
        let file = BOTH[variant / 3].pcap(magic, 0xf000_0001, &packets);
        let (read, error) = all(&file);
        prop_assert!(error.is_none());
        prop_assert_eq!(read.len(), packets.len());
        for (read, packet) in read.iter().zip(&packets) {
            prop_assert_eq!(read.time_nanos, packet.time_nanos);
            prop_assert_eq!(read.link_type, LinkType::Ethernet);
            prop_assert_eq!(read.wire_size, packet.wire_size);
            prop_assert_eq!(read.data, &packet.data[..]);
        }
        // Cut anywhere, the packets before the cut come, and the error says where they end.
        let cut = cut.min(file.len());
        let (part, error) = all(&file[..cut]);
        prop_assert_eq!(&part[..], &read[..part.len()]);
        let header_size = if magic == 0xa1b2_cd34 { 24 } else { 16 };
        let end = 24 + part.iter().map(|packet| header_size + packet.data.len()).sum::<usize>();
        match error {
            None => prop_assert_eq!(cut, end),
            Some(CaptureError::Damaged { offset, .. }) if cut > 24 => {
                prop_assert_eq!(offset, u64::try_from(end).unwrap());
            }
            Some(_) => prop_assert!(cut < 24),
        }
    }

    #[test]
    fn pcapng_comes_back_as_it_was_written(
        packets in prop::collection::vec(wanted(), 0..8),
        is_big: bool,
        cut in 0_usize..2000,
    ) {
        let writer = Writer { is_big };
        let mut file = writer.section();
        file.extend(writer.interface(1, 0, &[]));
        let mut ends = vec![28, file.len()];
        for packet in &packets {
            let ticks = u64::try_from(packet.time_nanos / 1_000).unwrap();
            file.extend(writer.enhanced(0, ticks, &packet.data));
            ends.push(file.len());
        }
        let (read, error) = all(&file);
        prop_assert!(error.is_none());
        prop_assert_eq!(read.len(), packets.len());
        for (read, packet) in read.iter().zip(&packets) {
            prop_assert_eq!(read.time_nanos, packet.time_nanos);
            prop_assert_eq!(read.data, &packet.data[..]);
        }
        let cut = cut.min(file.len());
        let (part, error) = all(&file[..cut]);
        prop_assert_eq!(&part[..], &read[..part.len()]);
        match error {
            None => prop_assert!(ends.contains(&cut)),
            Some(CaptureError::Damaged { offset, .. }) => {
                let block = ends.iter().rev().find(|&&end| end <= cut).copied().unwrap_or(0);
                prop_assert_eq!(offset, u64::try_from(block).unwrap());
            }
            Some(_) => prop_assert!(cut < 4),
        }
    }

    #[test]
    fn any_octets_are_read_or_refused(octets: Vec<u8>, start in 0_usize..4) {
        let little = BOTH[0];
        let start = [
            little.pcap(0xa1b2_c3d4, 1, &[]),
            BOTH[1].pcap(0xa1b2_cd34, 1, &[]),
            [little.section(), little.interface(1, 64, &[])].concat(),
            [little.section(), little.block(1, &octets[..octets.len().min(64)])].concat(),
        ][start].clone();
        let file = [&start, &octets[..]].concat();
        let (packets, _) = all(&file);
        // Every packet took at least its header from the file.
        prop_assert!(packets.len() * 16 <= octets.len());
    }
}

#[test]
fn sections_and_interfaces_keep_their_own_clock_link_type_and_byte_order() {
    let [little, big] = BOTH;
    let nanos = little.option(9, &[9]);
    // Units of 1/1024 s, from one hour after 1970 on.
    let binary = [
        big.option(2, b"eth0"),
        big.option(9, &[0x8a]),
        big.option(14, &3600_i64.to_be_bytes()),
        big.option(0, &[]),
    ]
    .concat();
    let file = [
        little.section(),
        little.interface(1, 0, &nanos),
        little.enhanced(0, 5_000_000_007, &[1]),
        little.interface(101, 0, &[]),
        little.enhanced(1, 6_000_001, &[2; 5]),
        big.section(),
        big.interface(228, 2, &binary),
        big.enhanced(0, 2_560, &[3]),
        // A simple packet of 4 octets, cut to the first interface's snaplen of 2.
        big.block(3, &[0, 0, 0, 4, 9, 9]),
        // An obsolete packet: interface 0, 7 drops.
        big.block(2, &[&[0, 0, 0, 7][..], &big.words(&[0, 3_072, 1, 60]), &[5]].concat()),
        big.block(0x0bad, &[1, 2, 3]),
    ]
    .concat();
    let (packets, error) = all(&file);
    assert!(error.is_none(), "{error:?}");
    let seen: Vec<_> = packets
        .iter()
        .map(|packet| (packet.point.interface, packet.link_type, packet.time_nanos))
        .collect();
    let later = 3_600_000_000_000;
    assert_eq!(
        seen,
        [
            (0, LinkType::Ethernet, 5_000_000_007),
            (1, LinkType::RawIp, 6_000_001_000),
            (2, LinkType::Ipv4, later + 2_500_000_000),
            (2, LinkType::Ipv4, later + 2_500_000_000),
            (2, LinkType::Ipv4, later + 3_000_000_000),
        ]
    );
    let data: Vec<_> = packets.iter().map(|packet| packet.data).collect();
    assert_eq!(data, [&[1][..], &[2; 5], &[3], &[9, 9], &[5]]);
    let wire: Vec<_> = packets.iter().map(|packet| packet.wire_size).collect();
    assert_eq!(wire, [8, 12, 8, 4, 60]);
}

#[test]
fn time_units_from_years_to_femtoseconds_end_in_range() {
    for (resolution, ticks, nanos) in [
        (0_u8, 3_u64, 3_000_000_000_i64),
        (3, 1, 1_000_000),
        (12, 1_999, 1),
        (127, u64::MAX, 0),
        (0x80, 2, 2_000_000_000),
        (0xa0, 1 << 31, 500_000_000),
        (0xff, u64::MAX, 0),
        (0, u64::MAX, i64::MAX),
    ] {
        let writer = BOTH[0];
        let file = [
            writer.section(),
            writer.interface(1, 0, &writer.option(9, &[resolution])),
            writer.enhanced(0, ticks, &[]),
        ]
        .concat();
        assert_eq!(all(&file).0[0].time_nanos, nanos, "{resolution:#x} {ticks}");
    }
}

#[test]
fn says_what_is_damaged_and_where() {
    let writer = BOTH[0];
    let good = Wanted { time_nanos: 0, wire_size: 4, data: vec![1, 2, 3, 4] };
    let pcap = writer.pcap(0xa1b2_c3d4, 1, &[good.clone(), good]);
    let long = [&pcap[..], &writer.words(&[0, 0, 300_000, 300_000])].concat();
    assert_eq!(damage(&long), (2, 64, Damage::PacketTooLong { size: 300_000, size_max: 262_144 }));
    assert_eq!(damage(&pcap[..62]), (1, 44, Damage::PacketCut { size: 4, left: 2 }));
    assert_eq!(damage(&pcap[..20]), (0, 0, Damage::HeaderCut { size: 24, left: 20 }));
}

#[test]
fn says_which_block_is_damaged_and_where() {
    let writer = BOTH[0];
    let start = [writer.section(), writer.interface(1, 0, &[])].concat();
    let with = |block: &[u8]| damage(&[&start[..], block].concat());
    let offset = 48;
    assert_eq!(
        with(&writer.words(&[6, 11, 0])),
        (0, offset, Damage::BlockSize { block_type: 6, size: 11 })
    );
    assert_eq!(
        with(&writer.words(&[5, 16, 0, 20])),
        (0, offset, Damage::BlockSizesDiffer { leading: 16, trailing: 20 })
    );
    assert_eq!(
        with(&writer.enhanced(1, 0, &[])),
        (0, offset, Damage::UnknownInterface { interface: 1, count: 1 })
    );
    let beyond = writer.block(6, &writer.words(&[0, 0, 0, 8, 8]));
    assert_eq!(with(&beyond), (0, offset, Damage::PacketBeyondBlock { size: 8, left: 0 }));
    assert_eq!(
        with(&writer.words(&[0x0a0d_0d0a, 28, 7])),
        (0, offset, Damage::ByteOrderMagic { magic: 0x0700_0000 })
    );
}

#[test]
fn says_what_to_do_with_a_file_that_is_no_capture() {
    let message = |bytes: &[u8]| all(bytes).1.unwrap().to_string();
    assert!(message(&[0x1f, 0x8b, 8, 0]).contains("gunzip"));
    assert!(message(&[0x28, 0xb5, 0x2f, 0xfd]).contains("unzstd"));
    assert!(message(b"snoop\0\0\0").contains("editcap"));
    assert!(message(b"").contains("empty"));
    assert_eq!(
        message(&[0xa1, 0xb2]),
        "damaged at byte 0: a header of 4 octets is cut, 2 are left; what precedes it was read"
    );
    let mut old = BOTH[0].pcap(0xa1b2_c3d4, 1, &[]);
    old[4] = 1;
    assert_eq!(message(&old), "pcap version 1.4 is not read: 2.x is");
}

#[test]
fn lengths_of_old_pcap_versions_are_put_in_order() {
    for (minor, lengths) in [(2, [9, 4]), (3, [9, 4]), (3, [4, 9]), (4, [4, 9])] {
        let writer = BOTH[0];
        let mut file = writer.pcap(0xa1b2_c3d4, 1, &[]);
        file[6] = minor;
        file.extend(writer.words(&[0, 0]));
        file.extend(writer.words(&lengths));
        file.extend([1, 2, 3, 4]);
        let (packets, error) = all(&file);
        assert!(error.is_none());
        assert_eq!((packets[0].data.len(), packets[0].wire_size), (4, 9));
    }
}

#[test]
fn opens_regular_files_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.pcap");
    std::fs::write(&path, BOTH[0].pcap(0xa1b2_c3d4, 1, &[])).unwrap();
    let file = CaptureFile::open(&path).unwrap();
    assert_eq!((file.size(), file.packets().unwrap().count()), (24, 0));
    let directory_error = CaptureFile::open(directory.path()).unwrap_err();
    assert!(matches!(directory_error, CaptureError::NotAFile { .. }));
    let missing = CaptureFile::open(&directory.path().join("b.pcap")).unwrap_err();
    assert!(matches!(missing, CaptureError::Open { .. }));
    std::fs::write(&path, []).unwrap();
    let empty = CaptureFile::open(&path).unwrap();
    assert!(matches!(empty.packets(), Err(CaptureError::Empty)));
}
