//! Clearance: which sealed blocks may leave the ring.

use crate::ring::{BlockId, NumberFloors};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Says which blocks may be archived: all, until somebody says otherwise. A collector lets go those
/// that its counters on disk reach beyond. A record in the ring can still be counted after a kill;
/// of one in a segment nobody could say whether it was.
#[derive(Debug, Default)]
pub struct Clearance(Mutex<Option<NumberFloors>>);

impl Clearance {
    /// Lets go blocks below these numbers, by lane.
    pub fn only_below(&self, numbers: NumberFloors) {
        *self.lock() = Some(numbers);
    }

    pub(super) fn has(&self, id: BlockId) -> bool {
        let numbers = self.lock();
        numbers.as_ref().is_none_or(|numbers| id.number < numbers.floor(id.shard, id.lane))
    }

    fn lock(&self) -> MutexGuard<'_, Option<NumberFloors>> {
        // One value takes another's place: nothing is ever half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Lane;

    #[test]
    fn blocks_are_let_go_by_lane() {
        let clearance = Clearance::default();
        let id = |lane, number| BlockId { shard: 1, lane, number };
        assert!(clearance.has(id(Lane::Ipv4, 7)));
        let mut numbers = NumberFloors::default();
        numbers.raise(1, Lane::Ipv4, 7);
        clearance.only_below(numbers);
        assert!(clearance.has(id(Lane::Ipv4, 6)));
        assert!(!clearance.has(id(Lane::Ipv4, 7)));
        assert!(!clearance.has(id(Lane::Ipv6, 0)));
    }
}
