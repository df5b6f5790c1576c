//! `flowd store compact`.

use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd store compact --store /var/lib/flowd
  flowd store compact --store /var/lib/flowd --reindex

A collector merges by itself once an hour is over; while one runs, this is refused. Queries may
run meanwhile.";

/// Merge the archive's small segments of each hour into larger ones, and mend the index.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Compact {
    /// The store's directory.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: PathBuf,
    /// Make indexes for the segments that lack theirs, or whose index is damaged.
    #[arg(long)]
    pub(in crate::cli) reindex: bool,
}
