//! How many datagrams an exporter may send a second, where that is limited.

use crate::model::time::UnixMillis;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Exporters that are told apart at once, in sets that one falls into by its hash. Those that
/// were heard least recently give way: to forge addresses gains nothing but other exporters'
/// full budgets for them.
const SET_COUNT: usize = 1_024;
const SET_SIZE: usize = 4;
/// What a datagram costs. A budget grows by its rate each millisecond.
const COST: i64 = 1_000;

/// The budgets of the exporters of one worker: a token bucket each, which holds what a second
/// brings. Memory is fixed, and none is taken later.
#[derive(Debug)]
pub(super) struct Budgets {
    rate_max: i64,
    sets: Box<[[Budget; SET_SIZE]]>,
    hash: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Budget {
    address: Option<IpAddr>,
    left: i64,
    counted: UnixMillis,
}

impl Budgets {
    /// So many datagrams a second and exporter.
    pub(super) fn new(rate_max: u32) -> Self {
        let empty = Budget { address: None, left: 0, counted: UnixMillis(i64::MIN) };
        let sets = vec![[empty; SET_SIZE]; SET_COUNT].into();
        Self { rate_max: i64::from(rate_max), sets, hash: RandomState::new() }
    }

    /// Takes a datagram of this exporter off its budget; false if nothing is left.
    pub(super) fn spend(&mut self, address: IpAddr, now: UnixMillis) -> bool {
        let address = address.to_canonical();
        let full = self.rate_max.saturating_mul(COST);
        let hash = usize::try_from(self.hash.hash_one(address) & 0xffff_ffff).unwrap_or(0);
        let Some(set) = hash.checked_rem(SET_COUNT).and_then(|index| self.sets.get_mut(index))
        else {
            return true;
        };
        let is_known = set.iter().any(|budget| budget.address == Some(address));
        let place = if is_known {
            set.iter_mut().find(|budget| budget.address == Some(address))
        } else {
            set.iter_mut().min_by_key(|budget| budget.counted)
        };
        let Some(budget) = place else { return true };
        if !is_known {
            *budget = Budget { address: Some(address), left: full, counted: now };
        }
        // A clock that was set back brings nothing, and goes on from there.
        let passed = now.0.saturating_sub(budget.counted.0).max(0);
        let grown = budget.left.saturating_add(passed.saturating_mul(self.rate_max)).min(full);
        budget.counted = now;
        let may = grown >= COST;
        budget.left = if may { grown.saturating_sub(COST) } else { grown };
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const START: i64 = 1_000_000;

    /// How many of so many datagrams, evenly over so many milliseconds, are within the budget.
    fn spent(budgets: &mut Budgets, address: &str, count: i64, start: i64, millis: i64) -> usize {
        let address = address.parse().unwrap();
        (0..count)
            .filter(|&index| {
                budgets.spend(address, UnixMillis(START + start + index * millis / count))
            })
            .count()
    }

    #[test]
    fn an_exporter_may_send_at_its_rate_and_a_second_in_one_go() {
        let mut budgets = Budgets::new(100);
        assert_eq!(spent(&mut budgets, "192.0.2.1", 1_000, 0, 1), 100);
        assert_eq!(spent(&mut budgets, "192.0.2.1", 5_000, 1, 10_000), 999);
        // What it does not use for long is not saved.
        assert_eq!(spent(&mut budgets, "192.0.2.1", 1_000, 100_000, 1), 100);
        assert_eq!(spent(&mut budgets, "192.0.2.1", 1_000, 50_000, 1), 0, "the clock was set back");
        assert_eq!(spent(&mut budgets, "192.0.2.1", 1_000, 51_000, 1), 100);
        let mut slow = Budgets::new(1);
        assert_eq!(spent(&mut slow, "192.0.2.1", 100, 0, 10_000), 10);
    }

    #[test]
    fn one_exporter_does_not_spend_what_another_has() {
        let mut budgets = Budgets::new(100);
        assert_eq!(spent(&mut budgets, "192.0.2.1", 1_000, 0, 1), 100);
        assert_eq!(spent(&mut budgets, "2001:db8::1", 1_000, 0, 1), 100);
        assert_eq!(spent(&mut budgets, "::ffff:192.0.2.1", 1_000, 0, 1), 0);
        for number in 0..100_000u32 {
            assert!(budgets.spend(Ipv4Addr::from_bits(number).into(), UnixMillis(START + 1)));
        }
    }
}
