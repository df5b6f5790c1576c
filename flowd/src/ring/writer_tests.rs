//! Tests of one block on the heap, where storage can be made to fail.

use super::block::Block;
use super::error::RingError;
use super::lane::{BlockId, Lane};
use super::layout::{BlockFormat, BlockHead, Layout, STRIPE_WORDS};
use super::map::heap::{HeapReader, HeapWriter, heap_block};
use super::reserved::Reserved;
use super::sample::{NOW, Source, sent_records, v4_shape};
use super::storage::{Area, FIRST_STRIPE, IDENTITY, WriteStorage};
use super::writer::BlockWriter;
use crate::model::{Column, ExtraSpec, FlowBatch, Shape};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FORMAT: BlockFormat = BlockFormat {
    page_size: 64,
    rows_max: 100,
    stripe_rows: 16,
    extras_size_max: 1_000,
    dictionary_size_max: 1_000,
};

/// A disk with room for so many octets.
struct Disk {
    block: HeapWriter,
    room: usize,
}

impl WriteStorage for Disk {
    fn store(&mut self, word: usize, value: u64) {
        self.block.store(word, value);
    }

    fn write(&mut self, area: &Area, item: usize, bytes: &[u8]) {
        self.block.write(area, item, bytes);
    }

    fn written(&self, area: &Area, items: Range<usize>) -> &[u8] {
        self.block.written(area, items)
    }

    fn reserve(&mut self, range: Range<usize>) -> io::Result<()> {
        let room = self.room.checked_sub(range.len());
        self.room = room.ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }

    fn discard(&mut self, range: Range<usize>) -> io::Result<()> {
        self.block.discard(range)
    }

    fn allocated(&self) -> io::Result<u64> {
        self.block.allocated()
    }

    fn sync(&self) -> io::Result<()> {
        self.block.sync()
    }
}

fn block(room: usize) -> (BlockWriter<Disk>, HeapReader) {
    let layout = Arc::new(Layout::new(FORMAT));
    let head = BlockHead {
        id: BlockId { shard: 0, lane: Lane::Ipv4, number: 0 },
        boot_id: [1; 16],
        hour: NOW.hour(),
        created: NOW.0,
    };
    let words = FIRST_STRIPE + STRIPE_WORDS * FORMAT.rows_max.div_ceil(FORMAT.stripe_rows);
    let (mut block, reader) = heap_block(layout.encode_head(&head), layout.size, words);
    block.store(IDENTITY, head.identity());
    let storage = Disk { block, room };
    let writer = BlockWriter::new(storage, layout, head.identity(), PathBuf::new(), Reserved::NONE);
    (writer, reader)
}

fn read(reader: &HeapReader) -> Block {
    let block = Block::of(Box::new(reader.clone()), Path::new("")).unwrap();
    block.check_ids().unwrap();
    block
}

fn rows(shape: &Arc<Shape>, count: usize) -> FlowBatch {
    let (mut source, mut batch) = (Source(1), FlowBatch::new());
    let origin = source.origin();
    source.fill(&mut batch, shape, &origin, count, NOW.0);
    batch
}

#[test]
fn a_full_disk_refuses_rows_and_keeps_what_is_there() {
    let layout = Layout::new(FORMAT);
    let v4 = v4_shape();
    let enough = usize::try_from(layout.size_of(v4.columns)).unwrap() - layout.fixed_size + 1_000;
    let (mut writer, reader) = block(enough);
    let batch = rows(&v4, 20);
    assert_eq!(writer.append(&batch, &batch.runs()[0], 0..20).unwrap(), 20);

    // A column more than the disk has room for.
    let mut wider = Shape::clone(&v4);
    wider.columns.insert(Column::SourceIpv6Address);
    let wide = rows(&Arc::new(wider), 20);
    let error = writer.append(&wide, &wide.runs()[0], 0..20).unwrap_err();
    assert!(matches!(error, RingError::NoSpace(_)), "{error}");

    // An extras heap that it has no room for.
    let mut longer = Shape::clone(&v4);
    longer.extras.push(ExtraSpec { enterprise: 9, id: 1, length: 4 });
    let long = rows(&Arc::new(longer), 20);
    let error = writer.append(&long, &long.runs()[0], 0..20).unwrap_err();
    assert!(matches!(error, RingError::NoSpace(_)), "{error}");

    assert_eq!(writer.append(&batch, &batch.runs()[0], 0..10).unwrap(), 10);
    writer.seal().size.unwrap();
    let block = read(&reader);
    let mut copy = FlowBatch::new();
    assert_eq!(block.copy_to(0..30, &mut copy), 30);
    let sent = sent_records(&batch);
    assert_eq!(sent_records(&copy), [&sent[..], &sent[..10]].concat());
    assert!(block.stripes().iter().all(|(_, holds)| *holds));
}

#[test]
fn a_full_block_takes_no_more_and_seals_whole() {
    let (mut writer, reader) = block(usize::MAX);
    let batch = rows(&v4_shape(), 101);
    assert_eq!(writer.append(&batch, &batch.runs()[0], 0..101).unwrap(), 100);
    assert_eq!(writer.append(&batch, &batch.runs()[0], 100..101).unwrap(), 0);
    let stripes = read(&reader).stripes();
    // 100 rows are six stripes of 16 and one of 4.
    assert_eq!(stripes.len(), 7);
    assert!(stripes.iter().all(|(_, holds)| *holds));
    writer.seal().size.unwrap();
    assert!(read(&reader).is_sealed());
    assert_eq!(read(&reader).stripes(), stripes);
}

#[test]
fn an_open_stripe_does_not_hold_until_it_is_sealed() {
    let (mut writer, reader) = block(usize::MAX);
    let batch = rows(&v4_shape(), 20);
    writer.append(&batch, &batch.runs()[0], 0..20).unwrap();
    let holds = |block: Block| block.stripes().iter().map(|stripe| stripe.1).collect::<Vec<_>>();
    assert_eq!(holds(read(&reader)), [true, false]);
    let (word, words) = read(&reader).last_stripe().unwrap();
    writer.seal().size.unwrap();
    assert_eq!(holds(read(&reader)), [true, true]);
    assert_eq!(word, Layout::stripe_word(1));
    assert_eq!(words, read(&reader).last_stripe().unwrap().1);
}
