//! One writer and several readers, each a process of its own, while blocks are sealed, freed and
//! their files used again.

use super::sample::{NOW, Source, v4_shape};
use super::tests::fill_counting;
use super::*;
use crate::model::{Column, ColumnRef, FlowBatch};
use crate::telemetry::Flag;
use std::collections::VecDeque;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const STORE: &str = "FLOWD_TEST_STRESS_STORE";
const ROLE: &str = "FLOWD_TEST_STRESS_ROLE";
/// The writer makes it when it is done, and says in it how many rows it appended.
const DONE: &str = "done";

const BLOCK_ROWS: usize = 4_096;
const BLOCKS: usize = 300;
/// Sealed blocks that stay before the oldest are freed.
const BLOCKS_KEPT: usize = 6;
/// Blocks that a reader keeps mapped to look at again.
const BLOCKS_HELD: usize = 8;
const READERS: usize = 3;

fn spawn(store: &Path, role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ring::stress_tests::child_of_the_test_below", "--nocapture"])
        .envs([(STORE, store.as_os_str()), (ROLE, role.as_ref())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// No test: the one below runs it in processes of their own.
#[test]
fn child_of_the_test_below() {
    let (Ok(store), Ok(role)) = (std::env::var(STORE), std::env::var(ROLE)) else {
        println!("skipped: without {STORE} this is nobody's child");
        return;
    };
    match role.as_str() {
        "writer" => write(Path::new(&store)),
        _ => read(Path::new(&store)),
    }
}

/// Appends rows that count from 0, and frees all but the newest blocks behind itself.
fn write(store: &Path) {
    let lock = StoreLock::acquire(store).unwrap();
    let config = RingConfig {
        block_rows: BLOCK_ROWS,
        stripe_rows: 256,
        block_extras_size_max: 1 << 16,
        block_dictionary_size_max: 1 << 16,
        ..RingConfig::default()
    };
    let (ring, _) = Ring::open(lock, config, NumberFloors::default()).unwrap();
    let done = Arc::new(Flag::default());
    let freeing = {
        let (ring, done) = (Arc::clone(&ring), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut freed = 0;
            while !done.is_raised() {
                ring.wakeups().recv_timeout(Duration::from_millis(10)).ok();
                let mut blocks = ring.sealed_blocks();
                blocks.truncate(blocks.len().saturating_sub(BLOCKS_KEPT));
                let ids: Vec<_> = blocks.iter().map(|block| block.id).collect();
                freed += ring.claim(&ids).iter().map(|block| block.rows).sum::<u64>();
                ring.free(&ids).unwrap();
            }
            freed
        })
    };
    let mut writer = ring.writer(0, NOW).unwrap();
    let (shape, origin) = (v4_shape(), Source(1).origin());
    let (mut batch, mut next) = (FlowBatch::new(), 0);
    while next < (BLOCKS * BLOCK_ROWS) as u64 {
        batch.clear();
        let rows = batch.append_rows(&shape, &origin, 128);
        fill_counting(&mut batch, rows, &mut next);
        assert_eq!(writer.append(&batch).rows, 128);
    }
    writer.seal_all().unwrap();
    done.raise();
    let freed = freeing.join().unwrap();
    let held: u64 = ring.sealed_blocks().iter().map(|block| block.rows).sum();
    assert_eq!((ring.appended().value(), ring.drops().total()), (next, 0));
    assert_eq!(freed + held, next);
    // Else the readers were never put to the test.
    assert!(ring.reused().value() > 0, "no file was used again");
    std::fs::write(store.join(DONE), next.to_string()).unwrap();
}

/// Looks at all blocks again and again, and keeps some mapped long after they are freed.
fn read(store: &Path) {
    let mut held = VecDeque::new();
    let mut newest = 0;
    loop {
        let is_last = store.join(DONE).exists();
        let Ok(found) = Store::find(store) else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let mut end = None;
        for (id, path) in found.block_files().unwrap() {
            let first = id.number * BLOCK_ROWS as u64;
            // Rows between those that are there are neither twice there nor left out, but for
            // those of blocks that a listing beside the writer passed over.
            assert!(end.is_none_or(|end| first >= end));
            let block = match Block::open(&path) {
                Ok(block) => block,
                Err(error) if error.is_not_found() => {
                    // Freed since it was listed, and only whole blocks are.
                    end = Some(first + BLOCK_ROWS as u64);
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            assert_eq!(block.id(), id);
            end = Some(first + check(&block));
            held.push_back(block);
            if held.len() > BLOCKS_HELD {
                let middle = held.remove(BLOCKS_HELD / 2);
                middle.iter().for_each(look_again);
            }
        }
        // What was there once is there until it is freed, and then newer rows are.
        assert!(end.is_none_or(|end| end >= newest), "{end:?} after {newest}");
        newest = end.unwrap_or(newest);
        held.iter().for_each(look_again);
        if is_last {
            assert_eq!(newest, (BLOCKS * BLOCK_ROWS) as u64);
            return;
        }
    }
}

/// A block that was checked once holds the same for as long as it is mapped.
fn look_again(block: &Block) {
    assert_eq!(check(block), block.rows() as u64);
}

/// The rows of a block are those that its number says, from the first on, whole in each column;
/// returns how many.
fn check(block: &Block) -> u64 {
    let column = |column| block.column(column);
    let (octets, sources, directions) = match (
        column(Column::OctetDeltaCount),
        column(Column::SourceIpv4Address),
        column(Column::FlowDirection),
    ) {
        (
            Some(ColumnRef::U64(octets)),
            Some(ColumnRef::U32(sources)),
            Some(ColumnRef::U8(directions)),
        ) => (octets, sources, directions),
        _ => {
            assert_eq!(block.rows(), 0);
            return 0;
        }
    };
    let first = block.id().number * BLOCK_ROWS as u64;
    assert_eq!(octets.len(), block.rows());
    for (number, row) in (first..).zip(0..block.rows()) {
        let found = (octets[row], sources[row], directions[row]);
        assert_eq!(found, (number, (number * 3) as u32, number as u8), "{block:?} row {row}");
    }
    for (rows, holds) in block.stripes() {
        assert!(holds || rows.len() < 256 || !block.is_sealed(), "{block:?} rows {rows:?}");
    }
    block.rows() as u64
}

#[test]
fn readers_in_other_processes_see_whole_rows_while_files_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = spawn(dir.path(), "writer");
    let readers: Vec<_> = (0..READERS).map(|_| spawn(dir.path(), "reader")).collect();
    let written = writer.wait().unwrap().success();
    if !written {
        // The readers would wait for ever.
        std::fs::write(dir.path().join(DONE), "").unwrap();
    }
    let read = readers.into_iter().map(|mut reader| reader.wait().unwrap().success());
    let read: Vec<_> = read.collect();
    assert!(written && read.iter().all(|read| *read), "writer {written}, readers {read:?}");
}
