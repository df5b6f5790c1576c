//! Captures through reader and meter: what flows they hold.
//!
//! `test-pcaps` are held against the records that their maker wrote down for them, to the last
//! field; the corpus beside the workspace, where there is one, by sums per key.

use flowd::flow::{Books, Meter, MeterConfig};
use flowd::model::{Column, FlowRecord, Value};
use flowd::probe::{CaptureError, CaptureFile};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What metering a capture gave.
struct Metered {
    records: Vec<FlowRecord>,
    books: Books,
    error: Option<CaptureError>,
}

fn meter(path: &Path, config: &MeterConfig) -> Metered {
    let mut meter = Meter::new(config);
    let mut records = Vec::new();
    let error = CaptureFile::open(path)
        .and_then(|file| {
            file.packets()?
                .try_for_each(|packet| packet.map(|packet| meter.observe(&packet, &mut records)))
        })
        .err();
    meter.finish(&mut records);
    let books = meter.books().clone();
    assert_eq!(books.packets_seen, books.accounted.packets + books.refused_total());
    assert_eq!(books.accounted, books.recorded, "{}", path.display());
    assert_eq!(books.records_total(), records.len() as u64);
    Metered { records, books, error }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The captures of `test-pcaps`, by name.
fn test_pcaps() -> Vec<PathBuf> {
    let directory = workspace().join("test-pcaps");
    let entries = std::fs::read_dir(directory).expect("test-pcaps is part of the workspace");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a directory that can be read").path())
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("pcap" | "pcapng"))
        })
        .collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("test captures have plain names")
}

fn expected_text(path: &Path, suffix: &str) -> String {
    let expected = workspace().join("test-pcaps/expected").join(format!("{}{suffix}", name(path)));
    std::fs::read_to_string(&expected)
        .expect("every test capture has its expected files: `cargo xtask pcaps` makes them")
}

/// A record as the guide has it in JSON: element names, numbers bare, all else as text.
fn json_record(record: &FlowRecord) -> Json {
    let fields: Map<String, Json> = record
        .present
        .iter()
        .filter_map(|column| Some((column, record.value(column)?)))
        .map(|(column, value)| {
            let json = match value {
                Value::Unsigned(number) => json!(number),
                text => json!(text.to_string()),
            };
            (column.name().to_owned(), json)
        })
        .collect();
    Json::Object(fields)
}

#[test]
fn test_captures_give_exactly_the_records_that_were_written_down() {
    let paths = test_pcaps();
    assert!(paths.len() >= 40, "{} test captures", paths.len());
    for path in paths {
        let metered = meter(&path, &MeterConfig::default());
        let got: Vec<Json> = metered.records.iter().map(json_record).collect();
        let want: Vec<Json> = expected_text(&path, ".json")
            .lines()
            .map(|line| serde_json::from_str(line).expect("a JSON object a line"))
            .collect();
        for (index, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got, want, "record {index} of {}", name(&path));
        }
        assert_eq!(got.len(), want.len(), "records of {}", name(&path));
    }
}

#[test]
fn test_captures_give_exactly_the_books_that_were_written_down() {
    for path in test_pcaps() {
        let Metered { books, error, .. } = meter(&path, &MeterConfig::default());
        let refused: Map<String, Json> = books
            .refusals()
            .map(|(reason, count)| (reason.name().to_owned(), json!(count)))
            .collect();
        let mut got = json!({
            "packetsSeen": books.packets_seen,
            "accountedPackets": books.accounted.packets,
            "accountedOctets": books.accounted.octets,
            "refused": refused,
        });
        match error {
            None => {}
            Some(CaptureError::Damaged { offset, .. }) => got["damagedAt"] = json!(offset),
            Some(other) => panic!("{}: {other}", name(&path)),
        }
        let want: Json =
            serde_json::from_str(&expected_text(&path, ".books.json")).expect("one JSON object");
        assert_eq!(got, want, "{}", name(&path));
    }
}

/// What libpcap reads: time in nanoseconds, length on the wire, octets; until its first error.
fn libpcap_packets(path: &Path) -> Vec<(i64, u32, Vec<u8>)> {
    let mut capture = pcap::Capture::from_file_with_precision(path, pcap::Precision::Nano)
        .expect("a capture that libpcap reads");
    let mut packets = Vec::new();
    while let Ok(packet) = capture.next_packet() {
        // With this precision the field of microseconds holds nanoseconds.
        let nanos = packet.header.ts.tv_sec * 1_000_000_000 + packet.header.ts.tv_usec;
        packets.push((nanos, packet.header.len, packet.data.to_vec()));
    }
    packets
}

#[test]
fn test_captures_read_as_libpcap_reads_them() {
    let mut packet_count = 0;
    for path in test_pcaps() {
        let mut theirs = libpcap_packets(&path);
        let file = CaptureFile::open(&path).expect("a file that is there");
        let packets = file.packets().expect("a capture file");
        let mut ours: Vec<_> = packets
            .filter_map(Result::ok)
            .map(|packet| (packet.time_nanos, packet.wire_size, packet.data.to_vec()))
            .collect();
        match name(&path) {
            // libpcap stops where an interface has another link type than the first.
            "multi-interface.pcapng" => {
                assert_eq!((theirs.len(), ours.len()), (1, 4));
                ours.truncate(theirs.len());
            }
            // libpcap stops where a section has another byte order than the first.
            "multi-section.pcapng" => {
                assert_eq!((theirs.len(), ours.len()), (1, 2));
                ours.truncate(theirs.len());
            }
            // libpcap gives 1970 to a simple packet, which has no time.
            "old-blocks.pcapng" => {
                assert_eq!((theirs[1].0, ours[1].0), (0, ours[0].0));
                theirs[1].0 = ours[1].0;
            }
            _ => {}
        }
        assert_eq!(ours, theirs, "{}", name(&path));
        packet_count += ours.len();
    }
    assert!(packet_count > 20_000, "{packet_count} packets");
}

fn number(record: &FlowRecord, column: Column) -> Option<u64> {
    match record.value(column)? {
        Value::Unsigned(number) => Some(number),
        _ => None,
    }
}

/// Source, destination, protocol, ports.
type Key = (String, String, u64, u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sums {
    packets: u64,
    octets: u64,
    tcp_control_bits: u64,
    first_millis: i64,
    last_millis: i64,
}

impl Sums {
    fn merge(&mut self, other: Self) {
        self.packets += other.packets;
        self.octets += other.octets;
        self.tcp_control_bits |= other.tcp_control_bits;
        self.first_millis = self.first_millis.min(other.first_millis);
        self.last_millis = self.last_millis.max(other.last_millis);
    }
}

struct Expected {
    class: String,
    sums: BTreeMap<Key, Sums>,
    has_later_fragments: bool,
}

fn expected_sums(path: &Path) -> Option<Expected> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut expected =
        Expected { class: "strict".to_owned(), sums: BTreeMap::new(), has_later_fragments: false };
    for line in text.lines() {
        if let Some(class) = line.strip_prefix("# class:") {
            let word = class.split_whitespace().next().expect("a class");
            expected.class = word.trim_end_matches([';', ',']).to_owned();
        }
        if line.starts_with('#') {
            continue;
        }
        let cells: Vec<&str> = line.split('\t').collect();
        let cell = |index: usize| cells[index].parse::<u64>().expect("a number");
        let address = |index: usize| {
            let address: std::net::IpAddr = cells[index].parse().expect("an address");
            address.to_string()
        };
        let key = (address(0), address(1), cell(2), cell(3), cell(4));
        // One capture has times of the year 151,993; nanoseconds in 64 bits end in 2262.
        let millis = |index: usize| match cells[index].parse::<i64>() {
            Ok(nanos) => nanos.div_euclid(1_000_000),
            Err(_) => i64::MAX / 1_000_000,
        };
        let sums = Sums {
            packets: cell(5),
            octets: cell(6),
            tcp_control_bits: cell(8),
            first_millis: millis(9),
            last_millis: millis(10),
        };
        expected.sums.insert(key, sums);
        expected.has_later_fragments |= cell(13) > 0;
    }
    Some(expected)
}

fn sums(records: &[FlowRecord]) -> BTreeMap<Key, Sums> {
    let mut sums = BTreeMap::<Key, Sums>::new();
    for record in records {
        let of = |column| number(record, column).unwrap_or(0);
        let key = (
            record.source_address().expect("present").to_string(),
            record.destination_address().expect("present").to_string(),
            of(Column::ProtocolIdentifier),
            of(Column::SourceTransportPort),
            of(Column::DestinationTransportPort),
        );
        let sum = Sums {
            packets: of(Column::PacketDeltaCount),
            octets: of(Column::OctetDeltaCount),
            tcp_control_bits: of(Column::TcpControlBits),
            first_millis: record.flow_start_milliseconds,
            last_millis: record.flow_end_milliseconds,
        };
        sums.entry(key).and_modify(|known| known.merge(sum)).or_insert(sum);
    }
    sums
}

/// Later fragments may stand under their first one's ports or under none: sums per pair of
/// addresses and protocol are the same either way.
fn folded(sums: &BTreeMap<Key, Sums>) -> BTreeMap<Key, Sums> {
    let mut folded = BTreeMap::<Key, Sums>::new();
    for ((source, destination, protocol, _, _), sum) in sums {
        let key = (source.clone(), destination.clone(), *protocol, 0, 0);
        folded.entry(key).and_modify(|known| known.merge(*sum)).or_insert(*sum);
    }
    folded
}

#[expect(clippy::print_stderr, reason = "says why the test is skipped")]
fn corpus() -> Option<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    if corpus.is_dir() {
        return Some(corpus);
    }
    eprintln!("skipped: there is no corpus at {}", corpus.display());
    None
}

#[test]
fn corpus_traces_give_the_sums_that_two_other_parsers_give() {
    let Some(corpus) = corpus() else { return };
    let mut failures = Vec::new();
    let (mut strict_count, mut other_count) = (0, 0);
    for entry in std::fs::read_dir(corpus.join("traces")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let metered = meter(&path, &MeterConfig::default());
        let Some(expected) = expected_sums(&corpus.join(format!("expected/{name}.flows.tsv")))
        else {
            other_count += 1;
            continue;
        };
        let got = sums(&metered.records);
        let (want, got) = if expected.has_later_fragments {
            (folded(&expected.sums), folded(&got))
        } else {
            (expected.sums, got)
        };
        let differs = want.keys().chain(got.keys()).find(|key| want.get(*key) != got.get(*key));
        let note = differs.map(|key| {
            format!(
                "{} {name}: {key:?} want {:?} got {:?}; refused {:?}; {:?}",
                expected.class,
                want.get(key),
                got.get(key),
                metered.books.refusals().collect::<Vec<_>>(),
                metered.error
            )
        });
        if expected.class == "strict" {
            strict_count += 1;
            failures.extend(note);
        } else {
            other_count += 1;
            if let Some(note) = note {
                eprintln!("{note}");
            }
        }
    }
    eprintln!("{strict_count} strict traces, {other_count} others");
    assert!(strict_count > 0);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
