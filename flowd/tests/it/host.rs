//! An exporter and a collector beside it, in a network namespace of the test's own.

use crate::namespace::Namespace;
use crate::support::{Background, Ended, end_of, run, wait_until};
use serde_json::Value;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Where the collector of a [`Host`] listens, inside its namespace.
pub(crate) const COLLECTOR: &str = "udp://127.0.0.1:2055";

/// What one exporter and one collector beside it need.
pub(crate) struct Host<'a> {
    namespace: &'a Namespace,
    folder: tempfile::TempDir,
}

impl<'a> Host<'a> {
    pub(crate) fn new(namespace: &'a Namespace) -> Self {
        Self { namespace, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Starts a collector and waits until it listens.
    pub(crate) fn collect(&self) -> Background {
        let store = self.store();
        let mut command = self.namespace.flowd();
        command.args(["collect", "--listen", COLLECTOR, "--workers", "1", "--store"]).arg(&store);
        let collector = Background::start(&mut command);
        wait_until("the collector listens", || store.join("control.sock").exists());
        collector
    }

    /// Where exporters have their status sockets.
    pub(crate) fn runtime_directory(&self) -> &Path {
        self.folder.path()
    }

    /// `flowd export` with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.flowd();
        command.arg("export").args(arguments).env("RUNTIME_DIRECTORY", self.folder.path());
        command
    }

    /// Starts an exporter and waits until it meters.
    pub(crate) fn export(&self, arguments: &[&str]) -> Background {
        self.export_to(&[arguments, &["--collector", COLLECTOR]].concat())
    }

    /// As [`Host::export`], to the collectors that are among the arguments.
    pub(crate) fn export_to(&self, arguments: &[&str]) -> Background {
        let mut exporter = Background::start(&mut self.command(arguments));
        wait_until("the exporter runs", || {
            assert!(!exporter.has_ended(), "{:?}", exporter.left());
            self.status().is_some()
        });
        exporter
    }

    /// The first exporter's status, if there is one.
    pub(crate) fn status(&self) -> Option<Value> {
        let ended = end_of(&mut self.command(&["--status", "-o", "json"]));
        let object = ended.json().pop()?;
        object["exporters"].get(0).cloned()
    }

    /// Waits until an interface's direction has this many packets in records or in the cache.
    pub(crate) fn wait_for(&self, interface: &str, direction: &str, packets: u64) {
        wait_until("the packets are metered", || {
            let status = self.status().unwrap();
            let all = status["interfaces"].as_array().unwrap().clone();
            let ledger = all.iter().find(|it| it["name"] == interface).map(|it| &it[direction]);
            ledger.is_some_and(|ledger| {
                let of = |part: &str| ledger[part]["packets"].as_u64().unwrap();
                of("recorded") + of("inCache") >= packets
            })
        });
    }

    /// Packets and octets of the UDP flows of a port.
    pub(crate) fn stored(&self, filter: &str) -> (u64, u64) {
        let store = self.store();
        let arguments = ["query", "--store", store.to_str().unwrap(), filter];
        let ended = run(&[&arguments[..], &["--summary", "-o", "json", "--quiet"]].concat());
        assert!(matches!(ended.code(), Some(0 | 1)), "{ended:?}");
        let Some(sum) = ended.json().pop() else { return (0, 0) };
        (sum["packetDeltaCount"].as_u64().unwrap(), sum["octetDeltaCount"].as_u64().unwrap())
    }
}

/// Sends datagrams of rising sizes; returns packets and octets of layer 3.
pub(crate) fn send(socket: &UdpSocket, to: &str, count: u64) -> (u64, u64) {
    let mut octets = 0;
    for number in 0..count {
        let size = number % 1_000;
        socket.send_to(&vec![7; usize::try_from(size).unwrap()], to).unwrap();
        octets += size + 28;
    }
    (count, octets)
}

/// Ends an exporter by SIGTERM, which must succeed within the 25 s that it promises.
pub(crate) fn end(exporter: Background) -> Ended {
    let start = Instant::now();
    let ended = exporter.terminate().ok();
    assert!(start.elapsed() < Duration::from_secs(25), "slow end: {:?}", start.elapsed());
    ended
}

/// A run that failed says so in one line, with these words in it.
pub(crate) fn assert_one_line(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code(), Some(2), "{ended:?}");
    assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is missing: {ended:?}");
    }
}
