//! `cargo xtask test`: every check and test, step by step. CI runs this and nothing else.

use crate::{codegen_ie, demo, ebpf, fuzz, packages, pcaps, python, s3, steps, tidy};
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::time::{Duration, Instant};

struct Step {
    name: &'static str,
    work: fn() -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "packages", work: install },
    Step { name: "format", work: || cargo(&["fmt", "--all", "--check"]) },
    Step { name: "tidy", work: tidy::run },
    Step { name: "elements", work: || codegen_ie::run(true) },
    Step { name: "pcaps", work: || pcaps::run(true) },
    Step { name: "ebpf", work: ebpf::check },
    Step { name: "clippy", work: clippy },
    Step { name: "test", work: test },
    Step { name: "kill", work: || kill(20) },
    Step { name: "soak", work: soak_briefly },
    Step { name: "loom", work: loom },
    Step { name: "fuzz", work: fuzz::smoke },
    Step { name: "doc", work: doc },
    Step { name: "demo", work: demo },
];

/// Runs the steps, or those whose name contains `only`.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    let mut taken: Vec<(&str, Duration)> = Vec::new();
    for step in STEPS.iter().filter(|step| only.is_none_or(|text| step.name.contains(text))) {
        println!("== {}", step.name);
        let start = Instant::now();
        (step.work)().with_context(|| format!("step `{}` failed", step.name))?;
        taken.push((step.name, start.elapsed()));
    }
    if taken.is_empty() {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        bail!("no step has this name; there are: {}", names.join(", "));
    }
    println!("== all steps passed");
    for (name, time) in &taken {
        println!("{name:<10} {:>6.1} s", time.as_secs_f64());
    }
    Ok(())
}

fn install() -> Result<()> {
    use packages::{GCC, IPROUTE, LIBPCAP, NFDUMP, PYTHON, PYTHON_VENV, SOFTFLOWD, TSHARK};
    let system = [GCC, LIBPCAP, IPROUTE, NFDUMP, SOFTFLOWD, TSHARK, PYTHON, PYTHON_VENV];
    packages::ensure(&system)?;
    python::ensure()?;
    s3::ensure()
}

fn cargo(arguments: &[&str]) -> Result<()> {
    steps::run(steps::cargo().args(arguments))
}

fn clippy() -> Result<()> {
    cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // What fuzz, loom and callgrind builds use: the program without arrow.
    cargo(&[
        "clippy",
        "--quiet",
        "--package",
        "flowd",
        "--lib",
        "--no-default-features",
        "--",
        "-D",
        "warnings",
    ])
}

/// `--all-targets` compiles the benches too, and runs each once.
fn test() -> Result<()> {
    build()?;
    cargo(&["test", "--workspace", "--no-fail-fast"])?;
    // What tests print is shown of those only that fail.
    if !packages::is_root()? {
        println!("not root: tests on live interfaces have skipped; as root: cargo xtask netns");
    }
    Ok(())
}

/// Of the whole-program tests, those on live interfaces, with what they print: also those that
/// pass say there what they skipped, and why.
pub(crate) fn netns() -> Result<()> {
    let modules = ["datapath::", "export::", "live_"];
    let tests = ["test", "--package", "flowd", "--test", "it", "--", "--show-output"];
    cargo(&[&tests[..], &modules[..]].concat())
}

/// The whole-program test that kills a collector, so many times.
pub(crate) fn kill(times: u32) -> Result<()> {
    let tests = ["test", "--package", "flowd", "--test", "it", "--", "keep::kills"];
    steps::run(steps::cargo().args(tests).env("FLOWD_KILLS", times.to_string()))
}

/// The collector under load for a while, its books balanced at the end.
pub(crate) fn soak(time: &str, rate: &str, release: bool, more: &[String]) -> Result<()> {
    let mut program = steps::target_dir();
    if release {
        cargo(&["build", "--release", "--package", "flowd", "--package", "bench", "--bins"])?;
        program.push("release");
    } else {
        build()?;
        program.push("debug");
    }
    let mut soak = Command::new(program.join("soak"));
    steps::run(soak.args(["--time", time, "--rate", rate]).args(more))
}

/// Three hours and a half of the collector's clock in half a minute, at a rate that a busy machine takes.
fn soak_briefly() -> Result<()> {
    let more = ["--speed", "420", "--ring-size", "64MiB"].map(str::to_owned);
    soak("30s", "50k", false, &more)
}

/// Programs and tests at once: whole-program tests of one crate start the programs of another.
/// Building the programs alone would resolve features of shared dependencies without those that
/// tests ask for, and compile parquet and all above it a second time.
fn build() -> Result<()> {
    cargo(&["build", "--workspace", "--bins", "--tests"])
}

fn demo() -> Result<()> {
    build()?;
    demo::play()
}

/// The models of the ring's memory orders; the flag is our own, so that dependencies that know
/// loom's usual one stay as they are.
fn loom() -> Result<()> {
    steps::run(
        steps::cargo()
            .args(["test", "--package", "flowd", "--lib", "--no-default-features", "ring::loom"])
            .env("RUSTFLAGS", "--cfg flowd_loom")
            .env("LOOM_MAX_PREEMPTIONS", "2")
            .env("CARGO_TARGET_DIR", steps::workspace_root().join("target/loom")),
    )
}

fn doc() -> Result<()> {
    steps::run(
        steps::cargo()
            .args(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}
