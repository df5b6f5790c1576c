//! One record in the making, and the shapes that records had.

use super::elements::Id;
use crate::collect::rows::{Output, RecordContext};
use crate::model::{Column, ColumnSet, ExtraSpec, FlowRecord, RecordType, Shape, VARIABLE_LENGTH};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Elements without a column that one record may have. The richest agents known send about 150.
const EXTRA_COUNT_MAX: usize = 512;
/// Shapes that are remembered. An agent's records have a dozen.
const SHAPE_COUNT_MAX: usize = 512;

/// Sets a column of the row.
macro_rules! set {
    ($row:expr, $field:ident, $column:ident, $value:expr) => {{
        $row.record.$field = $value;
        $row.record.present.insert($crate::model::Column::$column);
    }};
}
pub(super) use set;

/// One record in the making. Its memory is used again for the next.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// The columns; its extras stay empty.
    pub(super) record: FlowRecord,
    /// The elements without a column.
    specs: Vec<ExtraSpec>,
    /// Their values, as a batch holds them.
    values: Vec<u8>,
    /// Elements that had no room.
    pub(super) over_limit: u64,
}

impl Row {
    pub(super) fn begin(&mut self, record_type: RecordType) {
        self.record.record_type = record_type;
        self.record.present = ColumnSet::EMPTY;
        self.specs.clear();
        self.values.clear();
    }

    pub(super) fn has(&self, column: Column) -> bool {
        self.record.present.contains(column)
    }

    pub(super) fn number(&mut self, element: Id, value: u32) {
        self.fixed(element, &value.to_be_bytes());
    }

    /// Adds an element with a value that is as long in every record of its kind.
    pub(super) fn fixed(&mut self, element: Id, value: &[u8]) {
        if let Ok(length) = u16::try_from(value.len())
            && length != VARIABLE_LENGTH
            && self.describe(element, length)
        {
            self.values.extend_from_slice(value);
        }
    }

    /// Adds an element with a value of any length.
    pub(super) fn variable(&mut self, element: Id, value: &[u8]) {
        self.variable_of(element, &[value]);
    }

    /// Adds an element whose value is these parts.
    pub(super) fn variable_of(&mut self, element: Id, parts: &[&[u8]]) {
        let size = parts.iter().fold(0usize, |size, part| size.saturating_add(part.len()));
        let Ok(size) = u16::try_from(size) else {
            self.over_limit = self.over_limit.saturating_add(1);
            return;
        };
        if !self.describe(element, VARIABLE_LENGTH) {
            return;
        }
        match u8::try_from(size) {
            Ok(short) if short < 255 => self.values.push(short),
            _ => {
                self.values.push(255);
                self.values.extend_from_slice(&size.to_be_bytes());
            }
        }
        parts.iter().for_each(|part| self.values.extend_from_slice(part));
    }

    /// Adds an address under the element of its family; nothing if there is none.
    pub(super) fn address(&mut self, ipv4: Id, ipv6: Id, address: Option<IpAddr>) {
        match address {
            Some(IpAddr::V4(address)) => self.fixed(ipv4, &address.octets()),
            Some(IpAddr::V6(address)) => self.fixed(ipv6, &address.octets()),
            None => {}
        }
    }

    fn describe(&mut self, element: Id, length: u16) -> bool {
        if self.specs.len() >= EXTRA_COUNT_MAX {
            self.over_limit = self.over_limit.saturating_add(1);
            return false;
        }
        let Id { enterprise, id } = element;
        self.specs.push(ExtraSpec { enterprise, id, length });
        true
    }

    /// Appends the record to the batch.
    pub(super) fn finish(
        &mut self,
        own_columns: ColumnSet,
        shapes: &mut Shapes,
        context: &mut RecordContext<'_>,
        output: &mut Output<'_>,
    ) {
        let record = &mut self.record;
        record.present = record.present.union(own_columns);
        record.collection_time_milliseconds = context.received.0;
        record.export_sequence_number = context.sequence_number;
        record.export_record_index = u16::try_from(context.record_index).unwrap_or(u16::MAX);
        context.record_index = context.record_index.saturating_add(1);
        output.room();
        let shape = shapes.get(record.record_type, record.present, &self.specs);
        output.batch.push(record, shape, context.origin);
        if !self.specs.is_empty() {
            let row = output.batch.len().saturating_sub(1);
            output.batch.push_extras(row, &self.values);
        }
    }
}

/// The shapes that records had, so that those of one kind share one.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    known: HashSet<Arc<Shape>>,
    /// The one asked for last: records of a kind follow one another.
    last: Arc<Shape>,
    /// What is looked for, in memory that is used again.
    wanted: Shape,
}

impl Shapes {
    pub(super) fn get(
        &mut self,
        record_type: RecordType,
        columns: ColumnSet,
        specs: &[ExtraSpec],
    ) -> &Arc<Shape> {
        let last = &*self.last;
        if (last.record_type, last.columns, last.extras.as_slice()) == (record_type, columns, specs)
        {
            return &self.last;
        }
        self.wanted.record_type = record_type;
        self.wanted.columns = columns;
        self.wanted.extras.clear();
        self.wanted.extras.extend_from_slice(specs);
        self.last = if let Some(known) = self.known.get(&self.wanted) {
            Arc::clone(known)
        } else {
            // Batches hold on to those that they need; what is met again is made again.
            if self.known.len() >= SHAPE_COUNT_MAX {
                self.known.clear();
            }
            let shape = Arc::new(self.wanted.clone());
            self.known.insert(Arc::clone(&shape));
            shape
        };
        &self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_shared_and_limited_in_number() {
        let mut shapes = Shapes::default();
        let spec = |id| [ExtraSpec { enterprise: 0, id, length: 4 }];
        let columns = ColumnSet::of(&[Column::VlanId]);
        let mut get = |id| Arc::clone(shapes.get(RecordType::Flow, columns, &spec(id)));
        let first = get(1);
        assert!(!Arc::ptr_eq(&first, &get(2)));
        assert!(Arc::ptr_eq(&first, &get(1)));
        for id in 0..5_000 {
            assert_eq!(get(id).extras, spec(id));
        }
        assert!(shapes.known.len() <= SHAPE_COUNT_MAX);
        assert_eq!(first.extras, spec(1), "what was handed out stays");
    }

    #[test]
    fn a_record_has_so_many_extras_and_no_more() {
        let mut row = Row::default();
        row.begin(RecordType::Counters);
        let element = Id { enterprise: 0, id: 34 };
        for value in 0..600 {
            row.number(element, value);
        }
        assert_eq!((row.specs.len(), row.over_limit), (EXTRA_COUNT_MAX, 600 - 512));
        assert_eq!(row.values.len(), 4 * EXTRA_COUNT_MAX);
        row.begin(RecordType::Counters);
        row.variable(element, &vec![7; 65_536]);
        assert_eq!((row.specs.len(), row.over_limit), (0, 600 - 512 + 1));
        for size in [0, 254, 255, 65_535] {
            row.begin(RecordType::Flow);
            row.variable(element, &vec![7; size]);
            let mut fields = crate::model::ExtraFields::new(&row.specs, &row.values);
            assert_eq!(fields.next().map(|(_, value)| value.len()), Some(size));
        }
    }
}
