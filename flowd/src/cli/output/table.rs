//! Tables for people: aligned columns, times without zone letters, units, protocol names.

use super::escape::Visible;
use super::{Columns, Style};
use crate::model::{Column, TcpControlBits, Value};
use crate::query::protocol::protocol_name;
use std::io::{self, Write};
use std::net::IpAddr;

/// Rows that are held to find how wide the columns must be; later rows are written as they come.
const MEASURED_ROWS_MAX: usize = 1_000;

/// The state of a table.
#[derive(Debug)]
pub(super) struct Table {
    layout: Layout,
    style: Style,
    titles: Vec<(String, Align)>,
    widths: Vec<usize>,
    /// Rows held until the widths are known; none once they are.
    held: Option<Vec<Line>>,
}

#[derive(Debug)]
enum Layout {
    /// Records, in nfdump's line style.
    Records,
    /// The names that each column's values come under.
    Fixed(Vec<Vec<String>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

#[derive(Debug)]
enum Line {
    Cells(Vec<String>),
    /// A record that is no flow, in words.
    Words(String),
}

/// The columns of records.
const RECORD_TITLES: [(&str, Align); 9] = [
    ("Start (UTC)", Align::Left),
    ("Duration", Align::Right),
    ("Proto", Align::Left),
    ("Source", Align::Right),
    ("", Align::Left),
    ("Destination", Align::Left),
    ("Flags", Align::Left),
    ("Packets", Align::Right),
    ("Bytes", Align::Right),
];

impl Table {
    pub(super) fn new(columns: &Columns, style: Style) -> Self {
        let (layout, titles) = match columns {
            Columns::Records => {
                let titles = RECORD_TITLES.map(|(title, align)| (title.to_owned(), align));
                (Layout::Records, titles.to_vec())
            }
            Columns::Fixed(headings) => {
                let names = headings.iter().map(|heading| heading.names.clone());
                let titles = headings.iter().map(|heading| {
                    let name = heading.names.first().map_or("", String::as_str);
                    (heading.label.clone(), align(name))
                });
                (Layout::Fixed(names.collect()), titles.collect())
            }
        };
        let is_headed = |title: &str| {
            if style.headings { title.chars().count() } else { 0 }
        };
        Self {
            widths: titles.iter().map(|(title, _)| is_headed(title)).collect(),
            layout,
            style,
            titles,
            held: Some(Vec::new()),
        }
    }

    pub(super) fn row(
        &mut self,
        row: &[(&str, Value<'_>)],
        writer: &mut impl Write,
    ) -> io::Result<()> {
        let line = self.line(row);
        self.put(line, writer)
    }

    /// A line that is no row.
    pub(super) fn words(&mut self, words: String, writer: &mut impl Write) -> io::Result<()> {
        self.put(Line::Words(words), writer)
    }

    fn put(&mut self, line: Line, writer: &mut impl Write) -> io::Result<()> {
        let Some(held) = &mut self.held else {
            return self.write_line(&line, writer);
        };
        held.push(line);
        if held.len() < MEASURED_ROWS_MAX {
            return Ok(());
        }
        self.release(writer)
    }

    pub(super) fn finish(&mut self, writer: &mut impl Write) -> io::Result<()> {
        self.release(writer)
    }

    fn line(&self, row: &[(&str, Value<'_>)]) -> Line {
        match &self.layout {
            Layout::Records if row.first().is_some_and(|(name, _)| *name == "recordType") => {
                let words = row.iter().map(|(name, value)| format!("{name}={}", Visible(value)));
                Line::Words(words.collect::<Vec<_>>().join(" "))
            }
            Layout::Records => Line::Cells(record_cells(row)),
            Layout::Fixed(columns) => {
                let cell = |names: &Vec<String>| {
                    let is_it = |name: &str| names.iter().any(|known| known == name);
                    let found = row.iter().find(|(name, _)| is_it(name));
                    found.map_or_else(String::new, |(name, value)| cell(name, *value))
                };
                Line::Cells(columns.iter().map(cell).collect())
            }
        }
    }

    /// Writes what is held, now that it is known how wide the columns are.
    fn release(&mut self, writer: &mut impl Write) -> io::Result<()> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        for line in &held {
            if let Line::Cells(cells) = line {
                for (width, cell) in self.widths.iter_mut().zip(cells) {
                    *width = cell.chars().count().max(*width);
                }
            }
        }
        if self.style.headings && !held.is_empty() {
            let titles = self.titles.iter().map(|(title, _)| title.clone()).collect();
            let text = self.text(&Line::Cells(titles));
            if self.style.colour {
                writeln!(writer, "\u{1b}[1m{text}\u{1b}[0m")?;
            } else {
                writeln!(writer, "{text}")?;
            }
        }
        held.iter().try_for_each(|line| self.write_line(line, writer))
    }

    fn write_line(&self, line: &Line, writer: &mut impl Write) -> io::Result<()> {
        writeln!(writer, "{}", self.text(line))
    }

    fn text(&self, line: &Line) -> String {
        let cells = match line {
            Line::Words(words) => return words.clone(),
            Line::Cells(cells) => cells,
        };
        let mut text = String::new();
        for ((cell, &width), (_, align)) in cells.iter().zip(&self.widths).zip(&self.titles) {
            if !text.is_empty() {
                text.push_str("  ");
            }
            let padded = match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            };
            text.push_str(&padded);
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// A record in nfdump's line style.
fn record_cells(row: &[(&str, Value<'_>)]) -> Vec<String> {
    let value = |column: Column| {
        let field = row.iter().find(|(name, _)| *name == column.name());
        field.map(|&(_, value)| value)
    };
    let number = |column| match value(column) {
        Some(Value::Unsigned(number)) => Some(number),
        _ => None,
    };
    let time = |column| match value(column) {
        Some(Value::Millis(millis)) => Some(millis),
        _ => None,
    };
    // Of the first pair of counters that the record has one of.
    let sum = |pairs: [[Column; 2]; 3]| {
        let of =
            |pair: [Column; 2]| pair.into_iter().filter_map(number).reduce(u64::saturating_add);
        pairs.into_iter().find_map(of).map_or_else(String::new, scaled)
    };
    let (start, end) = (time(Column::FlowStartMilliseconds), time(Column::FlowEndMilliseconds));
    let shown_start = start.or(end).or_else(|| time(Column::CollectionTimeMilliseconds));
    let duration = start.zip(end).map(|(start, end)| end.saturating_sub(start));
    let address = |ipv4, ipv6| value(ipv4).or_else(|| value(ipv6));
    let icmp = number(Column::IcmpTypeCodeIpv4).or_else(|| number(Column::IcmpTypeCodeIpv6));
    let icmp = icmp.filter(|_| matches!(number(Column::ProtocolIdentifier), Some(1 | 58)));
    let port = |column| number(column).map(|port| port.to_string());
    // As nfdump does, type and code of ICMP stand where a port would; exporters that have no
    // other place put them into the destination port.
    let (source_port, destination_port) = match icmp {
        Some(both) => (None, Some(format!("{}.{}", both >> 8, both & 0xff))),
        None => (port(Column::SourceTransportPort), port(Column::DestinationTransportPort)),
    };
    let source =
        endpoint(address(Column::SourceIpv4Address, Column::SourceIpv6Address), source_port);
    let destination = endpoint(
        address(Column::DestinationIpv4Address, Column::DestinationIpv6Address),
        destination_port,
    );
    let is_biflow = number(Column::ReversePacketDeltaCount).is_some_and(|count| count > 0);
    vec![
        shown_start.map_or_else(String::new, date),
        duration.map_or_else(String::new, seconds),
        number(Column::ProtocolIdentifier).map_or_else(String::new, protocol),
        source,
        if is_biflow { "<->" } else { "->" }.to_owned(),
        destination,
        number(Column::TcpControlBits).map_or_else(String::new, flags),
        sum(Column::PACKETS),
        sum(Column::OCTETS),
    ]
}

/// `address:port`, with brackets around an IPv6 address that a port follows.
fn endpoint(address: Option<Value<'_>>, port: Option<String>) -> String {
    match (address, port) {
        (Some(Value::Address(IpAddr::V6(address))), Some(port)) => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
        (Some(address), None) => address.to_string(),
        (None, Some(port)) => format!(":{port}"),
        (None, None) => "-".to_owned(),
    }
}

/// A value of a column with a name.
fn cell(name: &str, value: Value<'_>) -> String {
    match (Column::from_name(name), value) {
        (Some(Column::ProtocolIdentifier), Value::Unsigned(number)) => protocol(number),
        (Some(Column::TcpControlBits), Value::Unsigned(bits)) => flags(bits),
        (Some(column), Value::Unsigned(number)) if column.is_volume() => scaled(number),
        (_, Value::Millis(millis)) => date(millis),
        (_, value) => Visible(value).to_string(),
    }
}

/// Numbers are read by their last digit, everything else by its first letter.
fn align(name: &str) -> Align {
    let is_number = Column::from_name(name).is_some_and(|column| {
        use crate::model::ColumnKind::{U8, U16, U32, U64};
        let is_worded = matches!(column, Column::ProtocolIdentifier | Column::TcpControlBits);
        matches!(column.kind(), U8 | U16 | U32 | U64) && !is_worded
    });
    if is_number || name == "deltaFlowCount" || name == "port" { Align::Right } else { Align::Left }
}

fn date(millis: i64) -> String {
    let mut text = Value::Millis(millis).to_string().replace('T', " ");
    text.truncate(text.trim_end_matches('Z').len());
    text
}

fn seconds(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    let millis = millis.unsigned_abs();
    format!("{sign}{}.{:03}", millis / 1_000, millis % 1_000)
}

fn protocol(number: u64) -> String {
    let name = u8::try_from(number).ok().and_then(protocol_name);
    name.map_or_else(|| number.to_string(), str::to_owned)
}

fn flags(bits: u64) -> String {
    TcpControlBits(u16::try_from(bits).unwrap_or(u16::MAX)).to_string()
}

/// `999999`, `1.2 M`, `3.4 G`: in powers of 1000 from a million on, exact below.
fn scaled(number: u64) -> String {
    const UNITS: [(u64, char); 4] = [
        (1_000_000_000_000_000, 'P'),
        (1_000_000_000_000, 'T'),
        (1_000_000_000, 'G'),
        (1_000_000, 'M'),
    ];
    match UNITS.iter().find(|(unit, _)| number >= *unit) {
        Some((unit, letter)) => {
            let tenths = number.saturating_add(unit / 20) / (unit / 10);
            format!("{}.{} {letter}", tenths / 10, tenths % 10)
        }
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_scaled_from_a_million_on() {
        for (number, text) in [
            (0, "0"),
            (999_999, "999999"),
            (1_000_000, "1.0 M"),
            (1_249_999, "1.2 M"),
            (1_250_000, "1.3 M"),
            (999_999_999, "1000.0 M"),
            (3_456_000_000, "3.5 G"),
            (u64::MAX, "18446.7 P"),
        ] {
            assert_eq!(scaled(number), text);
        }
    }

    #[test]
    fn durations_have_milliseconds() {
        assert_eq!(seconds(61_005), "61.005");
        assert_eq!(seconds(-5), "-0.005");
    }
}
