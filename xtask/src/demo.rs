//! `cargo xtask demo`: flowd's main job on one machine, with the books at the end.
//!
//! A capture of real-looking traffic is replayed as NetFlow v9 to a running collector; `query`,
//! `top` and `store info` then answer from its store. The books compare packets and octets that
//! stand in the capture (counted here, by other code than flowd's), exported, and stored.

use crate::{packages, steps};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CAPTURE: &str = "test-pcaps/demo-traffic.pcap";
/// A collector listens within 1 s of its start and ends within 25 s of SIGTERM; a machine under
/// load gets some more.
const START_TIME_MAX: Duration = Duration::from_secs(20);
const END_TIME_MAX: Duration = Duration::from_secs(30);

/// Packets and octets of layer 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Volume {
    packets: u64,
    octets: u64,
}

/// The collector; killed if the demo ends before it was stopped.
struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        // It has ended already after a demo that went well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Builds flowd and plays the demo.
pub(crate) fn run() -> Result<()> {
    packages::ensure(&[packages::GCC, packages::LIBPCAP])?;
    println!("building flowd");
    steps::run(steps::cargo().args(["build", "--quiet", "--package", "flowd"]))?;
    play()
}

/// Plays the demo with the flowd that was built last.
pub(crate) fn play() -> Result<()> {
    let flowd = steps::target_dir().join("debug/flowd");
    let store = steps::target_dir().join("demo/store");
    if store.exists() {
        fs::remove_dir_all(&store).context("remove the last demo's store")?;
    }
    fs::create_dir_all(store.parent().context("the store has a parent")?)?;

    let capture = steps::workspace_root().join(CAPTURE);
    let captured = count_capture(&capture)?;
    let address = format!("udp://127.0.0.1:{}", free_port()?);
    let mut collector = start_collector(&flowd, &store, &address)?;

    let exported = replay(&flowd, &capture, &address)?;
    let stored = wait_until_stored(&flowd, &store, exported)?;
    show(&flowd, &["query", "--store", path(&store), "proto udp and port 53", "-n", "5"])?;
    show(&flowd, &["top", "--store", path(&store), "srcip/bytes", "-n", "5"])?;
    show(&flowd, &["query", "--store", path(&store), "--summary"])?;
    stop(&mut collector)?;
    println!("\nthe collector has ended; its archive answers on");
    show(&flowd, &["store", "info", "--store", path(&store)])?;
    let archived = summary(&flowd, &store)?;

    println!("\nbooks          packets       octets");
    for (name, volume) in [
        ("in the pcap", captured),
        ("exported", exported),
        ("stored", stored),
        ("archived", archived),
    ] {
        println!("{name:<11} {:>10} {:>12}", volume.packets, volume.octets);
    }
    ensure!(captured == exported && exported == stored && stored == archived, "the books differ");
    println!("equal");
    Ok(())
}

fn path(path: &Path) -> &str {
    path.to_str().expect("the target directory has a UTF-8 name")
}

/// A UDP port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn start_collector(flowd: &Path, store: &Path, address: &str) -> Result<Collector> {
    println!("\n$ flowd collect --listen {address} --store {}", store.display());
    let child = Command::new(flowd)
        .args(["collect", "--listen", address, "--store", path(store)])
        .stdin(Stdio::null())
        .spawn()
        .context("start flowd collect")?;
    let mut collector = Collector(child);
    let start = Instant::now();
    while !store.join("control.sock").exists() {
        if let Some(status) = collector.0.try_wait()? {
            bail!("flowd collect ended early: {status}");
        }
        ensure!(start.elapsed() < START_TIME_MAX, "flowd collect does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(collector)
}

fn stop(collector: &mut Collector) -> Result<()> {
    steps::run(Command::new("kill").args(["-TERM", &collector.0.id().to_string()]))?;
    let start = Instant::now();
    loop {
        if let Some(status) = collector.0.try_wait()? {
            ensure!(status.success(), "flowd collect ended with {status}");
            return Ok(());
        }
        ensure!(start.elapsed() < END_TIME_MAX, "flowd collect does not end on SIGTERM");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Replays the capture; what was exported is what flowd says on stderr.
fn replay(flowd: &Path, capture: &Path, address: &str) -> Result<Volume> {
    println!("\n$ flowd replay {CAPTURE} --collector {address}");
    let output = Command::new(flowd)
        .arg("replay")
        .arg(capture)
        .args(["--collector", address])
        .output()
        .context("run flowd replay")?;
    let words = String::from_utf8_lossy(&output.stderr);
    print!("{words}");
    ensure!(output.status.success(), "flowd replay failed");
    let line = words
        .lines()
        .find(|line| line.contains("exported"))
        .context("flowd replay does not say what it exported")?;
    Ok(Volume { packets: number_before(line, "packets")?, octets: number_before(line, "octets")? })
}

fn number_before(line: &str, unit: &str) -> Result<u64> {
    let words: Vec<&str> =
        line.split([' ', ',', '(', ')']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| *word == unit);
    let number = at.and_then(|at| words.get(at.checked_sub(1)?)).copied();
    number.context("a number before its unit")?.parse().context("a number")
}

fn wait_until_stored(flowd: &Path, store: &Path, exported: Volume) -> Result<Volume> {
    let start = Instant::now();
    loop {
        let stored = summary(flowd, store)?;
        if stored == exported || start.elapsed() > Duration::from_secs(5) {
            return Ok(stored);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn summary(flowd: &Path, store: &Path) -> Result<Volume> {
    let output = Command::new(flowd)
        .args(["query", "--store", path(store), "--summary", "-o", "json", "--quiet"])
        .output()
        .context("run flowd query")?;
    if output.stdout.is_empty() {
        return Ok(Volume::default());
    }
    let row: Value = serde_json::from_slice(&output.stdout).context("flowd query's JSON")?;
    let count = |name: &str| row[name].as_u64().unwrap_or_default();
    Ok(Volume { packets: count("packetDeltaCount"), octets: count("octetDeltaCount") })
}

fn show(flowd: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(flowd);
    command.args(arguments);
    println!("\n$ {}", steps::show(&command));
    steps::run(&mut command)
}

/// Counts IP packets and their octets in a little-endian microsecond pcap of Ethernet frames.
fn count_capture(capture: &Path) -> Result<Volume> {
    const FILE_HEADER_SIZE: usize = 24;
    const PACKET_HEADER_SIZE: usize = 16;
    let file = fs::read(capture).with_context(|| format!("read {}", capture.display()))?;
    ensure!(file.starts_with(&[0xd4, 0xc3, 0xb2, 0xa1]), "a little-endian microsecond pcap");
    let mut volume = Volume::default();
    let mut rest = file.get(FILE_HEADER_SIZE..).context("a whole file header")?;
    while let Some((header, after)) = rest.split_first_chunk::<PACKET_HEADER_SIZE>() {
        let size =
            usize::try_from(u32::from_le_bytes([header[8], header[9], header[10], header[11]]))?;
        let (frame, next) = after.split_at_checked(size).context("a whole packet")?;
        rest = next;
        if let Some(octets) = layer3_octets(frame) {
            volume.packets += 1;
            volume.octets += octets;
        }
    }
    Ok(volume)
}

/// IPv4 total length, or IPv6 payload length and its 40 octets of header; none for other frames.
fn layer3_octets(frame: &[u8]) -> Option<u64> {
    let mut at = 12;
    while matches!(frame.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
        at += 4;
    }
    let field = |offset: usize| {
        let pair = frame.get(at + 2 + offset..at + 4 + offset)?;
        Some(u64::from(pair[0]) << 8 | u64::from(pair[1]))
    };
    match frame.get(at..at + 2)? {
        [0x08, 0x00] => field(2),
        [0x86, 0xdd] => field(4).map(|payload| payload + 40),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_before_their_units() {
        let line = "exported 7 records (12 packets, 3456 octets) in 1 message";
        assert_eq!(number_before(line, "packets").unwrap(), 12);
        assert_eq!(number_before(line, "octets").unwrap(), 3456);
        assert!(number_before(line, "bits").is_err());
    }
}
