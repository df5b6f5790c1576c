//! Sidecars: the indexes of a store's segments, each read once while a query passes its segment.

use crate::archive::SegmentReader;
use crate::archive::index::{Day, Sidecar, date_of};
use crate::query::Probes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tracing::debug;

/// Indexes of so many octets are held at a time, or one that is greater.
const HELD_SIZE_MAX: u64 = 256 << 20;
/// Indexes of so many segments are held at a time: as many threads may be at one each.
const HELD_COUNT_MAX: usize = 64;

/// The files of so many days are held at a time: segments are passed in the order of their days.
const HELD_DAYS_MAX: usize = 2;

/// An index, once it was read; none if it cannot be relied on.
type Slot = Arc<OnceLock<Option<Sidecar>>>;

/// The indexes that were read last.
#[derive(Debug, Default)]
pub(super) struct Sidecars {
    held: Mutex<VecDeque<Held>>,
    days: Mutex<VecDeque<(String, Arc<OnceLock<Day>>)>>,
}

#[derive(Debug)]
struct Held {
    segment: u64,
    size: u64,
    slot: Slot,
}

impl Sidecars {
    /// May a row group of a segment have records that match? Yes, if its index is missing or
    /// damaged.
    pub(super) fn may_match(
        &self,
        segment: &SegmentReader,
        row_group: usize,
        probes: &Probes,
    ) -> bool {
        let day = self.day(segment);
        let day = day.get_or_init(|| {
            segment.day().unwrap_or_else(|error| {
                debug!(%error, "the segments of a day are looked at one by one");
                Day::default()
            })
        });
        if let Some(filter) = day.filter_of(segment.entry())
            && !probes.may_match(|key| filter.may_have(key))
        {
            return false;
        }
        let slot = self.slot(segment);
        // Read without the lock: other threads are at other segments.
        let sidecar = slot.get_or_init(|| {
            let sidecar = segment.sidecar();
            sidecar.unwrap_or_else(|error| {
                debug!(%error, "a segment is read without its index");
                None
            })
        });
        let Some(sidecar) = sidecar else {
            return true;
        };
        probes.may_match(|key| sidecar.may_have(row_group, key))
    }

    fn day(&self, segment: &SegmentReader) -> Arc<OnceLock<Day>> {
        let date = date_of(&segment.entry().path);
        let mut days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, day)) = days.iter().rev().find(|(held, _)| held == date) {
            return Arc::clone(day);
        }
        let day = Arc::default();
        days.push_back((date.to_owned(), Arc::clone(&day)));
        if days.len() > HELD_DAYS_MAX {
            days.pop_front();
        }
        day
    }

    fn slot(&self, segment: &SegmentReader) -> Slot {
        let entry = segment.entry();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = held.iter().rev().find(|held| held.segment == entry.id) {
            return Arc::clone(&found.slot);
        }
        let size = entry.index.as_ref().map_or(0, |index| index.bytes);
        let slot = Slot::default();
        held.push_back(Held { segment: entry.id, size, slot: Arc::clone(&slot) });
        let mut total: u64 = held.iter().map(|held| held.size).sum();
        while held.len() > HELD_COUNT_MAX || total > HELD_SIZE_MAX && held.len() > 1 {
            total -= held.pop_front().map_or(0, |held| held.size);
        }
        slot
    }
}
