//! A conversation with one exporter: its sequence numbers, and what its records are told by.

use super::exporters::ExporterBooks;
use super::peer::Peer;
use super::sequence::{Arrival, Sequence};
use super::standing::{Standing, Standings};
use super::template_cache::DomainTemplates;
use crate::model::time::{SysUptime, UnixMillis};
use crate::model::{ObservationDomainId, Origin, Protocol};
use std::collections::HashMap;
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
    /// When the exporter booted, as its options data or a record said (IPFIX, where messages do
    /// not tell the uptime).
    pub(super) booted: Option<UnixMillis>,
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
        let books = &self.books;
        match self.sequence.observe(sequence_number, units, sys_uptime) {
            Arrival::InOrder => {}
            Arrival::Gap(missing) => {
                books.sequence_gaps.add(1);
                books.units_missing.add(u64::from(missing));
            }
            Arrival::Late(found) => {
                books.messages_late.add(1);
                books.units_late.add(u64::from(found));
            }
            Arrival::Repeated => books.messages_repeated.add(1),
            Arrival::Restarted => books.restarts.add(1),
        }
    }
}

/// The sessions of one worker, limited in number.
#[derive(Debug)]
pub(super) struct Sessions {
    map: HashMap<SessionKey, Session>,
    /// Those that were heard of since their standing was noted.
    active: Vec<SessionKey>,
    count_max: usize,
}

impl Sessions {
    pub(super) fn new(count_max: usize) -> Self {
        Self { map: HashMap::new(), active: Vec::new(), count_max: count_max.max(1) }
    }

    /// The session of this key; `make` gives a new one its origin, counters and sequence.
    pub(super) fn get_or_make(
        &mut self,
        key: SessionKey,
        now: UnixMillis,
        make: impl FnOnce() -> (Arc<Origin>, Arc<ExporterBooks>, Sequence),
    ) -> &mut Session {
        if self.map.len() >= self.count_max && !self.map.contains_key(&key) {
            self.forget_some();
        }
        let mut is_new = false;
        let session = self.map.entry(key).or_insert_with(|| {
            is_new = true;
            let (origin, books, sequence) = make();
            Session {
                origin,
                port: key.port,
                books,
                templates: None,
                booted: None,
                sequence,
                last_used: now,
                is_established: false,
                is_active: false,
            }
        });
        session.last_used = now;
        session.is_established |= !is_new;
        if !session.is_active {
            session.is_active = true;
            self.active.push(key);
        }
        session
    }

    /// Notes where the sequences stand of the sessions that were heard of since the last time,
    /// and that others stand nowhere any more.
    pub(super) fn note_standings(&mut self, standings: &Standings) {
        let map = &mut self.map;
        standings.note(self.active.drain(..).map(|key| {
            let standing: Option<Standing> = map.get_mut(&key).and_then(|session| {
                session.is_active = false;
                session.sequence.standing(session.last_used, session.is_established)
            });
            (key, standing)
        }));
    }

    /// Forgets the sessions of a connection that has ended.
    pub(super) fn forget_peer(&mut self, peer: Peer) {
        let (address, port) = (peer.ip(), peer.address.port());
        let active = &mut self.active;
        self.map.retain(|key, _| {
            let stays = key.address != address || key.port != port;
            if !stays {
                // Its standing is of no more use.
                active.push(*key);
            }
            stays
        });
    }

    /// Forgets the eighth that was not heard of for longest. What is lost with a session is only
    /// its place in the sequence.
    fn forget_some(&mut self) {
        let mut times: Vec<UnixMillis> = self.map.values().map(|s| s.last_used).collect();
        let eighth = times.len() / 8;
        let (_, &mut oldest_kept, _) = times.select_nth_unstable(eighth);
        let mut to_forget = eighth.saturating_add(1);
        self.map.retain(|_, session| {
            let forget = to_forget > 0 && session.last_used <= oldest_kept;
            to_forget = to_forget.saturating_sub(usize::from(forget));
            !forget
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_sessions_give_way() {
        let books = super::super::Books::default();
        let mut sessions = Sessions::new(16);
        for port in 0..100u16 {
            let key = SessionKey::new(
                Peer::udp(([192, 0, 2, 1], port).into()),
                ObservationDomainId(0),
                Protocol::NetflowV9,
            );
            sessions.get_or_make(key, UnixMillis(i64::from(port)), || {
                let origin =
                    Origin { address: key.address, domain: key.domain, protocol: key.protocol };
                let exporter = books.exporter(&origin);
                (Arc::new(origin), exporter, Sequence::default())
            });
            assert!(sessions.map.len() <= 16);
        }
        assert!(sessions.map.keys().any(|key| key.port == 99));
        assert!(sessions.map.keys().all(|key| key.port > 80));
    }
}
