//! The elements that have no column, as a map from name to octets.

use super::error::ArchiveError;
use crate::model::ie::{PEN_REVERSE, stored_name};
use crate::model::{Column, ExtraFields, ExtraSpec, Shape};
use crate::ring::Block;
use arrow_array::ArrayRef;
use arrow_array::builder::{BinaryBuilder, MapBuilder, MapFieldNames, StringBuilder};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// The map of each row; null where the row's shape has no such elements.
pub(super) fn elements(block: &Block, rows: &Range<usize>) -> Result<ArrayRef, ArchiveError> {
    let names = MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let (keys, values) = (StringBuilder::new(), BinaryBuilder::new());
    let mut maps = MapBuilder::new(Some(names), keys, values);
    let mut known: HashMap<*const Shape, Vec<String>> = HashMap::new();
    for run in block.runs(rows.clone()) {
        if run.shape.extras.is_empty() {
            maps.append_nulls(run.rows.len())?;
            continue;
        }
        let keys = known.entry(Arc::as_ptr(run.shape)).or_insert_with(|| element_names(run.shape));
        for row in run.rows {
            let fields = ExtraFields::new(&run.shape.extras, block.extras_from(row));
            for ((_, value), key) in fields.zip(&*keys) {
                maps.keys().append_value(key);
                maps.values().append_value(value);
            }
            maps.append(true)?;
        }
    }
    Ok(Arc::new(maps.finish()))
}

/// The keys of a shape's extras: the element's name, and from its second on with their number.
/// The first of an element that has a column may lie there, and counts.
pub(super) fn element_names(shape: &Shape) -> Vec<String> {
    let mut counts: HashMap<(u32, u16), usize> = HashMap::new();
    let names = shape.extras.iter().map(|spec| {
        let count = counts
            .entry((spec.enterprise, spec.id))
            .or_insert_with(|| usize::from(is_in_column(shape, spec)));
        *count += 1;
        let name = stored_name(spec.enterprise, spec.id);
        match *count {
            1 => name,
            count => format!("{name}#{count}"),
        }
    });
    names.collect()
}

fn is_in_column(shape: &Shape, spec: &ExtraSpec) -> bool {
    let column = match spec.enterprise {
        0 => Column::from_element(spec.id),
        PEN_REVERSE => Column::from_reverse_element(spec.id),
        _ => None,
    };
    column.is_some_and(|column| shape.columns.contains(column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ColumnSet, RecordType};

    #[test]
    fn repeated_elements_are_numbered() {
        let spec = |enterprise, id| ExtraSpec { enterprise, id, length: 4 };
        let shape = Shape {
            record_type: RecordType::Flow,
            columns: ColumnSet::of(&[Column::OctetDeltaCount]),
            extras: vec![
                spec(0, 1),
                spec(9, 77),
                spec(0, 1),
                spec(9, 77),
                spec(0, 65_000),
                spec(PEN_REVERSE, 1),
            ],
        };
        assert_eq!(
            element_names(&shape),
            [
                "octetDeltaCount#2",
                "9:77",
                "octetDeltaCount#3",
                "9:77#2",
                "0:65000",
                "reverseOctetDeltaCount",
            ]
        );
    }
}
