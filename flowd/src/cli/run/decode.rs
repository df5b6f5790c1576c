//! `flowd decode`.

use super::RecordPrinter;
use crate::app;
use crate::cli::args::decode::Decode;
use crate::cli::exit::{Outcome, say};
use anyhow::{Context, Result};

/// `flowd decode`.
pub(in crate::cli) fn decode(arguments: &Decode) -> Result<Outcome> {
    let mut printer = RecordPrinter::new(arguments.output);
    let decoded = app::decode::run(&arguments.file, &mut |record, origin| {
        printer.print(record, Some(origin))
    });
    printer.finish().context("print records")?;
    let statistics = decoded?;
    if statistics.datagrams == 0 {
        say(format_args!("no export datagrams in {}", arguments.file.display()));
    }
    let drops =
        statistics.drops.iter().map(|(reason, count)| format!("{count} datagrams {reason}"));
    let set_drops =
        statistics.set_drops.iter().map(|(reason, count)| format!("{count} data sets {reason}"));
    let mut undecoded: Vec<String> = drops.chain(set_drops).collect();
    if statistics.sets_held > 0 {
        undecoded.push(format!("{} data sets without their template", statistics.sets_held));
    }
    if !undecoded.is_empty() {
        say(format_args!("not decoded: {}", undecoded.join(", ")));
    }
    Ok(Outcome::Done)
}
