//! Records of a batch as they were stored, with the octets of the elements that have no column.

use super::{RowReader, elements_of, value};
use crate::model::{Column, Extra, ExtraSpec, FlowRecord, ie};
use arrow_array::{Array, RecordBatch};
use hashbrown::HashMap;

/// Reads the records of a batch one by one, each with all that it carries.
pub(in crate::query) struct RecordReader<'a> {
    rows: RowReader<'a>,
    /// The column of each that `rows` has; none is of the record's provenance.
    columns: Vec<Option<Column>>,
    /// What each stored name stands for.
    elements: HashMap<&'a str, Option<(u32, u16)>>,
}

impl<'a> RecordReader<'a> {
    pub(in crate::query) fn new(batch: &'a RecordBatch) -> Self {
        let rows = RowReader::new(batch);
        let columns = rows.columns.iter().map(|(name, ..)| Column::from_name(name)).collect();
        Self { rows, columns, elements: HashMap::new() }
    }

    pub(in crate::query) fn read(&mut self, index: usize) -> FlowRecord {
        let mut record = FlowRecord::default();
        for ((_, meaning, stored), column) in self.rows.columns.iter().zip(&self.columns) {
            if let Some(column) = column.filter(|_| stored.is_present(index)) {
                // The batch has the schema's types, so that the column takes the value.
                record.set_value(column, value(stored.values, *meaning, index));
            }
        }
        self.read_elements(index, &mut record);
        record
    }

    fn read_elements(&mut self, index: usize, record: &mut FlowRecord) {
        let Some((keys, values, entries)) = elements_of(self.rows.elements, index) else {
            return;
        };
        for entry in entries.filter(|&entry| values.is_valid(entry)) {
            let (key, octets) = (keys.value(entry), values.value(entry));
            let known = self.elements.entry(key).or_insert_with(|| {
                let base = key.split_once('#').map_or(key, |(base, _)| base);
                ie::number_of_name(base)
            });
            if let (Some((enterprise, id)), Ok(length)) = (*known, u16::try_from(octets.len())) {
                let spec = ExtraSpec { enterprise, id, length };
                record.extras.push(Extra { spec, value: octets.to_vec() });
            }
        }
    }
}
