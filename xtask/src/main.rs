//! flowd's own chores: `cargo xtask demo`, `cargo xtask test` and what they are made of.

#![deny(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people at a terminal")]

mod codegen_ie;
mod demo;
mod ebpf;
mod fuzz;
mod interrupt;
mod layers;
mod netns;
mod packages;
mod pcaps;
mod python;
mod s3;
mod steps;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Chores of the flowd project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Export live traffic, or a capture's, to a running collector; query it and check the books.
    Demo,
    /// Run every check and test, as CI does.
    Test {
        /// Only the steps whose name contains this text.
        only: Option<String>,
    },
    /// Run the tests that need the kernel: programs on veths in network namespaces. As root;
    /// otherwise they say that they skip.
    Netns,
    /// Kill a collector at all kinds of moments, and look whether its store is what it was.
    Kill {
        /// How often.
        #[arg(long, value_name = "N", default_value_t = 20)]
        times: u32,
    },
    /// Keep a collector under load, with all that goes on beside it, and count every flow.
    Soak {
        /// For how long.
        #[arg(long, value_name = "TIME", default_value = "15m")]
        time: String,
        /// Flows a second.
        #[arg(long, value_name = "N", default_value = "600k")]
        rate: String,
        /// Build with all optimisations: for rates that the usual build does not take.
        #[arg(long)]
        release: bool,
        /// More arguments for `soak`, after `--`.
        #[arg(last = true)]
        more: Vec<String>,
    },
    /// Check the layout: sizes, layers, banned words, captures' provenance, licences.
    Tidy,
    /// Make test-pcaps/ anew.
    Pcaps {
        /// Change nothing; fail if a file differs.
        #[arg(long)]
        check: bool,
    },
    /// Build the eBPF programs to flowd-ebpf/prebuilt/.
    Ebpf {
        /// Change nothing; fail if the object does not follow from the sources.
        #[arg(long)]
        check: bool,
    },
    /// Fuzz what reads octets from outside.
    Fuzz {
        /// How long each target runs.
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = seconds)]
        time: u64,
        /// Write the committed seeds anew, and fuzz nothing.
        #[arg(long, conflicts_with_all = ["time", "target"])]
        seeds: bool,
        /// Only this target: decode_stateful or round_trip.
        target: Option<String>,
    },
    /// Make the table of Information Elements anew from its data file.
    CodegenIe {
        /// Change nothing; fail if the table differs.
        #[arg(long)]
        check: bool,
    },
}

/// Seconds of `90s` or `15m`.
fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 60),
        _ => (text, 1),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    // libFuzzer takes 0 for no end.
    seconds.filter(|&seconds| seconds > 0).ok_or_else(|| "write 30s or 15m".to_owned())
}

fn main() -> ExitCode {
    let done = match Xtask::parse().chore {
        Chore::Demo => demo::run(),
        Chore::Test { only } => test::run(only.as_deref()),
        Chore::Netns => test::netns(),
        Chore::Kill { times } => test::kill(times),
        Chore::Soak { time, rate, release, more } => test::soak(&time, &rate, release, &more),
        Chore::Tidy => tidy::run(),
        Chore::Pcaps { check } => pcaps::run(check),
        Chore::Ebpf { check: false } => ebpf::run(),
        Chore::Ebpf { check: true } => ebpf::check(),
        Chore::Fuzz { seeds: true, .. } => fuzz::write_seeds(),
        Chore::Fuzz { time, target, .. } => fuzz::run(time, target.as_deref()),
        Chore::CodegenIe { check } => codegen_ie::run(check),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
