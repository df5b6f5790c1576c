//! Books: what became of every packet.

use crate::model::{FlowEndReason, Volume};
use flowd_common::DropReason;

/// What became of every packet: `packets_seen = accounted.packets + refused`, and
/// `accounted = recorded + in the cache`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    /// Packets that were offered.
    pub packets_seen: u64,
    /// What was accounted to flows.
    pub accounted: Volume,
    /// What the records hold.
    pub recorded: Volume,
    /// Later fragments that took the ports of their first one.
    pub fragments_stitched: u64,
    /// Later fragments whose first one was not seen: they are flows without ports.
    pub fragments_unstitched: u64,
    refused: [u64; DropReason::COUNT],
    records: [u64; END_REASONS.len()],
}

/// The reasons for which this process ends flows.
const END_REASONS: [FlowEndReason; 5] = [
    FlowEndReason::IdleTimeout,
    FlowEndReason::ActiveTimeout,
    FlowEndReason::EndOfFlow,
    FlowEndReason::ForcedEnd,
    FlowEndReason::LackOfResources,
];

impl Default for Books {
    fn default() -> Self {
        Self {
            packets_seen: 0,
            accounted: Volume::default(),
            recorded: Volume::default(),
            fragments_stitched: 0,
            fragments_unstitched: 0,
            refused: [0; DropReason::COUNT],
            records: [0; END_REASONS.len()],
        }
    }
}

impl Books {
    /// Packets that were refused for this reason.
    #[must_use]
    pub fn refused(&self, reason: DropReason) -> u64 {
        self.refused.get(reason.index()).copied().unwrap_or(0)
    }

    /// Packets that were refused in all.
    #[must_use]
    pub fn refused_total(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// Each reason for which packets were refused, with how many.
    pub fn refusals(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.refused(reason)))
            .filter(|&(_, count)| count != 0)
    }

    /// Records of flows that ended for this reason.
    #[must_use]
    pub fn records(&self, reason: FlowEndReason) -> u64 {
        END_REASONS
            .iter()
            .position(|&known| known == reason)
            .and_then(|index| self.records.get(index))
            .copied()
            .unwrap_or(0)
    }

    /// Records in all.
    #[must_use]
    pub fn records_total(&self) -> u64 {
        self.records.iter().sum()
    }

    pub(super) fn count_refused(&mut self, reason: DropReason) {
        if let Some(count) = self.refused.get_mut(reason.index()) {
            *count += 1;
        }
    }

    pub(super) fn count_record(&mut self, reason: FlowEndReason, volume: Volume) {
        let index = END_REASONS.iter().position(|&known| known == reason);
        if let Some(count) = index.and_then(|index| self.records.get_mut(index)) {
            *count += 1;
        }
        self.recorded.add(volume);
    }
}
