//! Manifest: the only list of segments.
//!
//! A text file of one JSON object a line, replaced as a whole. The first line says what it is
//! and how it ends, so that a cut is seen; each other line holds the SHA-256 of the line before
//! it. What a line covers is in the archive, or lost for a stated reason; the ring's copy of
//! it, if there is one still, must not be counted again.

use super::error::ArchiveError;
use super::index::IndexEntry;
use crate::model::RecordType;
use crate::ring::{BlockId, Lane, LostRows, NumberFloors};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const FILE: &str = Manifest::FILE;
const FILE_NEW: &str = "manifest.jsonl.new";
const FORMAT: &str = "flowd-manifest";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    format: String,
    version: u32,
    /// Rises with each replacement.
    generation: u64,
    /// The id that the next segment gets; ids are never given twice.
    next_segment: u64,
    entries: usize,
    /// SHA-256 of the last line; empty if there is none.
    head: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    entry: Entry,
    /// SHA-256 of the line before; empty in the first.
    previous: String,
}

/// One line of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// A segment.
    Segment(SegmentEntry),
    /// Records that the ring had and that never reached a segment.
    Loss(LossEntry),
}

/// Blocks of one lane, from the first to the last number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The writer.
    pub shard: u16,
    /// The kind of records.
    #[serde(serialize_with = "write_lane", deserialize_with = "read_lane")]
    pub lane: Lane,
    /// The first block.
    pub first: u64,
    /// The last block.
    pub last: u64,
}

/// A row group of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowGroupEntry {
    /// Its rows.
    pub rows: usize,
    /// The least start and the greatest end of its flows, in milliseconds since 1970; none if
    /// a flow in it may lie at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<(i64, i64)>,
}

/// A segment: what is in it, and how to know that it is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentEntry {
    /// Its number, never given twice.
    pub id: u64,
    /// Its file, relative to the archive's directory.
    pub path: String,
    /// What its records tell of.
    #[serde(serialize_with = "write_type", deserialize_with = "read_type")]
    pub record_type: RecordType,
    /// The hour in which its records were received, counted from 1970.
    pub hour: i64,
    /// The blocks that it holds.
    pub covered: Vec<Covered>,
    /// Its rows.
    pub rows: u64,
    /// Its row groups.
    pub row_groups: Vec<RowGroupEntry>,
    /// The times of receipt of its first and its last record, in milliseconds since 1970.
    pub received: (i64, i64),
    /// Octets of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Its index; none if it has none, so that it is read whenever it may matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<IndexEntry>,
}

/// Records that are lost: a gap in what the store covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LossEntry {
    /// The name of the reason.
    pub reason: String,
    /// Of which writer.
    pub shard: u16,
    /// Of which kind.
    #[serde(serialize_with = "write_lane", deserialize_with = "read_lane")]
    pub lane: Lane,
    /// The blocks that are gone whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<(u64, u64)>,
    /// The block that they were in, if its other records are not lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_block: Option<u64>,
    /// How many; 0 if nobody knows.
    pub rows: u64,
    /// The times of receipt between which they lie, in milliseconds since 1970.
    pub received: (i64, i64),
}

impl From<LostRows> for LossEntry {
    fn from(lost: LostRows) -> Self {
        use crate::telemetry::Reason;
        let LostRows { reason, shard, lane, blocks, in_block, rows, received } = lost;
        Self { reason: reason.name().to_owned(), shard, lane, blocks, in_block, rows, received }
    }
}

/// The list of segments, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    generation: u64,
    next_segment: u64,
    entries: Vec<Entry>,
    /// The entries as they are written.
    lines: Vec<String>,
    /// By lane, the blocks that entries name: last number by first.
    covered: BTreeMap<(u16, Lane), BTreeMap<u64, u64>>,
}

impl Manifest {
    /// Its file in the directory of the archive.
    pub(super) const FILE: &str = "manifest.jsonl";

    /// Reads the manifest of an archive; an empty one if there is none yet.
    ///
    /// # Errors
    /// If it cannot be read, is of another format, or is not what was written.
    pub fn load(archive_dir: &Path) -> Result<Self, ArchiveError> {
        let path = archive_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Self::parse(&bytes, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(ArchiveError::io("read", &path)(error)),
        }
    }

    /// Is there a manifest, even an empty one?
    pub(super) fn exists(archive_dir: &Path) -> bool {
        archive_dir.join(FILE).exists()
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self, ArchiveError> {
        let damaged = |what: String| ArchiveError::DamagedManifest { path: path.to_owned(), what };
        let text = std::str::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
        let mut lines = text.split_inclusive('\n');
        let header = lines.next().unwrap_or_default();
        let header: Header = serde_json::from_str(header)
            .map_err(|error| damaged(format!("first line: {error}")))?;
        if header.format != FORMAT || header.version != VERSION {
            return Err(ArchiveError::ManifestFormat {
                path: path.to_owned(),
                found: format!("{} {}", header.format, header.version),
                known: VERSION,
            });
        }
        let mut manifest = Self {
            generation: header.generation,
            next_segment: header.next_segment,
            ..Self::default()
        };
        let mut previous = String::new();
        for (index, line) in lines.enumerate() {
            let number = index + 2;
            let line =
                line.strip_suffix('\n').ok_or_else(|| damaged(format!("cut in line {number}")))?;
            let read: Line = serde_json::from_str(line)
                .map_err(|error| damaged(format!("line {number}: {error}")))?;
            if read.previous != previous {
                return Err(damaged(format!("line {number} does not follow the one before")));
            }
            previous = sha256_hex(line.as_bytes());
            manifest.cover(&read.entry);
            manifest.entries.push(read.entry);
            manifest.lines.push(line.to_owned());
        }
        if manifest.entries.len() != header.entries || previous != header.head {
            return Err(damaged("not as long as its first line says".to_owned()));
        }
        Ok(manifest)
    }

    /// Replaces the manifest of an archive by this one, for all who read it from then on. It
    /// outlasts a power cut once the directory is synced.
    ///
    /// # Errors
    /// If it cannot be written; the old one is then still there.
    pub(super) fn store(&mut self, archive_dir: &Path) -> Result<(), ArchiveError> {
        self.generation += 1;
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            generation: self.generation,
            next_segment: self.next_segment,
            entries: self.entries.len(),
            head: self.head(),
        };
        let new = archive_dir.join(FILE_NEW);
        let written = File::create(&new).and_then(|file| {
            let mut file = BufWriter::new(file);
            serde_json::to_writer(&mut file, &header)?;
            file.write_all(b"\n")?;
            for line in &self.lines {
                file.write_all(line.as_bytes())?;
                file.write_all(b"\n")?;
            }
            file.into_inner()?.sync_all()?;
            fs::rename(&new, archive_dir.join(FILE))
        });
        written.map_err(ArchiveError::io("write", &new))
    }

    /// Adds what a start finds lost, safe on disk, and takes out what is not news: a start that
    /// was killed after this finds it again.
    ///
    /// # Errors
    /// If the manifest cannot be replaced.
    pub(super) fn record(
        &mut self,
        archive_dir: &Path,
        lost: &mut Vec<LostRows>,
    ) -> Result<(), ArchiveError> {
        lost.retain(|loss| !self.tells_of(loss));
        if lost.is_empty() {
            return Ok(());
        }
        for loss in lost.iter().cloned() {
            self.push(Entry::Loss(loss.into()));
        }
        fs::create_dir_all(archive_dir).map_err(ArchiveError::io("make", archive_dir))?;
        self.store(archive_dir)?;
        let synced = archive_dir.ancestors().take(2).try_for_each(sync_dir);
        synced.map_err(ArchiveError::io("sync", archive_dir))
    }

    /// Is the block of a loss archived, or lost in a line already?
    fn tells_of(&self, loss: &LostRows) -> bool {
        let id = |number| BlockId { shard: loss.shard, lane: loss.lane, number };
        let in_line = |line: &LossEntry| {
            (line.shard, line.lane, line.in_block) == (loss.shard, loss.lane, loss.in_block)
        };
        match (loss.blocks, loss.in_block) {
            (Some((first, _)), _) => self.covers(id(first)),
            (None, Some(number)) => self.covers(id(number)) || self.losses().any(in_line),
            (None, None) => false,
        }
    }

    fn head(&self) -> String {
        let last = self.lines.last();
        last.map_or_else(String::new, |line| sha256_hex(line.as_bytes()))
    }

    /// Adds a line at the end.
    pub(super) fn push(&mut self, entry: Entry) {
        if let Entry::Segment(segment) = &entry {
            self.next_segment = self.next_segment.max(segment.id + 1);
        }
        let line = Line { entry, previous: self.head() };
        let text = serde_json::to_string(&line).expect("plain fields and string keys");
        self.lines.push(text);
        self.cover(&line.entry);
        self.entries.push(line.entry);
    }

    fn cover(&mut self, entry: &Entry) {
        let mut cover = |shard, lane, first: u64, last: u64| {
            let lane = self.covered.entry((shard, lane)).or_default();
            // Joined to its neighbours, so that a year of segments is a handful of ranges.
            let (mut first, mut last) = (first, last);
            while let Some((&start, &end)) = lane.range(..=last.saturating_add(1)).next_back()
                && first <= end.saturating_add(1)
            {
                lane.remove(&start);
                (first, last) = (first.min(start), last.max(end));
            }
            lane.insert(first, last);
        };
        match entry {
            Entry::Segment(segment) => {
                for covered in &segment.covered {
                    cover(covered.shard, covered.lane, covered.first, covered.last);
                }
            }
            Entry::Loss(loss) => {
                if let Some((first, last)) = loss.blocks {
                    cover(loss.shard, loss.lane, first, last);
                }
            }
        }
    }

    /// Rises with each replacement.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The id that the next segment gets.
    #[must_use]
    pub const fn next_segment(&self) -> u64 {
        self.next_segment
    }

    /// All lines.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The segments, in the order in which they were written.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentEntry> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Segment(segment) => Some(segment),
            Entry::Loss(_) => None,
        })
    }

    /// What is lost.
    pub fn losses(&self) -> impl Iterator<Item = &LossEntry> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Segment(_) => None,
            Entry::Loss(loss) => Some(loss),
        })
    }

    /// Does a line name this block? Then the ring's copy of it is not to be counted.
    #[must_use]
    pub fn covers(&self, id: BlockId) -> bool {
        let lane = self.covered.get(&(id.shard, id.lane));
        let range = lane.and_then(|lane| lane.range(..=id.number).next_back());
        range.is_some_and(|(_, &last)| id.number <= last)
    }

    /// The covered ranges of block numbers, first and last, by shard and lane.
    pub(super) fn covered(&self) -> impl Iterator<Item = ((u16, Lane), (u64, u64))> {
        let lanes = self.covered.iter();
        lanes.flat_map(|(lane, ranges)| ranges.iter().map(|(first, last)| (*lane, (*first, *last))))
    }

    /// The numbers that new blocks must not fall below.
    #[must_use]
    pub fn number_floors(&self) -> NumberFloors {
        let mut floors = NumberFloors::default();
        for ((shard, lane), (_, last)) in self.covered() {
            floors.raise(shard, lane, last + 1);
        }
        floors
    }
}

/// The SHA-256 of some octets, in hexadecimal.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Octets in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Waits until the names in a directory are on disk.
pub(super) fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes what a kill may have left of a manifest that was being written.
pub(super) fn remove_new(archive_dir: &Path) -> Result<(), ArchiveError> {
    remove_if_there(&archive_dir.join(FILE_NEW))
}

/// Removes a file that may not be there.
pub(super) fn remove_if_there(path: &PathBuf) -> Result<(), ArchiveError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ArchiveError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn write_lane<S: Serializer>(lane: &Lane, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(lane.name())
}

fn read_lane<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lane, D::Error> {
    let name = String::deserialize(deserializer)?;
    Lane::from_name(&name).ok_or_else(|| de::Error::custom(format!("unknown lane {name}")))
}

fn write_type<S: Serializer>(record_type: &RecordType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(record_type.name())
}

fn read_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RecordType, D::Error> {
    let name = String::deserialize(deserializer)?;
    [RecordType::Flow, RecordType::Options, RecordType::Counters]
        .into_iter()
        .find(|record_type| record_type.name() == name)
        .ok_or_else(|| de::Error::custom(format!("unknown record type {name}")))
}
