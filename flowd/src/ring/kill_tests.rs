//! A writer in another process: read while it appends, and killed.

use super::sample::{NOW, Source, v4_shape};
use super::tests::{counted_rows, fill_counting};
use super::*;
use crate::model::FlowBatch;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Names the store to write to, in the process that is to be killed.
const STORE: &str = "FLOWD_TEST_KILLED_WRITER_STORE";

/// Runs the writer below, with what it says of its progress.
fn spawn_writer(store: &Path) -> (Child, impl Iterator<Item = u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ring::kill_tests::child_of_the_tests_below", "--nocapture"])
        .env(STORE, store)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let progress = lines.filter_map(|line| line.ok()?.strip_prefix("appended ")?.parse().ok());
    (child, progress)
}

/// No test: the other tests run it in a process of its own. Whoever runs all tests runs it too,
/// and then it proves nothing.
#[test]
fn child_of_the_tests_below() {
    let Ok(store) = std::env::var(STORE) else {
        println!("skipped: without {STORE} this is nobody's child");
        return;
    };
    let lock = StoreLock::acquire(Path::new(&store)).unwrap();
    let config = RingConfig { block_rows: 4_096, stripe_rows: 256, ..RingConfig::default() };
    let (ring, _) = Ring::open(lock, config, NumberFloors::default()).unwrap();
    let mut writer = ring.writer(0, NOW).unwrap();
    let (shape, origin) = (v4_shape(), Source(1).origin());
    let (mut batch, mut next) = (FlowBatch::new(), 0);
    // Ends by itself if nobody comes to kill it.
    while next < 5_000_000 {
        batch.clear();
        let rows = batch.append_rows(&shape, &origin, 31);
        fill_counting(&mut batch, rows, &mut next);
        assert_eq!(writer.append(&batch).rows, 31);
        writeln!(std::io::stdout(), "appended {next}").unwrap();
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_it_had_appended() {
    for kill_at in [31, 5_000, 60_000] {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, mut progress) = spawn_writer(dir.path());
        let said = progress.find(|&rows| rows >= kill_at).unwrap();
        let seen = counted_rows(dir.path());
        assert!(seen >= said, "{seen} rows seen of {said}");
        child.kill().unwrap();
        child.wait().unwrap();
        let said = progress.last().unwrap_or(said);

        let lock = StoreLock::acquire(dir.path()).unwrap();
        let (ring, recovery) =
            Ring::open(lock, RingConfig::default(), NumberFloors::default()).unwrap();
        assert_eq!(recovery.lost, []);
        let found = counted_rows(dir.path());
        assert_eq!(recovery.rows, found);
        // It may have appended one more batch than it came to say.
        assert!((said..=said + 31).contains(&found), "{found} rows of {said}");
        let sealed = |(_, path): &(BlockId, std::path::PathBuf)| {
            let block = Block::open(path).unwrap();
            block.is_sealed() && block.stripes().iter().all(|(_, holds)| *holds)
        };
        assert!(ring.store().block_files().unwrap().iter().all(sealed));
    }
}

#[test]
fn a_store_in_use_by_another_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, mut progress) = spawn_writer(dir.path());
    progress.next().unwrap();
    let error = StoreLock::acquire(dir.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("in use by process {}", child.id())), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    StoreLock::acquire(dir.path()).unwrap();
}
