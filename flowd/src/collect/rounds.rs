//! Rounds: what a worker does with what it received, from the first count to the last record in
//! the ring. Between rounds counters, sequences and ring are of one moment.
//!
//! ```text
//! worker         --[Books::round]--> decode, count, append --> the round is dropped
//! whoever saves  --[Books::between_rounds]--> looks at all of it while no worker is at work
//! ```

use super::books::Books;
use super::decode::Decoder;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

/// Keeps workers and those who look apart.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Read by a worker for the length of a round, written by who looks. One that waits to write
    /// goes before those that come to read (std's own lock on Linux has it so), so that workers
    /// without a pause cannot keep it waiting for longer than their round.
    gate: RwLock<()>,
    /// Those of all workers.
    decoders: Mutex<Vec<Weak<Mutex<Decoder>>>>,
}

impl Books {
    /// Begins a worker's round, which lasts until what it gets is dropped; it must not begin
    /// another meanwhile. Its clock is read within, so that nothing in it bears a time before the
    /// last look.
    pub(super) fn round(&self) -> RwLockReadGuard<'_, ()> {
        self.rounds.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's decoder, whose sequences are noted between rounds.
    pub(super) fn share(&self, decoder: Decoder) -> Arc<Mutex<Decoder>> {
        let decoder = Arc::new(Mutex::new(decoder));
        lock(&self.rounds.decoders).push(Arc::downgrade(&decoder));
        decoder
    }

    /// Looks while no worker is within a round: the counters tell of just what is in the ring or
    /// dropped, and where the sequences stand is noted. Workers wait meanwhile.
    pub fn between_rounds<T>(&self, look: impl FnOnce() -> T) -> T {
        let _all: RwLockWriteGuard<'_, ()> =
            self.rounds.gate.write().unwrap_or_else(PoisonError::into_inner);
        for decoder in lock(&self.rounds.decoders).iter().filter_map(Weak::upgrade) {
            lock(&decoder).note_standings();
        }
        look()
    }
}

/// A worker that panicked ends the collector; what it left is as good as what is dropped.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Flag;

    #[test]
    fn nobody_who_looks_sees_a_round_half_done_nor_waits_for_ever() {
        let (books, stop) = (Books::default(), Flag::default());
        let (mut looks, mut moved) = (0, 0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    // Without a pause between two rounds.
                    while !stop.is_raised() {
                        let _round = books.round();
                        books.datagrams.add(1);
                        std::thread::yield_now();
                        books.datagrams_decoded.add(1);
                    }
                });
            }
            while looks < 1_000 || moved < 1_000 {
                let look = || (books.datagrams.value(), books.datagrams_decoded.value());
                let (received, decoded) = books.between_rounds(look);
                assert_eq!(received, decoded);
                looks += 1;
                moved = moved.max(received);
            }
            stop.raise();
        });
    }
}
