//! Saver: counters, sequences, and how far they reach into the ring, written to disk as they
//! stood at one moment. A start after a kill counts what lies behind, and nothing twice.

use super::workers::{Appender, lock};
use crate::app::clock;
use crate::app::collect_memory::Memory;
use crate::app::marks::Marks;
use crate::app::refusals::Refusals;
use crate::app::ring_use::RingMeter;
use crate::app::statistics::{Reading, StoreStatistics};
use crate::archive::Clearance;
use crate::collect::{Books, Sequences};
use crate::model::time::UnixMillis;
use crate::ring::Ring;
use anyhow::Result;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the counters are written to disk: what a kill can take of those that nothing in the
/// ring tells.
const INTERVAL: Duration = Duration::from_millis(200);
/// The part of the time that workers may stand still for it, one in so many.
const STANDSTILL_PART: u32 = 100;

/// What a running collector counts, on top of what those before it did.
pub(super) struct Counting {
    earlier: StoreStatistics,
    books: Arc<Books>,
    ring: Arc<Ring>,
    refusals: Mutex<Refusals>,
    meter: RingMeter,
}

impl Counting {
    /// Begins on top of `earlier`.
    pub(super) fn new(mut earlier: StoreStatistics, books: Arc<Books>, ring: Arc<Ring>) -> Self {
        let now = clock::now();
        let refusals = Refusals::after(std::mem::take(&mut earlier.refused), now);
        let refusals = Mutex::new(refusals);
        Self { earlier, books, ring, refusals, meter: RingMeter::new(now) }
    }

    /// The counters while workers are at work: a message may be counted in part.
    pub(super) fn now(&self) -> StoreStatistics {
        self.sum(Reading::new(clock::now(), &self.books, &self.ring))
    }

    fn sum(&self, reading: Reading) -> StoreStatistics {
        let Self { earlier, ring, meter, .. } = self;
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.note(reading.at, ring.drops());
        let refused = refusals.times().to_vec();
        let ring = meter.look(reading.at, ring);
        StoreStatistics { refused, ring, ..earlier.and(reading) }
    }
}

/// Writes to disk what the next start should know.
pub(super) struct Saver {
    memory: Memory,
    counting: Arc<Counting>,
    writers: Vec<Arc<Mutex<Appender>>>,
    clearance: Arc<Clearance>,
    /// The number of the last save.
    saves: u64,
    saved_at: Instant,
    wait: Duration,
}

/// What is of one moment.
struct Moment {
    reading: Reading,
    marks: Marks,
    sequences: Option<Sequences>,
}

impl Saver {
    pub(super) fn new(
        memory: Memory,
        counting: Arc<Counting>,
        writers: Vec<Arc<Mutex<Appender>>>,
        clearance: Arc<Clearance>,
    ) -> Self {
        let saves = counting.earlier.saves;
        let (saved_at, wait) = (Instant::now(), INTERVAL);
        Self { memory, counting, writers, clearance, saves, saved_at, wait }
    }

    /// Is it time to save again?
    pub(super) fn is_time(&self) -> bool {
        self.saved_at.elapsed() >= self.wait
    }

    /// Saves all that has changed: the counters, and whether all could be written.
    pub(super) fn save(&mut self) -> (StoreStatistics, Result<()>) {
        // In this order: after a kill, what was counted as held is held.
        let kept = self.memory.save();
        let (statistics, written) = self.save_moment(None);
        (statistics, kept.and(written))
    }

    /// Saves all, at the end. `heard_until` is when the last worker ended.
    pub(super) fn finish(mut self, heard_until: UnixMillis) -> Result<()> {
        let kept = self.memory.save_all();
        let (_, written) = self.save_moment(Some(heard_until));
        kept.and(written)
    }

    fn save_moment(&mut self, at: Option<UnixMillis>) -> (StoreStatistics, Result<()>) {
        self.saves += 1;
        let Moment { mut reading, marks, sequences } = self.moment();
        reading.at = at.unwrap_or(reading.at);
        let numbers = marks.numbers();
        let counted = Some(marks);
        let statistics =
            StoreStatistics { saves: self.saves, counted, ..self.counting.sum(reading) };
        let store: &Path = &self.memory.store;
        let outcomes = [self.memory.save_sequences(sequences), statistics.write(store)];
        // Whether they could be written or not: a ring that fills up for want of them would lose
        // records, and only counts are lost so.
        self.clearance.only_below(numbers);
        (statistics, outcomes.into_iter().collect())
    }

    fn moment(&mut self) -> Moment {
        let Counting { books, ring, .. } = &*self.counting;
        let start = Instant::now();
        let moment = books.between_rounds(|| {
            let writers: Vec<_> = self.writers.iter().map(|writer| lock(writer)).collect();
            Moment {
                reading: Reading::new(clock::now(), books, ring),
                marks: Marks::of(ring, writers.iter().map(|appender| appender.writer())),
                sequences: books.sequences(self.saves),
            }
        });
        self.saved_at = Instant::now();
        self.wait = INTERVAL.max(start.elapsed() * STANDSTILL_PART);
        moment
    }
}

#[cfg(test)]
#[path = "saver_tests.rs"]
mod tests;
