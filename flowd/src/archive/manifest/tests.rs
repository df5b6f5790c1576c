//! Tests of the manifest alone.

use super::*;
use crate::model::RecordType;
use crate::ring::{BlockId, Lane, LostRows, RingDrop};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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
        tail: None,
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
    assert!(read.entries().eq(manifest.entries()));
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

/// The head of a manifest that has no copy.
fn head_alone(dir: &Path) -> PathBuf {
    fs::remove_file(dir.join("manifest.copy.jsonl")).unwrap();
    dir.join("manifest.jsonl")
}

#[test]
fn a_cut_at_any_octet_is_seen() {
    let (dir, _) = stored();
    let path = head_alone(dir.path());
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
    let path = head_alone(dir.path());
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
    fs::write(&path, text.replace("\"version\":2", "\"version\":7")).unwrap();
    let error = Manifest::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("has format flowd-manifest 7, this flowd knows 2"), "{error}");
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

#[test]
fn a_damaged_head_is_read_from_its_copy() {
    let (dir, manifest) = stored();
    let path = dir.path().join("manifest.jsonl");
    let bytes = fs::read(&path).unwrap();
    for damaged in [&bytes[..bytes.len() / 2], b"", b"no such line\n"] {
        fs::write(&path, damaged).unwrap();
        let read = Manifest::load(dir.path()).unwrap();
        assert!(read.entries().eq(manifest.entries()));
        let damage = read.head_damage().unwrap();
        assert!(damage.contains("is damaged") && damage.contains("manifest.copy"), "{damage}");
    }
    fs::remove_file(&path).unwrap();
    let mut read = Manifest::load(dir.path()).unwrap();
    assert!(read.head_damage().unwrap().contains("is gone"));
    read.store(dir.path()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(dir.path().join("manifest.copy.jsonl")).unwrap());
    assert_eq!(Manifest::load(dir.path()).unwrap().head_damage(), None);
}

/// A manifest of so many segments, one an hour, as version 1 wrote it.
fn write_version_1(dir: &Path, count: u64) -> Vec<Entry> {
    let entries: Vec<Entry> = (0..count).map(|id| segment(id, id, id)).collect();
    let mut lines = Vec::new();
    let mut head = String::new();
    for entry in &entries {
        lines.push(entry.to_line(head));
        head = sha256_hex(lines.last().unwrap().as_bytes());
    }
    let first = format!(
        r#"{{"format":"flowd-manifest","version":1,"generation":9,"nextSegment":{count},"entries":{count},"head":"{head}"}}"#
    );
    fs::write(dir.join("manifest.jsonl"), format!("{first}\n{}\n", lines.join("\n"))).unwrap();
    entries
}

#[test]
fn a_manifest_of_version_1_is_read_and_turned_into_parts() {
    let dir = tempfile::tempdir().unwrap();
    let entries = write_version_1(dir.path(), 700);
    let mut manifest = Manifest::load(dir.path()).unwrap();
    assert!(manifest.entries().eq(&entries));
    assert_eq!((manifest.generation(), manifest.next_segment()), (9, 700));
    manifest.push(segment(700, 700, 700));
    manifest.store(dir.path()).unwrap();
    let read = Manifest::load(dir.path()).unwrap();
    assert_eq!((read.generation(), read.parts.len(), read.tail.len()), (10, 2, 701 - 512));
    assert!(read.entries().take(700).eq(&entries));
    assert_eq!(read.damage().count(), 0);
    assert_eq!(read.covered().collect::<Vec<_>>(), [((1, Lane::Ipv6), (0, 700))]);
}

#[test]
fn a_cut_in_version_1_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    write_version_1(dir.path(), 3);
    let path = dir.path().join("manifest.jsonl");
    let bytes = fs::read(&path).unwrap();
    for size in 0..bytes.len() {
        fs::write(&path, &bytes[..size]).unwrap();
        assert!(Manifest::load(dir.path()).is_err(), "{size}");
    }
}

/// Segments whose flows lie in the hour of their number.
fn hourly(count: u64) -> Manifest {
    let mut manifest = Manifest::default();
    for id in 0..count {
        let Entry::Segment(mut entry) = segment(id, id, id) else { unreachable!() };
        let times = (id.cast_signed() * 10, id.cast_signed() * 10 + 9);
        entry.hour = id.cast_signed();
        entry.received = times;
        entry.row_groups = vec![RowGroupEntry { rows: 10, times: Some(times) }];
        manifest.push(Entry::Segment(entry));
    }
    manifest
}

fn ids(manifest: &Manifest) -> Vec<u64> {
    manifest.segments().map(|segment| segment.id).collect()
}

#[test]
fn a_reader_reads_those_parts_only_that_matter() {
    let dir = tempfile::tempdir().unwrap();
    hourly(1_000).store(dir.path()).unwrap();
    let at = |time: i64| {
        let overlaps = |from, to| from <= time && time <= to;
        Manifest::load_beside(dir.path(), &overlaps, &Answer::default())
    };
    // The last lines are in the head, and always there.
    let tail: Vec<u64> = (768..1_000).collect();
    assert_eq!(ids(&at(-1).unwrap()), tail);
    assert_eq!(ids(&at(2_570).unwrap()), (256..512).chain(tail).collect::<Vec<_>>());
    let held = at(-1).unwrap().held();
    assert_eq!((held.segments, held.flow_rows, held.bytes), (1_000, 10_000, 99_000));
    assert_eq!(held.received, Some((0, 9_999)));
}

fn expired(ids: impl IntoIterator<Item = u64>) -> Entry {
    let segments = ids.into_iter().collect();
    Entry::Withdrawn(WithdrawnEntry { reason: WithdrawReason::Expired, segments, at: 5 })
}

#[test]
fn what_expired_leaves_its_lines_as_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = hourly(1_000);
    manifest.store(dir.path()).unwrap();
    manifest.push(expired(0..300));
    manifest.store(dir.path()).unwrap();
    let read = Manifest::load(dir.path()).unwrap();
    assert_eq!(ids(&read), (300..1_000).collect::<Vec<_>>());
    assert_eq!(read.held().segments, 700);
    let gone = read.expired().unwrap();
    assert_eq!((gone.segments, gone.flow_rows, gone.received), (300, 3_000, (0, 2_999)));
    // The first part is listed no more, and is still the beginning of the chain.
    assert_eq!((read.past.lines, read.parts.len()), (256, 2));
    read.check_past(dir.path()).unwrap();
    assert!(read.is_past(255) && !read.is_past(256));
    assert!(read.has_let_go(7) && read.has_let_go(299) && !read.has_let_go(300));
    assert_eq!(read.number_floors().floor(1, Lane::Ipv6), 1_000);
    read.remove_leftovers(dir.path()).unwrap();
    read.check_past(dir.path()).unwrap();
    let first = fs::read_dir(dir.path().join("manifest")).unwrap();
    let mut parts: Vec<_> = first.map(|entry| entry.unwrap().path()).collect();
    parts.sort();
    fs::remove_file(&parts[0]).unwrap();
    assert!(read.check_past(dir.path()).is_err());
    assert_eq!(ids(&Manifest::load(dir.path()).unwrap()).len(), 700);
}

#[test]
fn a_damaged_part_takes_no_other_with_it() {
    let dir = tempfile::tempdir().unwrap();
    hourly(1_000).store(dir.path()).unwrap();
    let second = fs::read_dir(dir.path().join("manifest")).unwrap();
    let mut parts: Vec<_> = second.map(|entry| entry.unwrap().path()).collect();
    parts.sort();
    let bytes = fs::read(&parts[1]).unwrap();
    let mut changed = bytes.clone();
    changed[1_000] ^= 1;
    for damage in [&bytes[..9_000], b"", &changed] {
        fs::write(&parts[1], damage).unwrap();
        let read = Manifest::load(dir.path()).unwrap();
        assert_eq!(ids(&read), (0..256).chain(512..1_000).collect::<Vec<_>>());
        let told: Vec<_> = read.damage().map(|error| error.to_string()).collect();
        let words = "256 segments with 2560 flows are in no answer";
        assert!(told.len() == 1 && told[0].contains(words), "{told:?}");
        assert_eq!(read.held().flow_rows, 7_440);
        assert!(read.may_list(300) && !read.may_list(600));
    }
    fs::remove_file(&parts[1]).unwrap();
    assert_eq!(Manifest::load(dir.path()).unwrap().damage().count(), 1);
}

#[test]
fn what_a_kill_left_of_parts_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = hourly(300);
    manifest.store(dir.path()).unwrap();
    let parts = dir.path().join("manifest");
    for name in ["0000000256-0123456789ab.jsonl", "0000000256-0123456789ab.jsonl.new", "notes"] {
        fs::write(parts.join(name), "half").unwrap();
    }
    manifest.remove_leftovers(dir.path()).unwrap();
    let left = fs::read_dir(&parts).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(left[1], "notes");
    assert_eq!(ids(&Manifest::load(dir.path()).unwrap()).len(), 300);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is listed, merged and let go, between whichever commits: what is read is what a
    /// plain map says, and the chain holds.
    #[test]
    fn a_manifest_is_what_a_map_says(steps in prop::collection::vec((0u8..4, 0u64..400), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::default();
        let mut naive: BTreeMap<u64, u64> = BTreeMap::new();
        let mut gone = 0;
        for (step, number) in steps {
            match step {
                0 | 1 => for _ in 0..number / 8 {
                    let id = manifest.next_segment();
                    manifest.push(segment(id, id, id));
                    naive.insert(id, 10);
                },
                2 => {
                    let ids: Vec<u64> =
                        naive.keys().copied().take(usize::try_from(number).unwrap()).collect();
                    gone += ids.iter().filter_map(|id| naive.remove(id)).sum::<u64>();
                    manifest.push(expired(ids));
                }
                _ => {
                    manifest.store(dir.path()).unwrap();
                    manifest = Manifest::load(dir.path()).unwrap();
                }
            }
        }
        manifest.store(dir.path()).unwrap();
        let read = Manifest::load(dir.path()).unwrap();
        prop_assert_eq!(read.damage().count(), 0);
        prop_assert_eq!(ids(&read), naive.keys().copied().collect::<Vec<_>>());
        prop_assert_eq!(read.held().flow_rows, naive.values().sum::<u64>());
        prop_assert_eq!(read.expired().map_or(0, |expired| expired.flow_rows), gone);
        read.check_past(dir.path()).unwrap();
    }
}
