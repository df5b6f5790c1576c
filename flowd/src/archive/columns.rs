//! Rows of a ring block as a record batch: the columns where they lie, absent values as null.

use super::buffers::block_buffer;
use super::elements::elements;
use super::error::ArchiveError;
use super::schema::{
    ELEMENTS, EXPORT_PROTOCOL, EXPORTER_IPV4, EXPORTER_IPV6, OBSERVATION_DOMAIN, data_type, schema,
};
use crate::model::{Column, ColumnKind, ColumnSet, Origin};
use crate::ring::Block;
use arrow_array::builder::{FixedSizeBinaryBuilder, StringBuilder, UInt32Builder};
use arrow_array::types::{
    ArrowPrimitiveType, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    ArrayRef, FixedSizeBinaryArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray,
    UInt32Array, new_null_array,
};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, Buffer, NullBuffer, ScalarBuffer};
use arrow_select::filter::filter_record_batch;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

/// Some rows of a block as a batch of some columns, given by their index in the schema.
/// Columns of fixed width are not copied; the batch keeps the block alive.
///
/// # Errors
/// If a column index is not in the schema, or rows are not in the block.
pub fn block_batch(
    block: &Arc<Block>,
    rows: Range<usize>,
    columns: &[usize],
) -> Result<RecordBatch, ArchiveError> {
    let projected = Arc::new(schema().project(columns)?);
    let rows = rows.start.min(block.rows())..rows.end.min(block.rows());
    let mut batch = BatchColumns { block, presence: Presence::new(block, &rows), rows };
    let arrays = columns.iter().map(|&index| batch.array(index));
    let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.rows.len()));
    Ok(RecordBatch::try_new_with_options(projected, arrays, &options)?)
}

/// Those rows of a block whose bit is set, as [`block_batch`] has them all.
///
/// # Errors
/// If a column index is not in the schema.
pub fn block_rows(
    block: &Arc<Block>,
    columns: &[usize],
    rows: &BooleanBuffer,
) -> Result<RecordBatch, ArchiveError> {
    let batch = block_batch(block, 0..rows.len(), columns)?;
    Ok(filter_record_batch(&batch, &rows.clone().into())?)
}

struct BatchColumns<'a> {
    block: &'a Arc<Block>,
    presence: Presence,
    rows: Range<usize>,
}

impl BatchColumns<'_> {
    fn array(&mut self, index: usize) -> Result<ArrayRef, ArchiveError> {
        if let Some(&column) = Column::ALL.get(index) {
            return self.column(column);
        }
        Ok(match schema().field(index).name().as_str() {
            EXPORTER_IPV4 => self.exporter_ipv4(),
            EXPORTER_IPV6 => self.exporter_ipv6()?,
            OBSERVATION_DOMAIN => {
                let mut domains = Vec::with_capacity(self.rows.len());
                for run in self.block.runs(self.rows.clone()) {
                    domains.resize(domains.len() + run.rows.len(), run.origin.domain.0);
                }
                Arc::new(UInt32Array::from(domains))
            }
            EXPORT_PROTOCOL => self.protocols(),
            ELEMENTS => elements(self.block, &self.rows)?,
            name => unreachable!("the schema has no other column, such as {name}"),
        })
    }

    fn column(&mut self, column: Column) -> Result<ArrayRef, ArchiveError> {
        let kind = column.kind();
        if !self.block.columns().contains(column) {
            return Ok(new_null_array(&data_type(kind), self.rows.len()));
        }
        let rows = self.rows.clone();
        let values = block_buffer(self.block, |block| {
            let values = block.column(column);
            values.map_or(&[][..], |values| values.bytes(rows))
        });
        let nulls = self.presence.nulls(self.block, column);
        Ok(match kind {
            ColumnKind::U8 => numbers::<UInt8Type>(values, nulls)?,
            ColumnKind::U16 => numbers::<UInt16Type>(values, nulls)?,
            ColumnKind::U32 | ColumnKind::Ipv4 => numbers::<UInt32Type>(values, nulls)?,
            ColumnKind::U64 => numbers::<UInt64Type>(values, nulls)?,
            ColumnKind::Millis => {
                let values = ScalarBuffer::from(values);
                let times = PrimitiveArray::<TimestampMillisecondType>::try_new(values, nulls)?;
                Arc::new(times.with_timezone("UTC"))
            }
            ColumnKind::Ipv6 => Arc::new(FixedSizeBinaryArray::try_new(16, values, nulls)?),
            ColumnKind::Mac => Arc::new(FixedSizeBinaryArray::try_new(6, values, nulls)?),
        })
    }

    /// Something of each row's origin.
    fn origins<T: Copy>(&self, of: impl Fn(&Origin) -> T) -> impl Iterator<Item = T> {
        let runs = self.block.runs(self.rows.clone());
        runs.flat_map(move |run| std::iter::repeat_n(of(run.origin), run.rows.len()))
    }

    fn exporter_ipv4(&self) -> ArrayRef {
        let mut addresses = UInt32Builder::with_capacity(self.rows.len());
        for run in self.block.runs(self.rows.clone()) {
            match run.origin.address {
                IpAddr::V4(address) => addresses.append_value_n(address.to_bits(), run.rows.len()),
                IpAddr::V6(_) => addresses.append_nulls(run.rows.len()),
            }
        }
        Arc::new(addresses.finish())
    }

    fn exporter_ipv6(&self) -> Result<ArrayRef, ArchiveError> {
        let mut addresses = FixedSizeBinaryBuilder::with_capacity(self.rows.len(), 16);
        for address in self.origins(|origin| origin.address) {
            match address {
                IpAddr::V4(_) => addresses.append_null(),
                IpAddr::V6(address) => addresses.append_value(address.octets())?,
            }
        }
        Ok(Arc::new(addresses.finish()))
    }

    fn protocols(&self) -> ArrayRef {
        let mut runs = self.block.runs(self.rows.clone());
        let first = runs.next().map(|run| run.origin.protocol);
        if let Some(protocol) = first.filter(|first| runs.all(|run| run.origin.protocol == *first))
        {
            return Arc::new(StringArray::new_repeated(protocol.name(), self.rows.len()));
        }
        let mut names = StringBuilder::with_capacity(self.rows.len(), 10 * self.rows.len());
        for name in self.origins(|origin| origin.protocol.name()) {
            names.append_value(name);
        }
        Arc::new(names.finish())
    }
}

fn numbers<T: ArrowPrimitiveType>(
    values: Buffer,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArchiveError> {
    let values = ScalarBuffer::from(values);
    Ok(Arc::new(PrimitiveArray::<T>::try_new(values, nulls)?))
}

/// Which columns are there in which rows. Columns that the same shapes have share one bitmap.
struct Presence {
    /// The shape's number and how many rows have it, in row order.
    runs: Vec<(usize, usize)>,
    /// The columns that all of these rows have.
    everywhere: ColumnSet,
    rows: usize,
    /// Which shapes have the column, and the bitmap of that.
    known: Vec<(Vec<bool>, NullBuffer)>,
}

impl Presence {
    fn new(block: &Block, rows: &Range<usize>) -> Self {
        let ids = &block.shape_ids()[rows.clone()];
        let runs: Vec<_> =
            ids.chunk_by(|a, b| a == b).map(|run| (usize::from(run[0]), run.len())).collect();
        let all = Column::ALL.iter().copied().collect();
        let everywhere = runs.iter().fold(all, |common: ColumnSet, (shape, _)| {
            let columns = block.shapes()[*shape].columns;
            common.iter().filter(|column| columns.contains(*column)).collect()
        });
        Self { runs, everywhere, rows: rows.len(), known: Vec::new() }
    }

    fn nulls(&mut self, block: &Block, column: Column) -> Option<NullBuffer> {
        if self.everywhere.contains(column) {
            return None;
        }
        let shapes = block.shapes().iter();
        let having: Vec<bool> = shapes.map(|shape| shape.columns.contains(column)).collect();
        if let Some((_, nulls)) = self.known.iter().find(|(known, _)| *known == having) {
            return Some(nulls.clone());
        }
        let mut bits = BooleanBufferBuilder::new(self.rows);
        for &(shape, count) in &self.runs {
            bits.append_n(count, having[shape]);
        }
        let nulls = NullBuffer::new(bits.finish());
        self.known.push((having, nulls.clone()));
        Some(nulls)
    }
}
