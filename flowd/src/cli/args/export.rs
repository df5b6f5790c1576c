//! `flowd export`.

use super::store::info::InfoOutput;
use clap::{Args, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  flowd export -i eth0 --collector udp://192.0.2.10:2055
  flowd export -i eth0,wg0 --collector udp://192.0.2.10:2055,udp://192.0.2.11:9995
  flowd export --all --exclude 'veth*,docker?' --collector udp://192.0.2.10:2055
  flowd export -i eth0 --hook pcap --collector udp://[2001:db8::10]:2055
  flowd export --status
  flowd export --status -o json | jq '.exporters[].interfaces[].ingress.discrepancy'

Patterns of --exclude match the whole name: * stands for any letters, ? for one.

Rights: root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; --hook pcap needs
CAP_NET_RAW alone.

Every packet is accounted for: seen = recorded + in the cache + unaccounted + not selected +
refused, in each direction of each interface; and to each collector recorded = exported + not
sent. --status shows all of it. Options data tells collectors, for each interface and direction
since the start: octets and packets seen (85, 86), records made (163), packets and octets in no
record (164, 165), records, packets and octets not sent (166, 167, 168).

With --sampling, the octets seen are those of the selected packets only, in --status and in
element 85; the packets seen are all. The interval is exported too (34, 35).

The export's own datagrams are traffic like any other: they are metered where they leave by a
metered interface. With --hook pcap a packet that the kernel or the device is still to cut into
segments counts as one, and loopback is metered in one direction. With XDP a VLAN tag that the
device takes off is not seen: such records have no vlanId (58).

SIGTERM or SIGINT ends it cleanly: all flows are ended and sent.";

/// Meter live interfaces and export their flow records.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Export {
    /// Meter these interfaces, several with commas.
    #[arg(
        short,
        long,
        value_name = "IFACE[,..]",
        value_delimiter = ',',
        conflicts_with = "all",
        required_unless_present_any = ["all", "status"]
    )]
    pub(in crate::cli) interface: Vec<String>,
    /// Meter all interfaces but loopback, also those that appear later.
    #[arg(long)]
    pub(in crate::cli) all: bool,
    /// With --all, leave out interfaces whose names match, several with commas.
    #[arg(long, value_name = "PATTERN[,..]", value_delimiter = ',')]
    pub(in crate::cli) exclude: Vec<String>,
    /// Export to these collectors: udp://HOST:PORT, several with commas.
    #[arg(
        long,
        value_name = "URL[,..]",
        value_delimiter = ',',
        required_unless_present = "status"
    )]
    pub(in crate::cli) collector: Vec<String>,
    /// How packets are seen.
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) hook: Hook,
    /// Cut flows that last longer than this.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(in crate::cli) active_timeout: String,
    /// End flows that are quiet for this long.
    #[arg(long, value_name = "TIME", default_value = "15s")]
    pub(in crate::cli) inactive_timeout: String,
    /// NetFlow v9 Source ID.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) source_id: u32,
    /// Meter one packet in so many, chosen at random; counters stay as they are.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(in crate::cli) sampling: std::num::NonZeroU32,
    /// Flows that each kernel table holds until it is read, about every second.
    #[arg(
        long,
        value_name = "N",
        default_value_t = flowd_common::limits::KERNEL_FLOW_COUNT_MAX,
        value_parser = clap::value_parser!(u32).range(1..=KERNEL_FLOW_COUNT_LIMIT),
        hide_short_help = true
    )]
    pub(in crate::cli) kernel_flows: u32,
    /// Show the running exporters: interfaces, ledgers, collectors. Exit status 1 if none runs.
    ///
    /// Where packets are sampled, the octets seen are those of the selected packets only.
    #[arg(
        long,
        conflicts_with_all = ["interface", "all", "collector"]
    )]
    pub(in crate::cli) status: bool,
    /// How --status prints.
    #[arg(short, long, value_enum, default_value_t, requires = "status")]
    pub(in crate::cli) output: InfoOutput,
}

/// Entries of a kernel table that its memory is granted for at most.
const KERNEL_FLOW_COUNT_LIMIT: i64 = 1 << 22;

/// How packets are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Hook {
    /// XDP where a network card supports it, else TC.
    #[default]
    Auto,
    /// XDP for what is received, TC for what is sent.
    Xdp,
    /// TC for both.
    Tc,
    /// libpcap, where BPF programs are refused.
    Pcap,
}
