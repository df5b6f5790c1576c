//! Source: what a query reads. The ring and the archive look the same from here.

use super::coverage::Coverage;
use super::prune::Probes;
use crate::archive::schema::schema;
use arrow_array::Array;
use arrow_schema::ArrowError;

pub use arrow_array::RecordBatch;
pub use arrow_buffer::BooleanBuffer;

/// A part could not be read: the storage's own error.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Records in parts, newest part first. A part is what is read at once: a row group of a segment
/// or a block of the ring. Several threads read at a time.
pub trait Source: Sync {
    /// How many parts there are.
    fn part_count(&self) -> usize;

    /// How many records a part holds.
    fn part_rows(&self, part: usize) -> usize;

    /// Bounds of the part's times in milliseconds since 1970: no start and no end of a record
    /// lies before the first or after the second, nor does the collection time of one that has
    /// neither. (A record of a broken clock may end before it starts.) None if not known.
    fn part_time_range(&self, part: usize) -> Option<(i64, i64)>;

    /// May a record of the part match a filter, as far as an index of the source knows? No is
    /// certain.
    fn part_may_match(&self, _part: usize, _probes: &Probes) -> bool {
        true
    }

    /// Some columns of all records of a part, in the order asked for. They are named by their
    /// place in [`schema`]. A column that no record of the part has may be left out. Of a part
    /// that turns out to be gone the first call may return no row; the coverage then says so.
    fn read(&self, part: usize, columns: &[usize]) -> Result<RecordBatch, SourceError>;

    /// Some columns of those records of a part whose bit is set. A source that can skip what is
    /// not asked for does better than this.
    fn read_rows(
        &self,
        part: usize,
        columns: &[usize],
        rows: &BooleanBuffer,
    ) -> Result<RecordBatch, SourceError> {
        let batch = self.read(part, columns)?;
        // A part that is gone since it was listed has no rows to choose from.
        if batch.num_rows() == 0 { Ok(batch) } else { Ok(filter_batch(&batch, rows)?) }
    }

    /// What is held and what is missing, for the end of the answer.
    fn coverage(&self) -> Coverage;
}

/// The rows of a batch whose bit is set.
pub(super) fn filter_batch(
    batch: &RecordBatch,
    rows: &BooleanBuffer,
) -> Result<RecordBatch, ArrowError> {
    if rows.count_set_bits() == rows.len() {
        return Ok(batch.clone());
    }
    arrow_select::filter::filter_record_batch(batch, &rows.clone().into())
}

/// Is every column of the batch one of the schema's, of its type? Readers of columns rely on it.
pub(super) fn is_of_schema(batch: &RecordBatch) -> bool {
    batch.columns().iter().zip(batch.schema_ref().fields()).all(|(array, field)| {
        let known = schema().field_with_name(field.name());
        known.is_ok_and(|known| known.data_type() == array.data_type())
    })
}
