//! Handed: what a segment adds to the ledger, added up while its rows go by, so that nobody has
//! to read it again for that.

use super::catalog::segment_key;
use super::tally::Tally;
use super::{day_of_hour, place_of};
use crate::archive::manifest::SegmentEntry;
use arrow_array::RecordBatch;
use std::collections::HashMap;

/// Addresses of a segment that are added up while it is written: as many as a table of 2^19
/// places takes, some 60 MB. More is seldom among four million records.
const SEGMENT_HOSTS_MAX: usize = 7 << 16;
/// Addresses that wait for the ledger, of all segments.
const HANDED_HOSTS_MAX: usize = 2 * SEGMENT_HOSTS_MAX;

/// The addresses of a segment that is being written.
#[derive(Debug)]
pub(in crate::archive) struct SegmentTally(Option<Tally>);

impl SegmentTally {
    /// That of a segment with records of an hour counted from 1970.
    pub(in crate::archive) fn of_hour(hour: i64) -> Self {
        let (_, bit) = place_of(day_of_hour(hour));
        Self(Some(Tally::new(bit)))
    }

    /// Adds the records of a batch. Of a segment with too many addresses nothing is kept: it is
    /// read piece by piece later.
    pub(in crate::archive) fn add(&mut self, batch: &RecordBatch) {
        if let Some(tally) = &mut self.0 {
            tally.add(batch);
            if tally.len() > SEGMENT_HOSTS_MAX {
                self.0 = None;
            }
        }
    }
}

/// The sums of segments that were listed, until the ledger takes them in.
#[derive(Debug, Default)]
pub(super) struct Handed {
    tallies: HashMap<u128, Tally>,
    hosts: usize,
}

impl Handed {
    /// Keeps those of a segment, if there is room.
    pub(super) fn put(&mut self, entry: &SegmentEntry, tally: SegmentTally) {
        let tally = tally.0.filter(|tally| self.hosts + tally.len() <= HANDED_HOSTS_MAX);
        if let Some(tally) = tally {
            self.hosts += tally.len();
            self.tallies.insert(segment_key(entry), tally);
        }
    }

    pub(super) fn get(&self, entry: &SegmentEntry) -> Option<&Tally> {
        self.tallies.get(&segment_key(entry))
    }

    /// Forgets those of segments that are in the ledger, or held no more.
    pub(super) fn retain(&mut self, is_missing: impl Fn(u128) -> bool) {
        self.tallies.retain(|key, _| is_missing(*key));
        self.hosts = self.tallies.values().map(Tally::len).sum();
    }
}
