//! Archiver: sealed blocks into segments, exactly once through a kill at any point.
//!
//! ```text
//! claim blocks -> write segment.new, sync, rename -> replace manifest -> unlink blocks
//!              1                                  2                   3
//! ```
//! A kill at 1 leaves a file that no manifest lists: it is removed, and the blocks are archived
//! again. So it does at 2: the segment has its name but no line. At 3 the manifest covers blocks
//! that are still there: they are unlinked. Readers hold to the manifest and pass over blocks
//! that it covers.

use super::clearance::Clearance;
use super::config::{ArchiveConfig, ArchiveCounters};
use super::error::ArchiveError;
use super::files::{segment_files, take_up_files};
use super::free_space::FreeSpace;
use super::index::{LedgerKeeper, SegmentTally};
use super::manifest::{Entry, LossEntry, Manifest, SegmentEntry, remove_if_there, sync_dir};
use super::objects::{Uploader, Uploads};
use super::reindex::remove_leftovers;
use super::retention::{Care, WithdrawnFile};
use super::schema::SegmentColumns;
use super::writer::SegmentWriter;
use crate::model::time::UnixMillis;
use crate::ring::{Block, BlockId, Recovery, Ring, RingConfig, RingError, SealedBlock, StoreLock};
use crate::telemetry::Flag;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// At most so often a failure to archive is logged.
const COMPLAIN_EVERY_MILLIS: i64 = 60_000;

/// A store that this process writes to.
#[derive(Debug)]
pub struct OpenStore {
    /// For the writers of shards.
    pub ring: Arc<Ring>,
    /// To be run on a thread of its own.
    pub archiver: Archiver,
    /// What was found in the ring.
    pub recovery: Recovery,
}

/// Opens a store for writing, and makes it if there is nothing yet.
///
/// # Errors
/// If it is in use, not a store, damaged, or cannot be written to.
pub fn open_store(
    path: &Path,
    ring: RingConfig,
    archive: ArchiveConfig,
) -> Result<OpenStore, ArchiveError> {
    let lock = StoreLock::acquire(path)?;
    // The lock before the manifest, so that it is the last word; the manifest before the ring,
    // so that no block gets a number that is covered already.
    let archive_dir = lock.store().archive_dir();
    let mut manifest = Manifest::load(&archive_dir)?;
    if !Manifest::exists(&archive_dir) && !segment_files(&archive_dir)?.is_empty() {
        return Err(ArchiveError::MissingManifest(archive_dir));
    }
    let floors = manifest.number_floors();
    let tell = |lost: &mut Vec<_>| manifest.record(&archive_dir, lost);
    let (ring, recovery) = Ring::open_telling(lock, ring, floors, tell)?;
    let archiver = Archiver::new(Arc::clone(&ring), archive, manifest)?;
    Ok(OpenStore { ring, archiver, recovery })
}

/// Moves sealed blocks from the ring into segments.
#[derive(Debug)]
pub struct Archiver {
    pub(super) ring: Arc<Ring>,
    pub(super) config: ArchiveConfig,
    pub(super) archive_dir: PathBuf,
    pub(super) manifest: Manifest,
    pub(super) counters: Arc<ArchiveCounters>,
    /// Is the manifest safe on disk, and not only in place?
    pub(super) is_safe: bool,
    /// Waits until the names in a directory are on disk.
    pub(super) sync_names: fn(&Path) -> io::Result<()>,
    /// Says how much room is left.
    pub(super) free_space: fn(&Path) -> io::Result<FreeSpace>,
    /// Claimed blocks that the manifest covers, to be unlinked when it is safe.
    listed: Vec<BlockId>,
    /// Files of segments that are withdrawn.
    pub(super) withdrawn: Vec<WithdrawnFile>,
    /// The first segments of groups that cannot be merged, for this run.
    pub(super) unmergeable: BTreeSet<u64>,
    pub(super) care: Care,
    pub(super) ledger: LedgerKeeper,
    /// What is to move to an object store; none if all stays here.
    pub(super) uploads: Option<Arc<Uploads>>,
    clearance: Arc<Clearance>,
    retry_at: UnixMillis,
    /// When a failure was last logged.
    complained_at: UnixMillis,
}

/// A segment that has its name but is in no manifest yet.
#[derive(Debug)]
pub(super) struct WrittenSegment {
    entry: SegmentEntry,
    blocks: Vec<BlockId>,
    tally: Option<SegmentTally>,
}

impl Archiver {
    /// Takes up what the last one left: segments that no manifest lists, blocks that it covers.
    fn new(
        ring: Arc<Ring>,
        config: ArchiveConfig,
        mut manifest: Manifest,
    ) -> Result<Self, ArchiveError> {
        let archive_dir = ring.store().archive_dir();
        fs::create_dir_all(&archive_dir).map_err(ArchiveError::io("make", &archive_dir))?;
        if let Some(damage) = manifest.head_damage() {
            warn!(damage, "the manifest's copy serves");
        }
        for damage in manifest.damage() {
            warn!(%damage, "a piece of the manifest cannot be read");
        }
        manifest.remove_leftovers(&archive_dir)?;
        let withdrawn = take_up_files(&archive_dir, &manifest, config.unlink_grace_millis)?;
        remove_leftovers(&archive_dir, &manifest)?;
        if !Manifest::exists(&archive_dir) {
            manifest.store(&archive_dir)?;
            let store = ring.store().path();
            let synced = sync_dir(&archive_dir).and_then(|()| sync_dir(store));
            synced.map_err(ArchiveError::io("sync", &archive_dir))?;
        }
        let sealed = ring.sealed_blocks().into_iter().map(|block| block.id);
        let covered: Vec<_> = sealed.filter(|id| manifest.covers(*id)).collect();
        ring.claim(&covered);
        ring.free(&covered)?;
        let care = Care::new(manifest.held().received);
        let ledger = LedgerKeeper::open(&archive_dir);
        let uploads = Uploads::take_up(&archive_dir, &manifest)?;
        let mut archiver = Self {
            ring,
            config,
            archive_dir,
            manifest,
            counters: Arc::default(),
            is_safe: true,
            sync_names: sync_dir,
            free_space: FreeSpace::at,
            listed: Vec::new(),
            withdrawn,
            unmergeable: BTreeSet::new(),
            care,
            ledger,
            uploads,
            clearance: Arc::default(),
            retry_at: UnixMillis(i64::MIN),
            complained_at: UnixMillis(i64::MIN),
        };
        archiver.record_losses()?;
        Ok(archiver)
    }

    /// What has been done so far, for others to look at.
    #[must_use]
    pub fn counters(&self) -> Arc<ArchiveCounters> {
        Arc::clone(&self.counters)
    }

    /// Which blocks it may take, for somebody to say.
    #[must_use]
    pub fn clearance(&self) -> Arc<Clearance> {
        Arc::clone(&self.clearance)
    }

    /// Who moves segments to the object store that the archive is bound to, so long after the end
    /// of their hour, or at once; none if it is not bound. To be run on a thread of its own.
    #[must_use]
    pub fn uploader(&self, after_millis: i64) -> Option<Uploader> {
        let uploads = Arc::clone(self.uploads.as_ref()?);
        Some(Uploader::new(&self.archive_dir, uploads, after_millis))
    }

    /// Records losses that an earlier writer noted and could not tell the manifest of.
    ///
    /// # Errors
    /// If the manifest cannot be replaced.
    pub fn tell(&mut self, mut losses: Vec<LossEntry>) -> Result<(), ArchiveError> {
        losses.retain(|loss| {
            let LossEntry { shard, lane, .. } = *loss;
            let first = loss.blocks.map(|(number, _)| BlockId { shard, lane, number });
            first.is_some_and(|first| !self.manifest.covers(first))
        });
        self.replace_manifest(losses.into_iter().map(Entry::Loss).collect())
    }

    /// Archives what is due until `stop` is raised. What is left then is for
    /// [`Archiver::finish`].
    pub fn run(&mut self, stop: &Flag, clock: impl Fn() -> UnixMillis) {
        const LOOK_EVERY: Duration = Duration::from_millis(500);
        while !stop.is_raised() {
            let now = clock();
            let in_time = || !stop.is_raised();
            // A clock that was set back is no reason to wait longer.
            let wait = self.retry_at.0.saturating_sub(now.0);
            if wait <= 0 || wait > self.config.retry_millis {
                let archived = self.archive_due_while(now, &in_time).map(drop);
                let cared = self.care(now, &in_time);
                if let Err(error) = archived.and(cared) {
                    self.complain(&error, now);
                }
            }
            // Woken by a sealed block; hours end without one.
            self.ring.wakeups().recv_timeout(LOOK_EVERY).ok();
        }
    }

    /// Archives all sealed blocks (after the writers have sealed theirs), unless `deadline` comes
    /// first: [`Ring::sealed_blocks`] are then what is left, which is archived after the next
    /// start. What is lost is recorded in any case.
    ///
    /// # Errors
    /// If something cannot be archived; it stays in the ring.
    pub fn finish(
        &mut self,
        clock: impl Fn() -> UnixMillis,
        deadline: UnixMillis,
    ) -> Result<(), ArchiveError> {
        let in_time = || clock() < deadline;
        self.record_losses()?;
        if self.care.is_held_back {
            return Ok(());
        }
        let groups = groups(self.ring.sealed_blocks(), &self.clearance);
        let archived =
            groups.iter().try_for_each(|blocks| self.archive(blocks, &in_time).map(drop));
        let recorded = self.record_losses();
        archived.and(recorded)
    }

    /// Archives what is due now, and says how many segments that made.
    ///
    /// # Errors
    /// If something cannot be archived; it stays in the ring.
    pub fn archive_due(&mut self, now: UnixMillis) -> Result<usize, ArchiveError> {
        self.archive_due_while(now, &|| true)
    }

    /// Archives what is due now, for as long as it may.
    fn archive_due_while(
        &mut self,
        now: UnixMillis,
        in_time: &dyn Fn() -> bool,
    ) -> Result<usize, ArchiveError> {
        // First, because nothing else remembers them if the archive fails.
        self.record_losses()?;
        if self.care.is_held_back {
            return Ok(0);
        }
        let mut segments = 0;
        let sealed = self.ring.sealed_blocks();
        let mut waiting: u64 = sealed.iter().map(|block| block.size).sum();
        let pressed = waiting > self.config.sealed_size_max;
        for blocks in groups(sealed, &self.clearance) {
            // Once pressed, room is made for some time, so that segments are not slivers.
            let presses = pressed && waiting > self.config.sealed_size_max / 2;
            if presses || self.is_due(&blocks, now) {
                segments += self.archive(&blocks, in_time)?;
                waiting -= blocks.iter().map(|block| block.size).sum::<u64>();
            }
        }
        self.record_losses()?;
        Ok(segments)
    }

    fn is_due(&self, blocks: &[SealedBlock], now: UnixMillis) -> bool {
        blocks.iter().any(|block| {
            let hour_end = UnixMillis::of_hour(block.hour + 1);
            now.0 >= hour_end.0 + self.config.hour_grace_millis
                || now.0 - block.received.0 >= self.config.block_age_max_millis
        })
    }

    /// Archives blocks of one hour and type for as long as it may, and says how many segments
    /// that made.
    fn archive(
        &mut self,
        blocks: &[SealedBlock],
        in_time: &dyn Fn() -> bool,
    ) -> Result<usize, ArchiveError> {
        let mut segments = 0;
        let mut rest = blocks;
        while !rest.is_empty() && in_time() {
            let mut rows = 0;
            let fitting = rest.iter().take_while(|block| {
                let fits = rows < self.config.segment_rows_max;
                rows += block.rows;
                fits
            });
            let (chunk, after) = rest.split_at(fitting.count().max(1));
            if let Some(written) = self.write(chunk, in_time)? {
                self.commit(written)?;
                self.free()?;
                segments += 1;
            }
            rest = after;
        }
        Ok(segments)
    }

    /// Writes blocks of one hour and type into a segment. None if none of them can be read, or
    /// time is over before all are written.
    pub(super) fn write(
        &self,
        blocks: &[SealedBlock],
        in_time: &dyn Fn() -> bool,
    ) -> Result<Option<WrittenSegment>, ArchiveError> {
        let ids: Vec<_> = blocks.iter().map(|block| block.id).collect();
        let claimed = self.ring.claim(&ids);
        let written = self.write_claimed(&claimed, in_time);
        if !matches!(written, Ok(Some(_))) {
            self.ring.release(&ids);
        }
        written
    }

    fn write_claimed(
        &self,
        claimed: &[SealedBlock],
        in_time: &dyn Fn() -> bool,
    ) -> Result<Option<WrittenSegment>, ArchiveError> {
        let mut blocks = Vec::with_capacity(claimed.len());
        for block in claimed {
            match Block::open(&block.path) {
                Ok(opened) => blocks.push(Arc::new(opened)),
                Err(error @ RingError::DamagedBlock { .. }) => {
                    warn!(%error, "put aside");
                    self.ring.set_aside(block.id)?;
                }
                Err(error) if error.is_not_found() => {
                    warn!(%error, "somebody removed a ring block");
                    // There is no file to put aside, but its rows are lost.
                    self.ring.set_aside(block.id).ok();
                }
                Err(error) => return Err(error.into()),
            }
        }
        let Some(first) = blocks.first() else {
            return Ok(None);
        };
        let mut segment = SegmentWriter::create(
            &self.archive_dir,
            self.manifest.next_segment(),
            first.id().lane.record_type(),
            first.hour(),
            SegmentColumns::of_blocks(&blocks),
            self.config.segment,
        )?;
        for block in &blocks {
            if !in_time() {
                return Ok(None);
            }
            segment.write(block)?;
        }
        let blocks = blocks.iter().map(|block| block.id()).collect();
        let tally = segment.take_tally();
        let entry = segment.finish()?;
        Ok(Some(WrittenSegment { entry, blocks, tally }))
    }

    /// Lists a segment, and what was lost until now. From here on it counts, and the blocks
    /// that it covers do not.
    pub(super) fn commit(&mut self, written: WrittenSegment) -> Result<(), ArchiveError> {
        let WrittenSegment { entry, blocks, tally } = written;
        let (id, rows, bytes) = (entry.id, entry.rows, entry.bytes);
        let path = self.archive_dir.join(&entry.path);
        let replaced = self.replace_manifest(vec![Entry::Segment(entry.clone())]);
        if self.manifest.next_segment() <= id {
            self.ring.release(&blocks);
            self.remove_unlisted(&path);
            return replaced;
        }
        if let Some(tally) = tally {
            self.ledger.hand(&entry, tally);
        }
        if let Some(uploads) = &self.uploads {
            uploads.add(entry);
        }
        self.listed.extend(blocks);
        self.counters.segments.add(1);
        self.counters.rows.add(rows);
        self.counters.bytes.add(bytes);
        replaced
    }

    /// Removes a segment that could not be listed. Its number is given again, maybe in another
    /// hour, so that nothing would replace it.
    #[expect(clippy::unused_self, reason = "a step of the archiver, as its neighbours are")]
    pub(super) fn remove_unlisted(&self, path: &PathBuf) {
        if let Err(error) = remove_if_there(path) {
            warn!(%error, "an unlisted segment stays until the next start");
        }
    }

    /// Unlinks blocks that the manifest covers, if it is safe.
    fn free(&mut self) -> Result<(), ArchiveError> {
        if !self.is_safe {
            return Ok(());
        }
        Ok(self.ring.free(&std::mem::take(&mut self.listed))?)
    }

    fn record_losses(&mut self) -> Result<(), ArchiveError> {
        self.replace_manifest(Vec::new())?;
        self.free()
    }

    /// Adds lines and all that was lost until now to the manifest, in one replacement. It may be
    /// in place although it is not known to be safe, which is an error.
    pub(super) fn replace_manifest(&mut self, entries: Vec<Entry>) -> Result<(), ArchiveError> {
        let lost = self.ring.take_lost();
        // One that could not be synced is written again: what a failed sync left is not known.
        if entries.is_empty() && lost.is_empty() && self.is_safe {
            return Ok(());
        }
        let mut manifest = self.manifest.clone();
        for loss in lost.iter().cloned() {
            manifest.push(Entry::Loss(loss.into()));
        }
        for entry in entries {
            manifest.push(entry);
        }
        if let Err(error) = manifest.store(&self.archive_dir) {
            // If it failed after the manifest had its name, readers go by it, and so must we.
            let there = Manifest::generation_there(&self.archive_dir);
            if !there.is_ok_and(|there| there == manifest.generation()) {
                self.ring.return_lost(lost);
                return Err(error);
            }
        }
        self.manifest = manifest;
        self.is_safe = false;
        let synced = (self.sync_names)(&self.archive_dir);
        synced.map_err(ArchiveError::io("sync", &self.archive_dir))?;
        self.is_safe = true;
        Ok(())
    }

    fn complain(&mut self, error: &ArchiveError, now: UnixMillis) {
        self.counters.failures.add(1);
        // What failed is tried again after a while: a full disk is not full for ever.
        self.retry_at = UnixMillis(now.0.saturating_add(self.config.retry_millis));
        if now.0.saturating_sub(self.complained_at.0) >= COMPLAIN_EVERY_MILLIS {
            self.complained_at = now;
            let failures = self.counters.failures.value();
            warn!(%error, failures, "cannot archive; the ring keeps the records");
        }
    }
}

/// Blocks that may go, by hour and type, the oldest hour first, each in the order of receipt.
pub(super) fn groups(blocks: Vec<SealedBlock>, clearance: &Clearance) -> Vec<Vec<SealedBlock>> {
    let mut groups: BTreeMap<(i64, u8), Vec<SealedBlock>> = BTreeMap::new();
    for block in blocks.into_iter().filter(|block| clearance.has(block.id)) {
        let record_type = block.id.lane.record_type();
        let group = groups.entry((block.hour, record_type as u8));
        group.or_default().push(block);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    for group in &mut groups {
        group.sort_by_key(|block| (block.received.0, block.id));
    }
    groups
}
