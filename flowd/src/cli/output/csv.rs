//! CSV: a header, then a line a row, quoted as in RFC 4180. Lines end in LF, as Unix tools expect.

use super::Columns;
use super::escape::Visible;
use super::json;
use crate::model::{Column, Value};
use crate::query::field::Provenance;
use std::io::{self, Write};

/// What the record tells of, where it is no flow.
const RECORD_TYPE: &str = "recordType";
/// All elements without a column of their own, as a JSON object.
const ELEMENTS: &str = "elements";

/// The state of a CSV output.
#[derive(Debug)]
pub(super) struct Csv {
    names: Vec<String>,
    /// Records may have fields beyond the columns: those go into the last one.
    has_elements: bool,
    wrote_header: bool,
    cell: String,
}

impl Csv {
    pub(super) fn new(columns: &Columns) -> Self {
        let (names, has_elements) = match columns {
            Columns::Records => {
                let known = Column::ALL.iter().map(|column| column.name());
                let provenance = Provenance::ALL.into_iter().map(Provenance::name);
                let names = known.chain(provenance).chain([RECORD_TYPE]);
                (names.map(str::to_owned).collect(), true)
            }
            Columns::Fixed(headings) => {
                let names = headings.iter().flat_map(|heading| heading.names.iter().cloned());
                (names.collect(), false)
            }
        };
        Self { names, has_elements, wrote_header: false, cell: String::new() }
    }

    pub(super) fn row(
        &mut self,
        row: &[(&str, Value<'_>)],
        writer: &mut impl Write,
    ) -> io::Result<()> {
        self.header(writer)?;
        let mut joint: &[u8] = b"";
        for name in &self.names {
            writer.write_all(joint)?;
            joint = b",";
            if let Some((_, value)) = row.iter().find(|(it, _)| it == name) {
                write_cell(*value, &mut self.cell, writer)?;
            }
        }
        if self.has_elements {
            writer.write_all(joint)?;
            self.elements(row, writer)?;
        }
        writer.write_all(b"\n")
    }

    pub(super) fn finish(&mut self, writer: &mut impl Write) -> io::Result<()> {
        self.header(writer)
    }

    fn header(&mut self, writer: &mut impl Write) -> io::Result<()> {
        if std::mem::replace(&mut self.wrote_header, true) {
            return Ok(());
        }
        let mut names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        if self.has_elements {
            names.push(ELEMENTS);
        }
        writeln!(writer, "{}", names.join(","))
    }

    fn elements(&self, row: &[(&str, Value<'_>)], writer: &mut impl Write) -> io::Result<()> {
        let is_known = |name: &str| self.names.iter().any(|known| known == name);
        let others: Vec<_> = row.iter().filter(|(name, _)| !is_known(name)).copied().collect();
        if others.is_empty() {
            return Ok(());
        }
        let mut object = Vec::new();
        json::write_object(&others, &mut object)?;
        write_text(&String::from_utf8_lossy(&object), writer)
    }
}

/// Writes a value; `scratch` keeps its memory between calls.
fn write_cell(value: Value<'_>, scratch: &mut String, writer: &mut impl Write) -> io::Result<()> {
    use std::fmt::Write as _;
    match value {
        Value::Text(_) | Value::BrokenText(_) => {
            scratch.clear();
            write!(scratch, "{}", Visible(value)).map_err(io::Error::other)?;
            write_text(scratch, writer)
        }
        _ => write!(writer, "{value}"),
    }
}

fn write_text(text: &str, writer: &mut impl Write) -> io::Result<()> {
    if text.contains(['"', ',', '\n', '\r']) {
        write!(writer, "\"{}\"", text.replace('"', "\"\""))
    } else {
        writer.write_all(text.as_bytes())
    }
}
