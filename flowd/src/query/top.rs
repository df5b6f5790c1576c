//! Top: the first so many of an order, in memory that does not grow with what is ordered.

use super::columns::{self, Stored, address_columns, prefix_length_columns, stored};
use super::field::{Field, is_ipv4_column};
use crate::model::{Column, List, Value, element_value, ie};
use arrow_array::RecordBatch;
use std::cmp::Ordering;
use std::net::IpAddr;

/// What an entry is ordered by. What is absent comes last whichever way the order runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SortKey {
    /// Numbers, times, MAC addresses; floats by their total order.
    Number(i128),
    /// IPv4 before IPv6.
    Address(IpAddr),
    Octets(Box<[u8]>),
    Absent,
}

impl From<u64> for SortKey {
    fn from(number: u64) -> Self {
        Self::Number(i128::from(number))
    }
}

impl From<Value<'_>> for SortKey {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Unsigned(number) => Self::Number(i128::from(number)),
            Value::Signed(number) | Value::Millis(number) => Self::Number(i128::from(number)),
            Value::Boolean(value) => Self::Number(i128::from(value)),
            Value::Float(number) => {
                // The order of the bits is that of the numbers, backwards for negative ones.
                let bits = number.to_bits().cast_signed();
                let ordered = bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed();
                Self::Number(i128::from(ordered))
            }
            Value::Address(address) => Self::Address(address),
            Value::Mac(mac) => {
                Self::Number(mac.iter().fold(0, |all, &it| all << 8 | i128::from(it)))
            }
            Value::Text(text) => Self::Octets(text.as_bytes().into()),
            Value::Octets(octets)
            | Value::BrokenText(octets)
            | Value::List(List { octets, .. }) => Self::Octets(octets.into()),
        }
    }
}

/// What every record of a batch is ordered by.
pub(super) fn sort_keys(batch: &RecordBatch, field: Field) -> Vec<SortKey> {
    match field {
        Field::Column(column) => column_keys(batch, &[column.name()]),
        Field::Provenance(provenance) => column_keys(batch, &[provenance.name()]),
        Field::Address(role) => column_keys(batch, &address_columns(role)),
        Field::SourcePrefixLength | Field::DestinationPrefixLength => {
            column_keys(batch, &prefix_length_columns(field).map(Column::name))
        }
        Field::Measure(measure) => number_keys(&columns::measure(batch, measure)),
        Field::IcmpType | Field::IcmpCode => number_keys(&columns::icmp(batch, field)),
        Field::Element(enterprise, id) => {
            let element_type = ie::element_type(enterprise, id);
            columns::elements(batch, enterprise, id)
                .map(|octets| {
                    octets.map_or(SortKey::Absent, |it| element_value(element_type, it).into())
                })
                .collect()
        }
    }
}

fn number_keys(numbers: &columns::Numbers<'_>) -> Vec<SortKey> {
    let present = numbers.present();
    let rows = numbers.values.iter().zip(present.iter());
    rows.map(|(&number, is_there)| if is_there { number.into() } else { SortKey::Absent }).collect()
}

/// The first of the columns that has a value decides.
fn column_keys(batch: &RecordBatch, names: &[&str]) -> Vec<SortKey> {
    let columns: Vec<_> = names
        .iter()
        .filter_map(|name| Some((stored(batch, name)?, is_ipv4_column(name))))
        .collect();
    let key = |row| {
        let column = columns.iter().find(|(column, _)| column.is_present(row));
        column.map_or(SortKey::Absent, |(column, is_ipv4)| stored_key(column.values, *is_ipv4, row))
    };
    (0..batch.num_rows()).map(key).collect()
}

fn stored_key(values: Stored<'_>, is_ipv4: bool, row: usize) -> SortKey {
    match values {
        Stored::U8(values) => u64::from(values[row]).into(),
        Stored::U16(values) => u64::from(values[row]).into(),
        Stored::U32(values) if is_ipv4 => SortKey::Address(IpAddr::V4(values[row].into())),
        Stored::U32(values) => u64::from(values[row]).into(),
        Stored::U64(values) => values[row].into(),
        Stored::I64(values) => SortKey::Number(i128::from(values[row])),
        Stored::Octets6(values) => Value::Mac(values[row]).into(),
        Stored::Octets16(values) => SortKey::Address(IpAddr::V6(values[row].into())),
        Stored::Text(values) => Value::Text(values.value(row)).into(),
    }
}

/// Keeps the first `limit` of what is pushed, or all of it. Equal ones come by their place.
pub(super) struct Top<P> {
    entries: Vec<(SortKey, P)>,
    limit: Option<usize>,
    descending: bool,
    /// The last of the first `limit`, once there are so many: what comes after it is not kept.
    threshold: Option<(SortKey, P)>,
}

impl<P: Ord + Clone> Top<P> {
    pub(super) const fn new(limit: Option<usize>, descending: bool) -> Self {
        Self { entries: Vec::new(), limit, descending, threshold: None }
    }

    /// How many entries are held; at most a little more than twice the limit.
    pub(super) fn held(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn push(&mut self, key: SortKey, place: P) {
        let entry = (key, place);
        if let Some(threshold) = &self.threshold
            && self.order(&entry, threshold) != Ordering::Less
        {
            return;
        }
        self.entries.push(entry);
        if let Some(limit) = self.limit
            && self.entries.len() >= 2 * limit.max(512)
        {
            self.cut(limit);
        }
    }

    /// The first ones in order.
    pub(super) fn into_sorted(mut self) -> Vec<(SortKey, P)> {
        if let Some(limit) = self.limit {
            self.cut(limit);
        }
        let descending = self.descending;
        self.entries.sort_unstable_by(|a, b| order(a, b, descending));
        self.entries
    }

    fn cut(&mut self, limit: usize) {
        if self.entries.len() <= limit {
            return;
        }
        let descending = self.descending;
        if let Some(last) = limit.checked_sub(1) {
            let (_, last, _) =
                self.entries.select_nth_unstable_by(last, |a, b| order(a, b, descending));
            self.threshold = Some(last.clone());
        }
        self.entries.truncate(limit);
    }

    fn order(&self, left: &(SortKey, P), right: &(SortKey, P)) -> Ordering {
        order(left, right, self.descending)
    }
}

fn order<P: Ord>(left: &(SortKey, P), right: &(SortKey, P), descending: bool) -> Ordering {
    let by_key = match (&left.0, &right.0) {
        (SortKey::Absent, _) | (_, SortKey::Absent) => left.0.cmp(&right.0),
        (left, right) if descending => right.cmp(left),
        (left, right) => left.cmp(right),
    };
    by_key.then_with(|| left.1.cmp(&right.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn floats_are_ordered_as_numbers() {
        let numbers = [f64::NEG_INFINITY, -2.5, -0.0, 0.0, 1.0e-300, 3.0, f64::INFINITY, f64::NAN];
        let keys = numbers.map(|number| SortKey::from(Value::Float(number)));
        assert!(keys.is_sorted());
    }

    #[test]
    fn what_is_absent_comes_last_either_way() {
        for descending in [false, true] {
            let mut top = Top::new(None, descending);
            for (place, key) in [SortKey::Absent, 1.into(), 2.into()].into_iter().enumerate() {
                top.push(key, place);
            }
            assert_eq!(top.into_sorted().last().unwrap().0, SortKey::Absent);
        }
    }

    proptest! {
        #[test]
        fn the_first_so_many_are_those_of_a_full_sort(
            numbers in proptest::collection::vec(0_u64..50, 0..3_000),
            limit in 0_usize..40,
            descending: bool,
        ) {
            let mut top = Top::new(Some(limit), descending);
            let mut all: Vec<(u64, usize)> = Vec::new();
            for (place, &number) in numbers.iter().enumerate() {
                top.push(number.into(), place);
                all.push((number, place));
                prop_assert!(top.held() < 2 * limit.max(512));
            }
            all.sort_by(|a, b| {
                let by_number = if descending { b.0.cmp(&a.0) } else { a.0.cmp(&b.0) };
                by_number.then(a.1.cmp(&b.1))
            });
            let places: Vec<usize> = top.into_sorted().into_iter().map(|(_, place)| place).collect();
            let expected: Vec<usize> = all.into_iter().take(limit).map(|(_, place)| place).collect();
            prop_assert_eq!(places, expected);
        }
    }
}
