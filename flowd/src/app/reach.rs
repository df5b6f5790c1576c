//! Reach: may an answer have what lies on the object store? Found out once, when a query comes to
//! the first segment that lies there; if not, the answer is of what is here, and says so.

use crate::archive::SegmentReader;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Whether the objects of a store can be reached, and what an answer lacks if not.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Why not; none if they can.
    obstacle: OnceLock<Option<String>>,
    lacking: Mutex<Lacking>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lacking {
    segments: u64,
    records: u64,
}

impl Reach {
    /// Can a segment be read, as far as that depends on the object store? One that cannot is
    /// counted: to be asked once for each.
    pub(super) fn reaches(&self, segment: &SegmentReader) -> bool {
        if !segment.is_remote() {
            return true;
        }
        let ask = || segment.reach_objects().err().map(|error| error.to_string());
        if self.obstacle.get_or_init(ask).is_none() {
            return true;
        }
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        lacking.segments += 1;
        lacking.records += segment.entry().rows;
        false
    }

    /// Records that were out of reach.
    pub(super) fn records_lacking(&self) -> u64 {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).records
    }

    /// What was out of reach, and why.
    pub(super) fn damage(&self) -> Option<(String, &str)> {
        let why = self.obstacle.get()?.as_ref()?;
        let Lacking { segments, records } =
            *self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        let lacking = format!(
            "{segments} segments with {records} records on the object store are out of reach"
        );
        Some((lacking, why))
    }
}
