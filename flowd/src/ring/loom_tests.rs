//! Models of a block with one writer and its readers, for every order in which their steps can
//! happen (two preemptions deep):
//! `RUSTFLAGS="--cfg flowd_loom" cargo test -p flowd --no-default-features --lib ring::loom`.

use super::block::Block;
use super::lane::{BlockId, Lane};
use super::layout::{BlockFormat, BlockHead, Layout};
use super::map::heap::{HeapReader, HeapWriter, heap_block};
use super::reserved::Reserved;
use super::sample::{NOW, Sent, Source, sent_records};
use super::storage::{FIRST_STRIPE, IDENTITY, WriteStorage};
use super::writer::BlockWriter;
use crate::model::{Column, ColumnSet, ExtraSpec, FlowBatch, RecordType, Shape};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FORMAT: BlockFormat = BlockFormat {
    page_size: 8,
    rows_max: 4,
    stripe_rows: 2,
    extras_size_max: 16,
    dictionary_size_max: 128,
};

fn block() -> (BlockWriter<HeapWriter>, HeapReader) {
    let layout = Arc::new(Layout::new(FORMAT));
    let head = BlockHead {
        id: BlockId { shard: 0, lane: Lane::Ipv4, number: 0 },
        boot_id: [1; 16],
        hour: NOW.hour(),
        created: NOW.0,
    };
    let words = FIRST_STRIPE + 4 * FORMAT.rows_max / FORMAT.stripe_rows;
    let (mut storage, reader) = heap_block(layout.encode_head(&head), layout.size, words);
    storage.store(IDENTITY, head.identity());
    let writer = BlockWriter::new(storage, layout, head.identity(), PathBuf::new(), Reserved::NONE);
    (writer, reader)
}

/// Three rows of two shapes, one of them with extras.
fn rows() -> FlowBatch {
    let shape = |extras: &[ExtraSpec]| {
        Arc::new(Shape {
            record_type: RecordType::Flow,
            columns: ColumnSet::of(&[Column::OctetDeltaCount, Column::FlowDirection]),
            extras: extras.to_vec(),
        })
    };
    let extra = ExtraSpec { enterprise: 9, id: 1, length: 4 };
    let (mut source, mut batch) = (Source(1), FlowBatch::new());
    let origin = source.origin();
    source.fill(&mut batch, &shape(&[]), &origin, 1, NOW.0);
    source.fill(&mut batch, &shape(&[extra]), &origin, 2, NOW.0);
    batch
}

fn read(reader: &HeapReader) -> (bool, Vec<Sent>) {
    let block = Block::of(Box::new(reader.clone()), Path::new("")).unwrap();
    block.check_ids().unwrap();
    let mut batch = FlowBatch::new();
    assert_eq!(block.copy_to(0..block.rows(), &mut batch), block.rows());
    (block.is_sealed(), sent_records(&batch))
}

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.max_branches = 10_000;
    builder.check(run);
}

/// Conservation: whatever a reader sees is a prefix of what was appended, whole in every
/// column, and it never shrinks.
#[test]
fn a_reader_sees_only_whole_rows() {
    let batch = Arc::new(rows());
    let expected = sent_records(&batch);
    model(move || {
        let (mut writer, reader) = block();
        let batch = Arc::clone(&batch);
        let appending = loom::thread::spawn(move || {
            for run in batch.runs() {
                let rows = run.rows.clone();
                assert_eq!(writer.append(&batch, run, rows.clone()).unwrap(), rows.len());
            }
            writer
        });
        let (_, first) = read(&reader);
        assert!(expected.starts_with(&first));
        let later = Block::of(Box::new(reader.clone()), Path::new("")).unwrap();
        assert!(later.rows() >= first.len());
        let writer = appending.join().unwrap();
        assert_eq!(writer.rows(), expected.len());
        assert_eq!(read(&reader).1, expected);
    });
}

/// A reader that finds the block sealed finds all its rows, and stripes that hold.
#[test]
fn a_sealed_block_is_complete() {
    let batch = Arc::new(rows());
    let expected = sent_records(&batch);
    model(move || {
        let (mut writer, reader) = block();
        let batch = Arc::clone(&batch);
        let appending = loom::thread::spawn(move || {
            let run = &batch.runs()[1];
            assert_eq!(writer.append(&batch, run, 1..3).unwrap(), 2);
            writer.seal().size.unwrap();
        });
        let (sealed, rows) = read(&reader);
        assert!(expected[1..].starts_with(&rows));
        assert!(!sealed || rows.len() == 2);
        appending.join().unwrap();
        let block = Block::of(Box::new(reader), Path::new("")).unwrap();
        assert!(block.is_sealed());
        assert!(block.stripes().iter().all(|(_, holds)| *holds));
    });
}
