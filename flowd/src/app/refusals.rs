//! Refusals: when the ring refused records, so that answers can say from which times they miss.
//!
//! Of records that were refused nothing is stored, not even when they came: what is known is how
//! the counters stood at one look and at the next.

use crate::model::time::UnixMillis;
use crate::ring::RingDrop;
use crate::telemetry::{Drops, Reason};
use serde::{Deserialize, Serialize};

/// Times that are told apart.
const TIMES_MAX: usize = 1_000;
/// Refusals that are no longer apart than this are one.
const JOIN_MILLIS: i64 = 60_000;
/// Why records are refused. Other losses are of records that were stored, and are told with
/// their blocks.
const REASONS: [RingDrop; 4] =
    [RingDrop::Full, RingDrop::NoSpace, RingDrop::Failed, RingDrop::TooLarge];

/// A time in which records were refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Refused {
    /// When it began, in milliseconds since 1970.
    pub(super) since: i64,
    /// When it ended.
    pub(super) until: i64,
    /// How many.
    pub(super) records: u64,
    /// Why, as in the drop counters.
    pub(super) reason: String,
}

/// The times in which records were refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    times: Vec<Refused>,
    /// The counters at the last look.
    counted: [u64; REASONS.len()],
    looked_at: Option<UnixMillis>,
}

impl Refusals {
    /// Goes on from what earlier collectors noted, with counters that stand at zero now.
    pub(super) fn after(times: Vec<Refused>, now: UnixMillis) -> Self {
        Self { times, looked_at: Some(now), ..Self::default() }
    }

    pub(super) fn times(&self) -> &[Refused] {
        &self.times
    }

    /// Looks at the counters.
    pub(super) fn note(&mut self, now: UnixMillis, drops: &Drops<RingDrop>) {
        // A clock that was set back tells only when the refusals were noted.
        let since = self.looked_at.filter(|before| *before <= now).unwrap_or(now);
        self.looked_at = Some(now);
        for (reason, counted) in REASONS.into_iter().zip(&mut self.counted) {
            let count = drops.value(reason);
            let records = count.saturating_sub(std::mem::replace(counted, count));
            if records == 0 {
                continue;
            }
            let name = reason.name();
            let last = self.times.iter_mut().rev().find(|times| times.reason == name);
            match last {
                Some(last) if (0..=JOIN_MILLIS).contains(&since.0.saturating_sub(last.until)) => {
                    last.until = now.0;
                    last.records += records;
                }
                _ => self.times.push(Refused {
                    since: since.0,
                    until: now.0,
                    records,
                    reason: name.to_owned(),
                }),
            }
        }
        while self.times.len() > TIMES_MAX {
            // The oldest becomes part of the next of its reason: rather too much said than too
            // little.
            let oldest = self.times.remove(0);
            if let Some(next) = self.times.iter_mut().find(|next| next.reason == oldest.reason) {
                next.since = next.since.min(oldest.since);
                next.records += oldest.records;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_times_and_counts() {
        let drops = Drops::default();
        let mut refusals = Refusals::default();
        refusals.note(UnixMillis(1_000), &drops);
        assert!(refusals.times().is_empty());
        drops.count(RingDrop::Full, 5);
        drops.count(RingDrop::Overrun, 9);
        refusals.note(UnixMillis(1_200), &drops);
        drops.count(RingDrop::Full, 2);
        refusals.note(UnixMillis(1_400), &drops);
        refusals.note(UnixMillis(100_000), &drops);
        drops.count(RingDrop::Full, 1);
        drops.count(RingDrop::NoSpace, 4);
        refusals.note(UnixMillis(100_200), &drops);
        // The clock is set back.
        drops.count(RingDrop::Full, 3);
        refusals.note(UnixMillis(50), &drops);
        let times: Vec<_> = refusals
            .times()
            .iter()
            .map(|it| (it.since, it.until, it.records, &*it.reason))
            .collect();
        let expected = [
            (1_000, 1_400, 7, "ringFull"),
            (100_000, 100_200, 1, "ringFull"),
            (100_000, 100_200, 4, "ringNoSpace"),
            (50, 50, 3, "ringFull"),
        ];
        assert_eq!(times, expected);
    }

    #[test]
    fn refusals_are_kept_within_bounds_and_none_is_forgotten() {
        let drops = Drops::default();
        let mut refusals = Refusals::default();
        for minute in 0..3_000 {
            let now = minute * 3 * JOIN_MILLIS;
            refusals.note(UnixMillis(now), &drops);
            drops.count(RingDrop::Full, 1);
            refusals.note(UnixMillis(now + 5), &drops);
        }
        assert_eq!(refusals.times().len(), TIMES_MAX);
        assert_eq!(refusals.times().iter().map(|it| it.records).sum::<u64>(), 3_000);
        assert_eq!(refusals.times()[0].since, 0);
    }
}
