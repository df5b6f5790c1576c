//! `flowd store expire`, and what is kept of a store.

use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd store expire --store /var/lib/flowd --keep-for 400d --dry-run
  flowd store expire --store /var/lib/flowd --keep-size 20TB
  flowd store expire --store /var/lib/flowd --keep-for 90d --keep-free 50GiB

The oldest hour goes first, by time of receipt; what is in the ring still is not touched. Queries
that reach into what is gone say so. A collector does the same by itself with the same options;
while one runs, this is refused, except with --dry-run.";

/// Let go the oldest hours of the archive.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Expire {
    /// The store's directory.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: PathBuf,
    /// How much is kept.
    #[command(flatten)]
    pub(in crate::cli) keep: Keep,
    /// Change nothing, and say what would go.
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
}

/// How much of the archive is kept.
#[derive(Debug, Args)]
pub(in crate::cli) struct Keep {
    /// Keep hours of the archive for this long, by time of receipt: 90d, 400d [default: for ever].
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) keep_for: Option<String>,
    /// Keep the archive's segments and their index below this size: the oldest hours go, and their
    /// files a quarter of an hour later, for those who read them [default: no limit].
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) keep_size: Option<String>,
    /// Keep this much of the file system free: the oldest hours go, even before their time.
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) keep_free: Option<String>,
    /// Keep what is known of each address (first and last seen, days, totals) for this long, also
    /// after its records are gone: 800d [default: it goes with them].
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) keep_ledger_for: Option<String>,
}
