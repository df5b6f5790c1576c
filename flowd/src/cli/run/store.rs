//! `flowd store`.

mod import;
mod send;

pub(in crate::cli) use import::import;
pub(in crate::cli) use send::send;

use crate::app;
use crate::cli::args::store::{Info, InfoOutput};
use crate::cli::exit::Outcome;
use crate::cli::info::print as print_info;
use anyhow::{Context, Result};
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
