//! Keeps a collector under load for a while, with everything going on beside it that may: hours
//! end, slivers are merged, what is too old goes, somebody asks, the disk is kept busy. At the end
//! each flow sent is stored, was let go, or was dropped for a reason that is told.

mod clock;
mod collector;
mod pressure;

use anyhow::{Context, Result, bail, ensure};
use bench::number::{parse_count, parse_duration};
use bench::send::{self, Load, Sent};
use clap::Parser;
use collector::{Books, Collector};
use pressure::Pressure;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Keep a flowd under load, with rotation, merging, expiry, questions and a busy disk beside it;
/// fail if a flow is missing or there twice.
#[derive(Debug, Parser)]
#[command(
    name = "soak",
    after_help = "Examples:\n  soak --time 15m --rate 600k\n  \
                                       soak --time 8h --rate 50k --speed 1 --keep-for 4h"
)]
struct Arguments {
    /// How long to send.
    #[arg(long, value_parser = parse_duration, default_value = "15m")]
    time: Duration,
    /// Flows a second.
    #[arg(long, value_parser = parse_count, default_value = "600k")]
    rate: u64,
    /// How many times as fast as ours the collector's clock runs, so that hours end.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    speed: u32,
    /// Exporters that send.
    #[arg(long, default_value_t = 4)]
    exporters: u32,
    /// What the collector keeps, by its own clock.
    #[arg(long, value_parser = parse_duration, default_value = "90m")]
    keep_for: Duration,
    /// The collector's ring.
    #[arg(long, default_value = "256MiB")]
    ring_size: String,
    /// Where the store is made, and removed afterwards; the system's temporary directory by default.
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if stderr is gone.
            drop(writeln!(std::io::stderr(), "soak: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    // What came last in the first hour goes an hour and the time it is kept after the beginning,
    // wherever in the hour that lies; the rest is for the collector to do it.
    let least = (arguments.keep_for + HOUR).mul_f64(1.2);
    ensure!(
        arguments.time * arguments.speed >= least,
        "nothing would be let go: by the collector's clock this takes {} minutes; give --time or --speed more",
        least.as_secs().div_ceil(60)
    );
    let folder = arguments.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = folder.join(format!("flowd-soak-{}", std::process::id()));
    std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
    let outcome = soak(arguments, &folder);
    // A store that failed is worth a look.
    if outcome.is_ok() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    } else {
        drop(writeln!(std::io::stderr(), "soak: what is left is in {}", folder.display()));
    }
    outcome
}

fn soak(arguments: &Arguments, folder: &Path) -> Result<()> {
    let seconds = arguments.time.as_secs().max(1);
    let load = Load {
        collector: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)),
        rate: Some(arguments.rate),
        flows: arguments.rate.checked_mul(seconds).context("too many flows; send for less long")?,
        seed: 1,
        exporters: arguments.exporters,
        template_interval: 64,
        repeat: Some(1_000_000.min(arguments.rate * seconds)),
    };
    let keep_for = format!("{}s", arguments.keep_for.as_secs());
    let limits = ["--keep-for", &keep_for, "--ring-size", &arguments.ring_size];
    let clock = clock::Fast::make(folder, arguments.speed)?;
    let collector = Collector::start(folder, load.collector.port(), &limits, &clock)?;
    let pressure = Pressure::start(folder);
    let questions = collector.ask_until_dropped();
    let sent = send::run(&load)?;
    let (asked, synced) = (questions.end()?, pressure.end()?);
    collector.wait_until_read(sent.datagrams)?;
    let books = collector.end()?;
    tell(&sent, &books, asked, synced)?;
    check(&sent, &books)
}

/// What was sent is what was received; what was received is held, was let go, or was dropped.
fn check(sent: &Sent, books: &Books) -> Result<()> {
    let Books { datagrams, kernel_drops, decoded, dropped, held, expired, found, .. } = *books;
    let mut faults = Vec::new();
    let mut equal = |what: &str, left: u64, right: u64| {
        if left != right {
            faults.push(format!("{what}: {left} and {right}"));
        }
    };
    equal(
        "datagrams sent, and received or dropped by the kernel",
        sent.datagrams,
        datagrams + kernel_drops,
    );
    equal("datagrams dropped by the kernel at this load, and none", kernel_drops, 0);
    equal("flows sent, and decoded", sent.flows, decoded);
    equal("flows decoded, and held, let go or dropped", decoded, held + expired + dropped);
    equal("flows dropped at this load, and none", dropped, 0);
    equal("flows held, and found", held, found);
    for (what, count) in [
        ("segment was merged", books.merges),
        ("segment was let go", books.expiries),
        ("hour ended", books.hours.saturating_sub(1)),
    ] {
        if count == 0 {
            faults.push(format!("no {what}: send for longer, or let the clock run faster"));
        }
    }
    faults.extend(books.findings.iter().cloned());
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(())
}

fn tell(sent: &Sent, books: &Books, asked: u64, synced: u64) -> Result<()> {
    let seconds = sent.time.as_secs_f64();
    let out = &mut std::io::stdout();
    writeln!(
        out,
        "sent {} flows in {seconds:.0} s ({:.0} a second), {} datagrams",
        sent.flows,
        sent.flows as f64 / seconds,
        sent.datagrams
    )?;
    writeln!(
        out,
        "received {} datagrams, dropped {} by the kernel; decoded {} flows, dropped {}; held {}, let go {}, \
         found {}",
        books.datagrams,
        books.kernel_drops,
        books.decoded,
        books.dropped,
        books.held,
        books.expired,
        books.found
    )?;
    writeln!(
        out,
        "{} hours, {} merges, {} expiries; {asked} questions answered and {synced} syncs of other files beside",
        books.hours, books.merges, books.expiries
    )?;
    Ok(())
}

fn free_port() -> Result<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("find a port")?;
    let port = socket.local_addr().context("find a port")?.port();
    ensure!(port > 0, "no port is free");
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;

    fn sent() -> Sent {
        let lateness = Histogram::new(3).unwrap();
        let time = Duration::from_secs(1);
        Sent { flows: 100, packets: 0, octets: 0, datagrams: 4, retries: 0, time, lateness }
    }

    fn books() -> Books {
        Books {
            datagrams: 4,
            kernel_drops: 0,
            decoded: 100,
            dropped: 0,
            held: 60,
            expired: 40,
            found: 60,
            merges: 1,
            expiries: 1,
            hours: 2,
            findings: Vec::new(),
        }
    }

    #[test]
    fn books_that_do_not_balance_are_told() {
        assert!(check(&sent(), &books()).is_ok());
        for (books, told) in [
            (
                Books { datagrams: 3, kernel_drops: 1, ..books() },
                "dropped by the kernel at this load",
            ),
            (Books { decoded: 99, ..books() }, "flows sent, and decoded: 100 and 99"),
            (Books { held: 61, found: 61, ..books() }, "let go or dropped: 100 and 101"),
            (Books { found: 59, ..books() }, "held, and found: 60 and 59"),
            (Books { merges: 0, ..books() }, "no segment was merged"),
            (Books { findings: vec!["damage".to_owned()], ..books() }, "damage"),
        ] {
            let error = check(&sent(), &books).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
