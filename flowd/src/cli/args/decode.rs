//! `flowd decode`.

use super::Output;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd decode exports.pcap -o json
  flowd decode exports.pcap | head
  flowd decode exports.pcap --explain

Every UDP datagram of the capture whose payload begins with a version word of NetFlow, IPFIX or
sFlow is decoded, whatever its port, in the order of the capture; datagrams in fragments are put
together. IPFIX messages are found in TCP connections too, also in those that had begun before.

With --explain each message comes before its records, with its sets and what was counted while it
was decoded, and with each template that is new or changed: recordType is message, template or
optionsTemplate.";

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
    /// Tell of messages, sets and templates too.
    #[arg(long)]
    pub(in crate::cli) explain: bool,
}
