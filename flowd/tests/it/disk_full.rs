//! Disks that are full or read-only: what could be read stays readable, what is lost is counted
//! and told, and all goes on when there is room again.

use crate::disk::Disk;
use crate::numbered::{Numbered, coverage, damaged, drops, numbers, start};
use crate::support::{info, run, wait_until};
use std::collections::BTreeSet;
use std::path::Path;

/// Rows of a block of the ring.
const BLOCK_RECORDS: u64 = 65_536;
/// Every sealed block goes to the archive at once.
const SMALL_RING: [&str; 2] = ["--ring-size", "1MiB"];

#[test]
fn a_full_disk_costs_only_what_it_has_no_room_for() {
    let Some(disk) = Disk::new("24m") else { return };
    let store = disk.path().join("store");
    let mut exporter = Numbered::new();
    // No room is kept free, so that the disk is full before the collector looks.
    let options = [&SMALL_RING[..], &["--keep-free", "0", "--backlog-max", "1GiB"]].concat();
    let (mut collector, port) = start(&store, &options);
    exporter.send(&store, port, BLOCK_RECORDS + 4_000);
    wait_until("a block is archived", || info(&store)["archiveRecords"] == BLOCK_RECORDS);
    let before = numbers(&store);
    assert_eq!(before.len() as u64, exporter.next);

    disk.fill();
    exporter.send(&store, port, 2 * BLOCK_RECORDS);
    collector.says("cannot archive");
    let full = numbers(&store);
    assert!(before.is_subset(&full), "what could be read is gone");
    let dropped = drops(&store);
    let [(reason, count)] = dropped.as_slice() else { panic!("{dropped:?}") };
    assert_eq!(reason, "ringNoSpaceRecords");
    assert_eq!(full.len() as u64 + count, exporter.next);
    wait_until("the gap is told", || {
        coverage(&store).contains(&format!(r#""records":{count},"reason":"ringNoSpace""#))
    });

    disk.make_room();
    wait_until("the archive goes on", || info(&store)["archiveRecords"] != BLOCK_RECORDS);
    let since = exporter.next;
    exporter.send(&store, port, 4_000);
    collector.terminate().ok();
    let after = numbers(&store);
    assert!(full.is_subset(&after) && after.range(since..).count() == 4_000);
    assert_eq!(after.len() as u64 + count, exporter.next);
    assert_eq!(drops(&store), dropped);
    let held = info(&store);
    assert_eq!((&held["ringRecords"], &held["archiveRecords"]), (&0.into(), &after.len().into()));
    assert!(damaged(&store).is_empty());
}

#[test]
fn an_archive_that_fails_at_the_end_leaves_the_records_to_the_next_start() {
    let Some(disk) = Disk::new("16m") else { return };
    let store = disk.path().join("store");
    let mut exporter = Numbered::new();
    let (mut collector, port) = start(&store, &[]);
    exporter.send(&store, port, 1_000);
    disk.protect(Path::new("store/archive"));
    collector.signal("TERM");
    let ended = collector.left();
    assert_eq!(ended.code(), Some(2), "{ended:?}");
    assert!(ended.stderr.contains("archive the last blocks"), "{ended:?}");
    assert_eq!(numbers(&store).len(), 1_000);
    disk.release(Path::new("store/archive"));
    let (collector, port) = start(&store, &[]);
    exporter.send(&store, port, 500);
    collector.terminate().ok();
    assert!(numbers(&store).into_iter().eq(0..1_500));
    assert_eq!(info(&store)["archiveRecords"], 1_500);
    assert!(damaged(&store).is_empty() && drops(&store).is_empty());
}

/// Collects while the archive cannot be written, until the backlog is full and beyond. The reason
/// and the number of records dropped, what is held afterwards, and the first number after that.
fn overrun(when_full: &str) -> Option<(String, u64, BTreeSet<u64>, u64)> {
    let disk = Disk::new("48m")?;
    let store = disk.path().join("store");
    let archive = Path::new("store/archive");
    let mut exporter = Numbered::new();
    let more = ["--backlog-max", "6MiB", "--when-full", when_full];
    let (mut collector, port) = start(&store, &[&SMALL_RING[..], &more].concat());
    exporter.send(&store, port, BLOCK_RECORDS + 4_000);
    wait_until("a block is archived", || info(&store)["archiveRecords"] == BLOCK_RECORDS);
    let archived: BTreeSet<u64> = (0..BLOCK_RECORDS).collect();
    assert!(archived.is_subset(&numbers(&store)));

    disk.protect(archive);
    // All that waits stays within the limit, but for what is prepared for the block after.
    exporter.send(&store, port, BLOCK_RECORDS);
    collector.says("cannot archive");
    assert_eq!(drops(&store), [], "there is room in the backlog");
    assert_eq!(numbers(&store).len() as u64, exporter.next);
    exporter.send(&store, port, 5 * BLOCK_RECORDS);
    let dropped = drops(&store);
    let [(reason, count)] = dropped.as_slice() else { panic!("{dropped:?}") };
    let while_full = numbers(&store);
    assert_eq!(while_full.len() as u64 + count, exporter.next);
    let size = info(&store)["ring"]["size"].as_u64().unwrap();
    assert!(size <= 10 << 20, "{size} octets wait");
    let told = reason.strip_suffix("Records").unwrap();
    wait_until("the gap is told", || {
        coverage(&store).contains(&format!(r#""records":{count},"reason":"{told}""#))
    });

    disk.release(archive);
    wait_until("the archive goes on", || info(&store)["archiveRecords"] != BLOCK_RECORDS);
    let since = exporter.next;
    exporter.send(&store, port, 1_000);
    collector.terminate().ok();
    let after = numbers(&store);
    assert!(while_full.is_subset(&after) && after.range(since..).count() == 1_000);
    assert_eq!(after.len() as u64 + count, exporter.next);
    assert_eq!((info(&store)["ringRecords"].clone(), drops(&store)), (0.into(), dropped.clone()));
    assert!(coverage(&store).contains(&format!(r#""records":{count},"reason":"{told}""#)));
    assert!(damaged(&store).is_empty());
    assert!(archived.is_subset(&after), "what was archived is gone");
    Some((told.to_owned(), *count, after, since))
}

#[test]
fn a_full_backlog_gives_up_the_oldest_that_wait() {
    let Some((reason, count, held, _)) = overrun("drop-oldest") else { return };
    assert_eq!(reason, "ringOverrun");
    // Whole blocks, from the first that was not archived on.
    assert!((0..BLOCK_RECORDS).chain(BLOCK_RECORDS + count..).zip(&held).all(|(a, &b)| a == b));
    assert_eq!(count % BLOCK_RECORDS, 0);
}

#[test]
fn a_full_backlog_refuses_what_comes_if_that_is_wished() {
    let Some((reason, count, held, since)) = overrun("drop-new") else { return };
    assert_eq!(reason, "ringFull");
    let missing = since - count..since;
    assert!(held.range(missing).next().is_none(), "all that came before is kept");
}

#[test]
fn a_store_on_a_read_only_disk_is_read_but_not_written() {
    let Some(disk) = Disk::new("16m") else { return };
    let store = disk.path().join("store");
    let mut exporter = Numbered::new();
    let (collector, port) = start(&store, &[]);
    exporter.send(&store, port, 1_000);
    collector.terminate().ok();
    disk.remount("ro");
    assert!(numbers(&store).into_iter().eq(0..1_000));
    assert!(damaged(&store).is_empty());
    let path = store.to_str().unwrap();
    for command in [
        &["collect", "--listen", "udp://127.0.0.1:0", "--store", path][..],
        &["store", "compact", "--store", path],
        &["store", "expire", "--store", path, "--keep-size", "1"],
    ] {
        let refused = run(command);
        assert_eq!(refused.code(), Some(2), "{command:?}: {refused:?}");
        assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{refused:?}");
        assert!(refused.stderr.contains(path), "{refused:?}");
    }
    disk.remount("rw");
    let (collector, port) = start(&store, &[]);
    exporter.send(&store, port, 1_000);
    collector.terminate().ok();
    assert!(numbers(&store).into_iter().eq(0..2_000));
}
