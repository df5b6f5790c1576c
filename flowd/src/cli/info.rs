//! `flowd store info` for people.

use crate::app::store_info::{ExporterStatistics, Info, RingUse};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// Prints the state of a store, a matter a line.
pub(super) fn print(info: &Info, out: &mut impl Write) -> io::Result<()> {
    let who = match info.is_collecting {
        Some(true) => "a collector is at work on it",
        Some(false) => "no collector runs",
        None => {
            "whether a collector runs is not for this user to know: ask as the one that owns it"
        }
    };
    writeln!(out, "store       {who}")?;
    writeln!(
        out,
        "records     {} flows: {} in the ring, {} in the archive; {} others",
        info.flow_records, info.ring_records, info.archive_records, info.other_records
    )?;
    writeln!(
        out,
        "size        archive {} in {} segments, index {}",
        size(info.archive_bytes),
        info.segments,
        size(info.index_bytes)
    )?;
    if info.withdrawn_bytes > 0 {
        writeln!(
            out,
            "            {} of expired and merged segments stay for those who read them, for a quarter of an hour",
            size(info.withdrawn_bytes)
        )?;
    }
    if let Some(objects) = &info.objects {
        writeln!(
            out,
            "objects     {} in {} segments at {}, {} in {} wait here",
            size(objects.remote_bytes),
            objects.remote_segments,
            objects.url,
            size(objects.waiting_bytes),
            objects.waiting_segments
        )?;
    }
    if let Some(ring) = info.ring {
        writeln!(out, "ring        {} taken of {}", size(ring.size), ring_use(ring))?;
    }
    if let Some((first, last)) = &info.received {
        writeln!(out, "received    {first} to {last}")?;
    }
    if let Some(expired) = &info.expired {
        writeln!(
            out,
            "expired     {} flows, {} others, {}, received {} to {}",
            expired.flow_records,
            expired.other_records,
            size(expired.bytes),
            expired.received.0,
            expired.received.1
        )?;
    }
    print_counters(info, out)?;
    for damage in &info.damage {
        writeln!(out, "damage      {damage}")?;
    }
    if !info.exporters.is_empty() {
        writeln!(out)?;
        print_exporters(&info.exporters, out)?;
    }
    Ok(())
}

/// What was received, what became of it, and what was sent on.
fn print_counters(info: &Info, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "messages    {} received, {}; {} decoded, with {} records",
        info.datagrams,
        size(info.octets),
        info.datagrams_decoded,
        info.records_decoded
    )?;
    writeln!(
        out,
        "templates   {} accepted, {} of them in another's place; {} data sets wait for theirs, \
         {} have waited, {} of them were decoded",
        info.templates, info.redefinitions, info.sets_held, info.sets_waited, info.sets_late
    )?;
    if info.elements_learned + info.elements_refused + info.lists_over_limit > 0 {
        writeln!(
            out,
            "elements    {} described by exporters, {} descriptions refused; {} records with \
             lists of more templates than are kept",
            info.elements_learned, info.elements_refused, info.lists_over_limit
        )?;
    }
    if info.connections > 0 {
        writeln!(
            out,
            "connections {} came, {} are open; ended: {}",
            info.connections,
            info.connections_open,
            counts(&info.connection_ends)
        )?;
    }
    writeln!(out, "dropped     {}", counts(&info.drops))?;
    for (target, forwarded) in &info.forwarded {
        let (sent, not_sent) = (forwarded.sent, counts(&forwarded.not_sent));
        writeln!(out, "forwarded   {sent} to udp://{target}; not sent: {not_sent}")?;
    }
    Ok(())
}

/// What happened, with how often.
fn counts(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> = counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") }
}

/// Headings of what is said of an exporter. The first column and the last are texts, aligned to
/// the left; the others to the right.
const HEADINGS: [&str; 13] = [
    "exporter",
    "domain",
    "protocol",
    "messages",
    "records",
    "templates",
    "gaps",
    "lost",
    "late",
    "twice",
    "restarts",
    "sampling",
    "dropped sets",
];

/// A line an exporter, under headings.
fn print_exporters(exporters: &[ExporterStatistics], out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<[String; 13]> = exporters.iter().map(cells).collect();
    let headings = HEADINGS.map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&headings]).map(|row| row[column].len());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; 13] = std::array::from_fn(width);
    for row in [&headings].into_iter().chain(&rows) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            line += &match column {
                0 => format!("{cell:<width$}"),
                12 => format!("  {cell}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn cells(exporter: &ExporterStatistics) -> [String; 13] {
    // What was lost is counted in what the protocol's sequence numbers count.
    let lost = match (exporter.messages_lost, exporter.records_lost) {
        (0, 0) => "0".to_owned(),
        (messages, 0) => format!("{messages} messages"),
        (0, records) => format!("{records} records"),
        (messages, records) => format!("{messages} messages, {records} records"),
    };
    let sampling: BTreeSet<u64> = exporter.sampling.iter().map(|s| s.interval).collect();
    let sampling: Vec<String> = sampling.iter().map(|interval| format!("1:{interval}")).collect();
    let sampling = if sampling.is_empty() { "-".to_owned() } else { sampling.join(",") };
    let mut dropped = counts(&exporter.set_drops);
    if dropped == "nothing" {
        dropped = "-".to_owned();
    }
    [
        exporter.address.to_string(),
        exporter.domain.to_string(),
        exporter.protocol.clone(),
        exporter.messages.to_string(),
        exporter.records.to_string(),
        exporter.templates.to_string(),
        exporter.sequence_gaps.to_string(),
        lost,
        exporter.messages_late.to_string(),
        exporter.messages_repeated.to_string(),
        exporter.restarts.to_string(),
        sampling,
        dropped,
    ]
}

/// What the size of a ring means.
pub(super) fn ring_use(ring: RingUse) -> String {
    let size_max = size(ring.size_max);
    match ring.minutes() {
        Some(0) => format!("{size_max}: holds less than a minute at the present rate"),
        Some(minutes @ ..120) => {
            format!("{size_max}: holds about {minutes} minutes at the present rate")
        }
        Some(minutes) => {
            format!("{size_max}: holds about {} hours at the present rate", minutes / 60)
        }
        None => size_max,
    }
}

/// Octets in the unit that suits them.
pub(super) fn size(octets: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = octets as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{octets} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exporters_are_lines_under_headings_whatever_their_widths() {
        let exporter = |text: &str| serde_json::from_str(text).unwrap();
        let exporters: Vec<ExporterStatistics> = vec![
            exporter(
                r#"{"address": "192.0.2.1", "domain": 7, "protocol": "ipfix", "messages": 12,
                    "records": 300, "templates": 2, "sequenceGaps": 1, "messagesLost": 0,
                    "recordsLost": 25, "messagesLate": 0, "messagesRepeated": 0, "restarts": 1,
                    "sampling": [{"sampler": 0, "interval": 1000, "since": 0}],
                    "setDrops": {"malformed": 1, "templateMissing": 2}}"#,
            ),
            exporter(
                r#"{"address": "2001:db8:1:2:3:4:5:6", "domain": 4294967295,
                    "protocol": "netflow-v9", "messages": 123456789, "records": 0, "templates": 0,
                    "sequenceGaps": 0, "messagesLost": 3, "messagesLate": 4,
                    "messagesRepeated": 5, "restarts": 0, "setDrops": {}}"#,
            ),
        ];
        let mut out = Vec::new();
        print_exporters(&exporters, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        let first = ["192.0.2.1", "7", "ipfix", "12", "300", "2", "1", "25 records", "0", "0", "1"];
        let second = ["2001:db8:1:2:3:4:5:6", "4294967295", "netflow-v9", "123456789", "0", "0"];
        assert_eq!(lines[0], HEADINGS);
        assert_eq!(lines[1][..11], first);
        assert_eq!(lines[1][11..], ["1:1000", "malformed 1, templateMissing 2"]);
        assert_eq!(lines[2][..6], second);
        assert_eq!(lines[2][6..], ["0", "3 messages", "4", "5", "0", "-", "-"]);
        // Right-hand edges are under one another.
        let edge = |line: &str, cell: &str| line.find(cell).map(|at| at + cell.len());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(edge(lines[0], "messages"), edge(lines[2], "123456789"));
        assert_eq!(edge(lines[0], "lost"), edge(lines[1], "25 records"));
    }

    #[test]
    fn the_size_of_a_ring_is_told_in_time() {
        let told = |octets_a_minute| {
            ring_use(RingUse { size_max: 1 << 30, size: 0, octets_a_minute: Some(octets_a_minute) })
        };
        assert_eq!(told(0), "1.0 GiB");
        assert_eq!(told(2 << 30), "1.0 GiB: holds less than a minute at the present rate");
        assert_eq!(told(1 << 25), "1.0 GiB: holds about 32 minutes at the present rate");
        assert_eq!(told(1 << 20), "1.0 GiB: holds about 17 hours at the present rate");
    }

    #[test]
    fn sizes_are_in_the_unit_that_suits_them() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(8 << 40), "8.0 TiB");
    }
}
