//! `flowd replay`.

use super::Output;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd replay capture.pcap -o table
  flowd replay capture.pcapng --collector udp://127.0.0.1:2055
  flowd replay a.pcap b.pcap --collector udp://127.0.0.1:2055,udp://127.0.0.1:9995 --speed 1
  flowd replay capture.pcap --store ./store

Captures are pcap or pcapng files; several are replayed one after another. The capture's own times
drive the timeouts and stand in the exported headers. Interfaces and directions are not known from
a capture and are not sent.";

/// Make flow records of a capture and export, store or print them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Replay {
    /// Capture files, pcap or pcapng.
    #[arg(value_name = "FILE", required = true)]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// Export to these collectors: udp://HOST:PORT, several with commas.
    #[arg(
        long,
        value_name = "URL[,..]",
        value_delimiter = ',',
        conflicts_with_all = ["store", "output"]
    )]
    pub(in crate::cli) collector: Vec<String>,
    /// Store the records in this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub(in crate::cli) store: Option<PathBuf>,
    /// Print the records.
    #[arg(short, long, value_enum)]
    pub(in crate::cli) output: Option<Output>,
    /// Export format.
    #[arg(long, value_enum, default_value_t, requires = "collector")]
    pub(in crate::cli) format: Format,
    /// Cut flows that last longer than this.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(in crate::cli) active_timeout: String,
    /// End flows that are quiet for this long.
    #[arg(long, value_name = "TIME", default_value = "15s")]
    pub(in crate::cli) inactive_timeout: String,
    /// Replay at this multiple of the capture's speed; without it, as fast as possible.
    #[arg(long, value_name = "FACTOR")]
    pub(in crate::cli) speed: Option<f64>,
    /// NetFlow v9 Source ID.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "collector")]
    pub(in crate::cli) source_id: u32,
}

/// Export formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// NetFlow v9 (RFC 3954).
    #[default]
    V9,
}
