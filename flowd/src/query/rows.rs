//! Records of a batch as names and values, in output order.

mod whole;

pub(super) use whole::RecordReader;

use super::columns::{Stored, StoredColumn, stored};
use super::field::Provenance;
use super::row::tell_twins_apart;
use crate::archive::schema::{ELEMENTS, schema};
use crate::model::{Column, ColumnKind, Value, element_value, ie};
use arrow_array::cast::AsArray;
use arrow_array::{Array, BinaryArray, MapArray, RecordBatch, StringArray};
use hashbrown::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Places in the schema of all columns that a record shows.
pub(super) fn all_columns() -> Vec<usize> {
    (0..schema().fields().len()).collect()
}

/// Reads the records of a batch one by one.
pub(super) struct RowReader<'a> {
    columns: Vec<(&'static str, Meaning, StoredColumn<'a>)>,
    elements: Option<&'a MapArray>,
    /// What each stored name means, so that it is looked up once.
    shown: HashMap<&'a str, Shown<'a>>,
    has_twins: bool,
}

/// How a stored value is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Plain,
    Ipv4,
    Flags,
}

impl<'a> RowReader<'a> {
    pub(super) fn new(batch: &'a RecordBatch) -> Self {
        let known = Column::ALL.iter().map(|&column| {
            let meaning = match column {
                Column::TcpControlBits => Meaning::Flags,
                _ if column.kind() == ColumnKind::Ipv4 => Meaning::Ipv4,
                _ => Meaning::Plain,
            };
            (column.name(), meaning)
        });
        let provenance = Provenance::ALL.into_iter().map(|provenance| {
            let meaning = match provenance {
                Provenance::ExporterIpv4 => Meaning::Ipv4,
                _ => Meaning::Plain,
            };
            (provenance.name(), meaning)
        });
        let columns = known
            .chain(provenance)
            .filter_map(|(name, meaning)| Some((name, meaning, stored(batch, name)?)))
            .collect();
        let has = |column: Column| stored(batch, column.name()).is_some();
        Self {
            columns,
            elements: batch.column_by_name(ELEMENTS).and_then(|array| array.as_map_opt()),
            shown: HashMap::new(),
            has_twins: (has(Column::SourceIpv4Address) && has(Column::SourceIpv6Address))
                || (has(Column::IpNextHopIpv4Address) && has(Column::IpNextHopIpv6Address)),
        }
    }

    /// Fills `row` with what a record has.
    pub(super) fn read(&mut self, index: usize, row: &mut Vec<(&'a str, Value<'a>)>) {
        row.clear();
        for (name, meaning, column) in &self.columns {
            if column.is_present(index) {
                row.push((name, value(column.values, *meaning, index)));
            }
        }
        if self.has_twins {
            tell_twins_apart(row);
        }
        self.read_elements(index, row);
    }

    fn read_elements(&mut self, index: usize, row: &mut Vec<(&'a str, Value<'a>)>) {
        let Some((keys, values, Range { start, end })) = elements_of(self.elements, index) else {
            return;
        };
        // The templates of the record's lists are its last element, and no value of its own.
        let kept = end.checked_sub(1).filter(|&last| {
            last >= start && keys.value(last) == ie::SUB_TEMPLATES_NAME && values.is_valid(last)
        });
        let templates = kept.map_or(&[][..], |last| values.value(last));
        for entry in start..kept.unwrap_or(end) {
            if values.is_valid(entry) {
                let key = keys.value(entry);
                let shown = *self.shown.entry(key).or_insert_with(|| Shown::of(key));
                let value = element_value(shown.element_type, values.value(entry));
                row.push((shown.name, value.with_templates(templates)));
            }
        }
    }
}

/// The names and the octets of a record's elements without a column: where they lie, and which
/// of them are the record's.
fn elements_of(
    elements: Option<&MapArray>,
    index: usize,
) -> Option<(&StringArray, &BinaryArray, Range<usize>)> {
    let map = elements.filter(|map| map.is_valid(index))?;
    let place = |at: usize| map.value_offsets().get(at).and_then(|&it| usize::try_from(it).ok());
    let entries = place(index)?..place(index + 1)?;
    Some((map.keys().as_string_opt()?, map.values().as_binary_opt()?, entries))
}

/// What the archive's name of an element stands for.
#[derive(Clone, Copy)]
struct Shown<'a> {
    name: &'a str,
    element_type: ie::ElementType,
}

impl<'a> Shown<'a> {
    /// From `name`, `name#2`, `PEN:ID`. What lies under its number has a name if an exporter
    /// told it, or if the table has learned it since.
    fn of(key: &'a str) -> Self {
        let (base, is_first) = key.split_once('#').map_or((key, true), |(base, _)| (base, false));
        let Some((enterprise, id)) = ie::number_of_name(base) else {
            return Self { name: key, element_type: ie::ElementType::OctetArray };
        };
        let named = ie::find(enterprise, id).filter(|_| is_first && base.contains(':'));
        Self {
            name: named.map_or(key, |element| element.name),
            element_type: ie::element_type(enterprise, id),
        }
    }
}

fn value<'a>(values: Stored<'a>, meaning: Meaning, index: usize) -> Value<'a> {
    match values {
        Stored::U8(values) => Value::Unsigned(u64::from(values[index])),
        Stored::U16(values) if meaning == Meaning::Flags => {
            Value::Unsigned(u64::from(values[index] & crate::model::TcpControlBits::MASK))
        }
        Stored::U16(values) => Value::Unsigned(u64::from(values[index])),
        Stored::U32(values) if meaning == Meaning::Ipv4 => {
            Value::Address(IpAddr::V4(Ipv4Addr::from_bits(values[index])))
        }
        Stored::U32(values) => Value::Unsigned(u64::from(values[index])),
        Stored::U64(values) => Value::Unsigned(values[index]),
        Stored::I64(values) => Value::Millis(values[index]),
        Stored::Octets6(values) => Value::Mac(values[index]),
        Stored::Octets16(values) => Value::Address(IpAddr::V6(Ipv6Addr::from(values[index]))),
        Stored::Text(values) => Value::Text(values.value(index)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ie_learned::{Description, learn};
    use crate::model::{ElementType, Semantics, Units};

    #[test]
    fn stored_names_are_shown_as_the_element_is_called_now() {
        learn(&Description {
            enterprise: 500_030,
            id: 1,
            name: "toldOfLater",
            element_type: ElementType::String,
            semantics: Semantics::Default,
            units: Units::None,
            range: None,
            exporter: None,
        });
        for (key, name, element_type) in [
            ("interfaceName", "interfaceName", ElementType::String),
            ("interfaceName#2", "interfaceName#2", ElementType::String),
            ("reverseTcpWindowSize", "reverseTcpWindowSize", ElementType::Unsigned),
            ("9:12235", "ciscoApplicationHttpHost", ElementType::String),
            ("500030:1", "toldOfLater", ElementType::String),
            ("500030:1#2", "500030:1#2", ElementType::String),
            ("500030:2", "500030:2", ElementType::OctetArray),
            ("scope:2", "scopeInterface", ElementType::Unsigned),
            ("nonesuch", "nonesuch", ElementType::OctetArray),
        ] {
            let shown = Shown::of(key);
            assert_eq!((shown.name, shown.element_type), (name, element_type), "{key}");
        }
    }
}
