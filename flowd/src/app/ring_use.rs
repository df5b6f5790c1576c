//! How long a ring of its size holds what comes in: the size is given in octets, and what whoever
//! gives it wants to know is minutes.

use crate::model::time::UnixMillis;
use crate::ring::Ring;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};

/// Over how long the rate is measured.
const WINDOW_MILLIS: i64 = 60_000;

/// What the ring takes, and how fast it is filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RingUse {
    /// Octets that it may take while the archive keeps up.
    pub size_max: u64,
    /// Octets that its blocks take now.
    pub size: u64,
    /// Octets a minute that were appended lately; none in the first minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub octets_a_minute: Option<u64>,
}

impl RingUse {
    /// How many minutes the ring holds at the present rate; none if nothing comes, or the rate
    /// is not known yet.
    #[must_use]
    pub fn minutes(&self) -> Option<u64> {
        self.size_max.checked_div(self.octets_a_minute?)
    }
}

/// Measures the rate, a window after the other.
#[derive(Debug)]
pub(super) struct RingMeter(Mutex<Window>);

#[derive(Debug)]
struct Window {
    since: UnixMillis,
    appended: u64,
    octets_a_minute: Option<u64>,
}

impl RingMeter {
    /// Begins a window.
    pub(super) const fn new(now: UnixMillis) -> Self {
        Self(Mutex::new(Window { since: now, appended: 0, octets_a_minute: None }))
    }

    /// What the ring takes now, and the rate of the last window that is over.
    pub(super) fn look(&self, now: UnixMillis, ring: &Ring) -> RingUse {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.advance(now, ring.appended().value(), ring.row_size());
        RingUse {
            size_max: ring.config().ring_size_max,
            size: ring.size(),
            octets_a_minute: window.octets_a_minute,
        }
    }
}

impl Window {
    fn advance(&mut self, now: UnixMillis, appended: u64, row_size: u64) {
        // A clock that was set back begins anew.
        let millis = now.0.saturating_sub(self.since.0);
        if (0..WINDOW_MILLIS).contains(&millis) {
            return;
        }
        if let Ok(millis) = u64::try_from(millis) {
            let octets = u128::from(appended - self.appended) * u128::from(row_size);
            let a_minute = octets * 60_000 / u128::from(millis.max(1));
            self.octets_a_minute = Some(u64::try_from(a_minute).unwrap_or(u64::MAX));
        }
        (self.since, self.appended) = (now, appended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_whole_minute() {
        let mut window = Window { since: UnixMillis(0), appended: 0, octets_a_minute: None };
        window.advance(UnixMillis(59_999), 1_000_000, 80);
        assert_eq!(window.octets_a_minute, None);
        window.advance(UnixMillis(120_000), 2_000_000, 80);
        assert_eq!(window.octets_a_minute, Some(80_000_000));
        // The clock is set back by a day, and goes on from there.
        window.advance(UnixMillis(-86_400_000), 2_500_000, 80);
        assert_eq!(window.octets_a_minute, Some(80_000_000));
        window.advance(UnixMillis(-86_340_000), 2_600_000, 80);
        assert_eq!(window.octets_a_minute, Some(8_000_000));
    }

    #[test]
    fn minutes_are_told_only_of_a_rate() {
        let known = |octets_a_minute| RingUse { size_max: 1 << 30, size: 0, octets_a_minute };
        assert_eq!(known(None).minutes(), None);
        assert_eq!(known(Some(0)).minutes(), None);
        assert_eq!(known(Some(100_000_000)).minutes(), Some(10));
    }
}
