//! A subcommand's arguments -> a plan -> `app`, and what came of it in words.

mod collect;
mod decode;
mod export;
mod query;
mod replay;
mod resend;
mod store;

pub(super) use collect::collect;
pub(super) use decode::decode;
pub(super) use export::export;
pub(super) use query::{query, top};
pub(super) use replay::replay;
pub(super) use resend::resend;
pub(super) use store::{compact, expire, import, info, send, verify};

use super::args::Output;
use super::output::{Columns, Format, Printer, RecordRows, Style, explain_text};
use crate::app::decode::Explained;
use crate::model::{FlowRecord, Origin};
use crate::query::Sink;
use std::io::{self, BufWriter, IsTerminal, StdoutLock};

/// Stdout as printers take it.
type Stdout = BufWriter<StdoutLock<'static>>;

/// A printer to stdout; headings and colour are for a terminal only.
fn printer(output: Output, columns: &Columns) -> Printer<Stdout> {
    let stdout = io::stdout();
    let style = Style::of_output(stdout.is_terminal());
    let format = match output {
        Output::Table => Format::Table,
        Output::Json => Format::Json,
        Output::Csv => Format::Csv,
    };
    Printer::new(format, columns, style, BufWriter::new(stdout.lock()))
}

/// Prints records as they come from metering or decoding.
struct RecordPrinter {
    output: Output,
    rows: RecordRows,
    printer: Printer<Stdout>,
}

impl RecordPrinter {
    fn new(output: Output) -> Self {
        let printer = printer(output, &Columns::Records);
        Self { output, rows: RecordRows::default(), printer }
    }

    fn print(&mut self, record: &FlowRecord, origin: Option<&Origin>) -> io::Result<()> {
        self.rows.with_row(record, origin, |row| self.printer.row(row))
    }

    fn explain(&mut self, explained: &Explained) -> io::Result<()> {
        let lines = match self.output {
            Output::Json => vec![serde_json::to_string(explained)?],
            Output::Table | Output::Csv => explain_text(explained),
        };
        lines.into_iter().try_for_each(|line| self.printer.line(line))
    }

    fn finish(self) -> io::Result<()> {
        self.printer.finish().map(drop)
    }
}
