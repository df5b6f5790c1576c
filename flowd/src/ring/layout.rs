//! Where things lie in a block: the head, and the areas that follow from it.
//!
//! ```text
//! head         what the block is; the columns by name, so that another version may read it
//! words        state, the three frontiers, the stripe table
//! shape ids    u16 a row: index into the dictionary's shapes
//! origin ids   u16 a row: index into the dictionary's origins
//! columns      one area each, rows x width; those in no shape are never touched
//! offsets      u32 a row: where its extras begin in the heap
//! dictionary   shapes and origins, in the order of their ids
//! extras       values of the elements that have no column
//! ```
//! Areas begin at pages. The file is sparse: an area costs nothing until it is reserved.

use super::lane::{BlockId, Lane};
use super::storage::{Area, FIRST_STRIPE, Frontier};
use crate::model::{Column, ColumnKind, ColumnSet};
use bytemuck::{Pod, Zeroable};
use xxhash_rust::xxh3::xxh3_64;

/// Octets of the head: one page for what the block is, one for its columns.
pub(super) const HEAD_SIZE: usize = 8_192;
/// Words that one stripe has in the stripe table.
pub(super) const STRIPE_WORDS: usize = 4;

/// Reads as text in a hex dump; on a machine of the other byte order it does not match.
const MAGIC: u64 = u64::from_ne_bytes(*b"flowdblk");
const FORMAT_VERSION: u32 = 2;
const DIRECTORY_START: usize = 4_096;
const COLUMNS_MAX: usize = (HEAD_SIZE - DIRECTORY_START) / size_of::<RawColumn>();

const ROWS_MAX: usize = 1 << 20;
const EXTRAS_SIZE_MAX: usize = 1 << 30;
const DICTIONARY_SIZE_MAX: usize = 1 << 26;
const PAGE_SIZE_MAX: usize = 1 << 20;

const _: () = assert!(usize::BITS == 64, "block files are mapped whole");
const _: () = assert!(Column::COUNT <= COLUMNS_MAX);
const _: () = assert!(size_of::<RawHead>() <= DIRECTORY_START);

/// The sizes that a block's layout follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockFormat {
    /// What areas are aligned to.
    pub(super) page_size: usize,
    /// Rows that fit.
    pub(super) rows_max: usize,
    /// Rows that one checksum covers.
    pub(super) stripe_rows: usize,
    /// Octets of extras that fit.
    pub(super) extras_size_max: usize,
    /// Octets of shapes and origins that fit.
    pub(super) dictionary_size_max: usize,
}

impl BlockFormat {
    fn is_valid(&self) -> bool {
        let Self { page_size, rows_max, stripe_rows, extras_size_max, dictionary_size_max } = *self;
        page_size.is_power_of_two()
            && (8..=PAGE_SIZE_MAX).contains(&page_size)
            && (1..=ROWS_MAX).contains(&rows_max)
            && (1..=rows_max).contains(&stripe_rows)
            && extras_size_max <= EXTRAS_SIZE_MAX
            && dictionary_size_max <= DICTIONARY_SIZE_MAX
    }
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHead {
    /// Its name.
    pub(super) id: BlockId,
    /// The boot it was written in: memory that was not on disk is lost with it.
    pub(super) boot_id: [u8; 16],
    /// The hour of receipt of all its rows, counted from 1970.
    pub(super) hour: i64,
    /// When it was made, in milliseconds since 1970.
    pub(super) created: i64,
}

impl BlockHead {
    /// A number that no other block of the store has, but for one chance in 2^64. Checksums
    /// begin with it, so that what another block left in the file holds under no other head.
    pub(super) fn identity(&self) -> u64 {
        let Self { id: BlockId { shard, lane, number }, boot_id: _, hour, created } = *self;
        let name = u64::from(shard) << 8 | lane as u64;
        let parts = [name, number, hour.cast_unsigned(), created.cast_unsigned()];
        xxh3_64(bytemuck::cast_slice(&parts))
    }
}

/// Why a head cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeadFault {
    /// It is not what a writer wrote.
    Damaged(&'static str),
    /// It is, but this version does not know something in it.
    Version(String),
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawHead {
    magic: u64,
    version: u32,
    page_size: u32,
    shard: u16,
    lane: u8,
    columns: u8,
    rows_max: u32,
    number: u64,
    stripe_rows: u32,
    extras_size_max: u32,
    dictionary_size_max: u32,
    reserved: u32,
    boot_id: [u8; 16],
    hour: i64,
    created: i64,
    size: u64,
    /// XXH3 of the fields above and of the directory.
    checksum: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawColumn {
    name: [u8; 48],
    start: u64,
    kind: u8,
    reserved: [u8; 7],
}

/// Where the areas of a block lie.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The sizes it follows from.
    pub(super) format: BlockFormat,
    /// The columns in the order of their areas; stored sets of columns count in this order.
    pub(super) columns: Vec<Column>,
    /// Octets of head and words.
    pub(super) fixed_size: usize,
    /// A u16 a row.
    pub(super) shape_ids: Area,
    /// A u16 a row.
    pub(super) origin_ids: Area,
    /// A u32 a row.
    pub(super) extras_offsets: Area,
    /// Shapes and origins.
    pub(super) dictionary: Area,
    /// The heap of extras.
    pub(super) extras: Area,
    /// Octets of the file.
    pub(super) size: usize,
    column_areas: [Option<Area>; Column::COUNT],
}

impl Layout {
    /// The layout of blocks that this version writes.
    pub(super) fn new(format: BlockFormat) -> Self {
        assert!(format.is_valid(), "sizes of blocks are within their limits");
        Self::with_columns(format, Column::ALL.to_vec())
    }

    fn with_columns(format: BlockFormat, columns: Vec<Column>) -> Self {
        let fixed_size = HEAD_SIZE + 8 * word_count(&format);
        let mut end = fixed_size;
        let mut area = |width: usize, items: usize, frontier: Frontier| {
            let start = end.next_multiple_of(format.page_size);
            end = start + width * items;
            Area { start, width, items, frontier }
        };
        let rows = format.rows_max;
        let shape_ids = area(2, rows, Frontier::Rows);
        let origin_ids = area(2, rows, Frontier::Rows);
        let mut column_areas = [None; Column::COUNT];
        for column in &columns {
            let width = column.kind().width();
            column_areas[column.index()] = Some(area(width, rows, Frontier::Rows));
        }
        let extras_offsets = area(4, rows, Frontier::Rows);
        let dictionary = area(1, format.dictionary_size_max, Frontier::Dictionary);
        let extras = area(1, format.extras_size_max, Frontier::Extras);
        Self {
            format,
            columns,
            fixed_size,
            shape_ids,
            origin_ids,
            extras_offsets,
            dictionary,
            extras,
            size: end.next_multiple_of(format.page_size),
            column_areas,
        }
    }

    /// Where a column lies, if the block has a place for it.
    pub(super) fn column(&self, column: Column) -> Option<&Area> {
        self.column_areas[column.index()].as_ref()
    }

    /// Octets that a block takes whose rows have these columns and no extras.
    pub(super) fn size_of(&self, columns: ColumnSet) -> u64 {
        let areas = columns.iter().filter_map(|column| self.column(column));
        let ids = [&self.shape_ids, &self.origin_ids];
        let size: usize = areas.chain(ids).map(|area| area.range().len()).sum();
        (self.fixed_size + size) as u64
    }

    /// A set of columns as it is stored: in the order of this block's columns.
    pub(super) fn column_bits(&self, columns: ColumnSet) -> u64 {
        let places = self.columns.iter().enumerate();
        let stored = places.filter(|(_, column)| columns.contains(**column));
        stored.fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// Words behind the head.
    pub(super) const fn word_count(&self) -> usize {
        word_count(&self.format)
    }

    /// The index of the first of a stripe's words.
    pub(super) const fn stripe_word(stripe: usize) -> usize {
        FIRST_STRIPE + stripe * STRIPE_WORDS
    }

    /// The head of a block with this layout.
    pub(super) fn encode_head(&self, head: &BlockHead) -> Vec<u8> {
        let BlockFormat { page_size, rows_max, stripe_rows, extras_size_max, dictionary_size_max } =
            self.format;
        let small = |size: usize| u32::try_from(size).expect("is_valid bounds every size");
        let mut bytes = vec![0; HEAD_SIZE];
        let places = bytes[DIRECTORY_START..].chunks_exact_mut(size_of::<RawColumn>());
        for (column, place) in self.columns.iter().zip(places) {
            let area = self.column(*column).expect("each of its columns has an area");
            let mut raw = RawColumn::zeroed();
            raw.name[..column.name().len()].copy_from_slice(column.name().as_bytes());
            raw.start = area.start as u64;
            raw.kind = kind_number(column.kind());
            place.copy_from_slice(bytemuck::bytes_of(&raw));
        }
        let mut raw = RawHead {
            magic: MAGIC,
            version: FORMAT_VERSION,
            page_size: small(page_size),
            shard: head.id.shard,
            lane: head.id.lane as u8,
            columns: u8::try_from(self.columns.len()).expect("COLUMNS_MAX is 64"),
            rows_max: small(rows_max),
            number: head.id.number,
            stripe_rows: small(stripe_rows),
            extras_size_max: small(extras_size_max),
            dictionary_size_max: small(dictionary_size_max),
            reserved: 0,
            boot_id: head.boot_id,
            hour: head.hour,
            created: head.created,
            size: self.size as u64,
            checksum: 0,
        };
        raw.checksum = checksum(&raw, &bytes[DIRECTORY_START..]);
        bytes[..size_of::<RawHead>()].copy_from_slice(bytemuck::bytes_of(&raw));
        bytes
    }

    /// Reads a head and the layout that follows from it. `size` is that of the file.
    pub(super) fn decode_head(bytes: &[u8], size: usize) -> Result<(BlockHead, Self), HeadFault> {
        use HeadFault::Damaged;
        let (raw, directory) = bytes
            .get(..HEAD_SIZE)
            .and_then(|head| head.split_at_checked(DIRECTORY_START))
            .ok_or(Damaged("shorter than a head"))?;
        let raw: RawHead = bytemuck::pod_read_unaligned(&raw[..size_of::<RawHead>()]);
        if raw.magic != MAGIC {
            return Err(Damaged("no block's magic number"));
        }
        if raw.version != FORMAT_VERSION {
            return Err(HeadFault::Version(format!("block format {}", raw.version)));
        }
        if raw.checksum != checksum(&raw, directory) {
            return Err(Damaged("head's checksum"));
        }
        let format = BlockFormat {
            page_size: raw.page_size as usize,
            rows_max: raw.rows_max as usize,
            stripe_rows: raw.stripe_rows as usize,
            extras_size_max: raw.extras_size_max as usize,
            dictionary_size_max: raw.dictionary_size_max as usize,
        };
        if !format.is_valid() {
            return Err(Damaged("sizes in the head"));
        }
        let layout = Self::with_columns(format, decode_columns(directory, raw.columns.into())?);
        if layout.size as u64 != raw.size || layout.starts() != decode_starts(directory, &raw) {
            return Err(Damaged("places of columns"));
        }
        if size < layout.size {
            return Err(Damaged("shorter than its head says"));
        }
        let lane = Lane::from_number(raw.lane)
            .ok_or_else(|| HeadFault::Version(format!("lane {}", raw.lane)))?;
        let head = BlockHead {
            id: BlockId { shard: raw.shard, lane, number: raw.number },
            boot_id: raw.boot_id,
            hour: raw.hour,
            created: raw.created,
        };
        Ok((head, layout))
    }

    fn starts(&self) -> Vec<u64> {
        let areas = self.columns.iter().filter_map(|column| self.column(*column));
        areas.map(|area| area.start as u64).collect()
    }
}

const fn word_count(format: &BlockFormat) -> usize {
    FIRST_STRIPE + STRIPE_WORDS * format.rows_max.div_ceil(format.stripe_rows)
}

fn checksum(head: &RawHead, directory: &[u8]) -> u64 {
    let fields = RawHead { checksum: 0, ..*head };
    let parts = [xxh3_64(bytemuck::bytes_of(&fields)), xxh3_64(directory)];
    xxh3_64(bytemuck::cast_slice(&parts))
}

fn raw_columns(directory: &[u8], count: usize) -> impl Iterator<Item = RawColumn> {
    let places = directory.chunks_exact(size_of::<RawColumn>()).take(count);
    places.map(bytemuck::pod_read_unaligned)
}

fn decode_starts(directory: &[u8], raw: &RawHead) -> Vec<u64> {
    let columns = raw_columns(directory, raw.columns.into());
    columns.map(|column| column.start).collect()
}

fn decode_columns(directory: &[u8], count: usize) -> Result<Vec<Column>, HeadFault> {
    let mut columns = Vec::with_capacity(count);
    for raw in raw_columns(directory, count) {
        let text = String::from_utf8_lossy(&raw.name);
        let name = text.trim_end_matches('\0');
        let column = Column::from_name(name)
            .filter(|column| kind_number(column.kind()) == raw.kind)
            .ok_or_else(|| HeadFault::Version(format!("column {name}")))?;
        if columns.contains(&column) {
            return Err(HeadFault::Damaged("a column twice"));
        }
        columns.push(column);
    }
    if columns.len() != count {
        return Err(HeadFault::Damaged("number of columns"));
    }
    Ok(columns)
}

/// A kind's number in the directory. These numbers are part of the format.
const fn kind_number(kind: ColumnKind) -> u8 {
    match kind {
        ColumnKind::U8 => 1,
        ColumnKind::U16 => 2,
        ColumnKind::U32 => 3,
        ColumnKind::U64 => 4,
        ColumnKind::Ipv4 => 5,
        ColumnKind::Ipv6 => 6,
        ColumnKind::Mac => 7,
        ColumnKind::Millis => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORMAT: BlockFormat = BlockFormat {
        page_size: 4_096,
        rows_max: 1_000,
        stripe_rows: 64,
        extras_size_max: 5_000,
        dictionary_size_max: 3_000,
    };

    fn head() -> BlockHead {
        BlockHead {
            id: BlockId { shard: 4, lane: Lane::Ipv6, number: 99 },
            boot_id: [7; 16],
            hour: 480_000,
            created: 1_728_000_000_123,
        }
    }

    #[test]
    fn a_head_leads_back_to_its_layout() {
        let layout = Layout::new(FORMAT);
        let bytes = layout.encode_head(&head());
        let (read, read_layout) = Layout::decode_head(&bytes, layout.size).unwrap();
        assert_eq!(read, head());
        assert_eq!(read_layout.size, layout.size);
        assert_eq!(read_layout.starts(), layout.starts());
        assert_eq!(
            Layout::decode_head(&bytes, layout.size - 1).unwrap_err(),
            HeadFault::Damaged("shorter than its head says")
        );
        assert!(Layout::decode_head(&bytes[..HEAD_SIZE - 1], layout.size).is_err());
    }

    #[test]
    fn areas_begin_at_pages_and_do_not_overlap() {
        let layout = Layout::new(FORMAT);
        let mut ranges: Vec<_> = std::iter::once(0..layout.fixed_size).collect();
        ranges.extend([&layout.shape_ids, &layout.origin_ids].map(Area::range));
        ranges.extend(layout.columns.iter().map(|c| layout.column(*c).unwrap().range()));
        ranges
            .extend([&layout.extras_offsets, &layout.dictionary, &layout.extras].map(Area::range));
        for pair in ranges.windows(2) {
            assert!(pair[0].end <= pair[1].start);
            assert_eq!(pair[1].start % FORMAT.page_size, 0);
        }
        assert!(ranges.last().unwrap().end <= layout.size);
    }

    #[test]
    fn a_block_of_fewer_columns_in_another_order_is_read() {
        let older = vec![Column::OctetDeltaCount, Column::SourceIpv4Address];
        let layout = Layout::with_columns(FORMAT, older.clone());
        let bytes = layout.encode_head(&head());
        let (_, read) = Layout::decode_head(&bytes, layout.size).unwrap();
        assert_eq!(read.columns, older);
        assert_eq!(read.column(Column::OctetDeltaCount), layout.column(Column::OctetDeltaCount));
        assert_eq!(read.column(Column::VlanId), None);
    }

    #[test]
    fn a_column_of_another_version_is_named() {
        let layout = Layout::new(FORMAT);
        let mut bytes = layout.encode_head(&head());
        bytes[DIRECTORY_START] = b'S';
        let mut raw: RawHead = bytemuck::pod_read_unaligned(&bytes[..size_of::<RawHead>()]);
        raw.checksum = checksum(&raw, &bytes[DIRECTORY_START..]);
        bytes[..size_of::<RawHead>()].copy_from_slice(bytemuck::bytes_of(&raw));
        assert_eq!(
            Layout::decode_head(&bytes, layout.size).unwrap_err(),
            HeadFault::Version("column SourceIPv4Address".to_owned())
        );
    }

    proptest! {
        #[test]
        fn a_head_with_a_flipped_bit_is_refused(position in 0..HEAD_SIZE * 8) {
            let layout = Layout::new(FORMAT);
            let mut bytes = layout.encode_head(&head());
            bytes[position / 8] ^= 1 << (position % 8);
            let padding = size_of::<RawHead>()..DIRECTORY_START;
            let result = Layout::decode_head(&bytes, layout.size);
            prop_assert_eq!(result.is_err(), !padding.contains(&(position / 8)));
        }
    }
}
