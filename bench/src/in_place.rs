//! The other form of a ring, as a prototype to measure against: blocks that are used again in
//! place, whose readers look at a block's generation before and after they copy.
//!
//! In: [`FlowBatch`]. Out: copies of blocks, or [`Overtaken`]. Never: files, checksums,
//! recovery, shapes: what it leaves out only makes it faster, so that its figures are the best
//! that the form can have. Words are atomics, since a reader may copy what is being written.

use crate::rows::COLUMNS;
use flowd::model::FlowBatch;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Words before a block's columns: its generation, and the rows that are there.
const GENERATION: usize = 0;
const ROWS: usize = 1;
const HEAD_WORDS: usize = 8;

/// A ring of blocks that lie one after another in memory.
#[derive(Debug)]
pub struct InPlaceRing {
    words: Box<[AtomicU64]>,
    block_rows: usize,
    block_words: usize,
    /// Where each column begins within a block, and octets a value.
    columns: Vec<(usize, usize)>,
}

/// The one writer.
#[derive(Debug)]
pub struct InPlaceWriter<'a> {
    ring: &'a InPlaceRing,
    block: usize,
    generation: u64,
    rows: usize,
}

/// The writer came round while a reader copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken;

impl InPlaceRing {
    /// Memory for some blocks, every page of it touched.
    #[must_use]
    pub fn new(block_rows: usize, block_count: usize) -> Self {
        let batch = FlowBatch::new();
        let (mut columns, mut block_words) = (Vec::new(), HEAD_WORDS);
        for column in COLUMNS {
            let width = batch.column(column).bytes(0..1).len();
            columns.push((block_words, width));
            block_words += (block_rows * width).div_ceil(8);
        }
        let words = (0..block_words * block_count).map(|_| AtomicU64::new(0)).collect();
        Self { words, block_rows, block_words, columns }
    }

    /// The writer, at the first block.
    #[must_use]
    pub fn writer(&mut self) -> InPlaceWriter<'_> {
        InPlaceWriter { ring: self, block: 0, generation: 1, rows: 0 }
    }

    /// Blocks that there are.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.words.len() / self.block_words
    }

    fn block(&self, index: usize) -> &[AtomicU64] {
        &self.words[index * self.block_words..][..self.block_words]
    }

    /// Copies a block's columns as they are, whole words, and says how many rows are there.
    ///
    /// # Errors
    /// If the writer began the block anew meanwhile.
    pub fn copy(&self, index: usize, to: &mut Vec<u64>) -> Result<usize, Overtaken> {
        let block = self.block(index);
        // Pairs with the `Release` in `next_block`: the rows of this generation or a later one.
        let generation = block[GENERATION].load(Ordering::Acquire);
        // Pairs with the `Release` in `append`: what is copied is there.
        let rows = usize::try_from(block[ROWS].load(Ordering::Acquire)).unwrap_or(usize::MAX);
        to.clear();
        for (start, width) in &self.columns {
            let words = (rows.min(self.block_rows) * width).div_ceil(8);
            let column = &block[*start..start + words];
            to.extend(column.iter().map(|word| word.load(Ordering::Relaxed)));
        }
        // Without it the copy could be of the next generation, and this load of the one before.
        fence(Ordering::Acquire);
        let after = block[GENERATION].load(Ordering::Relaxed);
        if after == generation && rows <= self.block_rows { Ok(rows) } else { Err(Overtaken) }
    }
}

impl InPlaceWriter<'_> {
    /// Appends all rows of a batch.
    pub fn append(&mut self, batch: &FlowBatch) {
        let mut first = 0;
        while first < batch.len() {
            if self.rows == self.ring.block_rows {
                self.next_block();
            }
            let count = (batch.len() - first).min(self.ring.block_rows - self.rows);
            let block = self.ring.block(self.block);
            for (column, (start, width)) in COLUMNS.into_iter().zip(&self.ring.columns) {
                let bytes = batch.column(column).bytes(first..first + count);
                store_bytes(&block[*start..], self.rows * width, bytes);
            }
            self.rows += count;
            // Pairs with the `Acquire` in `copy`: rows before their number.
            block[ROWS].store(self.rows as u64, Ordering::Release);
            first += count;
        }
    }

    fn next_block(&mut self) {
        self.block = (self.block + 1) % self.ring.block_count();
        self.generation += u64::from(self.block == 0);
        self.rows = 0;
        let block = self.ring.block(self.block);
        block[ROWS].store(0, Ordering::Relaxed);
        // Pairs with the loads of it in `copy`.
        block[GENERATION].store(self.generation, Ordering::Release);
        // The new rows are written after the generation is seen to have changed.
        fence(Ordering::Release);
    }
}

/// Stores octets from octet `at` on; the rest of the first and the last word stays.
fn store_bytes(words: &[AtomicU64], at: usize, bytes: &[u8]) {
    let (mut index, offset) = (at / 8, at % 8);
    let mut rest = bytes;
    if offset != 0 {
        let (head, after) = rest.split_at(rest.len().min(8 - offset));
        store_part(&words[index], offset, head);
        (index, rest) = (index + 1, after);
    }
    let whole = rest.chunks_exact(8);
    let tail = whole.remainder();
    for (word, bytes) in words[index..].iter().zip(whole) {
        let bytes = bytes.try_into().expect("chunks of eight");
        word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
    }
    if !tail.is_empty() {
        store_part(&words[index + rest.len() / 8], 0, tail);
    }
}

fn store_part(word: &AtomicU64, offset: usize, bytes: &[u8]) {
    // The one writer's own value: nobody else stores.
    let mut value = word.load(Ordering::Relaxed).to_ne_bytes();
    value[offset..offset + bytes.len()].copy_from_slice(bytes);
    word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::batch;
    use std::thread;

    fn column_words(batch: &FlowBatch, rows: usize) -> Vec<u64> {
        let mut words = Vec::new();
        for column in COLUMNS {
            let bytes = batch.column(column).bytes(0..rows);
            words.extend(bytes.chunks(8).map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_ne_bytes(word)
            }));
        }
        words
    }

    #[test]
    fn what_went_in_comes_out() {
        let mut ring = InPlaceRing::new(48, 2);
        let rows = batch(48);
        let mut writer = ring.writer();
        // The same rows three times round, in pieces that end within words.
        for _ in 0..6 {
            writer.append(&rows);
        }
        let mut copy = Vec::new();
        for block in 0..2 {
            assert_eq!(ring.copy(block, &mut copy), Ok(48));
            assert_eq!(copy, column_words(&rows, 48));
        }
    }

    #[test]
    fn a_reader_gets_whole_blocks_or_is_told() {
        let mut ring = InPlaceRing::new(48, 2);
        let rows = batch(16);
        let expected = column_words(&rows, 16);
        let InPlaceWriter { block, generation, rows: first, .. } = ring.writer();
        let (ring, rows) = (&ring, &rows);
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut writer = InPlaceWriter { ring, block, generation, rows: first };
                for _ in 0..20_000 {
                    writer.append(rows);
                }
            });
            let mut copy = Vec::new();
            for look in 0..20_000 {
                if ring.copy(look % 2, &mut copy) == Ok(16) {
                    assert_eq!(copy, expected);
                }
            }
        });
    }
}
