//! UDP datagrams that IP cut into parts -> whole ones.

use super::{Body, CaptureDrop, UDP_HEADER_SIZE, begins_as_export};
use crate::telemetry::Drops;
use flowd_common::packet::{Addresses, Fragment};
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// Datagrams whose parts are kept at once.
const DATAGRAM_COUNT_MAX: usize = 256;
/// Parts of one datagram. A datagram of full size over the least MTU that IPv6 allows has 53.
const PART_COUNT_MAX: usize = 256;
/// Octets of one datagram (RFC 791 section 3.1, RFC 8200 section 4.5).
const SIZE_MAX: usize = 65_535;
/// Octets that tell every protocol's version.
const VERSION_SIZE_MAX: usize = 4;
/// How long a datagram waits for its parts: between the 15 s of RFC 791 and the 60 s of RFC 8200.
/// IPv4's numbers come round sooner than that at a busy exporter.
const WAIT_NANOS: i64 = 30_000_000_000;

/// One part of a datagram.
pub(super) struct Part<'a> {
    pub(super) addresses: Addresses,
    pub(super) fragment: Fragment,
    pub(super) body: Body<'a>,
}

/// What all parts of one datagram share; the protocol is UDP for all that come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    addresses: Addresses,
    id: u32,
}

/// The parts of datagrams that are not whole yet.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    waiting: HashMap<Key, Waiting>,
    /// Numbers datagrams by when their first part came.
    count: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    since_nanos: i64,
    /// By where each begins.
    parts: BTreeMap<usize, Vec<u8>>,
    held: usize,
    /// Octets of the whole, once the last part told.
    size: Option<usize>,
    /// Does it begin as an export message does? Not known before its first part came.
    is_export: Option<bool>,
    /// It never becomes whole and was counted: its later parts find this and are dropped.
    is_given_up: bool,
}

/// What a part did to its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    Waits,
    Whole,
    Refused(CaptureDrop),
}

impl Fragments {
    /// Keeps a part, or hands on the whole that it completes: its UDP header and payload.
    pub(super) fn add(
        &mut self,
        part: &Part<'_>,
        now_nanos: i64,
        drops: &Drops<CaptureDrop>,
        take: &mut dyn FnMut(&[u8]),
    ) {
        let key = Key { addresses: part.addresses, id: part.fragment.id };
        self.expire(now_nanos, drops);
        if !self.waiting.contains_key(&key) {
            self.make_room(drops);
        }
        let number = self.count;
        let waiting = self.waiting.entry(key).or_insert_with(|| Waiting {
            number,
            since_nanos: now_nanos,
            parts: BTreeMap::new(),
            held: 0,
            size: None,
            is_export: None,
            is_given_up: false,
        });
        self.count = self.count.saturating_add(1);
        match waiting.add(part) {
            Added::Waits => {}
            Added::Whole => {
                if let Some(waiting) = self.waiting.remove(&key) {
                    let whole: Vec<u8> = waiting.parts.into_values().flatten().collect();
                    take(&whole);
                }
            }
            Added::Refused(reason) => {
                waiting.give_up(reason, drops);
            }
        }
    }

    /// No more parts come.
    pub(super) fn finish(&mut self, drops: &Drops<CaptureDrop>) {
        for (_, mut waiting) in self.waiting.drain() {
            waiting.give_up(CaptureDrop::FragmentMissing, drops);
        }
    }

    fn expire(&mut self, now_nanos: i64, drops: &Drops<CaptureDrop>) {
        // A capture whose clock went back keeps what it has.
        self.waiting.retain(|_, waiting| {
            let is_due = now_nanos.saturating_sub(waiting.since_nanos) > WAIT_NANOS;
            if is_due {
                waiting.give_up(CaptureDrop::FragmentMissing, drops);
            }
            !is_due
        });
    }

    /// The oldest gives way when there are too many.
    fn make_room(&mut self, drops: &Drops<CaptureDrop>) {
        if self.waiting.len() < DATAGRAM_COUNT_MAX {
            return;
        }
        let oldest = self.waiting.iter().min_by_key(|(_, waiting)| waiting.number);
        if let Some(key) = oldest.map(|(&key, _)| key)
            && let Some(mut waiting) = self.waiting.remove(&key)
        {
            waiting.give_up(CaptureDrop::FragmentsOverLimit, drops);
        }
    }
}

impl Waiting {
    fn add(&mut self, part: &Part<'_>) -> Added {
        if self.is_given_up {
            return Added::Waits;
        }
        let octets = part.body.octets;
        let start = usize::from(part.fragment.offset);
        let end = start.saturating_add(octets.len());
        if start == 0 && self.is_export.is_none() {
            let payload = octets.get(UDP_HEADER_SIZE..);
            let payload = payload.filter(|payload| payload.len() >= VERSION_SIZE_MAX);
            self.is_export = payload.map(begins_as_export);
        }
        // A part that the capture cut has a hole behind it; all but the last are multiples of 8.
        if !part.body.is_whole || octets.is_empty() {
            return Added::Refused(CaptureDrop::FragmentMissing);
        }
        if end > SIZE_MAX || self.parts.len() >= PART_COUNT_MAX {
            return Added::Refused(CaptureDrop::FragmentsOverLimit);
        }
        // The same part twice is no overlap (RFC 8200 section 4.5): a capture may see a packet
        // on its way in and out.
        if self.parts.get(&start).is_some_and(|known| known == octets) {
            return Added::Waits;
        }
        let before = self.parts.range(..=start).next_back();
        let after = self.parts.range(start..).next();
        let overlaps = before.is_some_and(|(&at, known)| at.saturating_add(known.len()) > start)
            || after.is_some_and(|(&at, _)| at < end)
            || self.size.is_some_and(|size| end > size || !part.fragment.more);
        let ends_before_another =
            !part.fragment.more && self.parts.last_key_value().is_some_and(|(&at, _)| at > start);
        if overlaps || ends_before_another {
            return Added::Refused(CaptureDrop::FragmentsOverlap);
        }
        if !part.fragment.more {
            self.size = Some(end);
        }
        self.held = self.held.saturating_add(octets.len());
        self.parts.insert(start, octets.to_vec());
        // Without overlaps, as many octets as the whole has are the whole.
        if self.size == Some(self.held) { Added::Whole } else { Added::Waits }
    }

    /// Counts it, unless its beginning shows that it is no export datagram.
    fn give_up(&mut self, reason: CaptureDrop, drops: &Drops<CaptureDrop>) {
        if !self.is_given_up && self.is_export != Some(false) {
            drops.count(reason, 1);
        }
        self.is_given_up = true;
        self.parts.clear();
    }
}
