//! A collector for tests under load, and what its store answers.

use serde_json::Value;
use std::fs::File;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// The flowd that was built beside the load generator.
pub(crate) fn flowd() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_loadgen")).with_file_name("flowd");
    assert!(program.exists(), "build flowd first: cargo build --workspace --bins");
    program
}

pub(crate) fn json_of(command: &mut Command) -> Value {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {words}", output.status);
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// The rows of a query as JSON objects.
pub(crate) fn rows_of(store: &Path, arguments: &[&str]) -> Vec<Value> {
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

pub(crate) fn loadgen(port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["--collector", &format!("udp://127.0.0.1:{port}")]);
    command
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A collector, killed when a test ends early.
pub(crate) struct Collector(Child);

impl Collector {
    pub(crate) fn start(store: &Path, port: u16) -> Self {
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

    pub(crate) fn terminate(mut self) {
        let status =
            Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().expect("kill");
        assert!(status.success());
        let ended = self.0.wait().expect("a child");
        assert!(ended.success(), "{ended}");
    }
}

impl Collector {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn summary(store: &Path) -> Value {
    rows_of(store, &["--summary"]).pop().unwrap_or(Value::Null)
}

/// `flowd store info` of a store.
pub(crate) fn info(store: &Path) -> Value {
    json_of(Command::new(flowd()).args(["store", "info", "-o", "json", "--store"]).arg(store))
}
