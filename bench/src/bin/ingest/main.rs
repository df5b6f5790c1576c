//! Drives collectors with the same stream, alternated, and says what each lost and what it cost.

mod collector;

use anyhow::{Context, Result, ensure};
use bench::number::parse_count;
use bench::send::{self, Load, Sent};
use clap::{Parser, ValueEnum};
use collector::{Cost, Kind, Running};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Send the same NetFlow v9 stream to flowd and to nfcapd in turn; print what each lost and cost.
#[derive(Debug, Parser)]
#[command(
    name = "ingest",
    after_help = "Examples:\n  ingest burst                 20 M flows at 4 M a second\n  \
                  ingest sustained --rounds 3  1.2 M flows a second for 60 s, archiving beside it\n\n\
                  Each collector gets --warm-up flows first, at a quarter of the rate: what is \
                  measured is one that has been at work."
)]
struct Arguments {
    /// What is asked.
    load: Question,
    /// Flows a second, instead of the question's own.
    #[arg(long, value_parser = parse_count)]
    rate: Option<u64>,
    /// Flows in all, instead of the question's own.
    #[arg(long, value_parser = parse_count)]
    flows: Option<u64>,
    /// Flows that go before those that are measured.
    #[arg(long, value_parser = parse_count, default_value = "16M")]
    warm_up: u64,
    /// How often each collector gets the stream.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Exporters that send it.
    #[arg(long, default_value_t = 4)]
    exporters: u32,
    /// Only these collectors.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Flowd, Kind::Nfcapd])]
    collectors: Vec<Kind>,
    /// Where stores are made, and removed afterwards; the system's temporary directory by default.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// More arguments for `flowd collect`, such as `--workers=1`.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    flowd: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Question {
    /// Is a burst taken without loss?
    Burst,
    /// Is a stream archived as fast as it comes?
    Sustained,
}

impl Question {
    /// Rate and flows.
    const fn load(self) -> (u64, u64) {
        match self {
            Self::Burst => (4_000_000, 20_000_000),
            Self::Sustained => (1_200_000, 72_000_000),
        }
    }
}

/// How long a collector may be busy after the last datagram.
const PATIENCE: Duration = Duration::from_secs(60);
/// Flows that are made beforehand; the stream repeats them.
const REPEAT: u64 = 1_000_000;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if stderr is gone.
            drop(writeln!(std::io::stderr(), "ingest: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let out = &mut std::io::stdout();
    writeln!(
        out,
        "| collector | sent | a second | lost | CPU us a flow to the ring | and in all | memory MB | octets a \
         flow | settled s |\n|---|---|---|---|---|---|---|---|---|"
    )?;
    for _ in 0..arguments.rounds {
        for &kind in &arguments.collectors {
            let (sent, cost) = round(arguments, kind)?;
            writeln!(out, "{}", line(kind, &sent, &cost))?;
        }
    }
    Ok(())
}

fn round(arguments: &Arguments, kind: Kind) -> Result<(Sent, Cost)> {
    let folder = arguments.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = folder.join(format!("flowd-ingest-{}", std::process::id()));
    std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
    let result = measure(arguments, kind, &folder);
    std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    result
}

fn measure(arguments: &Arguments, kind: Kind, folder: &std::path::Path) -> Result<(Sent, Cost)> {
    let (rate, flows) = arguments.load.load();
    let port = free_port()?;
    let load = Load {
        collector: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        rate: Some(arguments.rate.unwrap_or(rate)),
        flows: arguments.flows.unwrap_or(flows),
        seed: 1,
        exporters: arguments.exporters,
        template_interval: 64,
        repeat: Some(REPEAT),
    };
    let running = Running::start(kind, folder, port, &arguments.flowd)?;
    let warm_up = Load {
        flows: arguments.warm_up,
        rate: load.rate.map(|rate| rate / 4),
        seed: 2,
        ..load.clone()
    };
    let warmed = match warm_up.flows {
        0 => 0,
        _ => send::run(&warm_up)?.flows,
    };
    running.settle(PATIENCE)?;
    let before = running.time_to_ring()?;
    let sent = send::run(&load)?;
    let settled = running.settle(PATIENCE)?;
    let to_ring = running.time_to_ring()?.saturating_sub(before);
    let cost = Cost { settled, to_ring, flows: warmed + sent.flows, ..running.end()? };
    ensure!(cost.stored <= cost.flows, "{} stored of {} sent", cost.stored, cost.flows);
    Ok((sent, cost))
}

fn free_port() -> Result<u16> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("find a port")?;
    Ok(socket.local_addr().context("find a port")?.port())
}

fn line(kind: Kind, sent: &Sent, cost: &Cost) -> String {
    let (flows, all) = (sent.flows as f64, cost.flows as f64);
    let to_ring = match kind {
        Kind::Flowd => format!("{:.3}", cost.to_ring.as_secs_f64() * 1e6 / flows),
        // One thread does everything.
        Kind::Nfcapd => "-".to_owned(),
    };
    let lost = cost.flows - cost.stored;
    format!(
        "| {} | {} | {:.2} M | {lost} ({:.2} %) | {to_ring} | {:.3} | {} | {:.1} | {:.1} |",
        kind.name(),
        sent.flows,
        flows / sent.time.as_secs_f64() / 1e6,
        lost as f64 * 100.0 / flows,
        cost.cpu.as_secs_f64() * 1e6 / all,
        cost.memory_max >> 20,
        cost.disk,
        cost.settled.as_secs_f64(),
    )
}
