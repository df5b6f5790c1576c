//! Manifest: the only list of segments.
//!
//! A chain of lines, each a JSON object with the SHA-256 of the line before it: a segment, a
//! loss, or segments withdrawn. Lines are only ever added. All but the last hundreds lie in
//! parts, files that are written once; the head names the parts, says which of their segments
//! are held still and what these come to, and ends with the last lines. It alone is replaced,
//! so that a commit costs the same whether the store holds a day or a year, and a reader reads
//! those parts only that it has a use for.
//!
//! What a line covers is in the archive, or was, or is lost for a stated reason; the ring's copy
//! of it, if there is one still, must not be counted again.

mod chain;
mod covered;
mod entry;
mod head;
mod held;
mod marks;
mod part;

#[cfg(test)]
mod tests;

pub(super) use chain::{hex, remove_if_there, sha256_hex, sync_dir};
pub use entry::{
    Covered, Entry, LossEntry, RowGroupEntry, SegmentEntry, WithdrawReason, WithdrawnEntry,
};
pub use held::Held;

use super::error::ArchiveError;
use super::index::Answer;
use crate::ring::{BlockId, Lane, LostRows, NumberFloors};
use covered::CoveredBlocks;
use head::Head;
use held::joined;
use marks::Marks;
use part::{PART_LINES, Part, PartRecord};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The lines that no part which is listed has: nothing of them is held. Their files stay, as
/// evidence of what was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Past {
    lines: u64,
    /// Greater than the numbers of their segments.
    next_segment: u64,
    /// SHA-256 of the last of them.
    head: String,
}

/// What was let go, added up over the store's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expired {
    /// Segments.
    pub segments: u64,
    /// Flows in them.
    pub flow_rows: u64,
    /// Other records in them.
    pub other_rows: u64,
    /// Octets of their files.
    pub bytes: u64,
    /// The times of receipt between which they lay, in milliseconds since 1970.
    pub received: (i64, i64),
}

/// A line that lies in the head still.
#[derive(Clone, Debug)]
struct TailLine {
    entry: Entry,
    text: String,
    is_withdrawn: bool,
}

/// A piece of the manifest that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Damage {
    path: PathBuf,
    what: String,
}

/// The list of segments, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    generation: u64,
    next_segment: u64,
    past: Past,
    parts: Vec<Part>,
    tail: Vec<TailLine>,
    /// SHA-256 of the last line.
    head: String,
    covered: CoveredBlocks,
    expired: Option<Expired>,
    damage: Vec<Damage>,
    /// What was wrong with the head, if its copy was read.
    head_damage: Option<String>,
}

impl Manifest {
    /// Reads all of an archive's manifest, and checks its chain; an empty one if there is none
    /// yet. A part that cannot be read is told by [`Manifest::damage`]; the others serve.
    ///
    /// # Errors
    /// If its head cannot be read, is of another format, or is not what was written.
    pub fn load(archive_dir: &Path) -> Result<Self, ArchiveError> {
        Self::read(archive_dir, &|_| true, true)
    }

    /// Reads the head, and the parts that hold something for a range of time (what flows or losses
    /// of a part lie between overlaps it), without those of which the ledger denies all: what is
    /// lost beside their segments is told all the same.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn load_beside(
        archive_dir: &Path,
        overlaps: &dyn Fn(i64, i64) -> bool,
        ledger: &Answer,
    ) -> Result<Self, ArchiveError> {
        let is_wanted = |part: &PartRecord| {
            part.held.may_matter(overlaps)
                && (part.held.may_tell(overlaps) || !ledger.denies_part(part.identity()))
        };
        Self::read(archive_dir, &is_wanted, false)
    }

    fn read(
        archive_dir: &Path,
        is_wanted: &dyn Fn(&PartRecord) -> bool,
        chain: bool,
    ) -> Result<Self, ArchiveError> {
        let Some(head::Read { head, lines, damage }) = head::read(archive_dir)? else {
            return Ok(Self::default());
        };
        let mut covered = CoveredBlocks::default();
        head.covered.iter().for_each(|range| covered.add_range(range));
        let tail = lines.into_iter().enumerate().map(|(index, (entry, text))| {
            let is_withdrawn = head.withdrawn.is_set(index);
            TailLine { entry, text, is_withdrawn }
        });
        let mut manifest = Self {
            generation: head.generation,
            next_segment: head.next_segment,
            past: head.past,
            parts: Vec::new(),
            tail: tail.collect(),
            head: head.head,
            covered,
            expired: head.expired,
            damage: Vec::new(),
            head_damage: damage,
        };
        manifest.read_parts(archive_dir, head.parts, is_wanted, chain);
        Ok(manifest)
    }

    /// Reads parts on several threads; most of it is reading JSON.
    fn read_parts(
        &mut self,
        archive_dir: &Path,
        records: Vec<PartRecord>,
        is_wanted: &dyn Fn(&PartRecord) -> bool,
        chain: bool,
    ) {
        let mut previous = self.past.head.as_str();
        let mut wanted = Vec::new();
        for (index, record) in records.iter().enumerate() {
            if chain || is_wanted(record) {
                wanted.push((index, record, previous));
            }
            previous = &record.head;
        }
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let share = wanted.len().div_ceil(workers).max(4);
        let read = |share: &[(usize, &PartRecord, &str)]| -> Vec<_> {
            let parts = share.iter().map(|(index, record, previous)| {
                (*index, record.read(archive_dir, previous, chain))
            });
            parts.collect()
        };
        let read: Vec<_> = std::thread::scope(|scope| {
            let mut shares = wanted.chunks(share);
            let own = shares.next().unwrap_or_default();
            let threads: Vec<_> = shares.map(|share| scope.spawn(|| read(share))).collect();
            let mut all = read(own);
            for thread in threads {
                all.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            all
        });
        let mut read = read.into_iter().peekable();
        for (index, record) in records.into_iter().enumerate() {
            let found = read.next_if(|(found, _)| *found == index).map(|(_, entries)| entries);
            let is_damaged = matches!(found, Some(Err(_)));
            let entries = match found {
                Some(Ok(entries)) => Some(Arc::new(entries)),
                Some(Err(what)) => {
                    let path = archive_dir.join(part::DIRECTORY).join(&record.file);
                    let Held { segments, flow_rows, .. } = record.held;
                    let what = format!(
                        "{what}; {segments} segments with {flow_rows} flows are in no answer"
                    );
                    self.damage.push(Damage { path, what });
                    None
                }
                None => None,
            };
            self.parts.push(Part { record, entries, is_damaged });
        }
    }

    /// Is there a manifest, even an empty one?
    pub(super) fn exists(archive_dir: &Path) -> bool {
        [head::FILE, head::COPY].iter().any(|file| archive_dir.join(file).exists())
    }

    /// The generation of the manifest that readers find now.
    pub(super) fn generation_there(archive_dir: &Path) -> Result<u64, ArchiveError> {
        Ok(head::read(archive_dir)?.map_or(0, |read| read.head.generation))
    }

    /// Replaces the manifest of an archive by this one, for all who read it from then on. It
    /// outlasts a power cut once the directory is synced.
    ///
    /// # Errors
    /// If it cannot be written; the old one is then still there.
    pub(super) fn store(&mut self, archive_dir: &Path) -> Result<(), ArchiveError> {
        self.generation += 1;
        while self.tail.len() > PART_LINES {
            self.end_part(archive_dir)?;
        }
        self.pass_by_empty_parts();
        let mut withdrawn = Marks::default();
        let lines = self.tail.iter().enumerate();
        lines.filter(|(_, line)| line.is_withdrawn).for_each(|(index, _)| withdrawn.set(index));
        let head = Head {
            generation: self.generation,
            next_segment: self.next_segment,
            past: self.past.clone(),
            expired: self.expired,
            parts: self.parts.iter().map(|part| part.record.clone()).collect(),
            covered: self.covered.ranges().collect(),
            lines: self.tail.len(),
            withdrawn,
            head: self.head.clone(),
            ..Head::default()
        };
        head::write(archive_dir, head, self.tail.iter().map(|line| line.text.as_str()))
    }

    /// Moves the oldest lines of the head into a part.
    fn end_part(&mut self, archive_dir: &Path) -> Result<(), ArchiveError> {
        let lines = &self.tail[..PART_LINES];
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let head = texts.last().map_or_else(String::new, |line| sha256_hex(line.as_bytes()));
        let first = self.parts.last().map_or(self.past.lines, |part| part.record.end());
        let (file, sha256) = part::write(archive_dir, first, &texts)?;
        let mut withdrawn = Marks::default();
        let mut ids = None;
        for (index, line) in lines.iter().enumerate() {
            if line.is_withdrawn {
                withdrawn.set(index);
            }
            let id = line.entry.segment().map(|segment| (segment.id, segment.id));
            ids = joined_ids(ids, id);
        }
        let entries: Vec<Entry> = self.tail.drain(..PART_LINES).map(|line| line.entry).collect();
        let held = Held::default();
        let record =
            PartRecord { file, first, lines: PART_LINES, sha256, head, ids, withdrawn, held };
        let entries = Some(Arc::new(entries));
        let mut part = Part { record, entries, is_damaged: false };
        part.record.held = self.held_of(&part);
        self.parts.push(part);
        Ok(())
    }

    /// Takes parts out of the list that hold nothing any more, from the oldest on.
    fn pass_by_empty_parts(&mut self) {
        let is_empty = |part: &Part| part.record.held.segments + part.record.held.losses == 0;
        let count = self.parts.iter().take_while(|part| is_empty(part)).count();
        for PartRecord { first, lines, head, ids, .. } in
            self.parts.drain(..count).map(|part| part.record)
        {
            let next_segment = ids.map_or(0, |(_, last)| last + 1).max(self.past.next_segment);
            self.past = Past { lines: first + lines as u64, next_segment, head };
        }
    }

    /// What a part holds of which the lines are known.
    fn held_of(&self, part: &Part) -> Held {
        let Some(entries) = &part.entries else { return part.record.held };
        let marks = &part.record.withdrawn;
        let lines = entries.iter().enumerate();
        let held = lines.filter(|(index, entry)| !marks.is_set(*index) && self.is_told(entry));
        Held::of(held.map(|(_, entry)| entry))
    }

    /// A loss is not told any more once what was received beside it is gone too.
    fn is_told(&self, entry: &Entry) -> bool {
        match (entry, &self.expired) {
            (Entry::Loss(loss), Some(expired)) => loss.received.1 > expired.received.1,
            _ => true,
        }
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

    /// Adds a line at the end.
    pub(super) fn push(&mut self, entry: Entry) {
        match &entry {
            Entry::Segment(segment) => {
                self.next_segment = self.next_segment.max(segment.id + 1);
            }
            Entry::Loss(_) => {}
            Entry::Withdrawn(withdrawn) => self.withdraw(withdrawn),
        }
        let text = entry.to_line(std::mem::take(&mut self.head));
        self.head = sha256_hex(text.as_bytes());
        self.covered.add(&entry);
        self.tail.push(TailLine { entry, text, is_withdrawn: false });
    }

    /// Marks segments as held no more, wherever their lines are. Those of a part that could not
    /// be read stay as they are: nobody can read them either.
    fn withdraw(&mut self, withdrawn: &WithdrawnEntry) {
        let ids: BTreeSet<u64> = withdrawn.segments.iter().copied().collect();
        let mut gone: Vec<Entry> = Vec::new();
        for line in &mut self.tail {
            if !line.is_withdrawn && is_one_of(&line.entry, &ids) {
                line.is_withdrawn = true;
                gone.push(line.entry.clone());
            }
        }
        for part in &mut self.parts {
            let within = part
                .record
                .ids
                .is_some_and(|(first, last)| ids.range(first..=last).next().is_some());
            let Some(entries) = part.entries.as_ref().filter(|_| within) else { continue };
            for (index, entry) in entries.iter().enumerate() {
                if !part.record.withdrawn.is_set(index) && is_one_of(entry, &ids) {
                    part.record.withdrawn.set(index);
                    gone.push(entry.clone());
                }
            }
        }
        if withdrawn.reason == WithdrawReason::Expired {
            self.let_go(&Held::of(gone.iter()));
        }
        for index in 0..self.parts.len() {
            self.parts[index].record.held = self.held_of(&self.parts[index]);
        }
    }

    fn let_go(&mut self, gone: &Held) {
        let Some(received) = gone.received else { return };
        let Expired { segments, flow_rows, other_rows, bytes, received } =
            self.expired.get_or_insert(Expired {
                segments: 0,
                flow_rows: 0,
                other_rows: 0,
                bytes: 0,
                received,
            });
        *segments += gone.segments;
        *flow_rows += gone.flow_rows;
        *other_rows += gone.other_rows;
        *bytes += gone.bytes;
        *received = joined(Some(*received), gone.received).unwrap_or(*received);
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

    /// All lines that were read, those of segments held no more among them.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let parts = self.parts.iter().filter_map(|part| part.entries.as_deref());
        parts.flatten().chain(self.tail.iter().map(|line| &line.entry))
    }

    /// The lines that were read and count, in the order in which they were written.
    fn held_entries(&self) -> impl Iterator<Item = &Entry> {
        let parts = self.parts.iter().flat_map(|part| {
            let lines = part.entries.iter().flat_map(|entries| entries.iter().enumerate());
            lines.filter(|(index, _)| !part.record.withdrawn.is_set(*index))
        });
        let tail = self.tail.iter().filter(|line| !line.is_withdrawn).map(|line| &line.entry);
        let all = parts.map(|(_, entry)| entry).chain(tail);
        all.filter(|entry| self.is_told(entry))
    }

    /// The parts that were read, by their identity, each with its segments that are held.
    pub(super) fn parts_held(
        &self,
    ) -> impl Iterator<Item = (u128, impl Iterator<Item = &SegmentEntry>)> {
        let read =
            self.parts.iter().filter_map(|part| Some((&part.record, part.entries.as_ref()?)));
        read.map(|(record, entries)| {
            let lines = entries.iter().enumerate();
            let held = lines.filter(|(index, _)| !record.withdrawn.is_set(*index));
            (record.identity(), held.filter_map(|(_, entry)| entry.segment()))
        })
    }

    /// The segments that are held, in the order in which they were written.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentEntry> {
        self.held_entries().filter_map(Entry::segment)
    }

    /// What is lost.
    pub fn losses(&self) -> impl Iterator<Item = &LossEntry> {
        self.held_entries().filter_map(|entry| match entry {
            Entry::Loss(loss) => Some(loss),
            Entry::Segment(_) | Entry::Withdrawn(_) => None,
        })
    }

    /// What all its segments hold, those of parts included that nobody asked for.
    #[must_use]
    pub fn held(&self) -> Held {
        let tail = self.tail.iter().filter(|line| !line.is_withdrawn).map(|line| &line.entry);
        let mut held = Held::of(tail.filter(|entry| self.is_told(entry)));
        for part in self.parts.iter().filter(|part| !part.is_damaged) {
            held.add(&part.record.held);
        }
        held
    }

    /// What was let go.
    #[must_use]
    pub const fn expired(&self) -> Option<Expired> {
        self.expired
    }

    /// The file that a reader begins with.
    pub(super) const FILE: &str = head::FILE;

    /// The pieces of it that cannot be read, each with what is not known for it.
    pub fn damage(&self) -> impl Iterator<Item = ArchiveError> {
        self.damage.iter().map(|Damage { path, what }| ArchiveError::DamagedManifest {
            path: path.clone(),
            what: what.clone(),
        })
    }

    /// What was wrong with its head, if the copy beside it was read instead. No answer misses
    /// anything for it.
    #[must_use]
    pub fn head_damage(&self) -> Option<&str> {
        self.head_damage.as_deref()
    }

    /// Checks the lines that no listed part has: whether their files are there, and lead from
    /// the first line of all to the first that is listed.
    ///
    /// # Errors
    /// If they cannot be read or are not what was written.
    pub fn check_past(&self, archive_dir: &Path) -> Result<(), ArchiveError> {
        let directory = archive_dir.join(part::DIRECTORY);
        let mut files = BTreeMap::new();
        if self.past.lines > 0 {
            let listed = fs::read_dir(&directory).map_err(ArchiveError::io("read", &directory))?;
            for entry in listed {
                let path = entry.map_err(ArchiveError::io("read", &directory))?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if let Some(first) = part::first_line(name).filter(|&it| it < self.past.lines) {
                    files.insert(first, path);
                }
            }
        }
        let mut previous = String::new();
        for path in files.into_values() {
            let text = fs::read_to_string(&path).map_err(ArchiveError::io("read", &path))?;
            previous = chain::check_chain(text.lines(), previous)
                .map_err(|what| ArchiveError::DamagedManifest { path, what })?;
        }
        if previous != self.past.head {
            let what = "lines of segments that are held no more are missing".to_owned();
            return Err(ArchiveError::DamagedManifest { path: directory, what });
        }
        Ok(())
    }

    /// May this be the number of a segment of which the line cannot be read?
    pub(super) fn may_list(&self, id: u64) -> bool {
        let unread = self.parts.iter().filter(|part| part.entries.is_none());
        let mut ids = unread.filter_map(|part| part.record.ids);
        ids.any(|(first, last)| (first..=last).contains(&id))
    }

    /// Was a segment let go, whether under its own number or merged into another?
    pub(super) fn has_let_go(&self, id: u64) -> bool {
        let mut id = id;
        let mut before: Option<&Entry> = None;
        for entry in self.entries() {
            if let Entry::Withdrawn(withdrawn) = entry
                && withdrawn.segments.contains(&id)
            {
                match withdrawn.reason {
                    WithdrawReason::Expired => return true,
                    WithdrawReason::Merged => {
                        id = before.and_then(Entry::segment).map_or(id, |segment| segment.id);
                    }
                }
            }
            before = Some(entry);
        }
        self.is_past(id)
    }

    /// Is this the number of a segment of the lines that no listed part has?
    pub(super) const fn is_past(&self, id: u64) -> bool {
        id < self.past.next_segment
    }

    /// Does a line name this block? Then the ring's copy of it is not to be counted.
    #[must_use]
    pub fn covers(&self, id: BlockId) -> bool {
        self.covered.contains(id)
    }

    /// The covered ranges of block numbers, first and last, by shard and lane.
    pub(super) fn covered(&self) -> impl Iterator<Item = ((u16, Lane), (u64, u64))> {
        let ranges = self.covered.ranges();
        ranges.map(|range| ((range.shard, range.lane), (range.first, range.last)))
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

    /// Removes what kills left of heads and parts that were being written.
    pub(super) fn remove_leftovers(&self, archive_dir: &Path) -> Result<(), ArchiveError> {
        for file in [head::FILE, head::COPY] {
            remove_if_there(&archive_dir.join(format!("{file}{}", chain::NEW_SUFFIX)))?;
        }
        let directory = archive_dir.join(part::DIRECTORY);
        let listed = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(ArchiveError::io("read", &directory))?,
        };
        let parts: BTreeSet<&str> =
            self.parts.iter().map(|part| part.record.file.as_str()).collect();
        for entry in listed {
            let path = entry.map_err(ArchiveError::io("read", &directory))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            // A part before the first that is listed is evidence, and stays.
            let is_unlisted = self.head_damage.is_none()
                && part::first_line(name)
                    .is_some_and(|first| first >= self.past.lines && !parts.contains(name));
            if is_unlisted || name.ends_with(chain::NEW_SUFFIX) {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }
}

fn is_one_of(entry: &Entry, ids: &BTreeSet<u64>) -> bool {
    entry.segment().is_some_and(|segment| ids.contains(&segment.id))
}

fn joined_ids(one: Option<(u64, u64)>, other: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}
