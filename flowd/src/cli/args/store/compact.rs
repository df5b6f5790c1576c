//! `flowd store compact`.

use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd store compact --store /var/lib/flowd

A collector does this by itself once an hour is over; while one runs, this is refused.";

/// Merge the archive's small segments of each hour into larger ones.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Compact {
    /// The store's directory.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: PathBuf,
}
