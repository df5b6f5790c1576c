//! Stripes: checksums over some rows of a block, for the day the power fails.
//!
//! The writer stores a stripe's words when its last row is in. After a power cut, pages of the
//! file may be on disk or not, each for itself: rows of a stripe whose checksum holds are what
//! was written, and no others are trusted.

use super::layout::{Layout, STRIPE_WORDS};
use super::storage::Area;
use crate::model::Column;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// Set in [`Stripe::columns`] if a row has extras.
pub(super) const HAS_EXTRAS: u64 = 1 << 63;

const _: () = assert!(Column::COUNT < 63, "the last bit of the set says something else");

/// What a checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stripe {
    /// Its first row.
    pub(super) first_row: usize,
    /// Its rows.
    pub(super) rows: usize,
    /// The columns that any of its rows has, in the block's order, and [`HAS_EXTRAS`].
    pub(super) columns: u64,
    /// Where in the heap the extras of its rows lie.
    pub(super) extras: Range32,
}

/// A range of the extras heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range32 {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Stripe {
    /// Its words in the stripe table.
    pub(super) fn encode(&self, checksum: u64) -> [u64; STRIPE_WORDS] {
        let Self { first_row: _, rows, columns, extras } = *self;
        let extras = u64::from(extras.start) << 32 | u64::from(extras.end);
        [checksum, columns, rows as u64, extras]
    }

    /// Reads its words.
    pub(super) const fn decode(words: [u64; STRIPE_WORDS], first_row: usize) -> (u64, Self) {
        let [checksum, columns, rows, extras] = words;
        let stripe = Self {
            first_row,
            rows: rows as usize,
            columns,
            extras: Range32 { start: (extras >> 32) as u32, end: extras as u32 },
        };
        (checksum, stripe)
    }

    /// The checksum of the rows as they are; none if the stripe names what is not there.
    /// `identity` is the block's.
    pub(super) fn checksum<'a>(
        &self,
        layout: &Layout,
        identity: u64,
        items: impl Fn(&Area, Range<usize>) -> Option<&'a [u8]>,
    ) -> Option<u64> {
        let rows = self.first_row..self.first_row.checked_add(self.rows)?;
        let extras = self.extras;
        // Each part is hashed at once, which is faster than to feed one hash piece by piece.
        let mut parts = Vec::with_capacity(Column::COUNT + 8);
        parts.extend([identity, self.rows as u64, self.columns]);
        parts.extend([u64::from(extras.start), u64::from(extras.end)]);
        for area in [&layout.shape_ids, &layout.origin_ids] {
            parts.push(xxh3_64(items(area, rows.clone())?));
        }
        let mut columns = self.columns & !HAS_EXTRAS;
        while columns != 0 {
            let column = layout.columns.get(columns.trailing_zeros() as usize)?;
            parts.push(xxh3_64(items(layout.column(*column)?, rows.clone())?));
            columns &= columns - 1;
        }
        if self.columns & HAS_EXTRAS != 0 {
            parts.push(xxh3_64(items(&layout.extras_offsets, rows)?));
            let heap = extras.start as usize..extras.end as usize;
            parts.push(xxh3_64(items(&layout.extras, heap)?));
        }
        Some(xxh3_64(bytemuck::cast_slice(&parts)))
    }
}
