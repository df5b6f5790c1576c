//! Tests of what is found damaged, and made whole again.

use super::index::sidecar_path;
use super::store_tests::{LATER, append, assert_complete, open};
use super::*;
use crate::ring::RingError;
use crate::ring::sample::{HOUR, NOW};
use std::fs;
use std::path::{Path, PathBuf};

/// A store with two segments and one block in the ring.
fn store(path: &Path) -> u64 {
    let OpenStore { ring, mut archiver, .. } = open(path);
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = 0;
    append(&mut writer, &mut next, 1_500, HOUR - 1);
    append(&mut writer, &mut next, 700, HOUR);
    writer.seal_all().unwrap();
    assert_eq!(archiver.archive_due(LATER).unwrap(), 2);
    append(&mut writer, &mut next, 200, HOUR);
    next
}

/// The path of a segment or of its sidecar.
fn path_of(store: &Path, segment: usize, is_sidecar: bool) -> PathBuf {
    let archive_dir = store.join("archive");
    let manifest = Manifest::load(&archive_dir).unwrap();
    let entry = manifest.segments().nth(segment).unwrap();
    if is_sidecar { sidecar_path(&archive_dir, &entry.path) } else { archive_dir.join(&entry.path) }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn findings(store: &Path) -> Vec<PathBuf> {
    let found = verify(store).unwrap().findings;
    found.into_iter().map(|finding| store.join(finding.file)).collect()
}

#[test]
fn a_whole_store_has_no_findings_while_a_writer_is_at_it() {
    let dir = tempfile::tempdir().unwrap();
    let OpenStore { ring, mut archiver, .. } = open(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    let mut next = 0;
    append(&mut writer, &mut next, 1_500, HOUR - 1);
    writer.seal_all().unwrap();
    archiver.archive_due(LATER).unwrap();
    append(&mut writer, &mut next, 333, HOUR);
    let verification = verify(dir.path()).unwrap();
    assert_eq!(verification.findings, []);
    assert_eq!((verification.segments, verification.sidecars, verification.blocks), (1, 1, 2));
    assert!(verification.bytes > 0);
}

#[test]
fn each_damaged_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    let segment = path_of(dir.path(), 0, false);
    let sidecars = [path_of(dir.path(), 0, true), path_of(dir.path(), 1, true)];
    assert_eq!(findings(dir.path()), [] as [PathBuf; 0]);
    // In the middle of the data, where only the digest sees it.
    flip(&segment, 1_000);
    assert_eq!(findings(dir.path()), std::slice::from_ref(&segment));
    flip(&segment, 1_000);
    for at in [0, 9, 33, 70, usize::MAX / 2] {
        flip(&sidecars[1], at);
        assert_eq!(findings(dir.path()), [sidecars[1].clone()], "octet {at}");
        flip(&sidecars[1], at);
    }
    fs::remove_file(&sidecars[0]).unwrap();
    fs::remove_file(path_of(dir.path(), 1, false)).unwrap();
    assert_eq!(findings(dir.path()), [sidecars[0].clone(), path_of(dir.path(), 1, false)]);
    let manifest = dir.path().join("archive/manifest.jsonl");
    flip(&manifest, 300);
    // Its copy serves in its place, so that all else is looked at still.
    let expected = [manifest, sidecars[0].clone(), path_of(dir.path(), 1, false)];
    assert_eq!(findings(dir.path()), expected);
}

#[test]
fn rows_of_the_ring_that_changed_are_found() {
    let dir = tempfile::tempdir().unwrap();
    {
        let OpenStore { ring, .. } = open(dir.path());
        let mut writer = ring.writer(0, NOW).unwrap();
        let mut next = 0;
        append(&mut writer, &mut next, 300, HOUR);
        writer.seal_all().unwrap();
    }
    assert_eq!(findings(dir.path()), [] as [PathBuf; 0]);
    let blocks = crate::ring::Store::find(dir.path()).unwrap().block_files().unwrap();
    let path = &blocks[0].1;
    let bytes = fs::read(path).unwrap();
    // The number of the first flow lies in a column of 64-bit numbers: find it by its value.
    let needle: Vec<u8> = (1_u64..4).flat_map(u64::to_le_bytes).collect();
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    flip(path, at);
    assert_eq!(findings(dir.path()), std::slice::from_ref(path));
}

#[test]
fn what_is_made_again_is_what_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let next = store(dir.path());
    let sidecars = [path_of(dir.path(), 0, true), path_of(dir.path(), 1, true)];
    let before = sidecars.clone().map(|path| fs::read(path).unwrap());
    let manifest = fs::read(dir.path().join("archive/manifest.jsonl")).unwrap();
    fs::remove_file(&sidecars[0]).unwrap();
    flip(&sidecars[1], 50);
    let orphan = sidecars[0].with_file_name("00000099.parquet.idx");
    fs::write(&orphan, "left").unwrap();
    let reindexed = reindex(dir.path()).unwrap();
    assert_eq!((reindexed.made, reindexed.whole, reindexed.removed), (2, 0, 1));
    assert!(reindexed.failed.is_empty() && !orphan.exists());
    assert_eq!(sidecars.map(|path| fs::read(path).unwrap()), before);
    assert_eq!(fs::read(dir.path().join("archive/manifest.jsonl")).unwrap(), manifest);
    assert_eq!(findings(dir.path()), [] as [PathBuf; 0]);
    assert_eq!(reindex(dir.path()).unwrap().whole, 2);
    assert_complete(dir.path(), next);
}

#[test]
fn the_file_of_a_day_is_checked_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    let day = path_of(dir.path(), 0, true).ancestors().nth(2).unwrap().join("day.idx");
    let before = fs::read(&day).unwrap();
    flip(&day, before.len() / 2);
    assert_eq!(findings(dir.path()), std::slice::from_ref(&day));
    assert_eq!(reindex(dir.path()).unwrap().made, 2);
    assert_eq!(fs::read(&day).unwrap(), before);
    fs::remove_file(&day).unwrap();
    assert_eq!(reindex(dir.path()).unwrap().made, 2);
    assert_eq!(fs::read(&day).unwrap(), before);
    assert_eq!(reindex(dir.path()).unwrap().whole, 2);
}

#[test]
fn segments_from_before_there_was_an_index_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let next = store(dir.path());
    let archive_dir = dir.path().join("archive");
    let mut bare = Manifest::default();
    for mut segment in Manifest::load(&archive_dir).unwrap().segments().cloned() {
        segment.index = None;
        bare.push(Entry::Segment(segment));
    }
    bare.store(&archive_dir).unwrap();
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    assert_eq!(verify(dir.path()).unwrap().unindexed, 2);
    assert_eq!(StoreSnapshot::open(dir.path()).unwrap().index_bytes(), 0);
    assert_eq!(reindex(dir.path()).unwrap().made, 2);
    assert_eq!(Manifest::load(&archive_dir).unwrap().generation(), bare.generation());
    let verification = verify(dir.path()).unwrap();
    assert_eq!((verification.findings, verification.unindexed), (Vec::new(), 0));
    let snapshot = assert_complete(dir.path(), next);
    assert!(snapshot.index_bytes() > 0);
    assert!(snapshot.segments.iter().all(|segment| segment.sidecar().unwrap().is_some()));
}

#[test]
fn nobody_reindexes_beside_a_collector() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    let collector = open(dir.path());
    let refused = reindex(dir.path()).unwrap_err();
    assert!(matches!(refused, ArchiveError::Ring(RingError::StoreInUse { .. })), "{refused}");
    drop(collector);
    let nothing = dir.path().join("nothing");
    assert!(matches!(reindex(&nothing), Err(ArchiveError::Ring(RingError::NoStore(_)))));
    assert!(!nothing.exists());
}
