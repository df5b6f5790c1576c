//! For tests: records in memory as a source, and records made at random.

use super::coverage::Coverage;
use super::source::{Source, SourceError};
use crate::archive::schema::{ELEMENTS, entries_field, schema};
use crate::model::{
    Column, ColumnKind, ColumnMut, Extra, ExtraSpec, FlowBatch, FlowRecord, ObservationDomainId,
    Origin, Protocol, Shape, Value, ie,
};
use arrow_array::types::{
    ArrowPrimitiveType, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, FixedSizeBinaryArray, MapArray, PrimitiveArray, RecordBatch,
    StringArray, StructArray,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

/// A record with who sent it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) record: FlowRecord,
    pub(crate) origin: Origin,
}

/// Records in parts; the first part is the newest.
pub(super) struct MemorySource {
    parts: Vec<(RecordBatch, Option<(i64, i64)>)>,
    pub(super) coverage: Coverage,
}

impl MemorySource {
    pub(super) fn new(records: &[Stored], part_rows: usize) -> Self {
        let part = |records: &[Stored]| (batch(records), time_range(records));
        Self { parts: records.chunks(part_rows).map(part).collect(), coverage: Coverage::default() }
    }
}

impl Source for MemorySource {
    fn part_count(&self) -> usize {
        self.parts.len()
    }

    fn part_rows(&self, part: usize) -> usize {
        self.parts[part].0.num_rows()
    }

    fn part_time_range(&self, part: usize) -> Option<(i64, i64)> {
        self.parts[part].1
    }

    /// Leaves out columns that no record has, as sources may.
    fn read(&self, part: usize, columns: &[usize]) -> Result<RecordBatch, SourceError> {
        let batch = &self.parts[part].0;
        let is_there = |&&column: &&usize| {
            let array = batch.column(column);
            array.null_count() < array.len()
        };
        let columns: Vec<usize> = columns.iter().filter(is_there).copied().collect();
        Ok(batch.project(&columns)?)
    }

    fn coverage(&self) -> Coverage {
        self.coverage.clone()
    }
}

/// Bounds of the records' times; none if one of them has no time at all.
fn time_range(records: &[Stored]) -> Option<(i64, i64)> {
    let times = records.iter().map(|Stored { record, .. }| {
        let (start, end) = times(record)?;
        Some((start.min(end), start.max(end)))
    });
    times.reduce(|all, next| {
        let ((first, last), (start, end)) = (all?, next?);
        Some((first.min(start), last.max(end)))
    })?
}

/// First and last time of a record, wherever it has them from.
pub(super) fn times(record: &FlowRecord) -> Option<(i64, i64)> {
    let time = |column| match record.value(column) {
        Some(Value::Millis(millis)) => Some(millis),
        _ => None,
    };
    let (start, end) = (time(Column::FlowStartMilliseconds), time(Column::FlowEndMilliseconds));
    let collected = time(Column::CollectionTimeMilliseconds);
    Some((start.or(end).or(collected)?, end.or(start).or(collected)?))
}

/// Records as a batch of the archive's schema. Under what is absent lies rubbish.
pub(super) fn batch(records: &[Stored]) -> RecordBatch {
    let mut arrays: Vec<ArrayRef> = Column::ALL.iter().map(|&it| column(records, it)).collect();
    arrays.push(numbers::<UInt32Type>(records, |it| match it.origin.address {
        IpAddr::V4(address) => Some(address.to_bits()),
        IpAddr::V6(_) => None,
    }));
    arrays.push(fixed(records, |it| match it.origin.address {
        IpAddr::V6(address) => Some(address.octets()),
        IpAddr::V4(_) => None,
    }));
    arrays.push(numbers::<UInt32Type>(records, |it| Some(it.origin.domain.0)));
    let protocols = records.iter().map(|it| Some(it.origin.protocol.name()));
    arrays.push(Arc::new(protocols.collect::<StringArray>()));
    arrays.push(elements(records));
    RecordBatch::try_new(Arc::clone(schema()), arrays).unwrap()
}

fn column(records: &[Stored], column: Column) -> ArrayRef {
    let number = |it: &Stored| match it.record.value(column)? {
        Value::Unsigned(number) => Some(number),
        Value::Address(IpAddr::V4(address)) => Some(u64::from(address.to_bits())),
        Value::Millis(millis) => Some(millis.cast_unsigned()),
        _ => None,
    };
    match column.kind() {
        ColumnKind::U8 => numbers::<UInt8Type>(records, |it| Some(number(it)?.try_into().unwrap())),
        ColumnKind::U16 => {
            numbers::<UInt16Type>(records, |it| Some(number(it)?.try_into().unwrap()))
        }
        ColumnKind::U32 | ColumnKind::Ipv4 => {
            numbers::<UInt32Type>(records, |it| Some(number(it)?.try_into().unwrap()))
        }
        ColumnKind::U64 => numbers::<UInt64Type>(records, number),
        ColumnKind::Millis => {
            let times =
                numbers::<TimestampMillisecondType>(records, |it| Some(number(it)?.cast_signed()));
            let times = times.as_any().downcast_ref::<PrimitiveArray<TimestampMillisecondType>>();
            Arc::new(times.unwrap().clone().with_timezone("UTC"))
        }
        ColumnKind::Mac => fixed(records, |it| match it.record.value(column)? {
            Value::Mac(mac) => Some(mac),
            _ => None,
        }),
        ColumnKind::Ipv6 => fixed(records, |it| match it.record.value(column)? {
            Value::Address(IpAddr::V6(address)) => Some(address.octets()),
            _ => None,
        }),
    }
}

fn nulls<T>(values: &[Option<T>]) -> Option<NullBuffer> {
    let nulls: NullBuffer = values.iter().map(Option::is_some).collect();
    (nulls.null_count() > 0).then_some(nulls)
}

fn numbers<T: ArrowPrimitiveType>(
    records: &[Stored],
    value: impl Fn(&Stored) -> Option<T::Native>,
) -> ArrayRef
where
    T::Native: From<u8>,
{
    let values: Vec<Option<T::Native>> = records.iter().map(value).collect();
    let filled: Vec<T::Native> = values.iter().map(|it| it.unwrap_or_else(|| 6.into())).collect();
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(filled), nulls(&values)))
}

fn fixed<const SIZE: usize>(
    records: &[Stored],
    value: impl Fn(&Stored) -> Option<[u8; SIZE]>,
) -> ArrayRef {
    let values: Vec<Option<[u8; SIZE]>> = records.iter().map(value).collect();
    let filled: Vec<u8> = values.iter().flat_map(|it| it.unwrap_or([1; SIZE])).collect();
    let size = i32::try_from(SIZE).unwrap();
    Arc::new(FixedSizeBinaryArray::new(size, Buffer::from_vec(filled), nulls(&values)))
}

fn elements(records: &[Stored]) -> ArrayRef {
    let extras = records.iter().flat_map(|it| &it.record.extras);
    let keys =
        extras.clone().map(|extra| Some(ie::display_name(extra.spec.enterprise, extra.spec.id)));
    let values = extras.map(|extra| Some(extra.value.as_slice()));
    let entries = StructArray::try_new(
        match entries_field().data_type() {
            arrow_schema::DataType::Struct(fields) => fields.clone(),
            other => panic!("{other}"),
        },
        vec![Arc::new(keys.collect::<StringArray>()), Arc::new(values.collect::<BinaryArray>())],
        None,
    );
    let offsets = OffsetBuffer::from_lengths(records.iter().map(|it| it.record.extras.len()));
    let has_any: Vec<Option<()>> =
        records.iter().map(|it| (!it.record.extras.is_empty()).then_some(())).collect();
    let map = MapArray::new(entries_field(), offsets, entries.unwrap(), nulls(&has_any), false);
    assert_eq!(schema().field_with_name(ELEMENTS).unwrap().data_type(), map.data_type());
    Arc::new(map)
}

/// The exporter of records whose sender does not matter.
pub(super) fn origin() -> Origin {
    Origin {
        address: "192.0.2.9".parse().unwrap(),
        domain: ObservationDomainId(7),
        protocol: Protocol::NetflowV9,
    }
}

/// Records of a small world, in which any column may be absent.
pub(crate) fn records() -> impl Strategy<Value = Stored> {
    let counts = (
        vec(any::<bool>(), Column::ALL.len()),
        vec(0_u64..5_000, Column::ALL.len()),
        any::<[bool; 4]>(),
    );
    let addresses = (
        super::filter::addresses(),
        super::filter::addresses(),
        super::filter::addresses(),
        super::filter::addresses(),
    );
    let extra = proptest::option::of((select(vec![9_u16, 7]), vec(0_u8..3, 0..4)));
    let origin = (select(vec![Protocol::NetflowV9, Protocol::Ipfix]), 0_u32..3);
    (counts, addresses, extra, origin).prop_map(
        |((present, numbers, often), addresses, extra, origin)| {
            let (source, destination, next_hop, exporter) = addresses;
            let is_address =
                |column: Column| matches!(column.kind(), ColumnKind::Ipv4 | ColumnKind::Ipv6);
            let mut values: Vec<(Column, u64)> = Column::ALL
                .iter()
                .enumerate()
                .filter(|&(index, &column)| present[index] && !is_address(column))
                .map(|(index, &column)| (column, numbers[index]))
                .collect();
            if often[2] {
                values.retain(|(column, _)| *column != Column::ProtocolIdentifier);
                let protocol = [1, 6, 17, 58][usize::try_from(numbers[0] % 4).unwrap()];
                values.push((Column::ProtocolIdentifier, protocol));
            }
            let mut record = record_of(&values);
            // What filters mostly ask for is mostly there.
            if often[0] {
                record.set_source_address(source);
            }
            if often[1] {
                record.set_destination_address(destination);
            }
            if let (IpAddr::V6(address), true) = (next_hop, often[3]) {
                record.ip_next_hop_ipv6_address = address.octets();
                record.present.insert(Column::IpNextHopIpv6Address);
            }
            record.extras.extend(extra.map(|(id, value)| Extra {
                spec: ExtraSpec {
                    enterprise: 424_242,
                    id,
                    length: u16::try_from(value.len()).unwrap(),
                },
                value,
            }));
            Stored {
                record,
                origin: Origin {
                    address: exporter,
                    domain: ObservationDomainId(origin.1),
                    protocol: origin.0,
                },
            }
        },
    )
}

thread_local! {
    /// Making a batch costs more than making a record.
    static BATCH: RefCell<FlowBatch> = RefCell::new(FlowBatch::new());
}

/// A record that has these columns, each made from a number; addresses as given by `Ipv4Addr`'s
/// or `Ipv6Addr`'s numbers.
pub(super) fn record_of(values: &[(Column, u64)]) -> FlowRecord {
    BATCH.with_borrow_mut(|batch| {
        batch.clear();
        let shape = Arc::new(Shape {
            columns: values.iter().map(|(column, _)| *column).collect(),
            ..Shape::default()
        });
        batch.append_rows(&shape, &Arc::new(origin()), 1);
        for &(column, number) in values {
            let [.., first, second] = number.to_be_bytes();
            match batch.column_mut(column) {
                ColumnMut::U8(values) => values[0] = second,
                ColumnMut::U16(values) => values[0] = u16::from_be_bytes([first, second]),
                ColumnMut::U32(values) => values[0] = u32::try_from(number).unwrap(),
                ColumnMut::U64(values) => values[0] = number,
                ColumnMut::I64(values) => values[0] = number.cast_signed(),
                ColumnMut::Octets6(values) => values[0] = [second % 2, 0, 0, 0, 0, second % 4],
                ColumnMut::Octets16(values) => values[0] = u128::from(number).to_be_bytes(),
            }
        }
        batch.record(0).unwrap()
    })
}
