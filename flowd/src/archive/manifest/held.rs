//! Held: what some lines of the manifest hold, added up.

use super::entry::{Entry, LossEntry};
use crate::model::RecordType;
use serde::{Deserialize, Serialize};

/// What some segments hold together, and what is lost beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Held {
    /// Segments.
    pub segments: u64,
    /// Flows in them.
    pub flow_rows: u64,
    /// Other records in them.
    pub other_rows: u64,
    /// Octets of their files.
    pub bytes: u64,
    /// The times of receipt of the first and the last record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<(i64, i64)>,
    /// The least start and the greatest end of their flows; none if a flow may lie at any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<(i64, i64)>,
    /// Losses that are told.
    pub losses: u64,
    /// The times of receipt between which they lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_between: Option<(i64, i64)>,
}

impl Held {
    /// What the entries hold that are held still.
    pub(super) fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut held = Self::default();
        let mut is_anywhere = false;
        for entry in entries {
            match entry {
                Entry::Segment(segment) => {
                    held.segments += 1;
                    match segment.record_type {
                        RecordType::Flow => held.flow_rows += segment.rows,
                        _ => held.other_rows += segment.rows,
                    }
                    held.bytes += segment.bytes;
                    held.received = joined(held.received, Some(segment.received));
                    for group in &segment.row_groups {
                        is_anywhere |= group.times.is_none();
                        held.times = joined(held.times, group.times);
                    }
                }
                Entry::Loss(LossEntry { received, .. }) => {
                    held.losses += 1;
                    held.lost_between = joined(held.lost_between, Some(*received));
                }
                Entry::Withdrawn(_) => {}
            }
        }
        if is_anywhere {
            held.times = None;
        }
        held
    }

    /// Adds what others hold. The times of flows are not: what lies anywhere has none.
    pub(super) fn add(&mut self, other: &Self) {
        self.segments += other.segments;
        self.flow_rows += other.flow_rows;
        self.other_rows += other.other_rows;
        self.bytes += other.bytes;
        self.received = joined(self.received, other.received);
        self.losses += other.losses;
        self.lost_between = joined(self.lost_between, other.lost_between);
        self.times = None;
    }

    /// May a segment or a loss of it be asked for by a range of time?
    pub(super) fn may_matter(&self, overlaps: &dyn Fn(i64, i64) -> bool) -> bool {
        let within = self.times.is_none_or(|(from, to)| overlaps(from, to));
        (self.segments > 0 && within) || self.may_tell(overlaps)
    }

    /// May a loss of it be?
    pub(super) fn may_tell(&self, overlaps: &dyn Fn(i64, i64) -> bool) -> bool {
        self.losses > 0 && self.lost_between.is_none_or(|(from, to)| overlaps(from, to))
    }
}

/// The least span that has both in it.
pub(super) fn joined(one: Option<(i64, i64)>, other: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}
