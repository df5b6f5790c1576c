//! `flowd query` and `flowd top`: the engine over a store, and what the answer could not know.

use super::clock;
use super::elements;
use super::sidecars::Sidecars;
use super::statistics::StoreStatistics;
use crate::archive::{SegmentReader, StoreSnapshot, block_batch, block_time_range};
use crate::collect::Statistics;
use crate::model::time::UnixMillis;
use crate::model::{ObservationDomainId, RecordType};
use crate::query::{
    Coverage, ExporterLoss, Gap, Outcome, Plan, Probes, RecordBatch, SampledExporter, Sink, Source,
    SourceError,
};
use crate::ring::Block;
use crate::telemetry::Flag;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Answers a query from the ring and the archive of a store.
///
/// # Errors
/// If there is no store, or it cannot be read, or the query needs more than its limits.
pub fn run(store: &Path, plan: &Plan, sink: &mut dyn Sink) -> Result<Outcome> {
    let mut source = StoreSource::open(store)?;
    let range = plan.time_range();
    source.coverage.gaps.retain(|gap| range.overlaps(gap.since.0, gap.until.0));
    Ok(crate::query::run(plan, &source, &Flag::default(), sink)?)
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
    RowGroup(Arc<SegmentReader>, usize),
}

/// A store as the engine sees it.
struct StoreSource {
    parts: Vec<Part>,
    sidecars: Sidecars,
    coverage: Coverage,
}

impl StoreSource {
    fn open(store: &Path) -> Result<Self> {
        let snapshot = StoreSnapshot::open(store)?;
        let coverage = coverage(store, &snapshot)?;
        // Newest first: what the ring holds is younger than any segment.
        let StoreSnapshot { segments, mut blocks, .. } = snapshot;
        blocks.retain(|block| block.id().lane.record_type() == RecordType::Flow);
        blocks.sort_by_cached_key(|block| std::cmp::Reverse(block.received().1));
        let blocks = blocks.into_iter().map(Part::Block);
        let flows = segments
            .into_iter()
            .filter(|segment| segment.entry().record_type == RecordType::Flow)
            .map(Arc::new);
        let mut groups: Vec<Part> = flows
            .flat_map(|segment| {
                let groups = 0..segment.row_group_count();
                groups.map(move |group| Part::RowGroup(Arc::clone(&segment), group))
            })
            .collect();
        groups.reverse();
        let sidecars = Sidecars::default();
        Ok(Self { parts: blocks.chain(groups).collect(), sidecars, coverage })
    }
}

impl Source for StoreSource {
    fn part_count(&self) -> usize {
        self.parts.len()
    }

    fn part_rows(&self, part: usize) -> usize {
        match &self.parts[part] {
            Part::Block(block) => block.rows(),
            Part::RowGroup(segment, group) => segment.row_group_rows(*group),
        }
    }

    fn part_time_range(&self, part: usize) -> Option<(i64, i64)> {
        match &self.parts[part] {
            Part::Block(block) => block_time_range(block),
            Part::RowGroup(segment, group) => segment.row_group_time_range(*group),
        }
    }

    /// Blocks of the ring have no index: they are few, and in memory.
    fn part_may_match(&self, part: usize, probes: &Probes) -> bool {
        match &self.parts[part] {
            Part::Block(_) => true,
            Part::RowGroup(segment, group) => self.sidecars.may_match(segment, *group, probes),
        }
    }

    fn read(&self, part: usize, columns: &[usize]) -> Result<RecordBatch, SourceError> {
        Ok(match &self.parts[part] {
            Part::Block(block) => block_batch(block, 0..block.rows(), columns)?,
            Part::RowGroup(segment, group) => segment.read(*group, columns)?,
        })
    }

    fn coverage(&self) -> Coverage {
        self.coverage.clone()
    }
}

/// What the store knows to be missing: its own gaps, and what exporters sent that never arrived.
fn coverage(store: &Path, snapshot: &StoreSnapshot) -> Result<Coverage> {
    let (statistics, _) = StoreStatistics::of_store(store);
    let losses = statistics.collect.all_exporters().map(|exporter| ExporterLoss {
        address: exporter.address,
        domain: ObservationDomainId(exporter.domain),
        // A protocol counts one of the two.
        sequence_missing: exporter.messages_lost.saturating_add(exporter.records_lost),
        dropped: exporter.set_drops.values().sum(),
    });
    let lost = snapshot.losses.iter().map(|loss| Gap {
        since: UnixMillis(loss.received.0),
        until: UnixMillis(loss.received.1),
        records: (loss.rows > 0).then_some(loss.rows),
        reason: loss.reason.clone(),
    });
    let absent = statistics.absences.iter().map(|&(since, until)| Gap {
        since: UnixMillis(since),
        until: UnixMillis(until),
        records: None,
        reason: "noCollector".to_owned(),
    });
    Ok(Coverage {
        span: snapshot.received().map(|(first, last)| (UnixMillis(first), UnixMillis(last))),
        gaps: lost.chain(absent).collect(),
        losses: losses.filter(|loss| loss.sequence_missing + loss.dropped > 0).collect(),
        damage: damage(snapshot),
        sampling: sampling(&statistics.collect),
    })
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
