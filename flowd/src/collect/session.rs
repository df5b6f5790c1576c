//! A conversation with one exporter: its sequence numbers, and what its records are told by.

use super::exporters::{ExporterBooks, SAMPLER_COUNT_MAX};
use super::facts::{Facts, Sampling};
use super::peer::Peer;
use super::sequence::Sequence;
use super::sflow::SampleSequences;
use super::standing::{Standing, Standings};
use super::template_cache::DomainTemplates;
use crate::model::time::{SysUptime, UnixMillis};
use crate::model::{ObservationDomainId, Origin, Protocol};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

/// What tells Transport Sessions apart (UDP has no connection: RFC 7011 section 10.3.1), and
/// within them the scope of templates and sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionKey {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) domain: ObservationDomainId,
    pub(super) protocol: Protocol,
}

impl SessionKey {
    /// `::ffff:a.b.c.d` is `a.b.c.d`.
    pub(super) fn new(peer: Peer, domain: ObservationDomainId, protocol: Protocol) -> Self {
        Self { address: peer.ip(), port: peer.address.port(), domain, protocol }
    }
}

/// What a worker remembers of a session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) origin: Arc<Origin>,
    pub(super) port: u16,
    pub(super) books: Arc<ExporterBooks>,
    /// The shared templates of the exporter and domain, once there are some.
    pub(super) templates: Option<Arc<DomainTemplates>>,
    /// Each sampler's interval, so that what is told again and again is not noted again and again.
    samplings: HashMap<u64, u64>,
    /// The sequences of an sFlow agent's samples.
    pub(super) samples: SampleSequences,
    sequence: Sequence,
    last_used: UnixMillis,
    /// Was it heard of more than once?
    is_established: bool,
    /// Was it heard of since its standing was noted?
    is_active: bool,
}

impl Session {
    /// Takes note of a message, and counts what its sequence number tells. `units` is how far
    /// the message moves the sequence, if that is known.
    pub(super) fn observe(
        &mut self,
        sequence_number: u32,
        units: Option<u32>,
        sys_uptime: Option<SysUptime>,
    ) {
        self.books.count(self.sequence.observe(sequence_number, units, sys_uptime));
    }
}

impl Session {
    /// Takes note of what the exporter tells of itself.
    pub(super) fn take(&mut self, facts: Facts, received: UnixMillis) {
        if facts != Facts::default() {
            self.books.heard_facts(received);
        }
        if let Some(booted) = facts.booted {
            self.books.note_boot(booted);
        }
        if let Some(sampling) = facts.sampling {
            self.note_sampling(sampling, received);
        }
    }

    /// Takes note of a sampling rate, in an option, a record or a header.
    pub(super) fn note_sampling(&mut self, sampling: Sampling, received: UnixMillis) {
        let Sampling { sampler, interval } = sampling;
        if self.samplings.get(&sampler) == Some(&interval) {
            return;
        }
        // None gives way: with one more than there is room for, all would take turns.
        if self.samplings.len() >= SAMPLER_COUNT_MAX && !self.samplings.contains_key(&sampler) {
            self.books.samplers_over_limit.add(1);
            return;
        }
        self.samplings.insert(sampler, interval);
        self.books.note_sampling(sampling, received);
    }
}

/// The sessions of one worker, limited in number.
#[derive(Debug)]
pub(super) struct Sessions {
    map: HashMap<SessionKey, Session>,
    /// Those that were heard of since their standing was noted.
    active: Vec<SessionKey>,
    count_max: usize,
    /// The keys of each address, so that one cannot have all the room.
    by_address: HashMap<IpAddr, Vec<SessionKey>>,
    count_per_address_max: usize,
    /// Sessions that gave way to others and were not counted yet.
    given_way: u64,
}

impl Sessions {
    pub(super) fn new(count_max: usize, count_per_address_max: usize) -> Self {
        Self {
            map: HashMap::new(),
            active: Vec::new(),
            count_max: count_max.max(1),
            by_address: HashMap::new(),
            count_per_address_max: count_per_address_max.max(1),
            given_way: 0,
        }
    }

    /// The session of this key; `make` gives a new one its origin, counters and sequence. Where
    /// there are too many in all, or of the address, others give way.
    pub(super) fn get_or_make(
        &mut self,
        key: SessionKey,
        now: UnixMillis,
        make: impl FnOnce() -> (Arc<Origin>, Arc<ExporterBooks>, (Sequence, Option<UnixMillis>)),
    ) -> &mut Session {
        if self.map.len() >= self.count_max && !self.map.contains_key(&key) {
            self.forget_some();
        }
        let of_address = self.by_address.get(&key.address).map_or(0, Vec::len);
        if of_address >= self.count_per_address_max && !self.map.contains_key(&key) {
            self.forget_some_of(key.address);
        }
        let session = match self.map.entry(key) {
            Entry::Occupied(known) => {
                let session = known.into_mut();
                session.is_established = true;
                session
            }
            Entry::Vacant(place) => {
                self.by_address.entry(key.address).or_default().push(key);
                let (origin, books, (sequence, booted)) = make();
                if let Some(booted) = booted {
                    books.note_boot(booted);
                }
                place.insert(Session {
                    origin,
                    port: key.port,
                    books,
                    templates: None,
                    samplings: HashMap::new(),
                    samples: SampleSequences::default(),
                    sequence,
                    last_used: now,
                    is_established: false,
                    is_active: false,
                })
            }
        };
        session.last_used = now;
        if !session.is_active {
            session.is_active = true;
            self.active.push(key);
        }
        session
    }

    /// How many sessions gave way to others since this was asked last.
    pub(super) const fn take_given_way(&mut self) -> u64 {
        std::mem::replace(&mut self.given_way, 0)
    }

    /// Notes where the sequences stand of the sessions that were heard of since the last time,
    /// and that others stand nowhere any more.
    pub(super) fn note_standings(&mut self, standings: &Standings) {
        let map = &mut self.map;
        standings.note(self.active.drain(..).map(|key| {
            let standing: Option<Standing> = map.get_mut(&key).and_then(|session| {
                session.is_active = false;
                let booted = session.books.booted();
                session.sequence.standing(session.last_used, session.is_established, booted)
            });
            (key, standing)
        }));
    }

    /// Forgets the sessions of a connection that has ended.
    pub(super) fn forget_peer(&mut self, peer: Peer) {
        let port = peer.address.port();
        if let Some(keys) = self.by_address.get(&peer.ip()) {
            // Where they stood is of no more use.
            self.active.extend(keys.iter().filter(|key| key.port == port));
        }
        self.forget_of(peer.ip(), |key, _| key.port == port);
    }

    /// Forgets an eighth of an address's sessions: those that sent but once, then the ones that
    /// were not heard of for longest. An exporter that has a new port for each message displaces
    /// itself.
    fn forget_some_of(&mut self, address: IpAddr) {
        let Some(keys) = self.by_address.get_mut(&address) else {
            return;
        };
        let map = &self.map;
        // A key without a session goes first.
        keys.sort_by_cached_key(|key| map.get(key).map(|s| (s.is_established, s.last_used)));
        let count = (keys.len() / 8).max(1).min(keys.len());
        for key in keys.drain(..count) {
            self.map.remove(&key);
            self.given_way = self.given_way.saturating_add(1);
        }
    }

    /// Forgets those sessions of an address that `is_over` says.
    fn forget_of(&mut self, address: IpAddr, is_over: impl Fn(&SessionKey, &Session) -> bool) {
        let Some(keys) = self.by_address.get_mut(&address) else {
            return;
        };
        let map = &mut self.map;
        keys.retain(|key| {
            let ends = map.get(key).is_none_or(|session| is_over(key, session));
            if ends {
                map.remove(key);
            }
            !ends
        });
        if keys.is_empty() {
            self.by_address.remove(&address);
        }
    }

    /// Forgets where all sFlow samples stood in their sequences.
    pub(super) fn forget_samples(&mut self) {
        for session in self.map.values_mut() {
            session.samples = SampleSequences::default();
        }
    }

    /// Forgets the eighth that was not heard of for longest. What is lost with a session is only
    /// its place in the sequence.
    fn forget_some(&mut self) {
        let before = self.map.len();
        let mut times: Vec<UnixMillis> = self.map.values().map(|s| s.last_used).collect();
        let eighth = times.len() / 8;
        let (_, &mut oldest_kept, _) = times.select_nth_unstable(eighth);
        let mut to_forget = eighth.saturating_add(1);
        self.map.retain(|_, session| {
            let forget = to_forget > 0 && session.last_used <= oldest_kept;
            to_forget = to_forget.saturating_sub(usize::from(forget));
            !forget
        });
        let after = self.map.len();
        self.given_way =
            self.given_way.saturating_add(u64::try_from(before.saturating_sub(after)).unwrap_or(0));
        let map = &self.map;
        self.by_address.retain(|_, keys| {
            keys.retain(|key| map.contains_key(key));
            !keys.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_sessions_give_way() {
        let books = super::super::Books::default();
        let mut sessions = Sessions::new(16, 1_000);
        for port in 0..100u16 {
            let key = SessionKey::new(
                Peer::udp(([192, 0, 2, 1], port).into()),
                ObservationDomainId(0),
                Protocol::NetflowV9,
            );
            hear(&mut sessions, &books, key, UnixMillis(i64::from(port)));
            assert!(sessions.map.len() <= 16);
        }
        assert!(sessions.map.keys().any(|key| key.port == 99));
        assert!(sessions.map.keys().all(|key| key.port > 80));
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// Has the session of this key, or makes it.
    fn hear(
        sessions: &mut Sessions,
        books: &super::super::Books,
        key: SessionKey,
        now: UnixMillis,
    ) {
        let make = || {
            let SessionKey { address, port: _, domain, protocol } = key;
            let origin = Origin { address, domain, protocol };
            let exporter = books.exporter(&origin);
            (Arc::new(origin), exporter, Default::default())
        };
        sessions.get_or_make(key, now, make);
    }

    #[test]
    fn an_address_has_so_many_sessions_and_leaves_room_to_others() {
        let books = super::super::Books::default();
        let mut sessions = Sessions::new(1_000, 10);
        let key = |last, port, domain| {
            let peer = Peer::tcp(([192, 0, 2, last], port).into());
            SessionKey::new(peer, ObservationDomainId(domain), Protocol::Ipfix)
        };
        let mut observe = |key, now| {
            hear(&mut sessions, &books, key, UnixMillis(now));
            (sessions.map.len(), sessions.take_given_way())
        };
        // Two that are heard of again, and a neighbour.
        for (domain, now) in [(1, 0), (2, 1), (1, 2), (2, 3)] {
            observe(key(1, 7, domain), now);
        }
        assert_eq!(observe(key(2, 7, 0), 0), (3, 0));
        let given_way: u64 = (10..100).map(|d| observe(key(1, 7, d), i64::from(d)).1).sum();
        assert_eq!(given_way, 82);
        let domains = |sessions: &Sessions| {
            let of_one = sessions.map.keys().filter(|key| key.address == address(1));
            let mut domains: Vec<u32> = of_one.map(|key| key.domain.0).collect();
            domains.sort_unstable();
            domains
        };
        assert_eq!(domains(&sessions), [1, 2, 92, 93, 94, 95, 96, 97, 98, 99]);
        // Of those that all sent more than once the longest silent one goes.
        for domain in 92..100 {
            hear(&mut sessions, &books, key(1, 7, domain), UnixMillis(200));
        }
        hear(&mut sessions, &books, key(1, 8, 50), UnixMillis(201));
        assert_eq!(domains(&sessions), [2, 50, 92, 93, 94, 95, 96, 97, 98, 99]);
        sessions.forget_peer(Peer::tcp(([192, 0, 2, 1], 7).into()));
        assert_eq!(sessions.map.len(), 2, "the neighbour's, and the other port's");
        assert!(sessions.map.contains_key(&key(1, 8, 50)));
        sessions.forget_peer(Peer::tcp(([192, 0, 2, 1], 8).into()));
        sessions.forget_peer(Peer::tcp(([192, 0, 2, 2], 7).into()));
        assert!(sessions.map.is_empty() && sessions.by_address.is_empty());
    }
}
