//! `flowd store info` for people.

use crate::app::store_info::Info;
use std::io::{self, Write};

/// Prints the state of a store, a matter a line.
pub(super) fn print(info: &Info, out: &mut impl Write) -> io::Result<()> {
    let who = if info.is_collecting { "a collector is at work on it" } else { "no collector runs" };
    writeln!(out, "store       {who}")?;
    writeln!(
        out,
        "records     {} flows: {} in the ring, {} in the archive; {} others",
        info.flow_records, info.ring_records, info.archive_records, info.other_records
    )?;
    writeln!(
        out,
        "size        archive {}, index {}",
        size(info.archive_bytes),
        size(info.index_bytes)
    )?;
    if let Some((first, last)) = &info.received {
        writeln!(out, "received    {first} to {last}")?;
    }
    writeln!(out, "datagrams   {} received", info.datagrams)?;
    let dropped: Vec<String> = info
        .drops
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let dropped = if dropped.is_empty() { "nothing".to_owned() } else { dropped.join(", ") };
    writeln!(out, "dropped     {dropped}")?;
    for damage in &info.damage {
        writeln!(out, "damage      {damage}")?;
    }
    if !info.exporters.is_empty() {
        writeln!(
            out,
            "\n{:<40} {:>10} {:<11} {:>12} {:>14} {:>6} {:>10}",
            "exporter", "domain", "protocol", "messages", "records", "gaps", "lost"
        )?;
    }
    for exporter in &info.exporters {
        writeln!(
            out,
            "{:<40} {:>10} {:<11} {:>12} {:>14} {:>6} {:>10}",
            exporter.address.to_string(),
            exporter.domain,
            exporter.protocol,
            exporter.messages,
            exporter.records,
            exporter.sequence_gaps,
            exporter.messages_lost
        )?;
    }
    Ok(())
}

/// Octets in the unit that suits them.
fn size(octets: u64) -> String {
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
    fn sizes_are_in_the_unit_that_suits_them() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(8 << 40), "8.0 TiB");
    }
}
