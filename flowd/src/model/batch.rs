//! FlowBatch: some thousands of records by column. Decoding fills it, the ring copies it.
//!
//! Its memory is allocated once. Rows that follow one another with the same shape and origin
//! form a [`Run`]; a column holds meaningful values only in the rows of runs whose shape has it.

use super::column::{Column, ColumnKind, ColumnSet, with_columns};
use super::exporter::Origin;
use super::extras::ExtraFields;
use super::flow_record::{Extra, FlowRecord};
use super::shape::{Shape, VARIABLE_LENGTH};
use std::ops::Range;
use std::sync::Arc;

/// Rows that a batch has room for.
pub const BATCH_ROWS_MAX: usize = 8_192;

/// Octets of extras after which a batch takes no more rows.
pub const BATCH_EXTRAS_SIZE_MAX: usize = 4 << 20;

/// Rows that follow one another with the same shape and origin.
#[derive(Clone, Debug)]
pub struct Run {
    /// Which elements the rows carry.
    pub shape: Arc<Shape>,
    /// Who sent them.
    pub origin: Arc<Origin>,
    /// Which rows.
    pub rows: Range<usize>,
}

/// A column's values for reading.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the variants are the widths of ColumnKind")]
pub enum ColumnRef<'a> {
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    I64(&'a [i64]),
    Octets6(&'a [[u8; 6]]),
    Octets16(&'a [[u8; 16]]),
}

impl<'a> ColumnRef<'a> {
    /// The values of some rows as octets in native byte order.
    #[must_use]
    pub fn bytes(self, rows: Range<usize>) -> &'a [u8] {
        match self {
            Self::U8(values) => &values[rows],
            Self::U16(values) => bytemuck::cast_slice(&values[rows]),
            Self::U32(values) => bytemuck::cast_slice(&values[rows]),
            Self::U64(values) => bytemuck::cast_slice(&values[rows]),
            Self::I64(values) => bytemuck::cast_slice(&values[rows]),
            Self::Octets6(values) => bytemuck::cast_slice(&values[rows]),
            Self::Octets16(values) => bytemuck::cast_slice(&values[rows]),
        }
    }
}

/// A column's values for writing.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants are the widths of ColumnKind")]
pub enum ColumnMut<'a> {
    U8(&'a mut [u8]),
    U16(&'a mut [u16]),
    U32(&'a mut [u32]),
    U64(&'a mut [u64]),
    I64(&'a mut [i64]),
    Octets6(&'a mut [[u8; 6]]),
    Octets16(&'a mut [[u8; 16]]),
}

macro_rules! define_batch {
    ($(($variant:ident, $field:ident, $rust:ty, $kind:ident, $id:literal, $name:literal, $doc:literal),)*) => {
        /// Some thousands of records by column.
        #[derive(Debug)]
        pub struct FlowBatch {
            rows: usize,
            runs: Vec<Run>,
            /// Where each row's extras begin in `extras`; meaningful if its shape has any.
            extras_offsets: Vec<u32>,
            extras: Vec<u8>,
            $($field: Vec<$rust>,)*
        }

        impl FlowBatch {
            /// An empty batch, its memory allocated.
            #[must_use]
            pub fn new() -> Self {
                Self {
                    rows: 0,
                    runs: Vec::with_capacity(64),
                    extras_offsets: vec![0; BATCH_ROWS_MAX],
                    extras: Vec::new(),
                    $($field: vec![<$rust>::default(); BATCH_ROWS_MAX],)*
                }
            }

            /// All values of a column, up to the capacity; rows beyond the last are stale.
            #[must_use]
            pub fn column(&self, column: Column) -> ColumnRef<'_> {
                match column {
                    $(Column::$variant => define_batch!(@ref $kind, self.$field),)*
                }
            }

            /// All values of a column for writing.
            pub fn column_mut(&mut self, column: Column) -> ColumnMut<'_> {
                match column {
                    $(Column::$variant => define_batch!(@mut $kind, self.$field),)*
                }
            }

            fn store_columns(&mut self, row: usize, record: &FlowRecord) {
                $(if record.present.contains(Column::$variant) {
                    self.$field[row] = record.$field;
                })*
            }

            fn load_columns(&self, row: usize, present: ColumnSet, record: &mut FlowRecord) {
                $(if present.contains(Column::$variant) {
                    record.$field = self.$field[row];
                })*
            }
        }
    };
    (@ref U8, $values:expr) => { ColumnRef::U8(&$values) };
    (@ref U16, $values:expr) => { ColumnRef::U16(&$values) };
    (@ref U32, $values:expr) => { ColumnRef::U32(&$values) };
    (@ref Ipv4, $values:expr) => { ColumnRef::U32(&$values) };
    (@ref U64, $values:expr) => { ColumnRef::U64(&$values) };
    (@ref Millis, $values:expr) => { ColumnRef::I64(&$values) };
    (@ref Mac, $values:expr) => { ColumnRef::Octets6(&$values) };
    (@ref Ipv6, $values:expr) => { ColumnRef::Octets16(&$values) };
    (@mut U8, $values:expr) => { ColumnMut::U8(&mut $values) };
    (@mut U16, $values:expr) => { ColumnMut::U16(&mut $values) };
    (@mut U32, $values:expr) => { ColumnMut::U32(&mut $values) };
    (@mut Ipv4, $values:expr) => { ColumnMut::U32(&mut $values) };
    (@mut U64, $values:expr) => { ColumnMut::U64(&mut $values) };
    (@mut Millis, $values:expr) => { ColumnMut::I64(&mut $values) };
    (@mut Mac, $values:expr) => { ColumnMut::Octets6(&mut $values) };
    (@mut Ipv6, $values:expr) => { ColumnMut::Octets16(&mut $values) };
}
with_columns!(define_batch);

impl Default for FlowBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl FlowBatch {
    /// Rows in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Is the batch empty?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Rows that still fit; none once the extras are at their limit.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.extras.len() >= BATCH_EXTRAS_SIZE_MAX { 0 } else { BATCH_ROWS_MAX - self.rows }
    }

    /// Forgets all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.runs.clear();
        self.extras.clear();
    }

    /// The runs, in row order; together they cover every row.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Appends `count` rows and returns where they lie. The caller fills every column of the
    /// shape, and [`FlowBatch::push_extras`] once a row if the shape has extras.
    ///
    /// # Panics
    /// If `count` exceeds [`FlowBatch::room`]: the caller asks first.
    pub fn append_rows(
        &mut self,
        shape: &Arc<Shape>,
        origin: &Arc<Origin>,
        count: usize,
    ) -> Range<usize> {
        assert!(count <= BATCH_ROWS_MAX - self.rows, "the caller asks for room first");
        let rows = self.rows..self.rows + count;
        self.rows = rows.end;
        match self.runs.last_mut() {
            Some(run) if Arc::ptr_eq(&run.shape, shape) && Arc::ptr_eq(&run.origin, origin) => {
                run.rows.end = rows.end;
            }
            _ => self.runs.push(Run {
                shape: Arc::clone(shape),
                origin: Arc::clone(origin),
                rows: rows.clone(),
            }),
        }
        rows
    }

    /// Stores the extras of one row: the values of its shape's extras one after another,
    /// each variable-length one behind its length prefix.
    pub fn push_extras(&mut self, row: usize, bytes: &[u8]) {
        self.begin_extras(row);
        self.extend_extras(bytes);
    }

    /// Says that the extras of `row` begin here; [`FlowBatch::extend_extras`] adds to them.
    pub fn begin_extras(&mut self, row: usize) {
        let offset = u32::try_from(self.extras.len()).expect("room() keeps extras below 4 GiB");
        self.extras_offsets[row] = offset;
    }

    /// Adds to the extras of the row that [`FlowBatch::begin_extras`] named last.
    pub fn extend_extras(&mut self, bytes: &[u8]) {
        self.extras.extend_from_slice(bytes);
    }

    /// The extras of a row and whatever follows them; walk them with [`ExtraFields`].
    #[must_use]
    pub fn extras_from(&self, row: usize) -> &[u8] {
        let start = usize::try_from(self.extras_offsets[row]).unwrap_or(usize::MAX);
        self.extras.get(start..).unwrap_or_default()
    }

    /// Appends a record. `shape` must be the record's own: [`FlowBatch::shape_of`] makes it.
    pub fn push(&mut self, record: &FlowRecord, shape: &Arc<Shape>, origin: &Arc<Origin>) {
        debug_assert_eq!(shape.columns, record.present, "the shape is the record's own");
        let row = self.append_rows(shape, origin, 1).start;
        self.store_columns(row, record);
        if record.extras.is_empty() {
            return;
        }
        self.begin_extras(row);
        for extra in &record.extras {
            if extra.spec.length == VARIABLE_LENGTH {
                let size = u16::try_from(extra.value.len()).expect("values fit a message");
                match u8::try_from(size) {
                    Ok(short) if short < 255 => self.extras.push(short),
                    _ => {
                        self.extras.push(255);
                        self.extras.extend_from_slice(&size.to_be_bytes());
                    }
                }
            }
            self.extras.extend_from_slice(&extra.value);
        }
    }

    /// The shape of a record by row.
    #[must_use]
    pub fn shape_of(record: &FlowRecord) -> Shape {
        Shape {
            record_type: record.record_type,
            columns: record.present,
            extras: record.extras.iter().map(|extra| extra.spec).collect(),
        }
    }

    /// The run that a row belongs to.
    #[must_use]
    pub fn run_of(&self, row: usize) -> Option<&Run> {
        let index = self.runs.partition_point(|run| run.rows.end <= row);
        self.runs.get(index)
    }

    /// One record by row.
    #[must_use]
    pub fn record(&self, row: usize) -> Option<FlowRecord> {
        let shape = &self.run_of(row)?.shape;
        let mut record = FlowRecord {
            record_type: shape.record_type,
            present: shape.columns,
            ..FlowRecord::default()
        };
        self.load_columns(row, shape.columns, &mut record);
        if !shape.extras.is_empty() {
            record.extras = ExtraFields::new(&shape.extras, self.extras_from(row))
                .map(|(spec, value)| Extra { spec: *spec, value: value.to_vec() })
                .collect();
        }
        Some(record)
    }
}

/// The kind of a column fixes the type of its vector.
const _: () = assert!(ColumnKind::Ipv4.width() == size_of::<u32>());

#[cfg(test)]
mod tests {
    use super::super::exporter::{ObservationDomainId, Protocol};
    use super::super::shape::ExtraSpec;
    use super::*;

    fn origin() -> Arc<Origin> {
        Arc::new(Origin {
            address: "192.0.2.9".parse().unwrap(),
            domain: ObservationDomainId(7),
            protocol: Protocol::NetflowV9,
        })
    }

    fn sample() -> FlowRecord {
        let mut record = FlowRecord { octet_delta_count: 4096, ..FlowRecord::default() };
        record.present.insert(Column::OctetDeltaCount);
        record.set_source_address("198.51.100.4".parse().unwrap());
        record.extras.push(Extra {
            spec: ExtraSpec { enterprise: 9, id: 12_232, length: VARIABLE_LENGTH },
            value: vec![7; 300],
        });
        record.extras.push(Extra {
            spec: ExtraSpec { enterprise: 0, id: 95, length: 4 },
            value: vec![1, 2, 3, 4],
        });
        record
    }

    #[test]
    fn a_record_comes_back_as_it_went_in() {
        let (record, origin) = (sample(), origin());
        let shape = Arc::new(FlowBatch::shape_of(&record));
        let mut batch = FlowBatch::new();
        batch.push(&record, &shape, &origin);
        batch.push(&record, &shape, &origin);
        assert_eq!(batch.runs().len(), 1);
        assert_eq!(batch.record(1), Some(record));
        assert_eq!(batch.record(2), None);
    }

    #[test]
    fn a_new_shape_begins_a_new_run() {
        let origin = origin();
        let mut batch = FlowBatch::new();
        for record in [sample(), FlowRecord::default(), sample()] {
            let shape = Arc::new(FlowBatch::shape_of(&record));
            batch.push(&record, &shape, &origin);
        }
        let rows: Vec<_> = batch.runs().iter().map(|run| run.rows.clone()).collect();
        assert_eq!(rows, [0..1, 1..2, 2..3]);
        assert_eq!(batch.record(1), Some(FlowRecord::default()));
    }
}
