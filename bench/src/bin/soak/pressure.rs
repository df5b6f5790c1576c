//! Keeps the disk busy: what others write there, and wait for.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

const WRITE_SIZE: usize = 4 << 20;
/// Writes after which the file begins anew.
const WRITES_MAX: u64 = 16;
/// Between one sync and the next write.
const PAUSE: Duration = Duration::from_millis(100);

/// A thread that writes and syncs until it is ended.
pub(crate) struct Pressure {
    stop: Sender<()>,
    thread: JoinHandle<Result<u64>>,
}

impl Pressure {
    pub(crate) fn start(folder: &Path) -> Self {
        let (stop, stopped) = mpsc::channel();
        let path = folder.join("pressure");
        let thread = std::thread::spawn(move || {
            let mut syncs = 0;
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                write(&path, syncs).context("keep the disk busy")?;
                syncs += 1;
            }
            Ok(syncs)
        });
        Self { stop, thread }
    }

    /// Ends it; says how often it synced.
    pub(crate) fn end(self) -> Result<u64> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| bail!("the thread that writes panicked"))
    }
}

fn write(path: &PathBuf, number: u64) -> std::io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    if number.is_multiple_of(WRITES_MAX) {
        file.set_len(0)?;
        file.rewind()?;
    }
    file.write_all(&vec![number as u8; WRITE_SIZE])?;
    file.sync_all()
}
