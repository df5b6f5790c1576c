//! `flowd store`.

mod import;
mod send;

pub(in crate::cli) use import::import;
pub(in crate::cli) use send::send;

use crate::app;
use crate::app::store_care::{Expiry, Merged, Retention};
use crate::cli::args::store::compact::Compact;
use crate::cli::args::store::expire::Expire;
use crate::cli::args::store::info::{Info, InfoOutput};
use crate::cli::args::store::verify::Verify;
use crate::cli::exit::{Outcome, say};
use crate::cli::info::{print as print_info, size};
use crate::cli::resolve;
use crate::model::time::UnixMillis;
use anyhow::{Context, Result, bail};
use std::io::{self, Write};

/// `flowd store info`.
pub(in crate::cli) fn info(arguments: &Info) -> Result<Outcome> {
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

/// `flowd store expire`.
pub(in crate::cli) fn expire(arguments: &Expire) -> Result<Outcome> {
    let retention = resolve::retention(&arguments.keep)?;
    if retention == Retention::default() {
        bail!("say how much is to be kept: --keep-for, --keep-size or --keep-free");
    }
    let expiry = app::store_care::expire(&arguments.store, retention, arguments.dry_run)?;
    tell_expiry(&expiry, arguments.dry_run);
    Ok(Outcome::Done)
}

fn tell_expiry(expiry: &Expiry, dry_run: bool) {
    let went = if dry_run { "would go" } else { "went" };
    match expiry.received() {
        None => say(format_args!("nothing is due")),
        Some((first, last)) => say(format_args!(
            "{} records in {} segments {went}, {}, received {} to {}",
            expiry.rows(),
            expiry.segments.len(),
            size(expiry.bytes()),
            UnixMillis(first),
            UnixMillis(last),
        )),
    }
}

/// `flowd store verify`.
pub(in crate::cli) fn verify(arguments: &Verify) -> Result<Outcome> {
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

/// `flowd store compact`.
pub(in crate::cli) fn compact(arguments: &Compact) -> Result<Outcome> {
    let Merged { from, into, rows, left } = app::store_care::compact(&arguments.store)?;
    match from {
        0 => say(format_args!("nothing to merge")),
        _ => say(format_args!("{from} segments became {into}, with {rows} records")),
    }
    let reindexed = match arguments.reindex {
        true => Some(app::store_index::reindex(&arguments.store)?),
        false => None,
    };
    if let Some(reindexed) = &reindexed {
        say(format_args!("{}", reindexed.words));
    }
    if left > 0 {
        bail!(
            "{left} segments that were to be merged cannot be read; `flowd store verify` says why"
        );
    }
    match reindexed.map(|reindexed| reindexed.failed).unwrap_or_default().as_slice() {
        [] => Ok(Outcome::Done),
        [failure] => bail!("{failure}"),
        failures => bail!("{} segments have no index, the first: {}", failures.len(), failures[0]),
    }
}
