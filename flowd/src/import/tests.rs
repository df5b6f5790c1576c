//! Files made here by the published layouts; those of nfdump itself are read in `tests/it`.

use super::*;
use crate::model::ie::v9_element;
use crate::model::{Column, FlowRecord, ObservationDomainId, Protocol, Value};
use proptest::prelude::*;
use std::io::{Seek, Write};

/// A file of layout 1 with these blocks: records and how many they are.
fn file_v1(flags: u32, blocks: &[(Vec<u8>, u32)]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa50c_u16.to_le_bytes());
    file.extend(1_u16.to_le_bytes());
    file.extend(flags.to_le_bytes());
    file.extend(u32::try_from(blocks.len()).unwrap().to_le_bytes());
    file.extend([0; 128]);
    file.extend([0; 15 * 8]);
    file.extend(1_600_000_000_u32.to_le_bytes());
    file.extend(1_600_000_300_u32.to_le_bytes());
    file.extend([0; 8]);
    for (octets, count) in blocks {
        file.extend(count.to_le_bytes());
        file.extend(u32::try_from(octets.len()).unwrap().to_le_bytes());
        file.extend(2_u16.to_le_bytes());
        file.extend(0_u16.to_le_bytes());
        file.extend(octets);
    }
    file
}

fn record(kind: u16, body: &[u8]) -> Vec<u8> {
    let size = u16::try_from(body.len() + 4).unwrap();
    [&kind.to_le_bytes(), &size.to_le_bytes(), body].concat()
}

fn map(number: u16, extensions: &[u16]) -> Vec<u8> {
    let mut body = [number.to_le_bytes(), 0_u16.to_le_bytes()].concat();
    extensions.iter().for_each(|extension| body.extend(extension.to_le_bytes()));
    body.extend([0; 2]);
    record(2, &body)
}

/// Exporter 3: 192.0.2.9, domain 17, NetFlow v9.
fn exporter() -> Vec<u8> {
    let mut body = 9_u32.to_le_bytes().to_vec();
    body.extend([0; 8]);
    body.extend(0xc000_0209_u64.to_le_bytes());
    body.extend(2_u16.to_le_bytes());
    body.extend(3_u16.to_le_bytes());
    body.extend(17_u32.to_le_bytes());
    record(7, &body)
}

/// The common part of a wide record, of map 5 and exporter 3, and what follows it.
fn common(flags: u16, protocol: u8, ports: [u16; 2], rest: &[u8]) -> Vec<u8> {
    let mut body = flags.to_le_bytes().to_vec();
    body.extend(5_u16.to_le_bytes());
    body.extend(7_u16.to_le_bytes());
    body.extend(9_u16.to_le_bytes());
    body.extend(1_600_000_000_u32.to_le_bytes());
    body.extend(1_600_000_010_u32.to_le_bytes());
    body.extend([0, 0x1b, protocol, 0x20]);
    ports.iter().for_each(|port| body.extend(port.to_le_bytes()));
    body.extend(3_u16.to_le_bytes());
    body.extend([0; 2]);
    body.extend(rest);
    record(10, &body)
}

fn v4_flow(extensions: &[u8]) -> Vec<u8> {
    let mut rest = 0xc000_0201_u32.to_le_bytes().to_vec();
    rest.extend(0xc633_6401_u32.to_le_bytes());
    rest.extend(11_u32.to_le_bytes());
    rest.extend(2_200_u32.to_le_bytes());
    rest.extend(extensions);
    common(0, 6, [443, 50_000], &rest)
}

fn open(octets: &[u8]) -> Result<NfdumpFile, ImportError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(octets).unwrap();
    file.rewind().unwrap();
    NfdumpFile::open(file)
}

/// All records, what was not imported, and the damage at the end.
fn read(octets: &[u8]) -> (Vec<Imported>, NotImported, Option<ImportError>) {
    let mut records = Vec::new();
    let mut file = match open(octets) {
        Ok(file) => file,
        Err(error) => return (records, NotImported::default(), Some(error)),
    };
    let error = file.read(&mut records, usize::MAX).err();
    (records, file.not_imported().clone(), error)
}

fn one(octets: &[u8]) -> (FlowRecord, crate::model::Origin) {
    let (mut records, left, error) = read(octets);
    assert!(error.is_none() && records.len() == 1, "{error:?} {records:?}");
    assert_eq!(left, NotImported::default());
    let Imported { record, origin } = records.remove(0);
    (record, (*origin).clone())
}

fn extra(record: &FlowRecord, enterprise: u32, id: u16) -> Option<&[u8]> {
    let found =
        record.extras.iter().find(|it| (it.spec.enterprise, it.spec.id) == (enterprise, id));
    found.map(|extra| extra.value.as_slice())
}

#[test]
fn a_common_record_has_its_columns_and_its_exporter() {
    let received = 1_600_000_123_456_u64;
    let mut extensions = Vec::new();
    extensions.extend([7_u16.to_le_bytes(), 8_u16.to_le_bytes()].concat());
    extensions.extend([64_512_u32.to_le_bytes(), 64_513_u32.to_le_bytes()].concat());
    extensions.extend([0x28, 1, 24, 16]);
    extensions.extend(0x0a00_0001_u32.to_le_bytes());
    extensions.extend(0x0a00_0002_u32.to_le_bytes());
    extensions.extend([30_u16.to_le_bytes(), 31_u16.to_le_bytes()].concat());
    extensions.extend(5_u32.to_le_bytes());
    extensions.extend(600_u64.to_le_bytes());
    extensions.extend(0x0011_2233_4455_u64.to_le_bytes());
    extensions.extend(0_u64.to_le_bytes());
    extensions.extend(0x0001_2345_u32.to_le_bytes());
    extensions.extend([0; 36]);
    extensions.extend(received.to_le_bytes());
    let block =
        [exporter(), map(5, &[4, 7, 8, 9, 11, 13, 14, 17, 20, 22, 27]), v4_flow(&extensions)];
    let (record, origin) = one(&file_v1(0, &[(block.concat(), 3)]));
    let number = |column| match record.value(column) {
        Some(Value::Unsigned(number)) => Some(number),
        Some(other) => panic!("{other:?}"),
        None => None,
    };
    assert_eq!(record.source_address().unwrap().to_string(), "192.0.2.1");
    assert_eq!(record.destination_address().unwrap().to_string(), "198.51.100.1");
    for (column, expected) in [
        (Column::SourceTransportPort, Some(443)),
        (Column::DestinationTransportPort, Some(50_000)),
        (Column::ProtocolIdentifier, Some(6)),
        (Column::TcpControlBits, Some(0x1b)),
        (Column::IpClassOfService, Some(0x20)),
        (Column::PacketDeltaCount, Some(11)),
        (Column::OctetDeltaCount, Some(2_200)),
        (Column::IngressInterface, Some(7)),
        (Column::EgressInterface, Some(8)),
        (Column::BgpSourceAsNumber, Some(64_512)),
        (Column::BgpDestinationAsNumber, Some(64_513)),
        (Column::FlowDirection, Some(1)),
        (Column::SourceIpv4PrefixLength, Some(24)),
        (Column::DestinationIpv4PrefixLength, Some(16)),
        (Column::SourceIpv6PrefixLength, None),
        (Column::VlanId, Some(30)),
        (Column::PostVlanId, Some(31)),
        (Column::ForwardingStatus, None),
    ] {
        assert_eq!(number(column), expected, "{column:?}");
    }
    assert_eq!(record.flow_start_milliseconds, 1_600_000_000_007);
    assert_eq!(record.flow_end_milliseconds, 1_600_000_010_009);
    assert_eq!(record.collection_time_milliseconds, 1_600_000_123_456);
    assert_eq!(record.ip_next_hop_ipv4_address, 0x0a00_0001);
    assert_eq!(record.source_mac_address, [0, 0x11, 0x22, 0x33, 0x44, 0x55]);
    assert_eq!(extra(&record, 0, 18), Some(&[10, 0, 0, 2][..]));
    assert_eq!(extra(&record, 0, 55), Some(&[0x28][..]));
    assert_eq!(extra(&record, 0, 24), Some(&5_u64.to_be_bytes()[..]));
    assert_eq!(extra(&record, 0, 23), Some(&600_u64.to_be_bytes()[..]));
    assert_eq!(extra(&record, 0, 70), Some(&[1, 0x23, 0x45][..]));
    assert_eq!(extra(&record, 0, 71), None);
    assert_eq!(extra(&record, 0, 57), None, "a MAC of zeros is none");
    assert_eq!(origin.address.to_string(), "192.0.2.9");
    assert_eq!((origin.domain, origin.protocol), (ObservationDomainId(17), Protocol::NetflowV9));
}

#[test]
fn a_wide_record_of_ipv6_has_wide_counters() {
    let mut rest = Vec::new();
    for half in [0x2001_0db8_0000_0000_u64, 1, 0x2001_0db8_0000_0000, 2, 1 << 40, 1 << 50] {
        rest.extend(half.to_le_bytes());
    }
    let block = [map(5, &[]), common(7, 58, [0, 0x8000], &rest)].concat();
    let (record, origin) = one(&file_v1(0, &[(block, 2)]));
    assert_eq!(record.source_address().unwrap().to_string(), "2001:db8::1");
    assert_eq!((record.packet_delta_count, record.octet_delta_count), (1 << 40, 1 << 50));
    assert_eq!(record.value(Column::IcmpTypeCodeIpv6), Some(Value::Unsigned(0x8000)));
    assert_eq!(record.value(Column::SourceTransportPort), None);
    // It says neither when it was received nor by whom.
    assert_eq!(record.collection_time_milliseconds, record.flow_end_milliseconds);
    assert_eq!(origin.address.to_string(), "0.0.0.0");
    assert_eq!(origin.protocol, Protocol::Imported);
}

#[test]
fn a_narrow_record_and_a_firewalls_event_are_read() {
    let wide = {
        let mut extensions = 1_600_000_011_000_u64.to_le_bytes().to_vec();
        extensions.extend(77_u32.to_le_bytes());
        extensions.extend([0, 0, 3, 0]);
        extensions.extend(1_001_u16.to_le_bytes());
        extensions.extend([0; 2]);
        extensions.extend([1_u16.to_le_bytes(), 2_u16.to_le_bytes()].concat());
        extensions.extend((0..24).map(|it| it as u8).collect::<Vec<_>>());
        v4_flow(&extensions)
    };
    // The narrow form has flags and exporter in an octet each and not the last four octets.
    let body = &wide[4..];
    let narrow = [&[0, 3], &body[2..24], &body[28..]].concat();
    let block = [exporter(), map(5, &[37, 38, 41]), record(1, &narrow)];
    let (record, origin) = one(&file_v1(0, &[(block.concat(), 3)]));
    assert_eq!(origin.domain, ObservationDomainId(17));
    assert_eq!(record.firewall_event, 3);
    assert_eq!((record.initiator_packets, record.initiator_octets), (11, 2_200));
    assert_eq!(record.value(Column::PacketDeltaCount), None);
    assert_eq!(extra(&record, 0, 323), Some(&1_600_000_011_000_u64.to_be_bytes()[..]));
    assert_eq!(extra(&record, 0, 148), Some(&77_u32.to_be_bytes()[..]));
    assert_eq!(extra(&record, 0, 227), Some(&1_u16.to_be_bytes()[..]));
    let (enterprise, id) = v9_element(33_002);
    assert_eq!(extra(&record, enterprise, id), Some(&1_001_u16.to_be_bytes()[..]));
    let (enterprise, id) = v9_element(33_000);
    assert_eq!(extra(&record, enterprise, id).unwrap()[..4], [3, 2, 1, 0]);
}

#[test]
fn what_has_no_place_is_counted_by_name() {
    let unknown = [map(5, &[8, 60, 13]), v4_flow(&[0; 8]), record(99, &[1, 2]), record(3, &[0; 4])];
    let (records, left, error) = read(&file_v1(0, &[(unknown.concat(), 4)]));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(records.len(), 1);
    let names: Vec<String> =
        left.parts.iter().map(|(name, count)| format!("{name}={count}")).collect();
    assert_eq!(names, ["extension 13=1", "extension 60=1", "histogram=1", "record of type 99=1"]);
}

#[test]
fn every_way_of_compression_gives_the_same() {
    let block = [map(5, &[]), v4_flow(&[])].concat();
    let plain = one(&file_v1(0, &[(block.clone(), 2)]));
    let mut bz2 = Vec::new();
    let level = bzip2::Compression::best();
    let mut encoder = bzip2::read::BzEncoder::new(block.as_slice(), level);
    std::io::Read::read_to_end(&mut encoder, &mut bz2).unwrap();
    assert_eq!(one(&file_v1(8, &[(bz2, 2)])), plain);
    let lz4 = lz4_flex::block::compress(&block);
    assert_eq!(one(&file_v1(16, &[(lz4, 2)])), plain);
    // Layout 2, which alone has zstd.
    let zstd = zstd::bulk::compress(&block, 3).unwrap();
    let mut file = vec![0x0c, 0xa5, 2, 0];
    file.extend([0; 12]);
    file.extend([4, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([0; 12]);
    file.extend(1_u32.to_le_bytes());
    file.extend(2_u32.to_le_bytes());
    file.extend(u32::try_from(zstd.len()).unwrap().to_le_bytes());
    file.extend([3, 0, 0, 0]);
    file.extend(zstd);
    assert_eq!(one(&file), plain);
}

#[test]
fn what_is_no_file_of_nfdump_is_told_apart() {
    let words = |octets: &[u8]| open(octets).unwrap_err().to_string();
    assert!(words(b"").contains("no file of nfdump"));
    assert!(words(b"\xa5\x0c\0\x01").contains("byte order"));
    assert!(words(b"\x0c\xa5\x03\0").contains("layout 3"));
    assert!(words(b"\x0c\xa5\x02\0abc").contains("offset 4"));
}

#[test]
fn what_stands_before_the_damage_is_read() {
    let flows = [map(5, &[]), v4_flow(&[]), v4_flow(&[])].concat();
    let whole = file_v1(0, &[(flows.clone(), 3), (flows.clone(), 3)]);
    let second = whole.len() - flows.len() - 12;
    let mut counts = Vec::new();
    for size in 0..=whole.len() {
        let (records, _, error) = read(&whole[..size]);
        assert_eq!(error.is_none(), size == whole.len(), "{size}");
        match error {
            Some(ImportError::Damaged { offset, .. }) if size > second => {
                assert_eq!(offset, second as u64);
            }
            _ => {}
        }
        counts.push(records.len());
    }
    assert!(counts.is_sorted());
    assert_eq!((counts[second], counts[whole.len() - 1], counts[whole.len()]), (2, 3, 4));
}

#[test]
fn a_block_says_too_much_of_itself_in_vain() {
    let mut file = file_v1(0, &[(Vec::new(), 1)]);
    let at = file.len() - 8;
    file[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let (_, _, error) = read(&file);
    assert!(error.unwrap().to_string().contains("larger than any"));
    // What expands without end is cut off.
    let bomb = zstd::bulk::compress(&vec![0; 20 << 20], 3).unwrap();
    let mut bz2 = Vec::new();
    let zeros = vec![0; 20 << 20];
    let mut encoder = bzip2::read::BzEncoder::new(zeros.as_slice(), bzip2::Compression::best());
    std::io::Read::read_to_end(&mut encoder, &mut bz2).unwrap();
    assert!(bz2.len() < 1 << 16 && bomb.len() < 1 << 16);
    let (_, _, error) = read(&file_v1(8, &[(bz2, 1)]));
    assert!(error.unwrap().to_string().contains("cannot be decompressed"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_octets_whatever_are_too_much(
        flags in prop::sample::select(vec![0_u32, 1, 8, 16]),
        octets in prop::collection::vec(any::<u8>(), 0..400),
        count in any::<u32>(),
    ) {
        drop(read(&file_v1(flags, &[(octets, count)])));
    }

    #[test]
    fn records_with_any_octet_changed_are_records_or_damage(
        at in 0_usize..300,
        octet in any::<u8>(),
        extensions in prop::collection::vec(0_u16..60, 0..12),
    ) {
        let block = [exporter(), map(5, &extensions), v4_flow(&[9; 200])].concat();
        let mut file = file_v1(0, &[(block, 3)]);
        let place = 276 + at;
        if let Some(changed) = file.get_mut(place) {
            *changed = octet;
        }
        let (records, _, _) = read(&file);
        prop_assert!(records.len() <= 3);
    }

    #[test]
    fn any_stream_of_lzo_ends(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(output) = lzo::decompress(&octets, 4_096) {
            prop_assert!(output.len() <= 4_096);
        }
    }
}
