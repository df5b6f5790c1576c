//! Words about peers, at a bearable rate: however many there are and whatever they send.

use crate::model::time::UnixMillis;
use std::net::IpAddr;

/// How long a peer that was complained of is not mentioned again.
const SILENCE_MILLIS: i64 = 600_000;
/// The stretch of time in which so many lines are written at most.
const STRETCH_MILLIS: i64 = 10_000;
const STRETCH_LINES_MAX: u32 = 5;
/// Peers that are remembered, the latest ones: addresses can be forged.
const PEER_COUNT_MAX: usize = 256;

/// Decides whether a line about a peer is written.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// Who was mentioned, and when.
    mentioned: Vec<(IpAddr, UnixMillis)>,
    /// Where the next peer is noted once there is no more room.
    oldest: usize,
    stretch_began: UnixMillis,
    lines: u32,
    suppressed: u64,
}

impl Complaints {
    /// May a line about this peer be written? If so, how many were held back since the last.
    pub(super) fn pass(&mut self, peer: IpAddr, now: UnixMillis) -> Option<u64> {
        let peer = peer.to_canonical();
        // A clock that was set back ends a silence.
        let is_within =
            |since: UnixMillis, span| (0..span).contains(&now.0.saturating_sub(since.0));
        if !is_within(self.stretch_began, STRETCH_MILLIS) {
            self.stretch_began = now;
            self.lines = 0;
        }
        let place = self.mentioned.iter().position(|(mentioned, _)| *mentioned == peer);
        let place = place.and_then(|place| self.mentioned.get_mut(place));
        let is_silent = place.as_ref().is_some_and(|(_, at)| is_within(*at, SILENCE_MILLIS));
        if is_silent || self.lines >= STRETCH_LINES_MAX {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.lines = self.lines.saturating_add(1);
        match place {
            Some((_, at)) => *at = now,
            None => self.note(peer, now),
        }
        Some(std::mem::take(&mut self.suppressed))
    }

    fn note(&mut self, peer: IpAddr, now: UnixMillis) {
        if self.mentioned.len() < PEER_COUNT_MAX {
            self.mentioned.push((peer, now));
        } else if let Some(place) = self.mentioned.get_mut(self.oldest) {
            *place = (peer, now);
            self.oldest = self.oldest.saturating_add(1).checked_rem(PEER_COUNT_MAX).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn peer(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_peer_is_mentioned_once_and_after_a_long_silence_again() {
        let mut complaints = Complaints::default();
        let start = 1_000_000;
        assert_eq!(complaints.pass(peer(1), UnixMillis(start)), Some(0));
        assert_eq!(complaints.pass(peer(1), UnixMillis(start + 60_000)), None);
        assert_eq!(complaints.pass(peer(2), UnixMillis(start + 60_000)), Some(1));
        assert_eq!(complaints.pass(peer(1), UnixMillis(start + SILENCE_MILLIS)), Some(0));
        assert_eq!(complaints.pass(peer(1), UnixMillis(start)), Some(0), "the clock was set back");
    }

    #[test]
    fn forged_peers_make_few_lines_and_take_little_memory() {
        let mut complaints = Complaints::default();
        let lines = (0..100_000u32)
            .filter(|&number| {
                let now = UnixMillis(1_000_000 + i64::from(number) / 10);
                complaints.pass(peer(number), now).is_some()
            })
            .count();
        assert_eq!(lines, 5);
        for number in 0..10_000u32 {
            let now = UnixMillis(2_000_000 + i64::from(number) * STRETCH_MILLIS);
            assert!(complaints.pass(peer(number), now).is_some());
        }
        assert_eq!(complaints.mentioned.len(), PEER_COUNT_MAX);
    }
}
