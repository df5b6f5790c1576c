//! `cargo xtask fuzz`: builds the fuzz targets and runs them.
//!
//! The targets are a workspace of their own under `flowd/fuzz`. LLVM's coverage counters are put
//! in by flags that the stable compiler takes; a sanitizer is not, for unsafe code is not what the
//! targets run.

use crate::{packages, steps};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGETS: [&str; 2] = ["decode_stateful", "round_trip"];
/// How long each target runs as a step of the tests.
const SMOKE_SECONDS: u64 = 30;
/// Octets of an input: messages of many kinds, and time for many inputs.
const INPUT_SIZE_MAX: usize = 4_096;
/// Seconds and megabytes that one input may take.
const INPUT_SECONDS_MAX: usize = 10;
const MEMORY_MEGABYTES_MAX: usize = 2_048;
/// Captures of other devices' exports, where they lie beside the project.
const CORPUS: &str = "../shared/corpus/collector";

/// The counters that libFuzzer reads, and the comparisons that it learns constants from.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Runs the targets, or the one of this name, each for this long.
pub(crate) fn run(seconds: u64, only: Option<&str>) -> Result<()> {
    let targets: Vec<&str> =
        TARGETS.into_iter().filter(|target| only.is_none_or(|only| *target == only)).collect();
    if targets.is_empty() {
        bail!("no target has this name; there are: {}", TARGETS.join(", "));
    }
    packages::ensure(&[packages::GPP])?;
    let programs = build()?;
    let seeds = fuzz_folder().join("seeds");
    let folder = steps::target_dir().join("fuzz");
    let of_captures = folder.join("captures");
    collect_captures(&of_captures)?;
    for target in targets {
        let found = folder.join("found").join(target);
        // What is explored goes on from run to run; what is found lies apart.
        let corpus = folder.join("corpus").join(target);
        for folder in [&found, &corpus] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        println!("{target}: {seconds} s");
        let history = found.join("history");
        let mut command = Command::new(programs.join(target));
        command
            .args([&corpus, &seeds, &of_captures])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={INPUT_SIZE_MAX}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MEGABYTES_MAX}"))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .args(["-print_final_stats=1", "-verbosity=0"])
            .env("FLOWD_FUZZ_HISTORY", &history);
        steps::run(&mut command).with_context(|| {
            format!(
                "a fault; what finds it again is in {}: mend it and keep it in {}",
                found.display(),
                fuzz_folder().join("regressions").display()
            )
        })?;
    }
    Ok(())
}

/// Each target for a short time, as a step of the tests.
pub(crate) fn smoke() -> Result<()> {
    run(SMOKE_SECONDS, None)
}

/// Writes the committed seeds anew.
pub(crate) fn write_seeds() -> Result<()> {
    let arguments = ["run", "--quiet", "--package", "bench", "--bin", "fuzz-seeds", "--"];
    steps::run(steps::cargo().args(arguments).arg(fuzz_folder().join("seeds")))
}

fn fuzz_folder() -> PathBuf {
    steps::workspace_root().join("flowd/fuzz")
}

/// Builds the targets; the folder of the programs.
fn build() -> Result<PathBuf> {
    let host = host()?;
    let target_dir = steps::target_dir().join("fuzz");
    steps::run(
        steps::cargo()
            .args(["build", "--quiet", "--locked", "--bins", "--manifest-path"])
            .arg(fuzz_folder().join("Cargo.toml"))
            // With a target named, the flags are not for build scripts, which have no counters'
            // reader to link with.
            .args(["--target", &host, "--target-dir"])
            .arg(&target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f")),
    )?;
    Ok(target_dir.join(host).join("debug"))
}

/// The triple of this machine.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("run rustc -vV")?;
    let words = String::from_utf8_lossy(&output.stdout);
    let host = words.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// Makes an input of each capture that lies beside the project: its UDP payloads, of one sender.
fn collect_captures(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let Ok(entries) = fs::read_dir(steps::workspace_root().join(CORPUS)) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_stem().filter(|_| path.extension().is_some_and(|e| e == "pcap"))
        else {
            continue;
        };
        let input = input_of(&fs::read(&path)?);
        if !input.is_empty() {
            fs::write(folder.join(name), input)?;
        }
    }
    Ok(())
}

/// The UDP payloads of a little-endian pcap of Ethernet and IPv4, as many as an input has room
/// for; nothing of any other.
fn input_of(pcap: &[u8]) -> Vec<u8> {
    const FILE_HEADER_SIZE: usize = 24;
    const PACKET_HEADER_SIZE: usize = 16;
    /// Ethernet, IPv4 without options, UDP.
    const HEADERS_SIZE: usize = 42;
    const PEER: u8 = 1;
    let mut input = Vec::new();
    if pcap.first_chunk() != Some(&[0xd4, 0xc3, 0xb2, 0xa1]) {
        return input;
    }
    let mut rest = pcap.get(FILE_HEADER_SIZE..).unwrap_or_default();
    while let Some((header, after)) = rest.split_first_chunk::<PACKET_HEADER_SIZE>() {
        let [_, _, _, _, _, _, _, _, s0, s1, s2, s3, ..] = *header;
        let size = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
        let Some((packet, after)) = after.split_at_checked(size) else { break };
        rest = after;
        let is_udp = packet.get(12..15) == Some(&[8, 0, 0x45]) && packet.get(23) == Some(&17);
        let payload = packet.get(HEADERS_SIZE..).filter(|_| is_udp).unwrap_or_default();
        let Ok(payload_size) = u16::try_from(payload.len()) else { continue };
        if payload.is_empty() || input.len() + 3 + payload.len() > INPUT_SIZE_MAX {
            continue;
        }
        input.push(PEER);
        input.extend(payload_size.to_be_bytes());
        input.extend(payload);
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_s_payloads_are_an_input() {
        let mut pcap = vec![0xd4, 0xc3, 0xb2, 0xa1];
        pcap.resize(24, 0);
        for (protocol, payload) in [(17, &b"\0\x09ab"[..]), (6, b"tcp"), (17, b"\0\x05")] {
            let mut packet = vec![0; 12];
            packet.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol]);
            packet.resize(42, 0);
            packet.extend(payload);
            pcap.extend([0; 8]);
            let size = u32::try_from(packet.len()).unwrap().to_le_bytes();
            pcap.extend([size, size].concat());
            pcap.extend(packet);
        }
        assert_eq!(input_of(&pcap), b"\x01\0\x04\0\x09ab\x01\0\x02\0\x05");
        assert!(input_of(&pcap[1..]).is_empty());
        assert_eq!(input_of(&pcap[..pcap.len() - 1]), b"\x01\0\x04\0\x09ab");
    }
}
