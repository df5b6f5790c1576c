//! The wall clock and the host's uptime, read here only.

use crate::model::time::UnixMillis;
use std::time::{SystemTime, UNIX_EPOCH};

/// The time now; 1970 on a machine whose clock stands before it.
pub(super) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The time now, to the nanosecond.
pub(super) fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// When the host was started, by its uptime; now if that cannot be read.
pub(super) fn boot() -> UnixMillis {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split(' ').next().and_then(|text| text.parse::<f64>().ok());
    let millis = std::time::Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default();
    let millis = i64::try_from(millis.as_millis()).unwrap_or(0);
    UnixMillis(now().0.saturating_sub(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_was_started_before_now() {
        assert!(boot() < now());
        assert!(now_nanos() / 1_000_000 >= boot().0);
    }
}
