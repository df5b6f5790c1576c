//! flowd's own chores: `cargo xtask demo`, `cargo xtask test` and what they are made of.

#![deny(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people at a terminal")]

mod codegen_ie;
mod demo;
mod ebpf;
mod interrupt;
mod layers;
mod netns;
mod packages;
mod pcaps;
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
    /// Make the table of Information Elements anew from its data file.
    CodegenIe {
        /// Change nothing; fail if the table differs.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let done = match Xtask::parse().chore {
        Chore::Demo => demo::run(),
        Chore::Test { only } => test::run(only.as_deref()),
        Chore::Netns => test::netns(),
        Chore::Tidy => tidy::run(),
        Chore::Pcaps { check } => pcaps::run(check),
        Chore::Ebpf { check: false } => ebpf::run(),
        Chore::Ebpf { check: true } => ebpf::check(),
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
