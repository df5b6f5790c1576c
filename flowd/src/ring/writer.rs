//! BlockWriter: appends rows to one block, and seals it.

use super::dictionary::{Entry, Interner};
use super::error::RingError;
use super::layout::Layout;
use super::reserved::Reserved;
use super::storage::{Area, Frontier, SEALED, STATE, WriteStorage};
use super::stripe::{HAS_EXTRAS, Range32, Stripe};
use crate::model::{ColumnSet, FlowBatch, Origin, Run, Shape, extras_size};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// How much of the extras heap, and of the dictionary, is reserved at a time.
const EXTRAS_RESERVE_SIZE: usize = 256 << 10;
const DICTIONARY_RESERVE_SIZE: usize = 16 << 10;

/// Less than this is not given back: a call to the file system costs more than it gains.
const DISCARD_SIZE_MIN: usize = 32 << 10;

/// The one writer of a block.
#[derive(Debug)]
pub(super) struct BlockWriter<W> {
    storage: W,
    layout: Arc<Layout>,
    /// What all checksums begin with.
    identity: u64,
    /// For error messages.
    path: PathBuf,
    rows: usize,
    /// Columns whose areas are reserved, and those of them that a row has.
    columns: ColumnSet,
    columns_used: ColumnSet,
    ids_reserved: bool,
    offsets_reserved: bool,
    extras: Growing,
    dictionary: Growing,
    shapes: Interner<Shape>,
    origins: Interner<Origin>,
    /// Of the stripe that is being filled: its columns, and where its extras begin.
    stripe_columns: u64,
    stripe_extras: usize,
    offsets: Vec<u32>,
    ids: Vec<u16>,
    reserved_size: u64,
}

/// How far an area of octets is filled and reserved.
#[derive(Clone, Copy, Debug)]
struct Growing {
    end: usize,
    reserved: usize,
    reserve_size: usize,
}

impl Growing {
    const fn by(reserve_size: usize, reserved: usize) -> Self {
        Self { end: 0, reserved, reserve_size }
    }

    /// What is left of it once the block is sealed, to whole pages.
    fn kept(&self, page_size: usize) -> usize {
        self.end.next_multiple_of(page_size).min(self.reserved)
    }
}

/// A sealed block.
#[derive(Debug)]
pub(super) struct Sealed<W> {
    /// The octets that it takes, if the system tells.
    pub(super) size: Result<u64, RingError>,
    /// What its file has memory for, if it is worth using again.
    pub(super) reusable: Option<Reserved>,
    /// Its memory.
    pub(super) storage: W,
}

impl<W: WriteStorage> BlockWriter<W> {
    /// Starts at the first row of an empty block of that identity, of which some is reserved
    /// already.
    pub(super) fn new(
        storage: W,
        layout: Arc<Layout>,
        identity: u64,
        path: PathBuf,
        reserved: Reserved,
    ) -> Self {
        let reserved_size = reserved.size(&layout);
        let Reserved { columns, ids, offsets, extras, dictionary } = reserved;
        Self {
            storage,
            layout,
            identity,
            path,
            rows: 0,
            columns,
            columns_used: ColumnSet::EMPTY,
            ids_reserved: ids,
            offsets_reserved: offsets,
            extras: Growing::by(EXTRAS_RESERVE_SIZE, extras),
            dictionary: Growing::by(DICTIONARY_RESERVE_SIZE, dictionary),
            shapes: Interner::new(),
            origins: Interner::new(),
            stripe_columns: 0,
            stripe_extras: 0,
            offsets: Vec::new(),
            ids: Vec::new(),
            reserved_size,
        }
    }

    /// Rows that readers see.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns that the block has memory for.
    pub(super) const fn columns(&self) -> ColumnSet {
        self.columns
    }

    /// Columns that a row has.
    pub(super) const fn columns_used(&self) -> ColumnSet {
        self.columns_used
    }

    /// Is so much of its room for rows taken that the next block is worth preparing? Early, since
    /// a busy machine may be slow to; not at once, since some lanes never fill a block.
    pub(super) fn is_well_begun(&self) -> bool {
        self.rows >= self.layout.format.rows_max / 8
    }

    /// Octets that are reserved.
    pub(super) const fn reserved_size(&self) -> u64 {
        self.reserved_size
    }

    /// Appends rows of a run, as many as fit, and shows them to readers. None fit if the block
    /// is full, of whichever kind.
    pub(super) fn append(
        &mut self,
        batch: &FlowBatch,
        run: &Run,
        rows: Range<usize>,
    ) -> Result<usize, RingError> {
        if self.rows == self.layout.format.rows_max {
            return Ok(0);
        }
        self.reserve_columns(&run.shape)?;
        let Some(ids) = self.intern(run)? else {
            return Ok(0);
        };
        let mut appended = 0;
        while appended < rows.len() && self.rows < self.layout.format.rows_max {
            let count = self.stripe_room().min(rows.len() - appended);
            let first = rows.start + appended;
            let fitting = match self.copy_extras(batch, &run.shape, first..first + count) {
                Ok(fitting) => fitting,
                // What was appended is told first; the next call meets the error again.
                Err(_) if appended > 0 => break,
                Err(error) => return Err(error),
            };
            if fitting == 0 {
                break;
            }
            self.copy_columns(batch, &run.shape, ids, first..first + fitting);
            self.commit(fitting);
            appended += fitting;
        }
        Ok(appended)
    }

    /// Seals the block: its last stripe gets its checksum and what is unused is given back.
    pub(super) fn seal(mut self) -> Sealed<W> {
        let format = &self.layout.format;
        if !self.rows.is_multiple_of(format.stripe_rows) && self.rows != format.rows_max {
            self.close_stripe(self.rows);
        }
        self.storage.store(STATE, SEALED);
        self.discard_unused();
        let allocated = self.storage.allocated();
        let size = allocated.map_err(RingError::io("look at", &self.path));
        Sealed { size, reusable: self.reusable(), storage: self.storage }
    }

    /// What the file of a full block has memory for. That of another is not worth keeping.
    fn reusable(&self) -> Option<Reserved> {
        let page_size = self.layout.format.page_size;
        (self.rows == self.layout.format.rows_max).then(|| Reserved {
            columns: self.columns_used,
            ids: self.ids_reserved,
            offsets: self.offsets_reserved,
            extras: self.extras.kept(page_size),
            dictionary: self.dictionary.kept(page_size),
        })
    }

    /// Waits until all rows so far are on the disk.
    pub(super) fn sync(&self) -> Result<(), RingError> {
        let synced = self.storage.sync();
        synced.map_err(RingError::io("sync", &self.path))
    }

    /// Rows until the stripe or the block ends.
    fn stripe_room(&self) -> usize {
        let format = &self.layout.format;
        let stripe_end = (self.rows / format.stripe_rows + 1) * format.stripe_rows;
        stripe_end.min(format.rows_max) - self.rows
    }

    fn reserve(&mut self, range: Range<usize>) -> Result<(), RingError> {
        let size = range.len() as u64;
        let reserved = self.storage.reserve(range);
        reserved.map_err(RingError::io("reserve space for", &self.path))?;
        self.reserved_size += size;
        Ok(())
    }

    fn reserve_columns(&mut self, shape: &Shape) -> Result<(), RingError> {
        let has_columns = shape.columns.union(self.columns) == self.columns;
        if self.ids_reserved && has_columns && (self.offsets_reserved || shape.extras.is_empty()) {
            return Ok(());
        }
        let layout = Arc::clone(&self.layout);
        if !self.ids_reserved {
            self.reserve(layout.shape_ids.range())?;
            self.reserve(layout.origin_ids.range())?;
            self.ids_reserved = true;
        }
        if !shape.extras.is_empty() && !self.offsets_reserved {
            self.reserve(layout.extras_offsets.range())?;
            self.offsets_reserved = true;
        }
        for column in shape.columns.iter() {
            if !self.columns.contains(column) {
                let area = layout.column(column).expect("new blocks have all columns");
                self.reserve(area.range())?;
                self.columns.insert(column);
            }
        }
        Ok(())
    }

    /// The numbers of a run's shape and origin; none if the dictionary has no room for them.
    fn intern(&mut self, run: &Run) -> Result<Option<(u16, u16)>, RingError> {
        let shape = match self.shapes.find(&run.shape) {
            Some(id) => id,
            None if self.shapes.has_room() && self.store_entry(&*run.shape)? => {
                self.shapes.insert(&run.shape)
            }
            None => return Ok(None),
        };
        let origin = match self.origins.find(&run.origin) {
            Some(id) => id,
            None if self.origins.has_room() && self.store_entry(&*run.origin)? => {
                self.origins.insert(&run.origin)
            }
            None => return Ok(None),
        };
        Ok(Some((shape, origin)))
    }

    fn store_entry(&mut self, entry: &impl Entry) -> Result<bool, RingError> {
        let bytes = entry.encode(self.identity);
        let area = self.layout.dictionary;
        let Some(grown) = self.grow(self.dictionary, &area, bytes.len())? else {
            return Ok(false);
        };
        self.storage.write(&area, self.dictionary.end, &bytes);
        self.dictionary = grown;
        Ok(true)
    }

    /// Where an area ends with `size` more octets, reserved; none if it has no room for them.
    fn grow(
        &mut self,
        now: Growing,
        area: &Area,
        size: usize,
    ) -> Result<Option<Growing>, RingError> {
        let end = now.end + size;
        if end > area.items {
            return Ok(None);
        }
        let mut reserved = now.reserved;
        if end > reserved {
            reserved = end.next_multiple_of(now.reserve_size).min(area.items);
            self.reserve(area.start + now.reserved..area.start + reserved)?;
        }
        Ok(Some(Growing { end, reserved, ..now }))
    }

    /// Copies the extras of as many rows as the heap has room for, and says how many.
    fn copy_extras(
        &mut self,
        batch: &FlowBatch,
        shape: &Shape,
        rows: Range<usize>,
    ) -> Result<usize, RingError> {
        if shape.extras.is_empty() {
            return Ok(rows.len());
        }
        let area = self.layout.extras;
        let room = area.items - self.extras.end;
        let (count, size) = place_extras(batch, shape, &rows, room, &mut self.offsets);
        let Some(grown) = self.grow(self.extras, &area, size)? else {
            return Ok(0);
        };
        let base = u32::try_from(self.extras.end).expect("the heap is below 4 GiB");
        self.offsets[..count].iter_mut().for_each(|offset| *offset += base);
        let bytes = &batch.extras_from(rows.start)[..size];
        self.storage.write(&area, self.extras.end, bytes);
        let offsets = bytemuck::cast_slice(&self.offsets[..count]);
        self.storage.write(&self.layout.extras_offsets, self.rows, offsets);
        self.extras = grown;
        Ok(count)
    }

    fn copy_columns(
        &mut self,
        batch: &FlowBatch,
        shape: &Shape,
        (shape_id, origin_id): (u16, u16),
        rows: Range<usize>,
    ) {
        let layout = &self.layout;
        for column in shape.columns.iter() {
            let area = layout.column(column).expect("new blocks have all columns");
            let values = batch.column(column).bytes(rows.clone());
            self.storage.write(area, self.rows, values);
        }
        for (id, area) in [(shape_id, &layout.shape_ids), (origin_id, &layout.origin_ids)] {
            self.ids.clear();
            self.ids.resize(rows.len(), id);
            self.storage.write(area, self.rows, bytemuck::cast_slice(&self.ids));
        }
        self.columns_used = self.columns_used.union(shape.columns);
        self.stripe_columns |= shape.columns.to_bits();
        if !shape.extras.is_empty() {
            self.stripe_columns |= HAS_EXTRAS;
        }
    }

    /// Shows rows to readers. What they need is shown before them: a reader that sees the rows
    /// sees their stripe, their dictionary entries and their extras.
    fn commit(&mut self, count: usize) {
        let rows = self.rows + count;
        let format = &self.layout.format;
        if rows.is_multiple_of(format.stripe_rows) || rows == format.rows_max {
            self.close_stripe(rows);
        }
        let Self { storage, .. } = self;
        storage.store(Frontier::Extras.word(), self.extras.end as u64);
        storage.store(Frontier::Dictionary.word(), self.dictionary.end as u64);
        storage.store(Frontier::Rows.word(), rows as u64);
        self.rows = rows;
    }

    fn close_stripe(&mut self, rows_end: usize) {
        let index = (rows_end - 1) / self.layout.format.stripe_rows;
        let first_row = index * self.layout.format.stripe_rows;
        let offset = |size: usize| u32::try_from(size).expect("the heap is below 4 GiB");
        let stripe = Stripe {
            first_row,
            rows: rows_end - first_row,
            columns: self.stripe_columns,
            extras: Range32 { start: offset(self.stripe_extras), end: offset(self.extras.end) },
        };
        let checksum = stripe
            .checksum(&self.layout, self.identity, |area, items| {
                Some(self.storage.written(area, items))
            })
            .expect("the writer wrote all of it");
        let first_word = Layout::stripe_word(index);
        for (word, value) in (first_word..).zip(stripe.encode(checksum)) {
            self.storage.store(word, value);
        }
        self.stripe_columns = 0;
        self.stripe_extras = self.extras.end;
    }

    fn discard_unused(&mut self) {
        let layout = Arc::clone(&self.layout);
        let page_size = layout.format.page_size;
        let rest = |area: &Area, used: usize, reserved: usize| {
            let [start, end] = [used, reserved].map(|items| area.start + items * area.width);
            let start = start.next_multiple_of(page_size);
            start..end.next_multiple_of(page_size).max(start)
        };
        let rows_max = layout.format.rows_max;
        let mut unused: Vec<Range<usize>> = Vec::new();
        for column in self.columns.iter() {
            let area = layout.column(column).expect("new blocks have all columns");
            let rows = if self.columns_used.contains(column) { self.rows } else { 0 };
            unused.push(rest(area, rows, rows_max));
        }
        if self.ids_reserved {
            unused.push(rest(&layout.shape_ids, self.rows, rows_max));
            unused.push(rest(&layout.origin_ids, self.rows, rows_max));
        }
        if self.offsets_reserved {
            unused.push(rest(&layout.extras_offsets, self.rows, rows_max));
        }
        for (area, heap) in [(&layout.dictionary, self.dictionary), (&layout.extras, self.extras)] {
            unused.push(rest(area, heap.end, heap.reserved));
        }
        for range in unused.into_iter().filter(|range| range.len() >= DISCARD_SIZE_MIN) {
            if self.storage.discard(range).is_err() {
                // A file system that cannot give pages back keeps them until the block goes.
                return;
            }
        }
    }
}

/// Finds where the extras of some rows lie from the first row's on: their offsets, how many
/// rows fit into `room`, and how much of it they take.
fn place_extras(
    batch: &FlowBatch,
    shape: &Shape,
    rows: &Range<usize>,
    room: usize,
    offsets: &mut Vec<u32>,
) -> (usize, usize) {
    let size_of_row = |row| {
        let bytes = batch.extras_from(row);
        extras_size(&shape.extras, bytes).unwrap_or(bytes.len())
    };
    let whole = batch.extras_from(rows.start).len();
    offsets.clear();
    let (mut count, mut end) = (0, 0);
    for row in rows.clone() {
        // Rows are stored in the order of the heap, so that one copy serves them all. Where
        // they are not, this row is left to the next call.
        let Some(offset) = whole.checked_sub(batch.extras_from(row).len()) else {
            break;
        };
        let row_end = offset + size_of_row(row);
        if offset < end || row_end > room {
            break;
        }
        offsets.push(u32::try_from(offset).expect("a batch's extras are below 4 GiB"));
        (count, end) = (count + 1, row_end);
    }
    (count, end)
}
