//! /metrics: what the collector counts, under names that are `flowd_<stage>_<noun>_<unit>_total`.

use super::exposition::{Exposition, Kind};
use crate::collect::{CollectDrop, ConnectionEnd, ExporterStatistics, ForwardDrop, Statistics};
use crate::model::time::UnixMillis;
use crate::telemetry::Reason;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

/// Exporters with numbers of their own: each is some ten lines in every answer, and a series a
/// line for whoever keeps them. Addresses can be forged.
const EXPORTER_COUNT_MAX: usize = 1_000;
/// What the sum of all others bears in place of an address.
const OTHERS: &str = "other";

/// All that is told.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// When the process began to count.
    pub started: UnixMillis,
    /// What was received, decoded and dropped.
    pub collect: Statistics,
    /// The ring.
    pub ring: RingFigures,
    /// The archive.
    pub archive: ArchiveFigures,
}

/// What the ring has done and holds.
#[derive(Clone, Debug, Default)]
pub struct RingFigures {
    /// Records that it took.
    pub appended_records: u64,
    /// Records that it refused or lost, by reason.
    pub dropped_records: BTreeMap<&'static str, u64>,
    /// Octets of its blocks.
    pub size: u64,
    /// Blocks that wait for archiving.
    pub sealed_blocks: u64,
}

/// What the archiver has done.
#[derive(Clone, Debug, Default)]
pub struct ArchiveFigures {
    /// Segments written.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Octets of them.
    pub bytes: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Records let go, for their age or for want of room.
    pub expired_records: u64,
    /// Of these, such as went because the disk was nearly full.
    pub expired_for_room: u64,
    /// Segments that were merged into others.
    pub merged_segments: u64,
    /// Looks at which a disk nearly full kept everything from being archived.
    pub held_back: u64,
    /// What was done with objects; none if the store is bound to no object store.
    pub uploads: Option<UploadFigures>,
}

/// What a collector has done with objects since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadFigures {
    /// Segments moved.
    pub segments: u64,
    /// Octets of them.
    pub bytes: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Objects removed.
    pub removed: u64,
}

/// Address, domain and protocol of an exporter.
type Exporter = (IpAddr, u32, String);

/// The page, from one answer to the next.
#[derive(Debug)]
pub(super) struct Page {
    count_max: usize,
    /// Exporters that have numbers of their own. They keep them: one that came and went with
    /// its rank would be a series with holes, and the sum of the others would fall.
    shown: HashSet<Exporter>,
}

impl Default for Page {
    fn default() -> Self {
        Self { count_max: EXPORTER_COUNT_MAX, shown: HashSet::new() }
    }
}

impl Page {
    /// The page for these figures.
    pub(super) fn write(&mut self, figures: &Figures) -> String {
        let Figures { started, collect, ring, archive } = figures;
        let mut page = Exposition::default();
        let version = env!("CARGO_PKG_VERSION");
        page.family("flowd_build_info", Kind::Gauge, "Always 1; the label is the version.")
            .sample(&[("version", version)], 1);
        let seconds = u64::try_from(started.0.div_euclid(1_000)).unwrap_or(0);
        let help = "When the process began to count, in seconds since 1970.";
        page.single("flowd_start_time_seconds", Kind::Gauge, help, seconds);
        write_messages(&mut page, collect);
        write_connections(&mut page, collect);
        write_forwarded(&mut page, collect);
        write_sets(&mut page, collect);
        write_oddities(&mut page, collect);
        write_store(&mut page, ring, archive);
        let exporters = self.exporters(collect);
        write_exporters(&mut page, &exporters);
        page.into_text()
    }

    /// The exporters to show, and last the sum of the others.
    fn exporters(&mut self, collect: &Statistics) -> Vec<ExporterStatistics> {
        let Self { count_max, shown } = self;
        let known: HashMap<Exporter, &ExporterStatistics> =
            collect.exporters.iter().map(|exporter| (key(exporter), exporter)).collect();
        shown.retain(|exporter| known.contains_key(exporter));
        let mut rest: Vec<_> = known.iter().filter(|(key, _)| !shown.contains(*key)).collect();
        rest.sort_unstable_by_key(|(key, exporter)| (Reverse(exporter.messages), *key));
        let room = count_max.saturating_sub(shown.len());
        shown.extend(rest.into_iter().take(room).map(|(key, _)| key.clone()));
        let (mut rows, others): (Vec<_>, Vec<_>) =
            collect.exporters.iter().cloned().partition(|exporter| shown.contains(&key(exporter)));
        let others = others.into_iter().chain(collect.other_exporters.clone());
        rows.extend(
            others
                .reduce(|mut sum, exporter| {
                    sum.add(&exporter);
                    sum
                })
                .map(|sum| ExporterStatistics { protocol: OTHERS.to_owned(), ..sum }),
        );
        rows
    }
}

fn key(exporter: &ExporterStatistics) -> Exporter {
    (exporter.address, exporter.domain, exporter.protocol.clone())
}

fn write_messages(page: &mut Exposition, collect: &Statistics) {
    for (name, help, value) in [
        (
            "flowd_collect_received_messages_total",
            "Messages received: UDP datagrams, and IPFIX messages of TCP connections.",
            collect.datagrams,
        ),
        ("flowd_collect_received_bytes_total", "Octets of the messages received.", collect.octets),
        (
            "flowd_collect_decoded_messages_total",
            "Messages that were read to their end.",
            collect.datagrams_decoded,
        ),
        (
            "flowd_collect_kernel_dropped_messages_total",
            "Datagrams that the kernel dropped because the socket's buffer was full.",
            collect.kernel_drops,
        ),
    ] {
        page.single(name, Kind::Counter, help, value);
    }
    let name = "flowd_collect_dropped_messages_total";
    let help = "Messages that were not read to their end.";
    write_reasons::<CollectDrop>(page, name, help, &collect.drops);
}

/// Nothing at all of a collector that repeats nothing.
fn write_forwarded(page: &mut Exposition, collect: &Statistics) {
    if collect.forwarded.is_empty() {
        return;
    }
    let name = "flowd_collect_forwarded_datagrams_total";
    let mut family = page.family(name, Kind::Counter, "Datagrams repeated to a receiver.");
    for (target, counts) in &collect.forwarded {
        family.sample(&[("target", target)], counts.sent);
    }
    let name = "flowd_collect_forward_dropped_datagrams_total";
    let mut family = page.family(name, Kind::Counter, "Datagrams not repeated to a receiver.");
    for (target, counts) in &collect.forwarded {
        for reason in ForwardDrop::ALL {
            let count = counts.not_sent.get(reason.name()).copied().unwrap_or(0);
            family.sample(&[("target", target), ("reason", reason.name())], count);
        }
    }
}

fn write_connections(page: &mut Exposition, collect: &Statistics) {
    let name = "flowd_collect_received_connections_total";
    let help = "TCP connections that came in, refused ones included.";
    page.single(name, Kind::Counter, help, collect.connections);
    let help = "TCP connections that are open.";
    page.single("flowd_collect_open_connections", Kind::Gauge, help, collect.connections_open);
    let name = "flowd_collect_ended_connections_total";
    let help = "TCP connections that ended or were refused.";
    write_reasons::<ConnectionEnd>(page, name, help, &collect.connection_ends);
}

fn write_sets(page: &mut Exposition, collect: &Statistics) {
    for (name, help, value) in [
        (
            "flowd_collect_decoded_records_total",
            "Records decoded, of flows and of options.",
            collect.records,
        ),
        ("flowd_collect_received_sets_total", "Data sets received.", collect.sets),
        (
            "flowd_collect_decoded_sets_total",
            "Data sets whose records were decoded.",
            collect.sets_decoded,
        ),
        (
            "flowd_collect_waited_sets_total",
            "Data sets that came before their template, whatever became of them.",
            collect.sets_waited,
        ),
        (
            "flowd_collect_late_sets_total",
            "Of these, such as were decoded when it had come.",
            collect.sets_late,
        ),
        (
            "flowd_collect_accepted_templates_total",
            "Template records accepted, repeats included.",
            collect.templates,
        ),
        (
            "flowd_collect_withdrawn_templates_total",
            "Templates withdrawn over connections.",
            collect.withdrawals,
        ),
        (
            "flowd_collect_ignored_withdrawals_total",
            "Withdrawals in datagrams, where they mean nothing.",
            collect.withdrawals_ignored,
        ),
        (
            "flowd_collect_displaced_exporters_total",
            "Exporters that lost their counters to new ones, because there are too many.",
            collect.exporters_over_limit,
        ),
    ] {
        page.single(name, Kind::Counter, help, value);
    }
    let help = "Data sets that wait for their template.";
    page.single("flowd_collect_held_sets", Kind::Gauge, help, collect.sets_held);
    let name = "flowd_collect_dropped_sets_total";
    write_reasons::<CollectDrop>(page, name, "Data sets dropped.", &collect.set_drops);
    let name = "flowd_collect_dropped_templates_total";
    write_reasons::<CollectDrop>(page, name, "Template records refused.", &collect.template_drops);
}

/// What exporters did that is worth a look.
fn write_oddities(page: &mut Exposition, collect: &Statistics) {
    for (name, help, value) in [
        (
            "flowd_collect_redefined_templates_total",
            "Templates that took the place of another of their exporter, domain, port and number.",
            collect.redefinitions,
        ),
        (
            "flowd_collect_redefined_unwithdrawn_templates_total",
            "Of these, such as came over connections without a withdrawal.",
            collect.redefinitions_not_withdrawn,
        ),
        (
            "flowd_collect_learned_elements_total",
            "Elements of enterprises that exporters described.",
            collect.elements_learned,
        ),
        (
            "flowd_collect_refused_elements_total",
            "Descriptions of elements that contradict what is known, or are none.",
            collect.elements_refused,
        ),
        (
            "flowd_collect_refused_list_records_total",
            "Records whose lists refer to more templates than are kept: they show as octets.",
            collect.lists_over_limit,
        ),
        (
            "flowd_collect_displaced_sessions_total",
            "Sessions that gave way to others of their own address.",
            collect.sessions_over_limit,
        ),
        (
            "flowd_collect_unkept_sequences_total",
            "Sessions whose place in their sequence is not kept over a restart.",
            collect.standings_over_limit,
        ),
    ] {
        page.single(name, Kind::Counter, help, value);
    }
}

fn write_store(page: &mut Exposition, ring: &RingFigures, archive: &ArchiveFigures) {
    let RingFigures { appended_records, dropped_records, size, sealed_blocks } = ring;
    let ArchiveFigures {
        segments,
        records,
        bytes,
        failures,
        expired_records,
        expired_for_room,
        merged_segments,
        held_back,
        uploads,
    } = archive;
    let name = "flowd_ring_appended_records_total";
    page.single(name, Kind::Counter, "Records that the ring took.", *appended_records);
    let name = "flowd_ring_dropped_records_total";
    let mut family = page.family(name, Kind::Counter, "Records that the ring refused or lost.");
    for (reason, count) in dropped_records {
        family.sample(&[("reason", reason)], *count);
    }
    page.single("flowd_ring_size_bytes", Kind::Gauge, "Octets of the ring's blocks.", *size);
    let help = "Blocks that wait for archiving.";
    page.single("flowd_ring_sealed_blocks", Kind::Gauge, help, *sealed_blocks);
    for (name, help, value) in [
        ("flowd_archive_written_segments_total", "Segments written.", segments),
        ("flowd_archive_written_records_total", "Records in them.", records),
        ("flowd_archive_written_bytes_total", "Octets of them.", bytes),
        (
            "flowd_archive_failed_segments_total",
            "Segments that could not be written; their blocks stay in the ring.",
            failures,
        ),
        (
            "flowd_archive_expired_records_total",
            "Records let go, for their age or for want of room.",
            expired_records,
        ),
        (
            "flowd_archive_expired_for_room_records_total",
            "Records let go because the disk was nearly full.",
            expired_for_room,
        ),
        (
            "flowd_archive_merged_segments_total",
            "Segments that were merged into others of their hour.",
            merged_segments,
        ),
        (
            "flowd_archive_held_back_total",
            "Looks at which a disk nearly full kept everything from being archived.",
            held_back,
        ),
    ] {
        page.single(name, Kind::Counter, help, *value);
    }
    let Some(UploadFigures { segments, bytes, failures, removed }) = uploads else { return };
    for (name, help, value) in [
        ("flowd_archive_moved_segments_total", "Segments moved to the object store.", segments),
        ("flowd_archive_moved_bytes_total", "Octets of them.", bytes),
        (
            "flowd_archive_failed_moves_total",
            "Segments or removals that the object store did not take; they are tried again.",
            failures,
        ),
        ("flowd_archive_removed_objects_total", "Objects removed.", removed),
    ] {
        page.single(name, Kind::Counter, help, *value);
    }
}

/// A number that each exporter has.
type OfExporter = (&'static str, &'static str, fn(&ExporterStatistics) -> u64);

const OF_EXPORTER: &[OfExporter] = &[
    ("flowd_collect_exporter_messages_total", "Messages received from it.", |e| e.messages),
    ("flowd_collect_exporter_records_total", "Records decoded, of flows and of options.", |e| {
        e.records
    }),
    (
        "flowd_collect_exporter_templates_total",
        "Template records received, repeats included.",
        |e| e.templates,
    ),
    (
        "flowd_collect_exporter_sequence_gaps_total",
        "Times that its sequence numbers jumped ahead.",
        |e| e.sequence_gaps,
    ),
    // What never came is the difference of these and the late ones, which falls: no counter.
    (
        "flowd_collect_exporter_missing_messages_total",
        "Messages that its sequence numbers jumped over; those that came late are among them.",
        |e| e.messages_missing,
    ),
    ("flowd_collect_exporter_late_messages_total", "Messages that came after later ones.", |e| {
        e.messages_late
    }),
    ("flowd_collect_exporter_repeated_messages_total", "Messages that came twice.", |e| {
        e.messages_repeated
    }),
    (
        "flowd_collect_exporter_missing_records_total",
        "Records that its sequence numbers jumped over (NetFlow v5 and v7, IPFIX); those that \
         came late are among them.",
        |e| e.records_missing,
    ),
    ("flowd_collect_exporter_late_records_total", "Of these, such as came late.", |e| {
        e.records_late
    }),
    (
        "flowd_collect_exporter_late_sets_total",
        "Data sets of it that came before their template and were decoded when it had come.",
        |e| e.sets_late,
    ),
    ("flowd_collect_exporter_samples_total", "sFlow samples that came.", |e| e.samples.samples),
    (
        "flowd_collect_exporter_dropped_samples_total",
        "sFlow samples that were not decoded: damaged, or of a format that is not read.",
        |e| e.samples.malformed.saturating_add(e.samples.unknown),
    ),
    (
        "flowd_collect_exporter_missing_samples_total",
        "sFlow samples that its sources' numbers jumped over; those that came late are among \
         them.",
        |e| e.samples.samples_lost,
    ),
    (
        "flowd_collect_exporter_late_samples_total",
        "sFlow samples that came after later ones.",
        |e| e.samples.samples_late,
    ),
    (
        "flowd_collect_exporter_unsampled_packets_total",
        "Packets that it should have sampled and did not, for want of resources.",
        |e| e.samples.flow_drops,
    ),
    (
        "flowd_collect_exporter_untold_discards_total",
        "Discarded packets that it did not tell of.",
        |e| e.samples.discard_drops,
    ),
    (
        "flowd_collect_exporter_sequence_restarts_total",
        "Times that it began its sequence anew.",
        |e| e.restarts,
    ),
];

fn write_exporters(page: &mut Exposition, exporters: &[ExporterStatistics]) {
    let labels: Vec<[String; 3]> = exporters.iter().map(labels_of).collect();
    let rows = || exporters.iter().zip(&labels);
    for &(name, help, value) in OF_EXPORTER {
        let mut family = page.family(name, Kind::Counter, help);
        for (exporter, [address, domain, protocol]) in rows() {
            let labels = [("exporter", address), ("domain", domain), ("protocol", protocol)];
            family.sample(&labels.map(|(name, text)| (name, text.as_str())), value(exporter));
        }
    }
    let name = "flowd_collect_exporter_dropped_sets_total";
    let mut family = page.family(name, Kind::Counter, "Data sets of it that were dropped.");
    for (exporter, [address, domain, protocol]) in rows() {
        for (reason, &count) in &exporter.set_drops {
            let labels = [
                ("exporter", address),
                ("domain", domain),
                ("protocol", protocol),
                ("reason", reason),
            ];
            family.sample(&labels.map(|(name, text)| (name, text.as_str())), count);
        }
    }
}

fn labels_of(exporter: &ExporterStatistics) -> [String; 3] {
    if exporter.protocol == OTHERS {
        return [OTHERS.to_owned(), String::new(), String::new()];
    }
    [exporter.address.to_string(), exporter.domain.to_string(), exporter.protocol.clone()]
}

/// A sample for each reason there is, those that never happened included: a series that begins
/// with its first event hides it from whoever asks for increases.
fn write_reasons<R: Reason>(
    page: &mut Exposition,
    name: &str,
    help: &str,
    counts: &BTreeMap<String, u64>,
) {
    let mut family = page.family(name, Kind::Counter, help);
    for reason in R::ALL {
        let count = counts.get(reason.name()).copied().unwrap_or(0);
        family.sample(&[("reason", reason.name())], count);
    }
}

#[cfg(test)]
mod tests;
