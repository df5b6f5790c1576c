//! Running flowd and foreign programs: started on free ports, ended by their own ids.

use serde_json::Value;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take on a loaded machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A capture of test-pcaps.
pub(crate) fn test_pcap(name: &str) -> String {
    root().join("test-pcaps").join(name).to_str().unwrap().to_owned()
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The exit code; none after a signal.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The objects of JSON lines on stdout.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// Asserts success and passes on.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code(), Some(0), "{self:?}");
        self
    }
}

/// The flowd under test.
pub(crate) fn flowd() -> Command {
    Command::new(env!("CARGO_BIN_EXE_flowd"))
}

/// Runs flowd with these arguments to its end.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    end_of(flowd().args(arguments))
}

/// Runs a command to its end.
pub(crate) fn end_of(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    Ended {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A UDP port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    // Asking TCP too makes two tests at once less likely to be given the same number.
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    match UdpSocket::bind(("127.0.0.1", port)) {
        Ok(_) => port,
        Err(_) => UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(),
    }
}

/// A program in the background, killed when the test ends early.
pub(crate) struct Background {
    child: Child,
}

impl Background {
    /// Starts it; what it says on stderr is kept.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        Self { child }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it ended?
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) -> Ended {
        self.signal("TERM");
        wait_until("the program ends", || self.has_ended());
        self.left()
    }

    /// Waits until the program says a line on stderr with this word; the line.
    pub(crate) fn says(&mut self, word: &str) -> String {
        let stderr = self.child.stderr.as_mut().expect("stderr is kept");
        let mut line = String::new();
        loop {
            let mut octet = [0];
            assert_eq!(stderr.read(&mut octet).unwrap(), 1, "the program ended without `{word}`");
            match octet[0] {
                b'\n' if line.contains(word) => return line,
                b'\n' => line.clear(),
                octet => line.push(char::from(octet)),
            }
        }
    }

    /// What it left, after its end.
    pub(crate) fn left(&mut self) -> Ended {
        let status = self.child.wait().unwrap();
        let mut text = [String::new(), String::new()];
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut text[0]).unwrap();
        }
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text[1]).unwrap();
        }
        let [stdout, stderr] = text;
        Ended { status, stdout, stderr }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A collector on a free port with a store.
pub(crate) struct Collector {
    process: Background,
    pub(crate) store: PathBuf,
    pub(crate) port: u16,
}

impl Collector {
    /// Starts it on `store` and waits until it listens.
    pub(crate) fn start(store: &Path) -> Self {
        let port = free_port();
        let listen = format!("udp://127.0.0.1:{port}");
        let mut process = Background::start(flowd().args([
            "collect",
            "--listen",
            &listen,
            "--store",
            store.to_str().unwrap(),
            "--workers",
            "2",
        ]));
        wait_until("the collector listens", || {
            if process.has_ended() {
                panic!("the collector ended: {:?}", process.left());
            }
            store.join("control.sock").exists()
        });
        Self { process, store: store.to_owned(), port }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("udp://127.0.0.1:{}", self.port)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it by SIGTERM, which must succeed within the 25 s that it promises.
    pub(crate) fn stop(self) -> Ended {
        let start = Instant::now();
        let ended = self.process.terminate().ok();
        assert!(start.elapsed() < Duration::from_secs(25), "slow end: {:?}", start.elapsed());
        ended
    }

    /// Waits until its store holds this many flow records.
    pub(crate) fn wait_for_flows(&self, count: u64) {
        wait_until("the records are stored", || summary(&self.store)["deltaFlowCount"] == count);
    }
}

/// Polls until the condition holds; fails the test after [`PATIENCE`].
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// `flowd query --summary` of a store; an object of zeros if it has no rows.
pub(crate) fn summary(store: &Path) -> Value {
    let ended =
        run(&["query", "--store", store.to_str().unwrap(), "--summary", "-o", "json", "--quiet"]);
    assert!(matches!(ended.code(), Some(0 | 1)), "{ended:?}");
    ended.json().pop().unwrap_or_else(
        || serde_json::json!({"deltaFlowCount": 0, "packetDeltaCount": 0, "octetDeltaCount": 0}),
    )
}

/// `flowd store info -o json` of a store.
pub(crate) fn info(store: &Path) -> Value {
    let ended = run(&["store", "info", "--store", store.to_str().unwrap(), "-o", "json"]).ok();
    serde_json::from_str(&ended.stdout).expect("one JSON object")
}

/// Is a foreign program there? Says that a test is skipped if not.
pub(crate) fn has_program(path: &str) -> bool {
    let there = Path::new(path).exists();
    if !there {
        println!("skipped: {path} is not installed; `cargo xtask test packages` installs it");
    }
    there
}
