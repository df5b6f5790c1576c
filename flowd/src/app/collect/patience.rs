//! Patience with a process that was killed a moment ago: until the kernel has taken its memory
//! away, it has its ports and its store still.

use crate::archive::ArchiveError;
use crate::collect::ListenError;
use crate::ring::RingError;
use anyhow::{Error, Result};
use std::thread;
use std::time::{Duration, Instant};

/// How long a start tries. Whoever lives on does not go away in that time.
const PATIENCE: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(20);

/// What is left of the time.
pub(super) struct Patience {
    until: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { until: Instant::now() + PATIENCE }
    }

    /// Does something, and again for as long as another process has what it needs.
    pub(super) fn with<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            match attempt() {
                Err(error) if is_in_use(&error) && Instant::now() < self.until => {
                    thread::sleep(INTERVAL);
                }
                result => return result,
            }
        }
    }
}

fn is_in_use(error: &Error) -> bool {
    let is_port = matches!(error.downcast_ref(), Some(ListenError::InUse(_)));
    #[cfg(feature = "http")]
    let is_port = is_port || matches!(error.downcast_ref(), Some(crate::http::HttpError::InUse(_)));
    let of_archive = match error.downcast_ref() {
        Some(ArchiveError::Ring(error)) => Some(error),
        _ => None,
    };
    let of_ring = of_archive.or_else(|| error.downcast_ref());
    is_port || matches!(of_ring, Some(RingError::StoreInUse { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::StoreLock;
    use anyhow::anyhow;

    #[test]
    fn what_another_lets_go_in_time_is_had() {
        let store = tempfile::tempdir().unwrap();
        let mut held = Some(StoreLock::acquire(store.path()).unwrap());
        let lock = Patience::new().with(|| {
            let lock = StoreLock::acquire(store.path());
            held = None;
            Ok(lock?)
        });
        lock.unwrap();
    }

    #[test]
    fn what_stays_is_told_and_other_errors_are_told_at_once() {
        let store = tempfile::tempdir().unwrap();
        let _held = StoreLock::acquire(store.path()).unwrap();
        let until = Instant::now();
        let error = Patience { until }.with(|| {
            let error: ArchiveError = StoreLock::acquire(store.path()).unwrap_err().into();
            Err::<(), _>(error.into())
        });
        assert!(error.unwrap_err().to_string().contains("is in use by process"));
        let mut tries = 0;
        let error = Patience::new().with(|| {
            tries += 1;
            Err::<(), _>(anyhow!("nothing of that kind"))
        });
        assert!(error.is_err());
        assert_eq!(tries, 1);
    }
}
