//! `flowd export --status` for people.

use super::output::plain;
use crate::app::export::{Discrepancy, ExporterStatus, Hooks, Ledger};
use std::io::{self, Write};

/// The hooks of an interface in a few letters.
pub(super) fn hooks(hooks: &Hooks) -> String {
    let Hooks { ingress, egress } = hooks;
    if ingress == egress { ingress.clone() } else { format!("{ingress}+{egress}") }
}

/// Prints an exporter's status: its interfaces, a line a direction, and its collectors.
pub(super) fn print(status: &ExporterStatus, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "exporter    process {}, since {}, source ID {}{}",
        status.process_id,
        status.since,
        status.source_id,
        if status.sampling_interval > 1 {
            format!(", one packet in {}", status.sampling_interval)
        } else {
            String::new()
        }
    )?;
    let balance =
        if status.is_balanced() { "balanced" } else { "NOT BALANCED, please report this" };
    writeln!(out, "books       {balance} at {}\n", status.at)?;
    print_interfaces(status, out)?;
    writeln!(out)?;
    print_collectors(status, out)?;
    writeln!(out)
}

fn print_interfaces(status: &ExporterStatus, out: &mut impl Write) -> io::Result<()> {
    let headings = [
        "interface",
        "hook",
        "way",
        "seen",
        "octets",
        "recorded",
        "records",
        "in cache",
        "unaccounted",
        "not selected",
        "refused",
        "off by",
        "before",
    ];
    let mut rows: Vec<Vec<String>> = vec![headings.map(str::to_owned).to_vec()];
    for interface in &status.interfaces {
        let gone = if interface.is_attached { "" } else { " (gone)" };
        let name = format!("{}{gone}", plain(&interface.name));
        rows.push(row(&name, &interface.hooks.ingress, "in", &interface.ingress));
        rows.push(row("", &interface.hooks.egress, "out", &interface.egress));
    }
    if status.vanished != Ledger::default() {
        rows.push(row("(vanished)", "", "both", &status.vanished));
    }
    align(&rows, 3, out)?;
    for interface in &status.interfaces {
        let name = plain(&interface.name);
        for (way, ledger) in [("in", &interface.ingress), ("out", &interface.egress)] {
            print_details(&format!("{name} {way}"), ledger, out)?;
        }
    }
    print_details("(vanished)", &status.vanished, out)
}

/// Prints what has no column: why packets were refused, and what the books are off by.
fn print_details(place: &str, ledger: &Ledger, out: &mut impl Write) -> io::Result<()> {
    let reasons = ledger.unparsed.iter().map(|(reason, count)| format!("{reason} {count}"));
    let reasons: Vec<String> = reasons.collect();
    if !reasons.is_empty() {
        writeln!(out, "refused     {place}: {}", reasons.join(", "))?;
    }
    if !ledger.discrepancy.is_zero() {
        let Discrepancy { packets, octets } = ledger.discrepancy;
        writeln!(out, "off by      {place}: {packets} packets, {octets} octets")?;
    }
    Ok(())
}

fn print_collectors(status: &ExporterStatus, out: &mut impl Write) -> io::Result<()> {
    let headings = ["collector", "records", "packets", "octets", "messages", "not sent", "off by"];
    let mut rows: Vec<Vec<String>> = vec![headings.map(str::to_owned).to_vec()];
    for collector in &status.collectors {
        let statistics = &collector.statistics;
        let not_sent: Vec<String> = statistics
            .not_sent
            .iter()
            .map(|(reason, totals)| format!("{} {reason}", totals.records))
            .collect();
        rows.push(vec![
            format!("udp://{}", statistics.address),
            statistics.exported.records.to_string(),
            statistics.exported.packets.to_string(),
            statistics.exported.octets.to_string(),
            statistics.messages.to_string(),
            if not_sent.is_empty() { "0".to_owned() } else { not_sent.join(", ") },
            collector.discrepancy.to_string(),
        ]);
    }
    align(&rows, 1, out)
}

fn row(name: &str, hook: &str, way: &str, ledger: &Ledger) -> Vec<String> {
    vec![
        name.to_owned(),
        hook.to_owned(),
        way.to_owned(),
        ledger.seen.packets.to_string(),
        ledger.seen.octets.to_string(),
        ledger.recorded.packets.to_string(),
        ledger.recorded.records.to_string(),
        ledger.in_cache.packets.to_string(),
        ledger.unaccounted.packets.to_string(),
        ledger.not_selected_packets.to_string(),
        ledger.unparsed_packets().to_string(),
        ledger.discrepancy.packets.to_string(),
        ledger.before_attach.packets.to_string(),
    ]
}

/// Writes rows in columns: the first so many to the left, numbers to the right.
fn align(rows: &[Vec<String>], left_count: usize, out: &mut impl Write) -> io::Result<()> {
    let column_count = rows.first().map_or(0, Vec::len);
    let width = |column| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell: &String| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..column_count).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(place, (cell, &width))| {
                if place < left_count {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::export::{CollectorStatistics, CollectorStatus, InterfaceStatus};
    use crate::model::{Totals, Volume};
    use std::collections::BTreeMap;

    fn status() -> ExporterStatus {
        let ingress = Ledger {
            seen: Volume { packets: 1_000, octets: 640_000 },
            recorded: Totals { records: 90, packets: 800, octets: 500_000 },
            in_cache: Totals { records: 7, packets: 190, octets: 140_000 },
            unparsed: BTreeMap::from([("arp".to_owned(), 8), ("lldp".to_owned(), 2)]),
            before_attach: Volume { packets: 123_456, octets: 98_765_432 },
            ..Ledger::default()
        };
        let interface = InterfaceStatus {
            index: 2,
            name: "enp3s0".to_owned(),
            description: "uplink".to_owned(),
            is_attached: true,
            hooks: Hooks { ingress: "xdp".to_owned(), egress: "tcx".to_owned() },
            egress: Ledger::default(),
            ingress,
        };
        let hostile = InterfaceStatus {
            name: "a\u{1b}[2Jb".to_owned(),
            is_attached: false,
            ingress: Ledger::default(),
            ..interface.clone()
        };
        let some = Totals { records: 90, packets: 800, octets: 500_000 };
        ExporterStatus {
            process_id: 4711,
            since: "2026-01-02T03:04:05.678Z".to_owned(),
            at: "2026-01-02T04:04:05.678Z".to_owned(),
            source_id: 3,
            sampling_interval: 1,
            interfaces: vec![interface, hostile],
            vanished: Ledger::default(),
            collectors: vec![CollectorStatus {
                statistics: CollectorStatistics {
                    address: "192.0.2.10:2055".parse().unwrap(),
                    messages: 12,
                    exported: some,
                    options_records: 4,
                    not_sent: BTreeMap::from([("refused".to_owned(), some)]),
                    not_sent_at: Vec::new(),
                    fields_left_out: 0,
                    pace_overruns: 0,
                },
                discrepancy: 0,
            }],
        }
    }

    fn text(status: &ExporterStatus) -> String {
        let mut out = Vec::new();
        print(status, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_status_is_a_line_a_direction_and_a_line_a_collector() {
        insta::assert_snapshot!(text(&status()));
    }

    #[test]
    fn books_that_do_not_balance_are_told() {
        let mut status = status();
        status.interfaces[0].ingress.discrepancy = Discrepancy { packets: 0, octets: -60 };
        let text = text(&status);
        assert!(text.contains("NOT BALANCED"), "{text}");
        assert!(text.contains("off by      enp3s0 in: 0 packets, -60 octets"), "{text}");
    }

    #[test]
    fn what_vanished_interfaces_refused_is_told_by_reason() {
        let mut status = status();
        status.vanished = status.interfaces[0].ingress.clone();
        let text = text(&status);
        assert!(text.contains("refused     enp3s0 in: arp 8, lldp 2"), "{text}");
        assert!(text.contains("refused     (vanished): arp 8, lldp 2"), "{text}");
    }

    #[test]
    fn json_has_one_object_of_documented_names() {
        let object = serde_json::to_value(status()).unwrap();
        let ingress = &object["interfaces"][0]["ingress"];
        assert_eq!(ingress["seen"]["packets"], 1_000);
        assert_eq!(ingress["inCache"]["records"], 7);
        assert_eq!(ingress["beforeAttach"]["octets"], 98_765_432);
        assert_eq!(object["interfaces"][0]["hooks"]["ingress"], "xdp");
        assert_eq!(object["collectors"][0]["notSent"]["refused"]["records"], 90);
        assert_eq!(object["collectors"][0]["address"], "192.0.2.10:2055");
        let read: ExporterStatus = serde_json::from_value(object).unwrap();
        assert_eq!(read, status());
    }
}
