//! `flowd export` on live interfaces: in network namespaces of the tests' own, as root; elsewhere
//! skipped with a word why.

use crate::namespace::Namespace;
use crate::support::{Background, Ended, end_of, flowd, run, wait_until};
use serde_json::Value;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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

    pub(crate) fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.namespace.flowd();
        command.arg("export").args(arguments).env("RUNTIME_DIRECTORY", self.folder.path());
        command
    }

    /// Starts an exporter and waits until it meters.
    pub(crate) fn export(&self, arguments: &[&str]) -> Background {
        let arguments = [arguments, &["--collector", COLLECTOR]].concat();
        let mut exporter = Background::start(&mut self.command(&arguments));
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
        let Some(sum) = ended.json().pop() else { return (0, 0) };
        (sum["packetDeltaCount"].as_u64().unwrap(), sum["octetDeltaCount"].as_u64().unwrap())
    }
}

/// Sends datagrams of rising sizes; returns packets and octets of layer 3.
fn send(socket: &UdpSocket, to: &str, count: u64) -> (u64, u64) {
    let mut octets = 0;
    for number in 0..count {
        let size = number % 1_000;
        socket.send_to(&vec![7; usize::try_from(size).unwrap()], to).unwrap();
        octets += size + 28;
    }
    (count, octets)
}

pub(crate) fn end(exporter: Background) -> Ended {
    let start = Instant::now();
    let ended = exporter.terminate().ok();
    assert!(start.elapsed() < Duration::from_secs(25), "slow end: {:?}", start.elapsed());
    ended
}

fn assert_one_line(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code(), Some(2), "{ended:?}");
    assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is missing: {ended:?}");
    }
}

/// Known packets both ways over a veth: what was sent is what is stored.
fn end_to_end(hook: &str) {
    let Some(near) = Namespace::new(&format!("{hook}-a")) else { return };
    let Some(far) = Namespace::new(&format!("{hook}-b")) else { return };
    near.join("near", &far, "far");
    let host = Host::new(&near);
    let collector = host.collect();
    let exporter = host.export(&["-i", "near", "--hook", hook]);
    let (here, there) = (near.udp("192.0.2.1:4000"), far.udp("192.0.2.2:5000"));
    let sent = send(&here, "192.0.2.2:5000", 3_000);
    let received = send(&there, "192.0.2.1:4000", 1_234);
    host.wait_for("near", "egress", sent.0);
    host.wait_for("near", "ingress", received.0);
    let status = host.status().unwrap();
    let hooks = status["interfaces"][0]["hooks"]["ingress"].as_str().unwrap().to_owned();
    assert!(hook != "pcap" || hooks == "pcap", "{status}");
    let table = end_of(&mut host.command(&["--status"])).ok().stdout;
    assert!(table.contains("near") && table.contains("balanced"), "{table}");

    let ended = end(exporter);
    assert!(ended.stderr.contains("exported") && !ended.stderr.contains("not sent"), "{ended:?}");
    assert!(host.status().is_none());
    let all = (sent.0 + received.0, sent.1 + received.1);
    wait_until("all is stored", || host.stored("proto udp and port 4000") == all);
    collector.terminate().ok();
    let index = status["interfaces"][0]["index"].as_u64().unwrap();
    assert_eq!(host.stored(&format!("proto udp and port 4000 and out if {index}")), sent);
    assert_eq!(host.stored(&format!("proto udp and port 4000 and in if {index}")), received);
    for direction in ["ingress", "egress"] {
        let ledger = &status["interfaces"][0][direction];
        assert_eq!(ledger["discrepancy"], serde_json::json!({"packets": 0, "octets": 0}));
    }
    assert_eq!(status["collectors"][0]["discrepancy"], 0);
}

#[test]
fn what_pcap_saw_on_a_veth_is_stored_to_the_octet() {
    end_to_end("pcap");
}

#[test]
fn a_second_exporter_on_an_interface_is_refused() {
    let Some(namespace) = Namespace::new("second") else { return };
    let host = Host::new(&namespace);
    let arguments = ["-i", "lo", "--hook", "pcap"];
    let first = host.export(&arguments);
    let again = [&arguments[..], &["--collector", COLLECTOR]].concat();
    let second = end_of(&mut host.command(&again));
    assert_one_line(&second, &["lo", &first.id().to_string(), "already"]);
    // Interfaces of another namespace are others, whatever their numbers.
    let Some(other) = Namespace::new("second-b") else { return };
    let elsewhere = Host::new(&other);
    let beside = elsewhere.export(&arguments);
    end(beside);
    end(first);
}

#[test]
fn an_interface_that_appears_later_is_metered_until_it_vanishes() {
    let Some(near) = Namespace::new("later-a") else { return };
    let Some(far) = Namespace::new("later-b") else { return };
    let host = Host::new(&near);
    let collector = host.collect();
    let exporter = host.export(&["--all", "--exclude", "skip*", "--hook", "pcap"]);
    assert_eq!(host.status().unwrap()["interfaces"], serde_json::json!([]));
    near.join("late", &far, "far");
    near.ip("link add skip0 type veth peer name skip1");
    near.ip("link set skip0 up");
    wait_until("the interface is metered", || {
        host.status().unwrap()["interfaces"]
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["name"] == "late")
    });
    let sent = send(&near.udp("192.0.2.1:4001"), "192.0.2.2:5001", 100);
    host.wait_for("late", "egress", sent.0);
    let names = host.status().unwrap()["interfaces"].to_string();
    assert!(!names.contains("skip"), "{names}");
    let rename = |from: &str, to: &str| {
        near.ip(&format!("link set {from} down"));
        near.ip(&format!("link set {from} name {to}"));
        near.ip(&format!("link set {to} up"));
    };
    rename("late", "moved");
    wait_until("the new name is known", || {
        let status = host.status().unwrap();
        let interface = &status["interfaces"][0];
        interface["name"] == "moved" && interface["isAttached"] == true
    });
    let more = send(&near.udp("192.0.2.1:4001"), "192.0.2.2:5001", 100);
    host.wait_for("moved", "egress", sent.0 + more.0);
    let sent = (sent.0 + more.0, sent.1 + more.1);
    // A name that is excluded ends it, another begins it again.
    rename("moved", "skip9");
    wait_until("the interface is left out", || {
        let status = host.status().unwrap();
        status["interfaces"].as_array().unwrap().iter().all(|it| it["isAttached"] == false)
    });
    rename("skip9", "back");
    wait_until("the interface is metered again", || {
        let status = host.status().unwrap();
        let interface = &status["interfaces"][0];
        interface["name"] == "back" && interface["isAttached"] == true
    });
    near.ip("link del back");
    wait_until("the interface is gone", || {
        let status = host.status().unwrap();
        status["interfaces"].as_array().unwrap().iter().all(|it| it["isAttached"] == false)
    });
    let ended = end(exporter);
    assert!(ended.stderr.contains("late is metered (pcap)"), "{ended:?}");
    assert!(ended.stderr.contains("moved is metered no more"), "{ended:?}");
    assert!(ended.stderr.contains("back is metered no more"), "{ended:?}");
    wait_until("all is stored", || host.stored("proto udp and port 4001") == sent);
    collector.terminate().ok();
}

#[test]
fn what_nobody_takes_is_counted_as_not_sent() {
    let Some(namespace) = Namespace::new("nobody") else { return };
    let host = Host::new(&namespace);
    let exporter = host.export(&["-i", "lo", "--hook", "pcap", "--inactive-timeout", "1s"]);
    let sent = send(&namespace.udp("127.0.0.1:4002"), "127.0.0.1:5002", 50);
    host.wait_for("lo", "ingress", sent.0);
    wait_until("the flow is not sent", || {
        let status = host.status().unwrap();
        status["collectors"][0]["notSent"]["refused"]["packets"].as_u64() >= Some(sent.0)
    });
    let status = host.status().unwrap();
    assert_eq!(status["collectors"][0]["discrepancy"], 0, "{status}");
    let ended = end(exporter);
    assert!(ended.stderr.contains("not sent:"), "{ended:?}");
}

#[test]
fn mistakes_cost_one_line() {
    let to = ["--collector", "udp://127.0.0.1:2055"];
    for (arguments, words) in [
        (&["export"][..], &["--interface"][..]),
        (&["export", "-i", "lo"], &["--collector"]),
        (&["export", "-i", "lo", "--all", to[0], to[1]], &["--all"]),
        (&["export", "-i", "lo", "--exclude", "x", to[0], to[1]], &["--all"]),
        (&["export", "-i", "lo", "--hook", "bpf", to[0], to[1]], &["pcap"]),
        (&["export", "-i", "lo", "--collector", "tcp://127.0.0.1:1"], &["udp://HOST:PORT"]),
        (&["export", "-i", "lp", "--hook", "pcap", to[0], to[1]], &["`lp`", "`lo`"]),
        (&["export", "-i", "lo,", "--hook", "pcap", to[0], to[1]], &["empty"]),
        (
            &["export", "-i", "lo", "--hook", "pcap", "--sampling", "10", to[0], to[1]],
            &["--sampling", "--hook tc"],
        ),
        (&["export", "-i", "lo", "--sampling", "0", to[0], to[1]], &["--sampling"]),
        (&["export", "-i", "lo", "--active-timeout", "0s", to[0], to[1]], &["--active-timeout"]),
        (&["export", "--status", "-i", "lo"], &["--status"]),
    ] {
        assert_one_line(&run(arguments), words);
    }
}

#[test]
fn status_without_an_exporter_is_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let status = |directory: &Path, output| {
        let mut command = flowd();
        command.args(["export", "--status", "-o", output]).env("RUNTIME_DIRECTORY", directory);
        end_of(&mut command)
    };
    for directory in [folder.path().to_owned(), folder.path().join("missing")] {
        let ended = status(&directory, "json");
        assert_eq!((ended.code(), ended.stdout.trim()), (Some(1), r#"{"exporters":[]}"#));
        assert_eq!(status(&directory, "table").code(), Some(1));
    }
    fs::write(folder.path().join("export.sock"), "no socket").unwrap();
    assert_eq!(status(folder.path(), "table").code(), Some(1));
}
