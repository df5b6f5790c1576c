//! The order of a segment's rows: alike ones together, and those in the order of receipt.
//!
//! Rows of one exporter, interface pair, side and service follow one another. In most columns
//! that leaves fewer values to tell apart from one row to the next, while the numbers and times
//! of the messages still rise within each class. Sorting by address instead would take as many
//! octets for those numbers as it spares for the addresses.

use super::error::ArchiveError;
use crate::model::{Column, ColumnRef};
use crate::ring::Block;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_select::take::take;
use std::ops::Range;
use std::sync::Arc;

/// Ports below this name a service; those above it are mostly the clients' own.
const SERVICE_PORT_END: u16 = 1_024;

/// Puts the rows of a batch, which are these of a block, into the order of a segment.
pub(super) fn clustered(
    block: &Block,
    rows: Range<usize>,
    batch: RecordBatch,
) -> Result<RecordBatch, ArchiveError> {
    let mut keyed: Vec<(u64, u32)> = keys(block, rows).into_iter().zip(0..).collect();
    if keyed.is_sorted_by_key(|&(key, _)| key) {
        return Ok(batch);
    }
    // Stable, so that within a class the order of receipt stays.
    keyed.sort_by_key(|&(key, _)| key);
    let order = UInt32Array::from_iter_values(keyed.into_iter().map(|(_, row)| row));
    let arrays = batch.columns().iter().map(|array| {
        // Any order of texts that are all the same is the same.
        if is_uniform(array) { Ok(Arc::clone(array)) } else { take(array, &order, None) }
    });
    let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), arrays, &options)?)
}

/// Are these texts, and all of them the same one? Others are not looked at: to put numbers into
/// an order costs as little as to compare them.
fn is_uniform(array: &ArrayRef) -> bool {
    let Some(texts) = array.as_string_opt::<i32>().filter(|texts| texts.null_count() == 0) else {
        return false;
    };
    let lengths = texts.value_offsets().windows(2).map(|ends| ends[1] - ends[0]);
    let Some(&[first, second]) = texts.value_offsets().first_chunk() else { return true };
    let length = second - first;
    let (Ok(start), Some(&end), Ok(step)) =
        (usize::try_from(first), texts.value_offsets().last(), usize::try_from(length))
    else {
        return false;
    };
    let octets = texts.value_data().get(start..usize::try_from(end).unwrap_or_default());
    octets
        .is_some_and(|octets| octets.get(step..) == octets.get(..octets.len().saturating_sub(step)))
        && lengths.into_iter().all(|other| other == length)
}

/// The class of each row. What does not fit the bits is cut: rows of two classes may then be
/// mixed, which costs some octets and nothing else.
fn keys(block: &Block, rows: Range<usize>) -> Vec<u64> {
    let shapes = &block.shape_ids()[rows.clone()];
    let origins = block.origin_ids()[rows.clone()].iter();
    let mut keys: Vec<u64> = (shapes.iter().zip(origins))
        .map(|(&shape, &origin)| u64::from(shape) << 12 | u64::from(origin & 0xfff))
        .collect();
    let mut append = |bits: u32, part: &mut dyn Iterator<Item = u64>| {
        let mask = (1 << bits) - 1;
        keys.iter_mut().zip(part).for_each(|(key, part)| *key = *key << bits | part & mask);
    };
    for column in [Column::IngressInterface, Column::EgressInterface] {
        if let Some(ColumnRef::U32(values)) = block.column(column) {
            append(10, &mut values[rows.clone()].iter().map(|&value| value.into()));
        }
    }
    if let Some(ColumnRef::U8(values)) = block.column(Column::ProtocolIdentifier) {
        append(8, &mut values[rows.clone()].iter().map(|&value| value.into()));
    }
    let ports = [Column::SourceTransportPort, Column::DestinationTransportPort];
    if let [Some(ColumnRef::U16(sources)), Some(ColumnRef::U16(destinations))] =
        ports.map(|column| block.column(column))
    {
        let pairs = sources[rows.clone()].iter().zip(&destinations[rows]);
        append(11, &mut pairs.map(|(&source, &destination)| side_and_service(source, destination)));
    }
    keys
}

/// Which end has the lower port, which is mostly the server's, and that port if it names a
/// service.
fn side_and_service(source: u16, destination: u16) -> u64 {
    let lower = source.min(destination);
    let service = if lower < SERVICE_PORT_END { lower } else { 0 };
    u64::from(source < destination) << 10 | u64::from(service)
}
