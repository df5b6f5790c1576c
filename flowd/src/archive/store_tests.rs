//! Tests of the store as a whole: archiver and snapshot, kills between any two steps.

use super::archiver::groups;
use super::*;
use crate::model::time::{HOUR_MILLIS, UnixMillis};
use crate::model::{Column, ColumnMut, FlowBatch, RecordType, Shape};
use crate::ring::sample::{HOUR, NOW, Source, v4_shape};
use crate::ring::{Lane, Ring, RingConfig, RingDrop, RingError, ShardWriter, WhenFull};
use crate::telemetry::Counter;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// After all hours that the tests use, with grace.
pub(super) const LATER: UnixMillis = UnixMillis(NOW.0 + 10 * HOUR_MILLIS);

pub(super) fn ring_config() -> RingConfig {
    RingConfig { block_rows: 256, stripe_rows: 32, ..RingConfig::default() }
}

pub(super) fn archive_config() -> ArchiveConfig {
    ArchiveConfig {
        segment: SegmentConfig { row_group_rows: 1_000, ..SegmentConfig::default() },
        ..ArchiveConfig::for_ring(&ring_config())
    }
}

pub(super) fn open(path: &Path) -> OpenStore {
    open_store(path, ring_config(), archive_config()).unwrap()
}

/// Appends flows that are numbered on from `next`, received in some hour.
pub(super) fn append(writer: &mut ShardWriter, next: &mut u64, count: usize, hour: i64) {
    let (shape, origin) = (v4_shape(), Source(1).origin());
    let mut batch = FlowBatch::new();
    for row in batch.append_rows(&shape, &origin, count) {
        if let ColumnMut::U64(values) = batch.column_mut(Column::OctetDeltaCount) {
            values[row] = *next;
        }
        if let ColumnMut::I64(values) = batch.column_mut(Column::CollectionTimeMilliseconds) {
            values[row] = hour * HOUR_MILLIS + 7;
        }
        *next += 1;
    }
    assert_eq!(writer.append(&batch).rows, count as u64);
}

/// The numbers of all flows in a store, with how often each is there.
pub(super) fn numbers(snapshot: &StoreSnapshot) -> BTreeMap<u64, usize> {
    let column = [Column::OctetDeltaCount.index()];
    let mut numbers = BTreeMap::new();
    let mut count = |batch: arrow_array::RecordBatch| {
        for number in batch.column(0).as_primitive::<UInt64Type>().values() {
            *numbers.entry(*number).or_default() += 1;
        }
    };
    for block in &snapshot.blocks {
        count(block_batch(block, 0..block.rows(), &column).unwrap());
    }
    for segment in &snapshot.segments {
        for group in 0..segment.row_group_count() {
            count(segment.read(group, &column).unwrap());
        }
    }
    numbers
}

/// Checks that a store has each flow up to a number exactly once, and none besides.
pub(super) fn assert_complete(store: &Path, end: u64) -> StoreSnapshot {
    let snapshot = StoreSnapshot::open(store).unwrap();
    assert_eq!(snapshot.gaps, []);
    assert!(snapshot.unreadable.is_empty());
    assert_eq!(snapshot.flow_records(), end);
    let numbers = numbers(&snapshot);
    assert!(numbers.values().all(|&times| times == 1));
    assert!(numbers.keys().copied().eq(0..end));
    snapshot
}

fn block_count(ring: &Ring) -> usize {
    ring.store().block_files().unwrap().len()
}

#[test]
fn blocks_become_segments_and_every_record_stays_once() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = 0;
    append(&mut writer, &mut next, 1_500, HOUR - 1);
    append(&mut writer, &mut next, 700, HOUR);
    assert_complete(dir.path(), next);
    writer.seal_all().unwrap();
    assert_eq!(archiver.archive_due(LATER).unwrap(), 2);
    let snapshot = assert_complete(dir.path(), next);
    assert_eq!((snapshot.ring_records(), snapshot.archive_records()), (0, 2_200));
    assert_eq!(block_count(&ring), 0);
    assert_eq!(snapshot.received(), Some(((HOUR - 1) * HOUR_MILLIS + 7, NOW.0 + 7)));
    let paths: Vec<_> = snapshot.segments.iter().map(|segment| &*segment.entry().path).collect();
    let expected =
        ["date=2024-07-02/hour=13/00000000.parquet", "date=2024-07-02/hour=14/00000001.parquet"];
    assert_eq!(paths, expected);
    let bytes: u64 =
        snapshot.segments.iter().map(|segment| fs::metadata(segment.path()).unwrap().len()).sum();
    assert_eq!(snapshot.archive_bytes(), bytes);
    let counters = archiver.counters();
    assert_eq!((counters.segments.value(), counters.rows.value()), (2, 2_200));

    // New blocks follow those that are archived.
    append(&mut writer, &mut next, 10, HOUR);
    assert_complete(dir.path(), next);
    assert_eq!(ring.store().block_files().unwrap()[0].0.number, 9);
}

#[test]
fn options_and_counters_lie_apart_and_keep_their_type() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    let (mut source, mut batch) = (Source(2), FlowBatch::new());
    let origin = source.origin();
    for (record_type, count) in
        [(RecordType::Flow, 30), (RecordType::Options, 20), (RecordType::Counters, 10)]
    {
        let shape = Arc::new(Shape { record_type, ..Shape::clone(&v4_shape()) });
        source.fill(&mut batch, &shape, &origin, count, NOW.0);
    }
    writer.append(&batch);
    let count = |snapshot: &StoreSnapshot| (snapshot.flow_records(), snapshot.other_records());
    assert_eq!(count(&StoreSnapshot::open(dir.path()).unwrap()), (30, 30));
    writer.seal_all().unwrap();
    archiver.archive_due(LATER).unwrap();
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    assert_eq!(count(&snapshot), (30, 30));
    let segments = snapshot.segments.iter().map(SegmentReader::entry);
    let mut found: Vec<_> = segments
        .map(|entry| (entry.record_type.name(), entry.rows, entry.path.split('/').next().unwrap()))
        .collect();
    found.sort_unstable();
    let expected =
        [("counters", 10, "counters"), ("flow", 30, "date=2024-07-02"), ("options", 20, "options")];
    assert_eq!(found, expected);
}

#[test]
fn a_kill_between_any_two_steps_neither_loses_nor_doubles() {
    for steps in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let mut next = 0;
        for round in 0..3 {
            let OpenStore { ring, mut archiver, .. } = open(dir.path());
            assert_complete(dir.path(), next);
            let mut writer = ring.writer(0, NOW).unwrap();
            append(&mut writer, &mut next, 600, HOUR);
            writer.seal_all().unwrap();
            let blocks = groups(ring.sealed_blocks(), &Clearance::default()).swap_remove(0);
            assert!(blocks.len() >= 3, "round {round}");
            // The archiver goes no further than `steps`, as if it had been killed there.
            if steps >= 1 {
                let written = archiver.write(&blocks, &|| true).unwrap().unwrap();
                assert_complete(dir.path(), next);
                if steps >= 2 {
                    archiver.commit(written).unwrap();
                    assert_complete(dir.path(), next);
                    if steps >= 3 {
                        ring.free(&[blocks[0].id, blocks[1].id]).unwrap();
                        assert_complete(dir.path(), next);
                    }
                }
            }
        }
        let OpenStore { ring, mut archiver, .. } = open(dir.path());
        assert_complete(dir.path(), next);
        archiver.archive_due(LATER).unwrap();
        let snapshot = assert_complete(dir.path(), next);
        assert_eq!(snapshot.ring_records(), 0);
        assert_eq!(block_count(&ring), 0);
        let files = parquet_files(dir.path());
        assert_eq!(files.len(), snapshot.segments.len(), "{files:?}");
    }
}

pub(super) fn parquet_files(store: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut directories = vec![store.join("archive")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.to_str().unwrap().contains(".parquet") {
                files.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    files
}

#[test]
fn what_a_kill_left_of_a_segment_or_a_manifest_is_put_out_of_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    append(&mut writer, &mut 0, 10, HOUR);
    writer.seal_all().unwrap();
    archiver.archive_due(LATER).unwrap();
    drop((writer, archiver, ring));
    let hour = dir.path().join("archive/date=2024-07-02/hour=14");
    for name in ["00000001.parquet.new", "00000001.parquet", "00000008.parquet", "notes.txt"] {
        fs::write(hour.join(name), "half").unwrap();
    }
    // Its id was given, but to another file.
    let other_hour = dir.path().join("archive/date=2024-07-02/hour=13");
    fs::create_dir(&other_hour).unwrap();
    fs::write(other_hour.join("00000000.parquet"), "whole").unwrap();
    let manifest_new = dir.path().join("archive/manifest.jsonl.new");
    fs::write(&manifest_new, "{").unwrap();
    drop(open(dir.path()));
    let mut left: Vec<_> = fs::read_dir(&hour)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort_unstable();
    // What may be the only copy of records is kept where no pattern for segments finds it.
    let wanted = ["00000000.parquet", "00000001.unlisted", "00000008.unlisted", "notes.txt"];
    assert_eq!(left, wanted);
    assert!(!manifest_new.exists());
    assert!(other_hour.join("00000000.unlisted").exists());
    assert!(!other_hour.join("00000000.parquet").exists());
    assert_complete(dir.path(), 10);
}

#[test]
fn segments_without_a_manifest_are_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    append(&mut writer, &mut 0, 10, HOUR);
    writer.seal_all().unwrap();
    archiver.archive_due(LATER).unwrap();
    drop((writer, archiver, ring));
    let manifest = dir.path().join("archive/manifest.jsonl");
    let text = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    // Its copy alone serves as well.
    assert_complete(dir.path(), 10);
    fs::remove_file(dir.path().join("archive/manifest.copy.jsonl")).unwrap();
    let error = open_store(dir.path(), ring_config(), archive_config()).unwrap_err();
    assert!(matches!(error, ArchiveError::MissingManifest(_)), "{error}");
    fs::write(&manifest, text).unwrap();
    assert_complete(dir.path(), 10);
}

#[test]
fn numbers_go_on_after_the_ring_s_directory_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    for _ in 0..3 {
        let OpenStore { ring, mut archiver, .. } = open(dir.path());
        let mut writer = ring.writer(0, NOW).unwrap();
        append(&mut writer, &mut next, 300, HOUR);
        assert_complete(dir.path(), next);
        writer.seal_all().unwrap();
        archiver.archive_due(LATER).unwrap();
        drop((writer, archiver, ring));
        fs::remove_dir_all(dir.path().join("ring")).unwrap();
    }
    assert_complete(dir.path(), next);
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    let error = open_store(dir.path(), ring_config(), archive_config()).unwrap_err();
    assert!(matches!(error, ArchiveError::Ring(RingError::StoreInUse { .. })), "{error}");
    StoreSnapshot::open(dir.path()).unwrap();
}

#[test]
fn a_store_without_ring_or_archive_opens() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    for name in ["ring", "archive"] {
        fs::remove_dir_all(dir.path().join(name)).unwrap();
        assert_complete(dir.path(), 0);
    }
    let none = StoreSnapshot::open(&dir.path().join("none")).unwrap_err().to_string();
    assert!(none.contains("there is no store at"), "{none}");
}

#[test]
fn blocks_are_archived_by_hour_by_age_and_by_pressure() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = 0;
    let at = |minutes: i64| UnixMillis(NOW.0 + minutes * 60_000);
    append(&mut writer, &mut next, 256, HOUR);
    append(&mut writer, &mut next, 10, HOUR);
    assert_eq!(archiver.archive_due(at(9)).unwrap(), 0);
    assert_eq!(archiver.archive_due(at(11)).unwrap(), 1);
    // The open block is not touched.
    assert_eq!(block_count(&ring), 1);

    let hour_end = UnixMillis(NOW.0 + HOUR_MILLIS);
    append(&mut writer, &mut next, 246, HOUR);
    writer.tick(hour_end).unwrap();
    let grace = archive_config().hour_grace_millis;
    let quick = ArchiveConfig { block_age_max_millis: i64::MAX, ..archive_config() };
    drop((writer, archiver, ring));
    let OpenStore { ring, mut archiver, .. } =
        open_store(dir.path(), ring_config(), quick).unwrap();
    assert_eq!(archiver.archive_due(UnixMillis(hour_end.0 + grace - 1)).unwrap(), 0);
    assert_eq!(archiver.archive_due(UnixMillis(hour_end.0 + grace)).unwrap(), 1);

    let mut writer = ring.writer(0, NOW).unwrap();
    append(&mut writer, &mut next, 2_560, HOUR);
    drop((writer, archiver, ring));
    let small = ArchiveConfig { sealed_size_max: 400_000, segment_rows_max: 600, ..quick };
    let OpenStore { ring, mut archiver, .. } =
        open_store(dir.path(), ring_config(), small).unwrap();
    assert!(ring.size() > 400_000);
    // Ten blocks of 256 rows; a segment ends at the block that brings it to 600.
    assert_eq!(archiver.archive_due(at(1)).unwrap(), 4);
    assert_eq!(block_count(&ring), 0);
    assert_complete(dir.path(), next);
}

#[test]
fn what_is_not_archived_in_time_stays_in_the_ring() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = 0;
    append(&mut writer, &mut next, 1_000, HOUR);
    writer.seal_all().unwrap();
    let clock = Counter::new();
    let ticking = || {
        clock.add(1);
        UnixMillis(clock.value().cast_signed())
    };
    archiver.finish(ticking, UnixMillis(3)).unwrap();
    assert_eq!(ring.sealed_blocks().len(), 4);
    assert_eq!(assert_complete(dir.path(), next).ring_records(), next);
    assert_eq!(parquet_files(dir.path()), [""; 0]);
    archiver.finish(|| NOW, LATER).unwrap();
    assert_eq!(assert_complete(dir.path(), next).archive_records(), next);
}

#[test]
fn dropped_blocks_are_losses_in_the_manifest_and_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let config = RingConfig {
        ring_size_max: 150_000,
        backlog_size_max: 150_000,
        when_full: WhenFull::DropOldest,
        ..ring_config()
    };
    let OpenStore { ring, mut archiver, .. } =
        open_store(dir.path(), config, archive_config()).unwrap();
    let mut writer = ring.writer(0, NOW).unwrap();
    append(&mut writer, &mut 0, 4_000, HOUR);
    let overrun = ring.drops().value(RingDrop::Overrun);
    assert!(overrun > 0);
    // Until the manifest says it, the ring's first numbers are simply not there; a block that is
    // missing between others is a gap.
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    assert_eq!(snapshot.flow_records() + overrun, 4_000);
    archiver.archive_due(NOW).unwrap();
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    assert_eq!((snapshot.gaps.len(), snapshot.losses.len()), (0, 1));
    let loss = &snapshot.losses[0];
    assert_eq!((loss.reason.as_str(), loss.rows), ("ringOverrun", overrun));
    assert_eq!(snapshot.flow_records() + loss.rows, 4_000);
}

#[test]
fn a_missing_block_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    append(&mut writer, &mut 0, 256 * 5, HOUR);
    for (id, path) in ring.store().block_files().unwrap() {
        if [1, 2].contains(&id.number) {
            fs::remove_file(path).unwrap();
        }
    }
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    let gap = BlockGap { shard: 0, lane: Lane::Ipv4, first: 1, last: 2 };
    assert_eq!(snapshot.gaps, [gap]);
    assert_eq!(snapshot.flow_records(), 256 * 3);
}

#[test]
fn a_damaged_block_does_not_keep_the_others_from_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    append(&mut writer, &mut 0, 256 * 4, HOUR);
    writer.seal_all().unwrap();
    let blocks = ring.store().block_files().unwrap();
    fs::write(&blocks[1].1, "damage").unwrap();
    fs::remove_file(&blocks[2].1).unwrap();
    assert_eq!(archiver.archive_due(LATER).unwrap(), 1);
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    assert_eq!(snapshot.archive_records(), 512);
    let losses = snapshot.losses.iter();
    let losses: Vec<_> = losses.map(|loss| (&*loss.reason, loss.blocks, loss.rows)).collect();
    assert_eq!(losses, [("ringDamaged", Some((1, 2)), 512)]);
    assert_eq!(snapshot.gaps, []);
    assert_eq!(ring.drops().value(RingDrop::Damaged), 512);
}

#[test]
fn a_torn_manifest_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    append(&mut writer, &mut 0, 10, HOUR);
    writer.seal_all().unwrap();
    archiver.archive_due(LATER).unwrap();
    drop((writer, archiver, ring));
    let path = dir.path().join("archive/manifest.jsonl");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    assert_complete(dir.path(), 10);
    fs::write(dir.path().join("archive/manifest.copy.jsonl"), "half").unwrap();
    let text = StoreSnapshot::open(dir.path()).unwrap_err().to_string();
    assert!(text.contains("manifest.jsonl is damaged (cut"), "{text}");
    let text = open_store(dir.path(), ring_config(), archive_config()).unwrap_err().to_string();
    assert!(text.contains("restore it from a copy"), "{text}");
}
