//! Tests of what is let go and merged: readers beside it, kills between any two steps, clocks
//! that jump, disks that are full.

use super::archiver::Archiver;
use super::compact::slivers;
use super::free_space::FreeSpace;
use super::index::{date_of, day_path};
use super::retention::Retention;
use super::store_tests::{
    LATER, append, archive_config, assert_complete, numbers, open, parquet_files, ring_config,
};
use super::*;
use crate::model::time::{HOUR_MILLIS, UnixMillis};
use crate::ring::sample::{HOUR, NOW};
use crate::ring::{RingConfig, RingDrop, WhenFull};
use crate::telemetry::Flag;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) const DAY: i64 = 24 * HOUR_MILLIS;

/// A store with a segment for each of some hours up to [`HOUR`], of 300 flows each.
fn hours(path: &Path, count: i64, config: ArchiveConfig) -> OpenStore {
    let store = open_store(path, ring_config(), config).unwrap();
    let OpenStore { ring, mut archiver, recovery } = store;
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = 0;
    for hour in (0..count).rev() {
        append(&mut writer, &mut next, 300, HOUR - hour);
    }
    writer.seal_all().unwrap();
    archiver.archive_due(LATER).unwrap();
    drop(writer);
    OpenStore { ring, archiver, recovery }
}

fn keep_for(millis: i64) -> ArchiveConfig {
    let retention = Retention { keep_millis: Some(millis), ..Retention::default() };
    ArchiveConfig { retention, ..archive_config() }
}

fn held(path: &Path) -> Vec<u64> {
    numbers(&StoreSnapshot::open(path).unwrap()).into_keys().collect()
}

const fn plenty(_: &Path) -> std::io::Result<FreeSpace> {
    Ok(FreeSpace { free: 1 << 40, total: 1 << 41 })
}

const fn nearly_full(_: &Path) -> std::io::Result<FreeSpace> {
    Ok(FreeSpace { free: 1 << 20, total: 1 << 41 })
}

#[test]
fn hours_go_when_their_age_is_over_and_their_files_a_while_after() {
    let dir = tempfile::tempdir().unwrap();
    let config = keep_for(3 * HOUR_MILLIS);
    let OpenStore { mut archiver, .. } = hours(dir.path(), 6, config);
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    // The hour before this one ended at its start: three more make two hours too old.
    let now = UnixMillis(HOUR * HOUR_MILLIS + 100_000);
    archiver.care(now, &|| true).unwrap();
    assert_eq!(held(dir.path()), (600..1_800).collect::<Vec<_>>());
    let expired = StoreSnapshot::open(dir.path()).unwrap().expired.unwrap();
    assert_eq!((expired.segments, expired.flow_rows), (2, 600));
    let first = (HOUR - 5) * HOUR_MILLIS + 7;
    assert_eq!(expired.received, (first, first + HOUR_MILLIS));
    // Who began before reads on; who reads files by a pattern finds them no more.
    assert_eq!(numbers(&snapshot).len(), 1_800);
    let listed = parquet_files(dir.path());
    assert_eq!(listed.len(), 4, "{listed:?}");
    archiver.care(UnixMillis(now.0 + archive_config().unlink_grace_millis), &|| true).unwrap();
    assert!(snapshot.segments[0].check().is_err());
    assert!(was_expired(dir.path(), snapshot.segments[0].entry()).unwrap());
    assert!(!was_expired(dir.path(), snapshot.segments[5].entry()).unwrap());
    let counters = archiver.counters();
    assert_eq!((counters.expired_segments.value(), counters.expired_rows.value()), (2, 600));
    // The hours' directories went with them.
    assert!(!dir.path().join("archive/date=2024-07-02/hour=09").exists());
    assert!(dir.path().join("archive/date=2024-07-02/hour=11").exists());
}

#[test]
fn the_oldest_go_until_the_rest_is_small_enough() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { mut archiver, ring, .. } = hours(dir.path(), 5, archive_config());
    while archiver.advance_ledger(None, &|| true).unwrap() {}
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    let sizes = snapshot.segments.iter().map(|segment| {
        let SegmentEntry { bytes, index, .. } = segment.entry();
        (*bytes, index.as_ref().expect("it has an index").bytes)
    });
    let (segments, sidecars): (Vec<u64>, Vec<u64>) = sizes.unzip();
    let beside = snapshot.index_bytes() - sidecars.iter().sum::<u64>();
    assert!(beside > 0, "the day has its file");
    let keep = segments[2..].iter().chain(&sidecars[2..]).sum::<u64>() + beside;
    let index = dir.path().join("index/date=2024-07-02/hour=10");
    fs::create_dir_all(&index).unwrap();
    fs::write(index.join("00000000.parquet.idx"), "index").unwrap();
    drop((archiver, ring));
    let retention = Retention { keep_size: Some(keep), ..Retention::default() };
    let config = ArchiveConfig { retention, unlink_grace_millis: 0, ..archive_config() };
    archiver = open_store(dir.path(), ring_config(), config).unwrap().archiver;
    let due = archiver.due(NOW).unwrap();
    assert_eq!((due.segments.len(), due.for_room), (2, false));
    archiver.care(NOW, &|| true).unwrap();
    assert_eq!(held(dir.path()), (600..1_500).collect::<Vec<_>>());
    assert!(!index.join("00000000.parquet.idx").exists());
    archiver.care(LATER, &|| true).unwrap();
    assert_eq!(held(dir.path()).len(), 900);
}

#[test]
fn what_the_ledger_has_of_a_day_goes_with_it_and_costs_the_next_one_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { mut archiver, ring, .. } = hours(dir.path(), 30, archive_config());
    while archiver.advance_ledger(None, &|| true).unwrap() {}
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    let entries: Vec<SegmentEntry> =
        snapshot.segments.iter().map(|segment| segment.entry().clone()).collect();
    let octets =
        |entry: &SegmentEntry| entry.bytes + entry.index.as_ref().expect("it has an index").bytes;
    let last = entries.iter().map(|entry| date_of(&entry.path)).max().unwrap();
    let (today, before): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| date_of(&entry.path) == last);
    assert!(!today.is_empty() && !before.is_empty());
    let mut files: Vec<PathBuf> =
        before.iter().map(|entry| day_path(&dir.path().join("archive"), &entry.path)).collect();
    files.dedup();
    let gone = before.iter().map(|entry| octets(entry)).sum::<u64>()
        + files.iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    let held = entries.iter().map(|entry| entry.bytes).sum::<u64>() + snapshot.index_bytes();
    drop((archiver, ring));
    // Without what the ledger has of the days before it would be too much by an octet.
    let retention = Retention { keep_size: Some(held - gone - 1), ..Retention::default() };
    for (keep_ledger_millis, more) in [(None, 0), (Some(DAY), 1)] {
        let retention = Retention { keep_ledger_millis, ..retention };
        let config = ArchiveConfig { retention, ..archive_config() };
        let archiver = open_store(dir.path(), ring_config(), config).unwrap().archiver;
        assert_eq!(archiver.due(NOW).unwrap().segments.len(), before.len() + more);
    }
}

#[test]
fn a_clock_that_jumps_ahead_lets_nothing_go_until_it_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { mut archiver, ring, .. } = hours(dir.path(), 3, keep_for(10 * DAY));
    archiver.care(NOW, &|| true).unwrap();
    let ahead = UnixMillis(NOW.0 + 365 * DAY);
    archiver.care(ahead, &|| true).unwrap();
    assert_eq!(held(dir.path()).len(), 900);
    // Back again: nothing is too old.
    archiver.care(UnixMillis(NOW.0 + 60_000), &|| true).unwrap();
    archiver.care(UnixMillis(NOW.0 - 365 * DAY), &|| true).unwrap();
    assert_eq!(held(dir.path()).len(), 900);
    // A start with such a clock is no different.
    drop((archiver, ring));
    let OpenStore { mut archiver, .. } =
        open_store(dir.path(), ring_config(), keep_for(10 * DAY)).unwrap();
    let mut now = ahead;
    while now.0 < ahead.0 + DAY {
        archiver.care(now, &|| true).unwrap();
        assert_eq!(held(dir.path()).len(), 900);
        now.0 += HOUR_MILLIS / 2;
    }
    // A day later it is taken at its word.
    archiver.care(now, &|| true).unwrap();
    assert_eq!(held(dir.path()).len(), 0);
}

#[test]
fn a_full_disk_takes_the_oldest_if_that_was_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let config = keep_for(400 * DAY);
    let OpenStore { mut archiver, .. } = hours(dir.path(), 3, config);
    archiver.free_space = |_| Ok(FreeSpace { free: (2 << 30) - 1, total: 1 << 41 });
    archiver.care(NOW, &|| true).unwrap();
    // One octet was missing: one segment.
    assert_eq!(held(dir.path()), (300..900).collect::<Vec<_>>());
    assert_eq!(archiver.counters().expired_for_room.value(), 300);
    // Its file went at once.
    assert!(!dir.path().join("archive/date=2024-07-02/hour=12").exists());
}

#[test]
fn a_full_disk_stops_the_archive_where_everything_is_to_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let ring = RingConfig { when_full: WhenFull::DropNew, ..ring_config() };
    let OpenStore { ring, mut archiver, .. } =
        open_store(dir.path(), ring, archive_config()).unwrap();
    archiver.free_space = nearly_full;
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = 0;
    append(&mut writer, &mut next, 600, HOUR);
    writer.seal_all().unwrap();
    archiver.care(LATER, &|| true).unwrap();
    assert_eq!(archiver.archive_due(LATER).unwrap(), 0);
    archiver.finish(|| LATER, UnixMillis(i64::MAX)).unwrap();
    assert_eq!(assert_complete(dir.path(), next).archive_records(), 0);
    // The ring takes no more room than it has.
    let mut batch = crate::model::FlowBatch::new();
    let origin = crate::ring::sample::Source(1).origin();
    batch.append_rows(&crate::ring::sample::v4_shape(), &origin, 100);
    assert_eq!(writer.append(&batch).dropped, 100);
    assert_eq!(ring.drops().value(RingDrop::Full), 100);
    assert!(archiver.counters().held_back.value() > 0);
    // Room again: all goes on.
    archiver.free_space = plenty;
    archiver.care(LATER, &|| true).unwrap();
    assert_eq!(archiver.archive_due(LATER).unwrap(), 1);
    append(&mut writer, &mut next, 100, HOUR);
    assert_complete(dir.path(), next);
}

/// A store with an hour of several slivers.
fn with_slivers(path: &Path, rounds: usize) -> (Archiver, u64) {
    let OpenStore { ring, mut archiver, .. } = open(path);
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = 0;
    for _ in 0..rounds {
        append(&mut writer, &mut next, 300, HOUR);
        append(&mut writer, &mut next, 10, HOUR + 1);
        writer.seal_all().unwrap();
        archiver.archive_due(LATER).unwrap();
    }
    (archiver, next)
}

#[test]
fn slivers_of_an_hour_become_one_segment_once_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut archiver, next) = with_slivers(dir.path(), 4);
    let before = assert_complete(dir.path(), next);
    assert_eq!(before.segments.len(), 8);
    archiver.care(UnixMillis(HOUR * HOUR_MILLIS + 1_000), &|| true).unwrap();
    assert_eq!(assert_complete(dir.path(), next).segments.len(), 8);
    let over = UnixMillis((HOUR + 1) * HOUR_MILLIS + archive_config().hour_grace_millis);
    archiver.care(over, &|| true).unwrap();
    let after = assert_complete(dir.path(), next);
    assert_eq!(after.segments.len(), 5);
    let merged = after.segments.last().unwrap().entry();
    assert_eq!((merged.rows, merged.hour, merged.row_groups.len()), (1_200, HOUR, 2));
    assert_eq!(merged.covered.iter().map(|it| it.last - it.first + 1).sum::<u64>(), 8);
    // Who began before reads on until the grace is over.
    assert_eq!(numbers(&before).len() as u64, next);
    archiver.care(LATER, &|| true).unwrap();
    archiver.remove_withdrawn(LATER).unwrap();
    assert_eq!(assert_complete(dir.path(), next).segments.len(), 2);
    assert_eq!(parquet_files(dir.path()).len(), 2);
    archiver.merge_all(LATER, &|| true).unwrap();
    assert_eq!(assert_complete(dir.path(), next).segments.len(), 2);
}

#[test]
fn a_kill_between_any_two_steps_of_a_merge_neither_loses_nor_doubles() {
    for steps in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let (mut archiver, next) = with_slivers(dir.path(), 3);
        let groups =
            slivers(&Manifest::load(&dir.path().join("archive")).unwrap(), 1 << 20, &|hour| {
                hour == HOUR
            });
        let [group] = &groups[..] else { panic!("{groups:?}") };
        assert_eq!(group.len(), 3);
        if steps == 1 {
            archiver.write_merged(group, &|| true).unwrap().unwrap();
        }
        if steps >= 2 {
            let entry = archiver.write_merged(group, &|| true).unwrap().unwrap();
            let withdrawn = archiver.withdraw(group, WithdrawReason::Merged, NOW);
            archiver.replace_manifest(vec![Entry::Segment(entry), withdrawn]).unwrap();
        }
        if steps == 3 {
            archiver.put_away(&group[..1], LATER);
            archiver.remove_withdrawn(NOW).unwrap();
        }
        assert_complete(dir.path(), next);
        drop(archiver);
        let OpenStore { mut archiver, .. } = open(dir.path());
        let snapshot = assert_complete(dir.path(), next);
        assert_eq!(snapshot.segments.len(), if steps >= 2 { 4 } else { 6 });
        // Long after, by the file system's clock.
        archiver.remove_withdrawn(UnixMillis(i64::MAX / 2)).unwrap();
        let files = parquet_files(dir.path());
        assert_eq!(files.len(), snapshot.segments.len(), "{steps}: {files:?}");
        archiver.merge_all(NOW, &|| true).unwrap();
        assert_eq!(assert_complete(dir.path(), next).segments.len(), 2);
    }
}

#[test]
fn a_sliver_that_cannot_be_read_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut archiver, next) = with_slivers(dir.path(), 3);
    let mut snapshot = assert_complete(dir.path(), next);
    let damaged = snapshot.segments[0].path().to_owned();
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    archiver.merge_all(LATER, &|| true).unwrap();
    archiver.care(LATER, &|| true).unwrap();
    snapshot.check();
    assert_eq!((snapshot.segments.len(), snapshot.damaged.len()), (5, 1));
    fs::write(&damaged, &bytes).unwrap();
    assert_eq!(assert_complete(dir.path(), next).segments.len(), 4);
}

#[test]
fn readers_beside_expiry_and_merging_see_a_run_of_records_without_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let config = ArchiveConfig {
        retention: Retention { keep_size: Some(60_000), ..Retention::default() },
        block_age_max_millis: 0,
        ..archive_config()
    };
    let OpenStore { ring, mut archiver, .. } =
        open_store(dir.path(), ring_config(), config).unwrap();
    archiver.free_space = plenty;
    let done = Flag::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = ring.writer(0, NOW).unwrap();
            let mut next = 0;
            for hour in 0..40 {
                for _ in 0..3 {
                    append(&mut writer, &mut next, 200, HOUR + hour);
                    writer.seal_all().unwrap();
                    let now = UnixMillis((HOUR + hour) * HOUR_MILLIS + 60_000);
                    archiver.archive_due(now).unwrap();
                    archiver.care(now, &|| true).unwrap();
                }
            }
            archiver.care(UnixMillis((HOUR + 41) * HOUR_MILLIS), &|| true).unwrap();
            done.raise();
        });
        let mut last = 0;
        while !done.is_raised() {
            let found = numbers(&StoreSnapshot::open(dir.path()).unwrap());
            assert!(found.values().all(|&times| times == 1));
            let (Some((&first, _)), Some((&end, _))) =
                (found.first_key_value(), found.last_key_value())
            else {
                continue;
            };
            // Only whole hours at the old end are gone.
            assert_eq!(found.len() as u64, end - first + 1);
            assert!(first % 200 == 0 && end >= last, "{first} {end} {last}");
            last = end;
        }
    });
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    assert!(snapshot.archive_bytes() <= 60_000);
    let expired = snapshot.expired.unwrap();
    assert_eq!(expired.flow_rows + snapshot.flow_records(), 24_000);
}

#[test]
fn losses_that_a_killed_writer_could_not_tell_are_told_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { mut archiver, .. } = open(dir.path());
    let loss = |first, last| LossEntry {
        reason: "ringOverrun".to_owned(),
        shard: 0,
        lane: crate::ring::Lane::Ipv4,
        blocks: Some((first, last)),
        in_block: None,
        rows: 9,
        received: (3, 4),
    };
    archiver.tell(vec![loss(0, 4)]).unwrap();
    archiver.tell(vec![loss(0, 4), loss(5, 5)]).unwrap();
    archiver.tell(Vec::new()).unwrap();
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    assert_eq!(snapshot.losses, [loss(0, 4), loss(5, 5)]);
    assert_eq!(snapshot.gaps, []);
}
