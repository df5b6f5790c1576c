//! Reindex: makes anew what is missing or damaged of the index, from the segments.
//!
//! A sidecar that is made again is the same to the octet, and says which segment it is of: the
//! manifest needs no change, and readers take the new file as soon as it is there. The store's
//! lock is held all the same: of a collector at work, sidecars that are written but not listed
//! yet would be taken for leftovers.

use super::error::ArchiveError;
use super::files::entries;
use super::index::{
    Day, IndexBuilder, LedgerKeeper, Sidecar, date_of, day_path, index_dir, sidecar_path,
};
use super::manifest::{Manifest, SegmentEntry, remove_if_there};
use super::segment::SegmentReader;
use crate::model::{Column, RecordType};
use crate::ring::{Store, StoreLock};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What was made anew.
#[derive(Debug, Default)]
pub struct Reindexed {
    /// Segments whose sidecar was whole.
    pub whole: u64,
    /// Segments whose sidecar was made.
    pub made: u64,
    /// Files of the index that belonged to no segment, and are gone.
    pub removed: u64,
    /// Segments that cannot be read, and so have no index.
    pub failed: Vec<ArchiveError>,
}

/// Makes sidecars for those segments of a store that lack theirs, and takes those into the ledger
/// of addresses that it lacks.
///
/// # Errors
/// If there is no store, another process writes to it, or a file cannot be written.
pub fn reindex(store: &Path) -> Result<Reindexed, ArchiveError> {
    // Found first, so that none is made.
    Store::find(store)?;
    let lock = StoreLock::acquire(store)?;
    let archive_dir = lock.store().archive_dir();
    let manifest = Manifest::load(&archive_dir)?;
    let mut reindexed = Reindexed::default();
    let mut days: BTreeMap<&str, Vec<&SegmentEntry>> = BTreeMap::new();
    for entry in manifest.segments().filter(|entry| entry.record_type == RecordType::Flow) {
        days.entry(date_of(&entry.path)).or_default().push(entry);
    }
    for segments in days.values() {
        reindex_day(&archive_dir, segments, &mut reindexed)?;
    }
    reindexed.removed = remove_leftovers(&archive_dir, &manifest)?;
    LedgerKeeper::open(&archive_dir).repair(&manifest)?;
    Ok(reindexed)
}

/// Makes what the segments of a day lack. Their common file is made as a whole or not at all.
fn reindex_day(
    archive_dir: &Path,
    segments: &[&SegmentEntry],
    reindexed: &mut Reindexed,
) -> Result<(), ArchiveError> {
    let Some(first) = segments.first() else {
        return Ok(());
    };
    let path = day_path(archive_dir, &first.path);
    let is_whole = Day::read(archive_dir, &first.path).is_ok_and(|day| {
        let is_known = |entry: &&SegmentEntry| day.tells_of(entry);
        !day.is_damaged() && (day.is_full() || segments.iter().all(is_known))
    });
    if !is_whole {
        remove_if_there(&path)?;
    }
    for entry in segments {
        if is_whole && matches!(Sidecar::verify(archive_dir, entry), Ok(Some(_))) {
            reindexed.whole += 1;
            continue;
        }
        match index_of(archive_dir, entry) {
            Ok(index) => {
                if is_whole {
                    index.write_sidecar(archive_dir, &entry.path, &entry.sha256)?;
                } else {
                    index.write_all(archive_dir, &entry.path, &entry.sha256)?;
                }
                reindexed.made += 1;
            }
            Err(error) => reindexed.failed.push(error),
        }
    }
    Ok(())
}

/// A segment's index, as it was made when the segment was written.
fn index_of(archive_dir: &Path, entry: &SegmentEntry) -> Result<IndexBuilder, ArchiveError> {
    let segment = SegmentReader::new(archive_dir, entry.clone());
    let mut builder = IndexBuilder::new(entry.id);
    let columns = IndexBuilder::COLUMNS.map(Column::index);
    for row_group in 0..segment.row_group_count() {
        builder.add_row_group(&segment.read(row_group, &columns)?);
    }
    Ok(builder)
}

/// Removes files of the index that belong to no segment of the manifest: what a kill left, and
/// sidecars of segments that are gone. Only for the one who may write to the store.
pub(super) fn remove_leftovers(
    archive_dir: &Path,
    manifest: &Manifest,
) -> Result<u64, ArchiveError> {
    let listed: BTreeSet<PathBuf> =
        manifest.segments().map(|entry| sidecar_path(archive_dir, &entry.path)).collect();
    let dates: BTreeSet<PathBuf> =
        manifest.segments().map(|entry| day_path(archive_dir, &entry.path)).collect();
    let mut removed = 0;
    for date in entries(&index_dir(archive_dir), "date=")? {
        for path in entries(&date, "day.")? {
            if !dates.contains(&path) {
                fs::remove_file(&path).map_err(ArchiveError::io("remove", &path))?;
                removed += 1;
            }
        }
        for hour in entries(&date, "hour=")? {
            for path in entries(&hour, "")? {
                if !listed.contains(&path) {
                    fs::remove_file(&path).map_err(ArchiveError::io("remove", &path))?;
                    removed += 1;
                }
            }
        }
    }
    Ok(removed)
}
