//! Verify: is what lies in a store what was written?
//!
//! Everything is read: the manifest's chain, each segment against its SHA-256 and its footer,
//! each sidecar, each block of the ring stripe by stripe. Nothing is changed or locked: a
//! collector may go on meanwhile.

use super::error::ArchiveError;
use super::index::{Day, Sidecar, date_of, day_path, sidecar_path, verify_ledger};
use super::manifest::{Manifest, SegmentEntry, hex};
use super::objects::{Objects, SegmentFile};
use super::segment::SegmentReader;
use super::snapshot::StoreSnapshot;
use crate::model::RecordType;
use crate::ring::{Block, Store};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often a ledger in which something does not hold is looked at: between the catalog and its
/// runs it may have been replaced.
const LEDGER_LOOKS_MAX: usize = 3;

/// A file of a store that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the store.
    pub file: PathBuf,
    /// What does not hold.
    pub what: String,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Damaged and missing files.
    pub findings: Vec<Finding>,
    /// Segments that were read.
    pub segments: u64,
    /// Octets of them.
    pub bytes: u64,
    /// Of these segments, such as were read from the object store.
    pub remote: u64,
    /// Sidecars that were read.
    pub sidecars: u64,
    /// Segments of flows that have no index. They are whole, but slow to search.
    pub unindexed: u64,
    /// Blocks of the ring that were read.
    pub blocks: u64,
}

/// Reads all of a store.
///
/// # Errors
/// If there is no store, or the system refuses to list it. What is damaged is no error but a
/// finding.
pub fn verify(store: &Path) -> Result<Verification, ArchiveError> {
    let store = Store::find(store)?;
    let mut verification = Verification::default();
    // As readers do: the ring first, so that what moves to the archive meanwhile is not missed.
    verification.blocks(&store)?;
    let archive_dir = store.archive_dir();
    let manifest = match Manifest::load(&archive_dir) {
        Ok(manifest) => manifest,
        Err(error) => {
            let file = archive_dir.join(Manifest::FILE);
            verification.find(&store, &file, error.to_string());
            return Ok(verification);
        }
    };
    verification.manifest(&store, &archive_dir, &manifest);
    let objects = Objects::of(&archive_dir);
    let mut reaches = verification.objects(&store, &objects, &manifest);
    for entry in manifest.segments() {
        reaches &= verification.segment(&store, &objects, entry, reaches);
    }
    verification.days(&store, &archive_dir, &manifest);
    verification.ledger(&store, &archive_dir);
    verification.gaps(&store);
    Ok(verification)
}

impl Verification {
    fn find(&mut self, store: &Store, file: &Path, what: String) {
        let file = file.strip_prefix(store.path()).unwrap_or(file).to_owned();
        self.findings.push(Finding { file, what });
    }

    /// The manifest's parts, the copy of its head, and the chain from its first line on.
    fn manifest(&mut self, store: &Store, archive_dir: &Path, manifest: &Manifest) {
        let file = archive_dir.join(Manifest::FILE);
        if let Some(what) = manifest.head_damage() {
            self.find(store, &file, what.to_owned());
        }
        for damage in manifest.damage() {
            self.find(store, &file, damage.to_string());
        }
        if let Err(error) = manifest.check_past(archive_dir) {
            self.find(store, &file, error.to_string());
        }
    }

    fn blocks(&mut self, store: &Store) -> Result<(), ArchiveError> {
        for (_, path) in store.block_files()? {
            match Block::open(&path) {
                Ok(block) => {
                    self.blocks += 1;
                    let torn = block.torn_rows();
                    if torn > 0 {
                        let what = format!("the checksums of {torn} records do not hold");
                        self.find(store, &path, what);
                    }
                }
                // It was archived since it was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) => self.find(store, &path, error.to_string()),
            }
        }
        Ok(())
    }

    /// Can the object store be reached, if a segment is there?
    fn objects(&mut self, store: &Store, objects: &Arc<Objects>, manifest: &Manifest) -> bool {
        let archive_dir = objects.archive_dir();
        let is_any_there = manifest
            .segments()
            .any(|entry| SegmentReader::among(objects, entry.clone()).is_remote());
        if is_any_there && let Err(error) = objects.reach() {
            self.find(store, &Objects::reference_path(archive_dir), error.to_string());
            return false;
        }
        true
    }

    /// Looks at a segment and its index. False if the object store refused to tell of it: nobody
    /// waits for it again then.
    fn segment(
        &mut self,
        store: &Store,
        objects: &Arc<Objects>,
        entry: &SegmentEntry,
        reaches: bool,
    ) -> bool {
        let archive_dir = objects.archive_dir();
        let path = archive_dir.join(&entry.path);
        let segment = SegmentReader::among(objects, entry.clone());
        let is_remote = segment.is_remote();
        if is_remote && !reaches {
            self.find(store, &path, "its object is out of reach".to_owned());
            self.sidecar(store, archive_dir, entry);
            return true;
        }
        if let Err(error) = check_segment(&segment) {
            // It may have expired since the manifest was read.
            if path.exists() || is_listed(archive_dir, entry) {
                self.find(store, &path, error.to_string());
            }
            return !error.is_refusal();
        }
        self.segments += 1;
        self.remote += u64::from(is_remote);
        self.bytes += entry.bytes;
        self.sidecar(store, archive_dir, entry);
        true
    }

    fn sidecar(&mut self, store: &Store, archive_dir: &Path, entry: &SegmentEntry) {
        match Sidecar::verify(archive_dir, entry) {
            Ok(Some(_)) => self.sidecars += 1,
            Ok(None) => self.unindexed += u64::from(entry.record_type == RecordType::Flow),
            Err(error) if is_listed(archive_dir, entry) => {
                self.find(store, &sidecar_path(archive_dir, &entry.path), error.to_string());
            }
            Err(_expired) => {}
        }
    }

    /// The files that tell of all segments of a day.
    fn days(&mut self, store: &Store, archive_dir: &Path, manifest: &Manifest) {
        let mut days: BTreeMap<&str, Vec<&SegmentEntry>> = BTreeMap::new();
        for entry in manifest.segments().filter(|entry| entry.index.is_some()) {
            days.entry(date_of(&entry.path)).or_default().push(entry);
        }
        for segments in days.into_values() {
            let segment = &segments[0].path;
            let what = match Day::read(archive_dir, segment) {
                Ok(day) => {
                    // A record is there before its segment is listed, as long as there is room.
                    let unknown = segments.iter().filter(|entry| !day.tells_of(entry)).count();
                    if unknown == 0 && !day.is_damaged() || day.is_full() {
                        continue;
                    }
                    format!(
                        "it does not hold, or lacks {unknown} segments: run `flowd store compact \
                         --reindex`"
                    )
                }
                Err(error) => error.to_string(),
            };
            self.find(store, &day_path(archive_dir, segment), what);
        }
    }

    /// The ledger of addresses. A run that a collector at work replaced meanwhile is no finding.
    fn ledger(&mut self, store: &Store, archive_dir: &Path) {
        for _ in 1..LEDGER_LOOKS_MAX {
            if verify_ledger(archive_dir).is_empty() {
                return;
            }
        }
        for (file, error) in verify_ledger(archive_dir) {
            self.find(store, &file, error.to_string());
        }
    }

    /// Blocks that neither ring nor manifest accounts for.
    fn gaps(&mut self, store: &Store) {
        let Ok(snapshot) = StoreSnapshot::open(store.path()) else {
            // What is wrong with the manifest was said, or it is being replaced by one that is.
            return;
        };
        for gap in snapshot.gaps {
            let (shard, lane) = (gap.shard, gap.lane.name());
            let what = format!(
                "blocks {} to {} of shard {shard} ({lane}) are missing",
                gap.first, gap.last
            );
            self.find(store, &store.ring_dir(), what);
        }
    }
}

/// Does the manifest, as it is now, list this very segment?
fn is_listed(archive_dir: &Path, entry: &SegmentEntry) -> bool {
    let listed = Manifest::load(archive_dir);
    listed.is_ok_and(|manifest| manifest.segments().any(|segment| segment == entry))
}

fn check_segment(segment: &SegmentReader) -> Result<(), ArchiveError> {
    segment.check()?;
    segment.check_object()?;
    let mut sha256 = Sha256::new();
    segment.open()?.read_all(&mut |octets| sha256.update(octets))?;
    if hex(&sha256.finalize()) != segment.entry().sha256 {
        return Err(ArchiveError::DamagedSegment {
            path: segment.path().to_owned(),
            what: "its SHA-256 is another",
        });
    }
    segment.check_footer()
}

/// Is the file of a segment what the manifest says?
pub(super) fn check_local(path: &Path, entry: &SegmentEntry) -> Result<(), ArchiveError> {
    let file = File::open(path).map_err(ArchiveError::io("open", path))?;
    let mut sha256 = Sha256::new();
    SegmentFile::Local(file).read_all(&mut |octets| sha256.update(octets))?;
    if hex(&sha256.finalize()) == entry.sha256 {
        return Ok(());
    }
    let what = "its SHA-256 is another";
    Err(ArchiveError::DamagedSegment { path: path.to_owned(), what })
}
