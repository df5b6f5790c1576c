//! Tests of columns and segments: what is read is what was appended.

use super::columns::{block_batch, block_rows};
use super::elements::element_names;
use super::schema::{
    ELEMENTS, EXPORT_PROTOCOL, EXPORTER_IPV4, EXPORTER_IPV6, OBSERVATION_DOMAIN, SegmentColumns,
    schema,
};
use super::segment::SegmentReader;
use super::times::{FlowSpan, block_time_range};
use super::writer::{SegmentConfig, SegmentWriter};
use crate::model::{Column, ColumnMut, ColumnSet, FlowBatch, FlowRecord, RecordType, Shape, Value};
use crate::ring::sample::{NOW, Sent, Source, sent_records, v4_shape};
use crate::ring::{Block, NumberFloors, Ring, RingConfig, StoreLock};
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{DataType, Schema};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use proptest::prelude::*;
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

fn all_columns() -> Vec<usize> {
    (0..schema().fields().len()).collect()
}

fn ring(path: &Path) -> Arc<Ring> {
    let config = RingConfig { block_rows: 256, stripe_rows: 32, ..RingConfig::default() };
    let lock = StoreLock::acquire(path).unwrap();
    Ring::open(lock, config, NumberFloors::default()).unwrap().0
}

/// Appends batches, and returns the sealed blocks with the records they must hold.
fn blocks_of(batches: &[FlowBatch]) -> Vec<(Arc<Block>, Vec<Sent>)> {
    let dir = tempfile::tempdir().unwrap();
    let ring = ring(dir.path());
    let mut writer = ring.writer(0, NOW).unwrap();
    for batch in batches {
        assert_eq!(writer.append(batch).rows, batch.len() as u64);
    }
    writer.seal_all().unwrap();
    let blocks = ring.store().block_files().unwrap().into_iter();
    let blocks = blocks.map(|(_, path)| Arc::new(Block::open(&path).unwrap()));
    let with_records = blocks.map(|block| {
        let mut copy = FlowBatch::new();
        assert_eq!(block.copy_to(0..block.rows(), &mut copy), block.rows());
        (block, sent_records(&copy))
    });
    with_records.collect()
}

/// Compares every value of a batch with the records it was made of.
fn assert_holds(batch: &RecordBatch, records: &[Sent]) {
    assert_eq!(batch.num_rows(), records.len());
    for (row, Sent { origin, record }) in records.iter().enumerate() {
        for &column in Column::ALL {
            let array = batch.column_by_name(column.name()).unwrap();
            let (found, expected) = (value(array, row), record.value(column).map(number));
            assert_eq!(found, expected, "{} of row {row}", column.name());
        }
        let of = |name| value(batch.column_by_name(name).unwrap(), row);
        let (ipv4, ipv6) = match origin.address {
            IpAddr::V4(address) => (Some(vec![u64::from(address.to_bits())]), None),
            IpAddr::V6(address) => (None, Some(octets(&address.octets()))),
        };
        assert_eq!((of(EXPORTER_IPV4), of(EXPORTER_IPV6)), (ipv4, ipv6));
        assert_eq!(of(OBSERVATION_DOMAIN), Some(vec![u64::from(origin.domain.0)]));
        let protocol = batch.column_by_name(EXPORT_PROTOCOL).unwrap();
        assert_eq!(protocol.as_string::<i32>().value(row), origin.protocol.name());
        assert_eq!(elements_of(batch, row), expected_elements(record), "row {row}");
    }
}

fn octets(octets: &[u8]) -> Vec<u64> {
    octets.iter().map(|&octet| octet.into()).collect()
}

fn number(value: Value<'_>) -> Vec<u64> {
    match value {
        Value::Unsigned(number) => vec![number],
        Value::Millis(millis) => vec![millis.cast_unsigned()],
        Value::Address(IpAddr::V4(address)) => vec![address.to_bits().into()],
        Value::Address(IpAddr::V6(address)) => octets(&address.octets()),
        Value::Mac(mac) => octets(&mac),
        other => panic!("no column holds {other:?}"),
    }
}

fn value(array: &ArrayRef, row: usize) -> Option<Vec<u64>> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::UInt8 => vec![array.as_primitive::<UInt8Type>().value(row).into()],
        DataType::UInt16 => vec![array.as_primitive::<UInt16Type>().value(row).into()],
        DataType::UInt32 => vec![array.as_primitive::<UInt32Type>().value(row).into()],
        DataType::UInt64 => vec![array.as_primitive::<UInt64Type>().value(row)],
        DataType::Timestamp(..) => {
            let times = array.as_primitive::<TimestampMillisecondType>();
            vec![times.value(row).cast_unsigned()]
        }
        DataType::FixedSizeBinary(_) => octets(array.as_fixed_size_binary().value(row)),
        other => panic!("no column is {other}"),
    })
}

fn elements_of(batch: &RecordBatch, row: usize) -> Option<Vec<(String, Vec<u8>)>> {
    let maps = batch.column_by_name(ELEMENTS).unwrap().as_map();
    if maps.is_null(row) {
        return None;
    }
    let entries = maps.value(row);
    let keys = entries.column(0).as_string::<i32>();
    let values = entries.column(1).as_binary::<i32>();
    let pairs = (0..entries.len()).map(|i| (keys.value(i).to_owned(), values.value(i).to_vec()));
    Some(pairs.collect())
}

fn expected_elements(record: &FlowRecord) -> Option<Vec<(String, Vec<u8>)>> {
    let names = element_names(&FlowBatch::shape_of(record)).into_iter();
    let pairs = names.zip(record.extras.iter().map(|extra| extra.value.clone()));
    (!record.extras.is_empty()).then(|| pairs.collect())
}

fn segment_of(dir: &Path, blocks: &[&Arc<Block>], row_group_rows: usize) -> SegmentReader {
    let config = SegmentConfig { row_group_rows, ..SegmentConfig::default() };
    let record_type = blocks[0].id().lane.record_type();
    let dir = &dir.join("archive");
    let owned: Vec<_> = blocks.iter().map(|&block| Arc::clone(block)).collect();
    let columns = SegmentColumns::of_blocks(&owned);
    let mut writer =
        SegmentWriter::create(dir, 3, record_type, blocks[0].hour(), columns, config).unwrap();
    for block in blocks {
        writer.write(block).unwrap();
    }
    SegmentReader::new(dir, writer.finish().unwrap())
}

/// Everything that a row holds.
type Row = (Vec<Option<Vec<u64>>>, String, Option<Vec<(String, Vec<u8>)>>);

/// The rows of a batch of all columns in an order of their own: a segment has them in another
/// order than its blocks.
fn sorted_rows(batch: &RecordBatch) -> Vec<Row> {
    let rows = (0..batch.num_rows()).map(|row| {
        let fixed = batch.columns().iter().zip(schema().fields());
        let fixed =
            fixed.filter(|(_, field)| ![EXPORT_PROTOCOL, ELEMENTS].contains(&&**field.name()));
        let values = fixed.map(|(array, _)| value(array, row)).collect();
        let protocol = batch.column_by_name(EXPORT_PROTOCOL).unwrap();
        let protocol = protocol.as_string::<i32>().value(row).to_owned();
        (values, protocol, elements_of(batch, row))
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    rows
}

/// Checks that no flow of a row group starts before the group's times, as they were when its
/// rows lay in another order.
fn assert_times_hold(segment: &SegmentReader) {
    let column = Column::FlowStartMilliseconds.index();
    for group in 0..segment.row_group_count() {
        let batch = segment.read(group, &[column]).unwrap();
        let starts = batch.column(0).as_primitive::<TimestampMillisecondType>();
        if let Some((first, _)) = segment.row_group_time_range(group) {
            assert!(starts.iter().flatten().all(|start| start >= first));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn selected_rows_are_those_of_the_whole_row_group(
        seed: u64, runs in 1usize..10, picks in proptest::collection::vec(any::<bool>(), 1..40),
    ) {
        let blocks = blocks_of(&[Source(seed).batch(runs, 200)]);
        let dir = tempfile::tempdir().unwrap();
        let segment = segment_of(dir.path(), &[&blocks[0].0], 100);
        for group in 0..segment.row_group_count() {
            let count = segment.row_group_rows(group);
            let rows: BooleanBuffer = (0..count).map(|row| picks[row % picks.len()]).collect();
            let whole = segment.read(group, &all_columns()).unwrap();
            let expected = filter_record_batch(&whole, &rows.clone().into()).unwrap();
            prop_assert_eq!(segment.read_rows(group, &all_columns(), &rows).unwrap(), expected);
            prop_assert_eq!(
                segment.read_rows(group, &[], &rows).unwrap().num_rows(),
                rows.count_set_bits()
            );
        }
        let other = BooleanBuffer::new_set(segment.row_group_rows(0) + 1);
        prop_assert!(segment.read_rows(0, &[0], &other).is_err());
        let block = &blocks[0].0;
        let rows: BooleanBuffer = (0..block.rows()).map(|row| picks[row % picks.len()]).collect();
        let whole = block_batch(block, 0..block.rows(), &all_columns()).unwrap();
        let expected = filter_record_batch(&whole, &rows.clone().into()).unwrap();
        prop_assert_eq!(block_rows(block, &all_columns(), &rows).unwrap(), expected);
    }

    #[test]
    fn a_changed_octet_is_an_error_that_names_the_segment_or_changes_no_row(
        seed: u64, hits in proptest::collection::vec((any::<usize>(), 1u8..), 1..30),
    ) {
        let blocks = blocks_of(&[Source(seed).batch(12, 200)]);
        let dir = tempfile::tempdir().unwrap();
        let whole = segment_of(dir.path(), &[&blocks[0].0], 100);
        let groups = 0..whole.row_group_count();
        let read: Vec<_> =
            groups.clone().map(|group| whole.read(group, &all_columns()).unwrap()).collect();
        let intact = std::fs::read(whole.path()).unwrap();
        for (place, flip) in hits {
            let mut bytes = intact.clone();
            let place = place % bytes.len();
            bytes[place] ^= flip;
            std::fs::write(whole.path(), &bytes).unwrap();
            let reader = SegmentReader::new(dir.path(), whole.entry().clone());
            let mut errors = 0;
            for group in groups.clone() {
                let rows = BooleanBuffer::new_set(reader.row_group_rows(group));
                for again in [
                    reader.read(group, &all_columns()),
                    reader.read_rows(group, &all_columns(), &rows),
                ] {
                    match again {
                        Ok(batch) => assert_eq!(batch, read[group]),
                        Err(error) => {
                            errors += 1;
                            let error = error.to_string();
                            assert!(error.contains("00000003.parquet"), "{error}");
                        }
                    }
                }
            }
            // All of the file is read by somebody.
            assert!(errors > 0, "octet {place} of {} is in no checksum", intact.len());
        }
    }

    #[test]
    fn batches_and_segments_hold_what_was_appended(
        seed: u64, runs in 1usize..10, run_rows_max in 1usize..300, row_group_rows in 1usize..500,
    ) {
        let blocks = blocks_of(&[Source(seed).batch(runs, run_rows_max)]);
        let mut batches = Vec::new();
        for (block, records) in &blocks {
            let batch = block_batch(block, 0..block.rows(), &all_columns()).unwrap();
            assert_holds(&batch, records);
            let middle = records.len() / 3..records.len() - records.len() / 3;
            let part = block_batch(block, middle.clone(), &all_columns()).unwrap();
            assert_holds(&part, &records[middle]);
            batches.push(batch);
        }
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<_> = blocks.iter().map(|(block, _)| block).collect();
        let segment = segment_of(dir.path(), &all, row_group_rows);
        let groups = (0..segment.row_group_count()).map(|group| {
            let batch = segment.read(group, &all_columns()).unwrap();
            assert_eq!(batch.num_rows(), segment.row_group_rows(group));
            batch
        });
        let groups: Vec<_> = groups.collect();
        prop_assert!(groups[..groups.len() - 1].iter().all(|group| group.num_rows() == row_group_rows));
        let read = concat_batches(schema(), &groups).unwrap();
        let appended = concat_batches(schema(), &batches).unwrap();
        prop_assert_eq!(sorted_rows(&read), sorted_rows(&appended));
        assert_times_hold(&segment);
    }
}

#[test]
fn columns_without_a_value_are_not_in_the_file() {
    let (mut source, mut batch) = (Source(12), FlowBatch::new());
    let origin = source.origin();
    source.fill(&mut batch, &v4_shape(), &origin, 100, NOW.0);
    let blocks = blocks_of(&[batch]);
    let dir = tempfile::tempdir().unwrap();
    let segment = segment_of(dir.path(), &[&blocks[0].0], 1_000);
    let bytes = segment.column_bytes().unwrap();
    let names: Vec<&str> = bytes.iter().map(|(name, _)| name.as_str()).collect();
    let mut expected: Vec<&str> = v4_shape().columns.iter().map(Column::name).collect();
    expected.push(if origin.address.is_ipv4() { EXPORTER_IPV4 } else { EXPORTER_IPV6 });
    expected.extend([OBSERVATION_DOMAIN, EXPORT_PROTOCOL]);
    assert_eq!(names, expected);
    assert!(bytes.iter().all(|(_, bytes)| *bytes > 0));
    let vlan = Column::VlanId.index();
    assert_eq!(segment.read(0, &[vlan]).unwrap().column(0).null_count(), 100);
}

#[test]
fn alike_rows_follow_one_another_in_the_order_of_receipt() {
    let (shape, origin) = (v4_shape(), Source(1).origin());
    let mut batch = FlowBatch::new();
    for row in batch.append_rows(&shape, &origin, 100) {
        if let ColumnMut::U32(values) = batch.column_mut(Column::IngressInterface) {
            values[row] = u32::try_from(row % 3).unwrap();
        }
        if let ColumnMut::U64(values) = batch.column_mut(Column::OctetDeltaCount) {
            values[row] = row as u64;
        }
    }
    let blocks = blocks_of(&[batch]);
    let dir = tempfile::tempdir().unwrap();
    let segment = segment_of(dir.path(), &[&blocks[0].0], 1_000);
    let read = segment.read(0, &[Column::OctetDeltaCount.index()]).unwrap();
    let read = read.column(0).as_primitive::<UInt64Type>().values().to_vec();
    let expected: Vec<u64> = (0..3).flat_map(|first| (first..100).step_by(3)).collect();
    assert_eq!(read, expected);
}

#[test]
fn columns_are_read_in_the_order_asked_for() {
    let blocks = blocks_of(&[Source(5).batch(6, 100)]);
    let (block, _) = &blocks[0];
    let dir = tempfile::tempdir().unwrap();
    let segment = segment_of(dir.path(), &[block], 1_000);
    for columns in [vec![44, 3, 45, 0, Column::COUNT], vec![Column::VlanId.index()], Vec::new()] {
        let from_block = block_batch(block, 0..block.rows(), &columns).unwrap();
        let from_segment = segment.read(0, &columns).unwrap();
        assert_eq!(from_block.num_rows(), block.rows());
        assert_eq!(from_block.schema(), from_segment.schema());
        assert_eq!(from_block.num_rows(), from_segment.num_rows());
        let names = from_block.schema();
        let names: Vec<_> = names.fields().iter().map(|field| field.name()).collect();
        let expected: Vec<_> =
            columns.iter().map(|&column| schema().field(column).name()).collect();
        assert_eq!(names, expected);
    }
    let beyond = schema().fields().len();
    assert!(block_batch(block, 0..1, &[beyond]).is_err());
    assert!(segment.read(0, &[beyond]).is_err());
    assert!(segment.read(1, &[0]).is_err());
}

#[test]
fn columns_of_fixed_width_are_not_copied() {
    let mut batch = FlowBatch::new();
    let mut source = Source(6);
    let origin = source.origin();
    source.fill(&mut batch, &v4_shape(), &origin, 100, NOW.0);
    let blocks = blocks_of(&[batch]);
    let (block, _) = &blocks[0];
    let index = Column::OctetDeltaCount.index();
    let batch = block_batch(block, 10..50, &[index]).unwrap();
    let values = batch.column(0).as_primitive::<UInt64Type>().values();
    let stored = block.column(Column::OctetDeltaCount).unwrap().bytes(10..50);
    assert_eq!(values.inner().as_ptr(), stored.as_ptr());
    assert_eq!(batch.column(0).nulls(), None);
    // The batch keeps the block's memory, though its file and its last reader are gone.
    let expected = values.to_vec();
    drop(blocks);
    assert_eq!(batch.column(0).as_primitive::<UInt64Type>().values().to_vec(), expected);
}

#[test]
fn a_segment_is_what_its_entry_says() {
    let blocks = blocks_of(&[Source(7).batch(10, 200)]);
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<_> = blocks.iter().map(|(block, _)| block).collect();
    let segment = segment_of(dir.path(), &all, 128);
    let entry = segment.entry();
    let bytes = std::fs::read(segment.path()).unwrap();
    assert_eq!(entry.bytes, bytes.len() as u64);
    assert_eq!(entry.sha256, super::manifest::sha256_hex(&bytes));
    let rows: usize = all.iter().map(|block| block.rows()).sum();
    assert_eq!(entry.rows, rows as u64);
    assert_eq!(entry.row_groups.iter().map(|group| group.rows).sum::<usize>(), rows);
    let covered: u64 = entry.covered.iter().map(|c| c.last - c.first + 1).sum();
    assert_eq!(covered, all.len() as u64);
    // One file, and no other name left beside it.
    let directory = segment.path().parent().unwrap();
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 1);
}

fn timed(start: Option<i64>, end: Option<i64>, received: Option<i64>) -> FlowBatch {
    use Column::{CollectionTimeMilliseconds, FlowEndMilliseconds, FlowStartMilliseconds};
    let times = [
        (FlowStartMilliseconds, start),
        (FlowEndMilliseconds, end),
        (CollectionTimeMilliseconds, received),
    ];
    let present = times.iter().filter(|(_, time)| time.is_some());
    let shape = Arc::new(Shape {
        record_type: RecordType::Flow,
        columns: present.map(|(column, _)| *column).collect(),
        extras: Vec::new(),
    });
    let mut batch = FlowBatch::new();
    let row = batch.append_rows(&shape, &Source(1).origin(), 1).start;
    for (column, time) in times {
        if let (ColumnMut::I64(values), Some(time)) = (batch.column_mut(column), time) {
            values[row] = time;
        }
    }
    batch
}

#[test]
fn a_span_holds_every_time_that_a_flow_may_be_given() {
    let hour = NOW.0;
    let span = |batches: &[FlowBatch]| {
        let mut span = FlowSpan::default();
        for (block, _) in blocks_of(batches) {
            span.add(&block, 0..block.rows());
        }
        span.range()
    };
    let whole = timed(Some(5), Some(9), Some(hour));
    assert_eq!(span(&[]), None);
    assert_eq!(span(&[whole]), Some((5, 9)));
    assert_eq!(span(&[timed(Some(5), None, Some(hour))]), Some((5, hour)));
    assert_eq!(span(&[timed(None, None, Some(hour))]), Some((hour, hour)));
    let mixed = [timed(Some(5), Some(9), Some(hour)), timed(Some(-7), Some(3), Some(hour))];
    assert_eq!(span(&mixed), Some((-7, 9)));
    // Without a time of receipt either, it may be anywhere.
    assert_eq!(span(&[timed(Some(5), Some(9), Some(hour)), timed(None, Some(3), None)]), None);
}

#[test]
fn the_time_range_of_a_block_is_found_once() {
    let mixed = [timed(Some(5), Some(9), Some(NOW.0)), timed(Some(-7), None, Some(NOW.0))];
    let (block, _) = blocks_of(&mixed).swap_remove(0);
    assert_eq!(block.rows(), 2);
    assert_eq!(block.flow_times().get(), None);
    assert_eq!(block_time_range(&block), Some((-7, NOW.0)));
    assert_eq!(block.flow_times().get(), Some(&Some((-7, NOW.0))));
    let (anywhere, _) = blocks_of(&[timed(Some(5), None, None)]).swap_remove(0);
    assert_eq!(block_time_range(&anywhere), None);
}

#[test]
fn a_column_that_an_older_segment_lacks_is_null() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = blocks_of(&[Source(8).batch(1, 50)]);
    let segment = segment_of(dir.path(), &[&blocks[0].0], 1_000);
    let rows = blocks[0].0.rows();

    let field = schema().field(Column::VlanId.index() + 1).clone();
    let ports = schema().field(Column::OctetDeltaCount.index()).clone();
    assert_ne!(field.data_type(), ports.data_type());
    let older =
        Arc::new(Schema::new(vec![schema().field(Column::SourceIpv4Address.index()).clone()]));
    let addresses = UInt32Array::from_iter_values(0..u32::try_from(rows).unwrap());
    let batch = RecordBatch::try_new(Arc::clone(&older), vec![Arc::new(addresses)]).unwrap();
    let file = File::create(segment.path()).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, older, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    // It has no checksums either.
    let entry = crate::archive::SegmentEntry { tail: None, ..segment.entry().clone() };
    let segment = SegmentReader::new(&dir.path().join("archive"), entry);
    let columns = [Column::VlanId.index(), Column::SourceIpv4Address.index()];
    let read = segment.read(0, &columns).unwrap();
    assert_eq!(read.column(0).null_count(), rows);
    assert_eq!(read.column(1), batch.column(0));
}

#[test]
fn a_cut_segment_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = blocks_of(&[Source(9).batch(3, 80)]);
    let whole = segment_of(dir.path(), &[&blocks[0].0], 1_000);
    let bytes = std::fs::read(whole.path()).unwrap();
    for size in [0, 7, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(whole.path(), &bytes[..size]).unwrap();
        let reader = SegmentReader::new(&dir.path().join("archive"), whole.entry().clone());
        let error = reader.read(0, &[0]).unwrap_err().to_string();
        assert!(error.contains("00000003.parquet"), "{error}");
    }
}

#[test]
fn columns_that_all_rows_have_carry_no_nulls() {
    let (mut source, mut batch) = (Source(10), FlowBatch::new());
    let origin = source.origin();
    let narrow = Arc::new(Shape {
        columns: ColumnSet::of(&[Column::OctetDeltaCount, Column::CollectionTimeMilliseconds]),
        ..Shape::default()
    });
    source.fill(&mut batch, &v4_shape(), &origin, 10, NOW.0);
    source.fill(&mut batch, &narrow, &origin, 5, NOW.0);
    let blocks = blocks_of(&[batch]);
    let batch = block_batch(&blocks[0].0, 0..15, &all_columns()).unwrap();
    let nulls = |column: Column| batch.column(column.index()).nulls().map(|n| n.null_count());
    assert_eq!(nulls(Column::OctetDeltaCount), None);
    assert_eq!(nulls(Column::SourceTransportPort), Some(5));
    assert_eq!(batch.column(Column::VlanId.index()).null_count(), 15);
    let part = block_batch(&blocks[0].0, 2..9, &all_columns()).unwrap();
    assert_eq!(part.column(Column::SourceTransportPort.index()).nulls(), None);
}
