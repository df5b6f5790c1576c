//! output: rows -> text. One printer for queries and for decoded or replayed records.
//!
//! ```text
//! query::Sink    (name, Value) pairs --+
//! FlowRecord --[record]--> the same ---+--[json | csv | table]--> lines
//! Coverage --[coverage]--> a line for stderr
//! ```
//!
//! What came from the network may hold control characters: no printer lets them through.

mod coverage;
mod csv;
mod escape;
mod explain;
mod json;
mod list;
mod record;
mod table;
#[cfg(test)]
mod tests;

pub use coverage::{coverage_json, coverage_text};
pub use explain::explain_text;
pub use record::RecordRows;

use crate::model::Value;
use crate::query::{Heading, Sink};
use std::io::{self, Write};
use std::str::FromStr;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: aligned, with units.
    Table,
    /// One object a line.
    Json,
    /// Comma-separated, with a header.
    Csv,
}

/// Text as it may be shown on a terminal.
pub(super) fn plain(text: &str) -> String {
    escape::Visible(text).to_string()
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            _ => Err("the formats are table, json and csv".to_owned()),
        }
    }
}

/// What the rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Records, each with the fields that it has.
    Records,
    /// Groups or sums: these columns.
    Fixed(Vec<Heading>),
}

impl From<Option<Vec<Heading>>> for Columns {
    fn from(headings: Option<Vec<Heading>>) -> Self {
        headings.map_or(Self::Records, Self::Fixed)
    }
}

/// How a table is dressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Headings over the columns.
    pub headings: bool,
    /// Headings in bold.
    pub colour: bool,
}

impl Style {
    /// Headings and colour for a terminal, neither into a pipe.
    #[must_use]
    pub const fn of_output(is_terminal: bool) -> Self {
        Self { headings: is_terminal, colour: is_terminal }
    }
}

/// Writes the rows of one answer.
#[derive(Debug)]
pub struct Printer<W: Write> {
    kind: Kind,
    writer: W,
}

#[derive(Debug)]
enum Kind {
    Table(table::Table),
    Json,
    Csv(csv::Csv),
}

impl<W: Write> Printer<W> {
    /// A printer of rows of these columns. It writes in small pieces: hand it a buffered writer.
    pub fn new(format: Format, columns: &Columns, style: Style, writer: W) -> Self {
        let kind = match format {
            Format::Table => Kind::Table(table::Table::new(columns, style)),
            Format::Json => Kind::Json,
            Format::Csv => Kind::Csv(csv::Csv::new(columns)),
        };
        Self { kind, writer }
    }

    /// Writes a line of text that is no row, in its place between the rows. It must hold no
    /// control characters. CSV has no place for it.
    pub fn line(&mut self, line: String) -> io::Result<()> {
        match &mut self.kind {
            Kind::Table(table) => table.words(line, &mut self.writer),
            Kind::Json => writeln!(self.writer, "{line}"),
            Kind::Csv(_) => Ok(()),
        }
    }

    /// Writes what is still held, and the header if no row came; flushes.
    pub fn finish(mut self) -> io::Result<W> {
        match &mut self.kind {
            Kind::Table(table) => table.finish(&mut self.writer)?,
            Kind::Json => {}
            Kind::Csv(csv) => csv.finish(&mut self.writer)?,
        }
        self.writer.flush()?;
        Ok(self.writer)
    }
}

impl<W: Write> Sink for Printer<W> {
    fn row(&mut self, row: &[(&str, Value<'_>)]) -> io::Result<()> {
        match &mut self.kind {
            Kind::Table(table) => table.row(row, &mut self.writer),
            Kind::Json => json::write_row(row, &mut self.writer),
            Kind::Csv(csv) => csv.row(row, &mut self.writer),
        }
    }
}
