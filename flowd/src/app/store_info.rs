//! `flowd store info`: what a store holds, what was dropped and why, who sent it.

use super::query::damage;
pub use super::ring_use::RingUse;
use super::statistics::StoreStatistics;
use crate::archive::{Objects, StoreSnapshot};
use crate::collect::ConnectionEnd;
pub use crate::collect::{ExporterStatistics, ForwardStatistics};
use crate::model::time::UnixMillis;
use crate::ring::Store;
use crate::telemetry::Reason;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The state of a store. Counters include those of earlier collectors on it. After a kill messages
/// and records are counted that are in the ring; of what left no record there, a fifth of a second
/// may be missing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// Is a collector at work on it? None where this user may not ask.
    pub is_collecting: Option<bool>,
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
    /// Segments of the archive.
    pub segments: u64,
    /// What of it is on an object store; none if the store is bound to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsInfo>,
    /// Octets of segments that were let go or merged into others, and whose files stay for a
    /// quarter of an hour for those who read them.
    pub withdrawn_bytes: u64,
    /// Octets of indexes.
    pub index_bytes: u64,
    /// What the running collector's ring takes, and how fast it is filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring: Option<RingUse>,
    /// First and last time of receipt held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<(String, String)>,
    /// What was let go for its age or for want of room; none if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired: Option<ExpiredInfo>,
    /// Messages received: datagrams, and IPFIX messages of TCP connections.
    pub datagrams: u64,
    /// Their octets.
    pub octets: u64,
    /// Messages that were read to their end.
    pub datagrams_decoded: u64,
    /// Datagrams that the kernel dropped before flowd could receive them.
    pub kernel_drops: u64,
    /// Records decoded, of flows and of options, whether still held or not.
    pub records_decoded: u64,
    /// Template records accepted, repeats included.
    pub templates: u64,
    /// Data sets that wait for their template.
    pub sets_held: u64,
    /// Data sets that came before their template, whatever became of them.
    pub sets_waited: u64,
    /// Of these, such as were decoded when it had come.
    pub sets_late: u64,
    /// Templates that took the place of another of their exporter, domain, port and number.
    pub redefinitions: u64,
    /// Elements of enterprises that exporters described.
    pub elements_learned: u64,
    /// Descriptions of elements that contradict what is known, or are none.
    pub elements_refused: u64,
    /// Records whose lists show as octets: they refer to more templates than are kept.
    pub lists_over_limit: u64,
    /// TCP connections that came in, refused ones included.
    pub connections: u64,
    /// Of these open.
    pub connections_open: u64,
    /// The others, by why they ended.
    pub connection_ends: BTreeMap<String, u64>,
    /// What was dropped, by reason and unit: datagrams, data sets, templates, records, or
    /// connections that were refused.
    pub drops: BTreeMap<String, u64>,
    /// Parts of the store that cannot be read or are not there, in words.
    pub damage: Vec<String>,
    /// Datagrams repeated to other receivers, by address.
    pub forwarded: BTreeMap<String, ForwardStatistics>,
    /// Each exporter and domain.
    pub exporters: Vec<ExporterStatistics>,
}

/// Which segments are where, of a store that is bound to an object store.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectsInfo {
    /// Where the objects are.
    pub url: String,
    /// Segments that are there only.
    pub remote_segments: u64,
    /// Octets of them.
    pub remote_bytes: u64,
    /// Segments that are here still.
    pub waiting_segments: u64,
    /// Octets of them.
    pub waiting_bytes: u64,
}

/// What was let go over the store's life.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpiredInfo {
    /// Flow records.
    pub flow_records: u64,
    /// Other records.
    pub other_records: u64,
    /// Segments.
    pub segments: u64,
    /// Octets of the segments.
    pub bytes: u64,
    /// First and last time of receipt.
    pub received: (String, String),
}

/// Reads the state of a store; the counters come from its running collector, if there is one.
///
/// # Errors
/// If there is no store, or it cannot be read.
pub fn read(store: &Path) -> Result<Info> {
    let mut snapshot = StoreSnapshot::open(store)?;
    snapshot.check();
    let (statistics, is_collecting) = StoreStatistics::of_store(store);
    let collect = &statistics.collect;
    let text = |millis| UnixMillis(millis).to_string();
    Ok(Info {
        is_collecting,
        flow_records: snapshot.flow_records(),
        ring_records: snapshot.ring_records(),
        archive_records: snapshot.archive_records(),
        other_records: snapshot.other_records(),
        archive_bytes: snapshot.archive_bytes(),
        segments: snapshot.segment_count(),
        objects: objects(store, &snapshot)?,
        withdrawn_bytes: snapshot.withdrawn_bytes()?,
        index_bytes: snapshot.index_bytes(),
        ring: (is_collecting == Some(true)).then_some(statistics.ring),
        received: snapshot.received().map(|(first, last)| (text(first), text(last))),
        expired: snapshot.expired.map(|expired| ExpiredInfo {
            flow_records: expired.flow_rows,
            other_records: expired.other_rows,
            segments: expired.segments,
            bytes: expired.bytes,
            received: (text(expired.received.0), text(expired.received.1)),
        }),
        datagrams: collect.datagrams,
        octets: collect.octets,
        datagrams_decoded: collect.datagrams_decoded,
        kernel_drops: collect.kernel_drops,
        records_decoded: collect.records,
        templates: collect.templates,
        sets_held: collect.sets_held,
        sets_waited: collect.sets_waited,
        sets_late: collect.sets_late,
        redefinitions: collect.redefinitions,
        elements_learned: collect.elements_learned,
        elements_refused: collect.elements_refused,
        lists_over_limit: collect.lists_over_limit,
        connections: collect.connections,
        connections_open: collect.connections_open,
        connection_ends: collect.connection_ends.clone(),
        drops: drops(&statistics),
        damage: damage(&snapshot)
            .into_iter()
            .chain(snapshot.head_damage().map(str::to_owned))
            .collect(),
        forwarded: collect.forwarded.clone(),
        exporters: collect.all_exporters().cloned().collect(),
    })
}

/// Counts segments by where they are.
fn objects(store: &Path, snapshot: &StoreSnapshot) -> Result<Option<ObjectsInfo>> {
    let objects = Objects::of(&Store::find(store)?.archive_dir());
    let Some(url) = objects.url()? else { return Ok(None) };
    let mut info = ObjectsInfo { url, ..ObjectsInfo::default() };
    for segment in &snapshot.segments {
        let bytes = segment.entry().bytes;
        if segment.is_remote() {
            info.remote_segments += 1;
            info.remote_bytes += bytes;
        } else {
            info.waiting_segments += 1;
            info.waiting_bytes += bytes;
        }
    }
    Ok(Some(info))
}

/// All drops under the reason and the unit that was dropped.
fn drops(statistics: &StoreStatistics) -> BTreeMap<String, u64> {
    let StoreStatistics {
        collect,
        ring_drops,
        at: _,
        saves: _,
        counted: _,
        absences: _,
        appended: _,
        refused: _,
        untold: _,
        ring: _,
    } = statistics;
    // What other connections lost is counted by message.
    let refused = [ConnectionEnd::NotAllowed, ConnectionEnd::OverLimit];
    let refused: BTreeMap<String, u64> = refused
        .into_iter()
        .filter_map(|end| collect.connection_ends.get_key_value(Reason::name(end)))
        .map(|(reason, &count)| (reason.clone(), count))
        .collect();
    let mut drops = BTreeMap::from([("kernelDatagrams".to_owned(), collect.kernel_drops)]);
    for (unit, reasons) in [
        ("Datagrams", &collect.drops),
        ("Sets", &collect.set_drops),
        ("Templates", &collect.template_drops),
        ("Records", ring_drops),
        ("Connections", &refused),
    ] {
        drops.extend(reasons.iter().map(|(reason, &count)| (format!("{reason}{unit}"), count)));
    }
    drops
}
