//! NfdumpFile: the header, the blocks, and the records in them.

use super::builder::Builder;
use super::error::ImportError;
use super::exporters::Exporters;
use super::lzo;
use super::reader::Octets;
use super::v1::{self, Form, Maps};
use super::v3;
use crate::model::{FlowRecord, Origin};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::sync::Arc;

/// The first two octets of every file, as a number.
const MAGIC: u16 = 0xa50c;
/// Octets that a block may have, compressed or not. nfdump's own buffers have five MiB.
const BLOCK_SIZE_MAX: usize = 16 << 20;
/// Behind the first four octets: of layout 1 with its statistics, and of layout 2.
const HEADER_SIZE_V1: usize = 4 + 4 + 128 + 136;
const HEADER_SIZE_V2: usize = 36;
const BLOCK_HEADER_SIZE: usize = 12;
/// Kinds of what is not imported that are told apart.
const NOT_IMPORTED_KINDS_MAX: usize = 32;

/// A record with who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The record; its collection time is that of its receipt, or what comes nearest.
    pub record: FlowRecord,
    /// Who sent it.
    pub origin: Arc<Origin>,
}

/// What of a file's records has no place in ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotImported {
    /// Parts of records, and records of other kinds, by name.
    pub parts: BTreeMap<String, u64>,
    /// Records whose counters the collector had multiplied by the sampling rate. They are
    /// imported as they are.
    pub scaled: u64,
}

impl NotImported {
    pub(super) fn count(&mut self, name: &str) {
        if let Some(count) = self.parts.get_mut(name) {
            *count = count.saturating_add(1);
            return;
        }
        let is_full = self.parts.len() >= NOT_IMPORTED_KINDS_MAX;
        let name = if is_full { "others" } else { name };
        let count = self.parts.entry(name.to_owned()).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn count_number(&mut self, kind: &str, number: u16) {
        self.count(&format!("{kind} {number}"));
    }

    /// Adds what another file counted.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.parts {
            let sum = self.parts.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        self.scaled = self.scaled.saturating_add(other.scaled);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Lzo,
    Bz2,
    Lz4,
    Zstd,
}

/// What a file's header says.
#[derive(Clone, Copy, Debug)]
struct Header {
    is_v1: bool,
    compression: Compression,
    block_count: u32,
    /// Where something else than records begins; 0 is nowhere.
    end: u64,
    /// When it was made, or its last flow was seen: for records without any time.
    time: i64,
}

/// The records of a block that are still to be read.
#[derive(Debug, Default)]
struct Block {
    octets: Vec<u8>,
    at: usize,
    records_left: u32,
    /// Where it lies in the file.
    offset: u64,
    /// The file ends before it does.
    is_cut: bool,
}

/// A file that nfcapd, nfdump or one of their like wrote.
#[derive(Debug)]
pub struct NfdumpFile {
    file: BufReader<File>,
    header: Header,
    offset: u64,
    blocks_read: u32,
    block: Block,
    maps: Maps,
    exporters: Exporters,
    left: NotImported,
}

impl NfdumpFile {
    /// Reads the header.
    ///
    /// # Errors
    /// If it is no such file, or of a form that is not read.
    pub fn open(file: File) -> Result<Self, ImportError> {
        let mut file = BufReader::with_capacity(1 << 20, file);
        let header = read_header(&mut file)?;
        let size = if header.is_v1 { HEADER_SIZE_V1 } else { HEADER_SIZE_V2 };
        Ok(Self {
            file,
            header,
            offset: u64::try_from(size.saturating_add(4)).unwrap_or(u64::MAX),
            blocks_read: 0,
            block: Block::default(),
            maps: Maps::default(),
            exporters: Exporters::default(),
            left: NotImported::default(),
        })
    }

    /// Appends records until there are `count_max`, or no more. False at the end of the file.
    ///
    /// # Errors
    /// If the rest of the file is damaged. What stands before that is appended.
    pub fn read(
        &mut self,
        records: &mut Vec<Imported>,
        count_max: usize,
    ) -> Result<bool, ImportError> {
        while records.len() < count_max {
            if self.block.records_left > 0 {
                self.record(records)?;
            } else if !self.next_block()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What was not imported so far.
    #[must_use]
    pub const fn not_imported(&self) -> &NotImported {
        &self.left
    }

    const fn damaged(&self, what: &'static str) -> ImportError {
        ImportError::Damaged { offset: self.block.offset, what }
    }

    /// Reads the next block; false if there is none.
    fn next_block(&mut self) -> Result<bool, ImportError> {
        let is_counted = self.header.block_count > 0;
        if is_counted && self.blocks_read >= self.header.block_count
            || self.header.end > 0 && self.offset >= self.header.end
        {
            return Ok(false);
        }
        self.block.offset = self.offset;
        let mut head = [0; BLOCK_HEADER_SIZE];
        match read_some(&mut self.file, &mut head)? {
            BLOCK_HEADER_SIZE => {}
            0 if !is_counted => return Ok(false),
            _ => return Err(self.damaged("the file ends before its last block")),
        }
        let mut head = Octets::new(&head);
        let unread = || ImportError::Damaged { offset: self.offset, what: "a block has no header" };
        let count = head.u32().ok_or_else(unread)?;
        let size = head.u32().ok_or_else(unread)?;
        let (kind, flags) = (head.u16().ok_or_else(unread)?, head.u16().ok_or_else(unread)?);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > BLOCK_SIZE_MAX {
            return Err(self.damaged("a block is larger than any"));
        }
        let mut stored = vec![0; size];
        let there = read_some(&mut self.file, &mut stored)?;
        self.blocks_read = self.blocks_read.saturating_add(1);
        let step = BLOCK_HEADER_SIZE.saturating_add(size);
        self.offset = self.offset.saturating_add(u64::try_from(step).unwrap_or(u64::MAX));
        let compression = self.compression_of(flags);
        let is_cut = there < size;
        if is_cut && compression != Compression::None {
            return Err(self.damaged("the file ends within a block"));
        }
        stored.truncate(there);
        let holds_records = if self.header.is_v1 { kind == 2 } else { kind == 3 };
        if !holds_records {
            self.left.count_number("block of type", kind);
            return Ok(true);
        }
        let octets = decompress(compression, stored)
            .ok_or_else(|| self.damaged("a block cannot be decompressed"))?;
        self.block =
            Block { octets, at: 0, records_left: count, offset: self.block.offset, is_cut };
        Ok(true)
    }

    /// How a block is compressed: as the file says, unless its flags say that it is not.
    const fn compression_of(&self, flags: u16) -> Compression {
        const UNCOMPRESSED: u16 = 1;
        let is_not = if self.header.is_v1 { flags == UNCOMPRESSED } else { flags & 1 != 0 };
        if is_not { Compression::None } else { self.header.compression }
    }

    /// Reads one record of the block.
    fn record(&mut self, records: &mut Vec<Imported>) -> Result<(), ImportError> {
        const HEADER_SIZE: usize = 4;
        let cut = if self.block.is_cut {
            "the file ends within a block"
        } else {
            "a record reaches beyond its block"
        };
        let octets = std::mem::take(&mut self.block.octets);
        let mut rest = Octets::new(octets.get(self.block.at..).unwrap_or_default());
        let body = (|| {
            let (kind, size) = (rest.u16()?, usize::from(rest.u16()?));
            let body = rest.take(size.checked_sub(HEADER_SIZE)?)?;
            Some((kind, size, Octets::new(body)))
        })();
        let outcome = match body {
            Some((kind, size, body)) => {
                self.block.at = self.block.at.saturating_add(size);
                self.block.records_left = self.block.records_left.saturating_sub(1);
                self.interpret(kind, body, records).ok_or_else(|| {
                    self.damaged("a record's parts do not fit into it, or its map is missing")
                })
            }
            None => Err(self.damaged(cut)),
        };
        self.block.octets = octets;
        if outcome.is_err() {
            self.block.records_left = 0;
        }
        outcome
    }

    fn interpret(
        &mut self,
        kind: u16,
        body: Octets<'_>,
        records: &mut Vec<Imported>,
    ) -> Option<()> {
        let mut builder = Builder::default();
        let Self { maps, left, exporters, header, .. } = self;
        let exporter = match kind {
            1 => v1::read(body, Form::Narrow, maps, &mut builder, left)?,
            10 => v1::read(body, Form::Wide, maps, &mut builder, left)?,
            11 => v3::read(body, &mut builder, left)?.exporter,
            2 => return maps.read(body),
            7 => return exporters.read(body),
            // An exporter's own sums, which the records add up to.
            8 => return Some(()),
            3 | 4 => {
                left.count("histogram");
                return Some(());
            }
            9 | 15 => {
                left.count("sampler");
                return Some(());
            }
            12 => {
                left.count("application name");
                return Some(());
            }
            13 => {
                left.count("interface name");
                return Some(());
            }
            14 => {
                left.count("VRF name");
                return Some(());
            }
            other => {
                left.count_number("record of type", other);
                return Some(());
            }
        };
        let origin = exporters.origin(exporter, builder.exporter);
        records.push(Imported { record: builder.finish(header.time), origin });
        Some(())
    }
}

fn read_header(file: &mut impl Read) -> Result<Header, ImportError> {
    let mut start = [0; 4];
    if read_some(file, &mut start)? < start.len() {
        return Err(ImportError::NotNfdump);
    }
    let [magic_low, magic_high, version_low, version_high] = start;
    match u16::from_le_bytes([magic_low, magic_high]) {
        MAGIC => {}
        other if other.swap_bytes() == MAGIC => return Err(ImportError::ByteOrder),
        _ => return Err(ImportError::NotNfdump),
    }
    let version = u16::from_le_bytes([version_low, version_high]);
    let size = match version {
        1 => HEADER_SIZE_V1,
        2 => HEADER_SIZE_V2,
        other => return Err(ImportError::Layout(other)),
    };
    let mut octets = vec![0; size];
    if read_some(file, &mut octets)? < size {
        return Err(ImportError::Damaged { offset: 4, what: "the file ends within its header" });
    }
    let octets = Octets::new(&octets);
    let header = if version == 1 { header_v1(octets) } else { header_v2(octets)? };
    header.ok_or(ImportError::NotNfdump)
}

fn header_v1(mut octets: Octets<'_>) -> Option<Header> {
    const COMPRESSIONS: [(u32, Compression); 3] =
        [(0x1, Compression::Lzo), (0x8, Compression::Bz2), (0x10, Compression::Lz4)];
    let flags = octets.u32()?;
    let block_count = octets.u32()?;
    octets.take(128)?;
    // Fifteen counters of 64 bits, then when the first and the last flow was seen.
    octets.take(15 * 8)?;
    octets.u32()?;
    let last_seen = octets.u32()?;
    let compression = COMPRESSIONS.into_iter().find(|(flag, _)| flags & flag != 0);
    Some(Header {
        is_v1: true,
        compression: compression.map_or(Compression::None, |(_, compression)| compression),
        block_count,
        end: 0,
        time: i64::from(last_seen).saturating_mul(1_000),
    })
}

/// None if the octets are too few.
fn header_v2(mut octets: Octets<'_>) -> Result<Option<Header>, ImportError> {
    let fields = (|| {
        octets.u32()?;
        let created = octets.u64()?;
        let (compression, encryption) = (octets.u8()?, octets.u8()?);
        octets.u16()?;
        octets.u32()?;
        let end = octets.u64()?;
        octets.u32()?;
        Some((created, compression, encryption, end, octets.u32()?))
    })();
    let Some((created, compression, encryption, end, block_count)) = fields else {
        return Ok(None);
    };
    if encryption != 0 {
        return Err(ImportError::Encrypted);
    }
    let compression = match compression {
        0 => Compression::None,
        1 => Compression::Lzo,
        2 => Compression::Bz2,
        3 => Compression::Lz4,
        4 => Compression::Zstd,
        other => return Err(ImportError::Compression(other)),
    };
    let time = i64::try_from(created.min(u64::from(u32::MAX))).unwrap_or(0).saturating_mul(1_000);
    Ok(Some(Header { is_v1: false, compression, block_count, end, time }))
}

/// Reads until the buffer is full or the file ends; how much.
fn read_some(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ImportError> {
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

/// A block's octets; none if they are damaged or more than a block may have.
fn decompress(compression: Compression, stored: Vec<u8>) -> Option<Vec<u8>> {
    match compression {
        Compression::None => Some(stored),
        Compression::Lzo => lzo::decompress(&stored, BLOCK_SIZE_MAX),
        Compression::Lz4 => lz4(&stored),
        Compression::Bz2 => read_bounded(bzip2::read::BzDecoder::new(stored.as_slice())),
        Compression::Zstd => {
            read_bounded(zstd::stream::read::Decoder::with_buffer(stored.as_slice()).ok()?)
        }
    }
}

fn read_bounded(reader: impl Read) -> Option<Vec<u8>> {
    let bound = u64::try_from(BLOCK_SIZE_MAX).ok()?;
    let mut octets = Vec::new();
    reader.take(bound.saturating_add(1)).read_to_end(&mut octets).ok()?;
    (octets.len() <= BLOCK_SIZE_MAX).then_some(octets)
}

fn lz4(stored: &[u8]) -> Option<Vec<u8>> {
    // A block of LZ4 does not say how large it becomes, but never by more than 255 times.
    let size_max = stored.len().saturating_mul(255).min(BLOCK_SIZE_MAX);
    let mut octets = vec![0; size_max];
    let size = lz4_flex::block::decompress_into(stored, &mut octets).ok()?;
    octets.truncate(size);
    Some(octets)
}
