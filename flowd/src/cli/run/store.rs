//! `flowd store`.

use crate::app;
use crate::cli::args::store::Store;
use crate::cli::args::store::compact::Compact;
use crate::cli::args::store::info::{Info, InfoOutput};
use crate::cli::args::store::verify::Verify;
use crate::cli::exit::{Outcome, say};
use crate::cli::info::print as print_info;
use anyhow::{Context, Result, bail};
use std::io::{self, Write};

/// `flowd store`.
pub(in crate::cli) fn store(command: &Store) -> Result<Outcome> {
    match command {
        Store::Info(arguments) => info(arguments),
        Store::Verify(arguments) => verify(arguments),
        Store::Compact(arguments) => compact(arguments),
    }
}

fn info(arguments: &Info) -> Result<Outcome> {
    let state = app::store_info::read(&arguments.store)?;
    let mut out = io::stdout().lock();
    match arguments.output {
        InfoOutput::Json => {
            let text = serde_json::to_string(&state).context("the state as JSON")?;
            writeln!(out, "{text}")
        }
        InfoOutput::Table => print_info(&state, &mut out),
    }
    .context("print the store's state")?;
    Ok(Outcome::Done)
}

fn verify(arguments: &Verify) -> Result<Outcome> {
    let verified = app::store_index::verify(&arguments.store)?;
    let mut out = io::stdout().lock();
    for damage in &verified.damage {
        match arguments.output {
            InfoOutput::Json => {
                let text = serde_json::to_string(damage).context("a finding as JSON")?;
                writeln!(out, "{text}")
            }
            InfoOutput::Table => writeln!(out, "{}: {}", damage.file, damage.finding),
        }
        .context("print what was found")?;
    }
    say(format_args!("{}", verified.words));
    match verified.damage.len() {
        0 => Ok(Outcome::Done),
        1 => bail!("1 file of the store is damaged or missing"),
        count => bail!("{count} files of the store are damaged or missing"),
    }
}

fn compact(arguments: &Compact) -> Result<Outcome> {
    if !arguments.reindex {
        bail!("nothing to do: say --reindex");
    }
    let reindexed = app::store_index::reindex(&arguments.store)?;
    say(format_args!("{}", reindexed.words));
    match reindexed.failed.as_slice() {
        [] => Ok(Outcome::Done),
        [failure] => bail!("{failure}"),
        failures => bail!("{} segments have no index, the first: {}", failures.len(), failures[0]),
    }
}
