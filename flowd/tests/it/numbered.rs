//! Records that are told apart by a number, so that each can be missed: sent as NetFlow v9, found
//! again in a store.

use crate::support::{Background, flowd, info, run, wait_until};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;
use std::path::Path;

/// Records of a message.
const MESSAGE_RECORDS: u64 = 100;
/// Messages that are sent before the collector is asked whether it has them: they fit into the
/// least receive buffer.
const BURST_MESSAGES: u32 = 50;

/// A v9 message with a template (octetDeltaCount, sourceIPv4Address, protocolIdentifier) and
/// records of it. The number is in the first two.
pub(crate) fn message(sequence: u32, numbers: Range<u64>) -> Vec<u8> {
    let count = u16::try_from(numbers.end - numbers.start).unwrap();
    let size = 4 + 13 * count;
    let mut message = Vec::new();
    for half in [9, count + 1] {
        message.extend(half.to_be_bytes());
    }
    for word in [50_000u32.wrapping_add(sequence), 1_700_000_000, sequence, 7] {
        message.extend(word.to_be_bytes());
    }
    for half in [0u16, 20, 256, 3, 1, 8, 8, 4, 4, 1, 256, size] {
        message.extend(half.to_be_bytes());
    }
    for number in numbers {
        message.extend(number.to_be_bytes());
        message.extend(address(number).octets());
        message.push(6);
    }
    message
}

/// The source address of a record.
pub(crate) fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 | u32::try_from(number).unwrap())
}

/// The numbers of the records in a store, none of them twice.
pub(crate) fn numbers(store: &Path) -> BTreeSet<u64> {
    found(store, &[])
}

/// The numbers of the records that a filter finds, none of them twice.
pub(crate) fn found(store: &Path, filter: &[&str]) -> BTreeSet<u64> {
    let query = ["query", "--store", store.to_str().unwrap(), "-o", "json", "--quiet"];
    let ended = run(&[&query[..], filter].concat());
    assert!(matches!(ended.code(), Some(0 | 1)), "{}", ended.stderr);
    let all: Vec<u64> =
        ended.json().iter().map(|record| record["octetDeltaCount"].as_u64().unwrap()).collect();
    let set: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!(set.len(), all.len(), "a record is there twice");
    set
}

/// What answers say of what they miss, as JSON.
pub(crate) fn coverage(store: &Path) -> String {
    let query = ["query", "--store", store.to_str().unwrap(), "--last", "1d", "-o", "json"];
    run(&[&query[..], &["--summary"]].concat()).stderr
}

/// Files that `store verify` names.
pub(crate) fn damaged(store: &Path) -> BTreeSet<String> {
    let ended = run(&["store", "verify", "--store", store.to_str().unwrap(), "-o", "json"]);
    let found = ended.json();
    let files: BTreeSet<String> =
        found.iter().map(|finding| finding["file"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ended.code(), Some(if files.is_empty() { 0 } else { 2 }), "{ended:?}");
    files
}

/// A collector of one worker, started on a store; its port.
pub(crate) fn start(store: &Path, options: &[&str]) -> (Background, u16) {
    start_with(store, options, &[])
}

/// The same with more in its environment.
pub(crate) fn start_with(
    store: &Path,
    options: &[&str],
    environment: &[(&str, &str)],
) -> (Background, u16) {
    // What a killed one left behind is no sign of life.
    drop(std::fs::remove_file(store.join("control.sock")));
    let mut collector = Background::start(
        flowd()
            .args(["collect", "--listen", "udp://127.0.0.1:0", "--workers", "1", "--store"])
            .arg(store)
            .args(options)
            .envs(environment.iter().copied()),
    );
    let line = collector.says("listening on");
    let url = line.split([' ', ',']).find(|word| word.starts_with("udp://")).unwrap();
    let port = url.rsplit_once(':').unwrap().1.parse().unwrap();
    (collector, port)
}

/// One exporter, over several collectors of a store.
pub(crate) struct Numbered {
    socket: UdpSocket,
    messages: u32,
    /// The number of the next record.
    pub(crate) next: u64,
}

impl Numbered {
    pub(crate) fn new() -> Self {
        Self { socket: UdpSocket::bind("127.0.0.1:0").unwrap(), messages: 0, next: 0 }
    }

    /// Sends at least so many records, and waits until all have been received.
    pub(crate) fn send(&mut self, store: &Path, port: u16, count: u64) {
        let end = self.next + count;
        // After a kill it does not know of all that came before.
        let decoded = || info(store)["recordsDecoded"].as_u64().unwrap();
        let unknown = self.next - decoded();
        while self.next < end {
            for _ in 0..BURST_MESSAGES {
                if self.next < end {
                    let message = message(self.messages, self.next..self.next + MESSAGE_RECORDS);
                    self.socket.send_to(&message, ("127.0.0.1", port)).unwrap();
                    self.messages += 1;
                    self.next += MESSAGE_RECORDS;
                }
            }
            wait_until("the messages are received", || decoded() + unknown == self.next);
        }
    }
}

/// Records that a collector took and that are not held, by reason.
pub(crate) fn drops(store: &Path) -> Vec<(String, u64)> {
    let info = info(store);
    let drops = info["drops"].as_object().expect("drops by reason");
    let counts = drops.iter().map(|(reason, count)| (reason.clone(), count.as_u64().unwrap()));
    counts.filter(|(_, count)| *count > 0).collect()
}
