//! The demo with packets of a capture.

use super::books::{self, Volume};
use super::flowd::{self, Flowd};
use crate::steps;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

const CAPTURE: &str = "test-pcaps/demo-traffic.pcap";

pub(super) fn play(flowd: &Flowd) -> Result<()> {
    let capture = steps::workspace_root().join(CAPTURE);
    let captured = count_capture(&capture)?;
    let address = format!("udp://127.0.0.1:{}", flowd::free_port()?);
    let mut collector =
        flowd.collect(&address, |command| command.spawn().context("start flowd collect"))?;
    let exported = replay(flowd, &capture, &address)?;
    let stored = flowd.wait_until_stored(exported)?;
    let archived = flowd.show_and_end(&mut collector)?;
    books::settle(&[
        ("in the pcap", captured),
        ("exported", exported),
        ("stored", stored),
        ("archived", archived),
    ])
}

/// Replays the capture; what was exported is what flowd says on stderr.
fn replay(flowd: &Flowd, capture: &Path, address: &str) -> Result<Volume> {
    println!("\n$ flowd replay {CAPTURE} --collector {address}");
    let output = flowd
        .command(&["replay", "--collector", address])
        .arg(capture)
        .output()
        .context("run flowd replay")?;
    let words = String::from_utf8_lossy(&output.stderr);
    print!("{words}");
    ensure!(output.status.success(), "flowd replay failed");
    flowd::exported(&words)
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
        if let Some(packet) = books::packet_in(frame) {
            volume += packet;
        }
    }
    Ok(volume)
}
