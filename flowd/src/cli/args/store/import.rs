//! `flowd store import`.

use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd store import --store /var/lib/flowd /var/cache/nfdump/nfcapd.202611*
  find /data/nfsen -name 'nfcapd.2*' -print0 | sort -z | xargs -0 flowd store import --store ./store

Files of nfdump 1.6 and 1.7 are read: uncompressed, LZO, LZ4, bz2 and zstd. Records lie in the hour
in which nfcapd received them or, where a file does not tell, in which their flow ended. A record
keeps its exporter and protocol if the file names them. Of a damaged file, what stands before the
damage is imported. No collector may run on the store meanwhile.";

/// Bring along what nfdump kept: put records of its files into a store.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Import {
    /// Files that nfcapd, sfcapd, nfpcapd or nfdump wrote.
    #[arg(value_name = "FILE", required = true)]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// The store's directory; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: PathBuf,
    /// Import files whose records the store has already once more.
    #[arg(long)]
    pub(in crate::cli) again: bool,
}
