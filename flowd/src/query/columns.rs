//! Columns: how the engine reads the fields of a batch. Absent columns read as all null.

use super::field::{AddressRole, Field, Measure};
use crate::archive::schema::{ELEMENTS, schema};
use crate::model::{Column, ie};
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow_schema::{DataType, TimeUnit};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Places in the schema of the columns that a field is made of.
pub(super) fn add_columns(field: Field, columns: &mut BTreeSet<usize>) {
    let mut add = |name: &str| {
        columns.extend(schema().index_of(name).ok());
    };
    let both = |pair: [Column; 2]| pair.map(Column::name);
    match field {
        Field::Column(column) => add(column.name()),
        Field::Provenance(provenance) => add(provenance.name()),
        Field::Element(..) => add(ELEMENTS),
        Field::Address(role) => address_columns(role).into_iter().for_each(add),
        Field::SourcePrefixLength | Field::DestinationPrefixLength => {
            both(prefix_length_columns(field)).into_iter().for_each(add);
        }
        Field::Measure(measure) => {
            for operand in operands(measure) {
                both(operand).into_iter().for_each(&mut add);
            }
        }
        Field::IcmpType | Field::IcmpCode => {
            add(Column::ProtocolIdentifier.name());
            add(Column::IcmpTypeCodeIpv4.name());
            add(Column::IcmpTypeCodeIpv6.name());
        }
    }
}

/// The columns of an address: that of IPv4, that of IPv6.
pub(super) const fn address_columns(role: AddressRole) -> [&'static str; 2] {
    use super::field::Provenance::{ExporterIpv4, ExporterIpv6};
    match role {
        AddressRole::Source => [Column::SourceIpv4Address.name(), Column::SourceIpv6Address.name()],
        AddressRole::Destination => {
            [Column::DestinationIpv4Address.name(), Column::DestinationIpv6Address.name()]
        }
        AddressRole::NextHop => {
            [Column::IpNextHopIpv4Address.name(), Column::IpNextHopIpv6Address.name()]
        }
        AddressRole::Exporter => [ExporterIpv4.name(), ExporterIpv6.name()],
    }
}

/// The columns of a route's prefix length: that of IPv4, that of IPv6.
pub(super) const fn prefix_length_columns(field: Field) -> [Column; 2] {
    if matches!(field, Field::SourcePrefixLength) {
        [Column::SourceIpv4PrefixLength, Column::SourceIpv6PrefixLength]
    } else {
        [Column::DestinationIpv4PrefixLength, Column::DestinationIpv6PrefixLength]
    }
}

const TIMES: [Column; 2] = [Column::FlowStartMilliseconds, Column::FlowEndMilliseconds];

/// The pairs of columns that a measure is computed from.
fn operands(measure: Measure) -> impl Iterator<Item = [Column; 2]> {
    let parts: [&'static [[Column; 2]]; 2] = match measure {
        Measure::Bytes => [&Column::OCTETS, &[]],
        Measure::Packets => [&Column::PACKETS, &[]],
        Measure::Duration => [&[TIMES], &[]],
        Measure::BitsPerSecond => [&Column::OCTETS, &[TIMES]],
        Measure::PacketsPerSecond => [&Column::PACKETS, &[TIMES]],
        Measure::BytesPerPacket => [&Column::OCTETS, &Column::PACKETS],
    };
    parts.into_iter().flatten().copied()
}

/// The values of a column as they are stored.
#[derive(Clone, Copy)]
pub(super) enum Stored<'a> {
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    I64(&'a [i64]),
    Octets6(&'a [[u8; 6]]),
    Octets16(&'a [[u8; 16]]),
    Text(&'a StringArray),
}

/// A column's values and which of them are there.
#[derive(Clone, Copy)]
pub(super) struct StoredColumn<'a> {
    pub(super) values: Stored<'a>,
    pub(super) nulls: Option<&'a NullBuffer>,
}

/// A column of a batch; none if the batch lacks it or all its values are null.
pub(super) fn stored<'a>(batch: &'a RecordBatch, name: &str) -> Option<StoredColumn<'a>> {
    let array = batch.column_by_name(name)?;
    if array.null_count() == array.len() {
        return None;
    }
    let values = match array.data_type() {
        DataType::UInt8 => Stored::U8(array.as_primitive::<UInt8Type>().values()),
        DataType::UInt16 => Stored::U16(array.as_primitive::<UInt16Type>().values()),
        DataType::UInt32 => Stored::U32(array.as_primitive::<UInt32Type>().values()),
        DataType::UInt64 => Stored::U64(array.as_primitive::<UInt64Type>().values()),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Stored::I64(array.as_primitive::<TimestampMillisecondType>().values())
        }
        DataType::FixedSizeBinary(6) => Stored::Octets6(fixed(array.as_fixed_size_binary())),
        DataType::FixedSizeBinary(16) => Stored::Octets16(fixed(array.as_fixed_size_binary())),
        DataType::Utf8 => Stored::Text(array.as_string::<i32>()),
        _ => return None,
    };
    Some(StoredColumn { values, nulls: array.nulls() })
}

fn fixed<const SIZE: usize>(array: &arrow_array::FixedSizeBinaryArray) -> &[[u8; SIZE]] {
    let (values, _) = array.value_data().as_chunks();
    values.get(..array.len()).unwrap_or_default()
}

impl StoredColumn<'_> {
    /// Which rows have a value.
    pub(super) fn present(&self, rows: usize) -> BooleanBuffer {
        self.nulls.map_or_else(|| BooleanBuffer::new_set(rows), |nulls| nulls.inner().clone())
    }

    /// Does this row have a value?
    pub(super) fn is_present(&self, row: usize) -> bool {
        self.nulls.is_none_or(|nulls| nulls.is_valid(row))
    }

    /// The bits of rows that have a value and pass.
    pub(super) fn masked(&self, bits: BooleanBuffer) -> BooleanBuffer {
        match self.nulls {
            Some(nulls) => &bits & nulls.inner(),
            None => bits,
        }
    }
}

/// Which rows of the batch have a value in this column.
pub(super) fn present(batch: &RecordBatch, name: &str) -> BooleanBuffer {
    let rows = batch.num_rows();
    match stored(batch, name) {
        Some(column) => column.present(rows),
        None => BooleanBuffer::new_unset(rows),
    }
}

/// Whole numbers of a field, one a row; a row without one holds zero.
pub(super) struct Numbers<'a> {
    pub(super) values: Cow<'a, [u64]>,
    /// Rows that have one; none means all.
    pub(super) present: Option<BooleanBuffer>,
}

impl<'a> Numbers<'a> {
    /// Numbers of the rows that are present; under the others may lie anything.
    fn new(values: Cow<'a, [u64]>, present: Option<BooleanBuffer>) -> Self {
        Self { values: zeroed(values, present.as_ref()), present }
    }

    fn absent(rows: usize) -> Self {
        Self { values: Cow::Owned(vec![0; rows]), present: Some(BooleanBuffer::new_unset(rows)) }
    }

    pub(super) fn present(&self) -> BooleanBuffer {
        let rows = self.values.len();
        self.present.clone().unwrap_or_else(|| BooleanBuffer::new_set(rows))
    }
}

/// A column of numbers, widened; absent ones are zero.
pub(super) fn column_numbers(batch: &RecordBatch, column: Column) -> Numbers<'_> {
    numbers(batch, column.name())
}

/// A column of numbers by name, widened; absent ones are zero. Times come as their bits, MAC
/// addresses as the number that their octets make.
pub(super) fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Numbers<'a> {
    let rows = batch.num_rows();
    let Some(stored) = stored(batch, name) else {
        return Numbers::absent(rows);
    };
    let values: Cow<'_, [u64]> = match stored.values {
        Stored::U8(values) => widened(values),
        Stored::U16(values) => widened(values),
        Stored::U32(values) => widened(values),
        Stored::U64(values) => Cow::Borrowed(values),
        Stored::I64(values) => values.iter().map(|time| time.cast_unsigned()).collect(),
        Stored::Octets6(values) => values.iter().copied().map(mac_number).collect(),
        Stored::Octets16(_) | Stored::Text(_) => return Numbers::absent(rows),
    };
    Numbers::new(values, stored.nulls.map(|nulls| nulls.inner().clone()))
}

fn mac_number(mac: [u8; 6]) -> u64 {
    mac.iter().fold(0, |all, &octet| all << 8 | u64::from(octet))
}

fn widened<T: Copy + Into<u64>>(values: &[T]) -> Cow<'static, [u64]> {
    Cow::Owned(values.iter().map(|&value| value.into()).collect())
}

/// What lies under an absent value is anything; here it becomes zero.
fn zeroed<'a>(mut values: Cow<'a, [u64]>, present: Option<&BooleanBuffer>) -> Cow<'a, [u64]> {
    if let Some(present) = present {
        for row in (!present).set_indices() {
            if values.get(row).is_some_and(|&value| value != 0) {
                values.to_mut()[row] = 0;
            }
        }
    }
    values
}

/// A column of times; absent ones are `absent`.
pub(super) fn times<'a>(batch: &'a RecordBatch, column: Column, absent: i64) -> Cow<'a, [i64]> {
    match stored(batch, column.name()) {
        Some(StoredColumn { values: Stored::I64(values), nulls }) => match nulls {
            None => Cow::Borrowed(values),
            Some(nulls) => {
                let rows = values.iter().zip(nulls.iter());
                Cow::Owned(
                    rows.map(|(&time, is_there)| if is_there { time } else { absent }).collect(),
                )
            }
        },
        _ => Cow::Owned(vec![absent; batch.num_rows()]),
    }
}

/// The sum of the forward and the reverse counter; there if either is.
fn both_directions<'a>(batch: &'a RecordBatch, [forward, reverse]: [Column; 2]) -> Numbers<'a> {
    if stored(batch, reverse.name()).is_none() {
        return column_numbers(batch, forward);
    }
    let (forward, reverse) = (column_numbers(batch, forward), column_numbers(batch, reverse));
    let present = match (&forward.present, &reverse.present) {
        (Some(forward), Some(reverse)) => Some(forward | reverse),
        _ => None,
    };
    let pairs = forward.values.iter().zip(reverse.values.iter());
    Numbers { values: pairs.map(|(a, b)| a.saturating_add(*b)).collect(), present }
}

/// The first of these pairs that a record has one of, summed.
fn volume<'a>(batch: &'a RecordBatch, [first, others @ ..]: [[Column; 2]; 3]) -> Numbers<'a> {
    let mut numbers = both_directions(batch, first);
    for pair in others {
        let is_stored = pair.iter().any(|column| stored(batch, column.name()).is_some());
        let Some(present) = numbers.present.as_ref().filter(|_| is_stored) else {
            continue;
        };
        // Absent ones are zero, on either side.
        let other = both_directions(batch, pair);
        let mut values = numbers.values.into_owned();
        for row in (!present).set_indices() {
            values[row] = other.values[row];
        }
        numbers = Numbers { values: Cow::Owned(values), present: Some(present | &other.present()) };
    }
    numbers
}

/// The numbers of a measure. A rate over no time is zero, as in nfdump.
pub(super) fn measure<'a>(batch: &'a RecordBatch, measure: Measure) -> Numbers<'a> {
    match measure {
        Measure::Bytes => volume(batch, Column::OCTETS),
        Measure::Packets => volume(batch, Column::PACKETS),
        Measure::Duration => duration(batch),
        Measure::BitsPerSecond => quotient(&volume(batch, Column::OCTETS), 8_000, &duration(batch)),
        Measure::PacketsPerSecond => {
            quotient(&volume(batch, Column::PACKETS), 1_000, &duration(batch))
        }
        Measure::BytesPerPacket => {
            quotient(&volume(batch, Column::OCTETS), 1, &volume(batch, Column::PACKETS))
        }
    }
}

fn duration(batch: &RecordBatch) -> Numbers<'static> {
    let [start, end] = TIMES;
    let starts = times(batch, start, 0);
    let ends = times(batch, end, 0);
    let pairs = starts.iter().zip(ends.iter());
    let values = pairs.map(|(&start, &end)| millis_between(start, end));
    let present = &present(batch, start.name()) & &present(batch, end.name());
    Numbers::new(values.collect(), Some(present))
}

/// Milliseconds from the first packet to the last; zero where the clock ran backwards.
pub(super) fn millis_between(start: i64, end: i64) -> u64 {
    if end > start { end.abs_diff(start) } else { 0 }
}

/// `amount * factor / divisor`, floored; zero where the divisor is.
pub(super) fn rate(amount: u64, factor: u64, divisor: u64) -> u64 {
    let product = u128::from(amount) * u128::from(factor);
    let quotient = product.checked_div(u128::from(divisor)).unwrap_or(0);
    u64::try_from(quotient).unwrap_or(u64::MAX)
}

fn quotient(amounts: &Numbers<'_>, factor: u64, divisors: &Numbers<'_>) -> Numbers<'static> {
    let pairs = amounts.values.iter().zip(divisors.values.iter());
    let values = pairs.map(|(&amount, &divisor)| rate(amount, factor, divisor));
    let present = &amounts.present() & &divisors.present();
    Numbers::new(values.collect(), Some(present))
}

/// Type or code of ICMP messages: only records that are ICMP have one, in the element of their
/// family or, for ICMPv6 from old exporters, in that of IPv4.
pub(super) fn icmp<'a>(batch: &'a RecordBatch, field: Field) -> Numbers<'a> {
    let protocols = column_numbers(batch, Column::ProtocolIdentifier);
    let ipv4 = column_numbers(batch, Column::IcmpTypeCodeIpv4);
    let ipv6 = column_numbers(batch, Column::IcmpTypeCodeIpv6);
    let (has_ipv4, has_ipv6) = (ipv4.present(), ipv6.present());
    let mut values = vec![0; batch.num_rows()];
    for (row, value) in values.iter_mut().enumerate() {
        let is_ipv6 = protocols.values[row] == 58 && has_ipv6.value(row);
        let both = if is_ipv6 { ipv6.values[row] } else { ipv4.values[row] };
        *value = if field == Field::IcmpType { both >> 8 } else { both & 0xff };
    }
    let is_ipv4 = bits(&protocols.values, |protocol| protocol == 1);
    let is_ipv6 = bits(&protocols.values, |protocol| protocol == 58);
    let present = &(&is_ipv4 & &has_ipv4) | &(&is_ipv6 & &(&has_ipv4 | &has_ipv6));
    Numbers::new(Cow::Owned(values), Some(present))
}

/// The octets of an element without a column, of each row that has it.
pub(super) fn elements(
    batch: &RecordBatch,
    enterprise: u32,
    id: u16,
) -> impl Iterator<Item = Option<&[u8]>> {
    let map = batch.column_by_name(ELEMENTS).and_then(|array| array.as_map_opt());
    let name = ie::stored_name(enterprise, id);
    // A store that was written before the element had a name keeps it under its number.
    let number = format!("{enterprise}:{id}");
    (0..batch.num_rows()).map(move |row| {
        let map = map.filter(|map| map.is_valid(row))?;
        let offsets = map.value_offsets();
        let (start, end) = (*offsets.get(row)?, *offsets.get(row + 1)?);
        let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        let keys = map.keys().as_string_opt::<i32>()?;
        let values = map.values().as_binary_opt::<i32>()?;
        let mut entries = start..end;
        let entry = entries.find(|&entry| [name.as_str(), &number].contains(&keys.value(entry)))?;
        values.is_valid(entry).then(|| values.value(entry))
    })
}

/// A bit a value: does it pass? Sixty-four at a time, so that the compiler can use vectors.
pub(super) fn bits<T: Copy>(values: &[T], passes: impl Fn(T) -> bool) -> BooleanBuffer {
    let words: Vec<u64> = values
        .chunks(64)
        .map(|chunk| {
            let word = chunk
                .iter()
                .enumerate()
                .fold(0, |word, (bit, &value)| word | u64::from(passes(value)) << bit);
            // Bitmaps are little-endian whatever the machine is.
            word.to_le()
        })
        .collect();
    BooleanBuffer::new(Buffer::from_vec(words), 0, values.len())
}
