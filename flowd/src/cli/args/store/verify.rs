//! `flowd store verify`.

use super::info::InfoOutput;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd store verify --store /var/lib/flowd
  flowd store verify --store /var/lib/flowd -o json | jq -r .file

One line a damaged file, and exit status 2 if there is one. Nothing is changed, and a collector may
run meanwhile. What is damaged under index/ costs time only, and `flowd store compact --reindex`
makes it anew; segments are restored from a copy.";

/// Read all of a store, and name what is damaged or missing.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Verify {
    /// The store's directory.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(in crate::cli) output: InfoOutput,
}
