//! The demo with packets of live traffic.
//!
//! ```text
//! namespace "exporter"                             namespace "peer"
//! flowd export --loopback--> flowd collect
//!     | meters
//! flowdPROCESS <--------- TCP, UDP, ICMP --------> peerPROCESS
//! ```
//! The interface is metered while its peer is down, before it carries anything, and at the end both
//! lose their addresses: so its own counters are of the very packets that were metered.

use super::books::{self, Volume};
use super::flowd::{self, Flowd, Running};
use super::traffic::{self, Host};
use crate::netns::{self, Interface, InterfaceCounters, Namespace, PacketSocket};
use crate::{interrupt, packages, steps};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const ETHERNET_HEADER_OCTETS: u64 = 14;
/// The exporter's status is at most a second old.
const STATUS_TIME_MAX: Duration = Duration::from_secs(10);
/// What is on its way between two interfaces of one machine arrives within this.
const SETTLING_TIME: Duration = Duration::from_millis(200);

/// What stands in the way of live traffic, in words.
pub(super) fn obstacle() -> Result<Option<String>> {
    if !packages::is_root()? {
        return Ok(Some("it takes root".to_owned()));
    }
    if !Path::new("/proc/sys/net/ipv6").exists() {
        return Ok(Some("IPv6 is turned off".to_owned()));
    }
    if let Err(error) = netns::new_namespace_is_permitted() {
        return Ok(Some(format!("network namespaces are refused ({error})")));
    }
    if let Err(error) = netns::bpf_is_permitted() {
        return Ok(Some(format!("eBPF programs are refused ({error})")));
    }
    Ok(None)
}

pub(super) fn play(flowd: &Flowd) -> Result<()> {
    netns::remove_leftovers()?;
    let (inside, outside) = (Namespace::new("exporter")?, Namespace::new("peer")?);
    let names = ["flowd", "peer"].map(|role| format!("{role}{}", std::process::id()));
    let [metered, peer] = netns::join([&inside, &outside], [&names[0], &names[1]])?;
    println!(
        "\ntwo hosts: {} in namespace {} and {} in {}",
        metered.name(),
        inside.name(),
        peer.name(),
        outside.name()
    );
    let near = Host {
        namespace: &inside,
        ipv4: Ipv4Addr::new(192, 0, 2, 1),
        ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    };
    let far = Host {
        namespace: &outside,
        ipv4: Ipv4Addr::new(192, 0, 2, 2),
        ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
    };
    let address = format!("udp://127.0.0.1:{}", inside.enter(flowd::free_port)??);
    let mut collector = flowd.collect(&address, |command| {
        inside.enter(|| command.spawn())?.context("start flowd collect")
    })?;
    metered.bring_up()?;
    let mut exporter = Exporter::start(flowd, &metered, &address)?;
    let tap = Tap::listen(&metered)?;
    peer.bring_up()?;
    for interface in [&metered, &peer] {
        interface.wait_for_carrier()?;
    }
    for (interface, host) in [(&metered, &near), (&peer, &far)] {
        interface.give_addresses(host.ipv4, host.ipv6)?;
    }
    traffic::make(&near, &far)?;
    for interface in [&metered, &peer] {
        interface.silence()?;
    }
    thread::sleep(SETTLING_TIME);
    let counters = metered.counters()?;
    exporter.compare(flowd, counters)?;
    let exported = exporter.end()?;
    ensure!(metered.counters()? == counters, "{} is not silent at the end", metered.name());
    let on_the_wire = tap.end()?.on_the_wire(counters)?;
    let stored = flowd.wait_until_stored(exported)?;
    let archived = flowd.show_and_end(&mut collector)?;
    books::settle(&[
        ("on the wire", on_the_wire),
        ("exported", exported),
        ("stored", stored),
        ("archived", archived),
    ])
}

/// `flowd export` on one interface.
struct Exporter {
    running: Running,
    /// Prints what it says as it comes, and gives all of it at the end.
    words: Option<JoinHandle<String>>,
}

impl Exporter {
    /// Starts it and waits until it says that the interface is attached.
    fn start(flowd: &Flowd, interface: &Interface<'_>, address: &str) -> Result<Self> {
        let mut command = flowd.command(&["export", "-i", interface.name()]);
        command.args(["--collector", address, "--inactive-timeout", "2s"]).stderr(Stdio::piped());
        println!("\n$ {}", steps::show(&command));
        let child = interface.namespace().enter(|| command.spawn())?;
        let mut running = Running::new(child.context("start flowd export")?, "flowd export");
        let stderr = running.child().stderr.take().context("its words are piped")?;
        let words = thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).fold(String::new(), |all, line| {
                println!("{line}");
                all + &line + "\n"
            })
        });
        running.wait_until(|running| {
            let status = status(flowd, running.id())?;
            Ok(status.is_some_and(|status| status["interfaces"][0]["isAttached"] == true))
        })?;
        Ok(Self { running, words: Some(words) })
    }

    /// Compares what it saw with what the interface counted, frame by frame.
    fn compare(&self, flowd: &Flowd, counters: InterfaceCounters) -> Result<()> {
        let start = Instant::now();
        loop {
            let status = status(flowd, self.running.id())?.context("flowd export has no status")?;
            let seen: u64 = ["ingress", "egress"]
                .iter()
                .filter_map(|way| status["interfaces"][0][way]["seen"]["packets"].as_u64())
                .sum();
            if seen == counters.frames {
                return Ok(());
            }
            ensure!(
                start.elapsed() < STATUS_TIME_MAX,
                "the interface counts {} frames, flowd export --status {seen}",
                counters.frames
            );
            interrupt::check()?;
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends it; what was exported is what it says on stderr.
    fn end(&mut self) -> Result<Volume> {
        println!("\nflowd export is told to end");
        let status = self.running.stop()?;
        let words = self.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        ensure!(status.success(), "flowd export ended with {status}");
        flowd::exported(&words)
    }
}

/// The status of the exporter of this process; none if it does not answer yet.
fn status(flowd: &Flowd, process: u32) -> Result<Option<Value>> {
    let output = flowd
        .command(&["export", "--status", "-o", "json"])
        .output()
        .context("run flowd export --status")?;
    // Before the exporter answers, what is written of none may not be JSON.
    let Ok(status) = serde_json::from_slice::<Value>(&output.stdout) else { return Ok(None) };
    let mut exporters = status["exporters"].as_array().into_iter().flatten();
    Ok(exporters.find(|exporter| exporter["processId"] == process).cloned())
}

/// Counts the frames of an interface beside flowd.
struct Tap {
    ended: std::sync::Arc<AtomicBool>,
    thread: JoinHandle<Result<Tapped>>,
}

/// Frames by what is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tapped {
    packets: Volume,
    others: Volume,
}

impl Tap {
    fn listen(interface: &Interface<'_>) -> Result<Self> {
        let socket = interface.tap()?;
        let ended = std::sync::Arc::<AtomicBool>::default();
        let is_over = std::sync::Arc::clone(&ended);
        let thread = thread::spawn(move || count(&socket, &is_over));
        Ok(Self { ended, thread })
    }

    fn end(self) -> Result<Tapped> {
        // It stands for itself only: the thread is joined for all else.
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Counts until it is over and nothing is left in the socket.
fn count(socket: &PacketSocket, is_over: &AtomicBool) -> Result<Tapped> {
    let mut tapped = Tapped::default();
    let mut frame = [0; 128];
    loop {
        let Some(size) = socket.receive(&mut frame)? else {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            continue;
        };
        let begin = frame.get(..size).unwrap_or(&frame);
        match books::packet_in(begin) {
            Some(packet) => tapped.packets += packet,
            None => tapped.others += Volume { packets: 1, octets: u64::try_from(size)? },
        }
    }
    let dropped = socket.dropped()?;
    ensure!(dropped == 0, "{dropped} frames found no room in the socket that counts them");
    Ok(tapped)
}

impl Tapped {
    /// The interface's counters less headers of layer 2 and frames that hold no IP; an error if
    /// that is not what the packets' own headers say.
    fn on_the_wire(self, counters: InterfaceCounters) -> Result<Volume> {
        let Self { packets, others } = self;
        let InterfaceCounters { frames, octets, dropped } = counters;
        println!(
            "\nthe interface counted {frames} frames of {octets} octets; {} of them, {} octets, \
             are no IP",
            others.packets, others.octets
        );
        ensure!(dropped == 0, "the interface dropped {dropped} packets");
        let headers = frames.saturating_sub(others.packets) * ETHERNET_HEADER_OCTETS;
        let counted = Volume {
            packets: frames.saturating_sub(others.packets),
            octets: octets.saturating_sub(others.octets + headers),
        };
        ensure!(
            counted == packets,
            "the interface's counters give {counted:?}, the packets' headers {packets:?}"
        );
        Ok(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_less_headers_and_other_frames_are_the_packets() {
        let tapped = Tapped {
            packets: Volume { packets: 2, octets: 300 },
            others: Volume { packets: 1, octets: 42 },
        };
        let counters = InterfaceCounters { frames: 3, octets: 300 + 28 + 42, dropped: 0 };
        assert_eq!(tapped.on_the_wire(counters).unwrap(), tapped.packets);
        assert!(tapped.on_the_wire(InterfaceCounters { dropped: 1, ..counters }).is_err());
        assert!(tapped.on_the_wire(InterfaceCounters { frames: 4, ..counters }).is_err());
    }
}
