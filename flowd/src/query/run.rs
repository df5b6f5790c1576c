//! Run: a plan over a source, into a sink.

use super::QueryError;
use super::aggregate::{Aggregator, add_group_columns, add_total_columns};
use super::columns::{add_columns, bits, present, times};
use super::coverage::Coverage;
use super::field::Field;
use super::filter::Predicate;
use super::group_key::Layout;
use super::plan::{Answer, GroupOrder, Keys, Plan, RecordOrder};
use super::prune::Probes;
use super::row::Sink;
use super::rows::{RecordReader, RowReader, all_columns};
use super::source::{Source, filter_batch, is_of_schema};
use super::time_range::TimeRange;
use super::top::{Top, sort_keys};
use super::totals::Totals;
use crate::archive::schema::schema;
use crate::model::{Column, FlowRecord};
use crate::telemetry::Flag;
use arrow_array::{Array, RecordBatch, RecordBatchOptions};
use arrow_buffer::BooleanBuffer;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

/// What a query came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Rows that the sink was given.
    pub rows: u64,
    /// Records that matched, as far as they were looked at: none means that nothing was found,
    /// even where a summary of nothing was printed.
    pub matched: u64,
    /// What the author of the filter should know of how it was read.
    pub notes: Vec<String>,
    /// What is held and what is missing.
    pub coverage: Coverage,
}

/// Runs a plan. Rows go to `sink` as they are found; `cancel` ends it between batches of rows.
pub fn run(
    plan: &Plan,
    source: &dyn Source,
    cancel: &Flag,
    sink: &mut dyn Sink,
) -> Result<Outcome, QueryError> {
    let scan = Scan::new(plan, source, cancel);
    let found = match &plan.answer {
        Answer::Records(None) => scan.records(plan.limit, sink),
        Answer::Records(Some(order)) => scan.sorted_records(*order, sink),
        Answer::Groups(keys, order) => scan.groups(keys, *order, sink),
        Answer::Summary => scan.summary(sink),
    }?;
    Ok(Outcome {
        rows: found.rows,
        matched: found.matched,
        notes: plan.notes().to_vec(),
        coverage: source.coverage(),
    })
}

/// Hands on every record that matches with all that it carries, in the order of the source's
/// parts: the plan's filter and time range count, and nothing else of it.
///
/// # Errors
/// If the source cannot be read, `each` fails, or `cancel` is raised.
pub fn run_records(
    plan: &Plan,
    source: &dyn Source,
    cancel: &Flag,
    each: &mut dyn FnMut(&FlowRecord) -> io::Result<()>,
) -> Result<Outcome, QueryError> {
    let scan = Scan::new(plan, source, cancel);
    let columns = all_columns().into_iter().collect();
    let mut rows = 0;
    for part in 0..source.part_count() {
        let Some(matched) = scan.matching(part)? else {
            continue;
        };
        let batch = scan.materialise(&matched, &columns)?;
        let mut reader = RecordReader::new(&batch);
        for index in 0..batch.num_rows() {
            if index % ROWS_PER_CHECK == 0 {
                scan.check_cancelled()?;
            }
            each(&reader.read(index))?;
        }
        rows += count(batch.num_rows());
    }
    let (notes, coverage) = (plan.notes().to_vec(), source.coverage());
    Ok(Outcome { rows, matched: rows, notes, coverage })
}

/// How much was found.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    rows: u64,
    matched: u64,
}

/// The records of a part that match.
struct Matched {
    part: usize,
    /// The filter's columns of all its records; none if nothing had to be read.
    read: Option<RecordBatch>,
    rows: BooleanBuffer,
    count: usize,
}

/// A pass over a source's parts.
struct Scan<'a> {
    plan: &'a Plan,
    source: &'a dyn Source,
    cancel: &'a Flag,
    predicate: Predicate,
    probes: Probes,
}

/// Rows between two looks at the flag that cancels.
const ROWS_PER_CHECK: usize = 4_096;

impl<'a> Scan<'a> {
    fn new(plan: &'a Plan, source: &'a dyn Source, cancel: &'a Flag) -> Self {
        let filter = &plan.filter.expr;
        let (predicate, probes) = (Predicate::new(filter), Probes::new(filter));
        Self { plan, source, cancel, predicate, probes }
    }

    fn check_cancelled(&self) -> Result<(), QueryError> {
        if self.cancel.is_raised() {
            return Err(QueryError::Cancelled);
        }
        Ok(())
    }

    fn read(&self, part: usize, columns: &BTreeSet<usize>) -> Result<RecordBatch, QueryError> {
        let columns: Vec<usize> = columns.iter().copied().collect();
        let batch = self.source.read(part, &columns).map_err(QueryError::Source)?;
        check_schema(batch)
    }

    /// Which records of a part match; none if no record does. First only the filter's columns
    /// are read.
    fn matching(&self, part: usize) -> Result<Option<Matched>, QueryError> {
        self.check_cancelled()?;
        let range = self.plan.time_range;
        let bounds = self.source.part_time_range(part);
        if bounds.is_some_and(|(first, last)| !range.overlaps(first, last)) {
            return Ok(None);
        }
        if !self.probes.is_true() && !self.source.part_may_match(part, &self.probes) {
            return Ok(None);
        }
        // A part that lies within the range as a whole needs no look at each record's times.
        let lies_within = bounds.is_some_and(|(first, last)| {
            range.since.is_none_or(|since| since.0 <= first)
                && range.until.is_none_or(|until| last < until.0)
        });
        let needs_times = !range.is_all() && !lies_within;
        let count = self.source.part_rows(part);
        if self.predicate.is_all() && !needs_times {
            let rows = BooleanBuffer::new_set(count);
            let matched = Matched { part, read: None, rows, count };
            return Ok((count > 0).then_some(matched));
        }
        let mut columns = self.predicate.columns().clone();
        if needs_times {
            for column in TIME_COLUMNS {
                add_columns(Field::Column(column), &mut columns);
            }
        }
        let read = self.read(part, &columns)?;
        let mut rows = self.predicate.evaluate(&read);
        if needs_times {
            rows = &rows & &within(&read, range);
        }
        let count = rows.count_set_bits();
        let read = Some(read);
        Ok((count > 0).then_some(Matched { part, read, rows, count }))
    }

    /// Columns of the records that match: those that the filter read are at hand, the others are
    /// read now, for these records only.
    fn materialise(
        &self,
        matched: &Matched,
        columns: &BTreeSet<usize>,
    ) -> Result<RecordBatch, QueryError> {
        let is_at_hand = |column: &usize| {
            let field = schema().field(*column);
            let read = matched.read.as_ref();
            read.is_some_and(|read| read.column_by_name(field.name()).is_some())
        };
        let missing: Vec<usize> = columns.iter().copied().filter(|it| !is_at_hand(it)).collect();
        let new = if matched.read.is_none() || !missing.is_empty() {
            let batch = if matched.count == matched.rows.len() {
                self.source.read(matched.part, &missing)
            } else {
                self.source.read_rows(matched.part, &missing, &matched.rows)
            };
            Some(check_schema(batch.map_err(QueryError::Source)?)?)
        } else {
            None
        };
        let Some(read) = &matched.read else {
            return new.ok_or_else(|| QueryError::source("a part without columns"));
        };
        let at_hand: Vec<usize> = (0..read.num_columns())
            .filter(|&index| {
                let name = read.schema_ref().field(index).name();
                columns.iter().any(|&column| schema().field(column).name() == name)
            })
            .collect();
        let at_hand = read.project(&at_hand).map_err(QueryError::source)?;
        let at_hand = filter_batch(&at_hand, &matched.rows).map_err(QueryError::source)?;
        match new {
            None => Ok(at_hand),
            Some(new) => joined(&at_hand, &new),
        }
    }

    /// Records as they are stored, newest part first.
    fn records(&self, limit: Option<usize>, sink: &mut dyn Sink) -> Result<Found, QueryError> {
        let columns = all_columns().into_iter().collect();
        let mut left = limit.unwrap_or(usize::MAX);
        let mut found = Found::default();
        for part in 0..self.source.part_count() {
            if left == 0 {
                break;
            }
            let Some(mut matched) = self.matching(part)? else {
                continue;
            };
            matched.keep_first(left);
            left -= matched.count;
            let batch = self.materialise(&matched, &columns)?;
            let mut reader = RowReader::new(&batch);
            let mut row = Vec::new();
            for index in 0..batch.num_rows() {
                if index % ROWS_PER_CHECK == 0 {
                    self.check_cancelled()?;
                }
                reader.read(index, &mut row);
                sink.row(&row)?;
            }
            found.rows += count(batch.num_rows());
        }
        found.matched = found.rows;
        Ok(found)
    }

    /// Records in an order. First the order is found, then the records that were first in it
    /// are read.
    fn sorted_records(&self, order: RecordOrder, sink: &mut dyn Sink) -> Result<Found, QueryError> {
        let sorted_max = self.plan.limits.sorted_records_max;
        let limit = self.plan.limit;
        if limit.is_some_and(|limit| limit > sorted_max) {
            return Err(QueryError::TooManyRecords(sorted_max));
        }
        let mut columns = BTreeSet::new();
        add_columns(order.field, &mut columns);
        let mut top: Top<(usize, usize)> = Top::new(limit, order.descending);
        let mut found = Found::default();
        for part in 0..self.source.part_count() {
            let Some(matched) = self.matching(part)? else {
                continue;
            };
            found.matched += count(matched.count);
            let batch = self.materialise(&matched, &columns)?;
            let keys = sort_keys(&batch, order.field);
            for (key, row) in keys.into_iter().zip(matched.rows.set_indices()) {
                top.push(key, (part, row));
            }
            if limit.is_none() && top.held() > sorted_max {
                return Err(QueryError::TooManyRecords(sorted_max));
            }
        }
        let places: Vec<_> = top.into_sorted().into_iter().map(|(_, place)| place).collect();
        found.rows = count(places.len());
        self.read_places(&places, sink)?;
        Ok(found)
    }

    /// Reads records by part and row, and hands them on in the order given.
    fn read_places(
        &self,
        places: &[(usize, usize)],
        sink: &mut dyn Sink,
    ) -> Result<(), QueryError> {
        let mut sorted = places.to_vec();
        sorted.sort_unstable();
        let columns = all_columns();
        let mut batches: Vec<(usize, Vec<usize>, RecordBatch)> = Vec::new();
        for places in sorted.chunk_by(|(left, _), (right, _)| left == right) {
            self.check_cancelled()?;
            let Some(&(part, _)) = places.first() else {
                continue;
            };
            let indices: Vec<usize> = places.iter().map(|&(_, row)| row).collect();
            let mut rows = vec![false; self.source.part_rows(part)];
            indices.iter().for_each(|&row| rows[row] = true);
            let rows = BooleanBuffer::from(rows);
            let batch = self.source.read_rows(part, &columns, &rows).map_err(QueryError::Source)?;
            batches.push((part, indices, check_schema(batch)?));
        }
        let mut readers: Vec<RowReader<'_>> =
            batches.iter().map(|(_, _, batch)| RowReader::new(batch)).collect();
        let mut row = Vec::new();
        for (part, index) in places {
            let Ok(at) = batches.binary_search_by_key(part, |(part, _, _)| *part) else {
                continue;
            };
            let (Some((_, indices, _)), Some(reader)) = (batches.get(at), readers.get_mut(at))
            else {
                continue;
            };
            if let Ok(index) = indices.binary_search(index) {
                reader.read(index, &mut row);
                sink.row(&row)?;
            }
        }
        Ok(())
    }

    fn groups(
        &self,
        keys: &Keys,
        order: GroupOrder,
        sink: &mut dyn Sink,
    ) -> Result<Found, QueryError> {
        let layout = Layout::new(keys);
        let mut columns = BTreeSet::new();
        add_group_columns(keys, &mut columns);
        let (aggregator, matched) = self.aggregate(&layout, &columns)?;
        let mut rows = 0;
        aggregator.for_each_ordered(order, self.plan.limit, |row| {
            if rows % count(ROWS_PER_CHECK) == 0 {
                self.check_cancelled()?;
            }
            rows += 1;
            sink.row(row).map_err(QueryError::Output)
        })?;
        Ok(Found { rows, matched })
    }

    fn summary(&self, sink: &mut dyn Sink) -> Result<Found, QueryError> {
        let layout = Layout::new(&Keys::default());
        let mut columns = BTreeSet::new();
        add_total_columns(&mut columns);
        let (aggregator, matched) = self.aggregate(&layout, &columns)?;
        let totals: Totals = aggregator.totals();
        let mut row = Vec::new();
        totals.show(&mut row);
        sink.row(&row)?;
        Ok(Found { rows: 1, matched })
    }

    /// Adds the records of a part that match; how many they are.
    fn add_part(
        &self,
        part: usize,
        columns: &BTreeSet<usize>,
        aggregator: &mut Aggregator<'_>,
    ) -> Result<u64, QueryError> {
        let Some(matched) = self.matching(part)? else {
            return Ok(0);
        };
        aggregator.add(&self.materialise(&matched, columns)?)?;
        Ok(count(matched.count))
    }

    /// Several threads take parts in turn, each into groups of its own, joined at the end.
    fn aggregate<'k>(
        &self,
        layout: &'k Layout,
        columns: &BTreeSet<usize>,
    ) -> Result<(Aggregator<'k>, u64), QueryError> {
        let limits = self.plan.limits;
        let parts = Mutex::new(0..self.source.part_count());
        let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            let mut aggregator = Aggregator::new(layout, limits.groups_max);
            let mut count_matched = 0;
            while let Some(part) = next() {
                count_matched +=
                    self.add_part(part, columns, &mut aggregator).inspect_err(|_| {
                        // The other threads need not begin another part.
                        *parts.lock().unwrap_or_else(PoisonError::into_inner) = 0..0;
                    })?;
            }
            Ok((aggregator, count_matched))
        };
        let workers = limits.workers.clamp(1, self.source.part_count().max(1));
        if workers == 1 {
            return work();
        }
        let results: Vec<Result<(Aggregator<'k>, u64), QueryError>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined
                .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let mut sum: Option<(Aggregator<'k>, u64)> = None;
        for result in results {
            let (aggregator, matched) = result?;
            match &mut sum {
                None => sum = Some((aggregator, matched)),
                Some((all, all_matched)) => {
                    all.merge(aggregator)?;
                    *all_matched += matched;
                }
            }
        }
        Ok(sum.unwrap_or_else(|| (Aggregator::new(layout, limits.groups_max), 0)))
    }
}

impl Matched {
    /// Forgets all but the first so many records.
    fn keep_first(&mut self, limit: usize) {
        if self.count <= limit {
            return;
        }
        let rows = &self.rows;
        let end = rows.set_indices().nth(limit).unwrap_or(rows.len());
        self.rows = BooleanBuffer::collect_bool(rows.len(), |row| row < end && rows.value(row));
        self.count = limit;
    }
}

const TIME_COLUMNS: [Column; 3] = [
    Column::FlowStartMilliseconds,
    Column::FlowEndMilliseconds,
    Column::CollectionTimeMilliseconds,
];

/// Which records overlap the range: by flow time, where one of its two is absent by the other,
/// where both are by collection time.
fn within(batch: &RecordBatch, range: TimeRange) -> BooleanBuffer {
    let [start, end, collection] = TIME_COLUMNS;
    let starts = times(batch, start, 0);
    let ends = times(batch, end, 0);
    let (has_start, has_end) = (present(batch, start.name()), present(batch, end.name()));
    let pairs: Vec<(i64, i64)> = starts.iter().copied().zip(ends.iter().copied()).collect();
    if !has_start.has_false() && !has_end.has_false() {
        return bits(&pairs, |(start, end)| range.overlaps(start, end));
    }
    let collected = times(batch, collection, 0);
    let has_collected = present(batch, collection.name());
    BooleanBuffer::collect_bool(batch.num_rows(), |row| {
        let (start, end) = (starts[row], ends[row]);
        match (has_start.value(row), has_end.value(row)) {
            (true, true) => range.overlaps(start, end),
            (true, false) => range.overlaps(start, start),
            (false, true) => range.overlaps(end, end),
            (false, false) => {
                has_collected.value(row) && range.overlaps(collected[row], collected[row])
            }
        }
    })
}

fn check_schema(batch: RecordBatch) -> Result<RecordBatch, QueryError> {
    if is_of_schema(&batch) {
        Ok(batch)
    } else {
        Err(QueryError::source("a part has columns of another type than the schema's"))
    }
}

/// Two batches of the same rows as one.
fn joined(left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch, QueryError> {
    let both = |batch: &RecordBatch| {
        let fields = batch.schema_ref().fields().iter().cloned();
        fields.zip(batch.columns().iter().cloned()).collect::<Vec<_>>()
    };
    let columns = both(left).into_iter().chain(both(right));
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.unzip();
    if arrays.iter().any(|array| array.len() != left.num_rows()) {
        return Err(QueryError::source("a part changed while it was read"));
    }
    let schema = std::sync::Arc::new(arrow_schema::Schema::new(fields));
    let options = RecordBatchOptions::new().with_row_count(Some(left.num_rows()));
    RecordBatch::try_new_with_options(schema, arrays, &options).map_err(QueryError::source)
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}
