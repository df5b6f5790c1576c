//! A ring that lies elsewhere than its store, such as on a tmpfs.

use crate::numbered::{Numbered, coverage, damaged, numbers, start};
use crate::support::{info, run, wait_until};
use std::fs;
use std::path::Path;

/// Names of the blocks in a folder.
fn blocks(folder: &Path) -> usize {
    let files = fs::read_dir(folder).unwrap();
    files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|it| it == "block"))
        .count()
}

#[test]
fn a_ring_elsewhere_is_found_again_and_its_loss_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, ring) = (folder.path().join("store"), memory.path().join("ring"));
    let mut exporter = Numbered::new();
    let collect = |options: &[&str]| start(&store, options);
    let elsewhere = ["--ring-dir", ring.to_str().unwrap()];
    let (mut collector, port) = collect(&elsewhere);
    exporter.send(&store, port, 1_000);
    wait_until("all are held", || numbers(&store).len() == 1_000);
    assert_eq!(blocks(&ring), 1);
    assert!(!store.join("ring").exists());
    collector.signal("KILL");
    collector.left();
    assert!(numbers(&store).into_iter().eq(0..1_000), "also without a collector");

    // The store remembers where its ring is.
    let (collector, port) = collect(&[]);
    exporter.send(&store, port, 1_000);
    collector.terminate().ok();
    assert!(numbers(&store).into_iter().eq(0..2_000));
    assert_eq!((blocks(&ring), &info(&store)["archiveRecords"]), (0, &2_000.into()));

    // Another store does not get it.
    let other = folder.path().join("other");
    let listen = ["collect", "--listen", "udp://127.0.0.1:0", "--store", other.to_str().unwrap()];
    let refused = run(&[&listen[..], &elsewhere].concat());
    assert_eq!(refused.code(), Some(2), "{refused:?}");
    assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{refused:?}");
    assert!(refused.stderr.contains(ring.to_str().unwrap()), "{refused:?}");

    // The machine starts anew, and memory is empty.
    let (mut collector, port) = collect(&[]);
    exporter.send(&store, port, 1_000);
    wait_until("all are held", || numbers(&store).len() == 3_000);
    collector.signal("KILL");
    collector.left();
    fs::remove_dir_all(&ring).unwrap();
    assert!(numbers(&store).into_iter().eq(0..2_000), "what was archived is there");
    let said = coverage(&store);
    let lines: Vec<&str> =
        said.lines().filter(|line| line.contains(ring.to_str().unwrap())).collect();
    assert_eq!(lines.len(), 1, "{said}");
    let (collector, port) = collect(&[]);
    let since = exporter.next;
    exporter.send(&store, port, 1_000);
    collector.terminate().ok();
    assert!(numbers(&store).into_iter().eq((0..2_000).chain(since..since + 1_000)));
    assert!(damaged(&store).is_empty());
}
