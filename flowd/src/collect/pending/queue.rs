//! What waits, in memory.

use super::{Dropped, ExporterBooks, Held, PendingKey, PendingLimits, Source};
use crate::model::Origin;
use crate::model::time::UnixMillis;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// What holding a set costs besides its octets: its place in a tree whose nodes are 5/11 full at
/// the least, its number in two more, and the allocator's own.
pub(super) const SET_OVERHEAD: usize =
    5 * size_of::<(u64, Waiting)>() / 2 + 2 * 5 * size_of::<u64>() / 2 + 64;
/// What waiting for one more template costs: its place in a table that is filled to 7/16 after it
/// has grown, a first node of its tree, and what no one else may remember any more, the origin
/// and its counters.
pub(super) const KEY_OVERHEAD: usize = 5 * size_of::<(PendingKey, BTreeSet<u64>)>() / 2
    + NODE_SIZE
    + size_of::<Origin>()
    + ExporterBooks::SIZE
    + 64;
/// What one more exporter address costs.
pub(super) const ADDRESS_OVERHEAD: usize =
    5 * size_of::<(IpAddr, Share)>() / 2 + NODE_SIZE + 5 * size_of::<(usize, IpAddr)>() / 2 + 64;
/// A tree's node of eleven numbers.
const NODE_SIZE: usize = 11 * size_of::<u64>() + 16;

/// A set and what it waits for.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) key: PendingKey,
    pub(super) held: Held,
}

impl Waiting {
    fn size(&self) -> usize {
        self.held.body.len().saturating_add(SET_OVERHEAD)
    }
}

/// What one exporter address has.
#[derive(Debug, Default)]
pub(super) struct Share {
    size: usize,
    numbers: BTreeSet<u64>,
}

/// The data sets that wait, by number: the order in which they came.
#[derive(Debug)]
pub(super) struct Queue {
    limits: PendingLimits,
    sets: BTreeMap<u64, Waiting>,
    by_key: HashMap<PendingKey, BTreeSet<u64>>,
    by_address: HashMap<IpAddr, Share>,
    /// The addresses by what they have.
    by_size: BTreeSet<(usize, IpAddr)>,
    next_number: u64,
    size: usize,
    /// Sets with a smaller number are on disk.
    pub(super) saved_until: u64,
    /// Sets on disk that were given up, which the disk does not know yet.
    pub(super) given_up: Vec<u64>,
    /// The templates' epoch when those that wait last looked for theirs, and the time.
    pub(super) looked: (u64, UnixMillis),
}

impl Queue {
    pub(super) fn new(limits: PendingLimits) -> Self {
        Self {
            limits,
            sets: BTreeMap::new(),
            by_key: HashMap::new(),
            by_address: HashMap::new(),
            by_size: BTreeSet::new(),
            next_number: 0,
            size: 0,
            saved_until: 0,
            given_up: Vec::new(),
            looked: (0, UnixMillis::default()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sets.len()
    }

    /// Octets that all take.
    #[cfg(test)]
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// All that waits counts as being on disk.
    pub(super) const fn save_from_next(&mut self) {
        self.saved_until = self.next_number;
    }

    /// What was taken for the disk and did not get there is as it was.
    pub(super) fn undo(&mut self, (saved_until, given_up): (u64, Vec<u64>)) {
        self.saved_until = saved_until;
        self.given_up.extend(given_up);
    }

    pub(super) fn keys(&self) -> Vec<PendingKey> {
        self.by_key.keys().cloned().collect()
    }

    /// The sets from a number on.
    pub(super) fn since(&self, number: u64) -> impl Iterator<Item = (u64, &Waiting)> {
        self.sets.range(number..).map(|(&number, waiting)| (number, waiting))
    }

    pub(super) fn hold(&mut self, key: PendingKey, held: Held, dropped: Dropped<'_>) {
        let address = key.origin.address;
        let waiting = Waiting { key, held };
        let limits = self.limits;
        loop {
            // To give way may take the last set of the same template, or of the same address.
            let share = self.by_address.get(&address);
            let mut size = waiting.size();
            if !self.by_key.contains_key(&waiting.key) {
                size = size.saturating_add(KEY_OVERHEAD);
            }
            if share.is_none() {
                size = size.saturating_add(ADDRESS_OVERHEAD);
            }
            let share_size = share.map_or(0, |share| share.size);
            let victim = if share_size.saturating_add(size) > limits.exporter_size_max {
                Some(address)
            } else if self.size.saturating_add(size) > limits.size_max {
                // The one that has most; this one, if no other has more than it would have.
                let largest = self.by_size.last().copied();
                let own = (share_size.saturating_add(size), address);
                largest.filter(|largest| *largest > own).or(Some(own)).map(|(_, victim)| victim)
            } else {
                break;
            };
            if !victim.is_some_and(|victim| self.drop_oldest_of(victim, dropped)) {
                dropped(&waiting.key, &waiting.held);
                return;
            }
        }
        self.insert(waiting);
    }

    fn insert(&mut self, waiting: Waiting) {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        let address = waiting.key.origin.address;
        let mut size = waiting.size();
        if !self.by_address.contains_key(&address) {
            size = size.saturating_add(ADDRESS_OVERHEAD);
        }
        let numbers = self.by_key.entry(waiting.key.clone()).or_default();
        if numbers.is_empty() {
            size = size.saturating_add(KEY_OVERHEAD);
        }
        numbers.insert(number);
        let share = self.by_address.entry(address).or_default();
        share.numbers.insert(number);
        self.by_size.remove(&(share.size, address));
        share.size = share.size.saturating_add(size);
        self.by_size.insert((share.size, address));
        self.size = self.size.saturating_add(size);
        self.sets.insert(number, waiting);
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.sets.remove(&number)?;
        let address = waiting.key.origin.address;
        let mut size = waiting.size();
        if let Some(numbers) = self.by_key.get_mut(&waiting.key) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_key.remove(&waiting.key);
                size = size.saturating_add(KEY_OVERHEAD);
            }
        }
        if let Some(share) = self.by_address.get_mut(&address) {
            share.numbers.remove(&number);
            self.by_size.remove(&(share.size, address));
            if share.numbers.is_empty() {
                self.by_address.remove(&address);
                size = size.saturating_add(ADDRESS_OVERHEAD);
            } else {
                share.size = share.size.saturating_sub(size);
                self.by_size.insert((share.size, address));
            }
        }
        self.size = self.size.saturating_sub(size);
        Some(waiting)
    }

    fn drop_oldest_of(&mut self, address: IpAddr, dropped: Dropped<'_>) -> bool {
        let share = self.by_address.get(&address);
        let oldest = share.and_then(|share| share.numbers.first().copied());
        oldest.is_some_and(|oldest| self.give_up(oldest, dropped))
    }

    fn give_up(&mut self, number: u64, dropped: Dropped<'_>) -> bool {
        let Some(waiting) = self.remove(number) else {
            return false;
        };
        if number < self.saved_until {
            self.given_up.push(number);
        }
        dropped(&waiting.key, &waiting.held);
        true
    }

    /// Gives up what one source of an address sent.
    pub(super) fn give_up_source(&mut self, address: IpAddr, source: Source, dropped: Dropped<'_>) {
        let Some(share) = self.by_address.get(&address) else {
            return;
        };
        let is_meant = |number: &&u64| {
            self.sets.get(number).is_some_and(|waiting| waiting.held.source == source)
        };
        let meant: Vec<u64> = share.numbers.iter().filter(is_meant).copied().collect();
        for number in meant {
            self.give_up(number, dropped);
        }
    }

    /// Takes the sets of a template that can be decoded now, and the numbers of those on disk.
    pub(super) fn take<T>(
        &mut self,
        key: &PendingKey,
        find: &mut dyn FnMut(&Held) -> Option<T>,
    ) -> (Vec<(Held, T)>, Vec<u64>) {
        let (mut taken, mut gone) = (Vec::new(), Vec::new());
        let numbers: Vec<u64> = match self.by_key.get(key) {
            Some(numbers) => numbers.iter().copied().collect(),
            None => Vec::new(),
        };
        for number in numbers {
            let found = self.sets.get(&number).and_then(|waiting| find(&waiting.held));
            if let Some(found) = found
                && let Some(waiting) = self.remove(number)
            {
                taken.push((waiting.held, found));
                if number < self.saved_until {
                    gone.push(number);
                }
            }
        }
        (taken, gone)
    }

    /// Gives up what came before this time. What came while the clock was ahead waits until the
    /// sets before it are gone.
    pub(super) fn expire(&mut self, before: UnixMillis, dropped: Dropped<'_>) {
        while let Some((&number, waiting)) = self.sets.first_key_value() {
            if waiting.held.received >= before {
                return;
            }
            self.give_up(number, dropped);
        }
    }
}
