//! A collector under bytes that mean nothing.

use crate::support::{Collector, free_port, info, json_of, loadgen, summary, wait_until};
use bench::random::Draws;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

const DATAGRAMS: u64 = 1_000_000;

/// Kilobytes of anonymous memory that a process holds: what it allocated, without mapped files.
fn anonymous_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Random octets; most begin as NetFlow v9 does, so that the decoder has something to chew on.
fn datagram(draws: &mut Draws, out: &mut Vec<u8>) {
    out.clear();
    let size = (draws.next() % 200) as usize;
    while out.len() < size {
        out.extend_from_slice(&draws.next().to_le_bytes());
    }
    out.truncate(size);
    if size < 32 || draws.next().is_multiple_of(4) {
        return;
    }
    out[0] = 0;
    out[1] = 9;
    // A Source ID of few values, so that templates meet data, and none that the load generator
    // has: data that waits is decoded by its domain's newest template. A first Set of a plausible
    // kind.
    out[16..18].fill(0);
    out[18] = 1;
    out[19] &= 7;
    out[20] = (draws.next() % 2) as u8;
    out[22] = 0;
    if out[20] == 0 {
        out[21] &= 1;
        (out[24], out[26]) = (1, 0);
        out[25] &= 3;
        out[27] &= 15;
    } else {
        out[21] &= 3;
    }
}

#[test]
fn a_million_random_datagrams_leave_it_standing_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let port = free_port();
    let collector = Collector::start(&store, port);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    let mut draws = Draws(20_261_123);
    let mut octets = Vec::new();
    let mut memory = Vec::new();
    for number in 0..DATAGRAMS {
        datagram(&mut draws, &mut octets);
        socket.send(&octets).unwrap();
        // The receive queue holds some thousands of small datagrams: let the collector keep up.
        if number % 4_000 == 3_999 {
            settle(&store, number + 1);
        }
        if number % 100_000 == 99_999 {
            memory.push(anonymous_memory(collector.id()));
        }
    }
    let (received, _) = counts_of(&store);
    let info = info(&store);
    let drops = info["drops"].as_object().unwrap();
    println!("received {received}, drops {drops:?}, anonymous memory in kB {memory:?}");
    assert!(received > DATAGRAMS * 9 / 10, "most were received");
    assert!(drops.values().any(|count| count.as_u64() > Some(DATAGRAMS / 10)), "counters moved");
    let (early, late) = (memory[1], memory[memory.len() - 1]);
    assert!(late < early + 64 * 1024, "memory grew from {early} to {late} kB");

    // It still does its work.
    let before = summary(&store)["deltaFlowCount"].as_u64().unwrap_or_default();
    let sent = json_of(loadgen(port).args(["--flows", "1000"]));
    assert_eq!(sent["flows"], 1_000);
    wait_until("the flows are stored", || summary(&store)["deltaFlowCount"] == before + 1_000);
    collector.terminate();
}

/// Waits until the collector has counted what was sent. The kernel tells of its last drops only
/// with the next datagram, so an unchanged count for a second ends the wait as well.
fn settle(store: &Path, sent: u64) {
    let mut last = (0, Instant::now());
    wait_until("the datagrams are counted", || {
        let (received, dropped) = counts_of(store);
        if last.0 != received + dropped {
            last = (received + dropped, Instant::now());
        }
        last.0 >= sent || last.1.elapsed() > Duration::from_secs(1)
    });
}

/// Datagrams that the collector received, and those that the kernel dropped before it.
fn counts_of(store: &Path) -> (u64, u64) {
    let info = info(store);
    let count = |name: &str| info[name].as_u64().unwrap_or_default();
    (count("datagrams"), count("kernelDrops"))
}
