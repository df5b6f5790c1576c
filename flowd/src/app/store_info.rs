//! `flowd store info`: what a store holds, what was dropped and why, who sent it.

use super::query::damage;
use super::statistics::StoreStatistics;
use crate::archive::StoreSnapshot;
use crate::collect::ExporterStatistics;
use crate::model::time::UnixMillis;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The state of a store. Counters include those of earlier collectors on it; after a kill those
/// of a fifth of a second may be missing, while records are counted from what is held.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// Is a collector at work on it?
    pub is_collecting: bool,
    /// Flow records held.
    pub flow_records: u64,
    /// Of these in the ring.
    pub ring_records: u64,
    /// Of these in the archive.
    pub archive_records: u64,
    /// Records of options data held, beside the flow records.
    pub other_records: u64,
    /// Octets of the archive's segments.
    pub archive_bytes: u64,
    /// Octets of indexes.
    pub index_bytes: u64,
    /// First and last time of receipt held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<(String, String)>,
    /// Datagrams received.
    pub datagrams: u64,
    /// Datagrams that the kernel dropped before flowd could receive them.
    pub kernel_drops: u64,
    /// What was dropped, by reason and unit: datagrams, data sets or records.
    pub drops: BTreeMap<String, u64>,
    /// Parts of the store that cannot be read or are not there, in words.
    pub damage: Vec<String>,
    /// Each exporter and domain.
    pub exporters: Vec<ExporterStatistics>,
}

/// Reads the state of a store; the counters come from its running collector, if there is one.
///
/// # Errors
/// If there is no store, or it cannot be read.
pub fn read(store: &Path) -> Result<Info> {
    let snapshot = StoreSnapshot::open(store)?;
    let (statistics, is_collecting) = StoreStatistics::of_store(store);
    let text = |millis| UnixMillis(millis).to_string();
    Ok(Info {
        is_collecting,
        flow_records: snapshot.flow_records(),
        ring_records: snapshot.ring_records(),
        archive_records: snapshot.archive_records(),
        other_records: snapshot.other_records(),
        archive_bytes: snapshot.archive_bytes(),
        index_bytes: snapshot.index_bytes(),
        received: snapshot.received().map(|(first, last)| (text(first), text(last))),
        datagrams: statistics.collect.datagrams,
        kernel_drops: statistics.collect.kernel_drops,
        drops: drops(&statistics),
        damage: damage(&snapshot),
        exporters: statistics.collect.all_exporters().cloned().collect(),
    })
}

/// All drops under the reason and the unit that was dropped.
fn drops(statistics: &StoreStatistics) -> BTreeMap<String, u64> {
    let StoreStatistics { collect, ring_drops, at: _, absences: _, appended: _ } = statistics;
    let mut drops = BTreeMap::from([("kernelDatagrams".to_owned(), collect.kernel_drops)]);
    for (unit, reasons) in [
        ("Datagrams", &collect.drops),
        ("Sets", &collect.set_drops),
        ("Templates", &collect.template_drops),
        ("Records", ring_drops),
    ] {
        drops.extend(reasons.iter().map(|(reason, &count)| (format!("{reason}{unit}"), count)));
    }
    drops
}
