//! Checksums of a segment's octets, so that what was changed on its way to the disk and back is
//! told as damage and not as records.
//!
//! ```text
//! | data, in pieces of CHECKED_SIZE octets          | tail: page index and footer    |
//!   XXH3 of each piece, in the footer's key-value --^   XXH3 in the manifest's line
//! ```
//! Parquet has a place for a checksum in the head of each page; the library that writes them here
//! leaves it empty. Pieces of the file serve as well, and cover the heads of the pages too.

use super::objects::SegmentFile;
use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::reader::{ChunkReader, Length};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Octets of data under one checksum.
const CHECKED_SIZE: u64 = 32 << 10;
/// Where the footer has the checksums of the data.
const KEY: &str = "flowd.xxh3";

/// How a segment ends: its octets after the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailEntry {
    /// How many.
    pub bytes: u64,
    /// Their XXH3 (64 bits), in hexadecimal.
    pub xxh3: String,
}

impl TailEntry {
    fn is_of(&self, octets: &[u8]) -> bool {
        self.xxh3 == text_of(xxh3_64(octets))
    }
}

fn text_of(checksum: u64) -> String {
    format!("{checksum:016x}")
}

/// Adds up checksums of what passes by on its way to the file.
#[derive(Default)]
pub(super) struct Summing {
    piece: Xxh3,
    piece_size: u64,
    pieces: String,
    /// Once the data has ended.
    tail: Option<(Xxh3, u64)>,
}

impl Summing {
    /// Takes the octets that come next.
    pub(super) fn update(&mut self, mut octets: &[u8]) {
        if let Some((tail, size)) = &mut self.tail {
            tail.update(octets);
            *size += octets.len() as u64;
            return;
        }
        while !octets.is_empty() {
            let room = usize::try_from(CHECKED_SIZE - self.piece_size).unwrap_or(usize::MAX);
            let (now, later) = octets.split_at(room.min(octets.len()));
            self.piece.update(now);
            self.piece_size += now.len() as u64;
            if self.piece_size == CHECKED_SIZE {
                self.end_piece();
            }
            octets = later;
        }
    }

    /// Ends the data, and gives the footer its checksums. What comes next is the tail.
    pub(super) fn end_data(&mut self) -> KeyValue {
        if self.piece_size > 0 {
            self.end_piece();
        }
        self.tail = Some((Xxh3::new(), 0));
        KeyValue::new(KEY.to_owned(), std::mem::take(&mut self.pieces))
    }

    /// What the manifest says of the tail; none if the data has not ended.
    pub(super) fn tail(&self) -> Option<TailEntry> {
        let (tail, bytes) = self.tail.as_ref()?;
        Some(TailEntry { bytes: *bytes, xxh3: text_of(tail.digest()) })
    }

    fn end_piece(&mut self) {
        self.pieces.push_str(&text_of(self.piece.digest()));
        self.piece.reset();
        self.piece_size = 0;
    }
}

/// The tail of a segment, read whole.
#[derive(Debug)]
pub(super) struct CheckedTail {
    octets: Bytes,
    start: u64,
}

impl CheckedTail {
    /// Reads the tail of a file, and sees whether it is what the manifest says.
    pub(super) fn read(file: &SegmentFile, entry: &TailEntry) -> ParquetResult<Self> {
        let is_there = |start: &u64| *start > 0;
        let Some(start) = file.len().checked_sub(entry.bytes).filter(is_there) else {
            return Err(ParquetError::General("it is shorter than its footer".to_owned()));
        };
        let size =
            usize::try_from(entry.bytes).map_err(|error| ParquetError::External(error.into()))?;
        let octets = file.get_bytes(start, size)?;
        if !entry.is_of(&octets) {
            return Err(ParquetError::General(
                "the checksum of its footer does not hold".to_owned(),
            ));
        }
        Ok(Self { octets, start })
    }

    /// The checksums of the data, by what the footer says; none if it has none that fit.
    pub(super) fn checksums(&self, metadata: &ParquetMetaData) -> Option<Checksums> {
        let values = metadata.file_metadata().key_value_metadata()?;
        let text = values.iter().find(|value| value.key == KEY)?.value.as_deref()?;
        let pieces = text.as_bytes().chunks(16).map(|piece| {
            let piece = std::str::from_utf8(piece).ok()?;
            u64::from_str_radix(piece, 16).ok()
        });
        let pieces: Vec<u64> = pieces.collect::<Option<_>>()?;
        let fits = pieces.len() as u64 == self.start.div_ceil(CHECKED_SIZE);
        fits.then(|| Checksums { pieces: pieces.into(), data_size: self.start })
    }
}

impl Length for CheckedTail {
    fn len(&self) -> u64 {
        self.start + self.octets.len() as u64
    }
}

impl ChunkReader for CheckedTail {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let from = start.checked_sub(self.start).ok_or_else(before_the_tail)?;
        self.octets.get_read(from)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let from = start.checked_sub(self.start).ok_or_else(before_the_tail)?;
        self.octets.get_bytes(from, length)
    }
}

fn before_the_tail() -> ParquetError {
    ParquetError::General("its footer tells of octets before it".to_owned())
}

/// The checksums of a segment's data.
#[derive(Clone, Debug)]
pub(super) struct Checksums {
    pieces: Arc<[u64]>,
    data_size: u64,
}

impl Checksums {
    /// The whole pieces in which some octets lie.
    fn around(&self, octets: &Range<u64>) -> Range<u64> {
        let start = octets.start / CHECKED_SIZE * CHECKED_SIZE;
        let end = octets.end.div_ceil(CHECKED_SIZE).saturating_mul(CHECKED_SIZE);
        start..end.min(self.data_size)
    }
}

/// A segment whose data is read piece by piece, each against its checksum.
#[derive(Clone, Debug)]
pub(super) struct CheckedFile {
    file: Arc<SegmentFile>,
    /// None for a segment that was written without.
    checksums: Option<Checksums>,
}

impl CheckedFile {
    pub(super) fn new(file: SegmentFile, checksums: Option<Checksums>) -> Self {
        Self { file: Arc::new(file), checksums }
    }

    /// What has to be fetched for some octets, given by the first of them and their number.
    pub(super) fn needed(&self, (start, size): (u64, u64)) -> (u64, u64) {
        let Some(checksums) = &self.checksums else {
            return (start, size);
        };
        let around = checksums.around(&(start..start.saturating_add(size)));
        (around.start, around.end.saturating_sub(around.start))
    }

    /// The file itself.
    pub(super) fn file(&self) -> &SegmentFile {
        &self.file
    }
}

impl Length for CheckedFile {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for CheckedFile {
    type T = CheckedRead;

    fn get_read(&self, start: u64) -> ParquetResult<CheckedRead> {
        Ok(CheckedRead { file: self.clone(), at: start, held: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let Some(checksums) = &self.checksums else {
            return self.file.get_bytes(start, length);
        };
        let end = start.checked_add(length as u64).filter(|end| *end <= checksums.data_size);
        let Some(end) = end else {
            return Err(ParquetError::EOF("beyond the end of its data".to_owned()));
        };
        let around = checksums.around(&(start..end));
        let size = usize::try_from(around.end.saturating_sub(around.start));
        let octets = self.file.get_bytes(around.start, size.unwrap_or(usize::MAX))?;
        let first = usize::try_from(around.start / CHECKED_SIZE).unwrap_or(usize::MAX);
        let expected = checksums.pieces.iter().skip(first);
        let pieces = octets.chunks(CHECKED_SIZE as usize);
        if let Some(number) = pieces.zip(expected).position(|(it, sum)| xxh3_64(it) != *sum) {
            let at = around.start + number as u64 * CHECKED_SIZE;
            let what = format!("the checksum of its octets from {at} on does not hold");
            return Err(ParquetError::General(what));
        }
        let from = usize::try_from(start - around.start).unwrap_or(usize::MAX);
        Ok(octets.slice(from..from + length))
    }
}

/// Reads on from somewhere in a segment's data, a piece at a time.
#[derive(Debug)]
pub(super) struct CheckedRead {
    file: CheckedFile,
    at: u64,
    held: Bytes,
}

impl Read for CheckedRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.held.is_empty() {
            let end = match &self.file.checksums {
                Some(checksums) => checksums.data_size,
                None => self.file.len(),
            };
            let piece_end = (self.at / CHECKED_SIZE + 1) * CHECKED_SIZE;
            let size = piece_end.min(end).saturating_sub(self.at);
            let size = usize::try_from(size).map_err(io::Error::other)?;
            if size == 0 {
                return Ok(0);
            }
            self.held = self.file.get_bytes(self.at, size).map_err(io::Error::other)?;
        }
        let size = self.held.len().min(buffer.len());
        buffer[..size].copy_from_slice(&self.held.split_to(size));
        self.at += size as u64;
        Ok(size)
    }
}
