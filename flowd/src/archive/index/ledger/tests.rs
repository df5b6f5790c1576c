//! What a ledger knows is what the segments hold, through merging, expiry, damage and kills; and
//! it denies nothing else.

use super::*;
use crate::archive::retention_tests::DAY;
use crate::archive::store_tests::{archive_config, open, ring_config};
use crate::archive::{
    ArchiveConfig, Archiver, OpenStore, Retention, StoreSnapshot, open_store, reindex, verify,
};
use crate::model::time::{HOUR_MILLIS, UnixMillis};
use crate::model::{Column, FlowBatch, FlowRecord, ObservationDomainId, Origin, Protocol};
use crate::ring::ShardWriter;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::Arc;

/// A midnight three days before a window ends.
const BEGIN_DAY: i64 = 620 * WINDOW_DAYS - 3;
const NOW: UnixMillis = UnixMillis(BEGIN_DAY * DAY);

/// A record: its hour after the beginning, its addresses, octets in both directions, and
/// whether it tells of times and packets.
#[derive(Clone, Debug)]
struct Met {
    hour: i64,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    octets: [Option<u64>; 2],
    times: Option<(i64, i64)>,
    packets: Option<u64>,
}

/// The addresses that records have.
fn hosts() -> Vec<IpAddr> {
    let hosts = ["10.0.0.1", "10.0.0.200", "10.0.1.1", "10.9.0.1", "0.0.0.0", "255.255.255.255"];
    let hosts = hosts.into_iter().chain(["::", "::a00:1", "2001:db8::1", "2001:db8:0:1::1"]);
    hosts.map(|text| text.parse().unwrap()).collect()
}

fn met() -> impl Strategy<Value = Met> {
    let octets = proptest::option::of(prop_oneof![4 => 0..9_999_u64, 1 => Just(u64::MAX / 2)]);
    let address = || proptest::option::weighted(0.9, select(hosts()));
    let times = proptest::option::of((-9_999..9_999_i64, -9_999..9_999_i64));
    let amounts = [octets.clone().boxed(), octets.clone().boxed()];
    (0..150_i64, address(), address(), amounts, times, octets).prop_map(
        |(hour, source, destination, octets, times, packets)| {
            let times = times.map(|(start, end)| (NOW.0 + start, NOW.0 + end));
            Met { hour, source, destination, octets, times, packets }
        },
    )
}

impl Met {
    fn received(&self) -> i64 {
        NOW.0 + self.hour * HOUR_MILLIS + 7
    }

    fn record(&self) -> FlowRecord {
        let mut record = FlowRecord::default();
        self.source.into_iter().for_each(|address| record.set_source_address(address));
        self.destination.into_iter().for_each(|address| record.set_destination_address(address));
        record.collection_time_milliseconds = self.received();
        record.present.insert(Column::CollectionTimeMilliseconds);
        if let Some(octets) = self.octets[0] {
            record.octet_delta_count = octets;
            record.present.insert(Column::OctetDeltaCount);
        }
        if let Some(octets) = self.octets[1] {
            record.reverse_octet_delta_count = octets;
            record.present.insert(Column::ReverseOctetDeltaCount);
        }
        if let Some(packets) = self.packets {
            record.packet_total_count = packets;
            record.present.insert(Column::PacketTotalCount);
        }
        if let Some((start, end)) = self.times {
            record.flow_start_milliseconds = start;
            record.flow_end_milliseconds = end;
            record.present.insert(Column::FlowStartMilliseconds);
            record.present.insert(Column::FlowEndMilliseconds);
        }
        record
    }
}

/// What records say of an address, added up one by one.
fn expected(records: &[Met], address: IpAddr) -> Option<Host> {
    let mut host = Host::default();
    let mut days = BTreeSet::new();
    for met in records {
        let [forward, reverse] = met.octets.map(Option::unwrap_or_default);
        let octets = forward.saturating_add(reverse);
        let sums = Sums { flows: 1, packets: met.packets.unwrap_or_default(), octets };
        let (start, end) = met.times.unwrap_or_else(|| (met.received(), met.received()));
        for (it, sum) in [(met.source, &mut host.source), (met.destination, &mut host.destination)]
        {
            if it == Some(address) {
                host.is_saturated |= sum.add(sums);
                let (first, last) = host.times.unwrap_or((i64::MAX, i64::MIN));
                host.times = Some((first.min(start).min(end), last.max(start).max(end)));
                days.insert(met.received().div_euclid(DAY));
            }
        }
    }
    host.days = days.len() as u64;
    (host.days > 0).then_some(host)
}

fn append(writer: &mut ShardWriter, records: &[Met]) {
    let origin = Arc::new(Origin {
        address: "192.0.2.9".parse().unwrap(),
        domain: ObservationDomainId(7),
        protocol: Protocol::NetflowV9,
    });
    // A batch an hour: a block of the ring holds no more.
    for met in records {
        let mut batch = FlowBatch::new();
        let record = met.record();
        let shape = Arc::new(FlowBatch::shape_of(&record));
        batch.push(&record, &shape, &origin);
        assert_eq!(writer.append(&batch).rows, 1);
    }
}

fn archive(path: &Path, records: &[Met]) -> Archiver {
    let OpenStore { ring, mut archiver, .. } = open(path);
    let mut writer = ring.writer(0, NOW).unwrap();
    append(&mut writer, records);
    writer.seal_all().unwrap();
    archiver.finish(|| NOW, UnixMillis(i64::MAX)).unwrap();
    archiver
}

fn catch_up(archiver: &mut Archiver) {
    while archiver.advance_ledger(None, &|| true).unwrap() {}
}

fn ledger(path: &Path) -> Ledger {
    Ledger::open(&path.join("archive")).unwrap()
}

/// Is a question for one key denied of each segment of a store that the ledger covers?
fn denied(path: &Path, key: IndexKey) -> bool {
    let snapshot = StoreSnapshot::open(path).unwrap();
    let answer = Ledger::open(&path.join("archive")).unwrap_or_default().ask(|has| has(key));
    snapshot.segments.iter().all(|segment| answer.denies(segment.entry()))
}

/// What is done to a store between two lots of records.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The ledger takes in what there is.
    CatchUp,
    /// The ledger takes in one lot of it.
    Once,
    /// Slivers are merged, whether the ledger has them or not.
    Merge,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn hosts_are_the_sums_of_their_records_and_days_without_them_are_denied(
        lots in vec((vec(met(), 0..30), vec(select(vec![Step::CatchUp, Step::Once, Step::Merge]), 0..3)), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Vec::new();
        for (lot, steps) in lots {
            let mut archiver = archive(dir.path(), &lot);
            records.extend(lot);
            for step in steps {
                match step {
                    Step::CatchUp => catch_up(&mut archiver),
                    Step::Once => drop(archiver.advance_ledger(None, &|| true).unwrap()),
                    Step::Merge => drop(archiver.merge_all(NOW, &|| true).unwrap()),
                }
            }
        }
        catch_up(&mut archive(dir.path(), &[]));
        prop_assert_eq!(verify(dir.path()).unwrap().findings, []);
        let snapshot = StoreSnapshot::open(dir.path()).unwrap();
        let found = ledger(dir.path());
        prop_assert!(snapshot.segments.iter().all(|segment| found.covers(segment.entry())));
        for host in hosts() {
            prop_assert_eq!(found.host(host).unwrap(), expected(&records, host), "{}", host);
            for key in [
                IndexKey::Address(host),
                IndexKey::Network(host, super::super::NetworkSize::Large),
            ] {
                let answer = ledger(dir.path()).ask(|has| has(key));
                for segment in &snapshot.segments {
                    let day = day_of(segment.entry());
                    let is_there = records.iter().any(|met| {
                        let is_in = |it: IpAddr| match key {
                            IndexKey::Network(..) => {
                                let length = if host.is_ipv4() { 16 } else { 48 };
                                HostKey::network(it, length) == HostKey::network(host, length)
                            }
                            _ => it == host,
                        };
                        met.received().div_euclid(DAY) == day
                            && [met.source, met.destination].into_iter().flatten().any(is_in)
                    });
                    prop_assert_eq!(answer.denies(segment.entry()), !is_there, "{:?}", key);
                }
            }
        }
    }
}

/// Records of one host each day, for some days.
fn daily(days: i64) -> Vec<Met> {
    let met = |day: i64| Met {
        hour: day * 24 + 5,
        source: Some(IpAddr::from([10, 0, 0, day as u8])),
        destination: Some("192.0.2.77".parse().unwrap()),
        octets: [Some(100), None],
        times: None,
        packets: None,
    };
    (0..days).map(met).collect()
}

fn files(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path.join("index/ledger")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_is_damaged_denies_nothing_is_found_and_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let records = daily(5);
    catch_up(&mut archive(dir.path(), &records));
    let there = "192.0.2.77".parse().unwrap();
    let stranger = IndexKey::Address("198.51.100.1".parse().unwrap());
    assert!(denied(dir.path(), stranger) && !denied(dir.path(), IndexKey::Address(there)));
    let whole: Vec<(PathBuf, Vec<u8>)> =
        files(dir.path()).into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect();
    // The first window is over, and has one run; the second has one a day.
    assert_eq!(whole.len(), 1 + 1 + 2);
    for (file, bytes) in &whole {
        let mut changes: Vec<Option<Vec<u8>>> = vec![None, Some(bytes[..bytes.len() / 2].to_vec())];
        changes.extend((0..bytes.len()).step_by(389).map(|at| {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            Some(changed)
        }));
        // Another file of the ledger in its place.
        changes.extend(whole.iter().filter(|(it, _)| it != file).map(|(_, it)| Some(it.clone())));
        for change in changes {
            match &change {
                Some(changed) => fs::write(file, changed).unwrap(),
                None => fs::remove_file(file).unwrap(),
            }
            for met in &records {
                for host in [met.source, met.destination].into_iter().flatten() {
                    let answer = Ledger::open(&dir.path().join("archive")).unwrap_or_default();
                    let answer = answer.ask(|has| has(IndexKey::Address(host)));
                    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
                    let day = met.received().div_euclid(DAY);
                    let mut of_day =
                        snapshot.segments.iter().filter(|segment| day_of(segment.entry()) == day);
                    assert!(of_day.all(|segment| !answer.denies(segment.entry())), "{host}");
                }
            }
            // A ledger that is gone as a whole is none, and will be there again.
            let is_gone = change.is_none() && file.ends_with(catalog::FILE);
            assert_eq!(verify(dir.path()).unwrap().findings.is_empty(), is_gone);
            fs::write(file, bytes).unwrap();
        }
    }
    for (file, bytes) in &whole {
        fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
        reindex(dir.path()).unwrap();
        assert_eq!(verify(dir.path()).unwrap().findings, []);
        let found = ledger(dir.path());
        assert_eq!(found.host(there).unwrap(), expected(&records, there), "{}", file.display());
        for (file, _) in &whole {
            drop(fs::remove_file(file));
        }
        for file in files(dir.path()) {
            fs::remove_file(file).unwrap();
        }
        whole.iter().for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
    }
}

#[test]
fn a_kill_leaves_files_that_nothing_names_and_the_next_one_removes_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut archiver = archive(dir.path(), &daily(1));
    catch_up(&mut archiver);
    drop(archiver);
    let before = files(dir.path());
    let leftover = dir.path().join("index/ledger/00000000000000aa.run");
    fs::write(&leftover, "half of a run").unwrap();
    let mut archiver = archive(dir.path(), &daily(2)[1..]);
    catch_up(&mut archiver);
    assert!(!leftover.exists());
    assert_eq!(files(dir.path()).len(), before.len() + 1);
    let host = ledger(dir.path()).host("192.0.2.77".parse().unwrap()).unwrap();
    assert_eq!(host, expected(&daily(2), "192.0.2.77".parse().unwrap()));
}

#[test]
fn the_ledger_goes_with_its_records_unless_it_is_kept_longer() {
    let known = |path: &Path| {
        let ledger = ledger(path);
        (0..5).filter(|&day| ledger.host([10, 0, 0, day].into()).unwrap().is_some()).count()
    };
    for (keep_days, left) in [(None, 1), (Some(2), 3), (Some(100), 5)] {
        let dir = tempfile::tempdir().unwrap();
        // Days of a window that is not over: 3 to 7 after the beginning.
        let records: Vec<Met> =
            daily(5).into_iter().map(|met| Met { hour: met.hour + 3 * 24, ..met }).collect();
        catch_up(&mut archive(dir.path(), &records));
        assert_eq!(known(dir.path()), 5);
        let retention = Retention {
            keep_millis: Some(DAY),
            keep_ledger_millis: keep_days.map(|days| days * DAY),
            ..Retention::default()
        };
        let config = ArchiveConfig { retention, ..archive_config() };
        let OpenStore { mut archiver, .. } = open_store(dir.path(), ring_config(), config).unwrap();
        let now = UnixMillis(NOW.0 + 8 * DAY - HOUR_MILLIS);
        let due = archiver.due(now).unwrap();
        assert_eq!(due.segments.len(), 4);
        archiver.expire(&due, now).unwrap();
        while archiver.advance_ledger(Some(now), &|| true).unwrap() {}
        assert_eq!(known(dir.path()), left, "{keep_days:?}");
        assert_eq!(verify(dir.path()).unwrap().findings, []);
    }
}

#[test]
fn parts_of_the_manifest_that_are_denied_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    // More segments than one part lists: one an hour.
    let records: Vec<Met> = (0..300).map(|hour| Met { hour, ..daily(1)[0].clone() }).collect();
    catch_up(&mut archive(dir.path(), &records));
    let part = fs::read_dir(dir.path().join("archive/manifest")).unwrap().next().unwrap();
    let look = |host: &str| {
        let key = IndexKey::Address(host.parse().unwrap());
        let answer = ledger(dir.path()).ask(|has| has(key));
        StoreSnapshot::open_beside(dir.path(), &|_, _| true, &answer).unwrap()
    };
    assert_eq!(look("10.0.0.0").segments.len(), 300);
    // One that was read would be told to be damaged.
    fs::write(part.unwrap().path(), "").unwrap();
    let snapshot = look("198.51.100.1");
    assert_eq!(snapshot.segments.len(), 0);
    assert_eq!(snapshot.damaged.len(), 0);
    assert_eq!((snapshot.segment_count(), snapshot.flow_records()), (300, 300));
    assert_eq!(snapshot.received(), Some((records[0].received(), records[299].received())));
    assert_eq!(look("10.0.0.0").damaged.len(), 1);
}

/// The ledger's runs, by name, and what they hold.
fn runs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = files(path).into_iter().map(|file| {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(file).unwrap())
    });
    names.collect()
}

#[test]
fn what_is_added_up_while_it_is_written_is_what_the_segments_have() {
    let dir = tempfile::tempdir().unwrap();
    let records = daily(3);
    let mut archiver = archive(dir.path(), &records);
    // Nothing of a segment is read for it.
    let segments = StoreSnapshot::open(dir.path()).unwrap().segments;
    let paths =
        segments.iter().map(|segment| dir.path().join("archive").join(&segment.entry().path));
    let paths: Vec<PathBuf> = paths.collect();
    let aside = |path: &PathBuf| path.with_extension("aside");
    paths.iter().for_each(|path| fs::rename(path, aside(path)).unwrap());
    catch_up(&mut archiver);
    assert_eq!(ledger(dir.path()).segments(), segments.len());
    paths.iter().for_each(|path| fs::rename(aside(path), path).unwrap());
    drop(archiver);
    let handed = runs(dir.path());
    assert!(handed.len() > 1, "{:?}", handed.keys());
    fs::remove_dir_all(directory(&dir.path().join("archive"))).unwrap();
    let mut archiver = open_store(dir.path(), ring_config(), archive_config()).unwrap().archiver;
    catch_up(&mut archiver);
    assert_eq!(runs(dir.path()), handed);
}
