//! Tests of archiver and snapshot at work beside each other, in one process and killed in
//! another.

use super::store_tests::{
    LATER, append, archive_config, assert_complete, numbers, open, ring_config,
};
use super::*;
use crate::model::time::UnixMillis;
use crate::ring::sample::{HOUR, NOW};
use crate::telemetry::{Counter, Flag};
use std::path::Path;
use std::process::{Command, Stdio};

/// When what was received in [`HOUR`] is some seconds old.
const SOON: UnixMillis = UnixMillis(NOW.0 + 30_000);

#[test]
fn a_snapshot_beside_writer_and_archiver_is_exact() {
    const ROWS: u64 = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let archive =
        ArchiveConfig { block_age_max_millis: 0, segment_rows_max: 2_000, ..archive_config() };
    let OpenStore { ring, mut archiver, .. } =
        open_store(dir.path(), ring_config(), archive).unwrap();
    let (appended, stop) = (Counter::new(), Flag::default());
    let mut mixed = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| archiver.run(&stop, || SOON));
        let mut writer = ring.writer(0, NOW).unwrap();
        let appended = &appended;
        scope.spawn(move || {
            let mut next = 0;
            while next < ROWS {
                append(&mut writer, &mut next, 113, HOUR);
                appended.set(next);
            }
        });
        while appended.value() < ROWS {
            let before = appended.value();
            let snapshot = StoreSnapshot::open(dir.path()).unwrap();
            assert_eq!(snapshot.gaps, []);
            let numbers = numbers(&snapshot);
            let count = numbers.len() as u64;
            assert!(count >= before, "{count} of {before}");
            assert!(numbers.values().all(|&times| times == 1));
            assert!(numbers.keys().copied().eq(0..count));
            mixed += u64::from(snapshot.ring_records() > 0 && snapshot.archive_records() > 0);
        }
        stop.raise();
    });
    assert!(mixed > 0, "some snapshot had records on both sides");
    let end = appended.value();
    archiver.finish(|| NOW, LATER).unwrap();
    assert_eq!(assert_complete(dir.path(), end).archive_records(), end);
}

/// Names the store to write to, in the process that is to be killed.
const STORE: &str = "FLOWD_TEST_KILLED_ARCHIVER_STORE";

/// No test: the next one runs it in a process of its own. Whoever runs all tests runs it too,
/// and then it proves nothing.
#[test]
fn child_of_the_test_below() {
    let Ok(store) = std::env::var(STORE) else {
        println!("skipped: without {STORE} this is nobody's child");
        return;
    };
    let archive =
        ArchiveConfig { block_age_max_millis: 0, segment_rows_max: 1_000, ..archive_config() };
    let OpenStore { ring, mut archiver, .. } =
        open_store(Path::new(&store), ring_config(), archive).unwrap();
    let held = StoreSnapshot::open(Path::new(&store)).unwrap().flow_records();
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = held;
    // Ends by itself if nobody comes to kill it.
    while next < held + 2_000_000 {
        append(&mut writer, &mut next, 300, HOUR);
        archiver.archive_due(SOON).unwrap();
    }
}

#[test]
fn a_killed_archiver_neither_loses_nor_doubles() {
    let dir = tempfile::tempdir().unwrap();
    let mut end = 0;
    for round in 0..6u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "archive::kill_tests::child_of_the_test_below"])
            .env(STORE, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Until it has appended something, then a little longer each time.
        let segments = |store: &Path| StoreSnapshot::open(store).map_or(0, |s| s.segments.len());
        let before = segments(dir.path());
        while segments(dir.path()) < before + 2 {
            assert!(child.try_wait().unwrap().is_none(), "ended by itself");
        }
        std::thread::sleep(std::time::Duration::from_micros(700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let snapshot = StoreSnapshot::open(dir.path()).unwrap();
        assert!(snapshot.flow_records() > end);
        end = snapshot.flow_records();
        // Whatever it was at: each flow up to the last is there, and there once.
        assert_complete(dir.path(), end);
    }
    let OpenStore { mut archiver, .. } = open(dir.path());
    archiver.finish(|| NOW, LATER).unwrap();
    assert_eq!(assert_complete(dir.path(), end).archive_records(), end);
}
