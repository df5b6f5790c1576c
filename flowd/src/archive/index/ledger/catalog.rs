//! Catalog: which runs a ledger has, and which segments went into them.
//!
//! ```text
//! STORE/index/ledger/catalog, numbers least octet first
//! "FLOWDLGR" version:4 runs:4 parts:4 segments:4 generation:8 last segment + 1:8
//! { token:8 window:8 days:4 blocks:4 addresses:8 } for each run
//! { XXH3 of a part of the manifest:16 first day:8 last day:8 } for each part
//! { a segment:16 } for each segment, sorted
//! XXH3 of all this:8
//! ```
//! It alone is replaced. Runs that it does not name are nothing.

use super::host::WINDOW_DAYS;
use crate::archive::error::ArchiveError;
use crate::archive::index::bytes::{Reader, put_u32, put_u64};
use crate::archive::index::sidecar::{digest_octets, replace};
use crate::archive::manifest::SegmentEntry;
use std::fs;
use std::io;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

pub(super) const FILE: &str = "catalog";
const MAGIC: [u8; 8] = *b"FLOWDLGR";
const VERSION: u32 = 1;
/// A longer one is not read: it would be of more segments than an archive has in a century.
const SIZE_MAX: u64 = 256 << 20;

/// A run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunEntry {
    /// What its blocks are marked with.
    pub(super) token: u64,
    /// The window that its days lie in.
    pub(super) window: i64,
    /// The days of which it has addresses.
    pub(super) days: u32,
    pub(super) blocks: u32,
    pub(super) hosts: u64,
}

/// A part of the manifest of which all segments of flows that are held are in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartEntry {
    /// Which, and which of its segments were held.
    pub(super) identity: u128,
    /// The days between which these were received.
    pub(super) days: (i64, i64),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Catalog {
    /// Rises with each replacement.
    pub(super) generation: u64,
    /// Greater than the numbers of all segments that went in.
    pub(super) next_segment: u64,
    pub(super) runs: Vec<RunEntry>,
    pub(super) parts: Vec<PartEntry>,
    /// Sorted.
    pub(super) segments: Vec<u128>,
}

/// What a segment is called here: its digest, and its number, so that no other is taken for it.
pub(super) fn segment_key(entry: &SegmentEntry) -> u128 {
    let octets = digest_octets(&entry.sha256);
    let half = std::array::from_fn(|index| octets[index]);
    u128::from_le_bytes(half) ^ u128::from(entry.id)
}

impl Catalog {
    pub(super) fn covers(&self, entry: &SegmentEntry) -> bool {
        self.segments.binary_search(&segment_key(entry)).is_ok()
    }

    /// Reads that of a directory; an empty one if there is none.
    pub(super) fn read(directory: &Path) -> Result<Self, ArchiveError> {
        let path = directory.join(FILE);
        let damaged = |what| ArchiveError::DamagedIndex { path: path.clone(), what };
        let size = match fs::metadata(&path) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(ArchiveError::io("read", &path)(error)),
        };
        if size > SIZE_MAX {
            return Err(damaged("it is too long"));
        }
        let bytes = fs::read(&path).map_err(ArchiveError::io("read", &path))?;
        Self::decode(&bytes).ok_or_else(|| damaged("it is not what was written"))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, mark) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        if Reader(mark).u64()? != xxh3_64(body) {
            return None;
        }
        let mut reader = Reader(body);
        let (magic, version) = (reader.take::<8>()?, reader.u32()?);
        if magic != MAGIC || version != VERSION {
            return None;
        }
        let [runs, parts, segments] = [reader.u32()?, reader.u32()?, reader.u32()?];
        let (generation, next_segment) = (reader.u64()?, reader.u64()?);
        let run = |reader: &mut Reader<'_>| {
            Some(RunEntry {
                token: reader.u64()?,
                window: reader.u64()? as i64,
                days: reader.u32()?,
                blocks: reader.u32()?,
                hosts: reader.u64()?,
            })
        };
        // Collected as they are read: a count that is too great ends with the octets.
        let mut catalog = Self { generation, next_segment, ..Self::default() };
        for _ in 0..runs {
            catalog.runs.push(run(&mut reader)?);
        }
        for _ in 0..parts {
            let identity = u128::from_le_bytes(reader.take()?);
            let days = (reader.u64()? as i64, reader.u64()? as i64);
            catalog.parts.push(PartEntry { identity, days });
        }
        for _ in 0..segments {
            catalog.segments.push(u128::from_le_bytes(reader.take()?));
        }
        let is_sorted = catalog.segments.is_sorted();
        let is_sane = catalog.runs.iter().all(|run| {
            // What follows counts days from here.
            run.window.checked_mul(WINDOW_DAYS).is_some_and(|day| day < i64::MAX - WINDOW_DAYS)
        });
        (reader.rest().is_empty() && is_sorted && is_sane).then_some(catalog)
    }

    fn encode(&self) -> Vec<u8> {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, VERSION);
        put_u32(&mut out, count(self.runs.len()));
        put_u32(&mut out, count(self.parts.len()));
        put_u32(&mut out, count(self.segments.len()));
        put_u64(&mut out, self.generation);
        put_u64(&mut out, self.next_segment);
        for run in &self.runs {
            put_u64(&mut out, run.token);
            put_u64(&mut out, run.window as u64);
            put_u32(&mut out, run.days);
            put_u32(&mut out, run.blocks);
            put_u64(&mut out, run.hosts);
        }
        for part in &self.parts {
            out.extend_from_slice(&part.identity.to_le_bytes());
            put_u64(&mut out, part.days.0 as u64);
            put_u64(&mut out, part.days.1 as u64);
        }
        for segment in &self.segments {
            out.extend_from_slice(&segment.to_le_bytes());
        }
        let mark = xxh3_64(&out);
        put_u64(&mut out, mark);
        out
    }

    /// Replaces that of a directory, safe on disk.
    pub(super) fn write(&mut self, directory: &Path) -> Result<(), ArchiveError> {
        self.generation += 1;
        replace(&directory.join(FILE), &self.encode())
    }
}
