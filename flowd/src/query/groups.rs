//! Groups: a hash table from keys to sums.

use super::totals::Totals;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::{BuildHasher, Hash};

/// Groups by key. Key and sums lie in the table itself, so that a record costs one place in
/// memory beside the table's tags, and growing reads memory in its order.
#[derive(Debug)]
pub(super) struct Groups<K> {
    hasher: DefaultHashBuilder,
    table: HashTable<(K, Totals)>,
}

impl<K: Eq + Hash> Groups<K> {
    /// No groups. The hasher has a secret, since keys come from the network.
    pub(super) fn new() -> Self {
        Self { hasher: DefaultHashBuilder::default(), table: HashTable::new() }
    }

    /// How many groups there are.
    pub(super) fn count(&self) -> usize {
        self.table.len()
    }

    /// All groups, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, Totals)> {
        self.table.iter()
    }

    /// Adds to the group of a key.
    pub(super) fn add(&mut self, key: K, totals: Totals) {
        let Self { hasher, table } = self;
        let hash = hasher.hash_one(&key);
        match table.find_mut(hash, |(known, _)| *known == key) {
            Some((_, sums)) => sums.add(totals),
            None => {
                let rehash = |(known, _): &(K, Totals)| hasher.hash_one(known);
                table.insert_unique(hash, (key, totals), rehash);
            }
        }
    }

    /// Takes over other groups.
    pub(super) fn merge(&mut self, other: Self) {
        for (key, totals) in other.table {
            self.add(key, totals);
        }
    }
}

impl Groups<Box<[u8]>> {
    /// Adds to the group of a key, which is copied only if it is new.
    pub(super) fn add_octets(&mut self, key: &[u8], totals: Totals) {
        let Self { hasher, table } = self;
        // A boxed key hashes as the octets in it.
        let hash = hasher.hash_one(key);
        match table.find_mut(hash, |(known, _)| **known == *key) {
            Some((_, sums)) => sums.add(totals),
            None => {
                let rehash = |(known, _): &(Box<[u8]>, Totals)| hasher.hash_one(known);
                table.insert_unique(hash, (key.into(), totals), rehash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn totals(octets: u64) -> Totals {
        Totals { octets, ..Totals::NONE }
    }

    #[test]
    fn sums_survive_growing_and_merging() {
        let (mut left, mut right) = (Groups::new(), Groups::new());
        let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
        for index in 0..100_000_u64 {
            let (groups, key) = if index % 2 == 0 {
                (&mut left, index % 30_011)
            } else {
                (&mut right, index % 20_011 + 20_000)
            };
            groups.add(key, totals(index));
            *expected.entry(key).or_default() += index;
        }
        left.merge(right);
        assert_eq!(left.count(), expected.len());
        let sums: BTreeMap<u64, u64> = left.iter().map(|(key, it)| (*key, it.octets)).collect();
        assert_eq!(sums, expected);
    }

    #[test]
    fn a_key_of_octets_is_one_group() {
        let mut groups: Groups<Box<[u8]>> = Groups::new();
        for index in 0..20_000_u64 {
            groups.add_octets((index % 7_000).to_string().as_bytes(), totals(1));
        }
        assert_eq!(groups.count(), 7_000);
        assert!(groups.iter().all(|(_, sums)| (2..=3).contains(&sums.octets)));
    }
}
