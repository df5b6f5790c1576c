//! The archive on an object store, with a real S3 server beside it that checks signatures: all is
//! found again, nothing is lost while it is away, and what is wrong is told in a line.

use crate::support::{
    Background, Collector, Ended, end_of, flowd, free_port, has_program, info, root, run,
    test_pcap, wait_until,
};
use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may use the server.
const KEY: &str = "flowd-test";
const SECRET: &str = "not-much-of-a-secret";
const BUCKET: &str = "flows";

/// An S3 server, which keeps its objects in a directory.
struct Server {
    process: Option<Background>,
    port: u16,
    directory: PathBuf,
}

impl Server {
    /// Starts one, if the program is there.
    fn start(directory: &Path) -> Option<Self> {
        if !has_program(program().to_str().unwrap()) {
            return None;
        }
        let directory = directory.to_owned();
        fs::create_dir_all(directory.join(BUCKET)).unwrap();
        let mut server = Self { process: None, port: free_port(), directory };
        server.begin();
        Some(server)
    }

    fn begin(&mut self) {
        let mut process = Background::start(
            Command::new(program())
                .args(["--host", "127.0.0.1", "--port", &self.port.to_string()])
                .args(["--access-key", KEY, "--secret-key", SECRET])
                .arg(&self.directory)
                .env("RUST_LOG", "off"),
        );
        wait_until("the S3 server listens", || {
            assert!(!process.has_ended(), "{:?}", process.left());
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        self.process = Some(process);
    }

    fn end(&mut self) {
        self.process = None;
    }

    /// A command that may use the server.
    fn for_user<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        self.with_secret(command, SECRET)
    }

    fn with_secret<'a>(&self, command: &'a mut Command, secret: &str) -> &'a mut Command {
        command
            .env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", secret)
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        end_of(self.for_user(flowd().args(arguments)))
    }

    /// What a store's flows add up to, and how many there are.
    fn query(&self, store: &Path) -> Ended {
        self.run(&["query", "--store", store.to_str().unwrap(), "-o", "json"])
    }

    /// A collector whose segments move at once.
    fn collector(&self, store: &Path, archive: Option<&str>) -> (Background, u16) {
        let mut command = flowd();
        command.args(["collect", "--listen", "udp://127.0.0.1:0", "--workers", "1"]);
        command.args(["--store", store.to_str().unwrap(), "--archive-after", "0s"]);
        if let Some(url) = archive {
            command.args(["--archive", url]);
        }
        let mut collector = Background::start(self.for_user(&mut command));
        let line = collector.says("listening on");
        let url = line.split([' ', ',']).find(|word| word.starts_with("udp://")).unwrap();
        (collector, url.rsplit_once(':').unwrap().1.parse().unwrap())
    }

    /// The keys under a prefix that are segments.
    fn objects(&self, prefix: &str) -> Vec<PathBuf> {
        parquet(&self.directory.join(BUCKET).join(prefix))
    }
}

/// Where `cargo xtask test packages` installs the server.
fn program() -> PathBuf {
    root().join("target/tools/bin/s3s-fs")
}

/// All Parquet files below a directory.
fn parquet(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(parquet(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    found
}

/// Exports the flows of a capture to a collector, and waits until it has them.
fn export(store: &Path, port: u16) {
    let before = info(store)["flowRecords"].as_u64().unwrap();
    let to = format!("udp://127.0.0.1:{port}");
    run(&["replay", &test_pcap("demo-traffic.pcap"), "--collector", &to]).ok();
    let mut last = 0;
    wait_until("the records are stored", || {
        let now = info(store)["flowRecords"].as_u64().unwrap();
        let is_still = now == last && now > before;
        last = now;
        is_still
    });
}

/// The lines of an answer, in an order of their own.
fn rows(ended: &Ended) -> Vec<&str> {
    let mut rows: Vec<&str> = ended.stdout.lines().collect();
    rows.sort_unstable();
    rows
}

#[test]
fn segments_move_to_s3_and_answers_stay_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut server) = Server::start(&folder.path().join("server")) else { return };
    let store = folder.path().join("store");
    let path = store.to_str().unwrap();
    let local = Collector::start(&store);
    export(&store, local.port);
    local.stop();
    let before = server.query(&store).ok();
    let held = info(&store);
    assert!(!parquet(&store).is_empty() && held["objects"].is_null());

    let (collector, _) = server.collector(&store, Some("s3://flows/border"));
    wait_until("the segments are on the server", || parquet(&store.join("archive")).is_empty());
    let metrics = collector.terminate().ok();
    assert!(!metrics.stderr.contains("WARN"), "{metrics:?}");
    let objects = server.objects("border");
    assert_eq!(objects.len() as u64, held["segments"].as_u64().unwrap());
    let after = server.query(&store).ok();
    assert_eq!(rows(&after), rows(&before));
    let told = info(&store);
    assert_eq!(told["objects"]["remoteSegments"], held["segments"]);
    assert_eq!(told["objects"]["remoteBytes"], held["archiveBytes"]);
    assert_eq!(told["objects"]["waitingSegments"], 0);
    assert_eq!(told["archiveRecords"], held["archiveRecords"]);
    let verified = server.run(&["store", "verify", "--store", path]).ok();
    assert!(verified.stderr.contains("from the object store"), "{verified:?}");

    // A server that is away is told once by its URL; each segment there by its file.
    server.end();
    let away = server.query(&store);
    assert_eq!((away.code(), away.stdout.as_str()), (Some(1), ""), "{away:?}");
    let [line, coverage] = away.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{away:?}") };
    assert!(line.contains("s3://flows/border/") && line.contains("AWS_ENDPOINT"), "{line}");
    assert!(line.contains("records on the object store are out of reach"), "{line}");
    assert!(coverage.contains("out of reach") && !coverage.contains("AWS"), "{coverage}");
    let away = server.run(&["store", "verify", "--store", path]);
    assert_eq!(away.code(), Some(2));
    assert_eq!(away.stdout.matches("its object is out of reach").count(), objects.len());
    assert_eq!(away.stdout.matches("AWS_ENDPOINT").count(), 1, "{away:?}");
    server.begin();

    // An octet that changed there is found, and so is an object that is gone.
    let mut octets = fs::read(&objects[0]).unwrap();
    octets[100] ^= 1;
    fs::write(&objects[0], &octets).unwrap();
    let damaged = server.run(&["store", "verify", "--store", path]);
    assert_eq!(damaged.code(), Some(2), "{damaged:?}");
    assert!(damaged.stdout.contains("SHA-256"), "{damaged:?}");
    let mut lost = 0;
    for object in &objects {
        fs::remove_file(object).unwrap();
        lost += 1;
    }
    let gone = server.query(&store);
    assert_eq!(gone.code(), Some(1), "{gone:?}");
    assert!(gone.stderr.contains("there is no such object"), "{gone:?}");
    let gone = server.run(&["store", "verify", "--store", path]);
    assert_eq!(gone.stdout.matches("there is no such object").count(), lost, "{gone:?}");
}

#[test]
fn objects_go_with_what_expires_and_with_what_is_merged() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(&folder.path().join("server")) else { return };
    let store = folder.path().join("store");
    let path = store.to_str().unwrap();
    for _ in 0..2 {
        let (collector, port) = server.collector(&store, Some("s3://flows"));
        export(&store, port);
        collector.terminate().ok();
    }
    let before = server.query(&store).ok();
    let moved = server.objects("").len();
    assert!(moved >= 2, "{moved}");
    // Slivers that are there become one segment, which is here until a collector runs.
    server.run(&["store", "compact", "--store", path]).ok();
    assert_eq!(rows(&server.query(&store).ok()), rows(&before));
    let (collector, _) = server.collector(&store, None);
    wait_until("what is merged has moved", || parquet(&store.join("archive")).is_empty());
    collector.terminate().ok();
    assert_eq!(rows(&server.query(&store).ok()), rows(&before));
    server.run(&["store", "expire", "--store", path, "--keep-size", "1"]).ok();
    assert_eq!(server.query(&store).code(), Some(1));
    assert_eq!(info(&store)["objects"]["remoteSegments"], 0);
    // The slivers' objects stay for those who read by an older manifest, until the next start.
    let (collector, _) = server.collector(&store, None);
    wait_until("the objects are gone", || server.objects("").is_empty());
    collector.terminate().ok();
}

#[test]
fn a_server_that_stops_and_kills_at_any_moment_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut server) = Server::start(&folder.path().join("server")) else { return };
    let store = folder.path().join("store");
    let (collector, port) = server.collector(&store, Some("s3://flows/a/b"));
    export(&store, port);
    // What is archived while nobody takes it waits here.
    server.end();
    let ended = collector.terminate().ok();
    assert_eq!(ended.stderr.matches("stay on this machine").count(), 1, "{}", ended.stderr);
    let waiting = info(&store)["objects"]["waitingSegments"].as_u64().unwrap();
    assert!(waiting > 0);
    let before = server.query(&store).ok();
    server.begin();
    for kill in 0..12 {
        drop(fs::remove_file(store.join("control.sock")));
        let (collector, _) = server.collector(&store, None);
        std::thread::sleep(std::time::Duration::from_millis(kill * 7));
        drop(collector);
        assert_eq!(rows(&server.query(&store).ok()), rows(&before), "kill {kill}");
    }
    drop(fs::remove_file(store.join("control.sock")));
    let (collector, _) = server.collector(&store, None);
    wait_until("all has moved", || info(&store)["objects"]["waitingSegments"] == 0);
    collector.terminate().ok();
    assert_eq!(server.objects("a/b").len() as u64, waiting);
    assert_eq!(rows(&server.query(&store).ok()), rows(&before));
}

#[test]
fn what_is_wrong_with_a_url_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(&folder.path().join("server")) else { return };
    let collect = |name: &str, url: &str, secret: &str| {
        let store = folder.path().join(name);
        let mut command = flowd();
        command.args(["collect", "--listen", "udp://127.0.0.1:0", "--workers", "1"]);
        command.args(["--store", store.to_str().unwrap(), "--archive", url]);
        let ended = end_of(server.with_secret(&mut command, secret));
        assert_eq!(ended.code(), Some(2), "{ended:?}");
        let [line] = ended.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
        line.to_owned()
    };
    let line = collect("no-right", "s3://flows/x", "wrong");
    assert!(line.contains("access is denied") && line.contains("AWS_SECRET"), "{line}");
    for wrong in ["gopher://x/y", "s3://", "flows/x", "file:relative"] {
        assert!(collect("wrong", wrong, SECRET).contains("write s3://BUCKET/PREFIX"));
    }
    for store in ["no-right", "wrong"] {
        assert!(!folder.path().join(store).exists(), "{store} is made for nothing");
    }
    // A place that is another store's, and a store that is bound already.
    let first = folder.path().join("first");
    server.collector(&first, Some("s3://flows/x")).0.terminate().ok();
    let line = collect("second", "s3://flows/x", SECRET);
    assert!(line.contains("another store"), "{line}");
    let line = collect("first", "s3://flows/y", SECRET);
    assert!(line.contains("s3://flows/x") && line.contains("copy all objects"), "{line}");
    let elsewhere = folder.path().join("elsewhere");
    let line = collect("first", &format!("file://{}", elsewhere.display()), SECRET);
    assert!(line.contains("copy all objects") && !elsewhere.exists(), "{line}");
}

#[test]
fn a_directory_is_an_object_store_too() {
    let folder = tempfile::tempdir().unwrap();
    let (store, cold) = (folder.path().join("store"), folder.path().join("cold"));
    let url = format!("file://{}", cold.display());
    let start = |archive: &[&str]| {
        let port = free_port();
        let listen = format!("udp://127.0.0.1:{port}");
        let mut command = flowd();
        command.args(["collect", "--listen", &listen, "--workers", "1"]).args(archive);
        command.args(["--store", store.to_str().unwrap(), "--archive-after", "0s"]);
        let mut collector = Background::start(&mut command);
        collector.says("listening on");
        (collector, port)
    };
    let (collector, port) = start(&["--archive", &url]);
    export(&store, port);
    collector.terminate().ok();
    assert!(parquet(&store.join("archive")).is_empty() && !parquet(&cold).is_empty());
    let query = || run(&["query", "--store", store.to_str().unwrap(), "-o", "json"]);
    let before = query().ok();
    // One that is not mounted is not written into, and is no empty answer.
    let aside = folder.path().join("aside");
    fs::rename(&cold, &aside).unwrap();
    fs::create_dir(&cold).unwrap();
    let (mut collector, port) = start(&[]);
    let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
    exporter.connect(("127.0.0.1", port)).unwrap();
    export(&store, port);
    collector.signal("TERM");
    collector.says("is it mounted?");
    drop(collector.left());
    assert!(parquet(&cold).is_empty());
    let is_told = |words: &str| {
        // What is here is the answer, and what is not is told once, in plain words.
        let away = query();
        assert_eq!(away.code(), Some(0), "{away:?}");
        assert!(away.stdout.lines().count() > 0);
        let [line, coverage] = away.stderr.lines().collect::<Vec<_>>()[..] else {
            panic!("{away:?}")
        };
        assert!(line.contains("out of reach") && line.contains(words), "{line}");
        assert!(coverage.contains("out of reach") && !away.stderr.contains("AWS"), "{away:?}");
        let verified = run(&["store", "verify", "--store", store.to_str().unwrap()]);
        assert_eq!(verified.code(), Some(2));
        assert_eq!(verified.stdout.matches(words).count(), 1, "{verified:?}");
        assert!(verified.stdout.contains("its object is out of reach"), "{verified:?}");
        assert!(verified.stderr.contains("whole are 1 segments"), "{verified:?}");
        let compacted = run(&["store", "compact", "--store", store.to_str().unwrap()]);
        assert_eq!(compacted.code(), Some(2), "{compacted:?}");
        assert!(compacted.stderr.contains("1 segments that were to be merged"), "{compacted:?}");
    };
    is_told("is it mounted?");
    fs::remove_dir(&cold).unwrap();
    is_told("no such directory");
    fs::rename(&aside, &cold).unwrap();
    let after = query().ok();
    assert!(after.stdout.lines().count() > before.stdout.lines().count());
}
