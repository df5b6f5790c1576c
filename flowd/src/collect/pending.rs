//! Data sets that came before their template: held in memory, bounded in octets and age, and
//! given back in order when the template is there.

use super::copy::Clocks;
use super::exporters::ExporterBooks;
use crate::model::Origin;
use crate::model::time::UnixMillis;
use crate::wire::TemplateId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What holding a set costs besides its octets: its place in a queue that has twice the room it
/// needs, its name in one that may be half stale besides, and the allocator's own.
const SET_OVERHEAD: usize = 2 * size_of::<(u64, Held)>() + 4 * size_of::<(u64, PendingKey)>() + 16;
/// What waiting for one more template costs: its place in a table that is filled to 7/16 after it
/// has grown, and what no one else may remember any more, the origin and its counters.
const KEY_OVERHEAD: usize = 5 * size_of::<(PendingKey, VecDeque<(u64, Held)>)>() / 2
    + size_of::<Origin>()
    + ExporterBooks::SIZE
    + 64;

/// How much waits, and how long.
#[derive(Clone, Copy, Debug)]
pub struct PendingLimits {
    /// Octets that a worker holds.
    pub size_max: usize,
    /// After so long a set is given up: templates come every half hour at the least often.
    pub age_max_millis: i64,
}

impl Default for PendingLimits {
    fn default() -> Self {
        Self { size_max: 32 << 20, age_max_millis: 35 * 60_000 }
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
    pub(super) port: u16,
    pub(super) clocks: Clocks,
    pub(super) sequence_number: u32,
    pub(super) received: UnixMillis,
    /// Records that were decoded of its message before it.
    pub(super) record_index: u32,
    pub(super) exporter: Arc<ExporterBooks>,
    pub(super) body: Box<[u8]>,
}

impl Held {
    fn size(&self) -> usize {
        self.body.len().saturating_add(SET_OVERHEAD)
    }
}

/// The data sets that wait, the oldest first.
#[derive(Debug)]
pub(super) struct Pending {
    limits: PendingLimits,
    sets: HashMap<PendingKey, VecDeque<(u64, Held)>>,
    /// All sets by age, given back ones included until they come to the front.
    order: VecDeque<(u64, PendingKey)>,
    next_number: u64,
    count: usize,
    size: usize,
}

impl Pending {
    pub(super) fn new(limits: PendingLimits) -> Self {
        Self {
            limits,
            sets: HashMap::new(),
            order: VecDeque::new(),
            next_number: 0,
            count: 0,
            size: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Which templates are waited for.
    pub(super) fn keys(&self) -> Vec<PendingKey> {
        self.sets.keys().cloned().collect()
    }

    /// Holds a set. The oldest ones give way when there is no room; they are passed to
    /// `dropped`, as is one that is too large by itself.
    pub(super) fn hold(&mut self, key: PendingKey, held: Held, dropped: &mut dyn FnMut(&Held)) {
        let size = loop {
            // To give way may take the last set of the same template.
            let key_size = if self.sets.contains_key(&key) { 0 } else { KEY_OVERHEAD };
            let size = held.size().saturating_add(key_size);
            if self.size.saturating_add(size) <= self.limits.size_max {
                break size;
            }
            let Some(oldest) = self.pop_oldest() else {
                dropped(&held);
                return;
            };
            dropped(&oldest);
        };
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        self.count = self.count.saturating_add(1);
        self.size = self.size.saturating_add(size);
        self.order.push_back((number, key.clone()));
        let sets = self.sets.entry(key).or_insert_with(|| VecDeque::with_capacity(1));
        sets.push_back((number, held));
    }

    /// Gives back all sets of a template, the oldest first.
    pub(super) fn take(&mut self, key: &PendingKey) -> Vec<Held> {
        let Some(sets) = self.sets.remove(key) else {
            return Vec::new();
        };
        self.size = self.size.saturating_sub(KEY_OVERHEAD);
        let taken: Vec<Held> = sets.into_iter().map(|(_, held)| held).collect();
        for held in &taken {
            self.forget(held);
        }
        // The names of what was given back stay in `order`; half of it may be such.
        if self.order.len() / 2 > self.count {
            let sets = &self.sets;
            self.order.retain(|(number, key)| {
                let first = sets.get(key).and_then(VecDeque::front);
                first.is_some_and(|(oldest, _)| oldest <= number)
            });
        }
        taken
    }

    /// Gives up what has waited too long.
    pub(super) fn expire(&mut self, now: UnixMillis, dropped: &mut dyn FnMut(&Held)) {
        let oldest_kept = UnixMillis(now.0.saturating_sub(self.limits.age_max_millis));
        while let Some(received) = self.oldest() {
            if received >= oldest_kept {
                return;
            }
            if let Some(oldest) = self.pop_oldest() {
                dropped(&oldest);
            }
        }
    }

    /// When the oldest set was received.
    fn oldest(&mut self) -> Option<UnixMillis> {
        loop {
            let (number, key) = self.order.front()?;
            match self.sets.get(key).and_then(VecDeque::front) {
                Some((first, held)) if first == number => return Some(held.received),
                _ => self.order.pop_front(),
            };
        }
    }

    fn pop_oldest(&mut self) -> Option<Held> {
        self.oldest()?;
        let (_, key) = self.order.pop_front()?;
        let sets = self.sets.get_mut(&key)?;
        let (_, held) = sets.pop_front()?;
        if sets.is_empty() {
            self.sets.remove(&key);
            self.size = self.size.saturating_sub(KEY_OVERHEAD);
        }
        self.forget(&held);
        Some(held)
    }

    fn forget(&mut self, held: &Held) {
        self.count = self.count.saturating_sub(1);
        self.size = self.size.saturating_sub(held.size());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ObservationDomainId, Protocol};

    fn key(domain: u32) -> PendingKey {
        PendingKey {
            origin: Arc::new(Origin {
                address: "192.0.2.1".parse().unwrap(),
                domain: ObservationDomainId(domain),
                protocol: Protocol::NetflowV9,
            }),
            template_id: TemplateId::FIRST,
        }
    }

    fn held(received: i64) -> Held {
        Held {
            port: 1,
            clocks: Clocks::default(),
            sequence_number: 0,
            received: UnixMillis(received),
            record_index: 0,
            exporter: Arc::default(),
            body: Box::new([0; 40]),
        }
    }

    /// A queue with room for three sets of two templates, which live for 100 ms.
    fn pending() -> Pending {
        let size_max = 2 * KEY_OVERHEAD + 3 * held(0).size();
        Pending::new(PendingLimits { size_max, age_max_millis: 100 })
    }

    /// What the queue's own memory takes, as its collections tell of it.
    fn memory(pending: &Pending) -> usize {
        let buckets = (pending.sets.capacity() * 8 / 7).next_power_of_two();
        let entry = size_of::<(PendingKey, VecDeque<(u64, Held)>)>() + 1;
        let queues = pending.sets.values().map(|sets| {
            let bodies: usize = sets.iter().map(|(_, held)| held.body.len() + 16).sum();
            sets.capacity() * size_of::<(u64, Held)>() + bodies
        });
        let each = size_of::<Origin>() + 16 + ExporterBooks::SIZE + 16;
        buckets * entry
            + pending.order.capacity() * size_of::<(u64, PendingKey)>()
            + queues.sum::<usize>()
            + pending.sets.len() * each
    }

    fn times(sets: &[Held]) -> Vec<i64> {
        sets.iter().map(|held| held.received.0).collect()
    }

    #[test]
    fn gives_back_in_order_by_template() {
        let mut pending = pending();
        for (domain, received) in [(1, 10), (2, 11), (1, 12)] {
            pending.hold(key(domain), held(received), &mut |_| panic!("room for all"));
        }
        assert_eq!(times(&pending.take(&key(1))), [10, 12]);
        assert!(pending.take(&key(1)).is_empty());
        assert_eq!(times(&pending.take(&key(2))), [11]);
        assert!(pending.is_empty());
    }

    #[test]
    fn the_oldest_give_way() {
        let mut pending = pending();
        let mut dropped = Vec::new();
        for received in 0..5 {
            let domain = u32::try_from(received % 2).unwrap();
            pending.hold(key(domain), held(received), &mut |held| {
                dropped.push(held.received.0);
            });
        }
        assert_eq!(dropped, [0, 1]);
        assert_eq!(times(&pending.take(&key(0))), [2, 4]);
    }

    #[test]
    fn what_waited_too_long_is_given_up() {
        let mut pending = pending();
        for received in [10, 20, 30] {
            pending.hold(key(1), held(received), &mut |_| panic!("room for all"));
        }
        let mut dropped = Vec::new();
        pending.expire(UnixMillis(125), &mut |held| dropped.push(held.received.0));
        assert_eq!(dropped, [10, 20]);
        assert_eq!(times(&pending.take(&key(1))), [30]);
        assert_eq!((pending.count, pending.size), (0, 0));
    }

    #[test]
    fn a_flood_of_templates_that_never_come_takes_no_more_memory_than_is_allowed() {
        for sets_of_each in [1, 2, 5] {
            let limits = PendingLimits { size_max: 200_000, age_max_millis: 100 };
            let mut pending = Pending::new(limits);
            let mut dropped = 0;
            for number in 0..5_000 {
                let mut held = held(1);
                held.body = Box::new([1]);
                pending.hold(key(number / sets_of_each), held, &mut |_| dropped += 1);
                let memory = memory(&pending);
                assert!(memory <= limits.size_max, "{memory} for {} sets", pending.count);
            }
            assert_eq!(pending.count + dropped, 5_000);
            assert!(pending.count > 100, "the room is used");
        }
    }

    #[test]
    fn a_set_beyond_all_room_is_dropped() {
        let mut pending = Pending::new(PendingLimits { size_max: 100, age_max_millis: 100 });
        let mut dropped = 0;
        pending.hold(key(1), held(1), &mut |_| dropped += 1);
        assert_eq!((dropped, pending.count, pending.size), (1, 0, 0));
    }

    #[test]
    fn names_of_what_was_given_back_do_not_pile_up() {
        let mut pending = pending();
        pending.hold(key(1), held(1), &mut |_| {});
        for received in 2..1_000 {
            pending.hold(key(2), held(received), &mut |_| {});
            pending.take(&key(2));
        }
        assert!(pending.order.len() < 8);
        assert_eq!(times(&pending.take(&key(1))), [1]);
    }
}
