//! LedgerKeeper: takes segments into the ledger, and keeps its runs few.
//!
//! Runs are written first and named by the catalog after: a kill leaves files that nothing
//! names, and the segments are taken in again. What turns out to be damaged is forgotten day by
//! day, and made again from the segments.

use super::catalog::{self, Catalog, PartEntry, RunEntry, segment_key};
use super::gathering::{Gathered, Sources, gather};
use super::handed::{Handed, SegmentTally};
use super::host::{HostRecord, WINDOW_DAYS, place_of};
use super::run::{RunReader, RunWriter, file_name};
use super::{day_of, directory};
use crate::archive::error::ArchiveError;
use crate::archive::index::bytes::put_u64;
use crate::archive::manifest::{Entry, Manifest, SegmentEntry, WithdrawReason, remove_if_there};
use crate::model::RecordType;
use crate::model::time::{HOUR_MILLIS, UnixMillis};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

/// Runs of one day, before they become one.
const DAY_RUNS_MAX: usize = 8;
/// Segments whose records are added up together.
const TOGETHER_MAX: usize = 64;

/// Writes an archive's ledger. Only for the one who may write to the store.
#[derive(Debug)]
pub(in crate::archive) struct LedgerKeeper {
    archive_dir: PathBuf,
    directory: PathBuf,
    catalog: Catalog,
    handed: Handed,
    /// Segments that cannot be read, for this run.
    unreadable: HashSet<u64>,
    /// The generation of the manifest of which all is in.
    seen: Option<u64>,
    /// Does the catalog differ from its file?
    is_changed: bool,
}

impl LedgerKeeper {
    /// That of an archive; an empty one if there is none that holds.
    pub(in crate::archive) fn open(archive_dir: &Path) -> Self {
        let directory = directory(archive_dir);
        let catalog = Catalog::read(&directory).unwrap_or_else(|error| {
            warn!(%error, "the ledger of addresses is made anew");
            Catalog::default()
        });
        Self {
            archive_dir: archive_dir.to_owned(),
            directory,
            catalog,
            handed: Handed::default(),
            unreadable: HashSet::new(),
            seen: None,
            is_changed: false,
        }
    }

    /// Takes what was added up of a segment that the manifest lists now.
    pub(in crate::archive) fn hand(&mut self, entry: &SegmentEntry, tally: SegmentTally) {
        self.handed.put(entry, tally);
    }

    /// Takes in segments that the manifest lists and the ledger lacks, and lets go days of which
    /// nothing is held, unless they are kept for longer. Most calls do nothing. At most some
    /// segments at a time: true if there are more.
    ///
    /// # Errors
    /// If something cannot be written.
    pub(in crate::archive) fn advance(
        &mut self,
        manifest: &Manifest,
        kept_since: Option<UnixMillis>,
        in_time: &dyn Fn() -> bool,
    ) -> Result<bool, ArchiveError> {
        if self.seen == Some(manifest.generation()) {
            return Ok(false);
        }
        self.take_over_merged(manifest);
        let held: BTreeMap<u128, &SegmentEntry> =
            flows(manifest).map(|entry| (segment_key(entry), entry)).collect();
        let count = self.catalog.segments.len();
        self.catalog.segments.retain(|key| held.contains_key(key));
        self.forget_handed(|key| held.contains_key(&key));
        self.is_changed |= self.catalog.segments.len() != count;
        self.let_go(manifest, kept_since);
        let mut missing: Vec<&SegmentEntry> =
            held.values().copied().filter(|entry| self.is_missing(entry)).collect();
        missing.sort_by_key(|entry| (day_of(entry), entry.id));
        let mut has_more = false;
        if let Some(first) = missing.first() {
            let day = day_of(first);
            let group = missing.iter().take_while(|entry| day_of(entry) == day);
            let group: Vec<&SegmentEntry> = group.take(TOGETHER_MAX).copied().collect();
            has_more = missing.len() > group.len();
            fs::create_dir_all(&self.directory)
                .map_err(ArchiveError::io("make", &self.directory))?;
            if !self.take_in(&group, in_time)? {
                return Ok(true);
            }
        }
        if in_time()
            && let Err(error) = self.merge_days(!has_more, in_time)
        {
            warn!(%error, "what is damaged of the ledger of addresses is made anew");
            if self.forget_damaged(manifest) == 0 {
                return Err(error);
            }
            has_more = true;
        }
        self.note_parts(manifest);
        self.commit()?;
        if !has_more {
            self.seen = Some(manifest.generation());
        }
        Ok(has_more)
    }

    /// Forgets what was handed of segments that are in, or that nobody holds.
    fn forget_handed(&mut self, is_held: impl Fn(u128) -> bool) {
        let Self { handed, catalog, .. } = self;
        handed.retain(|key| is_held(key) && catalog.segments.binary_search(&key).is_err());
    }

    fn is_missing(&self, entry: &SegmentEntry) -> bool {
        !self.catalog.covers(entry) && !self.unreadable.contains(&entry.id)
    }

    /// A segment that others were merged into is in the ledger if they are.
    fn take_over_merged(&mut self, manifest: &Manifest) {
        let mut keys: HashMap<u64, u128> = HashMap::new();
        let mut before: Option<&SegmentEntry> = None;
        let mut covered: HashSet<u128> = self.catalog.segments.iter().copied().collect();
        let mut added = false;
        let mut torn = Vec::new();
        for entry in manifest.entries() {
            if let (Entry::Withdrawn(withdrawn), Some(merged)) = (entry, before)
                && withdrawn.reason == WithdrawReason::Merged
                && merged.record_type == RecordType::Flow
                && !covered.contains(&segment_key(merged))
            {
                let is_in = |id| keys.get(id).map(|key| covered.contains(key));
                let known: Vec<Option<bool>> = withdrawn.segments.iter().map(is_in).collect();
                if known.iter().all(|is_in| *is_in == Some(true)) {
                    covered.insert(segment_key(merged));
                    self.catalog.next_segment = self.catalog.next_segment.max(merged.id + 1);
                    added = true;
                } else if known.iter().any(|is_in| *is_in != Some(false)) {
                    // A part of its records would be counted twice.
                    torn.push(day_of(merged));
                }
            }
            before = entry.segment();
            if let Some(segment) = before {
                keys.insert(segment.id, segment_key(segment));
            }
        }
        if added {
            self.catalog.segments = covered.into_iter().collect();
            self.catalog.segments.sort_unstable();
            self.is_changed = true;
        }
        for day in torn {
            self.forget(manifest, day);
        }
    }

    /// Drops the runs of a day, and of the days that lie in one run with it. The segments of
    /// these days are missing then, and are taken in again.
    fn forget(&mut self, manifest: &Manifest, day: i64) {
        let (window, mut days) = place_of(day);
        loop {
            let overlaps = |run: &&RunEntry| run.window == window && run.days & days != 0;
            let wider =
                self.catalog.runs.iter().filter(overlaps).fold(days, |all, run| all | run.days);
            if wider == days {
                break;
            }
            days = wider;
        }
        self.catalog.runs.retain(|run| run.window != window || run.days & days == 0);
        let gone: BTreeSet<u128> = flows(manifest)
            .filter(|entry| {
                let (its, bit) = place_of(day_of(entry));
                its == window && bit & days != 0
            })
            .map(segment_key)
            .collect();
        self.catalog.segments.retain(|key| !gone.contains(key));
        self.is_changed = true;
    }

    /// Drops the runs of days of which nothing is held, if they are old enough.
    fn let_go(&mut self, manifest: &Manifest, kept_since: Option<UnixMillis>) {
        let mut held: BTreeMap<i64, u32> = BTreeMap::new();
        for entry in flows(manifest) {
            let (window, bit) = place_of(day_of(entry));
            *held.entry(window).or_default() |= bit;
        }
        // The day of the time is not over by then.
        let first_kept = kept_since.map(|since| since.0.div_euclid(24 * HOUR_MILLIS));
        let count = self.catalog.runs.len();
        self.catalog.runs.retain(|run| {
            let is_held = held.get(&run.window).is_some_and(|days| days & run.days != 0);
            let last_bit = i64::from(31_u32.saturating_sub(run.days.leading_zeros()));
            let last_day = run.window * WINDOW_DAYS + last_bit;
            is_held || first_kept.is_some_and(|first| last_day >= first)
        });
        self.is_changed |= self.catalog.runs.len() != count;
    }

    /// Takes in segments of one day; false if time was over before all were read.
    fn take_in(
        &mut self,
        group: &[&SegmentEntry],
        in_time: &dyn Fn() -> bool,
    ) -> Result<bool, ArchiveError> {
        let mut group = group.to_vec();
        loop {
            let sources = Sources {
                archive_dir: &self.archive_dir,
                directory: &self.directory,
                handed: &self.handed,
                generation: self.catalog.generation,
            };
            match gather(&sources, &group, in_time)? {
                Gathered::Runs(runs) => {
                    self.catalog.runs.extend(runs);
                    self.catalog.segments.extend(group.iter().copied().map(segment_key));
                    self.catalog.segments.sort_unstable();
                    let next = group.iter().map(|entry| entry.id + 1).max().unwrap_or(0);
                    self.catalog.next_segment = self.catalog.next_segment.max(next);
                    self.is_changed = true;
                    self.forget_handed(|_| true);
                    return Ok(true);
                }
                Gathered::NotInTime => return Ok(false),
                // Some of its records may be counted already: begun again without it.
                Gathered::Unreadable(id) => {
                    self.unreadable.insert(id);
                    group.retain(|entry| entry.id != id);
                }
            }
        }
    }

    /// Makes one run of the many of a day, and one of each window that is over once nothing is
    /// missing.
    fn merge_days(
        &mut self,
        is_complete: bool,
        in_time: &dyn Fn() -> bool,
    ) -> Result<(), ArchiveError> {
        let newest = self.catalog.runs.iter().map(|run| run.window).max();
        let mut groups: BTreeMap<(i64, u32), Vec<RunEntry>> = BTreeMap::new();
        for run in &self.catalog.runs {
            let is_over = is_complete && Some(run.window) < newest;
            let days = if is_over { u32::MAX } else { run.days };
            groups.entry((run.window, days)).or_default().push(*run);
        }
        for ((_, days), group) in groups {
            let runs_max = if days == u32::MAX { 1 } else { DAY_RUNS_MAX };
            if group.len() <= runs_max {
                continue;
            }
            let Some(merged) = self.merge(&group, in_time)? else {
                return Ok(());
            };
            self.catalog.runs.retain(|run| !group.contains(run));
            self.catalog.runs.push(merged);
            self.is_changed = true;
        }
        Ok(())
    }

    /// Merges runs of one window into one; none if time is over.
    fn merge(
        &self,
        group: &[RunEntry],
        in_time: &dyn Fn() -> bool,
    ) -> Result<Option<RunEntry>, ArchiveError> {
        let mut identity = Vec::new();
        put_u64(&mut identity, self.catalog.generation);
        group.iter().for_each(|run| put_u64(&mut identity, run.token));
        let token = xxh3_64(&identity);
        let mut runs = Vec::with_capacity(group.len());
        let mut heads = BinaryHeap::new();
        for (index, run) in group.iter().enumerate() {
            let mut run = RunReader::open(&self.directory, run.token, run.blocks)?.into_records();
            if let Some(HostRecord { key, seen }) = run.next()? {
                heads.push((Reverse((key, index)), Order(seen)));
            }
            runs.push(run);
        }
        let mut out = RunWriter::create(&self.directory, token)?;
        let mut pending: Option<HostRecord> = None;
        let mut count = 0_u64;
        while let Some((Reverse((key, index)), Order(seen))) = heads.pop() {
            count += 1;
            if count.is_multiple_of(1 << 16) && !in_time() {
                return Ok(None);
            }
            match &mut pending {
                Some(record) if record.key == key => record.seen.add(&seen),
                other => {
                    let done = other.replace(HostRecord { key, seen });
                    done.iter().try_for_each(|record| out.push(record))?;
                }
            }
            if let Some(run) = runs.get_mut(index)
                && let Some(HostRecord { key, seen }) = run.next()?
            {
                heads.push((Reverse((key, index)), Order(seen)));
            }
        }
        pending.iter().try_for_each(|record| out.push(record))?;
        let (blocks, hosts) = out.finish()?;
        let window = group.first().map_or(0, |run| run.window);
        let days = group.iter().fold(0, |days, run| days | run.days);
        Ok(Some(RunEntry { token, window, days, blocks, hosts }))
    }

    /// Notes the parts of the manifest of which nothing has to be looked at beside the ledger.
    fn note_parts(&mut self, manifest: &Manifest) {
        let mut parts = Vec::new();
        for (identity, segments) in manifest.parts_held() {
            let mut days: Option<(i64, i64)> = None;
            let mut is_in = true;
            for entry in segments.filter(|entry| entry.record_type == RecordType::Flow) {
                let day = day_of(entry);
                days = days.map_or(Some((day, day)), |(a, b)| Some((a.min(day), b.max(day))));
                is_in &= self.catalog.covers(entry);
            }
            if let Some(days) = days.filter(|_| is_in) {
                parts.push(PartEntry { identity, days });
            }
        }
        self.is_changed |= parts != self.catalog.parts;
        self.catalog.parts = parts;
    }

    /// Makes the catalog what readers find, and removes runs that it does not name.
    fn commit(&mut self) -> Result<(), ArchiveError> {
        if !self.is_changed {
            return Ok(());
        }
        self.catalog.write(&self.directory)?;
        self.is_changed = false;
        let named: BTreeSet<String> =
            self.catalog.runs.iter().map(|run| file_name(run.token)).collect();
        let listed = fs::read_dir(&self.directory);
        for file in listed.map_err(ArchiveError::io("read", &self.directory))? {
            let path = file.map_err(ArchiveError::io("read", &self.directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name != catalog::FILE && !named.contains(name) {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Takes in all that is missing, after what is damaged was forgotten; how many runs that
    /// were.
    ///
    /// # Errors
    /// If something cannot be written.
    pub(in crate::archive) fn repair(
        &mut self,
        manifest: &Manifest,
    ) -> Result<usize, ArchiveError> {
        let damaged = self.forget_damaged(manifest);
        // Whoever asked to keep it longer keeps it: time is not looked at here.
        while self.advance(manifest, Some(UnixMillis(i64::MIN)), &|| true)? {}
        Ok(damaged)
    }

    /// Forgets what of it is damaged, so that it is made again.
    fn forget_damaged(&mut self, manifest: &Manifest) -> usize {
        let damaged: Vec<RunEntry> = self
            .catalog
            .runs
            .iter()
            .copied()
            .filter(|run| check(&self.directory, run).is_err())
            .collect();
        for run in &damaged {
            let day = run.window * WINDOW_DAYS + i64::from(run.days.trailing_zeros().min(31));
            self.forget(manifest, day);
        }
        self.seen = None;
        damaged.len()
    }
}

/// What goes with a key in a heap, and has no say in its order.
struct Order(super::Seen);

impl PartialEq for Order {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, _other: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

fn flows(manifest: &Manifest) -> impl Iterator<Item = &SegmentEntry> {
    manifest.segments().filter(|entry| entry.record_type == RecordType::Flow)
}

fn check(directory: &Path, run: &RunEntry) -> Result<(), ArchiveError> {
    let hosts = RunReader::open(directory, run.token, run.blocks)?.check()?;
    if hosts == run.hosts {
        return Ok(());
    }
    let path = directory.join(file_name(run.token));
    Err(ArchiveError::DamagedIndex { path, what: "it has not as many addresses as it had" })
}

/// Reads all of an archive's ledger: what does not hold, by file.
pub(in crate::archive) fn verify(archive_dir: &Path) -> Vec<(PathBuf, ArchiveError)> {
    let directory = directory(archive_dir);
    match Catalog::read(&directory) {
        Ok(catalog) => {
            let runs = catalog.runs.iter();
            let checked = runs.map(|run| (file_name(run.token), check(&directory, run)));
            checked.filter_map(|(name, it)| Some((directory.join(name), it.err()?))).collect()
        }
        Err(error) => vec![(directory.join(catalog::FILE), error)],
    }
}
