//! The wall clock, read here only.

use crate::model::time::UnixMillis;
use std::time::{SystemTime, UNIX_EPOCH};

/// The time now; 1970 on a machine whose clock stands before it.
pub(super) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
