//! Tests of the ring as a whole, in one process.

use super::sample::{HOUR, NOW, Sent, Source, sent_records, v4_shape};
use super::*;
use crate::model::time::UnixMillis;
use crate::model::{
    Column, ColumnMut, ColumnRef, ColumnSet, ExtraSpec, FlowBatch, RecordType, Shape,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

pub(super) fn config() -> RingConfig {
    RingConfig {
        block_rows: 256,
        stripe_rows: 32,
        block_extras_size_max: 100_000,
        ..RingConfig::default()
    }
}

pub(super) fn open(path: &Path, config: RingConfig) -> (Arc<Ring>, Recovery) {
    Ring::open(StoreLock::acquire(path).unwrap(), config, NumberFloors::default()).unwrap()
}

/// The records of all blocks, by shard and lane, in the order of their numbers.
pub(super) fn stored(store: &Path) -> BTreeMap<(u16, Lane), Vec<Sent>> {
    let mut stored: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (id, path) in Store::find(store).unwrap().block_files().unwrap() {
        let block = Block::open(&path).unwrap();
        assert_eq!(block.id(), id);
        stored.entry((id.shard, id.lane)).or_default().extend(block_records(&block));
    }
    stored
}

fn block_records(block: &Block) -> Vec<Sent> {
    let (mut records, mut batch) = (Vec::new(), FlowBatch::new());
    while records.len() < block.rows() {
        batch.clear();
        assert_ne!(block.copy_to(records.len()..block.rows(), &mut batch), 0);
        records.extend(sent_records(&batch));
    }
    records
}

pub(super) fn by_lane(batches: &[FlowBatch]) -> BTreeMap<(u16, Lane), Vec<Sent>> {
    let mut lanes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for batch in batches {
        for (row, record) in sent_records(batch).into_iter().enumerate() {
            let lane = Lane::of(&batch.run_of(row).unwrap().shape);
            lanes.entry((0, lane)).or_default().push(record);
        }
    }
    lanes
}

pub(super) fn v4_batch(source: &mut Source, count: usize, received: i64) -> FlowBatch {
    let mut batch = FlowBatch::new();
    let origin = source.origin();
    source.fill(&mut batch, &v4_shape(), &origin, count, received);
    batch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_come_back_as_they_went_in(
        seed: u64, batch_count in 1usize..4, runs in 1usize..12, run_rows_max in 1usize..400,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (ring, _) = open(dir.path(), config());
        let mut writer = ring.writer(0, NOW).unwrap();
        let mut source = Source(seed);
        let mut batches = Vec::new();
        for _ in 0..batch_count {
            let batch = source.batch(runs, run_rows_max);
            let outcome = writer.append(&batch);
            prop_assert_eq!((outcome.rows, outcome.dropped), (batch.len() as u64, 0));
            prop_assert!(outcome.error.is_none());
            batches.push(batch);
            prop_assert_eq!(&stored(dir.path()), &by_lane(&batches));
        }
        writer.seal_all().unwrap();
        prop_assert_eq!(&stored(dir.path()), &by_lane(&batches));
        for (_, path) in ring.store().block_files().unwrap() {
            let block = Block::open(&path).unwrap();
            prop_assert!(block.is_sealed());
            prop_assert!(block.stripes().iter().all(|(_, holds)| *holds));
        }
    }

    #[test]
    fn a_damaged_block_is_read_without_panic(
        seed: u64,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (ring, _) = open(dir.path(), RingConfig { block_rows: 64, ..config() });
        let mut writer = ring.writer(0, NOW).unwrap();
        writer.append(&Source(seed).batch(3, 20));
        writer.seal_all().unwrap();
        let (_, path) = ring.store().block_files().unwrap().swap_remove(0);
        let mut bytes = fs::read(&path).unwrap();
        for (position, value) in damage {
            // Most of the file is holes; the head, the words and the dictionary matter.
            let position = position.index(bytes.len());
            let near = if position % 2 == 0 { 8_192 + position % 128 } else { position };
            bytes[near] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        if let Ok(block) = Block::open_unchecked(&path) {
            drop(block.check_ids());
            drop(block.stripes());
            block.last_stripe();
            assert!(block.received().0 <= block.received().1);
            let mut batch = FlowBatch::new();
            block.copy_to(0..block.rows(), &mut batch);
            for column in block.columns().iter() {
                assert!(block.column(column).is_some());
            }
        }
    }
}

#[test]
fn a_block_never_spans_an_hour_of_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(0, NOW).unwrap();
    writer.append(&v4_batch(&mut Source(1), 100, NOW.0 - 30));
    let blocks = ring.store().block_files().unwrap();
    let blocks = blocks.iter().map(|(_, path)| Block::open(path).unwrap());
    let found: Vec<_> = blocks
        .map(|block| (block.id().number, block.hour(), block.rows(), block.is_sealed()))
        .collect();
    assert_eq!(found, [(0, HOUR - 1, 30, true), (1, HOUR, 70, false)]);

    writer.tick(UnixMillis(NOW.0 + 3_599_999)).unwrap();
    assert_eq!(ring.sealed_blocks().len(), 1);
    writer.tick(UnixMillis::of_hour(HOUR + 1)).unwrap();
    let sealed = ring.sealed_blocks();
    assert_eq!(sealed.len(), 2);
    assert_eq!(sealed[0].received, (NOW.0 - 30, NOW.0 - 1));
    assert_eq!((sealed[1].rows, sealed[1].received), (70, (NOW.0, NOW.0 + 69)));
    assert_eq!(ring.wakeups().try_iter().count(), 1);
}

#[test]
fn a_full_block_is_followed_by_the_next_number() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(7, NOW).unwrap();
    writer.append(&v4_batch(&mut Source(2), 600, NOW.0));
    let rows: Vec<_> = ring
        .store()
        .block_files()
        .unwrap()
        .iter()
        .map(|(id, path)| (id.to_string(), Block::open(path).unwrap().rows()))
        .collect();
    let expected = [("7-ipv4-0", 256), ("7-ipv4-1", 256), ("7-ipv4-2", 88)];
    assert_eq!(rows, expected.map(|(id, rows)| (id.to_owned(), rows)));
    assert_eq!(ring.appended().value(), 600);
}

#[test]
fn absent_columns_and_unused_rows_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = RingConfig::default();
    let (ring, _) = open(dir.path(), config);
    let mut writer = ring.writer(0, NOW).unwrap();
    writer.append(&v4_batch(&mut Source(3), 1_000, NOW.0));
    writer.seal_all().unwrap();
    let (_, path) = ring.store().block_files().unwrap().swap_remove(0);
    let (shape, pages) = (v4_shape(), 4_096);
    let columns: u64 = shape
        .columns
        .iter()
        .map(|column| (column.kind().width() as u64 * 1_000).next_multiple_of(pages))
        .sum();
    // Head and words, shape and origin ids, and what is reserved of the dictionary.
    let rest = 8_192 + pages + 2 * pages + 4 * pages;
    let taken = fs::metadata(&path).unwrap().blocks() * 512;
    // The file system may count a page or two of its own.
    let own = columns + rest..=columns + rest + 2 * pages;
    assert!(own.contains(&taken), "{taken} octets, expected {own:?}");
    assert_eq!(ring.size(), taken);
}

#[test]
fn a_reader_keeps_what_it_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(0, NOW).unwrap();
    let batch = v4_batch(&mut Source(4), 40, NOW.0);
    writer.append(&batch);
    let (id, path) = ring.store().block_files().unwrap().swap_remove(0);
    let before = Block::open(&path).unwrap();
    writer.append(&batch);
    let after = Block::open(&path).unwrap();
    assert_eq!((before.rows(), after.rows()), (40, 80));
    writer.seal_all().unwrap();
    assert_eq!(ring.claim(&[id]).len(), 1);
    ring.free(&[id]).unwrap();
    assert!(!path.exists());
    assert_eq!(ring.size(), 0);
    assert_eq!(block_records(&before), sent_records(&batch));
    assert!(!before.is_sealed());
    assert_eq!(block_records(&after)[40..], sent_records(&batch));
}

#[test]
fn numbers_begin_at_the_floor_and_are_not_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut floors = NumberFloors::default();
    floors.raise(0, Lane::Ipv4, 41);
    let lock = StoreLock::acquire(dir.path()).unwrap();
    let (ring, _) = Ring::open(lock, config(), floors).unwrap();
    let mut writer = ring.writer(0, NOW).unwrap();
    for number in 41..44 {
        writer.append(&v4_batch(&mut Source(5), 1, NOW.0));
        writer.seal_all().unwrap();
        let id = ring.sealed_blocks()[0].id;
        assert_eq!(id.number, number);
        ring.claim(&[id]);
        ring.free(&[id]).unwrap();
    }
}

#[test]
fn a_shard_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let first = ring.writer(0, NOW).unwrap();
    assert!(matches!(ring.writer(0, NOW), Err(RingError::ShardInUse(0))));
    ring.writer(1, NOW).unwrap();
    drop(first);
    ring.writer(0, NOW).unwrap();
}

fn extras_batch(sizes: &[usize]) -> FlowBatch {
    let shape = |size: usize| {
        Arc::new(Shape {
            record_type: RecordType::Flow,
            columns: ColumnSet::of(&[Column::OctetDeltaCount]),
            extras: vec![
                ExtraSpec { enterprise: 9, id: 1, length: u16::try_from(size).unwrap() };
                2
            ],
        })
    };
    let mut batch = FlowBatch::new();
    let origin = Source(6).origin();
    for &size in sizes {
        let row = batch.append_rows(&shape(size), &origin, 1).start;
        batch.push_extras(row, &vec![7; 2 * size]);
    }
    batch
}

#[test]
fn extras_that_do_not_fit_begin_a_new_block() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(0, NOW).unwrap();
    let batch = extras_batch(&[30_000, 30_000, 10, 20]);
    assert_eq!(writer.append(&batch).rows, 4);
    let rows = |(_, path): &(BlockId, std::path::PathBuf)| Block::open(path).unwrap().rows();
    let blocks = ring.store().block_files().unwrap();
    assert_eq!(blocks.iter().map(rows).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(stored(dir.path()), by_lane(&[batch]));
}

#[test]
fn a_record_larger_than_a_block_is_counted_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(0, NOW).unwrap();
    let outcome = writer.append(&extras_batch(&[10, 60_000, 20]));
    assert_eq!((outcome.rows, outcome.dropped), (2, 1));
    assert_eq!(ring.drops().value(RingDrop::TooLarge), 1);
    assert_eq!(stored(dir.path())[&(0, Lane::Ipv4)].len(), 2);
}

#[test]
fn a_full_dictionary_begins_a_new_block() {
    let dir = tempfile::tempdir().unwrap();
    let config = RingConfig { block_dictionary_size_max: 1_000, ..config() };
    let (ring, _) = open(dir.path(), config);
    let mut writer = ring.writer(0, NOW).unwrap();
    let batch = extras_batch(&(0..100).collect::<Vec<_>>());
    assert_eq!(writer.append(&batch).rows, 100);
    assert!(ring.store().block_files().unwrap().len() > 4);
    assert_eq!(stored(dir.path()), by_lane(&[batch]));
}

fn small_config(when_full: WhenFull) -> RingConfig {
    RingConfig { ring_size_max: 150_000, backlog_size_max: 150_000, when_full, ..config() }
}

#[test]
fn a_full_ring_refuses_new_records_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), small_config(WhenFull::DropNew));
    let mut writer = ring.writer(0, NOW).unwrap();
    let (mut appended, mut dropped) = (0, 0);
    for _ in 0..20 {
        let outcome = writer.append(&v4_batch(&mut Source(7), 200, NOW.0));
        assert_eq!(outcome.rows + outcome.dropped, 200);
        assert_eq!(outcome.error.is_some(), outcome.dropped > 0);
        appended += outcome.rows;
        dropped += outcome.dropped;
    }
    assert!(appended > 0 && dropped > 0);
    assert_eq!((ring.appended().value(), ring.drops().total()), (appended, dropped));
    assert_eq!(ring.drops().value(RingDrop::Full), dropped);
    assert_eq!(stored(dir.path())[&(0, Lane::Ipv4)].len() as u64, appended);
    assert_eq!(ring.take_lost(), []);

    // What the archive frees is room again.
    writer.seal_all().unwrap();
    let ids: Vec<_> = ring.sealed_blocks().iter().map(|block| block.id).collect();
    ring.claim(&ids);
    ring.free(&ids).unwrap();
    assert_eq!(writer.append(&v4_batch(&mut Source(7), 200, NOW.0)).rows, 200);
}

#[test]
fn a_full_ring_drops_its_oldest_blocks_and_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), small_config(WhenFull::DropOldest));
    let mut writer = ring.writer(0, NOW).unwrap();
    for hundred in 0..40 {
        let outcome = writer.append(&v4_batch(&mut Source(8), 100, NOW.0 + hundred * 100));
        assert_eq!((outcome.rows, outcome.dropped), (100, 0));
        assert!(ring.size() <= ring.config().size_max() + 100_000);
    }
    let stored = stored(dir.path())[&(0, Lane::Ipv4)].len() as u64;
    let overrun = ring.drops().value(RingDrop::Overrun);
    assert!(overrun > 0);
    assert_eq!(stored + overrun, 4_000);
    assert_eq!(ring.drops().total(), overrun);

    let first = ring.store().block_files().unwrap()[0].0.number;
    let lost = ring.take_lost();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].blocks, lost[0].rows), (Some((0, first - 1)), overrun));
    assert_eq!(lost[0].received.0, NOW.0);
    ring.return_lost(lost.clone());
    assert_eq!(ring.take_lost(), lost);
}

#[test]
fn a_claimed_block_is_not_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), small_config(WhenFull::DropOldest));
    let mut writer = ring.writer(0, NOW).unwrap();
    writer.append(&v4_batch(&mut Source(9), 300, NOW.0));
    let first = ring.sealed_blocks()[0].clone();
    assert_eq!(ring.claim(&[first.id]).len(), 1);
    assert_eq!(ring.claim(&[first.id]).len(), 0);
    for _ in 0..20 {
        writer.append(&v4_batch(&mut Source(9), 200, NOW.0));
    }
    assert!(ring.drops().value(RingDrop::Overrun) > 0);
    assert!(first.path.exists());
    ring.release(&[first.id]);
    assert!(ring.sealed_blocks().contains(&first));
}

#[test]
fn a_reader_beside_the_writer_sees_a_growing_prefix() {
    const ROWS: u64 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), RingConfig { block_rows: 4_096, ..config() });
    let mut writer = ring.writer(0, NOW).unwrap();
    std::thread::scope(|scope| {
        let store = dir.path();
        scope.spawn(move || {
            let (shape, origin) = (v4_shape(), Source(10).origin());
            let (mut batch, mut next) = (FlowBatch::new(), 0);
            while next < ROWS {
                batch.clear();
                let rows = batch.append_rows(&shape, &origin, 37);
                fill_counting(&mut batch, rows, &mut next);
                assert_eq!(writer.append(&batch).rows, 37);
            }
        });
        let mut seen = 0;
        while seen < ROWS {
            let rows = counted_rows(store);
            assert!(rows >= seen, "{rows} rows after {seen}");
            seen = rows;
        }
    });
    let end = counted_rows(dir.path());
    assert_eq!(end, ROWS.next_multiple_of(37));
}

/// Numbers rows on in columns of different widths.
pub(super) fn fill_counting(batch: &mut FlowBatch, rows: std::ops::Range<usize>, next: &mut u64) {
    for row in rows {
        if let ColumnMut::U64(values) = batch.column_mut(Column::OctetDeltaCount) {
            values[row] = *next;
        }
        if let ColumnMut::U32(values) = batch.column_mut(Column::SourceIpv4Address) {
            values[row] = (*next * 3) as u32;
        }
        if let ColumnMut::U8(values) = batch.column_mut(Column::FlowDirection) {
            values[row] = *next as u8;
        }
        if let ColumnMut::I64(values) = batch.column_mut(Column::CollectionTimeMilliseconds) {
            values[row] = NOW.0;
        }
        *next += 1;
    }
}

/// Counts the rows that [`fill_counting`] numbered, and checks that none is torn or missing.
pub(super) fn counted_rows(store: &Path) -> u64 {
    let mut next = 0;
    let mut blocks = Store::find(store).unwrap().block_files().unwrap();
    // Blocks that were made during the listing may be listed without those before them.
    let gap = (0u64..).zip(&blocks).position(|(number, (id, _))| id.number != number);
    blocks.truncate(gap.unwrap_or(blocks.len()));
    for (_, path) in blocks {
        let block = Block::open(&path).unwrap();
        let Some(ColumnRef::U64(octets)) = block.column(Column::OctetDeltaCount) else {
            assert_eq!(block.rows(), 0);
            break;
        };
        let Some(ColumnRef::U32(sources)) = block.column(Column::SourceIpv4Address) else {
            panic!("all rows have a source");
        };
        let Some(ColumnRef::U8(directions)) = block.column(Column::FlowDirection) else {
            panic!("all rows have a direction");
        };
        assert_eq!(octets.len(), block.rows());
        for row in 0..block.rows() {
            let torn = (octets[row], sources[row], directions[row]);
            assert_eq!(torn, (next, (next * 3) as u32, next as u8));
            next += 1;
        }
    }
    next
}

#[test]
fn busy_shards_find_their_next_block_prepared() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(0, NOW).unwrap();
    let batch = v4_batch(&mut Source(16), 100, NOW.0);
    // How soon the other thread has a block ready is up to the machine: leave it more time with
    // each block, until it had.
    let mut rows = 0;
    let mut found_prepared = 0;
    while found_prepared < 10 {
        assert_eq!(writer.append(&batch).rows, 100);
        rows += 100;
        let blocks = u64::try_from(ring.sealed_blocks().len()).unwrap();
        found_prepared = blocks.saturating_sub(ring.unprepared().value());
        assert!(blocks < 1_000, "{found_prepared} of {blocks} were prepared");
        std::thread::sleep(std::time::Duration::from_millis(blocks));
    }
    writer.seal_all().unwrap();
    drop(writer);
    drop(ring);
    let left = fs::read_dir(dir.path().join("ring")).unwrap();
    let new = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        !name.to_str().unwrap().ends_with(".block")
    });
    assert_eq!(new.count(), 0);
    assert_eq!(stored(dir.path())[&(0, Lane::Ipv4)].len(), rows);
}
