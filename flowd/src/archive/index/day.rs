//! Day: one file with a filter of the addresses of each segment of a day, so that segments
//! without an address are passed over without opening a file for each.
//!
//! ```text
//! STORE/index/date=2024-07-02/day.idx: records, one after the other
//! "FDY2" size of the filter:4 seed:8 SHA-256 of the segment:32 filter XXH3 of all this:8
//! ```
//! A record is added when a segment is written, and speaks of that segment alone: of segments
//! without a record nothing is known, and records of segments that are gone do no harm. What
//! follows a record that does not hold is not read. The writer cuts off what a kill left of its
//! last one.

use super::bytes::{Reader, put_u32, put_u64};
use super::filter::{self, Filter};
use super::index_dir;
use super::key::IndexKey;
use super::sidecar::digest_octets;
use crate::archive::error::ArchiveError;
use crate::archive::manifest::SegmentEntry;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const FILE: &str = "day.idx";
const MAGIC: [u8; 4] = *b"FDY2";
const HEAD_SIZE: usize = 48;
const CHECKSUM_SIZE: usize = 8;

/// Of a longer file nothing is read, and to it nothing is added: the segments' own indexes serve.
pub const DAY_SIZE_MAX: u64 = 256 << 20;

/// The file of the day of a segment, whose path is relative to the archive's directory.
#[must_use]
pub fn day_path(archive_dir: &Path, segment: &str) -> PathBuf {
    index_dir(archive_dir).join(date_of(segment)).join(FILE)
}

/// The first part of a segment's path, which tells its day.
#[must_use]
pub fn date_of(segment: &str) -> &str {
    segment.split('/').next().unwrap_or(segment)
}

/// The record of a segment, given by its SHA-256 in hexadecimal.
pub(super) fn record(segment: &str, seed: u64, addresses: Vec<u64>) -> Vec<u8> {
    let mut encoded = Vec::new();
    filter::encode(addresses, &mut encoded);
    let mut out = Vec::with_capacity(HEAD_SIZE + encoded.len() + CHECKSUM_SIZE);
    out.extend_from_slice(&MAGIC);
    put_u32(&mut out, u32::try_from(encoded.len()).unwrap_or(u32::MAX));
    put_u64(&mut out, seed);
    out.extend_from_slice(&digest_octets(segment));
    out.extend_from_slice(&encoded);
    let checksum = xxh3_64(&out);
    put_u64(&mut out, checksum);
    out
}

/// Adds a record to the file of a day. It need not be safe on disk: without it its segment is
/// looked at by itself.
pub(super) fn append(path: &Path, record: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options.read(true).append(true).create(true).open(path)?;
    let end = whole_records(&file)?;
    if end != file.metadata()?.len() {
        file.set_len(end)?;
    }
    if end + record.len() as u64 <= DAY_SIZE_MAX {
        file.write_all(record)?;
    }
    Ok(())
}

/// Where the records end that are there whole, by their sizes; what is in them is seen when they
/// are read.
fn whole_records(file: &File) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut at = 0;
    let mut head = [0; HEAD_SIZE];
    while at + (HEAD_SIZE + CHECKSUM_SIZE) as u64 <= size {
        file.read_exact_at(&mut head, at)?;
        let Some((filter_size, _, _)) = read_head(&mut Reader(&head)) else { break };
        let next = at + (HEAD_SIZE + filter_size + CHECKSUM_SIZE) as u64;
        if next > size {
            break;
        }
        at = next;
    }
    Ok(at)
}

/// The size of the filter, the seed, and the segment.
fn read_head(reader: &mut Reader<'_>) -> Option<(usize, u64, [u8; 32])> {
    let magic = reader.take::<4>()?;
    let (size, seed, segment) = (reader.u32()?, reader.u64()?, reader.take::<32>()?);
    (magic == MAGIC).then_some((size as usize, seed, segment))
}

/// The filters of the segments of a day.
#[derive(Debug, Default)]
pub struct Day {
    bytes: Vec<u8>,
    /// By segment: the seed of its keys, and where its filter lies.
    filters: HashMap<[u8; 32], (u64, Range<usize>)>,
    is_damaged: bool,
    is_full: bool,
}

impl Day {
    /// Reads the file of a segment's day; one that says nothing if there is none, or it is too
    /// long.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(archive_dir: &Path, segment: &str) -> Result<Self, ArchiveError> {
        let path = day_path(archive_dir, segment);
        let size = match fs::metadata(&path) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(ArchiveError::io("read", &path)(error)),
        };
        // A record that finds no room may be of any size.
        let is_full = size > DAY_SIZE_MAX / 2;
        if size > DAY_SIZE_MAX {
            return Ok(Self { is_full, ..Self::default() });
        }
        let bytes = fs::read(&path).map_err(ArchiveError::io("read", &path))?;
        Ok(Self { is_full, ..Self::of(bytes) })
    }

    fn of(bytes: Vec<u8>) -> Self {
        let mut filters = HashMap::new();
        let mut is_damaged = false;
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let Some((size, seed, segment)) = read_head(&mut Reader(rest)) else {
                // The beginning of a record that is being written is no damage.
                is_damaged = rest.len() >= HEAD_SIZE;
                break;
            };
            let end = HEAD_SIZE + size;
            let Some((record, after)) = rest.split_at_checked(end) else { break };
            let Some(checksum) = Reader(after).u64() else { break };
            if checksum != xxh3_64(record) || Filter::decode(&record[HEAD_SIZE..]).is_none() {
                is_damaged = true;
                break;
            }
            filters.insert(segment, (seed, at + HEAD_SIZE..at + end));
            at += end + CHECKSUM_SIZE;
        }
        Self { bytes, filters, is_damaged, is_full: false }
    }

    /// Does it tell of this segment?
    #[must_use]
    pub fn tells_of(&self, entry: &SegmentEntry) -> bool {
        self.filters.contains_key(&digest_octets(&entry.sha256))
    }

    /// Is there a record that does not hold?
    #[must_use]
    pub const fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// May segments lack their record because there was no room for it?
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// The filter of a segment; none if nothing is known of it.
    #[must_use]
    pub fn filter_of(&self, entry: &SegmentEntry) -> Option<DayFilter<'_>> {
        let (seed, range) = self.filters.get(&digest_octets(&entry.sha256))?;
        let filter = self.bytes.get(range.clone()).and_then(Filter::decode)?;
        Some(DayFilter { seed: *seed, filter })
    }
}

/// The addresses of one segment.
#[derive(Debug)]
pub struct DayFilter<'a> {
    seed: u64,
    filter: Filter<'a>,
}

impl DayFilter<'_> {
    /// May the segment have a record of this key? No is certain.
    #[must_use]
    pub fn may_have(&self, key: IndexKey) -> bool {
        matches!(key, IndexKey::Service(..)) || self.filter.may_hold(key.hash(self.seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::index::key::{Transport, mix};
    use crate::model::RecordType;

    fn segment(number: u8) -> SegmentEntry {
        SegmentEntry {
            id: number.into(),
            path: format!("date=2024-07-03/hour=14/{number:08}.parquet"),
            record_type: RecordType::Flow,
            hour: 477_758,
            covered: Vec::new(),
            rows: 1,
            row_groups: Vec::new(),
            received: (0, 0),
            bytes: 0,
            sha256: format!("{number:02x}").repeat(32),
            tail: None,
            index: None,
        }
    }

    fn key(number: u8, host: u8) -> IndexKey {
        IndexKey::Address([10, 0, number, host].into())
    }

    /// The record of a segment with some addresses of its own.
    fn record_of(number: u8) -> Vec<u8> {
        let seed = mix(number.into());
        let addresses = (0..=255).map(|host| key(number, host).hash(seed)).collect();
        record(&segment(number).sha256, seed, addresses)
    }

    #[test]
    fn each_segment_is_told_by_its_own_record() {
        let dir = tempfile::tempdir().unwrap();
        let archive_dir = dir.path().join("archive");
        let path = day_path(&archive_dir, &segment(1).path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for number in 1..4 {
            append(&path, &record_of(number)).unwrap();
        }
        let day = Day::read(&archive_dir, &segment(1).path).unwrap();
        assert!(!day.is_damaged());
        for number in 1..4 {
            let filter = day.filter_of(&segment(number)).unwrap();
            assert!((0..=255).all(|host| filter.may_have(key(number, host))));
            let strangers = (0..=255).filter(|&host| filter.may_have(key(9, host)));
            assert!(strangers.count() < 20);
            let service = IndexKey::Service([10, 9, 9, 9].into(), 53, Transport::Udp);
            assert!(filter.may_have(service), "services are known to sidecars only");
        }
        assert!(day.filter_of(&segment(4)).is_none());
    }

    #[test]
    fn a_cut_record_is_written_over_and_a_changed_one_ends_the_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let (first, second) = (record_of(1), record_of(2));
        for cut in 1..second.len() {
            let torn = [&first[..], &second[..cut]].concat();
            let day = Day::of(torn.clone());
            assert!(day.tells_of(&segment(1)) && !day.tells_of(&segment(2)), "{cut}");
            assert!(!day.is_damaged(), "{cut}");
            if cut % 40 == 1 {
                fs::write(&path, torn).unwrap();
                append(&path, &second).unwrap();
                assert_eq!(fs::read(&path).unwrap(), [&first[..], &second].concat());
            }
        }
        let both = [&first[..], &second].concat();
        for at in 0..first.len() {
            let mut changed = both.clone();
            changed[at] ^= 4;
            let day = Day::of(changed);
            assert!(!day.tells_of(&segment(1)), "octet {at}");
            assert!(!day.tells_of(&segment(2)), "octet {at}");
        }
    }
}
