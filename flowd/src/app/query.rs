//! `flowd query` and `flowd top`: the engine over a store, and what the answer could not know.

use super::around::around_damage;
use super::clock;
use super::elements;
use super::reach::Reach;
use super::sidecars::Sidecars;
use super::statistics::StoreStatistics;
use crate::archive::index::{Answer, Ledger};
use crate::archive::schema::schema;
use crate::archive::{
    ArchiveError, SegmentReader, StoreSnapshot, block_batch, block_rows, block_time_range,
    was_expired,
};
use crate::collect::Statistics;
use crate::model::time::UnixMillis;
use crate::model::{ObservationDomainId, RecordType};
use crate::query::time_range::TimeRange;
use crate::query::{
    BooleanBuffer, Coverage, ExporterLoss, Gap, Outcome, Plan, Probes, RecordBatch,
    SampledExporter, Sink, Source, SourceError,
};
use crate::ring::{Block, Store};
use crate::telemetry::Flag;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tracing::debug;

/// Why records are missing that were let go.
const EXPIRED: &str = "expired";

/// Answers a query from the ring and the archive of a store.
///
/// # Errors
/// If there is no store, or it cannot be read, or the query needs more than its limits.
pub fn run(store: &Path, plan: &Plan, sink: &mut dyn Sink) -> Result<Outcome> {
    let source = StoreSource::open_for(store, plan.time_range(), &plan.probes())?;
    around_damage(&source, sink, |sink| crate::query::run(plan, &source, &Flag::default(), sink))
}

/// Makes known the elements that a store's exporters described, so that they have their names in
/// filters and in answers. To be called before a filter is read.
pub fn learn_names(store: &Path) {
    elements::load(store);
}

/// The time now, which relative times of a query count from.
#[must_use]
pub fn now() -> UnixMillis {
    clock::now()
}

/// What is read at once.
enum Part {
    Block(Arc<Block>),
    RowGroup(Arc<Segment>, usize),
}

/// A segment that the manifest lists. Its file is looked at only when a query comes to it.
struct Segment {
    reader: SegmentReader,
    /// Is its file there and whole?
    is_there: OnceLock<bool>,
    /// Was something read of it? Then it may not turn out to be missing any more.
    was_read: Flag,
    /// What became of each row group.
    groups: Mutex<Vec<GroupFate>>,
}

/// What became of a row group in this query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GroupFate {
    /// Nothing of it was read.
    Untouched,
    /// Rows of it may have been handed on: it stays, unless it turns out unreadable itself. What
    /// is damaged of it may lie in pages that nobody asks for.
    Read,
    /// It cannot be read.
    LeftOut,
}

impl Segment {
    fn fate(&self, group: usize) -> GroupFate {
        self.fates()[group]
    }

    /// Leaves a row group out; false if it is left out already, or was read and `is_certain` is
    /// not given.
    fn leave_out(&self, group: usize, is_certain: bool) -> bool {
        let fate = &mut self.fates()[group];
        let may = *fate == GroupFate::Untouched || *fate == GroupFate::Read && is_certain;
        if may {
            *fate = GroupFate::LeftOut;
        }
        may
    }

    /// Notes that a row group was read; false if it was left out meanwhile.
    fn note_read(&self, group: usize) -> bool {
        let fate = &mut self.fates()[group];
        if *fate == GroupFate::Untouched {
            *fate = GroupFate::Read;
        }
        *fate == GroupFate::Read
    }

    fn fates(&self) -> MutexGuard<'_, Vec<GroupFate>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store as the engine sees it.
pub(super) struct StoreSource {
    store: PathBuf,
    parts: Vec<Part>,
    sidecars: Sidecars,
    reach: Reach,
    coverage: Coverage,
    /// What turned out to be missing on the way.
    missing: Mutex<Missing>,
}

#[derive(Default)]
struct Missing {
    gaps: Vec<Gap>,
    damage: Vec<String>,
    /// Records of what is left out, whether they match or not.
    records: u64,
    /// Were row groups left out since that was last asked?
    has_more: bool,
}

impl StoreSource {
    /// Opens what a store holds for a range of time, and may match a condition.
    pub(super) fn open_for(store: &Path, range: TimeRange, probes: &Probes) -> Result<Self> {
        // Before the manifest, so that a loss it is told of meanwhile is in one of the two.
        let (statistics, _) = StoreStatistics::of_store(store);
        let overlaps = |from, to| range.overlaps(from, to);
        let ledger = ledger(store, probes)?;
        let snapshot = StoreSnapshot::open_beside(store, &overlaps, &ledger)?;
        let coverage = coverage(&statistics, &snapshot, range);
        // Newest first: what the ring holds is younger than any segment.
        let StoreSnapshot { segments, mut blocks, .. } = snapshot;
        blocks.retain(|block| block.id().lane.record_type() == RecordType::Flow);
        blocks.sort_by_cached_key(|block| std::cmp::Reverse(block.received().1));
        let blocks = blocks.into_iter().map(Part::Block);
        let flows = segments
            .into_iter()
            .filter(|segment| segment.entry().record_type == RecordType::Flow)
            .map(|reader| {
                let (is_there, was_read) = (OnceLock::new(), Flag::default());
                let groups = Mutex::new(vec![GroupFate::Untouched; reader.row_group_count()]);
                Arc::new(Segment { reader, is_there, was_read, groups })
            });
        let mut groups: Vec<Part> = flows
            .flat_map(|segment| {
                let groups = 0..segment.reader.row_group_count();
                groups.map(move |group| Part::RowGroup(Arc::clone(&segment), group))
            })
            .collect();
        groups.reverse();
        let parts = blocks.chain(groups).collect();
        let (store, sidecars, missing) = (store.to_owned(), Sidecars::default(), Mutex::default());
        Ok(Self { store, parts, sidecars, reach: Reach::default(), coverage, missing })
    }

    /// Is the file of a segment there? If not, that is noted once.
    fn is_there(&self, segment: &Segment) -> bool {
        *segment.is_there.get_or_init(|| match segment.reader.check() {
            Ok(()) => self.reach.reaches(&segment.reader),
            Err(error) => {
                self.lose(segment.reader.entry().rows);
                self.note_missing(segment, &error);
                false
            }
        })
    }

    /// Notes why a segment is not in the answer. One that was let go since the query began is no
    /// damage.
    fn note_missing(&self, segment: &Segment, error: &ArchiveError) {
        let entry = segment.reader.entry();
        let has_expired = was_expired(&self.store, entry).unwrap_or(false);
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if has_expired {
            missing.gaps.push(Gap {
                since: UnixMillis(entry.received.0),
                until: UnixMillis(entry.received.1),
                records: Some(entry.rows),
                reason: EXPIRED.to_owned(),
            });
        } else {
            let what = error.to_string();
            if !missing.damage.contains(&what) {
                missing.damage.push(what);
            }
        }
    }

    fn lose(&self, records: u64) {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).records += records;
    }

    /// Records of segments that are left out, whether they match or not.
    pub(super) fn records_left_out(&self) -> u64 {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).records
            + self.reach.records_lacking()
    }

    /// Leaves out a row group of a damaged segment, and those of its others that nothing was read
    /// of and that cannot be read either.
    fn leave_out(&self, segment: &Segment, group: usize, error: &ArchiveError) {
        let columns: Vec<usize> = (0..schema().fields().len()).collect();
        for other in 0..segment.reader.row_group_count() {
            let is_damaged = || {
                segment.fate(other) == GroupFate::Untouched
                    && segment.reader.read(other, &columns).is_err()
            };
            if (other == group || is_damaged()) && segment.leave_out(other, other == group) {
                self.lose(segment.reader.row_group_rows(other) as u64);
            }
        }
        self.note_missing(segment, error);
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).has_more = true;
    }

    /// Was something left out since this was last asked?
    pub(super) fn has_left_out_more(&self) -> bool {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut missing.has_more)
    }

    /// Reads some columns of a row group, if its file is there.
    fn read_segment(
        &self,
        segment: &Segment,
        group: usize,
        columns: &[usize],
        read: impl FnOnce(&SegmentReader) -> Result<RecordBatch, ArchiveError>,
    ) -> Result<RecordBatch, SourceError> {
        if !self.is_there(segment) || segment.fate(group) == GroupFate::LeftOut {
            return Ok(SegmentReader::no_rows(columns)?);
        }
        match read(&segment.reader) {
            Ok(_) if !segment.note_read(group) => Ok(SegmentReader::no_rows(columns)?),
            Ok(batch) => {
                segment.was_read.raise();
                Ok(batch)
            }
            // It was looked at, and vanished before it could be read.
            Err(error) if error.is_not_found() && !segment.was_read.is_raised() => {
                self.note_missing(segment, &error);
                Ok(SegmentReader::no_rows(columns)?)
            }
            Err(error) => {
                if error.is_damaged_segment() {
                    self.leave_out(segment, group, &error);
                }
                Err(error.into())
            }
        }
    }

    /// The same with its oldest part first.
    pub(super) fn oldest_first(mut self) -> Self {
        self.parts.reverse();
        self
    }
}

impl Source for StoreSource {
    fn part_count(&self) -> usize {
        self.parts.len()
    }

    fn part_rows(&self, part: usize) -> usize {
        match &self.parts[part] {
            Part::Block(block) => block.rows(),
            Part::RowGroup(segment, group)
                if self.is_there(segment) && segment.fate(*group) != GroupFate::LeftOut =>
            {
                segment.reader.row_group_rows(*group)
            }
            Part::RowGroup(..) => 0,
        }
    }

    fn part_time_range(&self, part: usize) -> Option<(i64, i64)> {
        match &self.parts[part] {
            Part::Block(block) => block_time_range(block),
            Part::RowGroup(segment, group) => segment.reader.row_group_time_range(*group),
        }
    }

    /// Blocks of the ring have no index: they are few, and in memory.
    fn part_may_match(&self, part: usize, probes: &Probes) -> bool {
        match &self.parts[part] {
            Part::Block(_) => true,
            Part::RowGroup(segment, group) => {
                self.sidecars.may_match(&segment.reader, *group, probes)
            }
        }
    }

    fn read(&self, part: usize, columns: &[usize]) -> Result<RecordBatch, SourceError> {
        match &self.parts[part] {
            Part::Block(block) => Ok(block_batch(block, 0..block.rows(), columns)?),
            Part::RowGroup(segment, group) => {
                self.read_segment(segment, *group, columns, |segment| segment.read(*group, columns))
            }
        }
    }

    fn read_rows(
        &self,
        part: usize,
        columns: &[usize],
        rows: &BooleanBuffer,
    ) -> Result<RecordBatch, SourceError> {
        match &self.parts[part] {
            Part::Block(block) => Ok(block_rows(block, columns, rows)?),
            Part::RowGroup(segment, group) => {
                self.read_segment(segment, *group, columns, |segment| {
                    segment.read_rows(*group, columns, rows)
                })
            }
        }
    }

    fn coverage(&self) -> Coverage {
        let mut coverage = self.coverage.clone();
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        coverage.gaps.extend(missing.gaps.iter().cloned());
        coverage.damage.extend(missing.damage.iter().cloned());
        if let Some((lacking, why)) = self.reach.damage() {
            coverage.unreachable = Some(format!("{lacking}: {why}"));
            coverage.damage.push(lacking);
        }
        coverage
    }
}

/// What the ledger of addresses says of a condition. It is no reason not to answer.
fn ledger(store: &Path, probes: &Probes) -> Result<Answer> {
    if probes.is_true() {
        return Ok(Answer::default());
    }
    let ledger = Ledger::open(&Store::find(store)?.archive_dir()).unwrap_or_else(|error| {
        debug!(%error, "answered without the ledger of addresses");
        Ledger::default()
    });
    Ok(ledger.ask(|has| probes.may_match(has)))
}

/// What the store knows to be missing: its own gaps, and what exporters sent that never arrived.
fn coverage(statistics: &StoreStatistics, snapshot: &StoreSnapshot, range: TimeRange) -> Coverage {
    let losses = statistics.collect.all_exporters().map(|exporter| ExporterLoss {
        address: exporter.address,
        domain: ObservationDomainId(exporter.domain),
        // A protocol counts one of the two.
        sequence_missing: exporter.messages_lost.saturating_add(exporter.records_lost),
        dropped: exporter.set_drops.values().sum(),
    });
    let gap = |received: (i64, i64), records, reason: &str| Gap {
        since: UnixMillis(received.0),
        until: UnixMillis(received.1),
        records,
        reason: reason.to_owned(),
    };
    let told = &snapshot.losses;
    let untold = statistics.untold.iter().filter(|loss| !told.contains(loss));
    let lost = told.iter().chain(untold);
    let lost =
        lost.map(|loss| gap(loss.received, (loss.rows > 0).then_some(loss.rows), &loss.reason));
    let refused =
        statistics.refused.iter().map(|it| gap((it.since, it.until), Some(it.records), &it.reason));
    let absent = statistics.absences.iter().map(|&absence| gap(absence, None, "noCollector"));
    let expired =
        snapshot.expired.map(|expired| gap(expired.received, Some(expired.flow_rows), EXPIRED));
    let gaps = lost.chain(refused).chain(absent).chain(expired);
    Coverage {
        span: snapshot.received().map(|(first, last)| (UnixMillis(first), UnixMillis(last))),
        gaps: gaps.filter(|gap| range.overlaps(gap.since.0, gap.until.0)).collect(),
        losses: losses.filter(|loss| loss.sequence_missing + loss.dropped > 0).collect(),
        damage: damage(snapshot),
        unreachable: None,
        sampling: sampling(&statistics.collect),
    }
}

/// The exporters that told that they sample, each of their rates once.
fn sampling(statistics: &Statistics) -> Vec<SampledExporter> {
    let mut sampled = Vec::new();
    for exporter in statistics.all_exporters() {
        let intervals: BTreeSet<u64> =
            exporter.sampling.iter().map(|it| it.interval).filter(|&it| it > 1).collect();
        sampled.extend(intervals.into_iter().map(|interval| SampledExporter {
            address: exporter.address,
            domain: ObservationDomainId(exporter.domain),
            interval,
        }));
    }
    sampled
}

/// What of the store cannot be read or is not there: no answer has the records in it.
pub(super) fn damage(snapshot: &StoreSnapshot) -> Vec<String> {
    let unreadable = snapshot.unreadable.iter().map(ToString::to_string);
    let missing = snapshot.gaps.iter().map(|gap| {
        format!(
            "blocks {} to {} of shard {} ({}) are missing",
            gap.first,
            gap.last,
            gap.shard,
            gap.lane.name()
        )
    });
    let damaged = snapshot.damaged.iter().map(ToString::to_string);
    unreadable.chain(damaged).chain(missing).collect()
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
