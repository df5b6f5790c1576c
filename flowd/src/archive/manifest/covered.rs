//! CoveredBlocks: which blocks of the ring the lines of a manifest name.

use super::entry::{Covered, Entry};
use crate::ring::{BlockId, Lane};
use std::collections::BTreeMap;

/// Ranges of block numbers by lane, joined to their neighbours, so that a year of segments is a
/// handful of them.
#[derive(Clone, Debug, Default)]
pub(super) struct CoveredBlocks(BTreeMap<(u16, Lane), BTreeMap<u64, u64>>);

impl CoveredBlocks {
    /// Adds the blocks that a line names.
    pub(super) fn add(&mut self, entry: &Entry) {
        match entry {
            Entry::Segment(segment) => {
                segment.covered.iter().for_each(|covered| self.add_range(covered));
            }
            Entry::Loss(loss) => {
                if let Some((first, last)) = loss.blocks {
                    self.add_range(&Covered { shard: loss.shard, lane: loss.lane, first, last });
                }
            }
            // They were named when their segments were listed, and stay so.
            Entry::Withdrawn(_) => {}
        }
    }

    pub(super) fn add_range(&mut self, covered: &Covered) {
        let lane = self.0.entry((covered.shard, covered.lane)).or_default();
        let (mut first, mut last) = (covered.first, covered.last);
        while let Some((&start, &end)) = lane.range(..=last.saturating_add(1)).next_back()
            && first <= end.saturating_add(1)
        {
            lane.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        lane.insert(first, last);
    }

    pub(super) fn contains(&self, id: BlockId) -> bool {
        let lane = self.0.get(&(id.shard, id.lane));
        let range = lane.and_then(|lane| lane.range(..=id.number).next_back());
        range.is_some_and(|(_, &last)| id.number <= last)
    }

    /// First and last of each range, by shard and lane.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Covered> {
        self.0.iter().flat_map(|(&(shard, lane), ranges)| {
            ranges.iter().map(move |(&first, &last)| Covered { shard, lane, first, last })
        })
    }
}
