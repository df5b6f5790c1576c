//! A collector under load, with the generator that knows exactly what it sent.

use serde_json::Value;
use std::fs::File;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// The flowd that was built beside the load generator.
fn flowd() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_loadgen")).with_file_name("flowd");
    assert!(program.exists(), "build flowd first: cargo build --workspace --bins");
    program
}

fn json_of(command: &mut Command) -> Value {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {words}", output.status);
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// The rows of a query as JSON objects.
fn rows_of(store: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(flowd())
        .args(["query", "-o", "json", "--quiet", "--store"])
        .arg(store)
        .args(arguments)
        .output()
        .expect("flowd starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{words}");
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

fn loadgen(port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["--collector", &format!("udp://127.0.0.1:{port}")]);
    command
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A collector, killed when a test ends early.
struct Collector(Child);

impl Collector {
    fn start(store: &Path, port: u16) -> Self {
        let log = File::options()
            .create(true)
            .append(true)
            .open(store.with_extension("log"))
            .expect("a log file");
        // The socket of a collector that was killed is still there.
        drop(std::fs::remove_file(store.join("control.sock")));
        let mut child = Command::new(flowd())
            .args(["collect", "--workers", "2", "--listen", &format!("udp://127.0.0.1:{port}")])
            .arg("--store")
            .arg(store)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("flowd starts");
        wait_until("the collector listens", || {
            assert!(child.try_wait().expect("a child").is_none(), "the collector ended");
            store.join("control.sock").exists()
        });
        Self(child)
    }

    fn terminate(mut self) {
        let status =
            Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().expect("kill");
        assert!(status.success());
        let ended = self.0.wait().expect("a child");
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn summary(store: &Path) -> Value {
    rows_of(store, &["--summary"]).pop().unwrap_or(Value::Null)
}

#[test]
fn two_million_flows_at_200_k_a_second_are_all_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let port = free_port();
    let collector = Collector::start(&store, port);
    let sent =
        json_of(loadgen(port).args(["--rate", "200k", "--duration", "10s", "--exporters", "4"]));
    assert_eq!(sent["flows"], 2_000_000);
    wait_until("all flows are stored", || summary(&store)["deltaFlowCount"] == sent["flows"]);
    assert_books(&store, &sent);
    collector.terminate();
    assert_books(&store, &sent);
    println!("sent {sent}");
}

fn assert_books(store: &Path, sent: &Value) {
    let stored = summary(store);
    assert_eq!(stored["deltaFlowCount"], sent["flows"]);
    assert_eq!(stored["packetDeltaCount"], sent["packets"]);
    assert_eq!(stored["octetDeltaCount"], sent["octets"]);
    let info =
        json_of(Command::new(flowd()).args(["store", "info", "-o", "json", "--store"]).arg(store));
    assert_eq!(info["flowRecords"], sent["flows"], "{info}");
    for exporter in info["exporters"].as_array().unwrap() {
        assert_eq!(exporter["sequenceGaps"], 0, "{info}");
    }
}

/// A run of export sequence numbers without a gap.
#[derive(Debug, PartialEq)]
struct Stretch {
    first: u64,
    last: u64,
}

/// The stretches of datagrams that are stored. Each datagram must be there whole and once.
fn stretches(store: &Path) -> Vec<Stretch> {
    let rows = rows_of(store, &["-a", "exportSequenceNumber", "-s", "exportSequenceNumber:asc"]);
    let mut stretches: Vec<Stretch> = Vec::new();
    for row in &rows {
        let sequence = row["exportSequenceNumber"].as_u64().unwrap();
        match stretches.last_mut() {
            Some(stretch) if stretch.last + 1 == sequence => stretch.last = sequence,
            _ => stretches.push(Stretch { first: sequence, last: sequence }),
        }
    }
    // One record a place in its datagram: nothing is there twice.
    let places =
        rows_of(store, &["-a", "exportSequenceNumber,exportRecordIndex", "-s", "flows", "-n", "1"]);
    assert_eq!(places[0]["deltaFlowCount"], 1, "a record is stored twice");
    stretches
}

#[test]
fn after_kill_nine_a_restart_finds_every_record_that_was_received() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let port = free_port();
    let collector = Collector::start(&store, port);
    let load = loadgen(port)
        .args(["--rate", "200k", "--duration", "10s", "--template-interval", "20"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("loadgen starts");
    std::thread::sleep(Duration::from_secs(4));
    let before = summary(&store)["deltaFlowCount"].as_u64().unwrap();
    assert!(before > 100_000, "the load has begun: {before}");
    drop(collector);
    let after = summary(&store)["deltaFlowCount"].as_u64().unwrap();
    assert!(after >= before, "{after} of {before} records are left");

    let collector = Collector::start(&store, port);
    let output = load.wait_with_output().unwrap();
    let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
    let last = sent["datagrams"].as_u64().unwrap() - 1;
    wait_until("the last datagram is stored", || {
        let newest = rows_of(
            &store,
            &["-a", "exportSequenceNumber", "-s", "exportSequenceNumber", "-n", "1"],
        );
        newest.first().is_some_and(|row| row["exportSequenceNumber"] == last)
    });
    collector.terminate();

    let stretches = stretches(&store);
    println!("sent {sent}, stored {stretches:?}, {before} before the kill, {after} after it");
    assert_eq!(stretches.len(), 2, "one gap, where nobody listened: {stretches:?}");
    assert_eq!((stretches[0].first, stretches[1].last), (0, last));
    // What lies before the gap are whole datagrams, but for the one that was being stored.
    let stored = summary(&store)["deltaFlowCount"].as_u64().unwrap();
    assert!(stored >= after && stored <= sent["flows"].as_u64().unwrap());
}
