//! The law of the index: an answer with it is the answer without it, whatever the store and the
//! filter; and it saves what it can.

use super::*;
use crate::archive::{ArchiveConfig, OpenStore, SegmentConfig, open_store};
use crate::model::{Column, FlowBatch, Value};
use crate::query::field::{AddressRole, Field, Pair};
use crate::query::filter::{Comparison, Expr, Prefix, Subject, Term, Test, addresses, exprs};
use crate::query::memory::{Stored, records};
use crate::query::{Limits, QueryRequest};
use crate::ring::RingConfig;
use crate::telemetry::Counter;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeSet;
use std::fs;
use std::io;

const NOW: UnixMillis = UnixMillis(1_772_356_500_000);

/// Where the records of a store lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Ring,
    Archive,
    Both,
}

/// What became of a file of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    Gone,
    Cut(usize),
    Flipped(usize),
    /// Another file of the index lies in its place.
    Swapped,
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Whole),
        1 => Just(Fate::Gone),
        1 => any::<usize>().prop_map(Fate::Cut),
        2 => any::<usize>().prop_map(Fate::Flipped),
        1 => Just(Fate::Swapped),
    ]
}

fn ring_config() -> RingConfig {
    RingConfig { block_rows: 64, stripe_rows: 32, ..RingConfig::default() }
}

fn open(path: &Path) -> OpenStore {
    let segment = SegmentConfig { row_group_rows: 8, ..SegmentConfig::default() };
    let config =
        ArchiveConfig { segment, segment_rows_max: 24, ..ArchiveConfig::for_ring(&ring_config()) };
    open_store(path, ring_config(), config).unwrap()
}

/// Makes a store of some records; each chunk is archived by itself.
fn store(path: &Path, stored: &[Stored], place: Where) {
    let OpenStore { ring, mut archiver, .. } = open(path);
    let mut writer = ring.writer(0, NOW).unwrap();
    let chunks: Vec<&[Stored]> = stored.chunks(40).collect();
    for (index, chunk) in chunks.iter().enumerate() {
        let mut batch = FlowBatch::new();
        for (row, Stored { record, origin }) in chunk.iter().enumerate() {
            let mut record = record.clone();
            record.collection_time_milliseconds = NOW.0 + row as i64;
            record.present.insert(Column::CollectionTimeMilliseconds);
            let shape = Arc::new(FlowBatch::shape_of(&record));
            batch.push(&record, &shape, &Arc::new(origin.clone()));
        }
        assert_eq!(writer.append(&batch).rows, chunk.len() as u64);
        let stays = match place {
            Where::Ring => true,
            Where::Archive => false,
            Where::Both => index + 1 == chunks.len(),
        };
        if !stays {
            writer.seal_all().unwrap();
            archiver.finish(|| NOW, UnixMillis(i64::MAX)).unwrap();
        }
        // The last may be beside the ledger.
        if index % 2 == 0 {
            while archiver.advance_ledger(None, &|| true).unwrap() {}
        }
    }
}

/// All of a store.
fn open_all(path: &Path) -> StoreSource {
    let all = Probes::new(&Expr::all(Vec::new()));
    assert!(all.is_true());
    StoreSource::open_for(path, TimeRange::default(), &all).unwrap()
}

/// The files of a store's index.
fn index_files(store: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![store.join("index")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { directories.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

fn damage(store: &Path, fates: &[Fate]) {
    let files = index_files(store);
    for (index, (file, fate)) in files.iter().zip(fates).enumerate() {
        let mut bytes = fs::read(file).unwrap();
        match *fate {
            Fate::Whole => continue,
            Fate::Gone => {
                fs::remove_file(file).unwrap();
                continue;
            }
            Fate::Cut(at) => bytes.truncate(at % bytes.len().max(1)),
            Fate::Flipped(at) => {
                let at = at % bytes.len().max(1);
                bytes[at] ^= 1 << (index % 8);
            }
            Fate::Swapped => {
                let Ok(others) = fs::read(&files[(index + 1) % files.len()]) else { continue };
                bytes = others;
            }
        }
        fs::write(file, bytes).unwrap();
    }
}

/// A source that counts what is read, with the index or without it.
struct Counting<'a> {
    source: &'a StoreSource,
    is_indexed: bool,
    reads: Counter,
}

impl Source for Counting<'_> {
    fn part_count(&self) -> usize {
        self.source.part_count()
    }

    fn part_rows(&self, part: usize) -> usize {
        self.source.part_rows(part)
    }

    fn part_time_range(&self, part: usize) -> Option<(i64, i64)> {
        self.source.part_time_range(part)
    }

    fn part_may_match(&self, part: usize, probes: &Probes) -> bool {
        !self.is_indexed || self.source.part_may_match(part, probes)
    }

    fn read(&self, part: usize, columns: &[usize]) -> Result<RecordBatch, SourceError> {
        self.reads.add(1);
        self.source.read(part, columns)
    }

    fn coverage(&self) -> Coverage {
        self.source.coverage()
    }
}

#[derive(Default)]
struct Lines(Vec<String>);

impl Sink for Lines {
    fn row(&mut self, row: &[(&str, Value<'_>)]) -> io::Result<()> {
        self.0.push(format!("{row:?}"));
        Ok(())
    }
}

/// The rows of an answer, and how often something was read for it.
fn answer(
    source: &StoreSource,
    filter: &str,
    summary: bool,
    is_indexed: bool,
) -> (Vec<String>, u64) {
    let request =
        QueryRequest { filter: Some(filter.to_owned()), summary, ..QueryRequest::default() };
    let limits = Limits { workers: 2, ..Limits::default() };
    let plan = Plan::new(&request, NOW).unwrap().with_limits(limits);
    let source = Counting { source, is_indexed, reads: Counter::new() };
    let mut lines = Lines::default();
    crate::query::run(&plan, &source, &Flag::default(), &mut lines).unwrap();
    (lines.0, source.reads.value())
}

const PORTS: [u64; 4] = [53, 80, 443, 40_000];

/// Records whose ports and protocols filters meet.
fn stored() -> impl Strategy<Value = Stored> {
    let met = (select(PORTS.to_vec()), select(PORTS.to_vec()), select(vec![1_u8, 6, 17, 132]));
    (records(), met, any::<[bool; 3]>()).prop_map(|(mut stored, (one, other, protocol), is_met)| {
        let record = &mut stored.record;
        if is_met[0] {
            record.source_transport_port = u16::try_from(one).unwrap();
            record.present.insert(Column::SourceTransportPort);
        }
        if is_met[1] {
            record.destination_transport_port = u16::try_from(other).unwrap();
            record.present.insert(Column::DestinationTransportPort);
        }
        if is_met[2] {
            record.protocol_identifier = protocol;
            record.present.insert(Column::ProtocolIdentifier);
        }
        stored
    })
}

/// Conditions of the kinds that the index knows, and their like.
fn indexed_terms() -> impl Strategy<Value = Expr> {
    let sides = select(vec![
        Subject::Either(Pair::Ip),
        Subject::Both(Pair::Ip),
        Subject::Field(Field::Address(AddressRole::Source)),
        Subject::Field(Field::Address(AddressRole::Destination)),
        Subject::Field(Field::Address(AddressRole::NextHop)),
        Subject::Field(Field::Column(Column::DestinationIpv6Address)),
    ]);
    let lengths = vec![8_u8, 14, 16, 21, 24, 29, 32, 44, 48, 62, 64, 126, 128];
    let prefix = (addresses(), select(lengths)).prop_map(|(address, length)| {
        let length = if address.is_ipv4() { length.min(32) } else { length };
        Prefix::new(address, length).unwrap()
    });
    let prefix = prop_oneof![2 => addresses().prop_map(Prefix::single), 1 => prefix];
    let negated = proptest::bool::weighted(0.1);
    let address = (sides, vec(prefix, 1..3), negated).prop_map(|(subject, prefixes, negated)| {
        Term::Test(subject, Test::Addresses { prefixes, negated })
    });
    let sides = select(vec![
        Subject::Either(Pair::Port),
        Subject::Both(Pair::Port),
        Subject::Field(Field::Column(Column::DestinationTransportPort)),
    ]);
    let comparison = select(vec![Comparison::Equal, Comparison::Equal, Comparison::Less]);
    let port = (sides, comparison, select(PORTS.to_vec()))
        .prop_map(|(subject, it, port)| Term::Test(subject, Test::Number(it, port)));
    let protocol = select(vec![6_u64, 17, 132]).prop_map(|number| {
        let field = Field::Column(Column::ProtocolIdentifier);
        Term::Test(Subject::Field(field), Test::Number(Comparison::Equal, number))
    });
    let flags = Just(Term::Flags { mask: 2, bits: 0 });
    prop_oneof![4 => address, 3 => port, 1 => protocol, 1 => flags].prop_map(Expr::Term)
}

fn filters() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![5 => indexed_terms(), 1 => exprs()];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            1 => inner.clone().prop_map(Expr::negated),
            3 => vec(inner.clone(), 2..4).prop_map(Expr::all),
            2 => vec(inner, 2..4).prop_map(Expr::any),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn an_answer_with_the_index_is_that_of_a_full_scan(
        stored in vec(stored(), 0..200),
        place in select(vec![Where::Ring, Where::Archive, Where::Both]),
        fates in vec(fates(), 16),
        filters in vec(filters(), 16),
    ) {
        let directory = tempfile::tempdir().unwrap();
        store(directory.path(), &stored, place);
        damage(directory.path(), &fates);
        let source = open_all(directory.path());
        for filter in filters {
            let text = filter.to_string();
            let range = TimeRange::default();
            let pruned =
                StoreSource::open_for(directory.path(), range, &Probes::new(&filter)).unwrap();
            prop_assert_eq!(pruned.coverage(), source.coverage());
            for summary in [false, true] {
                let (rows, reads) = answer(&pruned, &text, summary, true);
                let (all_rows, all_reads) = answer(&source, &text, summary, false);
                prop_assert_eq!(rows, all_rows, "{}", text);
                prop_assert!(reads <= all_reads);
            }
        }
    }
}

/// A segment of several row groups, each of several pieces that have a checksum of their own.
fn great_segment(path: &Path) -> PathBuf {
    const ROWS: u64 = 40_000;
    let segment = SegmentConfig { row_group_rows: 8_192, ..SegmentConfig::default() };
    let ring_config = RingConfig::default();
    let config = ArchiveConfig { segment, ..ArchiveConfig::for_ring(&ring_config) };
    let OpenStore { ring, mut archiver, .. } = open_store(path, ring_config, config).unwrap();
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut batch = FlowBatch::new();
    let origin = Arc::new(crate::model::Origin {
        address: "192.0.2.9".parse().unwrap(),
        domain: ObservationDomainId(7),
        protocol: crate::model::Protocol::NetflowV9,
    });
    let mut number = 1_u64;
    for row in 0..ROWS {
        // Numbers that compress badly (Knuth's multiplier), so that there are pieces enough.
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(row);
        let mut record = crate::model::FlowRecord {
            collection_time_milliseconds: NOW.0 + row as i64,
            source_ipv4_address: (number >> 32) as u32,
            octet_delta_count: number >> 24,
            packet_delta_count: number >> 40,
            ..Default::default()
        };
        for column in [
            Column::CollectionTimeMilliseconds,
            Column::SourceIpv4Address,
            Column::OctetDeltaCount,
            Column::PacketDeltaCount,
        ] {
            record.present.insert(column);
        }
        let shape = Arc::new(FlowBatch::shape_of(&record));
        if batch.room() == 0 {
            writer.append(&batch);
            batch.clear();
        }
        batch.push(&record, &shape, &origin);
    }
    writer.append(&batch);
    writer.seal_all().unwrap();
    archiver.finish(|| NOW, UnixMillis(i64::MAX)).unwrap();
    let snapshot = StoreSnapshot::open(path).unwrap();
    assert_eq!(snapshot.segments.len(), 1);
    assert_eq!(snapshot.segments[0].row_group_count(), 5);
    snapshot.segments[0].path().to_owned()
}

#[test]
fn of_a_damaged_segment_each_record_is_in_the_answer_or_counted_as_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let segment = great_segment(directory.path());
    let intact = fs::read(&segment).unwrap();
    let plan = Plan::new(&QueryRequest::default(), NOW).unwrap();
    let ask = || {
        let source = open_all(directory.path());
        let mut lines = Lines::default();
        let never = Flag::default();
        around_damage(&source, &mut lines, |sink| crate::query::run(&plan, &source, &never, sink))
            .unwrap();
        (lines.0, source.records_left_out())
    };
    let (all, left_out) = ask();
    assert_eq!((all.len(), left_out), (40_000, 0));
    let mut counts = BTreeSet::new();
    // Two octets at a time: where one is seen only because the other is, nothing is forgotten.
    for step in 0..24 {
        let mut octets = intact.clone();
        for part in [step, step * 7 + 3] {
            let at = octets.len() / 24 * (part % 24) + 100;
            octets[at] ^= 1;
        }
        fs::write(&segment, octets).unwrap();
        let (found, left_out) = ask();
        assert_eq!(found.len() as u64 + left_out, 40_000, "step {step}");
        let mut rest = all.iter();
        assert!(found.iter().all(|row| rest.any(|it| it == row)), "step {step}: another row");
        counts.insert(left_out);
    }
    assert!(counts.len() > 2, "{counts:?}");
}

/// Appends records, archives them by some hundreds and merges segments, again and again.
fn write_on(path: &Path, stored: &[Stored], done: &Flag) {
    let OpenStore { ring, mut archiver, .. } = open(path);
    let mut writer = ring.writer(0, NOW).unwrap();
    for (index, chunk) in stored.chunks(16).enumerate() {
        let mut batch = FlowBatch::new();
        for Stored { record, origin } in chunk {
            let mut record = record.clone();
            record.collection_time_milliseconds = NOW.0;
            record.present.insert(Column::CollectionTimeMilliseconds);
            let shape = Arc::new(FlowBatch::shape_of(&record));
            batch.push(&record, &shape, &Arc::new(origin.clone()));
        }
        assert_eq!(writer.append(&batch).rows, chunk.len() as u64);
        if index % 4 == 3 {
            writer.seal_all().unwrap();
            archiver.finish(|| NOW, UnixMillis(i64::MAX)).unwrap();
        }
        if index % 12 == 11 {
            // Hours that are over are merged.
            archiver.merge_all(UnixMillis(NOW.0 + 7_200_000), &|| true).unwrap();
        }
    }
    done.raise();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn an_answer_with_the_index_is_that_of_a_full_scan_while_a_writer_is_at_it(
        stored in vec(stored(), 300..500),
        filters in vec(filters(), 8),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (path, done) = (directory.path(), Flag::default());
        drop(open(path));
        let held = std::thread::scope(|scope| {
            scope.spawn(|| write_on(path, &stored, &done));
            let mut held = 0;
            // Once more after the last record.
            let mut is_last = false;
            while !is_last {
                is_last = done.is_raised();
                let source = open_all(path);
                for filter in &filters {
                    let text = filter.to_string();
                    let (rows, _) = answer(&source, &text, false, true);
                    let (all_rows, _) = answer(&source, &text, false, false);
                    prop_assert_eq!(rows, all_rows, "{}", text);
                }
                let (all, _) = answer(&source, "any", false, true);
                prop_assert!(all.len() >= held, "{} after {}", all.len(), held);
                prop_assert_eq!(source.coverage().damage, Vec::<String>::new());
                held = all.len();
            }
            Ok(held)
        })?;
        prop_assert_eq!(held, stored.len());
    }
}

/// A store of one segment of many row groups, each with addresses of its own.
fn distinct_store(path: &Path) {
    let OpenStore { ring, mut archiver, .. } = open(path);
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut batch = FlowBatch::new();
    let origin = Arc::new(crate::model::Origin {
        address: "192.0.2.9".parse().unwrap(),
        domain: ObservationDomainId(7),
        protocol: crate::model::Protocol::NetflowV9,
    });
    for row in 0..240_u32 {
        let mut record = crate::model::FlowRecord::default();
        let (group, host) = (row / 8, row % 8);
        record.set_source_address(
            std::net::Ipv4Addr::from_bits(0x0a00_0000 | group << 8 | host).into(),
        );
        record.set_destination_address("192.0.2.77".parse().unwrap());
        record.destination_transport_port = if group == 3 { 22 } else { 443 };
        record.protocol_identifier = 6;
        record.collection_time_milliseconds = NOW.0;
        for column in [
            Column::DestinationTransportPort,
            Column::ProtocolIdentifier,
            Column::CollectionTimeMilliseconds,
        ] {
            record.present.insert(column);
        }
        let shape = Arc::new(FlowBatch::shape_of(&record));
        batch.push(&record, &shape, &origin);
    }
    writer.append(&batch);
    writer.seal_all().unwrap();
    archiver.finish(|| NOW, UnixMillis(i64::MAX)).unwrap();
}

#[test]
fn only_row_groups_that_may_match_are_read() {
    let directory = tempfile::tempdir().unwrap();
    distinct_store(directory.path());
    let source = open_all(directory.path());
    assert_eq!(source.part_count(), 30);
    for (filter, groups) in [
        ("host 198.51.100.1", 0),
        ("net 198.51.100.0/24", 0),
        ("host 2001:db8::1", 0),
        ("host 10.0.3.7", 1),
        ("net 10.0.6.0/23", 2),
        ("host 192.0.2.77 and port 22", 1),
        ("host 192.0.2.77 and port 22 and proto udp", 0),
        ("src 10.0.4.1 or src 10.0.9.1", 2),
        ("host 192.0.2.77 and port 40000", 30),
        ("any", 30),
    ] {
        let (_, reads) = answer(&source, filter, true, true);
        // Each part is read once for the filter, and once more for its sums where it matches.
        let (_, all) = answer(&source, filter, true, false);
        assert!(reads <= all);
        let asked = (0..30).filter(|&part| {
            let expr = crate::query::filter::parse(filter, NOW).unwrap().expr;
            let probes = Probes::new(&expr);
            source.part_may_match(part, &probes)
        });
        assert_eq!(asked.count(), groups, "{filter}");
        if groups == 0 {
            assert_eq!(reads, 0, "{filter}");
        }
    }
}
