//! Where the sequences of all sessions stand, and how they go on over a restart:
//! `STORE/sequences.bin`, so that what was lost while no collector ran is counted as lost.
//!
//! The file is saved with the counters of the same moment, just before them, and holds what was
//! saved before too: whichever save the counters are of, where the sequences stood then is there.
//! After a kill both lack what came after that; what of it is stored is made up for
//! ([`Unsaved`](super::Unsaved)).
//!
//! ```text
//! twice, this save and the one before: its number:8 octets:4 of these: a standing, another ..
//! ```

use super::saved::{self, Mark, read_origin, write_origin};
use super::sequence::Sequence;
use super::session::SessionKey;
use crate::model::Origin;
use crate::model::time::{SysUptime, UnixMillis};
use crate::telemetry::Counter;
use crate::wire::{Reader, Writer};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const FILE_NAME: &str = "sequences.bin";
const MARK: Mark = *b"flowdSQ2";
/// Sessions whose standing is kept. When there are as many, one that sent but once gets no place,
/// and for one that sent more those that sent but once give way, then those not heard of for
/// longest.
const SESSION_COUNT_MAX: usize = 16_384;
/// After so long an exporter's uptime of 32 bits may have gone round unseen, and nothing can be
/// said of what lies between.
const ABSENCE_MILLIS_MAX: i64 = 20 * 24 * 3_600_000;

/// Where a sequence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// What the next message should bear.
    pub(super) next: u32,
    /// Units from the first one seen to `next`.
    pub(super) span: u32,
    pub(super) sys_uptime: Option<SysUptime>,
    /// When the session was heard of last.
    pub(super) heard: UnixMillis,
    /// Did it send more than once? Forged sources seldom do.
    pub(super) is_established: bool,
    /// When the exporter booted, if it told that.
    pub(super) booted: Option<UnixMillis>,
}

/// Where the sequences of all sessions stand, of all workers.
#[derive(Debug, Default)]
pub(super) struct Standings {
    /// Earlier sessions that have not been heard of yet: written under the lock, read by all to
    /// pass by in haste.
    to_resume: Counter,
    /// Standings that gave way or got no place.
    over_limit: Counter,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<SessionKey, Standing>,
    /// Of an earlier collector, until they are heard of.
    earlier: HashMap<SessionKey, Standing>,
    has_changed: bool,
    saved: Sequences,
}

/// Where the sequences of all sessions stood at a save.
#[derive(Clone, Debug, Default)]
pub struct Sequences {
    save: u64,
    standings: Vec<u8>,
}

impl Standings {
    fn state(&self) -> MutexGuard<'_, State> {
        // A worker that panicked left one standing too many or too few.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sequence of a session that is new to its worker, and when its exporter booted.
    pub(super) fn resume(
        &self,
        key: &SessionKey,
        now: UnixMillis,
    ) -> (Sequence, Option<UnixMillis>) {
        if self.to_resume.value() == 0 {
            return Default::default();
        }
        let mut state = self.state();
        let standing = state.earlier.remove(key);
        self.to_resume.set(count(&state.earlier));
        let absent = |standing: &Standing| now.0.saturating_sub(standing.heard.0);
        standing
            .filter(|standing| absent(standing) <= ABSENCE_MILLIS_MAX)
            .map(|standing| (Sequence::resume(&standing, absent(&standing)), standing.booted))
            .unwrap_or_default()
    }

    /// Takes note of where sessions stand; none is one whose next number is not known.
    pub(super) fn note(&self, sessions: impl Iterator<Item = (SessionKey, Option<Standing>)>) {
        let mut sessions = sessions.peekable();
        if sessions.peek().is_none() {
            return;
        }
        let mut state = self.state();
        state.has_changed = true;
        for (key, standing) in sessions {
            let Some(standing) = standing else {
                state.known.remove(&key);
                continue;
            };
            if state.known.len() >= SESSION_COUNT_MAX && !state.known.contains_key(&key) {
                if !standing.is_established {
                    self.over_limit.add(1);
                    continue;
                }
                self.over_limit.add(state.make_room());
            }
            state.known.insert(key, standing);
        }
    }

    /// How many standings gave way or got no place so far.
    pub(super) fn over_limit(&self) -> u64 {
        self.over_limit.value()
    }

    /// Takes in what an earlier collector saved in a store's directory with its save of that
    /// number: how many sessions.
    pub(super) fn restore(&self, dir: &Path, save: u64) -> usize {
        let path = path(dir);
        let Some(body) = saved::read(&path, MARK) else {
            return 0;
        };
        let mut reader = Reader::new(&body);
        let (Some(last), Some(before)) = (read_save(&mut reader), read_save(&mut reader)) else {
            saved::put_aside(&path, "it breaks its own format");
            return 0;
        };
        // They are saved when they have moved: those of an earlier save are those of this one.
        let is_last = last.save <= save;
        let chosen = if is_last { last } else { before };
        let mut reader = Reader::new(&chosen.standings);
        let mut state = self.state();
        // What was saved after these goes with the next save.
        state.has_changed = !is_last;
        while !reader.is_empty() && state.known.len() < SESSION_COUNT_MAX {
            let Some((key, standing)) = read_standing(&mut reader) else {
                saved::put_aside(&path, "it breaks its own format");
                break;
            };
            state.known.insert(key, standing);
        }
        state.earlier = state.known.clone();
        state.saved = chosen.clone();
        self.to_resume.set(count(&state.earlier));
        state.earlier.len()
    }

    /// What the next message of an exporter and domain should bear, if one port of it is known.
    pub(super) fn next_of(&self, origin: &Origin) -> Option<u32> {
        self.state().earlier_of(origin).map(|(_, standing)| standing.next)
    }

    /// Moves the one earlier standing of an exporter and domain. If several of its ports are
    /// known, nobody can tell whose messages are stored, and none moves.
    pub(super) fn advance(&self, origin: &Origin, to: impl FnOnce(&Standing) -> Standing) {
        let mut state = self.state();
        let Some((key, standing)) = state.earlier_of(origin) else {
            return;
        };
        let moved = to(&standing);
        state.earlier.insert(key, moved);
        state.known.insert(key, moved);
        state.has_changed = true;
    }

    /// Where they stand, for the save of this number, if any has moved.
    pub(super) fn sequences(&self, save: u64) -> Option<Sequences> {
        let mut state = self.state();
        if !std::mem::take(&mut state.has_changed) {
            return None;
        }
        let mut writer = Writer::default();
        for (key, standing) in &state.known {
            write_standing(&mut writer, key, standing);
        }
        Some(Sequences { save, standings: writer.as_bytes().to_vec() })
    }

    /// Writes them.
    pub(super) fn save(&self, dir: &Path, sequences: Sequences) -> io::Result<()> {
        let mut writer = Writer::default();
        write_save(&mut writer, &sequences);
        write_save(&mut writer, &self.state().saved);
        let outcome = saved::replace(&path(dir), MARK, writer.as_bytes());
        let mut state = self.state();
        match outcome {
            Ok(()) => state.saved = sequences,
            Err(_) => state.has_changed = true,
        }
        outcome
    }
}

impl State {
    /// The earlier standing of an exporter and domain that sent from one port.
    fn earlier_of(&self, origin: &Origin) -> Option<(SessionKey, Standing)> {
        let is_its = |key: &SessionKey| {
            (key.address, key.domain, key.protocol)
                == (origin.address, origin.domain, origin.protocol)
        };
        let mut its = self.earlier.iter().filter(|(key, _)| is_its(key));
        match (its.next(), its.next()) {
            (Some((&key, &standing)), None) => Some((key, standing)),
            _ => None,
        }
    }

    /// Forgets an eighth: how many.
    fn make_room(&mut self) -> u64 {
        let before = count(&self.known);
        let rank = |standing: &Standing| (standing.is_established, standing.heard);
        let mut by_rank: Vec<_> = self.known.iter().map(|(key, s)| (rank(s), *key)).collect();
        by_rank.sort_unstable_by_key(|&(rank, _)| rank);
        for (_, key) in by_rank.iter().take((SESSION_COUNT_MAX / 8).max(1)) {
            self.known.remove(key);
        }
        before.saturating_sub(count(&self.known))
    }
}

fn count(map: &HashMap<SessionKey, Standing>) -> u64 {
    u64::try_from(map.len()).unwrap_or(u64::MAX)
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

fn write_save(writer: &mut Writer, Sequences { save, standings }: &Sequences) {
    writer.u64(*save);
    writer.u32(u32::try_from(standings.len()).unwrap_or(u32::MAX));
    writer.bytes(standings);
}

fn read_save(reader: &mut Reader<'_>) -> Option<Sequences> {
    let save = reader.u64().ok()?;
    let size = usize::try_from(reader.u32().ok()?).ok()?;
    let standings = reader.take(size).ok()?.to_vec();
    Some(Sequences { save, standings })
}

fn write_standing(writer: &mut Writer, key: &SessionKey, standing: &Standing) {
    let SessionKey { address, port, domain, protocol } = *key;
    let Standing { next, span, sys_uptime, heard, is_established, booted } = *standing;
    write_origin(writer, &Origin { address, domain, protocol });
    writer.u16(port);
    writer.u32(next);
    writer.u32(span);
    writer.u8(u8::from(sys_uptime.is_some()));
    writer.u32(sys_uptime.unwrap_or_default().0);
    writer.u64(heard.0.cast_unsigned());
    writer.u8(u8::from(is_established));
    writer.u64(booted.unwrap_or_default().0.cast_unsigned());
}

fn read_standing(reader: &mut Reader<'_>) -> Option<(SessionKey, Standing)> {
    let Origin { address, domain, protocol } = read_origin(reader)?;
    let key = SessionKey { address, port: reader.u16().ok()?, domain, protocol };
    let (next, span) = (reader.u32().ok()?, reader.u32().ok()?);
    let has_uptime = reader.u8().ok()? != 0;
    let uptime = SysUptime(reader.u32().ok()?);
    let standing = Standing {
        next,
        span,
        sys_uptime: has_uptime.then_some(uptime),
        heard: UnixMillis(reader.u64().ok()?.cast_signed()),
        is_established: reader.u8().ok()? != 0,
        booted: Some(UnixMillis(reader.u64().ok()?.cast_signed())).filter(|booted| booted.0 != 0),
    };
    Some((key, standing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::sequence::Arrival;
    use crate::model::{ObservationDomainId, Protocol};

    fn key(port: u16, domain: u32) -> SessionKey {
        SessionKey {
            address: "192.0.2.1".parse().unwrap(),
            port,
            domain: ObservationDomainId(domain),
            protocol: Protocol::NetflowV9,
        }
    }

    fn standing(next: u32, heard: i64) -> Standing {
        Standing {
            next,
            span: 50,
            sys_uptime: Some(SysUptime(9_000_000)),
            heard: UnixMillis(heard),
            is_established: true,
            booted: Some(UnixMillis(77)),
        }
    }

    fn restarted(standings: &Standings) -> Standings {
        let dir = tempfile::tempdir().unwrap();
        standings.save(dir.path(), standings.sequences(1).unwrap()).unwrap();
        let later = Standings::default();
        later.restore(dir.path(), 1);
        later
    }

    #[test]
    fn a_sequence_goes_on_after_a_restart_and_but_once() {
        let standings = Standings::default();
        standings.note([(key(1, 0), Some(standing(100, 1_000)))].into_iter());
        // Not heard of between two restarts: it is known all the same.
        standings.state().has_changed = true;
        let later = restarted(&standings);
        later.state().has_changed = true;
        let later = restarted(&later);
        let observe = |number, uptime| {
            let (mut sequence, _) = later.resume(&key(1, 0), UnixMillis(5_000));
            sequence.observe(number, Some(1), Some(SysUptime(uptime)))
        };
        assert_eq!(observe(107, 9_004_000), Arrival::Gap(7));
        assert_eq!(observe(200, 9_004_000), Arrival::InOrder, "a session that is new again");
    }

    #[test]
    fn a_restart_of_the_exporter_is_no_loss() {
        for (number, uptime, arrival) in [
            (107, 30_000, Arrival::Restarted),
            (3, 30_000, Arrival::Restarted),
            (100, 9_100_000, Arrival::InOrder),
            (99, 9_000_000, Arrival::Repeated),
        ] {
            let standings = Standings::default();
            standings.note([(key(1, 0), Some(standing(100, 1_000)))].into_iter());
            let (mut sequence, booted) =
                restarted(&standings).resume(&key(1, 0), UnixMillis(5_000));
            assert_eq!(booted, Some(UnixMillis(77)));
            let outcome = sequence.observe(number, Some(1), Some(SysUptime(uptime)));
            assert_eq!(outcome, arrival, "{number}");
        }
    }

    #[test]
    fn what_was_lost_in_a_long_absence_may_be_much() {
        let lost = 50 << 20;
        let mut standing = standing(100, 0);
        standing.sys_uptime = None;
        for (absent_millis, arrival) in
            [(1_000, Arrival::Restarted), (3_600_000, Arrival::Gap(lost))]
        {
            let mut sequence = Sequence::resume(&standing, absent_millis);
            assert_eq!(sequence.observe(100 + lost, Some(1), None), arrival);
            // From then on the usual rule holds.
            let next = 101 + lost;
            assert_eq!(sequence.observe(next + lost, Some(1), None), Arrival::Restarted);
        }
    }

    #[test]
    fn a_month_later_nothing_is_concluded() {
        let standings = Standings::default();
        standings.note([(key(1, 0), Some(standing(100, 0)))].into_iter());
        let now = UnixMillis(30 * 24 * 3_600_000);
        let (mut sequence, _) = restarted(&standings).resume(&key(1, 0), now);
        assert_eq!(sequence.observe(107, Some(1), None), Arrival::InOrder);
    }

    #[test]
    fn a_flood_of_forged_sessions_displaces_itself() {
        let standings = Standings::default();
        standings.note([(key(1, 0), Some(standing(100, 0)))].into_iter());
        for domain in 1..100_000 {
            let forged = Standing { is_established: false, ..standing(1, i64::from(domain)) };
            standings.note([(key(2, domain), Some(forged))].into_iter());
        }
        // No room was made for any of them.
        assert_eq!(standings.state().known.len(), SESSION_COUNT_MAX);
        assert_eq!(standings.over_limit(), 100_000 - 16_384);
        standings.note([(key(3, 0), Some(standing(100, 0)))].into_iter());
        let state = standings.state();
        assert_eq!(state.known.len(), SESSION_COUNT_MAX * 7 / 8 + 1);
        assert!(state.known.contains_key(&key(1, 0)) && state.known.contains_key(&key(3, 0)));
        assert_eq!(standings.over_limit(), 100_000 - 16_384 + 2_048);
    }

    #[test]
    fn a_sequence_whose_place_is_not_known_is_not_kept() {
        let standings = Standings::default();
        standings.note([(key(1, 0), Some(standing(100, 0)))].into_iter());
        standings.note([(key(1, 0), None)].into_iter());
        assert!(standings.state().known.is_empty());
    }

    #[test]
    fn they_are_those_of_the_save_that_the_counters_are_of() {
        let dir = tempfile::tempdir().unwrap();
        let standings = Standings::default();
        // Nothing moved between the saves 2 and 5.
        for (save, next) in [(2, 100), (5, 200), (6, 300)] {
            standings.note([(key(1, 0), Some(standing(next, 0)))].into_iter());
            standings.save(dir.path(), standings.sequences(save).unwrap()).unwrap();
            assert!(standings.sequences(save + 1).is_none());
        }
        let next_at = |save| {
            let later = Standings::default();
            later.restore(dir.path(), save);
            let state = later.state();
            (state.known[&key(1, 0)].next, state.saved.save)
        };
        assert_eq!(next_at(7), (300, 6));
        assert_eq!(next_at(6), (300, 6));
        // Killed between the two files, or with counters that could not be written.
        assert_eq!(next_at(5), (200, 5));
        assert_eq!(next_at(0), (200, 5));
    }
}
