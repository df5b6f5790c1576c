//! Compaction: small segments of one hour and type into one, exactly once through kills.
//!
//! ```text
//! read slivers -> write segment, sync, rename -> one replacement of the manifest that lists it
//!                                                and withdraws the slivers -> unlink them later
//! ```
//! Up to the replacement the slivers count and the new segment does not; from it on it is the
//! other way round. Their files stay for a while under another name, for those who read by the
//! manifest before.

use super::archiver::Archiver;
use super::error::ArchiveError;
use super::manifest::{Entry, Manifest, SegmentEntry, WithdrawReason};
use super::objects::Objects;
use super::schema::SegmentColumns;
use super::segment::SegmentReader;
use super::writer::SegmentWriter;
use crate::model::time::UnixMillis;
use std::collections::BTreeMap;
use tracing::warn;

/// A segment with fewer rows than this part of the most is a sliver.
const SLIVER_PART: u64 = 8;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Segments that are now part of others.
    pub from: u64,
    /// Segments that they became.
    pub into: u64,
    /// Records in them.
    pub rows: u64,
    /// Segments that were to become part of others and cannot be read.
    pub left: u64,
}

impl Archiver {
    /// Merges the slivers of all hours, whether over or not.
    ///
    /// # Errors
    /// If a segment cannot be written. What cannot be read is left as it is.
    pub fn merge_all(
        &mut self,
        now: UnixMillis,
        in_time: &dyn Fn() -> bool,
    ) -> Result<Merged, ArchiveError> {
        let mut merged = Merged::default();
        let objects = Objects::of(&self.archive_dir);
        let mut reaches = None;
        for group in slivers(&self.manifest, self.config.segment_rows_max, &|_| true) {
            let is_here = |entry: &SegmentEntry| {
                !SegmentReader::among(&objects, entry.clone()).is_remote()
                    || *reaches.get_or_insert_with(|| self.can_reach(&objects))
            };
            let (group, away): (Vec<_>, Vec<_>) = group.into_iter().partition(is_here);
            merged.left += away.len() as u64;
            if group.len() < 2 || !in_time() {
                continue;
            }
            if self.merge(&group, now, in_time)? {
                merged.from += group.len() as u64;
                merged.into += 1;
                merged.rows += group.iter().map(|segment| segment.rows).sum::<u64>();
            } else {
                merged.left += group.len() as u64;
            }
        }
        Ok(merged)
    }

    /// Can the object store be asked? If not, that is told, and what is here is merged.
    fn can_reach(&self, objects: &Objects) -> bool {
        let reached = objects.reach();
        if let Err(error) = &reached {
            warn!(%error, "segments on the object store are not merged");
        }
        reached.is_ok()
    }

    /// Merges the slivers of one hour that is over and whose blocks are all archived.
    pub(super) fn merge_one(
        &mut self,
        now: UnixMillis,
        in_time: &dyn Fn() -> bool,
    ) -> Result<(), ArchiveError> {
        let waiting: Vec<i64> =
            self.ring.sealed_blocks().into_iter().map(|block| block.hour).collect();
        let is_over = |hour: i64| {
            let end = UnixMillis::of_hour(hour.saturating_add(1));
            end.0.saturating_add(self.config.hour_grace_millis) <= now.0 && !waiting.contains(&hour)
        };
        let groups = slivers(&self.manifest, self.config.segment_rows_max, &is_over);
        for group in groups {
            // What is not here is merged by `flowd store compact`: nobody waits for a network.
            let is_here = |segment: &SegmentEntry| self.archive_dir.join(&segment.path).exists();
            if self.unmergeable.contains(&group[0].id) || !group.iter().all(is_here) {
                continue;
            }
            if self.merge(&group, now, in_time)? || !in_time() {
                return Ok(());
            }
            self.unmergeable.insert(group[0].id);
        }
        Ok(())
    }

    /// Puts one segment in the place of several; false if they cannot be read, or time is over.
    pub(super) fn merge(
        &mut self,
        group: &[SegmentEntry],
        now: UnixMillis,
        in_time: &dyn Fn() -> bool,
    ) -> Result<bool, ArchiveError> {
        let Some(entry) = self.write_merged(group, in_time)? else {
            return Ok(false);
        };
        let (id, rows, bytes) = (entry.id, entry.rows, entry.bytes);
        let path = self.archive_dir.join(&entry.path);
        let merged = entry.clone();
        let withdrawn = self.withdraw(group, WithdrawReason::Merged, now);
        let replaced = self.replace_manifest(vec![Entry::Segment(entry), withdrawn]);
        if self.manifest.next_segment() <= id {
            self.remove_unlisted(&path);
            return replaced.map(|()| false);
        }
        if let Some(uploads) = &self.uploads {
            uploads.add(merged);
        }
        self.counters.merged_segments.add(group.len() as u64);
        self.counters.merged_rows.add(rows);
        self.counters.bytes.add(bytes);
        let grace = self.config.unlink_grace_millis;
        self.put_away(group, UnixMillis(now.0.saturating_add(grace)));
        replaced?;
        self.remove_withdrawn(now)?;
        Ok(true)
    }

    /// Writes the rows of several segments as one; none if one of them cannot be read, or time
    /// is over.
    pub(super) fn write_merged(
        &self,
        group: &[SegmentEntry],
        in_time: &dyn Fn() -> bool,
    ) -> Result<Option<SegmentEntry>, ArchiveError> {
        let Some(first) = group.first() else {
            return Ok(None);
        };
        let objects = Objects::of(&self.archive_dir);
        let readers: Vec<SegmentReader> =
            group.iter().map(|entry| SegmentReader::among(&objects, entry.clone())).collect();
        let columns = match SegmentColumns::of_segments(&readers) {
            Ok(columns) => columns,
            Err(error) => {
                warn!(%error, "segments of its hour are not merged");
                return Ok(None);
            }
        };
        let mut merged = SegmentWriter::create(
            &self.archive_dir,
            self.manifest.next_segment(),
            first.record_type,
            first.hour,
            columns.clone(),
            self.config.segment,
        )?;
        for reader in readers {
            for row_group in 0..reader.row_group_count() {
                if !in_time() {
                    return Ok(None);
                }
                match reader.read(row_group, columns.indices()) {
                    Ok(batch) => {
                        merged.write_batch(&batch, reader.row_group_time_range(row_group))?;
                    }
                    Err(error) => {
                        warn!(%error, "segments of its hour are not merged");
                        return Ok(None);
                    }
                }
            }
            merged.take_over(reader.entry());
        }
        merged.finish().map(Some)
    }
}

/// Slivers of the hours asked for, in groups that fit into one segment each.
pub(super) fn slivers(
    manifest: &Manifest,
    rows_max: u64,
    is_wanted: &dyn Fn(i64) -> bool,
) -> Vec<Vec<SegmentEntry>> {
    let mut hours: BTreeMap<(i64, u8), Vec<&SegmentEntry>> = BTreeMap::new();
    let segments = manifest.segments();
    for segment in segments.filter(|segment| segment.rows < rows_max / SLIVER_PART) {
        if is_wanted(segment.hour) {
            let group = hours.entry((segment.hour, segment.record_type as u8));
            group.or_default().push(segment);
        }
    }
    let mut groups: Vec<Vec<SegmentEntry>> = Vec::new();
    for segments in hours.into_values() {
        let mut rows = rows_max;
        for segment in segments {
            if rows + segment.rows > rows_max {
                groups.push(Vec::new());
                rows = 0;
            }
            rows += segment.rows;
            if let Some(group) = groups.last_mut() {
                group.push(segment.clone());
            }
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}
