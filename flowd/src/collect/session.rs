//! A conversation with one exporter: its sequence numbers, and what its records are told by.

use super::exporters::ExporterBooks;
use super::sflow::SampleSequences;
use super::template_cache::DomainTemplates;
use crate::model::time::{SysUptime, UnixMillis};
use crate::model::{ObservationDomainId, Origin, Protocol};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A jump ahead by more than this is no loss but a sequence that began anew.
const GAP_MAX: i32 = 1 << 20;
/// How far back the exporter's uptime may lie without a restart: messages overtake one another.
const UPTIME_BACK_MILLIS_MAX: i32 = 10_000;

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
    pub(super) fn new(peer: SocketAddr, domain: ObservationDomainId, protocol: Protocol) -> Self {
        Self { address: peer.ip().to_canonical(), port: peer.port(), domain, protocol }
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
    /// The sequences of an sFlow agent's samples.
    pub(super) samples: SampleSequences,
    sequence: Sequence,
    last_used: UnixMillis,
}

impl Session {
    /// Takes note of a message, and counts what its sequence number tells.
    pub(super) fn observe(&mut self, sequence_number: u32, sys_uptime: SysUptime) {
        self.books.messages.add(1);
        match self.sequence.observe(sequence_number, sys_uptime) {
            Arrival::InOrder => {}
            Arrival::Gap(missing) => {
                self.books.sequence_gaps.add(1);
                self.books.messages_missing.add(u64::from(missing));
            }
            Arrival::Late => self.books.messages_late.add(1),
            Arrival::Repeated => self.books.messages_repeated.add(1),
            Arrival::Restarted => self.books.restarts.add(1),
        }
    }
}

/// The sessions of one worker, limited in number.
#[derive(Debug)]
pub(super) struct Sessions {
    map: HashMap<SessionKey, Session>,
    count_max: usize,
}

impl Sessions {
    pub(super) fn new(count_max: usize) -> Self {
        Self { map: HashMap::new(), count_max: count_max.max(1) }
    }

    /// The session of this key; `make` gives a new one its origin and counters.
    pub(super) fn get_or_make(
        &mut self,
        key: SessionKey,
        now: UnixMillis,
        make: impl FnOnce() -> (Arc<Origin>, Arc<ExporterBooks>),
    ) -> &mut Session {
        if self.map.len() >= self.count_max && !self.map.contains_key(&key) {
            self.forget_some();
        }
        let session = self.map.entry(key).or_insert_with(|| {
            let (origin, books) = make();
            Session {
                origin,
                port: key.port,
                books,
                templates: None,
                samples: SampleSequences::default(),
                sequence: Sequence::default(),
                last_used: now,
            }
        });
        session.last_used = now;
        session
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

/// What a sequence number tells of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    InOrder,
    /// So many messages before it have not come.
    Gap(u32),
    /// It was missing until now.
    Late,
    Repeated,
    /// The exporter began its sequence anew.
    Restarted,
}

/// NetFlow v9's sequence: it counts Export Packets (RFC 3954 section 5.1).
#[derive(Clone, Copy, Debug, Default)]
struct Sequence {
    /// What the next message should bear; none before the first.
    next: Option<u32>,
    /// Bit `i` is set if the message `next - 1 - i` has come.
    recent: u64,
    /// Messages from the first one seen to `next`.
    span: u32,
    sys_uptime: SysUptime,
}

impl Sequence {
    fn observe(&mut self, number: u32, sys_uptime: SysUptime) -> Arrival {
        let Some(next) = self.next else {
            self.begin(number, sys_uptime);
            return Arrival::InOrder;
        };
        let ahead = number.wrapping_sub(next).cast_signed();
        let uptime_ahead = sys_uptime.0.wrapping_sub(self.sys_uptime.0).cast_signed();
        if ahead != 0 && uptime_ahead < UPTIME_BACK_MILLIS_MAX.wrapping_neg() {
            self.begin(number, sys_uptime);
            return Arrival::Restarted;
        }
        match ahead {
            0..=GAP_MAX => {
                let missing = ahead.unsigned_abs();
                // All bits leave the window if the jump is as wide as it.
                self.recent = self.recent.checked_shl(missing).unwrap_or(0);
                self.recent = self.recent << 1 | 1;
                self.span = self.span.saturating_add(missing).saturating_add(1);
                self.next = Some(number.wrapping_add(1));
                self.sys_uptime = sys_uptime;
                if missing == 0 { Arrival::InOrder } else { Arrival::Gap(missing) }
            }
            -64..=-1 => {
                let behind = ahead.unsigned_abs();
                // It overtook nothing that was counted: the first message seen came before it.
                if behind > self.span {
                    return Arrival::InOrder;
                }
                let bit = 1u64.checked_shl(behind.saturating_sub(1)).unwrap_or(0);
                let has_come = self.recent & bit != 0;
                self.recent |= bit;
                if has_come { Arrival::Repeated } else { Arrival::Late }
            }
            _ => {
                self.begin(number, sys_uptime);
                Arrival::Restarted
            }
        }
    }

    fn begin(&mut self, number: u32, sys_uptime: SysUptime) {
        *self = Self { next: Some(number.wrapping_add(1)), recent: 1, span: 1, sys_uptime };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observes (sequence, uptime) pairs after a first message of sequence 100 at uptime 50 s.
    fn arrivals(messages: &[(u32, u32)]) -> Vec<Arrival> {
        let mut sequence = Sequence::default();
        sequence.observe(100, SysUptime(50_000));
        messages
            .iter()
            .map(|&(number, uptime)| sequence.observe(number, SysUptime(uptime)))
            .collect()
    }

    #[test]
    fn a_gap_is_loss_until_the_late_ones_come() {
        use Arrival::*;
        assert_eq!(
            arrivals(&[
                (101, 51_000),
                (105, 52_000),
                (103, 51_500),
                (103, 51_500),
                (105, 52_000),
                (106, 53_000),
            ]),
            [InOrder, Gap(3), Late, Repeated, Repeated, InOrder]
        );
    }

    #[test]
    fn a_wrapped_sequence_and_a_wrapped_uptime_are_no_restart() {
        let mut sequence = Sequence::default();
        sequence.observe(u32::MAX, SysUptime(u32::MAX - 10));
        assert_eq!(sequence.observe(0, SysUptime(5)), Arrival::InOrder);
        assert_eq!(sequence.observe(3, SysUptime(1_000)), Arrival::Gap(2));
    }

    #[test]
    fn a_restart_is_no_loss() {
        use Arrival::*;
        // Uptime begins anew: near sequence numbers are no reordering either.
        assert_eq!(arrivals(&[(90, 100), (91, 200)]), [Restarted, InOrder]);
        // An exporter whose uptime tells nothing, far back and far ahead.
        assert_eq!(
            arrivals(&[(1, 50_000), (2, 50_000), (50_000_000, 50_000)]),
            [Restarted, InOrder, Restarted]
        );
        // A restart that goes on with its sequence has lost nothing.
        assert_eq!(arrivals(&[(101, 100)]), [InOrder]);
    }

    #[test]
    fn messages_before_the_first_were_never_missed() {
        assert_eq!(arrivals(&[(99, 49_900), (100, 50_000)]), [Arrival::InOrder, Arrival::Repeated]);
    }

    #[test]
    fn old_sessions_give_way() {
        let books = super::super::Books::default();
        let mut sessions = Sessions::new(16);
        for port in 0..100u16 {
            let key = SessionKey::new(
                SocketAddr::from(([192, 0, 2, 1], port)),
                ObservationDomainId(0),
                Protocol::NetflowV9,
            );
            sessions.get_or_make(key, UnixMillis(i64::from(port)), || {
                let origin =
                    Origin { address: key.address, domain: key.domain, protocol: key.protocol };
                let exporter = books.exporter(&origin);
                (Arc::new(origin), exporter)
            });
            assert!(sessions.map.len() <= 16);
        }
        assert!(sessions.map.keys().any(|key| key.port == 99));
        assert!(sessions.map.keys().all(|key| key.port > 80));
    }
}
