//! Tests of the manifest alone.

use super::manifest::{Covered, Entry, LossEntry, Manifest, RowGroupEntry, SegmentEntry};
use super::*;
use crate::model::RecordType;
use crate::ring::{BlockId, Lane, LostRows, RingDrop};
use std::fs;

fn segment(id: u64, first: u64, last: u64) -> Entry {
    Entry::Segment(SegmentEntry {
        id,
        path: format!("date=2024-07-03/hour=14/{id:08}.parquet"),
        record_type: RecordType::Flow,
        hour: 477_758,
        covered: vec![Covered { shard: 1, lane: Lane::Ipv6, first, last }],
        rows: 10,
        row_groups: vec![
            RowGroupEntry { rows: 6, times: Some((-5, 7)) },
            RowGroupEntry { rows: 4, times: None },
        ],
        received: (1, 2),
        bytes: 99,
        sha256: "ab".to_owned(),
        index: None,
    })
}

fn loss(first: u64, last: u64) -> Entry {
    Entry::Loss(LossEntry {
        reason: "ringOverrun".to_owned(),
        shard: 1,
        lane: Lane::Ipv6,
        blocks: Some((first, last)),
        rows: 8,
        received: (3, 4),
        in_block: None,
    })
}

fn stored() -> (tempfile::TempDir, Manifest) {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = Manifest::load(dir.path()).unwrap();
    for entry in [segment(0, 0, 3), loss(4, 4), segment(1, 5, 9), segment(2, 12, 12)] {
        manifest.push(entry);
    }
    manifest.store(dir.path()).unwrap();
    (dir, manifest)
}

#[test]
fn a_manifest_comes_back_as_it_was_written() {
    let (dir, manifest) = stored();
    let read = Manifest::load(dir.path()).unwrap();
    assert_eq!(read.entries(), manifest.entries());
    assert_eq!((read.generation(), read.next_segment()), (1, 3));
    assert_eq!((read.segments().count(), read.losses().count()), (3, 1));
    let covered: Vec<_> = read.covered().collect();
    assert_eq!(covered, [((1, Lane::Ipv6), (0, 9)), ((1, Lane::Ipv6), (12, 12))]);
    assert_eq!(read.number_floors().floor(1, Lane::Ipv6), 13);
    let covers = |number| read.covers(BlockId { shard: 1, lane: Lane::Ipv6, number });
    assert_eq!([0, 4, 9, 10, 12, 13].map(covers), [true, true, true, false, true, false]);
}

#[test]
fn ranges_are_joined_to_both_neighbours_in_any_order() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 3, 1], [1, 3, 0, 2], [2, 0, 1, 3]] {
        let mut manifest = Manifest::default();
        for id in order {
            // 0..=2, 3..=5, 6..=8 and 9..=11.
            manifest.push(segment(id, 3 * id, 3 * id + 2));
        }
        let ranges: Vec<_> = manifest.covered().map(|(_, range)| range).collect();
        assert_eq!(ranges, [(0, 11)], "{order:?}");
        manifest.push(loss(20, 21));
        manifest.push(loss(4, 30));
        let ranges: Vec<_> = manifest.covered().map(|(_, range)| range).collect();
        assert_eq!(ranges, [(0, 30)], "{order:?}");
    }
}

#[test]
fn a_cut_at_any_octet_is_seen() {
    let (dir, _) = stored();
    let path = dir.path().join("manifest.jsonl");
    let bytes = fs::read(&path).unwrap();
    for size in 0..bytes.len() {
        fs::write(&path, &bytes[..size]).unwrap();
        let error = Manifest::load(dir.path()).unwrap_err();
        assert!(matches!(error, ArchiveError::DamagedManifest { .. }), "{size}: {error}");
    }
}

#[test]
fn a_changed_line_is_seen() {
    let (dir, _) = stored();
    let path = dir.path().join("manifest.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    for (from, to) in [("\"rows\":10", "\"rows\":11"), ("\"last\":12", "\"last\":13")] {
        assert!(text.contains(from));
        fs::write(&path, text.replace(from, to)).unwrap();
        assert!(Manifest::load(dir.path()).is_err(), "{from}");
    }
    let mut lines: Vec<_> = text.lines().collect();
    lines.swap(2, 3);
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    assert!(Manifest::load(dir.path()).is_err());
}

#[test]
fn another_format_is_named() {
    let (dir, _) = stored();
    let path = dir.path().join("manifest.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"version\":1", "\"version\":7")).unwrap();
    let error = Manifest::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("has format flowd-manifest 7, this flowd knows 1"), "{error}");
}

#[test]
fn a_loss_is_recorded_once() {
    let (dir, mut manifest) = stored();
    let torn = |number| LostRows {
        reason: RingDrop::Torn,
        shard: 1,
        lane: Lane::Ipv6,
        blocks: None,
        in_block: Some(number),
        rows: 7,
        received: (3, 4),
    };
    let gone = |number| LostRows { blocks: Some((number, number)), in_block: None, ..torn(0) };
    // Of blocks that are archived or lost as a whole already, nothing is lost now.
    let mut lost = vec![torn(30), gone(4), gone(31), torn(9), torn(32)];
    manifest.record(dir.path(), &mut lost).unwrap();
    assert_eq!(lost, [torn(30), gone(31), torn(32)]);
    let mut manifest = Manifest::load(dir.path()).unwrap();
    assert_eq!(manifest.losses().count(), 4);
    let generation = manifest.generation();
    manifest.record(dir.path(), &mut lost).unwrap();
    assert_eq!((lost, manifest.generation()), (Vec::new(), generation));
}
