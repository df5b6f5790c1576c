//! Retention: what of the archive is let go, and when, and how its files go after it.
//!
//! ```text
//! due hours -> a line that withdraws their segments -> files renamed -> files unlinked
//! ```
//! Segments go oldest hour first, and only after the manifest has said so. History is let go for
//! want of room only if somebody said how much of it is to be kept: by time, by size, or how
//! much room is to stay free. Otherwise, when the disk is nearly full, nothing is let go and
//! nothing more is archived, the ring does not grow, and its `WhenFull` decides.

use super::archiver::Archiver;
use super::day_files::DayFiles;
use super::error::ArchiveError;
use super::free_space::FreeSpace;
use super::index::{date_of, day_path};
use super::manifest::{
    Entry, Manifest, SegmentEntry, WithdrawReason, WithdrawnEntry, remove_if_there,
};
use super::segment::withdrawn_path;
use crate::model::time::{HOUR_MILLIS, UnixMillis};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tracing::warn;

/// Room that stays free if nothing else was asked for: a twentieth of the file system, and no
/// more than this.
const KEEP_FREE_DEFAULT_MAX: u64 = 2 << 30;
/// How often age and size are looked at.
const CARE_EVERY_MILLIS: i64 = 10_000;
/// A clock that moves so far between two looks was set, or the machine slept.
const JUMP_MILLIS: i64 = HOUR_MILLIS;
/// For so long after a jump forward nothing goes for its age: a clock that was set wrong is set
/// right by then, or it was right.
const DISTRUST_MILLIS: i64 = 24 * HOUR_MILLIS;
/// Segments that one line withdraws.
const WITHDRAWN_MAX: usize = 1_000;

/// How much of the archive is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Hours that ended longer ago than this go, in milliseconds; none: whatever its age.
    pub keep_millis: Option<i64>,
    /// The oldest go while the archive's segments and all of the index have more octets than this.
    pub keep_size: Option<u64>,
    /// The oldest go while fewer octets than this are free; none: see [`Retention::keep_free`].
    pub keep_free: Option<u64>,
    /// Days of the ledger of addresses that ended longer ago than this go with their records, in
    /// milliseconds; others stay without them. None: all go with them.
    pub keep_ledger_millis: Option<i64>,
}

/// What is to be let go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// The segments, oldest hour first.
    pub segments: Vec<SegmentEntry>,
    /// Is it for want of room rather than by age or size?
    pub for_room: bool,
}

impl Expiry {
    /// Records in all.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.segments.iter().map(|segment| segment.rows).sum()
    }

    /// Octets in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The times of receipt of the first and the last record.
    #[must_use]
    pub fn received(&self) -> Option<(i64, i64)> {
        let spans = self.segments.iter().map(|segment| segment.received);
        spans.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
    }
}

impl Retention {
    /// May history be let go when the disk is full? Not if all of it was to be kept.
    #[must_use]
    pub const fn may_make_room(&self) -> bool {
        self.keep_millis.is_some() || self.keep_size.is_some() || self.keep_free.is_some()
    }

    /// Octets that stay free on a file system of some size.
    #[must_use]
    pub fn keep_free(&self, total: u64) -> u64 {
        self.keep_free.unwrap_or_else(|| (total / 20).min(KEEP_FREE_DEFAULT_MAX))
    }

    /// Octets that must become free for what was asked to stay free.
    ///
    /// # Errors
    /// If nobody can say how much is free.
    pub fn wanted(&self, archive_dir: &Path) -> Result<u64, ArchiveError> {
        let Some(keep) = self.keep_free else { return Ok(0) };
        let space = FreeSpace::at(archive_dir);
        let free = space.map_err(ArchiveError::io("look for room at", archive_dir))?.free;
        Ok(keep.saturating_sub(free))
    }

    /// What is to go of an archive. `now` is none where ages cannot be trusted; `wanted` octets are
    /// to become free besides, for which only segments go that are here rather than on an object
    /// store.
    #[must_use]
    pub fn due(
        &self,
        archive_dir: &Path,
        manifest: &Manifest,
        now: Option<UnixMillis>,
        wanted: u64,
        is_here: &dyn Fn(&SegmentEntry) -> bool,
    ) -> Expiry {
        let mut hours: BTreeMap<i64, Vec<&SegmentEntry>> = BTreeMap::new();
        let mut size = 0;
        for segment in manifest.segments() {
            hours.entry(segment.hour).or_default().push(segment);
            size += octets(segment);
        }
        let is_ledger_kept = self.keep_ledger_millis.is_some();
        let days = self.keep_size.map(|_| DayFiles::of(archive_dir, manifest, is_ledger_kept));
        let mut days = days.unwrap_or_default();
        size += days.octets();
        let mut expiry = Expiry::default();
        let mut freed = 0;
        for (hour, segments) in hours {
            let end = UnixMillis::of_hour(hour.saturating_add(1));
            let is_old = now
                .zip(self.keep_millis)
                .is_some_and(|(now, keep)| end.0.saturating_add(keep) <= now.0);
            for segment in segments {
                let is_too_much = self.keep_size.is_some_and(|keep| size > keep);
                let is_for_room = self.may_make_room() && freed < wanted;
                if !is_old && !is_too_much {
                    if !is_for_room {
                        return expiry;
                    }
                    if !is_here(segment) {
                        continue;
                    }
                }
                expiry.for_room |= !is_old && !is_too_much;
                let gone = octets(segment) + days.let_go(segment);
                size -= gone;
                freed += gone;
                expiry.segments.push(segment.clone());
            }
        }
        expiry
    }
}

/// What a segment takes on the disk, its index included.
fn octets(segment: &SegmentEntry) -> u64 {
    segment.bytes + segment.index.as_ref().map_or(0, |index| index.bytes)
}

/// A segment's file that the manifest lists no more.
#[derive(Debug)]
pub(super) struct WithdrawnFile {
    /// Where it lay when it was listed.
    pub(super) path: PathBuf,
    pub(super) is_renamed: bool,
    /// When it is unlinked.
    pub(super) due: UnixMillis,
}

/// What is remembered between two looks at age and room.
#[derive(Debug)]
pub(super) struct Care {
    /// The time at the last look; at first, of the newest record.
    last: UnixMillis,
    /// Until then no age is trusted.
    distrusted_until: UnixMillis,
    cared_at: UnixMillis,
    warned_at: UnixMillis,
    /// Does the full disk keep everything as it is?
    pub(super) is_held_back: bool,
}

impl Care {
    pub(super) fn new(newest: Option<(i64, i64)>) -> Self {
        let long_ago = UnixMillis(i64::MIN);
        Self {
            last: newest.map_or(long_ago, |(_, last)| UnixMillis(last)),
            distrusted_until: long_ago,
            cared_at: long_ago,
            warned_at: long_ago,
            is_held_back: false,
        }
    }

    /// Notes the time; the time by which ages may be told, if they may.
    fn note(&mut self, now: UnixMillis) -> Option<UnixMillis> {
        let since = now.0.saturating_sub(self.last.0);
        if self.last.0 != i64::MIN && since >= JUMP_MILLIS {
            self.distrusted_until = UnixMillis(now.0.saturating_add(DISTRUST_MILLIS));
        } else if since <= -JUMP_MILLIS {
            // Set back, from what may have been too far ahead: what is old by this clock is old.
            self.distrusted_until = UnixMillis(i64::MIN);
        }
        self.last = now;
        (now >= self.distrusted_until).then_some(now)
    }

    /// Is it time to look again? A clock that was set back is no reason to wait.
    fn is_time(&mut self, now: UnixMillis) -> bool {
        let since = now.0.saturating_sub(self.cared_at.0);
        let is_time = !(0..CARE_EVERY_MILLIS).contains(&since);
        if is_time {
            self.cared_at = now;
        }
        is_time
    }

    fn may_warn(&mut self, now: UnixMillis) -> bool {
        const WARN_EVERY_MILLIS: i64 = 600_000;
        let may = !(0..WARN_EVERY_MILLIS).contains(&now.0.saturating_sub(self.warned_at.0));
        if may {
            self.warned_at = now;
        }
        may
    }
}

impl Archiver {
    /// Lets go what is due, merges slivers of hours that are over, and unlinks files whose time
    /// has come. Called again and again; most calls do nothing.
    ///
    /// # Errors
    /// If something cannot be written or removed; it is tried again.
    pub fn care(
        &mut self,
        now: UnixMillis,
        in_time: &dyn Fn() -> bool,
    ) -> Result<(), ArchiveError> {
        let aged = self.care.note(now);
        let wanted = self.guard(now);
        if self.care.is_time(now) || wanted > 0 {
            let expiry = self.due_of(aged, wanted);
            self.expire(&expiry, now)?;
            if !self.care.is_held_back {
                // Before segments are merged: what a part of them went into cannot be told apart.
                let has_more = self.advance_ledger(aged, in_time).unwrap_or_else(|error| {
                    if self.care.may_warn(now) {
                        warn!(%error, "segments are not in the ledger of addresses yet");
                    }
                    false
                });
                if self.config.merges && !has_more {
                    self.merge_one(now, in_time)?;
                }
            }
        }
        self.remove_withdrawn(now)
    }

    /// Takes some segments into the ledger of addresses that it lacks; are there more? `aged` is
    /// the time by which ages may be told, if they may.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn advance_ledger(
        &mut self,
        aged: Option<UnixMillis>,
        in_time: &dyn Fn() -> bool,
    ) -> Result<bool, ArchiveError> {
        let kept_since = self.config.retention.keep_ledger_millis.map(|keep| {
            // Where ages cannot be told, nothing goes.
            UnixMillis(aged.map_or(i64::MIN, |now| now.0.saturating_sub(keep)))
        });
        self.ledger.advance(&self.manifest, kept_since, in_time)
    }

    /// Looks at the room that is left, and says how much must be made. Where none may be made,
    /// nothing is to grow.
    fn guard(&mut self, now: UnixMillis) -> u64 {
        let retention = self.config.retention;
        // Where nobody can say how much is free, writing will tell.
        let Ok(FreeSpace { free, total }) = (self.free_space)(&self.archive_dir) else {
            return 0;
        };
        let keep = retention.keep_free(total);
        let wanted = keep.saturating_sub(free);
        if let Some(uploads) = &self.uploads {
            uploads.press(wanted > 0);
        }
        let is_held_back = wanted > 0 && !retention.may_make_room();
        if is_held_back != self.care.is_held_back {
            self.care.is_held_back = is_held_back;
            self.ring.set_growth(!is_held_back);
        }
        if is_held_back {
            self.counters.held_back.add(1);
            if self.care.may_warn(now) {
                warn!(
                    free,
                    keep,
                    "the disk is nearly full: nothing is archived until there is room; \
                     --keep-for, --keep-size or --keep-free let the oldest go"
                );
            }
        }
        if retention.may_make_room() { wanted } else { 0 }
    }

    /// What is due by a clock that whoever asks can trust.
    ///
    /// # Errors
    /// If nobody can say how much is free.
    pub fn due(&self, now: UnixMillis) -> Result<Expiry, ArchiveError> {
        let retention = self.config.retention;
        let wanted = retention.wanted(&self.archive_dir)?;
        Ok(self.due_of(Some(now), wanted))
    }

    fn due_of(&self, now: Option<UnixMillis>, wanted: u64) -> Expiry {
        let is_here = |segment: &SegmentEntry| {
            self.uploads.is_none() || self.archive_dir.join(&segment.path).exists()
        };
        self.config.retention.due(&self.archive_dir, &self.manifest, now, wanted, &is_here)
    }

    /// Lets go what was found due.
    ///
    /// # Errors
    /// If the manifest cannot be replaced.
    pub fn expire(&mut self, expiry: &Expiry, now: UnixMillis) -> Result<(), ArchiveError> {
        for segments in expiry.segments.chunks(WITHDRAWN_MAX) {
            let rows: u64 = segments.iter().map(|segment| segment.rows).sum();
            let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
            let grace = if expiry.for_room { 0 } else { self.config.unlink_grace_millis };
            let withdrawn = self.withdraw(segments, WithdrawReason::Expired, now);
            self.replace_manifest(vec![withdrawn])?;
            self.put_away(segments, UnixMillis(now.0.saturating_add(grace)));
            self.counters.expired_segments.add(segments.len() as u64);
            self.counters.expired_rows.add(rows);
            self.counters.expired_bytes.add(bytes);
            if expiry.for_room {
                self.counters.expired_for_room.add(rows);
                if self.care.may_warn(now) {
                    warn!(
                        records = rows,
                        bytes, "the disk is nearly full: the oldest hours are let go"
                    );
                }
            }
        }
        Ok(())
    }

    /// The line that withdraws segments.
    pub(super) fn withdraw(
        &self,
        segments: &[SegmentEntry],
        reason: WithdrawReason,
        now: UnixMillis,
    ) -> Entry {
        let segments = segments.iter().map(|segment| segment.id).collect();
        Entry::Withdrawn(WithdrawnEntry { reason, segments, at: now.0 })
    }

    /// Has the files of segments removed that the manifest lists no more.
    pub(super) fn put_away(&mut self, segments: &[SegmentEntry], due: UnixMillis) {
        if let Some(uploads) = &self.uploads {
            uploads.forget(segments);
        }
        let files = segments.iter().map(|segment| WithdrawnFile {
            path: self.archive_dir.join(&segment.path),
            is_renamed: false,
            due,
        });
        self.withdrawn.extend(files);
    }

    /// Renames the files of withdrawn segments, so that no pattern finds them, and unlinks those
    /// whose time has come, with their index.
    ///
    /// # Errors
    /// If a file cannot be removed; it is tried again.
    pub fn remove_withdrawn(&mut self, now: UnixMillis) -> Result<(), ArchiveError> {
        if !self.is_safe {
            return Ok(());
        }
        let mut result = Ok(());
        let mut left = Vec::new();
        let mut gone = Vec::new();
        for mut file in std::mem::take(&mut self.withdrawn) {
            match self.remove_file(&mut file, now) {
                Ok(true) => gone.push(file.path),
                Ok(false) => left.push(file),
                Err(error) => {
                    left.push(file);
                    result = Err(error);
                }
            }
        }
        self.withdrawn = left;
        let days = self.remove_days(&gone);
        result.and(days)
    }

    /// Removes the index of days that no segment is left of since these files are gone.
    fn remove_days(&self, gone: &[PathBuf]) -> Result<(), ArchiveError> {
        if gone.is_empty() {
            return Ok(());
        }
        let held: BTreeSet<&str> =
            self.manifest.segments().map(|segment| date_of(&segment.path)).collect();
        for path in gone {
            let relative = path.strip_prefix(&self.archive_dir).ok().and_then(Path::to_str);
            let Some(segment) = relative.filter(|segment| !held.contains(date_of(segment))) else {
                continue;
            };
            let day = day_path(&self.archive_dir, segment);
            remove_if_there(&day)?;
            // What else is in its directory refuses that it goes.
            day.parent().map(fs::remove_dir).and_then(Result::ok);
        }
        Ok(())
    }

    /// Is a withdrawn file gone now?
    fn remove_file(&self, file: &mut WithdrawnFile, now: UnixMillis) -> Result<bool, ArchiveError> {
        let aside = withdrawn_path(&file.path);
        if !file.is_renamed {
            match fs::rename(&file.path, &aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ArchiveError::io("rename", &file.path)(error));
                }
                _ => file.is_renamed = true,
            }
        }
        // A clock that was set back keeps files no longer than they were to be kept.
        let is_due =
            now >= file.due || file.due.0.saturating_sub(now.0) > self.config.unlink_grace_millis;
        if !is_due {
            return Ok(false);
        }
        remove_if_there(&aside)?;
        for index in self.index_paths(&file.path) {
            remove_if_there(&index)?;
        }
        if let Some(uploads) = &self.uploads {
            uploads.let_go(&file.path)?;
        }
        remove_empty(&file.path, &self.archive_dir);
        Ok(true)
    }

    /// Where the index of a segment may lie.
    fn index_paths(&self, segment: &Path) -> Vec<PathBuf> {
        let relative = segment.strip_prefix(&self.archive_dir).unwrap_or(segment);
        let index = self.ring.store().path().join("index").join(relative);
        let mut with_both = index.clone().into_os_string();
        with_both.push(".idx");
        vec![index.with_extension("idx"), PathBuf::from(with_both)]
    }
}

/// Removes the directories of an hour and a day once nothing is in them.
pub(super) fn remove_empty(path: &Path, archive_dir: &Path) {
    for directory in path.ancestors().skip(1).take(2) {
        let is_ours = directory.starts_with(archive_dir) && directory != archive_dir;
        // One that is not empty refuses.
        if !is_ours || fs::remove_dir(directory).is_err() {
            return;
        }
    }
}
