//! Answers around damage: what turns out unreadable on the way is left out, and the query begins
//! anew without it.
//!
//! A row group is read in steps: first the columns of the filter, then those of the answer. When
//! the second step finds damage, records of it are counted already, and what other threads hold
//! may have some of them. Beginning anew is simple and right; damage is rare, and what can be read
//! of a segment is found out at once, so that this happens once for each that is damaged.

use super::query::StoreSource;
use crate::model::{FlowRecord, Value};
use crate::query::{Outcome, QueryError, Sink};
use anyhow::Result;
use std::io;

/// A sink that had some rows before the query began anew: they come first again, in the same
/// order, for what is left out lies behind them.
struct Resumed<'a> {
    sink: &'a mut dyn Sink,
    /// Rows that the sink has.
    handed_on: u64,
    /// Rows since the last beginning.
    seen: u64,
}

impl Sink for Resumed<'_> {
    fn row(&mut self, row: &[(&str, Value<'_>)]) -> io::Result<()> {
        self.seen += 1;
        if self.seen <= self.handed_on {
            return Ok(());
        }
        self.handed_on = self.seen;
        self.sink.row(row)
    }
}

/// Runs a query, again and again until nothing more has to be left out.
pub(super) fn around_damage(
    source: &StoreSource,
    sink: &mut dyn Sink,
    mut run: impl FnMut(&mut dyn Sink) -> Result<Outcome, QueryError>,
) -> Result<Outcome> {
    let mut sink = Resumed { sink, handed_on: 0, seen: 0 };
    loop {
        match run(&mut sink) {
            Err(QueryError::Source(_)) if source.has_left_out_more() => sink.seen = 0,
            result => return Ok(result?),
        }
    }
}

/// Takes records of a query that begins anew for each part that has to be left out. Those that
/// were handed on come first again and are passed over.
pub(super) fn records_around_damage(
    source: &StoreSource,
    each: &mut dyn FnMut(&FlowRecord),
    mut run: impl FnMut(&mut dyn FnMut(&FlowRecord) -> io::Result<()>) -> Result<Outcome, QueryError>,
) -> Result<Outcome, QueryError> {
    let mut handed_on = 0_u64;
    loop {
        let mut seen = 0;
        let outcome = run(&mut |record| {
            seen += 1;
            if seen > handed_on {
                handed_on = seen;
                each(record);
            }
            Ok(())
        });
        match outcome {
            Err(QueryError::Source(_)) if source.has_left_out_more() => {}
            outcome => return outcome,
        }
    }
}
