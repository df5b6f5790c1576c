//! `flowd query` and `flowd top`.

use super::Output;
use crate::cli::resolve::limit;
use clap::Args;
use std::path::PathBuf;

const QUERY_EXAMPLES: &str = "\
Examples:
  flowd query --store /var/lib/flowd 'host 198.51.100.7 and port 443' --last 24h
  flowd query --store /var/lib/flowd 'src net 10.0.0.0/8 and not dst port 53' -a srcip,dstport -n 20
  flowd query --store /var/lib/flowd 'proto tcp and flags S and not flags A' --summary -o json
  flowd query --store /var/lib/flowd --since 2026-03-01T10:00 --until 2026-03-01T11:00 -s bytes -n 10

Filter: nfdump's language, with tcpdump's expressions beside it. Terms are joined by and, or, not:
  any, ipv4, ipv6, proto tcp, tcp, udp, icmp    [src|dst] ip|host ADDRESS, net PREFIX, ip in [..]
  [src|dst] port 53, port > 1024, portrange 1-9 flags S, flags =SA, flags S/SA, icmp-type 8
  [in|out] bytes > 1M, packets, duration, bps, pps, bpp, tos    [in|out] if 3, [src|dst] as 64500
  [src|dst] vlan 5, mac ADDRESS, router ip ADDRESS, first seen > 2026-03-01T10:00

Fields, for comparing (octetDeltaCount > 1M), for -a and for -s: every Information Element name, or
  srcip dstip srcport dstport proto bytes packets flags tos start end inif outif srcas dstas vlan
  router domain; for -a also ip, port, as (either side) and prefixes such as srcip/24.

Times of --last, --since and --until are those of the flows, not of their receipt: a capture that
was replayed lies in its own past.";

const TOP_EXAMPLES: &str = "\
Examples:
  flowd top --store /var/lib/flowd srcip/bytes --last 1h
  flowd top --store /var/lib/flowd dstip,dstport/flows 'proto tcp' -n 20

KEYS/FIELD: keys as in 'flowd query -a'; field one of flows, packets, bytes, pps, bps.";

/// Which records, by time.
#[derive(Debug, Args)]
pub(in crate::cli) struct TimeRange {
    /// Records of this last time: 90s, 15m, 24h, 7d.
    #[arg(
        long,
        value_name = "TIME",
        conflicts_with_all = ["since", "until"],
        allow_hyphen_values = true
    )]
    pub(in crate::cli) last: Option<String>,
    /// Records that end at or after this time (UTC): 2026-03-01T10:00, 2026-03-01, -2h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(in crate::cli) since: Option<String>,
    /// Records that start before this time (UTC).
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(in crate::cli) until: Option<String>,
}

/// Find records in a store.
#[derive(Debug, Args)]
#[command(after_help = QUERY_EXAMPLES)]
pub(in crate::cli) struct Query {
    /// Which records; without it all.
    #[arg(value_name = "FILTER")]
    pub(in crate::cli) filter: Option<String>,
    /// The store's directory.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: PathBuf,
    /// Which records, by time.
    #[command(flatten)]
    pub(in crate::cli) time: TimeRange,
    /// Group by these fields, several with commas.
    #[arg(short, long, value_name = "KEYS", conflicts_with = "summary")]
    pub(in crate::cli) aggregate: Option<String>,
    /// Order by this field, greatest first; FIELD:asc for least first.
    #[arg(short, long, value_name = "FIELD")]
    pub(in crate::cli) sort: Option<String>,
    /// Rows to print; without it, or with 0, all.
    #[arg(short = 'n', long, value_name = "N", value_parser = limit, allow_negative_numbers = true)]
    pub(in crate::cli) limit: Option<usize>,
    /// One row that adds up all records.
    #[arg(long)]
    pub(in crate::cli) summary: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(in crate::cli) output: Output,
    /// Leave out the coverage line on stderr.
    #[arg(long)]
    pub(in crate::cli) quiet: bool,
}

/// Show who leads.
#[derive(Debug, Args)]
#[command(after_help = TOP_EXAMPLES)]
pub(in crate::cli) struct Top {
    /// Group keys and the counter that orders them.
    #[arg(value_name = "KEYS/FIELD")]
    pub(in crate::cli) keys: String,
    /// Which records; without it all.
    #[arg(value_name = "FILTER")]
    pub(in crate::cli) filter: Option<String>,
    /// The store's directory.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: PathBuf,
    /// Which records, by time.
    #[command(flatten)]
    pub(in crate::cli) time: TimeRange,
    /// Rows to print, 0 for all [default: 10].
    #[arg(short = 'n', long, value_name = "N", value_parser = limit, allow_negative_numbers = true)]
    pub(in crate::cli) limit: Option<usize>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(in crate::cli) output: Output,
    /// Leave out the coverage line on stderr.
    #[arg(long)]
    pub(in crate::cli) quiet: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::field;

    #[test]
    fn the_help_names_fields_that_there_are() {
        let (_, listed) = QUERY_EXAMPLES.split_once("name, or\n").unwrap();
        let (listed, _) = listed.split_once("; for -a").unwrap();
        let names: Vec<&str> = listed.split_whitespace().collect();
        assert!(names.len() > 15);
        for name in names {
            assert!(field::find(name).is_some(), "{name}");
        }
    }
}
