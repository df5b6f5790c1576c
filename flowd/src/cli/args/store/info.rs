//! `flowd store info`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd store info --store /var/lib/flowd
  flowd store info --store /var/lib/flowd -o json | jq .exporters";

/// Say what a store holds, what was dropped, and who sent it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Info {
    /// The store's directory.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(in crate::cli) output: InfoOutput,
}

/// How a store's state is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum InfoOutput {
    /// Lines for people.
    #[default]
    Table,
    /// One object.
    Json,
}
