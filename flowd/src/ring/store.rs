//! The store's directory: what marks it, and the lock that makes its writer the only one.
//!
//! ```text
//! STORE/flowd.json   the mark, with the format's version
//! STORE/lock         locked by the writer; holds its process number
//! STORE/ring/        block files, or STORE/ring.json says where they are
//! STORE/archive/     segments and their manifest
//! ```

use super::error::RingError;
use super::lane::BlockId;
use super::place::Place;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tracing::warn;

const MARK: &str = "flowd.json";
const MARK_NEW: &str = "flowd.json.new";
const LOCK: &str = "lock";
const FORMAT: &str = "flowd-store";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Mark {
    format: String,
    version: u32,
}

/// A directory that is a store of a known format.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    ring: Place,
}

impl Store {
    /// Finds the store at a path, for reading: nothing is made or locked.
    ///
    /// # Errors
    /// If there is none, or its format is not known.
    pub fn find(path: &Path) -> Result<Self, RingError> {
        let mark = path.join(MARK);
        match fs::read_to_string(&mark) {
            Ok(text) => Self::checked(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(RingError::NotADirectory(path.to_owned()))
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RingError::io("read", &mark)(error))
            }
            Err(_) if is_unused(path)? => Err(RingError::NoStore(path.to_owned())),
            Err(_) => Err(RingError::NotAStore(path.to_owned())),
        }
    }

    /// Finds the store at a path, or makes one if there is nothing yet.
    fn find_or_make(path: &Path) -> Result<Self, RingError> {
        match Self::find(path) {
            Err(RingError::NoStore(_)) => {}
            result => return result,
        }
        fs::create_dir_all(path).map_err(RingError::io("make", path))?;
        let mark = Mark { format: FORMAT.to_owned(), version: VERSION };
        let text = serde_json::to_string(&mark).expect("two plain fields") + "\n";
        // Renamed into place, so that a kill in between leaves no half a mark.
        let new = path.join(MARK_NEW);
        let written = File::create(&new)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&new, path.join(MARK)));
        written.map_err(RingError::io("write", &new))?;
        Self::find(path)
    }

    fn checked(path: &Path, mark: &str) -> Result<Self, RingError> {
        let unknown = |found: String| RingError::StoreFormat {
            store: path.to_owned(),
            found,
            known: VERSION,
        };
        match serde_json::from_str::<Mark>(mark) {
            Ok(mark) if mark.format == FORMAT && mark.version == VERSION => {
                Ok(Self { path: path.to_owned(), ring: Place::of(path)? })
            }
            Ok(mark) => Err(unknown(format!("{} {}", mark.format, mark.version))),
            Err(_) => Err(unknown("an unreadable flowd.json".to_owned())),
        }
    }

    /// The store's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where block files lie. The directory may be missing.
    #[must_use]
    pub fn ring_dir(&self) -> PathBuf {
        self.ring.directory.clone()
    }

    /// Why the blocks are not where the store says, if they are not: a ring on a tmpfs is gone
    /// after a restart of the machine. What was archived is there all the same.
    #[must_use]
    pub fn ring_fault(&self) -> Option<RingError> {
        self.ring.fault(&self.path)
    }

    /// Where segments lie. The directory may be missing.
    #[must_use]
    pub fn archive_dir(&self) -> PathBuf {
        self.path.join("archive")
    }

    /// The block files of the ring, by shard, lane and number.
    ///
    /// # Errors
    /// If the ring's directory is there but cannot be read.
    pub fn block_files(&self) -> Result<Vec<(BlockId, PathBuf)>, RingError> {
        if self.ring_fault().is_some() {
            return Ok(Vec::new());
        }
        let mut blocks: Vec<_> = files_in(&self.ring_dir())?
            .into_iter()
            .filter_map(|path| {
                let id = BlockId::from_file_name(path.file_name()?.to_str()?)?;
                Some((id, path))
            })
            .collect();
        blocks.sort_unstable();
        Ok(blocks)
    }
}

/// The files in a directory; none if it is missing.
pub(super) fn files_in(directory: &Path) -> Result<Vec<PathBuf>, RingError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(RingError::io("read", directory))?,
    };
    let paths = entries.map(|entry| Ok(entry?.path()));
    let paths: io::Result<Vec<_>> = paths.collect();
    paths.map_err(RingError::io("read", directory))
}

/// Is nothing there, or nothing but what a writer killed at its start may have left?
fn is_unused(path: &Path) -> Result<bool, RingError> {
    let files = files_in(path)?;
    Ok(files.iter().all(|file| file.ends_with(MARK_NEW)))
}

/// The right to write to a store, held by one process at a time.
#[derive(Debug)]
pub struct StoreLock {
    store: Store,
    /// Locked until they are closed, if only by the end of the process: the store's, and that
    /// of a ring elsewhere.
    _file: File,
    ring_file: Option<File>,
    found_ring: bool,
}

impl StoreLock {
    /// Takes the right to write to the store at a path, which is made if there is nothing yet.
    ///
    /// # Errors
    /// If another process has it, or the path cannot be written to or is not a store.
    pub fn acquire(path: &Path) -> Result<Self, RingError> {
        Store::find_or_make(path)?;
        let file = lock_directory(path)?;
        // What it says of its ring may have changed while another process held the lock.
        let lock =
            Self { store: Store::find(path)?, _file: file, ring_file: None, found_ring: true };
        lock.claim_ring()
    }

    /// Lets the ring be in `directory` from now on, which is made if it is not there. The store
    /// remembers it.
    ///
    /// # Errors
    /// If another store's ring is there, or this one's holds records where it is now.
    pub fn with_ring_dir(mut self, directory: &Path) -> Result<Self, RingError> {
        self.store.ring = self.store.ring.change(&self.store.path, directory)?;
        self.ring_file = None;
        self.claim_ring()
    }

    /// Was the ring where the store said? If not, it has been made anew, and what was in it and
    /// not archived is lost.
    #[must_use]
    pub const fn found_ring(&self) -> bool {
        self.found_ring
    }

    fn claim_ring(mut self) -> Result<Self, RingError> {
        let Store { path, ring } = &self.store;
        if ring.is_elsewhere() {
            self.found_ring = ring.claim(path)?;
            if !self.found_ring {
                warn!(ring = %ring.directory.display(), "the ring is gone, and what was not archived; begun anew");
            }
            self.ring_file = Some(lock_directory(&ring.directory)?);
        }
        Ok(self)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// Locks a directory's lock file and leaves this process's number in it.
fn lock_directory(directory: &Path) -> Result<File, RingError> {
    let lock = directory.join(LOCK);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&lock).map_err(RingError::io("open", &lock))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&lock).unwrap_or_default();
            return Err(RingError::StoreInUse {
                store: directory.to_owned(),
                process: holder.trim().parse().ok(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(RingError::io("lock", &lock)(error)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(RingError::io("write", &lock))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_made_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert!(matches!(Store::find(&path), Err(RingError::NoStore(_))));
        drop(StoreLock::acquire(&path).unwrap());
        assert_eq!(Store::find(&path).unwrap().path(), path);
        drop(StoreLock::acquire(&path).unwrap());
    }

    #[test]
    fn a_second_writer_is_refused_by_the_first_s_number() {
        let dir = tempfile::tempdir().unwrap();
        let first = StoreLock::acquire(dir.path()).unwrap();
        let text = StoreLock::acquire(dir.path()).unwrap_err().to_string();
        let expected = format!(
            "store {} is in use by process {}: stop it or name another --store",
            dir.path().display(),
            std::process::id()
        );
        assert_eq!(text, expected);
        drop(first);
        StoreLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn what_is_no_store_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        let error = StoreLock::acquire(dir.path()).unwrap_err();
        assert!(matches!(error, RingError::NotAStore(_)), "{error}");
        let error = StoreLock::acquire(&file).unwrap_err();
        assert!(matches!(error, RingError::NotADirectory(_)), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }

    #[test]
    fn a_foreign_mark_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (mark, found) in [
            (r#"{"format":"flowd-store","version":9}"#, "flowd-store 9"),
            ("{", "an unreadable flowd.json"),
        ] {
            fs::write(dir.path().join(MARK), mark).unwrap();
            let text = StoreLock::acquire(dir.path()).unwrap_err().to_string();
            assert!(text.contains(found), "{text}");
        }
    }

    #[test]
    fn a_start_that_was_killed_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MARK_NEW), "{").unwrap();
        StoreLock::acquire(dir.path()).unwrap();
    }
}
