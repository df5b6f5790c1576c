//! What a block needs of the memory it lies in: a mapped file, or the heap in tests and models.
//!
//! Two halves, so that the borrow checker keeps the one writer apart from the many readers.
//! A block's memory is of three sorts, and each is safe to share for a reason of its own:
//! - the head is written before the file has its name, and never again;
//! - words are atomics;
//! - areas only grow: a reader sees items below the area's frontier, which is a word; the
//!   writer writes items from there on, and then moves the frontier.

use std::io;
use std::ops::Range;

/// Index of the word that tells whether the block is open or sealed.
pub(super) const STATE: usize = 0;
/// Index of the word that tells whose words these are: [`BlockHead::identity`], stored before the
/// file has its name. Files are used again, and a power cut may keep one page of a file and lose
/// another: counts that belong to another block than the head are not believed.
///
/// [`BlockHead::identity`]: super::layout::BlockHead::identity
pub(super) const IDENTITY: usize = 4;
/// Index of the first word of the stripe table.
pub(super) const FIRST_STRIPE: usize = 5;

/// The value of [`STATE`] once nothing more will be written.
pub(super) const SEALED: u64 = 1;

/// The word that says how many items of an area are there for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frontier {
    /// Rows of the columns.
    Rows = 1,
    /// Octets of the extras heap.
    Extras = 2,
    /// Octets of the dictionary.
    Dictionary = 3,
}

impl Frontier {
    /// The index of its word.
    pub(super) const fn word(self) -> usize {
        self as usize
    }
}

/// A range of a block that holds items of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    /// Where it begins, from the start of the file.
    pub(super) start: usize,
    /// Octets an item.
    pub(super) width: usize,
    /// Items it has room for.
    pub(super) items: usize,
    /// What says how many of them are there.
    pub(super) frontier: Frontier,
}

impl Area {
    /// Where some of its items lie; none if it has not so many.
    pub(super) fn span(&self, items: &Range<usize>) -> Option<Range<usize>> {
        (items.start <= items.end && items.end <= self.items)
            .then(|| self.start + items.start * self.width..self.start + items.end * self.width)
    }

    /// The whole of it.
    pub(super) const fn range(&self) -> Range<usize> {
        self.start..self.start + self.items * self.width
    }
}

/// A reader's view of a block.
pub(super) trait ReadStorage {
    /// Octets of the block.
    fn size(&self) -> usize;

    /// The head: immutable.
    fn head(&self) -> &[u8];

    /// A word, `Acquire`: what the writer wrote before it stored this value is visible now.
    fn load(&self, word: usize) -> u64;

    /// Items of an area; none if they lie beyond its frontier or its end.
    fn items(&self, area: &Area, items: Range<usize>) -> Option<&[u8]>;
}

/// The one writer's view of a block.
pub(super) trait WriteStorage {
    /// Stores a word, `Release`: pairs with [`ReadStorage::load`].
    fn store(&mut self, word: usize, value: u64);

    /// Writes items from `item` on. They must be reserved and lie at or beyond the frontier.
    fn write(&mut self, area: &Area, item: usize, bytes: &[u8]);

    /// Items that this writer wrote, published or not.
    fn written(&self, area: &Area, items: Range<usize>) -> &[u8];

    /// Makes sure that a range can be written to without running out of space.
    fn reserve(&mut self, range: Range<usize>) -> io::Result<()>;

    /// Gives back the pages that lie wholly in a range; it reads as zeros from now on.
    fn discard(&mut self, range: Range<usize>) -> io::Result<()>;

    /// Octets of memory or disk that the block takes.
    fn allocated(&self) -> io::Result<u64>;

    /// Waits until everything written is on the disk.
    fn sync(&self) -> io::Result<()>;
}
