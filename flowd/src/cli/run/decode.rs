//! `flowd decode`.

use super::RecordPrinter;
use crate::app;
use crate::app::decode::{Decoded, Found};
use crate::cli::args::Output;
use crate::cli::args::decode::Decode;
use crate::cli::exit::{Outcome, say};
use anyhow::{Context, Result, bail};

/// `flowd decode`.
pub(in crate::cli) fn decode(arguments: &Decode) -> Result<Outcome> {
    if arguments.explain && arguments.output == Output::Csv {
        bail!("--explain: messages and templates are no rows of CSV; write -o table or -o json");
    }
    let mut printer = RecordPrinter::new(arguments.output);
    let mut found_count = 0;
    let decoded = app::decode::run(&arguments.file, arguments.explain, &mut |found| {
        found_count += 1;
        match found {
            Found::Record(record, origin) => printer.print(record, Some(origin)),
            Found::Explained(explained) => printer.explain(explained),
        }
    });
    printer.finish().context("print records")?;
    let decoded = decoded?;
    tell(arguments, &decoded);
    Ok(Outcome::of_rows(found_count + decoded.statistics.datagrams))
}

/// Says what was not decoded, and why.
fn tell(arguments: &Decode, decoded: &Decoded) {
    let Decoded { statistics, cut, not_whole } = decoded;
    if statistics.datagrams == 0 {
        // Said by the exit status too, as that of an answer without rows.
        say(format_args!("no export datagrams in {}", arguments.file.display()));
    }
    let drops =
        statistics.drops.iter().map(|(reason, count)| format!("{count} datagrams {reason}"));
    let set_drops =
        statistics.set_drops.iter().map(|(reason, count)| format!("{count} data sets {reason}"));
    let mut undecoded: Vec<String> = drops.chain(set_drops).collect();
    if statistics.sets_held > 0 {
        undecoded.push(format!(
            "{} data sets without their template (exporters send templates every some minutes: \
             capture for longer)",
            statistics.sets_held
        ));
    }
    undecoded.extend(not_whole.iter().map(|(what, count)| format!("{count} {what}")));
    if !undecoded.is_empty() {
        say(format_args!("not decoded: {}", undecoded.join(", ")));
    }
    if *cut > 0 {
        say(format_args!(
            "{cut} datagrams were cut by the capture; capture whole packets (tcpdump -s 0)"
        ));
    }
}
