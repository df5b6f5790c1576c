//! `flowd store import`.

use crate::app;
use crate::app::import::{Plan, Progress, Report};
use crate::cli::args::store::import::Import;
use crate::cli::exit::{Outcome, say};
use anyhow::{Result, bail};
use std::io::{self, IsTerminal, Write};

/// `flowd store import`.
pub(in crate::cli) fn import(arguments: &Import) -> Result<Outcome> {
    let plan = Plan {
        store: arguments.store.clone(),
        files: arguments.files.clone(),
        again: arguments.again,
    };
    let is_terminal = io::stderr().is_terminal();
    let report = app::import::run(&plan, &mut |progress| {
        if is_terminal {
            show(progress, plan.files.len());
        }
    })?;
    if is_terminal {
        // The line of progress gives way to the words.
        drop(write!(io::stderr(), "\r\x1b[K"));
    }
    tell(&plan, report)
}

fn show(progress: Progress, files: usize) {
    let Progress { files: done, records } = progress;
    // Nobody looks if stderr is gone.
    drop(write!(io::stderr(), "\r\x1b[Kfile {} of {files}, {records} records", done + 1));
}

/// Says what was imported and what not; a file that was not imported as a whole is an error.
fn tell(plan: &Plan, report: Report) -> Result<Outcome> {
    let Report { records, files, not_imported, faults, is_cut_short } = report;
    if files > 0 || faults.is_empty() {
        let store = plan.store.display();
        say(format_args!("imported {records} records of {files} files into {store}"));
    }
    if !not_imported.parts.is_empty() {
        let parts: Vec<String> =
            not_imported.parts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        say(format_args!("not imported, for it has no place here: {}", parts.join(", ")));
    }
    if not_imported.scaled > 0 {
        say(format_args!(
            "{} records have counters that nfcapd multiplied by the sampling rate",
            not_imported.scaled
        ));
    }
    if is_cut_short {
        say(format_args!("stopped before the end of the files"));
    }
    let Some((last, others)) = faults.split_last() else {
        return Ok(Outcome::Done);
    };
    others.iter().for_each(|fault| say(format_args!("{fault}")));
    bail!("{last}")
}
