//! Ledger: each address ever met, with when it was met first and last, on which days, and how
//! much it sent and was sent.
//!
//! ```text
//! rows written --[SegmentTally]--> Handed --+
//! segments that were not handed ------------+--[gather]--> a run a day
//!                                  --[LedgerKeeper: merge]--> a run a window of 32 days
//! question --[Ledger]--> days --> parts of the manifest that need not be read, segments that
//!                                 need not be looked at
//! ```
//! The catalog names the runs and the segments that went into them. Of other segments, and of
//! the ring, the ledger knows nothing: they are always looked at beside it. A run or a catalog
//! that is missing or damaged denies nothing.

mod catalog;
mod gathering;
mod handed;
mod host;
mod keeper;
mod run;
mod tally;
#[cfg(test)]
mod tests;

pub(in crate::archive) use handed::SegmentTally;
pub use host::Sums;
pub(in crate::archive) use keeper::{LedgerKeeper, verify};

use super::{IndexKey, index_dir};
use crate::archive::error::ArchiveError;
use crate::archive::manifest::SegmentEntry;
use catalog::{Catalog, PartEntry, RunEntry};
use host::{HostKey, Seen, WINDOW_DAYS, place_of};
use run::RunReader;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// So many keys of one question are looked up; of more, each may be there.
const LOOKUPS_MAX: usize = 64;

/// Where an archive's ledger lies.
fn directory(archive_dir: &Path) -> PathBuf {
    index_dir(archive_dir).join("ledger")
}

/// Octets of an archive's ledger.
pub(in crate::archive) fn size(archive_dir: &Path) -> u64 {
    let files = fs::read_dir(directory(archive_dir)).into_iter().flatten();
    files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

/// Runs of a ledger, with what they take, and of their days those of which something is held.
#[derive(Debug, Default)]
pub(in crate::archive) struct LedgerRuns(Vec<(RunEntry, u64)>);

impl LedgerRuns {
    /// Those of an archive with some segments; none where no ledger can be read.
    pub(in crate::archive) fn of<'a>(
        archive_dir: &Path,
        segments: impl Iterator<Item = &'a SegmentEntry>,
    ) -> Self {
        let mut held: BTreeMap<i64, u32> = BTreeMap::new();
        for (window, bit) in segments.map(|entry| place_of(day_of(entry))) {
            *held.entry(window).or_default() |= bit;
        }
        let directory = directory(archive_dir);
        let runs = Catalog::read(&directory).unwrap_or_default().runs.into_iter();
        let runs = runs.map(|run| {
            let file = fs::metadata(directory.join(run::file_name(run.token)));
            let days = run.days & held.get(&run.window).copied().unwrap_or_default();
            (RunEntry { days, ..run }, file.map_or(0, |file| file.len()))
        });
        Self(runs.collect())
    }

    /// Notes that nothing is held any more of the day of a segment; the octets that go with it.
    pub(in crate::archive) fn let_go(&mut self, last: &SegmentEntry) -> u64 {
        let (window, bit) = place_of(day_of(last));
        let mut gone = 0;
        for (run, octets) in self.0.iter_mut().filter(|(run, _)| run.window == window) {
            run.days &= !bit;
            if run.days == 0 {
                gone += std::mem::take(octets);
            }
        }
        gone
    }
}

/// What a ledger knows of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The earliest start and the latest end of its flows, in milliseconds since 1970; none if
    /// no record told a time.
    pub times: Option<(i64, i64)>,
    /// On how many days records of it were received.
    pub days: u64,
    /// Of the records whose source it is.
    pub source: Sums,
    /// Of the records whose destination it is.
    pub destination: Sums,
    /// Is a sum less than what was added, because that would be greater than its type?
    pub is_saturated: bool,
}

/// The addresses of those segments that were merged in, as of one moment.
#[derive(Debug, Default)]
pub struct Ledger {
    catalog: Catalog,
    runs: Vec<Result<RunReader, ArchiveError>>,
}

impl Ledger {
    /// Opens that of an archive; an empty one if there is none.
    ///
    /// # Errors
    /// If its catalog cannot be read or is not what was written.
    pub fn open(archive_dir: &Path) -> Result<Self, ArchiveError> {
        let directory = directory(archive_dir);
        let catalog = Catalog::read(&directory)?;
        let runs = catalog.runs.iter();
        let runs = runs.map(|run| RunReader::open(&directory, run.token, run.blocks)).collect();
        Ok(Self { catalog, runs })
    }

    /// Did a segment go into it? One that did not has to be looked at beside it.
    #[must_use]
    pub fn covers(&self, entry: &SegmentEntry) -> bool {
        self.catalog.covers(entry)
    }

    /// Greater than the numbers of all segments that went into it.
    #[must_use]
    pub const fn next_segment(&self) -> u64 {
        self.catalog.next_segment
    }

    /// How many segments went into it that are held still.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.catalog.segments.len()
    }

    /// What is known of an address; none if no segment that went in has a record of it. Records
    /// that were let go may count, until their days are.
    ///
    /// # Errors
    /// If a run is missing or damaged.
    pub fn host(&self, address: IpAddr) -> Result<Option<Host>, ArchiveError> {
        let key = HostKey::of(address);
        let mut windows: BTreeMap<i64, Seen> = BTreeMap::new();
        for (entry, run) in self.catalog.runs.iter().zip(&self.runs) {
            let run = run.as_ref().map_err(|_missing| self.missing())?;
            if let Some(seen) = run.find(key)? {
                windows.entry(entry.window).or_default().add(&seen);
            }
        }
        let mut all = Seen::default();
        for seen in windows.values() {
            all.add(seen);
        }
        let days = windows.values().map(|seen| u64::from(seen.days.count_ones())).sum();
        let Seen { times, source, destination, is_saturated, days: _ } = all;
        let host = Host { times, days, source, destination, is_saturated };
        Ok((!windows.is_empty()).then_some(host))
    }

    fn missing(&self) -> ArchiveError {
        let path = PathBuf::from("ledger");
        ArchiveError::DamagedIndex { path, what: "a run of it is missing or cut" }
    }

    /// What it can say of a question, which is asked for by keys: of each day, whether a record
    /// of that day may match.
    #[must_use]
    pub fn ask(self, may_match: impl Fn(&mut dyn FnMut(IndexKey) -> bool) -> bool) -> Answer {
        let mut held: BTreeMap<i64, u32> = BTreeMap::new();
        for run in &self.catalog.runs {
            *held.entry(run.window).or_default() |= run.days;
        }
        let lookups = Lookups { ledger: &self, found: RefCell::default() };
        let mut days = BTreeSet::new();
        // Most questions are of something that was never met: that is one look.
        if may_match(&mut |key| lookups.any(key)) {
            for (window, mask) in held {
                for bit in (0..32).filter(|bit| mask & 1 << bit != 0) {
                    if may_match(&mut |key| lookups.on_day(key, window, bit)) {
                        days.insert(window * WINDOW_DAYS + i64::from(bit));
                    }
                }
            }
        }
        Answer { catalog: self.catalog, days }
    }

    /// On which days was a key met, by window?
    fn days_of(&self, key: IndexKey) -> BTreeMap<i64, u32> {
        let (first, last) = match key {
            IndexKey::Address(address) | IndexKey::Service(address, ..) => {
                (HostKey::of(address), HostKey::of(address))
            }
            IndexKey::Network(address, size) => {
                let (ipv4, ipv6) = size.lengths();
                HostKey::network(address, if address.is_ipv4() { ipv4 } else { ipv6 })
            }
        };
        let mut windows: BTreeMap<i64, u32> = BTreeMap::new();
        for (RunEntry { window, days, .. }, run) in self.catalog.runs.iter().zip(&self.runs) {
            let found = match run {
                Ok(run) => run.days_between(first, last, *days).unwrap_or(*days),
                // What is missing denies nothing.
                Err(_) => *days,
            };
            if found != 0 {
                *windows.entry(*window).or_default() |= found;
            }
        }
        windows
    }
}

/// What was looked up for one question.
struct Lookups<'a> {
    ledger: &'a Ledger,
    found: RefCell<HashMap<IndexKey, BTreeMap<i64, u32>>>,
}

impl Lookups<'_> {
    /// What holds of the days of a key; true if too many were asked for.
    fn with(&self, key: IndexKey, of: impl FnOnce(&BTreeMap<i64, u32>) -> bool) -> bool {
        let mut found = self.found.borrow_mut();
        if !found.contains_key(&key) && found.len() >= LOOKUPS_MAX {
            return true;
        }
        of(found.entry(key).or_insert_with(|| self.ledger.days_of(key)))
    }

    fn any(&self, key: IndexKey) -> bool {
        self.with(key, |windows| !windows.is_empty())
    }

    fn on_day(&self, key: IndexKey, window: i64, bit: i32) -> bool {
        self.with(key, |windows| windows.get(&window).is_some_and(|days| days & 1 << bit != 0))
    }
}

/// What a ledger said of a question.
#[derive(Debug, Default)]
pub struct Answer {
    catalog: Catalog,
    days: BTreeSet<i64>,
}

impl Answer {
    /// Has a segment no record that matches? Then that is certain.
    #[must_use]
    pub fn denies(&self, entry: &SegmentEntry) -> bool {
        let (window, bit) = place_of(day_of(entry));
        let day = window * WINDOW_DAYS + i64::from(bit.trailing_zeros());
        !self.days.contains(&day) && self.catalog.covers(entry)
    }

    /// Has no segment of a part of the manifest, given by its identity, a record that matches?
    pub(in crate::archive) fn denies_part(&self, identity: u128) -> bool {
        let part = self.catalog.parts.iter().find(|part| part.identity == identity);
        part.is_some_and(|PartEntry { days: (first, last), .. }| {
            first <= last && self.days.range(first..=last).next().is_none()
        })
    }
}

/// The day of a segment's hour, counted from 1970.
fn day_of(entry: &SegmentEntry) -> i64 {
    day_of_hour(entry.hour)
}

const fn day_of_hour(hour: i64) -> i64 {
    const DAY_HOURS: i64 = 24;
    hour.div_euclid(DAY_HOURS)
}
