//! `flowd collect`.

use super::store::expire::Keep;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  flowd collect --listen udp://0.0.0.0:2055 --store /var/lib/flowd
  flowd collect --listen udp://[::]:2055,udp://[::]:9995 --store ./store --workers 4 --ring-size 4GiB
  flowd collect --listen udp://[::]:2055 --store ./store --keep-for 400d --keep-size 20TB
  flowd collect --listen udp://[::]:2055,tcp://[::]:4739 --store ./store \\
    --allow 192.0.2.0/24,2001:db8::/32 --http 127.0.0.1:9100
  flowd collect --listen udp://0.0.0.0:2055 --store ./store --forward udp://192.0.2.20:9995
  flowd collect --listen udp://[::]:2055 --store ./store --archive s3://flows/border --archive-after 7d

Every UDP address takes all protocols. TCP is for IPFIX (RFC 7011); its usual port is 4739.

When the disk is nearly full (below --keep-free, else below 5 % or 2 GiB, whichever is less), the
oldest hours go if any of --keep-for, --keep-size and --keep-free is given. Without them nothing is
ever let go: archiving stops then, the ring stops growing, and --when-full decides.

AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say who may use an S3 bucket, AWS_ENDPOINT
where it is if not at Amazon (with AWS_ALLOW_HTTP=true for http). What queries the store needs them
too. Segments stay in --store until their objects are known to be whole, and nothing waits for that.

Records are in answers at once and survive a crash of the program. SIGTERM or SIGINT ends the
collector cleanly: what is in the ring moves to the archive first.";

/// Receive flow records and store them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Collect {
    /// Receive on these addresses: udp://ADDR:PORT or tcp://ADDR:PORT, several with commas.
    /// `[::]` takes IPv4 too.
    #[arg(long, value_name = "URL[,..]", value_delimiter = ',', required = true)]
    pub(in crate::cli) listen: Vec<String>,
    /// The store's directory; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: PathBuf,
    /// Receive from these addresses only, and drop and count what others send: prefixes or
    /// addresses, several with commas [default: everyone].
    #[arg(long, value_name = "PREFIX[,..]", value_delimiter = ',')]
    pub(in crate::cli) allow: Vec<String>,
    /// Datagrams a second that a receiving thread takes from one address; it drops and counts
    /// what is more, so that the rest have their share [default: no limit]. An exporter's port
    /// always goes to the same thread; TCP slows its senders down by itself.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) exporter_rate_max: Option<u32>,
    /// Repeat each datagram, octet by octet, to these receivers too: udp://HOST:PORT, several with
    /// commas. They see this host's address as its sender. It never waits for them: what they do
    /// not take is counted. What --allow refuses and what comes over TCP is not repeated.
    #[arg(long, value_name = "URL[,..]", value_delimiter = ',')]
    pub(in crate::cli) forward: Vec<String>,
    /// Receiving threads for each UDP address, each with its own socket and ring shard [default: one
    /// a CPU]. A TCP address has one.
    #[arg(long, value_name = "N")]
    pub(in crate::cli) workers: Option<usize>,
    /// Size of the ring, whose blocks move to the archive from half of it on.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(in crate::cli) ring_size: String,
    /// Where the ring lies, which may be a tmpfs: it is faster, and what is not archived yet goes
    /// with the power. The store remembers it [default: in the store].
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) ring_dir: Option<PathBuf>,
    /// How much may wait beside the ring while archiving cannot keep up.
    #[arg(long, value_name = "SIZE", default_value = "8GiB")]
    pub(in crate::cli) backlog_max: String,
    /// What to give up once the backlog is full; what is given up is counted.
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) when_full: WhenFull,
    /// Move the archive's segments to this object store: s3://BUCKET/PREFIX or file:///DIRECTORY.
    /// The store remembers it, and answers come from there too; manifest and index stay in
    /// --store.
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) archive: Option<String>,
    /// How long after the end of its hour a segment moves there; 0s: as soon as it is written
    /// [default: 5m].
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) archive_after: Option<String>,
    /// How much is kept.
    #[command(flatten)]
    pub(in crate::cli) keep: Keep,
    /// Receive buffer of each UDP socket.
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub(in crate::cli) receive_buffer: String,
    /// Answer HTTP here: /metrics for Prometheus, /healthz for whoever looks after the process.
    #[cfg(feature = "http")]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(in crate::cli) http: Option<String>,
}

/// What to give up once the backlog is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum WhenFull {
    /// The oldest records that wait for archiving.
    #[default]
    DropOldest,
    /// Records that arrive.
    DropNew,
}
