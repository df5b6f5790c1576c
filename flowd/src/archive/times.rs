//! FlowSpan: between which times the flows of some rows lie, so that a query by time can leave
//! the rows out unseen.

use crate::model::{Column, ColumnRef};
use crate::ring::Block;
use std::ops::Range;

/// The least start and the greatest end of a block's flows, in milliseconds since 1970, with
/// times of receipt in the place of those that a flow lacks; none if a flow in it may lie at any
/// time, or none is in it. Found once a block: its rows never change.
#[must_use]
pub fn block_time_range(block: &Block) -> Option<(i64, i64)> {
    *block.flow_times().get_or_init(|| FlowSpan::of(block, 0..block.rows()).range())
}

/// Between which times the flows of some rows lie.
///
/// A row without a start or an end may be taken to lie at its other time or at its receipt: all
/// of these are within the span. Rows without any time are anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSpan {
    span: Option<(i64, i64)>,
    is_anywhere: bool,
}

impl FlowSpan {
    /// The span of some rows of a block.
    #[must_use]
    pub fn of(block: &Block, rows: Range<usize>) -> Self {
        let mut span = Self::default();
        span.add(block, rows);
        span
    }

    /// Widens the span to some rows of a block.
    pub(super) fn add(&mut self, block: &Block, rows: Range<usize>) {
        use Column::{CollectionTimeMilliseconds, FlowEndMilliseconds, FlowStartMilliseconds};
        for run in block.runs(rows) {
            let times = |column| match block.column(column) {
                Some(ColumnRef::I64(times)) if run.shape.columns.contains(column) => {
                    Some(&times[run.rows.clone()])
                }
                _ => None,
            };
            match (times(FlowStartMilliseconds), times(FlowEndMilliseconds)) {
                (Some(starts), Some(ends)) => {
                    self.widen(starts.iter().copied().min(), ends.iter().copied().max());
                }
                (start, end) => {
                    let received = times(CollectionTimeMilliseconds);
                    self.is_anywhere |= received.is_none();
                    for times in [start, end, received].into_iter().flatten() {
                        self.widen(times.iter().copied().min(), times.iter().copied().max());
                    }
                }
            }
        }
    }

    /// Widens the span to rows that lie within some times, or anywhere if there are none.
    pub(super) fn add_range(&mut self, times: Option<(i64, i64)>) {
        self.is_anywhere |= times.is_none();
        self.widen(times.map(|times| times.0), times.map(|times| times.1));
    }

    fn widen(&mut self, start: Option<i64>, end: Option<i64>) {
        if let (Some(start), Some(end)) = (start, end) {
            let (first, last) = self.span.get_or_insert((start, end));
            (*first, *last) = (start.min(*first), end.max(*last));
        }
    }

    /// The least start and the greatest end; none if a row may lie at any time.
    #[must_use]
    pub const fn range(&self) -> Option<(i64, i64)> {
        if self.is_anywhere { None } else { self.span }
    }
}
