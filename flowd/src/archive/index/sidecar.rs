//! Sidecar: the file of a segment's index.
//!
//! ```text
//! "FLOWDIDX" version:4 row groups:4 seed:8      numbers least octet first
//! SHA-256 of the segment:32
//! { rows:8 size:8 XXH3 of its filter:8 } for each row group
//! XXH3 of all this:8
//! the filters, one after the other
//! ```
//! It says itself which segment it is of, so that one that is made later serves without a word
//! of the manifest.

use super::bytes::{Reader, put_u32, put_u64};
use super::filter::Filter;
use super::key::IndexKey;
use super::sidecar_path;
use crate::archive::error::ArchiveError;
use crate::archive::manifest::{SegmentEntry, hex, sync_dir};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 8] = *b"FLOWDIDX";
const VERSION: u32 = 2;
const SECTION_SIZE: usize = 24;
/// Octets from the magic to the first section.
const HEAD_SIZE: usize = 56;

/// A sidecar of more octets than this is not read.
pub const SIDECAR_SIZE_MAX: u64 = 1 << 30;

/// What the manifest says of a segment's sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Octets of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl IndexEntry {
    /// The entry of a sidecar's octets.
    fn of(sidecar: &[u8]) -> Self {
        Self { bytes: sidecar.len() as u64, sha256: hex(&Sha256::digest(sidecar)) }
    }
}

/// A row group's part of a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    rows: u64,
    size: u64,
    checksum: u64,
}

impl Section {
    pub(super) fn of(rows: u64, filter: &[u8]) -> Self {
        Self { rows, size: filter.len() as u64, checksum: xxh3_64(filter) }
    }
}

/// The octets of the sidecar of a segment, given by its SHA-256 in hexadecimal.
pub(super) fn encode(segment: &str, seed: u64, sections: &[Section], filters: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_SIZE + SECTION_SIZE * sections.len() + 8 + filters.len());
    out.extend_from_slice(&MAGIC);
    put_u32(&mut out, VERSION);
    put_u32(&mut out, u32::try_from(sections.len()).unwrap_or(u32::MAX));
    put_u64(&mut out, seed);
    out.extend_from_slice(&digest_octets(segment));
    for section in sections {
        put_u64(&mut out, section.rows);
        put_u64(&mut out, section.size);
        put_u64(&mut out, section.checksum);
    }
    let mark = xxh3_64(&out);
    put_u64(&mut out, mark);
    out.extend_from_slice(filters);
    out
}

/// The octets of a digest in hexadecimal; zeros where it is none.
pub(super) fn digest_octets(hexadecimal: &str) -> [u8; 32] {
    let digit = |index: usize| {
        let digit = hexadecimal.as_bytes().get(index).copied().map(char::from);
        digit.and_then(|digit| digit.to_digit(16)).unwrap_or(0) as u8
    };
    std::array::from_fn(|index| digit(2 * index) << 4 | digit(2 * index + 1))
}

/// What stands before the filters.
struct Head<'a> {
    seed: u64,
    segment: [u8; 32],
    sections: Vec<Section>,
    filters: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (magic, version) = (reader.take::<8>()?, reader.u32()?);
        let count = reader.u32()? as usize;
        let (seed, segment) = (reader.u64()?, reader.take::<32>()?);
        let size = count.checked_mul(SECTION_SIZE)?.checked_add(HEAD_SIZE)?;
        // No more is taken for true than there are octets.
        let head = bytes.get(..size)?;
        let section = |reader: &mut Reader<'_>| {
            Some(Section { rows: reader.u64()?, size: reader.u64()?, checksum: reader.u64()? })
        };
        let sections = (0..count).map(|_| section(&mut reader)).collect::<Option<Vec<_>>>()?;
        let is_whole = magic == MAGIC && version == VERSION && reader.u64()? == xxh3_64(head);
        is_whole.then(|| Self { seed, segment, sections, filters: reader.rest() })
    }
}

/// A segment's index, read and found whole.
#[derive(Debug)]
pub struct Sidecar {
    bytes: Vec<u8>,
    seed: u64,
    /// Where each row group's filter lies.
    filters: Vec<Range<usize>>,
}

impl Sidecar {
    /// Reads the sidecar of a segment; none if it has none and never had.
    ///
    /// # Errors
    /// If it cannot be read, is gone, or is not that of the segment.
    pub fn read(archive_dir: &Path, entry: &SegmentEntry) -> Result<Option<Self>, ArchiveError> {
        let path = sidecar_path(archive_dir, &entry.path);
        let damaged = |what| ArchiveError::DamagedIndex { path: path.clone(), what };
        let size = match fs::metadata(&path) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && entry.index.is_none() => {
                return Ok(None);
            }
            Err(error) => return Err(ArchiveError::io("read", &path)(error)),
        };
        if size > SIDECAR_SIZE_MAX {
            return Err(damaged("it is too long"));
        }
        let bytes = fs::read(&path).map_err(ArchiveError::io("read", &path))?;
        Self::check(bytes, entry).map(Some).map_err(damaged)
    }

    /// Reads it, and compares its digest with that in the manifest, if there is one.
    ///
    /// # Errors
    /// If it cannot be read, is gone, or is not the one that was written.
    pub(in crate::archive) fn verify(
        archive_dir: &Path,
        entry: &SegmentEntry,
    ) -> Result<Option<Self>, ArchiveError> {
        let sidecar = Self::read(archive_dir, entry)?;
        if let (Some(sidecar), Some(index)) = (&sidecar, &entry.index)
            && IndexEntry::of(&sidecar.bytes) != *index
        {
            let path = sidecar_path(archive_dir, &entry.path);
            return Err(ArchiveError::DamagedIndex { path, what: "its digest is another" });
        }
        Ok(sidecar)
    }

    fn check(bytes: Vec<u8>, entry: &SegmentEntry) -> Result<Self, &'static str> {
        let head = Head::read(&bytes).ok_or("its head does not hold")?;
        let rows = head.sections.iter().map(|section| section.rows);
        let listed = entry.row_groups.iter().map(|group| group.rows as u64);
        if head.segment != digest_octets(&entry.sha256) || !rows.eq(listed) {
            return Err("it is that of another segment");
        }
        let base = bytes.len() - head.filters.len();
        let mut filters = Vec::with_capacity(head.sections.len());
        let mut rest = head.filters;
        for section in &head.sections {
            let size = usize::try_from(section.size).unwrap_or(usize::MAX);
            let (filter, after) = rest.split_at_checked(size).ok_or("a filter is cut")?;
            if xxh3_64(filter) != section.checksum || Filter::decode(filter).is_none() {
                return Err("a filter does not hold");
            }
            let start = base + head.filters.len() - rest.len();
            filters.push(start..start + size);
            rest = after;
        }
        if !rest.is_empty() {
            return Err("it has more than its filters");
        }
        let seed = head.seed;
        Ok(Self { bytes, seed, filters })
    }

    /// May a row group have a record of this key? No is certain.
    #[must_use]
    pub fn may_have(&self, row_group: usize, key: IndexKey) -> bool {
        let filter = self.filters.get(row_group).and_then(|range| self.bytes.get(range.clone()));
        let filter = filter.and_then(Filter::decode);
        filter.is_none_or(|filter| filter.may_hold(key.hash(self.seed)))
    }

    /// Octets that it takes in memory.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes a segment's sidecar, safe on disk under its name, and says what the manifest is to
/// say of it.
pub(super) fn write_sidecar(
    archive_dir: &Path,
    segment: &str,
    sidecar: &[u8],
) -> Result<IndexEntry, ArchiveError> {
    replace(&sidecar_path(archive_dir, segment), sidecar)?;
    Ok(IndexEntry::of(sidecar))
}

/// Gives a file new content as a whole, and waits until it is on disk.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), ArchiveError> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(ArchiveError::io("make", directory))?;
    let mut new = path.as_os_str().to_owned();
    new.push(crate::archive::writer::NEW_SUFFIX);
    let new = PathBuf::from(new);
    let written = File::create(&new)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| sync_dir(directory));
    if written.is_err() {
        // A full disk is not filled with tries.
        drop(fs::remove_file(&new));
    }
    written.map_err(ArchiveError::io("write", &new))
}
