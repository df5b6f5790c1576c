//! Key columns: one key of a batch, read from its columns and ready to be packed.

use super::columns::{
    self, Stored, StoredColumn, address_columns, bits, prefix_length_columns, stored,
};
use super::field::Field;
use super::group_key::{PartKind, PartLayout};
use crate::model::{Column, TcpControlBits};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::BooleanBuffer;
use std::borrow::Cow;

/// One key of a batch.
pub(super) struct Part<'a> {
    /// Numbers, IPv4 addresses and whatever fits 64 bits; zero where absent.
    pub(super) values: Cow<'a, [u64]>,
    /// Rows that have one; none means all.
    pub(super) present: Option<BooleanBuffer>,
    pub(super) bits: u32,
    /// IPv6 addresses, and the rows that have one.
    pub(super) ipv6: Option<(Vec<u128>, BooleanBuffer)>,
    /// Text and elements.
    pub(super) octets: Option<Vec<Option<&'a [u8]>>>,
}

/// What stands before a part in a key of octets.
pub(super) mod tag {
    pub(in crate::query) const ABSENT: u8 = 0;
    pub(in crate::query) const NUMBER: u8 = 1;
    pub(in crate::query) const IPV6: u8 = 2;
    pub(in crate::query) const OCTETS: u8 = 3;
}

impl<'a> Part<'a> {
    pub(super) fn new(batch: &'a RecordBatch, field: Field, layout: &PartLayout) -> Self {
        let numbers = match field {
            Field::Column(column) => return Self::of_column(batch, column.name(), layout),
            Field::Provenance(provenance) => {
                return Self::of_column(batch, provenance.name(), layout);
            }
            Field::Address(role) => {
                let [ipv4, ipv6] = address_columns(role);
                let ipv4 = Self::of_column(batch, ipv4, layout);
                return ipv4.joined(Self::of_column(batch, ipv6, layout));
            }
            Field::SourcePrefixLength | Field::DestinationPrefixLength => {
                let [ipv4, ipv6] = prefix_length_columns(field);
                let ipv4 = Self::of_column(batch, ipv4.name(), layout);
                return ipv4.filled_from(&Self::of_column(batch, ipv6.name(), layout));
            }
            Field::Element(enterprise, id) => {
                let octets = columns::elements(batch, enterprise, id).collect();
                return Self::of_octets(octets);
            }
            Field::Measure(measure) => columns::measure(batch, measure),
            Field::IcmpType | Field::IcmpCode => columns::icmp(batch, field),
        };
        Self {
            values: numbers.values,
            present: numbers.present,
            bits: layout.bits,
            ipv6: None,
            octets: None,
        }
    }

    fn of_octets(octets: Vec<Option<&'a [u8]>>) -> Self {
        Self {
            values: Cow::Owned(Vec::new()),
            present: None,
            bits: 0,
            ipv6: None,
            octets: Some(octets),
        }
    }

    fn of_column(batch: &'a RecordBatch, name: &str, layout: &PartLayout) -> Self {
        let rows = batch.num_rows();
        let column = stored(batch, name);
        let present = match &column {
            Some(column) => column.nulls.map(|nulls| nulls.inner().clone()),
            None => Some(BooleanBuffer::new_unset(rows)),
        };
        let part = |values: Cow<'a, [u64]>, present| Self {
            values,
            present,
            bits: layout.bits,
            ipv6: None,
            octets: None,
        };
        if layout.kind == PartKind::Text {
            let text = |row| match &column {
                Some(StoredColumn { values: Stored::Text(values), .. }) if values.is_valid(row) => {
                    Some(values.value(row).as_bytes())
                }
                _ => None,
            };
            return Self::of_octets((0..rows).map(text).collect());
        }
        if let Some(Stored::Octets16(values)) = column.as_ref().map(|column| column.values) {
            let mask = ipv6_mask(layout.key.ipv6_length);
            let masked = values.iter().map(|&octets| u128::from_be_bytes(octets) & mask);
            let ipv6 = present.unwrap_or_else(|| BooleanBuffer::new_set(rows));
            return Self {
                ipv6: Some((masked.collect(), ipv6)),
                ..part(Cow::Owned(vec![0; rows]), Some(BooleanBuffer::new_unset(rows)))
            };
        }
        let values = columns::numbers(batch, name).values;
        let mask = match layout.kind {
            PartKind::Address => u64::from(ipv4_mask(layout.key.ipv4_length)),
            _ if name == Column::TcpControlBits.name() => u64::from(TcpControlBits::MASK),
            _ => u64::MAX,
        };
        // Most keys are taken as they are.
        if values.iter().all(|value| value & !mask == 0) {
            return part(values, present);
        }
        part(values.iter().map(|value| value & mask).collect(), present)
    }

    /// An address of IPv4, else of IPv6. Where both were sent, the one that is not zero.
    fn joined(mut self, other: Self) -> Self {
        let Some((addresses, mut in_ipv6)) = other.ipv6 else {
            return self;
        };
        if self.present.as_ref().is_none_or(BooleanBuffer::has_true) {
            let is_zero = bits(&self.values, |value| value == 0);
            in_ipv6 = &in_ipv6 & &is_zero;
            let has_ipv4 = self.present.unwrap_or_else(|| BooleanBuffer::new_set(is_zero.len()));
            let nonzero = BooleanBuffer::collect_bool(addresses.len(), |row| addresses[row] != 0);
            in_ipv6 = &in_ipv6 & &(&nonzero | &!&has_ipv4);
            self.present = Some(&has_ipv4 & &!&in_ipv6);
        }
        self.ipv6 = Some((addresses, in_ipv6));
        self
    }

    /// Numbers of the other part where this one has none.
    fn filled_from(mut self, other: &Self) -> Self {
        let rows = self.values.len();
        let there = |present: &Option<BooleanBuffer>| {
            present.clone().unwrap_or_else(|| BooleanBuffer::new_set(rows))
        };
        let (mine, theirs) = (there(&self.present), there(&other.present));
        let filled =
            (0..rows).map(|row| if mine.value(row) { self.values[row] } else { other.values[row] });
        self.values = Cow::Owned(filled.collect());
        self.present = Some(&mine | &theirs);
        self
    }

    fn is_there(&self, row: usize) -> bool {
        self.present.as_ref().is_none_or(|present| present.value(row))
            || self.ipv6.as_ref().is_some_and(|(_, present)| present.value(row))
    }

    /// Of a key that means either side: a side that is absent does not count beside one that is
    /// there, and two equal sides count once.
    pub(super) fn is_skipped(&self, other: &Self, row: usize, side: usize) -> bool {
        match (self.is_there(row), other.is_there(row)) {
            (false, true) => true,
            (true, false) => false,
            _ => side == 1 && self.address_or_number(row) == other.address_or_number(row),
        }
    }

    fn address_or_number(&self, row: usize) -> (Option<u128>, u64) {
        let ipv6 = self.ipv6.as_ref().filter(|(_, present)| present.value(row));
        (ipv6.map(|(addresses, _)| addresses[row]), self.values[row])
    }

    pub(super) fn write(&self, row: usize, key: &mut Vec<u8>) {
        if let Some(octets) = &self.octets {
            match octets.get(row).copied().flatten() {
                Some(octets) => {
                    key.push(tag::OCTETS);
                    let size = u32::try_from(octets.len()).unwrap_or(u32::MAX);
                    key.extend_from_slice(&size.to_be_bytes());
                    key.extend_from_slice(octets);
                }
                None => key.push(tag::ABSENT),
            }
        } else if let Some((addresses, _)) =
            self.ipv6.as_ref().filter(|(_, present)| present.value(row))
        {
            key.push(tag::IPV6);
            key.extend_from_slice(&addresses[row].to_be_bytes());
        } else if self.is_there(row) {
            key.push(tag::NUMBER);
            key.extend_from_slice(&self.values[row].to_be_bytes());
        } else {
            key.push(tag::ABSENT);
        }
    }
}

fn ipv4_mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(length))).unwrap_or(0)
}

fn ipv6_mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128_u32.saturating_sub(u32::from(length))).unwrap_or(0)
}
