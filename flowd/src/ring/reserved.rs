//! What a block file has memory for.

use super::layout::Layout;
use super::storage::Area;
use crate::model::ColumnSet;
use std::ops::Range;

/// The parts of a block, beside head and words, that can be written to without running out of
/// space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reserved {
    /// The areas of these columns.
    pub(super) columns: ColumnSet,
    /// Those of the shape and origin ids.
    pub(super) ids: bool,
    /// That of the extras' offsets.
    pub(super) offsets: bool,
    /// Octets of the extras heap.
    pub(super) extras: usize,
    /// Octets of the dictionary.
    pub(super) dictionary: usize,
}

impl Reserved {
    /// Head and words only.
    pub(super) const NONE: Self =
        Self { columns: ColumnSet::EMPTY, ids: false, offsets: false, extras: 0, dictionary: 0 };

    /// What rows of some columns need.
    pub(super) const fn of_columns(columns: ColumnSet) -> Self {
        Self { columns, ids: true, ..Self::NONE }
    }

    /// Where it lies.
    pub(super) fn ranges(&self, layout: &Layout) -> Vec<Range<usize>> {
        let Self { columns, ids, offsets, extras, dictionary } = *self;
        let areas = columns.iter().filter_map(|column| layout.column(column));
        let mut ranges: Vec<_> = areas.map(Area::range).collect();
        if ids {
            ranges.extend([layout.shape_ids.range(), layout.origin_ids.range()]);
        }
        if offsets {
            ranges.push(layout.extras_offsets.range());
        }
        for (area, size) in [(&layout.extras, extras), (&layout.dictionary, dictionary)] {
            if size > 0 {
                ranges.push(area.start..area.start + size);
            }
        }
        ranges
    }

    /// Octets of it, head and words included.
    pub(super) fn size(&self, layout: &Layout) -> u64 {
        let size: usize = self.ranges(layout).iter().map(Range::len).sum();
        (layout.fixed_size + size) as u64
    }
}
