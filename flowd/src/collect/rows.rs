//! The records of one data set -> rows of a batch, by column.

use super::books::CollectDrop;
use super::copy::{Clocks, How, Strided, fill, fill_uptime_since};
use super::lists::{ListReader, ListTemplates};
use super::plan::{Plan, Variant};
use crate::model::time::UnixMillis;
use crate::model::{Column, ColumnMut, ColumnSet, FlowBatch, Origin};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

/// Where rows go.
pub(super) struct Output<'a> {
    pub(super) batch: &'a mut FlowBatch,
    pub(super) full: &'a mut dyn FnMut(&FlowBatch),
}

impl Output<'_> {
    /// How many rows fit now, at least one: a full batch is handed on first.
    pub(super) fn room(&mut self) -> usize {
        if self.batch.room() == 0 {
            (self.full)(self.batch);
            self.batch.clear();
        }
        self.batch.room()
    }
}

/// What the records of one set have in common.
pub(super) struct RecordContext<'a> {
    pub(super) origin: &'a Arc<Origin>,
    pub(super) clocks: Clocks,
    pub(super) sequence_number: u32,
    pub(super) received: UnixMillis,
    /// Place of the next record in its message.
    pub(super) record_index: u32,
    /// The message's sampling interval, for plans that have its column as their own.
    pub(super) sampling_interval: u32,
    /// What lists are read by.
    pub(super) templates: Option<ListTemplates<'a>>,
    /// Records whose lists refer to more templates than are kept with them.
    pub(super) lists_over_limit: u64,
}

impl<'a> RecordContext<'a> {
    /// That of the first records of a message that brings no templates and no interval.
    pub(super) const fn new(
        origin: &'a Arc<Origin>,
        clocks: Clocks,
        sequence_number: u32,
        received: UnixMillis,
    ) -> Self {
        Self {
            origin,
            clocks,
            sequence_number,
            received,
            record_index: 0,
            sampling_interval: 0,
            templates: None,
            lists_over_limit: 0,
        }
    }
}

/// Appends the records of a set. `offsets` is memory that is used again.
pub(super) fn decode_records(
    plan: &Plan,
    body: &[u8],
    offsets: &mut Vec<usize>,
    lists: &mut ListReader<'_, '_>,
    context: &mut RecordContext<'_>,
    output: &mut Output<'_>,
) -> Result<(), CollectDrop> {
    if plan.is_variable() {
        return decode_variable(plan, body, offsets, lists, context, output);
    }
    decode_fixed(plan, body, lists, context, output);
    Ok(())
}

/// Records of one size. What is left over is padding.
fn decode_fixed(
    plan: &Plan,
    body: &[u8],
    lists: &mut ListReader<'_, '_>,
    context: &mut RecordContext<'_>,
    output: &mut Output<'_>,
) {
    let record_size = plan.record_size_min();
    let offsets = plan.offsets();
    let mut rest = body;
    while rest.len() >= record_size.get() {
        let count = (rest.len() / record_size).min(output.room());
        let Some((records, after)) = rest.split_at_checked(count.saturating_mul(record_size.get()))
        else {
            return;
        };
        rest = after;
        let fields = Fields { records, record_size, offsets };
        append_alike(plan, &fields, lists, context, output.batch);
    }
}

/// Appends records of one size that have room. Their runs come first; then each column is filled
/// in all rows at once, also in those whose shape lacks it, where it means nothing.
fn append_alike(
    plan: &Plan,
    fields: &Fields<'_>,
    lists: &mut ListReader<'_, '_>,
    context: &mut RecordContext<'_>,
    batch: &mut FlowBatch,
) {
    let start = batch.len();
    let mut columns = ColumnSet::EMPTY;
    let mut rest = fields.records;
    while !rest.is_empty() {
        let (variant, count) = if plan.has_variants() {
            plan.alike(rest)
        } else {
            (0, rest.len() / fields.record_size)
        };
        let variant = plan.at_clock(variant, context.clocks.sys_uptime.is_some());
        let size = count.saturating_mul(fields.record_size.get());
        let Some((records, after)) = rest.split_at_checked(size).filter(|_| count > 0) else {
            break;
        };
        rest = after;
        let run = Fields { records, ..*fields };
        let variant = plan.variant(variant);
        columns = columns.union(append_run(plan, variant, &run, lists, count, context, batch));
    }
    fill_columns(plan, columns, fields, start..batch.len(), context, batch);
}

/// Records whose size varies: each is measured first.
fn decode_variable(
    plan: &Plan,
    body: &[u8],
    offsets: &mut Vec<usize>,
    lists: &mut ListReader<'_, '_>,
    context: &mut RecordContext<'_>,
    output: &mut Output<'_>,
) -> Result<(), CollectDrop> {
    let mut rest = body;
    while !is_padding(rest, plan.record_size_min()) {
        let record_size = plan.measure(rest, offsets).ok_or(CollectDrop::Malformed)?;
        let (record, after) =
            rest.split_at_checked(record_size.get()).ok_or(CollectDrop::Malformed)?;
        rest = after;
        let variant = if plan.has_variants() { plan.variant_index(record, offsets) } else { 0 };
        let variant = plan.at_clock(variant, context.clocks.sys_uptime.is_some());
        output.room();
        let fields = Fields { records: record, record_size, offsets };
        let start = output.batch.len();
        let variant = plan.variant(variant);
        let columns = append_run(plan, variant, &fields, lists, 1, context, output.batch);
        let rows = start..output.batch.len();
        fill_columns(plan, columns, &fields, rows, context, output.batch);
    }
    Ok(())
}

/// Octets of zero at a set's end that are padding: sets are padded to words (RFC 7011
/// section 3.3.1). More of them are records, as they are where all records have one size.
const PADDING_SIZE_MAX: usize = 3;

/// Is this what stands behind a set's last record?
fn is_padding(rest: &[u8], record_size_min: NonZeroUsize) -> bool {
    rest.len() < record_size_min.get()
        || (rest.len() <= PADDING_SIZE_MAX && rest.iter().all(|&octet| octet == 0))
}

/// Records of one size, and where the fields of each lie.
#[derive(Clone, Copy)]
struct Fields<'a> {
    records: &'a [u8],
    record_size: NonZeroUsize,
    offsets: &'a [usize],
}

impl Fields<'_> {
    fn offset(&self, field: usize) -> usize {
        self.offsets.get(field).copied().unwrap_or(usize::MAX)
    }
}

/// Appends the rows of `count` records of one variant, and their extras; says which columns they
/// have.
fn append_run(
    plan: &Plan,
    variant: &Variant,
    fields: &Fields<'_>,
    lists: &mut ListReader<'_, '_>,
    count: usize,
    context: &mut RecordContext<'_>,
    batch: &mut FlowBatch,
) -> ColumnSet {
    let rows = batch.append_rows(&variant.shape, context.origin, count);
    if !variant.extras.is_empty() {
        let records = fields.records.chunks_exact(fields.record_size.get());
        for (row, record) in rows.zip(records) {
            batch.begin_extras(row);
            for &(first, after) in &variant.extras {
                let range = fields.offset(first)..fields.offset(after);
                batch.extend_extras(record.get(range).unwrap_or_default());
            }
            if !plan.lists().is_empty() {
                let is_whole = lists.append_sub_templates(plan, record, fields.offsets, batch);
                context.lists_over_limit =
                    context.lists_over_limit.saturating_add(u64::from(!is_whole));
            }
        }
    }
    variant.shape.columns
}

/// Fills rows field by field, and what the decoder itself says of them.
fn fill_columns(
    plan: &Plan,
    columns: ColumnSet,
    fields: &Fields<'_>,
    rows: Range<usize>,
    context: &mut RecordContext<'_>,
    batch: &mut FlowBatch,
) {
    for copy in plan.copies() {
        if !columns.contains(copy.column) {
            continue;
        }
        let field = Strided {
            records: fields.records,
            record_size: fields.record_size,
            offset: fields.offset(copy.field),
            length: copy.length,
        };
        let column = batch.column_mut(copy.column);
        match copy.how {
            How::UptimeSince(init) => {
                let init_offset = fields.offset(init);
                let export_time = context.clocks.export_time;
                fill_uptime_since(column, rows.clone(), &field, init_offset, export_time);
            }
            how => fill(column, rows.clone(), &field, how, context.clocks),
        }
    }
    fill_own(plan, columns, rows, context, batch);
}

fn fill_own(
    plan: &Plan,
    columns: ColumnSet,
    rows: Range<usize>,
    context: &mut RecordContext<'_>,
    batch: &mut FlowBatch,
) {
    if columns.contains(Column::CollectionTimeMilliseconds)
        && let ColumnMut::I64(values) = batch.column_mut(Column::CollectionTimeMilliseconds)
        && let Some(values) = values.get_mut(rows.clone())
    {
        values.fill(context.received.0);
    }
    if let ColumnMut::U32(values) = batch.column_mut(Column::ExportSequenceNumber)
        && let Some(values) = values.get_mut(rows.clone())
    {
        values.fill(context.sequence_number);
    }
    if plan.owns(Column::SamplingInterval)
        && let ColumnMut::U32(values) = batch.column_mut(Column::SamplingInterval)
        && let Some(values) = values.get_mut(rows.clone())
    {
        values.fill(context.sampling_interval);
    }
    if let ColumnMut::U16(values) = batch.column_mut(Column::ExportRecordIndex)
        && let Some(values) = values.get_mut(rows)
    {
        number_from(context.record_index, values);
        let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
        context.record_index = context.record_index.saturating_add(count);
    }
}

/// Numbers values from `first` on; those that have no room for theirs get the greatest.
fn number_from(first: u32, values: &mut [u16]) {
    match u16::try_from(first) {
        Ok(first) if usize::from(u16::MAX.saturating_sub(first)) >= values.len() => {
            for (value, number) in values.iter_mut().zip(first..) {
                *value = number;
            }
        }
        _ => {
            for (value, number) in values.iter_mut().zip(first..=u32::MAX) {
                *value = u16::try_from(number).unwrap_or(u16::MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, RecordType, VARIABLE_LENGTH};
    use crate::wire::FieldSpecifier;

    #[test]
    fn zeros_are_padding_where_they_fill_a_word_and_records_where_they_are_more() {
        let (one, five) = (NonZeroUsize::MIN, NonZeroUsize::new(5).unwrap());
        for (rest, size_min, expected) in [
            (&[][..], one, true),
            (&[0, 0, 0], one, true),
            (&[0, 1, 0], one, false),
            (&[0; 4], one, false),
            (&[0; 4], five, true),
            (&[1; 4], five, true),
            (&[0; 5], five, false),
        ] {
            assert_eq!(is_padding(rest, size_min), expected, "{rest:?}");
        }
    }

    #[test]
    fn fields_without_octets_have_no_part_in_a_record() {
        let field = |id, length| FieldSpecifier { enterprise: 0, id, length };
        let mut fields = vec![field(8, 0); 1_000];
        fields.insert(500, field(82, VARIABLE_LENGTH));
        let own_columns = ColumnSet::EMPTY;
        let plan = Plan::compile(RecordType::Flow, &fields, Protocol::Ipfix, own_columns).unwrap();
        let mut offsets = Vec::new();
        assert_eq!(plan.measure(&[1, b'x', 0], &mut offsets), NonZeroUsize::new(2));
        assert_eq!(offsets, [0, 2]);
        let nothing = Plan::compile(RecordType::Flow, &fields[..9], Protocol::Ipfix, own_columns);
        assert!(nothing.is_none());
    }
}
