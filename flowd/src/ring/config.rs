//! RingConfig: how large a ring and its blocks may grow, and what happens then.

use super::layout::BlockFormat;
use super::map::system_page_size;

/// What happens to records when blocks may take no more room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest blocks that wait for the archive are dropped.
    #[default]
    DropOldest,
    /// New records are refused.
    DropNew,
}

/// The limits of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Octets that blocks take when the archive keeps up.
    pub ring_size_max: u64,
    /// Octets more that they may take when it does not.
    pub backlog_size_max: u64,
    /// What happens beyond both.
    pub when_full: WhenFull,
    /// Rows of a block.
    pub block_rows: usize,
    /// Rows that one checksum covers.
    pub stripe_rows: usize,
    /// Octets of extras of a block.
    pub block_extras_size_max: usize,
    /// Octets of shapes and origins of a block.
    pub block_dictionary_size_max: usize,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            ring_size_max: 1 << 30,
            backlog_size_max: 8 << 30,
            when_full: WhenFull::default(),
            block_rows: 65_536,
            stripe_rows: 1_024,
            block_extras_size_max: 8 << 20,
            block_dictionary_size_max: 1 << 20,
        }
    }
}

impl RingConfig {
    /// Octets that all blocks together may take.
    #[must_use]
    pub const fn size_max(&self) -> u64 {
        self.ring_size_max.saturating_add(self.backlog_size_max)
    }

    pub(super) fn block_format(&self) -> BlockFormat {
        BlockFormat {
            page_size: system_page_size().max(4_096),
            rows_max: self.block_rows,
            stripe_rows: self.stripe_rows,
            extras_size_max: self.block_extras_size_max,
            dictionary_size_max: self.block_dictionary_size_max,
        }
    }
}
