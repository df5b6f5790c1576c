//! Tests of what a restart finds, after a kill and after a power cut.

use super::sample::{NOW, Source, sent_records};
use super::tests::{by_lane, config, open, stored, v4_batch};
use super::*;
use crate::model::{Column, FlowBatch};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Copies a store as it is, as a kill at this moment leaves it.
fn copy_store(from: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("ring")).unwrap();
    fs::copy(from.join("flowd.json"), copy.path().join("flowd.json")).unwrap();
    for (id, path) in Store::find(from).unwrap().block_files().unwrap() {
        fs::copy(path, copy.path().join("ring").join(id.file_name())).unwrap();
    }
    copy
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_kill_at_any_batch_loses_nothing(seed: u64, batch_count in 1usize..4) {
        let dir = tempfile::tempdir().unwrap();
        let (ring, _) = open(dir.path(), config());
        let mut writer = ring.writer(0, NOW).unwrap();
        let mut source = Source(seed);
        let batches: Vec<_> = (0..batch_count).map(|_| source.batch(5, 200)).collect();
        for batch in &batches {
            writer.append(batch);
        }
        let killed = copy_store(dir.path());
        let (reopened, recovery) = open(killed.path(), config());
        let rows: usize = batches.iter().map(FlowBatch::len).sum();
        prop_assert_eq!((recovery.rows, recovery.lost.len()), (rows as u64, 0));
        prop_assert_eq!(reopened.sealed_blocks().len(), recovery.blocks);
        prop_assert_eq!(&stored(killed.path()), &by_lane(&batches));
        for (_, path) in reopened.store().block_files().unwrap() {
            let block = Block::open(&path).unwrap();
            prop_assert!(block.is_sealed());
            prop_assert!(block.stripes().iter().all(|(_, holds)| *holds));
        }
    }
}

/// Makes a block file look as if another boot had written it.
fn change_boot(path: &Path) {
    use std::os::unix::fs::FileExt;
    let block = Block::open(path).unwrap();
    let head = layout::BlockHead { boot_id: [9; 16], ..*block.head() };
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&block.layout().encode_head(&head), 0).unwrap();
}

fn change_byte(path: &Path, position: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[position] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn after_a_power_cut_only_whole_stripes_are_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(0, NOW).unwrap();
    let batch = Source(11).batch(1, 200);
    let mut source = Source(12);
    let (shape, origin) = (Arc::clone(&batch.runs()[0].shape), source.origin());
    let mut batch = FlowBatch::new();
    source.fill(&mut batch, &shape, &origin, 250, NOW.0);
    writer.append(&batch);
    let cut = copy_store(dir.path());
    let (id, path) = Store::find(cut.path()).unwrap().block_files().unwrap().swap_remove(0);
    let block = Block::open(&path).unwrap();
    let area = *block.layout().column(Column::CollectionTimeMilliseconds).unwrap();
    change_boot(&path);
    // A row of the third stripe of 32; the last 26 rows never got a checksum.
    change_byte(&path, area.start + 70 * 8);
    let (ring, recovery) = open(cut.path(), config());
    assert_eq!(recovery.rows, 192);
    assert_eq!(recovery.lost.len(), 1);
    let lost = &recovery.lost[0];
    assert_eq!((lost.reason, lost.rows, lost.blocks), (RingDrop::Torn, 58, None));
    assert_eq!(lost.in_block, Some(id.number));
    assert_eq!(ring.drops().value(RingDrop::Torn), 58);
    assert_eq!(ring.take_lost(), recovery.lost);
    let mut expected = sent_records(&batch);
    expected.truncate(224);
    expected.drain(64..96);
    assert_eq!(stored(cut.path())[&(0, id.lane)], expected);
    drop(ring);
    // What was rescued is of this boot.
    assert_eq!(open(cut.path(), config()).1.lost, []);
}

#[test]
fn a_page_that_never_reached_the_disk_costs_its_stripe_alone() {
    let dir = tempfile::tempdir().unwrap();
    // A page of counters is a stripe.
    let paged = RingConfig { block_rows: 4_096, stripe_rows: 512, ..config() };
    let (ring, _) = open(dir.path(), paged);
    let mut writer = ring.writer(0, NOW).unwrap();
    let batch = v4_batch(&mut Source(17), 4_096 + 512, NOW.0);
    assert_eq!(writer.append(&batch).rows, 4_608);
    let cut = copy_store(dir.path());
    let blocks = Store::find(cut.path()).unwrap().block_files().unwrap();
    for (_, path) in &blocks {
        change_boot(path);
    }
    let path = &blocks[0].1;
    let area = *Block::open(path).unwrap().layout().column(Column::OctetDeltaCount).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[area.start + 3 * 4_096..][..4_096].fill(0);
    fs::write(path, bytes).unwrap();
    let (_, recovery) = open(cut.path(), paged);
    assert_eq!(recovery.rows, 4_096);
    let lost: Vec<_> = recovery.lost.iter().map(|lost| (lost.reason, lost.rows)).collect();
    assert_eq!(lost, [(RingDrop::Torn, 512)]);
    let mut expected = sent_records(&batch);
    expected.drain(3 * 512..4 * 512);
    assert_eq!(stored(cut.path())[&(0, Lane::Ipv4)], expected);
}

#[test]
fn nothing_of_an_earlier_block_passes_for_one_that_used_its_file_again() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(0, NOW).unwrap();
    writer.append(&v4_batch(&mut Source(18), 512, NOW.0));
    let fixed_size = ring.layout().fixed_size;
    // What of the later block is on the disk, as pages may be, each for itself: its head, or
    // its head and its words.
    for (kept, reason, rows) in
        [(layout::HEAD_SIZE, RingDrop::Damaged, 0), (fixed_size, RingDrop::Torn, 256)]
    {
        let cut = copy_store(dir.path());
        let blocks = Store::find(cut.path()).unwrap().block_files().unwrap();
        let (earlier, later) = (&blocks[0].1, &blocks[1].1);
        let mut bytes = fs::read(earlier).unwrap();
        change_boot(later);
        bytes[..kept].copy_from_slice(&fs::read(later).unwrap()[..kept]);
        fs::write(later, bytes).unwrap();
        let (_, recovery) = open(cut.path(), config());
        assert_eq!(recovery.rows, 256, "the earlier block's own");
        let lost: Vec<_> = recovery.lost.iter().map(|lost| (lost.reason, lost.rows)).collect();
        assert_eq!(lost, [(reason, rows)]);
    }
}

#[test]
fn a_sealed_block_of_another_boot_is_trusted_if_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(0, NOW).unwrap();
    writer.append(&v4_batch(&mut Source(13), 50, NOW.0));
    writer.seal_all().unwrap();
    let copy = copy_store(dir.path());
    let (_, path) = Store::find(copy.path()).unwrap().block_files().unwrap().swap_remove(0);
    change_boot(&path);
    let (_, recovery) = open(copy.path(), config());
    assert_eq!((recovery.rows, recovery.lost.len()), (50, 0));
}

#[test]
fn a_block_of_which_nothing_holds_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(0, NOW).unwrap();
    writer.append(&v4_batch(&mut Source(14), 20, NOW.0));
    let copy = copy_store(dir.path());
    let (_, path) = Store::find(copy.path()).unwrap().block_files().unwrap().swap_remove(0);
    change_boot(&path);
    let (ring, recovery) = open(copy.path(), config());
    assert_eq!((recovery.rows, recovery.blocks), (0, 0));
    let lost = &recovery.lost[0];
    assert_eq!((lost.rows, lost.blocks), (20, Some((0, 0))));
    // Its number is not given again.
    let mut writer = ring.writer(0, NOW).unwrap();
    writer.append(&v4_batch(&mut Source(14), 20, NOW.0));
    assert_eq!(ring.store().block_files().unwrap()[0].0.number, 1);
}

#[test]
fn an_unreadable_block_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(0, NOW).unwrap();
    writer.append(&v4_batch(&mut Source(15), 600, NOW.0));
    let copy = copy_store(dir.path());
    let blocks = Store::find(copy.path()).unwrap().block_files().unwrap();
    change_byte(&blocks[1].1, 20);
    let leftover = copy.path().join("ring/prepared-3.new");
    fs::write(&leftover, "half").unwrap();
    let (_, recovery) = open(copy.path(), config());
    assert_eq!(recovery.rows, 600 - 256);
    assert_eq!(recovery.damaged, [blocks[1].1.clone()]);
    assert_eq!(recovery.lost[0].blocks, Some((1, 1)));
    assert!(!blocks[1].1.exists() && !leftover.exists());
    assert!(copy.path().join("ring/0-ipv4-1.block.damaged").exists());
}

#[test]
fn what_is_lost_is_told_before_anything_that_shows_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _) = open(dir.path(), config());
    let mut writer = ring.writer(0, NOW).unwrap();
    // The first block is torn, the second unreadable, and of the third nothing holds.
    writer.append(&v4_batch(&mut Source(16), 256 + 256 + 20, NOW.0));
    let cut = copy_store(dir.path());
    let blocks = Store::find(cut.path()).unwrap().block_files().unwrap();
    let layout = Block::open(&blocks[0].1).unwrap().layout().clone();
    for (_, path) in [&blocks[0], &blocks[2]] {
        change_boot(path);
        let area = layout.column(Column::CollectionTimeMilliseconds).unwrap();
        change_byte(path, area.start + 8);
    }
    change_byte(&blocks[1].1, 20);
    let contents = || {
        let files = store::files_in(&cut.path().join("ring")).unwrap().into_iter();
        files.map(|path| (fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let before = contents();
    // It is killed as it tells: here, it cannot tell.
    let (mut told, floors) = (Vec::new(), NumberFloors::default());
    let killed = |lost: &mut Vec<LostRows>| {
        told.clone_from(lost);
        Err(RingError::Full { size: 0 })
    };
    let lock = StoreLock::acquire(cut.path()).unwrap();
    Ring::open_telling(lock, config(), floors.clone(), killed).unwrap_err();
    assert!(contents() == before);
    let lost: Vec<_> = told.iter().map(|lost| (lost.reason, lost.in_block, lost.rows)).collect();
    let expected =
        [(RingDrop::Torn, Some(0), 32), (RingDrop::Damaged, None, 0), (RingDrop::Torn, None, 20)];
    assert_eq!(lost, expected);
    // The next start finds the same, and what was told it does not count again.
    let again = |lost: &mut Vec<LostRows>| {
        assert_eq!(*lost, told);
        lost.clear();
        Ok::<_, RingError>(())
    };
    let lock = StoreLock::acquire(cut.path()).unwrap();
    let (ring, recovery) = Ring::open_telling(lock, config(), floors, again).unwrap();
    assert_eq!((recovery.rows, ring.drops().value(RingDrop::Torn)), (224, 0));
    assert_eq!(ring.take_lost(), []);
}
