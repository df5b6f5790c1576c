//! Records of a batch as names and values, in output order.

use super::columns::{Stored, StoredColumn, stored};
use super::field::Provenance;
use super::row::tell_twins_apart;
use crate::archive::schema::{ELEMENTS, schema};
use crate::model::{Column, ColumnKind, Value, element_value, ie};
use arrow_array::cast::AsArray;
use arrow_array::{Array, MapArray, RecordBatch};
use hashbrown::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Places in the schema of all columns that a record shows.
pub(super) fn all_columns() -> Vec<usize> {
    (0..schema().fields().len()).collect()
}

/// Reads the records of a batch one by one.
pub(super) struct RowReader<'a> {
    columns: Vec<(&'static str, Meaning, StoredColumn<'a>)>,
    elements: Option<&'a MapArray>,
    /// The type of each element by its name, so that it is looked up once.
    element_types: HashMap<&'a str, ie::ElementType>,
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
            element_types: HashMap::new(),
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
        let Some(map) = self.elements.filter(|map| map.is_valid(index)) else {
            return;
        };
        let (Some(keys), Some(values)) =
            (map.keys().as_string_opt::<i32>(), map.values().as_binary_opt::<i32>())
        else {
            return;
        };
        let place =
            |at: usize| map.value_offsets().get(at).and_then(|&it| usize::try_from(it).ok());
        let (Some(start), Some(end)) = (place(index), place(index + 1)) else {
            return;
        };
        for entry in start..end {
            if values.is_valid(entry) {
                let name = keys.value(entry);
                let element_type = *self.element_types.entry(name).or_insert_with(|| type_of(name));
                row.push((name, element_value(element_type, values.value(entry))));
            }
        }
    }
}

/// The type of an element by the name that the archive keeps: `name`, `name#2`, `PEN:ID`.
fn type_of(name: &str) -> ie::ElementType {
    let (name, _) = name.split_once('#').unwrap_or((name, ""));
    if let Some(element) = ie::find_by_name(name) {
        return element.element_type;
    }
    // RFC 5103 section 6.1: `reverse` before the name of the forward element.
    let forward = name.strip_prefix("reverse").and_then(|name| {
        let mut letters = name.chars();
        let first = letters.next()?.to_ascii_lowercase();
        ie::find_by_name(&format!("{first}{}", letters.as_str()))
    });
    forward.map_or(ie::ElementType::OctetArray, |element| element.element_type)
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
