//! Group keys: what a record has in common with its group, packed so that groups are found by
//! comparing one number, or some octets where that is too narrow.

use super::field::{Field, Name, Provenance};
use super::key_column::{Part, tag};
use super::plan::{Key, Keys};
use crate::model::{ColumnKind, ElementType, Value, element_value, ie};
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use std::net::{IpAddr, Ipv4Addr};

/// How keys are packed and read back.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    parts: Vec<PartLayout>,
    /// Octets that have no fixed width are among the keys, or the keys are too wide together.
    pub(super) is_wide_only: bool,
    /// All keys of IPv4 records fit into 64 bits.
    pub(super) fits_64: bool,
    /// The part that means either side, if one does.
    either: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct PartLayout {
    pub(super) key: Key,
    names: Vec<String>,
    pub(super) kind: PartKind,
    /// Bits of a packed value, without the one that says that it is there.
    pub(super) bits: u32,
}

/// What a part's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartKind {
    Number,
    Time,
    Mac,
    /// IPv4 packed as a number, IPv6 as octets.
    Address,
    Text,
    Element(ElementType),
}

impl Layout {
    pub(super) fn new(keys: &Keys) -> Self {
        let parts: Vec<PartLayout> = keys.as_slice().iter().map(PartLayout::new).collect();
        let bits: u32 = parts.iter().map(|part| part.bits + 1).sum();
        let has_octets =
            |part: &PartLayout| matches!(part.kind, PartKind::Text | PartKind::Element(_));
        Self {
            is_wide_only: bits > u128::BITS || parts.iter().any(has_octets),
            fits_64: bits <= u64::BITS,
            either: parts.iter().position(|part| matches!(part.key.name, Name::Pair(_))),
            parts,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many groups a record belongs to: one, or one of each side.
    pub(super) const fn sides(&self) -> usize {
        if self.either.is_some() { 2 } else { 1 }
    }
}

impl PartLayout {
    fn new(key: &Key) -> Self {
        let field = key.fields()[0];
        let (kind, bits) = match field {
            Field::Column(column) => match column.kind() {
                ColumnKind::Ipv4 | ColumnKind::Ipv6 => (PartKind::Address, 32),
                ColumnKind::Mac => (PartKind::Mac, 48),
                ColumnKind::Millis => (PartKind::Time, 64),
                kind => (PartKind::Number, u32::try_from(8 * kind.width()).unwrap_or(64)),
            },
            Field::Address(_) => (PartKind::Address, 32),
            Field::Provenance(provenance) => match provenance {
                Provenance::ObservationDomain => (PartKind::Number, 32),
                Provenance::ExportProtocol => (PartKind::Text, 0),
                _ => (PartKind::Address, 32),
            },
            Field::SourcePrefixLength
            | Field::DestinationPrefixLength
            | Field::IcmpType
            | Field::IcmpCode => (PartKind::Number, 8),
            Field::Measure(_) => (PartKind::Number, 64),
            Field::Element(enterprise, id) => {
                (PartKind::Element(ie::element_type(enterprise, id)), 0)
            }
        };
        Self { key: *key, names: key.names(), kind, bits }
    }
}

/// The keys of a batch, seen from one side.
pub(super) struct KeyColumns<'a> {
    parts: Vec<Part<'a>>,
    /// Rows that do not count from this side.
    skipped: Option<BooleanBuffer>,
    /// Rows that need octets; none if none does.
    wide: Option<BooleanBuffer>,
    rows: usize,
}

impl<'a> KeyColumns<'a> {
    pub(super) fn new(batch: &'a RecordBatch, layout: &Layout, side: usize) -> Self {
        let part = |part: &PartLayout, side: usize| {
            let fields = part.key.fields();
            let field = fields.get(side).or_else(|| fields.first()).copied();
            field.map(|field| Part::new(batch, field, part))
        };
        let parts: Vec<Part<'a>> = layout.parts.iter().filter_map(|it| part(it, side)).collect();
        let rows = batch.num_rows();
        let other = layout.either.and_then(|index| {
            let layout = layout.parts.get(index)?;
            Some((parts.get(index)?, part(layout, 1 - side)?))
        });
        let skipped = other.map(|(this, other)| {
            BooleanBuffer::collect_bool(rows, |row| this.is_skipped(&other, row, side))
        });
        let wide = if layout.is_wide_only {
            Some(BooleanBuffer::new_set(rows))
        } else {
            let ipv6 = parts.iter().filter_map(|part| part.ipv6.as_ref());
            ipv6.map(|(_, present)| present.clone())
                .reduce(|all, present| &all | &present)
                .filter(BooleanBuffer::has_true)
        };
        Self { parts, skipped, wide, rows }
    }

    /// The packed keys of all rows; those of wide rows mean nothing.
    pub(super) fn packed<K: PackedKey>(&self) -> Vec<K> {
        let mut keys = vec![K::default(); self.rows];
        for part in &self.parts {
            let values = part.values.iter();
            match &part.present {
                None => {
                    for (key, &value) in keys.iter_mut().zip(values) {
                        *key = key.with(1, 1).with(part.bits, value);
                    }
                }
                Some(present) => {
                    for ((key, &value), is_there) in keys.iter_mut().zip(values).zip(present.iter())
                    {
                        *key = key.with(1, u64::from(is_there)).with(part.bits, value);
                    }
                }
            }
        }
        keys
    }

    /// The rows that packed keys stand for.
    pub(super) fn packed_rows(&self) -> RowSet {
        match (&self.wide, &self.skipped) {
            (None, None) => RowSet::All(self.rows),
            (Some(wide), None) => RowSet::Some(!wide),
            (None, Some(skipped)) => RowSet::Some(!skipped),
            (Some(wide), Some(skipped)) => RowSet::Some(!&(wide | skipped)),
        }
    }

    /// The rows that need keys of octets.
    pub(super) fn wide_rows(&self) -> RowSet {
        match (&self.wide, &self.skipped) {
            (None, _) => RowSet::All(0),
            (Some(wide), None) => RowSet::Some(wide.clone()),
            (Some(wide), Some(skipped)) => RowSet::Some(wide & &!skipped),
        }
    }

    /// Writes the key of a row as octets.
    pub(super) fn write_wide(&self, row: usize, key: &mut Vec<u8>) {
        key.clear();
        for part in &self.parts {
            part.write(row, key);
        }
    }
}

/// Some rows of a batch.
pub(super) enum RowSet {
    All(usize),
    Some(BooleanBuffer),
}

impl RowSet {
    /// Calls for each row, in order.
    pub(super) fn for_each(&self, mut each: impl FnMut(usize)) {
        match self {
            Self::All(rows) => (0..*rows).for_each(each),
            Self::Some(rows) => rows.set_indices().for_each(&mut each),
        }
    }
}

/// A number that keys are packed into, the first key in the highest bits, so that the order of
/// the numbers is that of the keys.
pub(super) trait PackedKey: Copy + Default + Ord + std::hash::Hash {
    /// The key with so many bits more.
    #[must_use]
    fn with(self, bits: u32, value: u64) -> Self;

    /// The key as the widest number.
    fn widened(self) -> u128;
}

impl PackedKey for u64 {
    fn with(self, bits: u32, value: u64) -> Self {
        self << bits | value
    }

    fn widened(self) -> u128 {
        u128::from(self)
    }
}

impl PackedKey for u128 {
    fn with(self, bits: u32, value: u64) -> Self {
        self << bits | Self::from(value)
    }

    fn widened(self) -> u128 {
        self
    }
}

impl Layout {
    /// The keys of a packed number, by name; absent ones left out.
    pub(super) fn unpack<'a>(&'a self, packed: u128, row: &mut Vec<(&'a str, Value<'a>)>) {
        let mut shift: u32 = self.parts.iter().map(|part| part.bits + 1).sum();
        for part in &self.parts {
            shift -= part.bits + 1;
            let field = packed >> shift;
            let mask = u128::MAX >> (u128::BITS - part.bits);
            let is_there = field >> part.bits & 1 == 1;
            if is_there {
                let number = u64::try_from(field & mask).unwrap_or(u64::MAX);
                row.push((part.ipv4_name(), part.number_value(number)));
            }
        }
    }

    /// The keys of octets, by name; absent ones left out.
    pub(super) fn read_wide<'a>(&'a self, mut key: &'a [u8], row: &mut Vec<(&'a str, Value<'a>)>) {
        for part in &self.parts {
            let Some((&tag, rest)) = key.split_first() else {
                return;
            };
            key = rest;
            match tag {
                tag::NUMBER => {
                    let Some((number, rest)) = key.split_first_chunk() else {
                        return;
                    };
                    key = rest;
                    row.push((part.ipv4_name(), part.number_value(u64::from_be_bytes(*number))));
                }
                tag::IPV6 => {
                    let Some((octets, rest)) = key.split_first_chunk::<16>() else {
                        return;
                    };
                    key = rest;
                    row.push((part.ipv6_name(), Value::Address(IpAddr::from(*octets))));
                }
                tag::OCTETS => {
                    let Some((size, rest)) = key.split_first_chunk() else {
                        return;
                    };
                    let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
                    let Some((octets, rest)) = rest.split_at_checked(size) else {
                        return;
                    };
                    key = rest;
                    row.push((part.ipv4_name(), part.octets_value(octets)));
                }
                _ => {}
            }
        }
    }

    /// The value of one key of a row that was read back.
    pub(super) fn key_value<'a>(
        &self,
        index: usize,
        row: &[(&str, Value<'a>)],
    ) -> Option<Value<'a>> {
        let part = self.parts.get(index)?;
        let is_it = |name: &str| part.names.iter().any(|known| known == name);
        row.iter().find(|(name, _)| is_it(name)).map(|&(_, value)| value)
    }
}

impl PartLayout {
    fn ipv4_name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    fn ipv6_name(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }

    fn number_value(&self, number: u64) -> Value<'static> {
        match self.kind {
            PartKind::Time => Value::Millis(number.cast_signed()),
            PartKind::Mac => {
                let [_, _, mac @ ..] = number.to_be_bytes();
                Value::Mac(mac)
            }
            PartKind::Address => {
                let address = u32::try_from(number).unwrap_or(0);
                Value::Address(IpAddr::V4(Ipv4Addr::from_bits(address)))
            }
            _ => Value::Unsigned(number),
        }
    }

    fn octets_value<'a>(&self, octets: &'a [u8]) -> Value<'a> {
        match self.kind {
            PartKind::Element(element_type) => element_value(element_type, octets),
            _ => std::str::from_utf8(octets).map_or(Value::Octets(octets), Value::Text),
        }
    }
}
