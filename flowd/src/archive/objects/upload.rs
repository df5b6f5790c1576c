//! Uploader: segments to their objects, on a thread that nobody waits for.
//!
//! ```text
//! mark made -> object written -> its size looked at -> file unlinked        (upload)
//! mark renamed to *.unwanted -> object removed -> mark unlinked             (removal)
//! ```
//! A kill at any point leaves a file or a mark, by which the next one goes on. Until the object
//! is known to be whole the file stays, and readers prefer it.

use super::super::error::ArchiveError;
use super::super::manifest::{Manifest, SegmentEntry, remove_if_there, sync_dir};
use super::super::retention::remove_empty;
use super::{Objects, REMOTE_EXTENSION, UNWANTED_EXTENSION, remote_path};
use crate::model::time::UnixMillis;
use crate::telemetry::{Counter, Flag};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// The first wait after a failure, in milliseconds; each further one is twice as long.
const RETRY_MILLIS_MIN: i64 = 1_000;
/// The longest wait after a failure.
const RETRY_MILLIS_MAX: i64 = 60_000;
/// How often an uploader looks for work.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What was done with objects since the collector began.
#[derive(Debug, Default)]
pub struct UploadCounters {
    /// Segments that have moved to their objects.
    pub segments: Counter,
    /// Octets of them.
    pub bytes: Counter,
    /// Tries that failed; the segments stay on this machine.
    pub failures: Counter,
    /// Objects removed.
    pub removed: Counter,
}

/// What an archiver leaves for the uploader to do.
#[derive(Debug, Default)]
pub(in crate::archive) struct Uploads {
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Work {
    /// Segments whose file is here, oldest first.
    waiting: BTreeMap<u64, SegmentEntry>,
    /// Paths of segments whose object is to go.
    unwanted: Vec<PathBuf>,
    /// Is room wanted, so that nothing need wait for its time?
    is_pressed: bool,
}

impl Uploads {
    /// What a last one left of an archive that is bound to objects; none if it is not.
    pub(in crate::archive) fn take_up(
        archive_dir: &Path,
        manifest: &Manifest,
    ) -> Result<Option<Arc<Self>>, ArchiveError> {
        if super::reference(archive_dir)?.is_none() {
            return Ok(None);
        }
        let uploads = Self::default();
        for entry in manifest.segments().filter(|entry| archive_dir.join(&entry.path).exists()) {
            uploads.add(entry.clone());
        }
        Ok(Some(Arc::new(uploads)))
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a segment moved when its time comes.
    pub(in crate::archive) fn add(&self, entry: SegmentEntry) {
        self.work().waiting.insert(entry.id, entry);
    }

    /// Has segments stay that the manifest lists no more.
    pub(in crate::archive) fn forget(&self, segments: &[SegmentEntry]) {
        let mut work = self.work();
        for segment in segments {
            work.waiting.remove(&segment.id);
        }
    }

    /// Has the object of a segment removed, if it has one.
    pub(in crate::archive) fn let_go(&self, path: &Path) -> Result<(), ArchiveError> {
        let (remote, unwanted) = (remote_path(path), path.with_extension(UNWANTED_EXTENSION));
        match fs::rename(&remote, &unwanted) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ArchiveError::io("rename", &remote)(error));
            }
            _ => {}
        }
        if unwanted.exists() {
            self.work().unwanted.push(path.to_owned());
        }
        Ok(())
    }

    /// Says whether the disk is nearly full.
    pub(in crate::archive) fn press(&self, is_pressed: bool) {
        self.work().is_pressed = is_pressed;
    }

    fn next_due(&self, now: UnixMillis, after_millis: i64) -> Option<SegmentEntry> {
        let work = self.work();
        let is_due = |entry: &&SegmentEntry| {
            let end = UnixMillis::of_hour(entry.hour.saturating_add(1)).0;
            work.is_pressed || after_millis == 0 || end.saturating_add(after_millis) <= now.0
        };
        work.waiting.values().find(is_due).cloned()
    }
}

/// Moves segments to their objects, and removes objects of segments that are gone.
#[derive(Debug)]
pub struct Uploader {
    objects: Arc<Objects>,
    uploads: Arc<Uploads>,
    counters: Arc<UploadCounters>,
    /// How long after the end of its hour a segment moves; 0: at once.
    after_millis: i64,
    /// Are the objects known to be of this store?
    is_checked: bool,
    /// The wait after the last failure; 0 if there was none.
    wait_millis: i64,
    retry_at: UnixMillis,
}

impl Uploader {
    pub(in crate::archive) fn new(
        archive_dir: &Path,
        uploads: Arc<Uploads>,
        after_millis: i64,
    ) -> Self {
        Self {
            objects: Objects::of(archive_dir),
            uploads,
            counters: Arc::default(),
            after_millis,
            is_checked: false,
            wait_millis: 0,
            retry_at: UnixMillis(i64::MIN),
        }
    }

    /// What has been done so far, for others to look at.
    #[must_use]
    pub fn counters(&self) -> Arc<UploadCounters> {
        Arc::clone(&self.counters)
    }

    /// Does what is due until `stop` is raised, and then, once more, what is due at that time.
    pub fn run(&mut self, stop: &Flag, clock: impl Fn() -> UnixMillis) {
        while !stop.is_raised() {
            let now = clock();
            let wait = self.retry_at.0.saturating_sub(now.0);
            // A clock that was set back is no reason to wait longer.
            if wait <= 0 || wait > RETRY_MILLIS_MAX {
                self.tried(now);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.tried(clock());
    }

    /// Does what is due, and notes how that went: a failure is told once, and its end.
    fn tried(&mut self, now: UnixMillis) {
        match self.work(now) {
            Ok(0) => {}
            Ok(_) if self.wait_millis > 0 => {
                self.wait_millis = 0;
                info!("segments move to the object store again");
            }
            Ok(_) => {}
            Err(error) => {
                self.counters.failures.add(1);
                if self.wait_millis == 0 {
                    warn!(%error, "segments stay on this machine until the object store takes them");
                }
                self.wait_millis = (self.wait_millis * 2).clamp(RETRY_MILLIS_MIN, RETRY_MILLIS_MAX);
                self.retry_at = UnixMillis(now.0.saturating_add(self.wait_millis));
            }
        }
    }

    /// Moves what is due and removes what is unwanted; how many objects that were.
    ///
    /// # Errors
    /// If the object store cannot be reached, or refuses; what is left is tried again.
    pub fn work(&mut self, now: UnixMillis) -> Result<usize, ArchiveError> {
        let mut done = 0;
        while let Some(entry) = self.uploads.next_due(now, self.after_millis) {
            self.upload(&entry)?;
            done += 1;
        }
        loop {
            let path = self.uploads.work().unwanted.pop();
            let Some(path) = path else { return Ok(done) };
            if let Err(error) = self.remove(&path) {
                self.uploads.work().unwanted.push(path);
                return Err(error);
            }
            done += 1;
        }
    }

    fn upload(&mut self, entry: &SegmentEntry) -> Result<(), ArchiveError> {
        let path = self.objects.archive_dir().join(&entry.path);
        let client = match self.is_checked {
            true => self.objects.client()?,
            false => self.objects.check()?,
        };
        self.is_checked = true;
        if let Err(error) = super::super::verify::check_local(&path, entry) {
            // What is damaged or gone does not get better by being moved, nor by waiting.
            warn!(%error, "a segment is not moved to the object store");
            self.counters.failures.add(1);
            self.uploads.forget(std::slice::from_ref(entry));
            return Ok(());
        }
        {
            // Under the lock: one that is withdrawn from here on has its mark seen.
            let work = self.uploads.work();
            if !work.waiting.contains_key(&entry.id) {
                return Ok(());
            }
            let remote = remote_path(&path);
            let made = File::create(&remote).map(drop);
            made.and_then(|()| remote.parent().map_or(Ok(()), sync_dir))
                .map_err(ArchiveError::io("make", &remote))?;
        }
        match client.put_file(&entry.path, &path) {
            // It was withdrawn just now.
            Err(ArchiveError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.uploads.forget(std::slice::from_ref(entry));
                return Ok(());
            }
            result => result?,
        }
        let size = client.size(&entry.path)?;
        if size != entry.bytes {
            let what = "its object has another size than was sent";
            return Err(ArchiveError::DamagedSegment { path, what });
        }
        self.uploads.forget(std::slice::from_ref(entry));
        remove_if_there(&path)?;
        self.counters.segments.add(1);
        self.counters.bytes.add(entry.bytes);
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let client = match self.is_checked {
            true => self.objects.client()?,
            false => self.objects.check()?,
        };
        self.is_checked = true;
        let archive_dir = self.objects.archive_dir();
        let key = path.strip_prefix(archive_dir).unwrap_or(path);
        client.remove(&key.with_extension("parquet").to_string_lossy())?;
        remove_if_there(&path.with_extension(UNWANTED_EXTENSION))?;
        remove_empty(path, archive_dir);
        self.counters.removed.add(1);
        Ok(())
    }
}

/// Is this the mark of an object?
pub(in crate::archive) fn is_mark(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    matches!(extension, Some(REMOTE_EXTENSION | UNWANTED_EXTENSION))
}
