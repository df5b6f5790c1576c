//! Sends seeded NetFlow v9 to a collector at a rate, and says exactly what it sent.

use anyhow::{Context, Result, bail, ensure};
use bench::number::{parse_count, parse_duration};
use bench::send::{self, Load, Sent};
use clap::Parser;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

/// Send seeded NetFlow v9 flows to a collector; print what was sent as one JSON object.
#[derive(Debug, Parser)]
#[command(
    name = "loadgen",
    after_help = "Examples:\n  loadgen --collector udp://127.0.0.1:2055 --rate 200k --duration 10s\n  \
                  loadgen --collector udp://127.0.0.1:2055 --flows 20M --exporters 4"
)]
struct Arguments {
    /// Where to send, as udp://HOST:PORT; on this machine only.
    #[arg(long)]
    collector: String,
    /// Flows a second; without it as fast as possible.
    #[arg(long, value_parser = parse_count)]
    rate: Option<u64>,
    /// Flows in all.
    #[arg(long, value_parser = parse_count, conflicts_with = "duration")]
    flows: Option<u64>,
    /// How long to send; needs --rate.
    #[arg(long, value_parser = parse_duration, requires = "rate")]
    duration: Option<Duration>,
    /// Flow number N of a seed is always the same flow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Exporters, each with its own socket, Source ID and sequence.
    #[arg(long, default_value_t = 1)]
    exporters: u32,
    /// Put the template into every so many datagrams of an exporter.
    #[arg(long, default_value_t = 100)]
    template_interval: u32,
    /// Make so many flows beforehand and send them again and again: for the highest rates. Whole
    /// datagrams are sent then, so that a few flows more may go than were asked for.
    #[arg(long, value_parser = parse_count)]
    repeat: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if stderr is gone.
            drop(writeln!(std::io::stderr(), "loadgen: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let flows = match (arguments.flows, arguments.duration, arguments.rate) {
        (Some(flows), ..) => flows,
        (None, Some(time), Some(rate)) => rate * time.as_millis() as u64 / 1000,
        _ => bail!("say how much to send: --flows N, or --rate R with --duration T"),
    };
    let load = Load {
        collector: resolve(&arguments.collector)?,
        rate: arguments.rate,
        flows,
        seed: arguments.seed,
        exporters: arguments.exporters,
        template_interval: arguments.template_interval,
        repeat: arguments.repeat,
    };
    let sent = send::run(&load)?;
    writeln!(std::io::stdout(), "{}", report(&load, &sent)).context("print the report")
}

fn resolve(url: &str) -> Result<SocketAddr> {
    let host =
        url.strip_prefix("udp://").with_context(|| format!("`{url}`: write udp://HOST:PORT"))?;
    let mut addresses = host.to_socket_addrs().with_context(|| format!("resolve `{host}`"))?;
    let address = addresses.next().with_context(|| format!("`{host}` has no address"))?;
    ensure!(address.ip().is_loopback(), "{address}: a load goes to a loopback address only");
    Ok(address)
}

fn report(load: &Load, sent: &Sent) -> serde_json::Value {
    let seconds = sent.time.as_secs_f64();
    serde_json::json!({
        "flows": sent.flows,
        "packets": sent.packets,
        "octets": sent.octets,
        "datagrams": sent.datagrams,
        "retries": sent.retries,
        "exporters": load.exporters,
        "seed": load.seed,
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "flowsPerSecond": (sent.flows as f64 / seconds.max(1e-9)).round(),
        "latenessMicros": {
            "p50": sent.lateness.value_at_quantile(0.5),
            "p99": sent.lateness.value_at_quantile(0.99),
            "max": sent.lateness.max(),
        },
    })
}
