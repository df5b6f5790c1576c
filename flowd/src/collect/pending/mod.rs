//! Data sets that came before their template: held for all workers, bounded in octets and age,
//! kept on disk, and given back in order when the template is there.
//!
//! ```text
//! data without template --hold--> Queue --save--> STORE/pending.log
//! template             --take--> Queue --gone--> STORE/pending.log, then decoded
//! ```

mod entry;
mod log;
mod queue;
#[cfg(test)]
mod tests;

use super::copy::Clocks;
use super::exporters::ExporterBooks;
use super::peer::Peer;
use super::template_cache::Source;
use crate::model::Origin;
use crate::model::time::UnixMillis;
use crate::telemetry::Counter;
use crate::wire::TemplateId;
use log::Log;
use queue::Queue;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// How often data that waits looks for templates that other workers learned.
const RETRY_INTERVAL_MILLIS: i64 = 1_000;

/// How much waits, and how long.
#[derive(Clone, Copy, Debug)]
pub struct PendingLimits {
    /// Octets that are held in all. The exporter address that has most gives way first.
    pub size_max: usize,
    /// Octets that are held of one exporter address; its oldest sets give way.
    pub exporter_size_max: usize,
    /// After so long a set is given up: templates come every half hour at the least often.
    pub age_max_millis: i64,
}

impl Default for PendingLimits {
    fn default() -> Self {
        Self { size_max: 64 << 20, exporter_size_max: 16 << 20, age_max_millis: 35 * 60_000 }
    }
}

/// Which template is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PendingKey {
    pub(super) origin: Arc<Origin>,
    pub(super) template_id: TemplateId,
}

/// A data set that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) source: Source,
    pub(super) clocks: Clocks,
    pub(super) sequence_number: u32,
    pub(super) received: UnixMillis,
    /// Records that were decoded of its message before it.
    pub(super) record_index: u32,
    /// None of what an earlier collector held: the counters are looked up when they are needed.
    pub(super) exporter: Option<Arc<ExporterBooks>>,
    pub(super) body: Box<[u8]>,
}

/// What is told of a set that is given up.
pub(super) type Dropped<'a> = &'a mut dyn FnMut(&PendingKey, &Held);

/// The data sets that wait for their template, of all workers.
///
/// What is held is decoded exactly once, in the order in which it came, over any number of clean
/// restarts too. Over a kill (`kill -9`, a crash) this holds:
///
/// - No set is decoded twice. A set leaves the file before it is decoded, so that one whose
///   records were on their way to the ring is lost with them, as is a datagram that was received
///   but not stored yet. The window is one round of receiving.
/// - A set that came since the last save is lost, as is the datagram that waits in the socket.
///   Saves are as often as [`PendingStore::save`] is called: in `flowd collect` five times a
///   second.
/// - A set that was given up since the last save (too old, no room) is held again, and given up
///   again.
///
/// After a power cut the file may be damaged from some entry on; those before it are held.
#[derive(Debug)]
pub struct PendingStore {
    limits: PendingLimits,
    /// How many sets wait: written under the queue's lock, read by all to pass by in haste.
    count: Counter,
    /// How many of an earlier collector there were: written once, before the workers begin.
    restored: Counter,
    queue: Mutex<Queue>,
    /// The queue's `looked`, written under its lock, read by all to pass by in haste: the
    /// templates' epoch, and the time in milliseconds since 1970.
    looked: (Counter, Counter),
    /// How often the queue was locked: what waiting costs those that do not wait.
    locked: Counter,
    /// Locked before `queue` where both are.
    log: OnceLock<Mutex<Log>>,
}

impl Default for PendingStore {
    /// One in memory, with the default limits.
    fn default() -> Self {
        Self::in_memory(PendingLimits::default())
    }
}

impl PendingStore {
    /// An empty store that is gone with the process.
    #[must_use]
    pub fn in_memory(limits: PendingLimits) -> Self {
        Self {
            limits,
            count: Counter::new(),
            restored: Counter::new(),
            queue: Mutex::new(Queue::new(limits)),
            looked: Default::default(),
            locked: Counter::new(),
            log: OnceLock::new(),
        }
    }

    /// A store that is kept in a directory: see [`PendingStore::keep_in`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn open(dir: &Path, limits: PendingLimits) -> io::Result<Self> {
        let store = Self::in_memory(limits);
        store.keep_in(dir)?;
        Ok(store)
    }

    /// From now on what waits is kept in this directory; what the last collector there held is
    /// taken in: so many sets. To be called before anything waits. A file that is damaged is put
    /// aside with a warning; what precedes the damage is held.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn keep_in(&self, dir: &Path) -> io::Result<u64> {
        let log = Log::open(dir, self.limits.size_max, &self.queue)?;
        // A second directory would get nothing: the first one stays.
        drop(self.log.set(Mutex::new(log)));
        self.note_count(&self.queue());
        self.restored.set(self.count());
        Ok(self.count())
    }

    /// Sets that an earlier collector held.
    #[must_use]
    pub fn restored(&self) -> u64 {
        self.restored.value()
    }

    /// Sets that wait now.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.value()
    }

    /// Writes what has come and what was given up since the last time, some MiB at most: a flood
    /// is held in memory first, and what it displaces never reaches the disk.
    ///
    /// # Errors
    /// If the file cannot be written. All is held in memory still, and tried again.
    pub fn save(&self) -> io::Result<()> {
        match self.log.get() {
            Some(log) => lock(log).save(&self.queue),
            None => Ok(()),
        }
    }

    /// Writes all that waits, at the end.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(&self) -> io::Result<()> {
        match self.log.get() {
            Some(log) => lock(log).finish(&self.queue),
            None => Ok(()),
        }
    }

    /// Does nothing wait? A set that another worker holds at this moment may be missed: it looks
    /// for its template again once it is held.
    pub(super) fn is_empty(&self) -> bool {
        self.count.value() == 0
    }

    /// Holds a set. Others give way when there is no room; they are passed to `dropped`, as is
    /// one that is too large by itself. Whoever holds a set looks for its template once more
    /// afterwards: another worker may have learned it just before.
    pub(super) fn hold(&self, key: PendingKey, held: Held, dropped: Dropped<'_>) {
        let mut queue = self.queue();
        queue.hold(key, held, dropped);
        self.note_count(&queue);
    }

    /// Gives back the sets of a template that `find` has the means to decode, the oldest first.
    /// They are gone from the disk as well then.
    pub(super) fn take<T>(
        &self,
        key: &PendingKey,
        find: &mut dyn FnMut(&Held) -> Option<T>,
    ) -> Vec<(Held, T)> {
        let (taken, gone) = {
            let mut queue = self.queue();
            let taken = queue.take(key, find);
            self.note_count(&queue);
            taken
        };
        if let Some(log) = self.log.get()
            && !gone.is_empty()
        {
            lock(log).note_gone(&gone);
        }
        taken
    }

    /// Gives up what a connection sent that has ended: its templates' numbers end with it (RFC
    /// 7011 section 8), and a later one may have others under them.
    pub(super) fn disconnect(&self, peer: Peer, dropped: Dropped<'_>) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.queue();
        queue.give_up_source(peer.ip(), peer.into(), dropped);
        self.note_count(&queue);
    }

    /// Gives up what has waited too long.
    pub(super) fn expire(&self, now: UnixMillis, dropped: Dropped<'_>) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.queue();
        queue.expire(UnixMillis(now.0.saturating_sub(self.limits.age_max_millis)), dropped);
        self.note_count(&queue);
    }

    /// Which templates are waited for, if it is time to look for them: the templates have changed
    /// since the last look, and that was a while ago.
    pub(super) fn due(&self, epoch: u64, now: UnixMillis) -> Vec<PendingKey> {
        let looked = (self.looked.0.value(), UnixMillis(self.looked.1.value().cast_signed()));
        if self.is_empty() || !is_due(looked, epoch, now) {
            return Vec::new();
        }
        let mut queue = self.queue();
        // Another worker may be looking now.
        if !is_due(queue.looked, epoch, now) {
            return Vec::new();
        }
        queue.looked = (epoch, now);
        self.looked.0.set(epoch);
        self.looked.1.set(now.0.cast_unsigned());
        queue.keys()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.locked.add(1);
        lock(&self.queue)
    }

    fn note_count(&self, queue: &Queue) {
        self.count.set(u64::try_from(queue.len()).unwrap_or(u64::MAX));
    }
}

/// Is it time to look, when that was done last at this epoch and time?
fn is_due((seen, at): (u64, UnixMillis), epoch: u64, now: UnixMillis) -> bool {
    // A clock that was set back counts as due.
    let since = now.0.saturating_sub(at.0);
    epoch != seen && !(0..RETRY_INTERVAL_MILLIS).contains(&since)
}

/// A worker that panicked may have left a set half taken: it is one set fewer that is decoded,
/// and no reason to stop the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
