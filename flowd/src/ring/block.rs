//! Block: one block for reading, as of one moment.

use super::dictionary::Dictionary;
use super::error::RingError;
use super::lane::BlockId;
use super::layout::{BlockHead, HeadFault, Layout, STRIPE_WORDS};
use super::map::MappedReader;
use super::storage::{Area, Frontier, IDENTITY, ReadStorage, SEALED, STATE};
use super::stripe::{HAS_EXTRAS, Range32, Stripe};
use crate::model::{
    Column, ColumnKind, ColumnMut, ColumnRef, ColumnSet, FlowBatch, Origin, Shape, extras_size,
};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The rows of a block that were there when it was opened. They never change, whatever the
/// writer appends, and stay readable after the file is gone.
pub struct Block {
    storage: Box<dyn ReadStorage + Send + Sync>,
    path: PathBuf,
    head: BlockHead,
    layout: Layout,
    sealed: bool,
    rows: usize,
    extras_end: usize,
    dictionary: Dictionary,
    columns: ColumnSet,
    received: OnceLock<(i64, i64)>,
    flow_times: OnceLock<Option<(i64, i64)>>,
}

/// Rows that follow one another with the same shape and origin.
#[derive(Clone, Debug)]
pub struct BlockRun<'a> {
    /// Which elements the rows carry.
    pub shape: &'a Arc<Shape>,
    /// Who sent them.
    pub origin: &'a Arc<Origin>,
    /// Which rows.
    pub rows: Range<usize>,
}

impl Block {
    /// Opens a block file. Needs no lock: the writer may be at work, and takes no notice.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or is of another version.
    pub fn open(path: &Path) -> Result<Self, RingError> {
        let block = Self::open_unchecked(path)?;
        block.check_ids()?;
        Ok(block)
    }

    /// Opens a block file whose rows may name shapes and origins that are not there, as a power
    /// cut leaves it.
    pub(super) fn open_unchecked(path: &Path) -> Result<Self, RingError> {
        let reader = MappedReader::open(path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                damaged(path, "shorter than a head")
            } else {
                RingError::io("open", path)(error)
            }
        })?;
        Self::of(Box::new(reader), path)
    }

    pub(super) fn of(
        storage: Box<dyn ReadStorage + Send + Sync>,
        path: &Path,
    ) -> Result<Self, RingError> {
        let (head, layout) = Layout::decode_head(storage.head(), storage.size())
            .map_err(|fault| of_fault(fault, path))?;
        // The state first: rows of a block that is sealed by then are all there. The rows
        // before what they need: the writer shows that before them.
        let sealed = storage.load(STATE) == SEALED;
        let identity = head.identity();
        if storage.load(IDENTITY) != identity {
            return Err(damaged(path, "counts of another block"));
        }
        let count = |frontier: Frontier, max: usize| {
            let count = usize::try_from(storage.load(frontier.word())).unwrap_or(usize::MAX);
            (count <= max).then_some(count)
        };
        let rows = count(Frontier::Rows, layout.format.rows_max)
            .ok_or_else(|| damaged(path, "more rows than it has room for"))?;
        let extras_end = count(Frontier::Extras, layout.extras.items)
            .ok_or_else(|| damaged(path, "more extras than it has room for"))?;
        let dictionary_end = count(Frontier::Dictionary, layout.dictionary.items)
            .ok_or_else(|| damaged(path, "a longer dictionary than it has room for"))?;
        let entries = storage.items(&layout.dictionary, 0..dictionary_end);
        let dictionary = Dictionary::decode(entries.unwrap_or_default(), &layout.columns, identity);
        let shapes = dictionary.shapes.iter();
        let columns = shapes.fold(ColumnSet::EMPTY, |all, shape| all.union(shape.columns));
        Ok(Self {
            storage,
            path: path.to_owned(),
            head,
            layout,
            sealed,
            rows,
            extras_end,
            dictionary,
            columns,
            received: OnceLock::new(),
            flow_times: OnceLock::new(),
        })
    }

    pub(super) fn check_ids(&self) -> Result<(), RingError> {
        let known = |ids: &[u16], count: usize| {
            let max = ids.iter().copied().max();
            max.is_none_or(|max| usize::from(max) < count)
        };
        if !known(self.shape_ids(), self.dictionary.shapes.len()) {
            return Err(damaged(&self.path, "a row of unknown shape"));
        }
        if !known(self.origin_ids(), self.dictionary.origins.len()) {
            return Err(damaged(&self.path, "a row of unknown origin"));
        }
        Ok(())
    }

    /// The block's name.
    #[must_use]
    pub fn id(&self) -> BlockId {
        self.head.id
    }

    /// The hour in which all rows were received, counted from 1970.
    #[must_use]
    pub fn hour(&self) -> i64 {
        self.head.hour
    }

    /// When the block was made, in milliseconds since 1970.
    #[must_use]
    pub fn created(&self) -> i64 {
        self.head.created
    }

    /// Will no more rows come?
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Rows that were there when the block was opened.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The shapes that rows name by number.
    #[must_use]
    pub fn shapes(&self) -> &[Arc<Shape>] {
        &self.dictionary.shapes
    }

    /// The origins that rows name by number.
    #[must_use]
    pub fn origins(&self) -> &[Arc<Origin>] {
        &self.dictionary.origins
    }

    /// The columns that any shape has.
    #[must_use]
    pub fn columns(&self) -> ColumnSet {
        self.columns
    }

    /// The number of each row's shape.
    #[must_use]
    pub fn shape_ids(&self) -> &[u16] {
        self.values(&self.layout.shape_ids)
    }

    /// The number of each row's origin.
    #[must_use]
    pub fn origin_ids(&self) -> &[u16] {
        self.values(&self.layout.origin_ids)
    }

    /// The values of a column, meaningful in the rows whose shape has it; none if no shape has.
    #[must_use]
    pub fn column(&self, column: Column) -> Option<ColumnRef<'_>> {
        if !self.columns.contains(column) {
            return None;
        }
        let area = self.layout.column(column)?;
        Some(match column.kind() {
            ColumnKind::U8 => ColumnRef::U8(self.values(area)),
            ColumnKind::U16 => ColumnRef::U16(self.values(area)),
            ColumnKind::U32 | ColumnKind::Ipv4 => ColumnRef::U32(self.values(area)),
            ColumnKind::U64 => ColumnRef::U64(self.values(area)),
            ColumnKind::Millis => ColumnRef::I64(self.values(area)),
            ColumnKind::Mac => ColumnRef::Octets6(self.values(area)),
            ColumnKind::Ipv6 => ColumnRef::Octets16(self.values(area)),
        })
    }

    /// The extras of a row and whatever follows them, to be walked with
    /// [`ExtraFields`](crate::model::ExtraFields) by the row's shape.
    #[must_use]
    pub fn extras_from(&self, row: usize) -> &[u8] {
        let offsets = self.storage.items(&self.layout.extras_offsets, row..row + 1);
        let Some(&[a, b, c, d]) = offsets else {
            return &[];
        };
        let start = u32::from_ne_bytes([a, b, c, d]) as usize;
        let heap = self.storage.items(&self.layout.extras, start..self.extras_end);
        heap.unwrap_or_default()
    }

    /// Runs of rows with the same shape and origin, within some rows.
    pub fn runs(&self, rows: Range<usize>) -> impl Iterator<Item = BlockRun<'_>> {
        let (shape_ids, origin_ids) = (self.shape_ids(), self.origin_ids());
        let end = rows.end.min(self.rows);
        let mut start = rows.start;
        std::iter::from_fn(move || {
            let ids = (shape_ids.get(start)?, origin_ids.get(start)?);
            if start >= end {
                return None;
            }
            let same = |row: &usize| (&shape_ids[*row], &origin_ids[*row]) == ids;
            let rows = start..(start..end).find(|row| !same(row)).unwrap_or(end);
            start = rows.end;
            Some(BlockRun {
                shape: self.dictionary.shapes.get(usize::from(*ids.0))?,
                origin: self.dictionary.origins.get(usize::from(*ids.1))?,
                rows,
            })
        })
    }

    /// The earliest and the latest time of receipt of its rows, in milliseconds since 1970; the
    /// time the block was made where rows have none.
    #[must_use]
    pub fn received(&self) -> (i64, i64) {
        *self.received.get_or_init(|| self.find_received())
    }

    /// Where the archive keeps what it found of the times of the block's flows.
    #[must_use]
    pub const fn flow_times(&self) -> &OnceLock<Option<(i64, i64)>> {
        &self.flow_times
    }

    fn find_received(&self) -> (i64, i64) {
        let mut range: Option<(i64, i64)> = None;
        for run in self.runs(0..self.rows) {
            let column = Column::CollectionTimeMilliseconds;
            let times = match self.column(column) {
                Some(ColumnRef::I64(times)) if run.shape.columns.contains(column) => {
                    &times[run.rows]
                }
                _ => &[self.head.created],
            };
            for &time in times {
                let (first, last) = range.get_or_insert((time, time));
                (*first, *last) = (time.min(*first), time.max(*last));
            }
        }
        range.unwrap_or((self.head.created, self.head.created))
    }

    /// Copies rows into a batch, as many as it has room for, and says how many. Rows that name
    /// what is not there end it.
    pub fn copy_to(&self, rows: Range<usize>, batch: &mut FlowBatch) -> usize {
        // Few rows with extras at a time, so that the batch's room for them is asked again.
        const ROWS_WITH_EXTRAS_MAX: usize = 64;
        let mut copied = 0;
        for mut run in self.runs(rows) {
            while !run.rows.is_empty() {
                let mut count = run.rows.len().min(batch.room());
                if !run.shape.extras.is_empty() {
                    count = count.min(ROWS_WITH_EXTRAS_MAX);
                }
                if count == 0 {
                    return copied;
                }
                let end = run.rows.start + count;
                self.copy_rows(&run, run.rows.start..end, batch);
                run.rows.start = end;
                copied += count;
            }
        }
        copied
    }

    fn copy_rows(&self, run: &BlockRun<'_>, from: Range<usize>, batch: &mut FlowBatch) {
        let to = batch.append_rows(run.shape, run.origin, from.len());
        for column in run.shape.columns.iter() {
            if let Some(values) = self.column(column) {
                copy_values(values, from.clone(), &mut batch.column_mut(column), to.clone());
            }
        }
        if !run.shape.extras.is_empty() {
            for (from, to) in from.zip(to) {
                let bytes = self.extras_from(from);
                let size = extras_size(&run.shape.extras, bytes).unwrap_or(bytes.len());
                batch.push_extras(to, &bytes[..size]);
            }
        }
    }

    pub(super) const fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) const fn head(&self) -> &BlockHead {
        &self.head
    }

    /// The rows of each stripe, and whether its checksum holds. Rows beyond the last stripe are
    /// one more that does not.
    pub(super) fn stripes(&self) -> Vec<(Range<usize>, bool)> {
        let stripe_rows = self.layout.format.stripe_rows;
        let starts = (0..self.rows).step_by(stripe_rows).enumerate();
        let stripes = starts.map(|(index, first_row)| {
            let (checksum, stripe) = Stripe::decode(self.stripe_words(index), first_row);
            let rows = first_row..self.rows.min(first_row + stripe_rows);
            let holds = stripe.rows == rows.len() && self.checksum(&stripe) == Some(checksum);
            (rows, holds)
        });
        stripes.collect()
    }

    /// How many rows lie in stripes whose checksum does not hold. The last stripe of a block that
    /// grows has none yet.
    #[must_use]
    pub fn torn_rows(&self) -> usize {
        let mut stripes = self.stripes();
        if !self.sealed {
            stripes.pop();
        }
        stripes.iter().filter(|(_, holds)| !holds).map(|(rows, _)| rows.len()).sum()
    }

    /// The first word and the words of the last stripe, as the writer would store them on
    /// sealing the block now.
    pub(super) fn last_stripe(&self) -> Option<(usize, [u64; STRIPE_WORDS])> {
        let stripe_rows = self.layout.format.stripe_rows;
        let index = self.rows.checked_sub(1)? / stripe_rows;
        let first_row = index * stripe_rows;
        let before = index.checked_sub(1).map(|before| {
            let first_row = before * stripe_rows;
            Stripe::decode(self.stripe_words(before), first_row).1
        });
        let mut stripe = Stripe {
            first_row,
            rows: self.rows - first_row,
            columns: 0,
            extras: Range32 {
                start: before.map_or(0, |before| before.extras.end),
                end: u32::try_from(self.extras_end).ok()?,
            },
        };
        for run in self.runs(first_row..self.rows) {
            stripe.columns |= self.layout.column_bits(run.shape.columns);
            if !run.shape.extras.is_empty() {
                stripe.columns |= HAS_EXTRAS;
            }
        }
        let checksum = self.checksum(&stripe)?;
        Some((Layout::stripe_word(index), stripe.encode(checksum)))
    }

    fn checksum(&self, stripe: &Stripe) -> Option<u64> {
        let items = |area: &Area, items| self.storage.items(area, items);
        stripe.checksum(&self.layout, self.head.identity(), items)
    }

    fn stripe_words(&self, index: usize) -> [u64; STRIPE_WORDS] {
        let first_word = Layout::stripe_word(index);
        std::array::from_fn(|word| self.storage.load(first_word + word))
    }

    fn values<T: bytemuck::AnyBitPattern>(&self, area: &Area) -> &[T] {
        let bytes = self.storage.items(area, 0..self.rows).unwrap_or_default();
        bytemuck::try_cast_slice(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Block");
        debug.field("path", &self.path).field("rows", &self.rows);
        debug.field("sealed", &self.sealed).finish_non_exhaustive()
    }
}

fn damaged(path: &Path, what: &'static str) -> RingError {
    RingError::DamagedBlock { path: path.to_owned(), what }
}

fn of_fault(fault: HeadFault, path: &Path) -> RingError {
    match fault {
        HeadFault::Damaged(what) => damaged(path, what),
        HeadFault::Version(what) => RingError::BlockFormat { path: path.to_owned(), what },
    }
}

fn copy_values(
    from: ColumnRef<'_>,
    from_rows: Range<usize>,
    to: &mut ColumnMut<'_>,
    to_rows: Range<usize>,
) {
    match (from, to) {
        (ColumnRef::U8(from), ColumnMut::U8(to)) => to[to_rows].copy_from_slice(&from[from_rows]),
        (ColumnRef::U16(from), ColumnMut::U16(to)) => to[to_rows].copy_from_slice(&from[from_rows]),
        (ColumnRef::U32(from), ColumnMut::U32(to)) => to[to_rows].copy_from_slice(&from[from_rows]),
        (ColumnRef::U64(from), ColumnMut::U64(to)) => to[to_rows].copy_from_slice(&from[from_rows]),
        (ColumnRef::I64(from), ColumnMut::I64(to)) => to[to_rows].copy_from_slice(&from[from_rows]),
        (ColumnRef::Octets6(from), ColumnMut::Octets6(to)) => {
            to[to_rows].copy_from_slice(&from[from_rows]);
        }
        (ColumnRef::Octets16(from), ColumnMut::Octets16(to)) => {
            to[to_rows].copy_from_slice(&from[from_rows]);
        }
        _ => unreachable!("both sides have the type of the column's kind"),
    }
}
