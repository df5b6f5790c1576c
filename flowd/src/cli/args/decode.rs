//! `flowd decode`.

use super::Output;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd decode exports.pcap -o json
  flowd decode exports.pcap | head

Every UDP datagram of the capture whose payload begins with a version word of NetFlow is decoded,
whatever its port, in the order of the capture.";

/// Print every record in the export datagrams of a capture.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Decode {
    /// A capture of export datagrams, pcap or pcapng.
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(in crate::cli) output: Output,
}
