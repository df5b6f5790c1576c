//! StoreSnapshot: ring and archive as of one moment, each record once.
//!
//! The archive puts records into the manifest before it takes their blocks from the ring, and a
//! writer never takes anything away. So a reader that lists the ring's blocks **first** and reads
//! the manifest **after** misses nothing: a block that was gone from the listing is covered by
//! the manifest that follows. A block that both have is passed over in the ring. The other
//! order would need a second look: blocks that are archived and unlinked between the two
//! would be in neither, and where they were their lane's last, no gap would show it.

use super::archiver::segment_files;
use super::error::ArchiveError;
use super::manifest::{LossEntry, Manifest};
use super::segment::SegmentReader;
use crate::model::RecordType;
use crate::ring::{Block, BlockId, Lane, RingError, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often a listing of the ring that shows gaps is made again. Blocks that begin while a
/// directory is listed may be seen without those before them.
const LISTINGS_MAX: usize = 4;

/// Ring and archive as of one moment. Reading takes no lock and needs no right to write.
#[derive(Debug)]
pub struct StoreSnapshot {
    /// The segments, in the order in which they were written.
    pub segments: Vec<SegmentReader>,
    /// The ring's blocks that no segment holds, by shard, lane and number.
    pub blocks: Vec<Arc<Block>>,
    /// Blocks that are neither in the ring nor accounted for in the manifest.
    pub gaps: Vec<BlockGap>,
    /// What is known to be lost.
    pub losses: Vec<LossEntry>,
    /// Block files that cannot be read.
    pub unreadable: Vec<RingError>,
    /// Segments that are gone or cut; they are not among `segments`.
    pub damaged: Vec<ArchiveError>,
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
    /// Looks at a store.
    ///
    /// # Errors
    /// If there is no store, or its manifest cannot be read.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let store = Store::find(path)?;
        let mut snapshot = Self::look(&store)?;
        for _ in 1..LISTINGS_MAX {
            if snapshot.gaps.is_empty() {
                break;
            }
            snapshot = Self::look(&store)?;
        }
        Ok(snapshot)
    }

    fn look(store: &Store) -> Result<Self, ArchiveError> {
        let (blocks, unreadable) = open_blocks(store)?;
        let archive_dir = store.archive_dir();
        let manifest = Manifest::load(&archive_dir)?;
        // A writer makes the manifest before its first segment.
        if !Manifest::exists(&archive_dir) && !segment_files(&archive_dir)?.is_empty() {
            return Err(ArchiveError::MissingManifest(archive_dir));
        }
        let gaps = gaps(&manifest, blocks.iter().map(|block| block.id()));
        let uncovered = |block: &Arc<Block>| !manifest.covers(block.id()) && block.rows() > 0;
        let (mut segments, mut damaged) = (Vec::new(), Vec::new());
        for entry in manifest.segments().cloned() {
            let segment = SegmentReader::new(&archive_dir, entry);
            match segment.check() {
                Ok(()) => segments.push(segment),
                Err(error) => damaged.push(error),
            }
        }
        Ok(Self {
            blocks: blocks.into_iter().filter(uncovered).collect(),
            gaps,
            losses: manifest.losses().cloned().collect(),
            unreadable,
            damaged,
            segments,
        })
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
    pub fn archive_records(&self) -> u64 {
        let entries = self.segments.iter().map(SegmentReader::entry);
        let flows = entries.filter(|entry| is_flow(entry.record_type));
        flows.map(|entry| entry.rows).sum()
    }

    /// Records in the store that are no flows: options data and counters.
    #[must_use]
    pub fn other_records(&self) -> u64 {
        let blocks = self.blocks.iter().map(|block| block.rows() as u64);
        let segments = self.segments.iter().map(|segment| segment.entry().rows);
        blocks.chain(segments).sum::<u64>() - self.flow_records()
    }

    /// Octets of all segments.
    #[must_use]
    pub fn archive_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.entry().bytes).sum()
    }

    /// Octets of the index beside the segments.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        let sidecars: u64 = self.segments.iter().map(SegmentReader::index_bytes).sum();
        let days: BTreeSet<PathBuf> = self.segments.iter().map(SegmentReader::day_path).collect();
        let days = days.iter().filter_map(|path| fs::metadata(path).ok());
        sidecars + days.map(|file| file.len()).sum::<u64>()
    }

    /// The times of receipt of the first and the last record, in milliseconds since 1970.
    #[must_use]
    pub fn received(&self) -> Option<(i64, i64)> {
        let segments = self.segments.iter().map(|segment| segment.entry().received);
        let blocks = self.blocks.iter().map(|block| block.received());
        segments.chain(blocks).reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
    }
}

fn is_flow(record_type: RecordType) -> bool {
    record_type == RecordType::Flow
}

/// Opens the blocks that are there. One that vanished since the listing was archived, which the
/// manifest will say, or dropped.
fn open_blocks(store: &Store) -> Result<(Vec<Arc<Block>>, Vec<RingError>), ArchiveError> {
    let (mut blocks, mut unreadable) = (Vec::new(), Vec::new());
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
