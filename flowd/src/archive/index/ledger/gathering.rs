//! Gathering: the addresses of some segments of one day, into runs.

use super::catalog::{RunEntry, segment_key};
use super::handed::Handed;
use super::run::RunWriter;
use super::tally::Tally;
use super::{day_of, place_of};
use crate::archive::error::ArchiveError;
use crate::archive::index::bytes::put_u64;
use crate::archive::manifest::SegmentEntry;
use crate::archive::segment::SegmentReader;
use std::path::Path;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

/// Addresses that are added up at a time; with more, what there is becomes a run.
const HOSTS_MAX: usize = 1 << 18;

/// What came of adding up.
pub(super) enum Gathered {
    Runs(Vec<RunEntry>),
    NotInTime,
    Unreadable(u64),
}

/// Where segments are, and what is known of them already.
pub(super) struct Sources<'a> {
    pub(super) archive_dir: &'a Path,
    pub(super) directory: &'a Path,
    pub(super) handed: &'a Handed,
    /// The generation of the catalog.
    pub(super) generation: u64,
}

/// Runs that are made of a group of segments.
struct Gathering<'a> {
    directory: &'a Path,
    window: i64,
    bit: u32,
    /// What the names of the runs are made of.
    identity: Vec<u8>,
    tally: Tally,
    runs: Vec<RunEntry>,
}

/// Adds up the addresses of segments of one day. What was handed is not read.
pub(super) fn gather(
    sources: &Sources<'_>,
    group: &[&SegmentEntry],
    in_time: &dyn Fn() -> bool,
) -> Result<Gathered, ArchiveError> {
    let Some(first) = group.first() else {
        return Ok(Gathered::Runs(Vec::new()));
    };
    let (window, bit) = place_of(day_of(first));
    let mut identity = Vec::new();
    put_u64(&mut identity, sources.generation);
    for entry in group {
        identity.extend_from_slice(&segment_key(entry).to_le_bytes());
    }
    let (directory, tally) = (sources.directory, Tally::new(bit));
    let mut gathering = Gathering { directory, window, bit, identity, tally, runs: Vec::new() };
    for entry in group {
        if !in_time() {
            return Ok(Gathered::NotInTime);
        }
        if let Some(handed) = sources.handed.get(entry) {
            gathering.tally.take(handed);
            gathering.write_if_many()?;
        } else if let Some(end) = gathering.read(sources.archive_dir, entry, in_time)? {
            return Ok(end);
        }
    }
    gathering.write()?;
    Ok(Gathered::Runs(gathering.runs))
}

impl Gathering<'_> {
    /// Reads a segment; what there is to say if not all of it was read.
    fn read(
        &mut self,
        archive_dir: &Path,
        entry: &SegmentEntry,
        in_time: &dyn Fn() -> bool,
    ) -> Result<Option<Gathered>, ArchiveError> {
        let columns = Tally::columns();
        let segment = SegmentReader::new(archive_dir, entry.clone());
        for row_group in 0..segment.row_group_count() {
            if !in_time() {
                return Ok(Some(Gathered::NotInTime));
            }
            match segment.read(row_group, &columns) {
                Ok(batch) => self.tally.add(&batch),
                Err(error) => {
                    warn!(%error, "a segment is not in the ledger of addresses");
                    return Ok(Some(Gathered::Unreadable(entry.id)));
                }
            }
            self.write_if_many()?;
        }
        Ok(None)
    }

    fn write_if_many(&mut self) -> Result<(), ArchiveError> {
        if self.tally.len() >= HOSTS_MAX { self.write() } else { Ok(()) }
    }

    /// Makes a run of what there is.
    fn write(&mut self) -> Result<(), ArchiveError> {
        if self.tally.len() == 0 {
            return Ok(());
        }
        let tally = std::mem::replace(&mut self.tally, Tally::new(self.bit));
        put_u64(&mut self.identity, self.runs.len() as u64);
        let token = xxh3_64(&self.identity);
        let mut run = RunWriter::create(self.directory, token)?;
        tally.into_records().iter().try_for_each(|record| run.push(record))?;
        let (blocks, hosts) = run.finish()?;
        let Self { window, bit, .. } = *self;
        self.runs.push(RunEntry { token, window, days: bit, blocks, hosts });
        Ok(())
    }
}
