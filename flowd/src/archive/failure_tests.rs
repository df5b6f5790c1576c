//! Tests of what is left when the archive fails, is stopped or runs out of time.

use super::store_tests::{
    LATER, append, archive_config, assert_complete, open, parquet_files, ring_config,
};
use super::*;
use crate::ring::sample::{HOUR, NOW};
use crate::ring::{RingConfig, RingDrop, WhenFull};
use crate::telemetry::Flag;
use std::fs;
use std::io;
use std::path::Path;

fn overrun_config() -> RingConfig {
    RingConfig {
        ring_size_max: 150_000,
        backlog_size_max: 150_000,
        when_full: WhenFull::DropOldest,
        ..ring_config()
    }
}

fn lost(store: &Path) -> Vec<(String, u64)> {
    let losses = StoreSnapshot::open(store).unwrap().losses;
    losses.into_iter().map(|loss| (loss.reason, loss.rows)).collect()
}

#[test]
fn nothing_more_is_begun_once_the_archiver_is_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = 0;
    append(&mut writer, &mut next, 600, HOUR - 1);
    append(&mut writer, &mut next, 600, HOUR);
    writer.seal_all().unwrap();
    let stop = Flag::default();
    // It is asked to stop just as it finds that two hours are due.
    let clock = || {
        stop.raise();
        LATER
    };
    archiver.run(&stop, clock);
    assert_eq!(assert_complete(dir.path(), next).archive_records(), 0);
    assert_eq!(ring.sealed_blocks().len(), 6);
}

#[test]
fn losses_are_recorded_although_the_archive_fails() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } =
        open_store(dir.path(), overrun_config(), archive_config()).unwrap();
    let mut writer = ring.writer(0, NOW).unwrap();
    append(&mut writer, &mut 0, 4_000, HOUR);
    let overrun = ring.drops().value(RingDrop::Overrun);
    assert!(overrun > 0);
    // Where the segment's directory should be.
    fs::write(dir.path().join("archive/date=2024-07-02"), "in the way").unwrap();
    archiver.archive_due(LATER).unwrap_err();
    assert_eq!(lost(dir.path()), [("ringOverrun".to_owned(), overrun)]);
}

#[test]
fn losses_are_recorded_although_there_is_no_time_to_archive() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } =
        open_store(dir.path(), overrun_config(), archive_config()).unwrap();
    let mut writer = ring.writer(0, NOW).unwrap();
    append(&mut writer, &mut 0, 4_000, HOUR);
    writer.seal_all().unwrap();
    archiver.finish(|| LATER, NOW).unwrap();
    assert!(!ring.sealed_blocks().is_empty());
    let overrun = ring.drops().value(RingDrop::Overrun);
    assert_eq!(lost(dir.path()), [("ringOverrun".to_owned(), overrun)]);
}

#[test]
fn what_a_start_finds_lost_is_recorded_before_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    append(&mut writer, &mut 0, 600, HOUR);
    let blocks = ring.store().block_files().unwrap();
    drop((writer, archiver, ring));
    fs::write(&blocks[1].1, "damage").unwrap();
    drop(open(dir.path()));
    assert_eq!(lost(dir.path()), [("ringDamaged".to_owned(), 0)]);
    drop(open(dir.path()));
    assert_eq!(lost(dir.path()).len(), 1);
}

#[test]
fn a_segment_that_cannot_be_listed_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = 0;
    append(&mut writer, &mut next, 600, HOUR);
    writer.seal_all().unwrap();
    let in_the_way = dir.path().join("archive/manifest.jsonl.new");
    fs::create_dir(&in_the_way).unwrap();
    archiver.archive_due(LATER).unwrap_err();
    assert_eq!(parquet_files(dir.path()), [""; 0]);
    assert_eq!(assert_complete(dir.path(), next).ring_records(), next);
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(archiver.archive_due(LATER).unwrap(), 1);
    assert_eq!(assert_complete(dir.path(), next).archive_records(), next);
}

#[test]
fn blocks_stay_until_the_manifest_is_known_to_be_safe() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = 0;
    append(&mut writer, &mut next, 600, HOUR);
    writer.seal_all().unwrap();
    let sync_names = archiver.sync_names;
    archiver.sync_names = |_| Err(io::Error::other("the disk is gone"));
    archiver.archive_due(LATER).unwrap_err();
    let files = || ring.store().block_files().unwrap().len();
    assert_eq!(files(), 3);
    // Readers see the new manifest already, and nothing twice.
    assert_eq!(assert_complete(dir.path(), next).archive_records(), next);
    archiver.archive_due(LATER).unwrap_err();
    assert_eq!(files(), 3);
    archiver.sync_names = sync_names;
    assert_eq!(archiver.archive_due(LATER).unwrap(), 0);
    assert_eq!(files(), 0);
    assert_eq!(assert_complete(dir.path(), next).segments.len(), 1);
}
