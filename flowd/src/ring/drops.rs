//! What the ring could not keep, and why.

use super::blocks::SealedBlock;
use super::lane::Lane;
use crate::telemetry::Reason;

/// Why records are not, or no longer, in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingDrop {
    /// Refused: the ring and its backlog were full.
    Full,
    /// Refused: the file system was full.
    NoSpace,
    /// Refused: the file system failed otherwise.
    Failed,
    /// Refused: the record alone is larger than a block has room for.
    TooLarge,
    /// Appended, and dropped before it was archived, to make room for newer records.
    Overrun,
    /// Appended, and lost with the power before it reached the disk.
    Torn,
    /// Appended, and lost because the block's file was damaged.
    Damaged,
}

impl Reason for RingDrop {
    const ALL: &'static [Self] = &[
        Self::Full,
        Self::NoSpace,
        Self::Failed,
        Self::TooLarge,
        Self::Overrun,
        Self::Torn,
        Self::Damaged,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        match self {
            Self::Full => "ringFull",
            Self::NoSpace => "ringNoSpace",
            Self::Failed => "ringFailed",
            Self::TooLarge => "ringTooLarge",
            Self::Overrun => "ringOverrun",
            Self::Torn => "ringTorn",
            Self::Damaged => "ringDamaged",
        }
    }
}

/// Records that were appended to a lane and are lost: a gap in what the store covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRows {
    /// Why.
    pub reason: RingDrop,
    /// Of which shard.
    pub shard: u16,
    /// Of which lane.
    pub lane: Lane,
    /// The first and the last block that is gone with them; none if their block is still there.
    pub blocks: Option<(u64, u64)>,
    /// The block that they were in, if its other rows are still there.
    pub in_block: Option<u64>,
    /// How many. Of a damaged block it is not known, and 0.
    pub rows: u64,
    /// The times of receipt between which they lie, in milliseconds since 1970.
    pub received: (i64, i64),
}

impl LostRows {
    /// All rows of a block.
    pub(super) fn of_block(block: &SealedBlock, reason: RingDrop) -> Self {
        Self {
            reason,
            shard: block.id.shard,
            lane: block.id.lane,
            blocks: Some((block.id.number, block.id.number)),
            in_block: None,
            rows: block.rows,
            received: block.received,
        }
    }

    /// Joins a loss to one just before it in the same lane, so that a long overrun is one gap.
    pub(super) fn join(&mut self, later: &Self) -> bool {
        let (Some((first, last)), Some((next, end))) = (self.blocks, later.blocks) else {
            return false;
        };
        let same = self.reason == later.reason
            && (self.shard, self.lane) == (later.shard, later.lane)
            && last + 1 == next;
        if same {
            self.blocks = Some((first, end));
            self.rows += later.rows;
            self.received.0 = self.received.0.min(later.received.0);
            self.received.1 = self.received.1.max(later.received.1);
        }
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(number: u64, rows: u64) -> LostRows {
        LostRows {
            reason: RingDrop::Overrun,
            shard: 1,
            lane: Lane::Ipv6,
            blocks: Some((number, number)),
            in_block: None,
            rows,
            received: (10 * i64::try_from(number).unwrap(), 1_000),
        }
    }

    #[test]
    fn neighbouring_losses_are_one_gap() {
        let mut gap = lost(4, 10);
        assert!(gap.join(&lost(5, 7)));
        assert_eq!((gap.blocks, gap.rows, gap.received), (Some((4, 5)), 17, (40, 1_000)));
        assert!(!gap.join(&lost(7, 7)));
        let other = LostRows { lane: Lane::Ipv4, ..lost(6, 1) };
        assert!(!gap.join(&other));
    }
}
