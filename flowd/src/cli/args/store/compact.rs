//! `flowd store compact`.

use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd store compact --store /var/lib/flowd --reindex

Queries may run meanwhile. While a collector runs, this is refused.";

/// Make anew what is missing or damaged of the index.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Compact {
    /// The store's directory.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: PathBuf,
    /// Make indexes for the segments that lack theirs, or whose index is damaged.
    #[arg(long, required = true)]
    pub(in crate::cli) reindex: bool,
}
