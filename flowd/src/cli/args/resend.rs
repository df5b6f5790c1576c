//! `flowd resend`.

use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd resend exports.pcap --collector udp://127.0.0.1:2055
  flowd resend exports.pcap --collector udp://127.0.0.1:2055 --speed 10
  flowd resend exports.pcap --collector udp://[2001:db8::1]:2055 --speed max

Every UDP datagram of the capture whose payload begins with a version word of NetFlow, IPFIX or
sFlow is sent, whatever its port, octet for octet: the times in it stay those of the capture. Its
source address becomes this host's; each exporter of the capture is sent from a port of its own,
so that the collector keeps their templates and sequences apart.";

/// Send the export datagrams of a capture again, as they are and in their time.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Resend {
    /// A capture of export datagrams, pcap or pcapng.
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// Where to: udp://HOST:PORT.
    #[arg(long, value_name = "URL", required = true)]
    pub(in crate::cli) collector: String,
    /// Send at this multiple of the capture's speed, or `max`: as fast as the collector takes it.
    #[arg(long, value_name = "FACTOR", default_value = "1")]
    pub(in crate::cli) speed: String,
}
