//! `flowd store send`.

use crate::cli::args::query::TimeRange;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd store send --store /var/lib/flowd --to udp://192.0.2.20:2055 --last 24h
  flowd store send --store ./store --to udp://127.0.0.1:9995 'host 198.51.100.7' --rate 10000

The oldest part of the store goes first, and within it records go as they are stored. The receiver
sees this host as the exporter, and its own time as that of receipt. Times are absolute (152, 153);
those of the last seven weeks are told as sysUptime too. The counters of the reverse direction have
no form in NetFlow v9 and are left out, which is said.";

/// Send stored records on, as NetFlow v9.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Send {
    /// Which records, in the language of `flowd query` [default: all].
    #[arg(value_name = "FILTER")]
    pub(in crate::cli) filter: Option<String>,
    /// The store's directory.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: PathBuf,
    /// Where the collector listens.
    #[arg(long, value_name = "udp://HOST:PORT")]
    pub(in crate::cli) to: String,
    /// In which protocol.
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: SendFormat,
    /// Source ID of what is sent.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) source_id: u32,
    /// Records a second [default: as fast as a collector on this machine takes them, and 20,000
    /// messages a second to any other].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) rate: Option<u32>,
    #[command(flatten)]
    pub(in crate::cli) time: TimeRange,
}

/// In which protocol records are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SendFormat {
    /// NetFlow v9 (RFC 3954).
    #[default]
    V9,
}
