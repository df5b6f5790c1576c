//! SegmentFile: what Parquet reads a segment from, a file here or ranges of an object.

use super::super::error::ArchiveError;
use super::Objects;
use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Octets at an object's end that are asked for first: its footer and page index, of most whole.
const TAIL_SIZE: u64 = 256 << 10;
/// Octets that are asked for at once where nobody said before what will be read.
const WINDOW_SIZE: u64 = 1 << 20;

/// A segment, opened.
#[derive(Debug)]
pub(in crate::archive) enum SegmentFile {
    /// Its file.
    Local(File),
    /// Its object.
    Object(Arc<ObjectFile>),
}

/// An object that is read by ranges. What was fetched stays as long as this.
#[derive(Debug)]
pub(in crate::archive) struct ObjectFile {
    objects: Arc<Objects>,
    key: String,
    size: u64,
    held: Mutex<Vec<(u64, Bytes)>>,
}

impl SegmentFile {
    /// The object of a segment that has this many octets. Nobody is asked yet.
    pub(in crate::archive) fn object(objects: &Arc<Objects>, key: &str, size: u64) -> Self {
        let (objects, key) = (Arc::clone(objects), key.to_owned());
        Self::Object(Arc::new(ObjectFile { objects, key, size, held: Mutex::default() }))
    }

    /// Fetches the end, where the footer is.
    pub(in crate::archive) fn fetch_tail(&self) -> Result<(), ArchiveError> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Object(object) => {
                let tail = object.size.saturating_sub(TAIL_SIZE)..object.size;
                object.fetch(&[tail])
            }
        }
    }

    /// Fetches what will be read, given by first octet and length, in few requests.
    pub(in crate::archive) fn fetch(
        &self,
        chunks: impl Iterator<Item = (u64, u64)>,
    ) -> Result<(), ArchiveError> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Object(object) => {
                let ranges = chunks.map(|(start, size)| {
                    let start = start.min(object.size);
                    start..start.saturating_add(size).min(object.size)
                });
                let ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
                object.fetch(&ranges)
            }
        }
    }

    /// Reads all of it, a window at a time.
    pub(in crate::archive) fn read_all(
        &self,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ArchiveError> {
        match self {
            Self::Local(file) => {
                let mut buffer = vec![0; 1 << 20];
                let mut file: &File = file;
                loop {
                    let size = file.read(&mut buffer);
                    match size.map_err(ArchiveError::io("read", std::path::Path::new("segment")))? {
                        0 => return Ok(()),
                        size => take(&buffer[..size]),
                    }
                }
            }
            Self::Object(object) => {
                let mut at = 0;
                while at < object.size {
                    let end = object.size.min(at + 8 * WINDOW_SIZE);
                    take(&object.objects.range(&object.key, at..end)?);
                    at = end;
                }
                Ok(())
            }
        }
    }
}

impl ObjectFile {
    fn fetch(&self, ranges: &[Range<u64>]) -> Result<(), ArchiveError> {
        if ranges.is_empty() {
            return Ok(());
        }
        let parts = self.objects.ranges(&self.key, ranges)?;
        let parts = ranges.iter().map(|range| range.start).zip(parts);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).extend(parts);
        Ok(())
    }

    /// What is held from an octet on.
    fn held_at(&self, start: u64) -> Option<Bytes> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().find_map(|(first, octets)| {
            let offset = usize::try_from(start.checked_sub(*first)?).ok()?;
            (offset < octets.len()).then(|| octets.slice(offset..))
        })
    }
}

impl Length for SegmentFile {
    fn len(&self) -> u64 {
        match self {
            Self::Local(file) => Length::len(file),
            Self::Object(object) => object.size,
        }
    }
}

impl ChunkReader for SegmentFile {
    type T = SegmentRead;

    fn get_read(&self, start: u64) -> ParquetResult<SegmentRead> {
        match self {
            Self::Local(file) => file.get_read(start).map(SegmentRead::Local),
            Self::Object(object) => {
                Ok(SegmentRead::Object { object: Arc::clone(object), at: start })
            }
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            Self::Local(file) => file.get_bytes(start, length),
            Self::Object(object) => {
                if let Some(held) = object.held_at(start).filter(|held| held.len() >= length) {
                    return Ok(held.slice(..length));
                }
                let end = start.checked_add(length as u64).filter(|end| *end <= object.size);
                let Some(end) = end else {
                    return Err(ParquetError::EOF("beyond the object's end".to_owned()));
                };
                let read = object.objects.range(&object.key, start..end);
                read.map_err(|error| ParquetError::External(Box::new(error)))
            }
        }
    }
}

/// Reads on from somewhere in a segment.
#[derive(Debug)]
pub(in crate::archive) enum SegmentRead {
    /// From its file.
    Local(BufReader<File>),
    /// From its object.
    Object {
        /// Which.
        object: Arc<ObjectFile>,
        /// The next octet.
        at: u64,
    },
}

impl Read for SegmentRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (object, at) = match self {
            Self::Local(file) => return file.read(buffer),
            Self::Object { object, at } => (object, at),
        };
        if *at >= object.size || buffer.is_empty() {
            return Ok(0);
        }
        let held = match object.held_at(*at) {
            Some(held) => held,
            None => {
                let window = *at..object.size.min(*at + WINDOW_SIZE);
                object.fetch(&[window]).map_err(io::Error::other)?;
                object.held_at(*at).ok_or(io::ErrorKind::UnexpectedEof)?
            }
        };
        let size = held.len().min(buffer.len());
        buffer[..size].copy_from_slice(&held[..size]);
        *at += size as u64;
        Ok(size)
    }
}
