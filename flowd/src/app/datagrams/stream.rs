//! One way of a TCP connection: segments in any order -> IPFIX messages (RFC 7011 section 10.4).
//!
//! ```text
//! segment --[in order: next, ahead]--> octets --[Framing]--> messages
//! ```

use super::CaptureDrop;
use crate::telemetry::Drops;
use std::collections::BTreeMap;

/// Segments that wait for one before them.
const AHEAD_COUNT_MAX: usize = 256;
/// Octets of them: a receiver's window, usually.
const AHEAD_SIZE_MAX: usize = 256 << 10;
/// A segment that lies further ahead than any window reaches (RFC 7323 section 2.3) is not of
/// this stream.
const WINDOW_MAX: u64 = 1 << 30;
/// Octets among which the beginning of a message is looked for. A message has at most 65,535, so
/// that a stream of messages shows one whole one in twice as many.
const HUNT_SIZE_MAX: usize = 2 * 65_536;
/// Sets of a message that are looked at to tell it from chance.
const SETS_LOOKED_AT_MAX: usize = 64;

const IPFIX_VERSION: u16 = 10;
const MESSAGE_HEADER_SIZE: usize = 16;
const SET_HEADER_SIZE: usize = 4;
/// Set ids that RFC 7011 section 3.3.2 gives a meaning: 2, 3, and 256 on.
const SET_IDS_RESERVED: [std::ops::RangeInclusive<u16>; 2] = [0..=1, 4..=255];

/// Takes a message.
pub(super) type TakeMessage<'a> = &'a mut dyn FnMut(&[u8]);

/// The octets of one way, as far as they matter.
#[derive(Debug)]
pub(super) struct Stream {
    /// Sequence number of the first octet that was not yet seen.
    next: u32,
    /// Octets seen in order, so that places in the stream have numbers that do not wrap.
    passed: u64,
    /// Segments behind a hole, by their place in the stream.
    ahead: BTreeMap<u64, Vec<u8>>,
    ahead_size: usize,
    /// Where the sender said that it ends.
    end: Option<u64>,
    framing: Framing,
}

impl Stream {
    /// A stream whose next octet has this sequence number. One that begins here begins with a
    /// message, or carries none.
    pub(super) const fn new(next: u32, is_beginning: bool) -> Self {
        Self {
            next,
            passed: 0,
            ahead: BTreeMap::new(),
            ahead_size: 0,
            end: None,
            framing: Framing {
                state: if is_beginning { State::Beginning } else { State::Unknown },
                octets: Vec::new(),
                hunted: 0,
            },
        }
    }

    /// Did it carry a message?
    pub(super) const fn is_ipfix(&self) -> bool {
        matches!(self.framing.state, State::Framed | State::Lost)
    }

    /// Will no message come of it any more?
    pub(super) const fn is_dull(&self) -> bool {
        matches!(self.framing.state, State::Other)
    }

    /// Has all come that was announced?
    pub(super) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.passed >= end)
    }

    /// Takes a segment's octets, and all that they make whole.
    pub(super) fn segment(
        &mut self,
        sequence: u32,
        octets: &[u8],
        is_last: bool,
        drops: &Drops<CaptureDrop>,
        take: TakeMessage<'_>,
    ) {
        // RFC 9293 section 3.4: sequence numbers are compared modulo 2^32.
        let distance = sequence.wrapping_sub(self.next);
        let (skip, place) = if distance < 1 << 31 {
            (0, self.passed.saturating_add(u64::from(distance)))
        } else {
            let seen = u64::from(distance.wrapping_neg());
            (usize::try_from(seen).unwrap_or(usize::MAX), self.passed)
        };
        if place.saturating_sub(self.passed) > WINDOW_MAX {
            return;
        }
        let fresh = octets.get(skip..).unwrap_or_default();
        if is_last && skip <= octets.len() {
            let end = place.saturating_add(fresh.len().try_into().unwrap_or(u64::MAX));
            self.end.get_or_insert(end);
        }
        if fresh.is_empty() || self.is_dull() {
            return;
        }
        if place > self.passed {
            self.keep(place, fresh);
        } else {
            self.pass(fresh, drops, take);
            self.catch_up(drops, take);
        }
        while self.ahead.len() > AHEAD_COUNT_MAX || self.ahead_size > AHEAD_SIZE_MAX {
            self.leap(drops, take);
        }
    }

    /// Nothing more comes: what lies behind holes is looked at.
    pub(super) fn finish(&mut self, drops: &Drops<CaptureDrop>, take: TakeMessage<'_>) {
        while !self.ahead.is_empty() {
            self.leap(drops, take);
        }
        self.framing.finish(drops);
    }

    fn keep(&mut self, place: u64, octets: &[u8]) {
        // Of two segments that begin at one place, the longer one has all of the other.
        let known = self.ahead.get(&place).map_or(0, Vec::len);
        if octets.len() > known {
            self.ahead.insert(place, octets.to_vec());
            self.ahead_size = self.ahead_size.saturating_sub(known).saturating_add(octets.len());
        }
    }

    /// Takes octets in order.
    fn pass(&mut self, octets: &[u8], drops: &Drops<CaptureDrop>, take: TakeMessage<'_>) {
        self.advance(octets.len().try_into().unwrap_or(u64::MAX));
        self.framing.add(octets, drops, take);
        if self.is_dull() {
            self.ahead.clear();
            self.ahead_size = 0;
        }
    }

    fn advance(&mut self, count: u64) {
        self.passed = self.passed.saturating_add(count);
        // What is left of the number is its value modulo 2^32, which is what is counted.
        self.next = self.next.wrapping_add((count & u64::from(u32::MAX)).try_into().unwrap_or(0));
    }

    /// Takes the segments that are in order now.
    fn catch_up(&mut self, drops: &Drops<CaptureDrop>, take: TakeMessage<'_>) {
        while let Some(first) = self.ahead.first_entry().filter(|first| *first.key() <= self.passed)
        {
            let (place, octets) = first.remove_entry();
            self.ahead_size = self.ahead_size.saturating_sub(octets.len());
            let seen = usize::try_from(self.passed.saturating_sub(place)).unwrap_or(usize::MAX);
            if let Some(fresh) = octets.get(seen..).filter(|fresh| !fresh.is_empty()) {
                self.pass(fresh, drops, take);
            }
        }
    }

    /// Gives up the hole before the first segment that waits.
    fn leap(&mut self, drops: &Drops<CaptureDrop>, take: TakeMessage<'_>) {
        if let Some((&place, _)) = self.ahead.first_key_value() {
            let missing = place.saturating_sub(self.passed);
            if self.is_ipfix() {
                drops.count(CaptureDrop::StreamMissing, missing);
            }
            self.framing.lose(drops);
            self.advance(missing);
        }
        self.catch_up(drops, take);
    }
}

/// What is known of where messages begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the beginning of the stream.
    Beginning,
    /// Somewhere in a stream of whatever kind.
    Unknown,
    /// Between two messages, or in one.
    Framed,
    /// Somewhere in a stream that carried messages.
    Lost,
    /// It is no stream of messages.
    Other,
}

/// Octets in order -> messages.
#[derive(Debug)]
struct Framing {
    state: State,
    octets: Vec<u8>,
    /// Octets given up while the beginning of a message was looked for.
    hunted: usize,
}

/// What octets look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// A message of this size.
    Message(usize),
    /// More octets must come before that can be told.
    Open,
    /// No message.
    No,
}

impl Framing {
    fn add(&mut self, octets: &[u8], drops: &Drops<CaptureDrop>, take: TakeMessage<'_>) {
        if self.state == State::Other {
            return;
        }
        self.octets.extend_from_slice(octets);
        let mut at = 0;
        loop {
            let rest = self.octets.get(at..).unwrap_or_default();
            match self.look(rest) {
                Look::Message(size) => {
                    self.state = State::Framed;
                    self.hunted = 0;
                    take(rest.get(..size).unwrap_or_default());
                    at = at.saturating_add(size);
                }
                Look::Open => break,
                Look::No if self.state == State::Beginning => {
                    self.state = State::Other;
                    break;
                }
                Look::No => {
                    if self.is_ipfix() {
                        self.state = State::Lost;
                        drops.count(CaptureDrop::StreamMalformed, 1);
                    }
                    at = at.saturating_add(1);
                    self.hunted = self.hunted.saturating_add(1);
                    if self.state == State::Unknown && self.hunted > HUNT_SIZE_MAX {
                        self.state = State::Other;
                        break;
                    }
                }
            }
        }
        if self.state == State::Other {
            self.octets = Vec::new();
        } else {
            self.octets.drain(..at);
        }
    }

    const fn is_ipfix(&self) -> bool {
        matches!(self.state, State::Framed | State::Lost)
    }

    /// A hole: what was begun before it does not end.
    fn lose(&mut self, drops: &Drops<CaptureDrop>) {
        self.finish(drops);
        self.octets.clear();
        self.state = match self.state {
            State::Framed | State::Lost => State::Lost,
            State::Beginning | State::Unknown => State::Unknown,
            State::Other => State::Other,
        };
    }

    /// Counts a message that is not whole.
    fn finish(&mut self, drops: &Drops<CaptureDrop>) {
        if self.is_ipfix() {
            let left = u64::try_from(self.octets.len()).unwrap_or(u64::MAX);
            drops.count(CaptureDrop::StreamMalformed, left);
        }
        self.octets.clear();
    }

    /// In a stream of messages the header is believed; elsewhere the sets must bear it out.
    fn look(&self, octets: &[u8]) -> Look {
        let is_believed = matches!(self.state, State::Framed | State::Beginning);
        let Some(size) = announced_size(octets) else { return begins(octets) };
        if size < MESSAGE_HEADER_SIZE {
            return Look::No;
        }
        if !is_believed && !is_tiled(octets, size) {
            return Look::No;
        }
        if octets.len() < size { Look::Open } else { Look::Message(size) }
    }
}

/// The size that a message of our version says it has; none before it has said so.
fn announced_size(octets: &[u8]) -> Option<usize> {
    let &[v0, v1, s0, s1] = octets.first_chunk()?;
    let is_ipfix = u16::from_be_bytes([v0, v1]) == IPFIX_VERSION;
    Some(if is_ipfix { usize::from(u16::from_be_bytes([s0, s1])) } else { 0 })
}

/// Do fewer octets than tell their size begin as a message does?
fn begins(octets: &[u8]) -> Look {
    let known = IPFIX_VERSION.to_be_bytes();
    if octets.iter().zip(known).all(|(octet, known)| *octet == known) {
        Look::Open
    } else {
        Look::No
    }
}

/// Are the message's octets, as far as they are here, sets that end where it does?
fn is_tiled(octets: &[u8], size: usize) -> bool {
    let mut at = MESSAGE_HEADER_SIZE;
    for _ in 0..SETS_LOOKED_AT_MAX {
        if at == size {
            // A message without a set says nothing; chance says it easily.
            return at > MESSAGE_HEADER_SIZE;
        }
        let Some(&[i0, i1, l0, l1]) = octets.get(at..).and_then(<[u8]>::first_chunk) else {
            return at.saturating_add(SET_HEADER_SIZE) <= size;
        };
        let (id, length) =
            (u16::from_be_bytes([i0, i1]), usize::from(u16::from_be_bytes([l0, l1])));
        at = at.saturating_add(length);
        let is_reserved = SET_IDS_RESERVED.iter().any(|reserved| reserved.contains(&id));
        if is_reserved || length < SET_HEADER_SIZE || at > size {
            return false;
        }
    }
    true
}
