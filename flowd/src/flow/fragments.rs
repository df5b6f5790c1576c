//! fragments: what a first fragment says of the later ones, which have no ports of their own.
//!
//! Bounded in number and in time. A later fragment that comes before its first one, or after
//! its entry is gone, stays without ports.

use flowd_common::ObservationPoint;
use flowd_common::limits::FRAGMENT_TIMEOUT_NANOS;
use flowd_common::packet::{Addresses, Fragment, Packet, Transport};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::collections::VecDeque;
use std::hash::BuildHasher;

/// Fragmented packets remembered at a time; the oldest makes room.
pub(super) const FRAGMENT_COUNT_MAX: usize = 65_536;

/// What all fragments of a packet share (RFC 791 section 3.2; RFC 8200 section 4.5, where the
/// protocol is the fragment header's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FragmentKey {
    addresses: Addresses,
    point: ObservationPoint,
    id: u32,
    protocol: u8,
}

impl FragmentKey {
    const fn new(point: ObservationPoint, addresses: Addresses, fragment: Fragment) -> Self {
        Self { addresses, point, id: fragment.id, protocol: fragment.protocol }
    }
}

/// What the first fragment of a packet said.
#[derive(Clone, Copy, Debug)]
struct FirstFragment {
    key: FragmentKey,
    seen_nanos: i64,
    protocol: u8,
    transport: Transport,
}

/// The first fragments seen of late.
#[derive(Debug)]
pub(super) struct Fragments {
    /// Hash of the key -> the entry's number. Numbers count insertions, and the oldest entry
    /// leaves first, so that an entry lies at its number less `removed_count`.
    numbers: HashTable<u64>,
    entries: VecDeque<FirstFragment>,
    removed_count: u64,
    count_max: usize,
    hash_builder: DefaultHashBuilder,
}

impl Fragments {
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            numbers: HashTable::new(),
            entries: VecDeque::new(),
            removed_count: 0,
            count_max: count_max.max(1),
            hash_builder: DefaultHashBuilder::default(),
        }
    }

    /// Remembers a first fragment.
    pub(super) fn remember(
        &mut self,
        point: ObservationPoint,
        packet: &Packet,
        fragment: Fragment,
        now_nanos: i64,
    ) {
        let key = FragmentKey::new(point, packet.addresses, fragment);
        let first = FirstFragment {
            key,
            seen_nanos: now_nanos,
            protocol: packet.protocol,
            transport: packet.transport,
        };
        // The same identification again: a packet sent twice, or the numbers came round.
        if let Some(index) = self.index_of(&key)
            && let Some(entry) = self.entries.get_mut(index)
        {
            *entry = first;
            return;
        }
        while self.entries.len() >= self.count_max || self.is_oldest_over(now_nanos) {
            self.remove_oldest();
        }
        let number = self.removed_count + self.entries.len() as u64;
        self.entries.push_back(first);
        let (entries, removed_count) = (&self.entries, self.removed_count);
        let hash_builder = &self.hash_builder;
        self.numbers.insert_unique(hash_builder.hash_one(key), number, |&number| {
            entry_of(entries, removed_count, number)
                .map_or(0, |entry| hash_builder.hash_one(entry.key))
        });
    }

    /// Protocol and transport of the first fragment that a later one belongs to.
    pub(super) fn first_of(
        &self,
        point: ObservationPoint,
        packet: &Packet,
        fragment: Fragment,
        now_nanos: i64,
    ) -> Option<(u8, Transport)> {
        let key = FragmentKey::new(point, packet.addresses, fragment);
        let first = self.entries.get(self.index_of(&key)?)?;
        (!first.is_over(now_nanos)).then_some((first.protocol, first.transport))
    }

    fn index_of(&self, key: &FragmentKey) -> Option<usize> {
        if self.numbers.is_empty() {
            return None;
        }
        let number = self.numbers.find(self.hash_builder.hash_one(key), |&number| {
            entry_of(&self.entries, self.removed_count, number)
                .is_some_and(|entry| entry.key == *key)
        })?;
        usize::try_from(number - self.removed_count).ok()
    }

    fn is_oldest_over(&self, now_nanos: i64) -> bool {
        self.entries.front().is_some_and(|oldest| oldest.is_over(now_nanos))
    }

    fn remove_oldest(&mut self) {
        let Some(oldest) = self.entries.front() else {
            return;
        };
        let hash = self.hash_builder.hash_one(oldest.key);
        let number = self.removed_count;
        if let Ok(entry) = self.numbers.find_entry(hash, |&other| other == number) {
            entry.remove();
        }
        self.entries.pop_front();
        self.removed_count += 1;
    }
}

impl FirstFragment {
    fn is_over(&self, now_nanos: i64) -> bool {
        now_nanos.saturating_sub(self.seen_nanos) >= FRAGMENT_TIMEOUT_NANOS
    }
}

fn entry_of(
    entries: &VecDeque<FirstFragment>,
    removed_count: u64,
    number: u64,
) -> Option<&FirstFragment> {
    entries.get(usize::try_from(number.checked_sub(removed_count)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowd_common::Direction;
    use flowd_common::packet::LinkHeader;

    const POINT: ObservationPoint = ObservationPoint::new(0, Direction::NONE);

    fn packet(id: u32, offset: u16, source_port: u16) -> (Packet, Fragment) {
        let fragment = Fragment { id, offset, more: offset == 0, protocol: 17 };
        let packet = Packet {
            addresses: Addresses::V4 { source: [192, 0, 2, 1], destination: [192, 0, 2, 2] },
            protocol: 17,
            transport: Transport::Ports { source: source_port, destination: 53 },
            network_offset: 0,
            transport_offset: 20,
            fragment: Some(fragment),
            octets: 1500,
            tcp_control_bits: 0,
            class_of_service: 0,
            ttl: 64,
            flow_label: 0,
            link: LinkHeader::default(),
        };
        (packet, fragment)
    }

    fn source_port(fragments: &Fragments, id: u32, now_nanos: i64) -> Option<u16> {
        let (packet, fragment) = packet(id, 8, 0);
        fragments
            .first_of(POINT, &packet, fragment, now_nanos)
            .map(|(_, transport)| transport.to_key().1)
    }

    #[test]
    fn later_fragments_find_their_first_until_it_is_too_old() {
        let mut fragments = Fragments::new(8);
        let (first, fragment) = packet(7, 0, 1000);
        fragments.remember(POINT, &first, fragment, 5);
        assert_eq!(source_port(&fragments, 7, 6), Some(1000));
        assert_eq!(source_port(&fragments, 8, 6), None);
        let end = 5 + FRAGMENT_TIMEOUT_NANOS;
        assert_eq!(source_port(&fragments, 7, end - 1), Some(1000));
        assert_eq!(source_port(&fragments, 7, end), None);
    }

    #[test]
    fn the_oldest_makes_room_and_a_repeated_first_replaces() {
        let mut fragments = Fragments::new(100);
        for id in 0..1000_u32 {
            let port = u16::try_from(id).unwrap();
            let (first, fragment) = packet(id, 0, port);
            fragments.remember(POINT, &first, fragment, 0);
            let (again, fragment) = packet(id, 0, port + 1);
            fragments.remember(POINT, &again, fragment, 0);
            assert_eq!(source_port(&fragments, id, 0), Some(port + 1));
        }
        assert_eq!(fragments.entries.len(), 100);
        assert_eq!(fragments.numbers.len(), 100);
        assert_eq!(source_port(&fragments, 899, 0), None);
        assert_eq!(source_port(&fragments, 900, 0), Some(901));
        // Time clears all but the one that comes.
        let (first, fragment) = packet(5000, 0, 5);
        fragments.remember(POINT, &first, fragment, FRAGMENT_TIMEOUT_NANOS);
        assert_eq!((fragments.entries.len(), fragments.numbers.len()), (1, 1));
    }
}
