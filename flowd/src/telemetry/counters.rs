//! Counters that any thread may raise and any thread may read, and flags between threads.
//!
//! Together with `ring/sync.rs` this is the only file that imports atomics. Counters are
//! `Relaxed`: each is a sum on its own, and no reader concludes anything from one about another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A sum that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the sum, for a gauge or a sum restored from disk.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A number that rises whenever something shared has changed, so that holders of a copy know.
#[derive(Debug, Default)]
pub struct Epoch(AtomicU64);

impl Epoch {
    /// Says that something changed. Pairs with the `Acquire` of [`Epoch::current`].
    pub fn advance(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    /// The number now. Pairs with the `Release` of [`Epoch::advance`].
    #[must_use]
    pub fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Raised once, seen by all: the wish to stop.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Raises the flag. Pairs with the `Acquire` of [`Flag::is_raised`].
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Is it raised? Pairs with the `Release` of [`Flag::raise`].
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Why something was dropped: a closed list, each with a name that users see.
pub trait Reason: Copy + 'static {
    /// All reasons.
    const ALL: &'static [Self];

    /// Its place in [`Reason::ALL`].
    fn index(self) -> usize;

    /// The name that users see, in camelCase.
    fn name(self) -> &'static str;
}

/// One counter a reason.
#[derive(Debug)]
pub struct Drops<R> {
    counts: Box<[Counter]>,
    reason: std::marker::PhantomData<R>,
}

impl<R: Reason> Default for Drops<R> {
    fn default() -> Self {
        let counts = R::ALL.iter().map(|_| Counter::new()).collect();
        Self { counts, reason: std::marker::PhantomData }
    }
}

impl<R: Reason> Drops<R> {
    /// Counts `count` drops for this reason.
    pub fn count(&self, reason: R, count: u64) {
        if let Some(counter) = self.counts.get(reason.index()) {
            counter.add(count);
        }
    }

    /// How many were dropped for this reason.
    #[must_use]
    pub fn value(&self, reason: R) -> u64 {
        self.counts.get(reason.index()).map_or(0, Counter::value)
    }

    /// How many were dropped in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(Counter::value).sum()
    }

    /// Each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (R, u64)> {
        R::ALL.iter().map(|&reason| (reason, self.value(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Why {
        Early,
        Late,
    }

    impl Reason for Why {
        const ALL: &'static [Self] = &[Self::Early, Self::Late];
        fn index(self) -> usize {
            self as usize
        }
        fn name(self) -> &'static str {
            "why"
        }
    }

    #[test]
    fn drops_add_up_by_reason() {
        let drops = Drops::default();
        drops.count(Why::Early, 2);
        drops.count(Why::Late, 3);
        assert_eq!((drops.value(Why::Early), drops.total()), (2, 5));
    }
}
