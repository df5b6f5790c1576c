//! StoreSnapshot: ring and archive as of one moment, each record once.
//!
//! The archive puts records into the manifest before it takes their blocks from the ring, and a
//! writer never takes anything away. So a reader that lists the ring's blocks **first** and reads
//! the manifest **after** misses nothing: a block that was gone from the listing is covered by
//! the manifest that follows. A block that both have is passed over in the ring. The other
//! order would need a second look: blocks that are archived and unlinked between the two
//! would be in neither, and where they were their lane's last, no gap would show it.

use super::error::ArchiveError;
use super::files::segment_files;
use super::index::{Answer, index_dir};
use super::manifest::{Expired, Held, LossEntry, Manifest, SegmentEntry};
use super::objects::Objects;
use super::segment::{SegmentReader, WITHDRAWN_EXTENSION};
use crate::model::RecordType;
use crate::ring::{Block, BlockId, Lane, RingError, Store};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often a listing of the ring that shows gaps is made again. Blocks that begin while a
/// directory is listed may be seen without those before them.
const LISTINGS_MAX: usize = 4;
/// Directories between that of the index and a sidecar of options: their kind, day and hour.
const INDEX_DEPTH: usize = 3;

/// Ring and archive as of one moment. Reading takes no lock and needs no right to write.
#[derive(Debug)]
pub struct StoreSnapshot {
    /// The segments that were asked for, in the order in which they were written.
    pub segments: Vec<SegmentReader>,
    /// The ring's blocks that no segment holds, by shard, lane and number.
    pub blocks: Vec<Arc<Block>>,
    /// Blocks that are neither in the ring nor accounted for in the manifest.
    pub gaps: Vec<BlockGap>,
    /// What is known to be lost.
    pub losses: Vec<LossEntry>,
    /// Block files that cannot be read.
    pub unreadable: Vec<RingError>,
    /// Pieces of the manifest that cannot be read; and after [`StoreSnapshot::check`] segments
    /// that are gone or cut, which are then not among `segments`.
    pub damaged: Vec<ArchiveError>,
    /// What was let go for its age or for want of room.
    pub expired: Option<Expired>,
    /// What all segments hold, whether asked for or not.
    held: Held,
    /// What was wrong with the manifest's head, if its copy had to serve.
    head_damage: Option<String>,
    archive_dir: PathBuf,
}

/// Blocks of a lane that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockGap {
    /// Of which writer.
    pub shard: u16,
    /// Of which kind.
    pub lane: Lane,
    /// The first that is missing.
    pub first: u64,
    /// The last that is missing.
    pub last: u64,
}

impl StoreSnapshot {
    /// Looks at all of a store.
    ///
    /// # Errors
    /// If there is no store, or its manifest cannot be read.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        Self::open_beside(path, &|_, _| true, &Answer::default())
    }

    /// Looks at a store for a range of time: of segments and losses only those are listed that
    /// may have something in it, and maybe others. What it costs depends on the range rather
    /// than on how much the store holds: no segment's file is looked at.
    ///
    /// Segments are left out of which the ledger denies that they have what is asked for. What the
    /// store holds and lacks is told as if they were listed. The ledger must be opened first, so
    /// that what it knows is in the manifest that is read.
    ///
    /// # Errors
    /// As [`StoreSnapshot::open`].
    pub fn open_beside(
        path: &Path,
        overlaps: &dyn Fn(i64, i64) -> bool,
        ledger: &Answer,
    ) -> Result<Self, ArchiveError> {
        let store = Store::find(path)?;
        let mut snapshot = Self::look(&store, overlaps, ledger)?;
        for _ in 1..LISTINGS_MAX {
            if snapshot.gaps.is_empty() {
                break;
            }
            snapshot = Self::look(&store, overlaps, ledger)?;
        }
        Ok(snapshot)
    }

    fn look(
        store: &Store,
        overlaps: &dyn Fn(i64, i64) -> bool,
        ledger: &Answer,
    ) -> Result<Self, ArchiveError> {
        let (blocks, unreadable) = open_blocks(store)?;
        let archive_dir = store.archive_dir();
        let manifest = Manifest::load_beside(&archive_dir, overlaps, ledger)?;
        // A writer makes the manifest before its first segment.
        if manifest.generation() == 0
            && !Manifest::exists(&archive_dir)
            && !segment_files(&archive_dir)?.is_empty()
        {
            return Err(ArchiveError::MissingManifest(archive_dir));
        }
        let gaps = gaps(&manifest, blocks.iter().map(|block| block.id()));
        let uncovered = |block: &Arc<Block>| !manifest.covers(block.id()) && block.rows() > 0;
        let segments = manifest.segments().filter(|entry| !ledger.denies(entry)).cloned();
        let objects = Objects::of(&archive_dir);
        Ok(Self {
            blocks: blocks.into_iter().filter(uncovered).collect(),
            gaps,
            losses: manifest.losses().cloned().collect(),
            unreadable,
            damaged: manifest.damage().collect(),
            segments: segments.map(|entry| SegmentReader::among(&objects, entry)).collect(),
            expired: manifest.expired(),
            held: manifest.held(),
            head_damage: manifest.head_damage().map(str::to_owned),
            archive_dir,
        })
    }

    /// Looks at the file of each segment that is listed, and takes out those that are gone or
    /// cut.
    pub fn check(&mut self) {
        let mut whole = Vec::with_capacity(self.segments.len());
        for segment in self.segments.drain(..) {
            match segment.check() {
                Ok(()) => whole.push(segment),
                Err(error) => {
                    let SegmentEntry { record_type, rows, bytes, .. } = segment.entry();
                    match record_type {
                        RecordType::Flow => self.held.flow_rows -= rows,
                        _ => self.held.other_rows -= rows,
                    }
                    self.held.bytes -= bytes;
                    self.held.segments -= 1;
                    self.damaged.push(error);
                }
            }
        }
        self.segments = whole;
    }

    /// What was wrong with the manifest's head, if its copy had to serve. Nothing is missing
    /// for it.
    #[must_use]
    pub fn head_damage(&self) -> Option<&str> {
        self.head_damage.as_deref()
    }

    /// Segments of the archive.
    #[must_use]
    pub const fn segment_count(&self) -> u64 {
        self.held.segments
    }

    /// Flows in the store.
    #[must_use]
    pub fn flow_records(&self) -> u64 {
        self.ring_records() + self.archive_records()
    }

    /// Flows that are in the ring only.
    #[must_use]
    pub fn ring_records(&self) -> u64 {
        let flows = self.blocks.iter().filter(|block| is_flow(block.id().lane.record_type()));
        flows.map(|block| block.rows() as u64).sum()
    }

    /// Flows that are in the archive.
    #[must_use]
    pub const fn archive_records(&self) -> u64 {
        self.held.flow_rows
    }

    /// Records in the store that are no flows: options data and counters.
    #[must_use]
    pub fn other_records(&self) -> u64 {
        let others = self.blocks.iter().filter(|block| !is_flow(block.id().lane.record_type()));
        self.held.other_rows + others.map(|block| block.rows() as u64).sum::<u64>()
    }

    /// Octets of all segments.
    #[must_use]
    pub const fn archive_bytes(&self) -> u64 {
        self.held.bytes
    }

    /// Octets of the index beside the segments, as its files are on the disk.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        octets_in(&index_dir(&self.archive_dir), INDEX_DEPTH)
    }

    /// Octets of segments on the disk that were let go or merged into others, and stay for a while
    /// for those who read them.
    ///
    /// # Errors
    /// If the archive's directories cannot be read.
    pub fn withdrawn_bytes(&self) -> Result<u64, ArchiveError> {
        let files = segment_files(&self.archive_dir)?.into_iter();
        let withdrawn =
            files.filter(|path| path.extension().is_some_and(|it| it == WITHDRAWN_EXTENSION));
        Ok(withdrawn.filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum())
    }

    /// The times of receipt of the first and the last record, in milliseconds since 1970.
    #[must_use]
    pub fn received(&self) -> Option<(i64, i64)> {
        let segments = self.held.received.into_iter();
        let blocks = self.blocks.iter().map(|block| block.received());
        segments.chain(blocks).reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
    }
}

/// Was a segment let go that an older look at the store listed?
///
/// # Errors
/// If the manifest cannot be read.
pub fn was_expired(store: &Path, segment: &SegmentEntry) -> Result<bool, ArchiveError> {
    let manifest = Manifest::load(&Store::find(store)?.archive_dir())?;
    Ok(manifest.has_let_go(segment.id))
}

/// Octets of the files in a directory, and so many levels below. What goes meanwhile takes none.
fn octets_in(directory: &Path, levels: usize) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let octets = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let file = entry.metadata().ok()?;
        Some(match levels.checked_sub(1) {
            Some(levels) if file.is_dir() => octets_in(&entry.path(), levels),
            _ if file.is_file() => file.len(),
            _ => 0,
        })
    });
    octets.sum()
}

fn is_flow(record_type: RecordType) -> bool {
    record_type == RecordType::Flow
}

/// Opens the blocks that are there. One that vanished since the listing was archived, which the
/// manifest will say, or dropped.
fn open_blocks(store: &Store) -> Result<(Vec<Arc<Block>>, Vec<RingError>), ArchiveError> {
    let mut blocks = Vec::new();
    let mut unreadable: Vec<_> = store.ring_fault().into_iter().collect();
    for (_, path) in store.block_files()? {
        match Block::open(&path) {
            Ok(block) => blocks.push(Arc::new(block)),
            Err(error) if error.is_not_found() => {}
            Err(error) => unreadable.push(error),
        }
    }
    Ok((blocks, unreadable))
}

/// The numbers between a lane's first and last that neither manifest nor ring has.
fn gaps(manifest: &Manifest, blocks: impl Iterator<Item = BlockId>) -> Vec<BlockGap> {
    let mut lanes: BTreeMap<(u16, Lane), Vec<(u64, u64)>> = BTreeMap::new();
    for (lane, range) in manifest.covered() {
        lanes.entry(lane).or_default().push(range);
    }
    for id in blocks {
        let lane = lanes.entry((id.shard, id.lane)).or_default();
        lane.push((id.number, id.number));
    }
    let mut gaps = Vec::new();
    for ((shard, lane), mut ranges) in lanes {
        ranges.sort_unstable();
        let mut next = ranges.first().map_or(0, |range| range.0);
        for (first, last) in ranges {
            if first > next {
                gaps.push(BlockGap { shard, lane, first: next, last: first - 1 });
            }
            next = next.max(last + 1);
        }
    }
    gaps
}
