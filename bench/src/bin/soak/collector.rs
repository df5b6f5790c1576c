//! The collector under load, and what its store says.

use crate::clock::Fast;
use anyhow::{Context, Result, bail, ensure};
use bench::process::{flowd, output, signal};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two questions.
const ASK_INTERVAL: Duration = Duration::from_secs(2);
/// How long the last datagrams may take.
const READ_PATIENCE: Duration = Duration::from_secs(60);

/// What a store says at the end.
pub(crate) struct Books {
    pub(crate) datagrams: u64,
    pub(crate) kernel_drops: u64,
    /// Flows decoded.
    pub(crate) decoded: u64,
    /// Flows dropped behind the decoder.
    pub(crate) dropped: u64,
    /// Flows that the store holds, by its own account.
    pub(crate) held: u64,
    pub(crate) expired: u64,
    /// Flows that a question counts.
    pub(crate) found: u64,
    /// Merged segments, and those let go, by the manifest's lines.
    pub(crate) merges: u64,
    pub(crate) expiries: u64,
    /// Hours in which something was received.
    pub(crate) hours: u64,
    /// What `flowd store verify` finds.
    pub(crate) findings: Vec<String>,
}

/// A collector that runs.
pub(crate) struct Collector {
    child: Child,
    store: PathBuf,
    log: PathBuf,
}

/// Questions that are asked again and again.
pub(crate) struct Questions {
    stop: Sender<()>,
    thread: JoinHandle<Result<u64>>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Collector {
    pub(crate) fn start(folder: &Path, port: u16, limits: &[&str], clock: &Fast) -> Result<Self> {
        let [store, log] = ["store", "log"].map(|name| folder.join(name));
        let file = File::create(&log).context("make a log")?;
        let mut command = Command::new(flowd()?);
        command.args(["collect", "--listen", &format!("udp://127.0.0.1:{port}"), "--store"]);
        command.arg(&store).args(limits);
        clock.apply(&mut command);
        command.stdin(Stdio::null()).stdout(file.try_clone().context("a log")?).stderr(file);
        let mut child = command.spawn().context("start flowd")?;
        let end = Instant::now() + Duration::from_secs(20);
        while !fs::read_to_string(&log).context("read the log")?.contains("listening on") {
            if child.try_wait().context("look at flowd")?.is_some() || Instant::now() > end {
                let text = fs::read_to_string(&log).unwrap_or_default();
                drop(child.kill());
                bail!("flowd does not listen: {}", text.trim_end());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { child, store, log })
    }

    /// Asks questions from now on.
    pub(crate) fn ask_until_dropped(&self) -> Questions {
        let (stop, stopped) = mpsc::channel();
        let store = self.store.clone();
        let thread = thread::spawn(move || {
            let mut asked = 0;
            while stopped.recv_timeout(ASK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                // One that the index answers, one that reads, one that adds up.
                for filter in ["ip 203.0.113.77", "dst port 53 and packets > 1000"] {
                    ask(&store, &["query", "-o", "json", "-n", "1", filter])?;
                    asked += 1;
                }
                let info = info(&store)?;
                ensure!(info["damage"].as_array().is_some_and(Vec::is_empty), "{info}");
                asked += 1;
            }
            Ok(asked)
        });
        Questions { stop, thread }
    }

    /// Waits until everything that was sent is received or known to be dropped.
    pub(crate) fn wait_until_read(&self, datagrams: u64) -> Result<()> {
        let end = Instant::now() + READ_PATIENCE;
        while Instant::now() < end {
            let info = info(&self.store)?;
            if count(&info, "datagrams")? + count(&info, "kernelDrops")? >= datagrams {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Ends it as its user would, and reads its books.
    pub(crate) fn end(mut self) -> Result<Books> {
        signal(&self.child, libc::SIGTERM)?;
        let status = self.child.wait().context("wait for flowd")?;
        let log = fs::read_to_string(&self.log).context("read the log")?;
        ensure!(status.success(), "flowd ended with {status}: {}", log.trim_end());
        let info = info(&self.store)?;
        let drops = info["drops"].as_object().context("drops by reason")?;
        let dropped = drops.iter().filter(|(reason, _)| *reason != "kernelDatagrams");
        let sum = ask(&self.store, &["query", "-o", "json", "--summary"])?;
        let sum: Value = serde_json::from_str(&sum).context("the sum of all flows")?;
        let [merges, expiries] =
            ["merged", "expired"].map(|reason| withdrawals(&self.store, reason));
        Ok(Books {
            datagrams: count(&info, "datagrams")?,
            kernel_drops: count(&info, "kernelDrops")?,
            decoded: count(&info, "recordsDecoded")?,
            dropped: dropped.filter_map(|(_, count)| count.as_u64()).sum(),
            held: count(&info, "flowRecords")?,
            expired: info["expired"]["flowRecords"].as_u64().unwrap_or(0),
            found: count(&sum, "deltaFlowCount")?,
            merges: merges?,
            expiries: expiries?,
            hours: hours(&self.store)?,
            findings: findings(&self.store)?,
        })
    }
}

impl Questions {
    /// Ends them; says how many were answered.
    pub(crate) fn end(self) -> Result<u64> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| bail!("the thread that asks panicked"))
    }
}

fn ask(store: &Path, arguments: &[&str]) -> Result<String> {
    let output = output(Command::new(flowd()?).args(arguments).arg("--store").arg(store))?;
    String::from_utf8(output).context("an answer in UTF-8")
}

fn info(store: &Path) -> Result<Value> {
    let text = ask(store, &["store", "info", "-o", "json"])?;
    serde_json::from_str(&text).context("what `flowd store info` says")
}

fn count(info: &Value, name: &str) -> Result<u64> {
    info[name].as_u64().with_context(|| format!("no count of {name} in {info}"))
}

/// Damage that `flowd store verify` names; it fails if there is any.
fn findings(store: &Path) -> Result<Vec<String>> {
    let mut command = Command::new(flowd()?);
    command.args(["store", "verify", "-o", "json", "--store"]).arg(store).stdin(Stdio::null());
    let output = command.output().context("verify the store")?;
    let mut findings: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    if findings.is_empty() && !output.status.success() {
        findings.push(format!("verify: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    Ok(findings)
}

/// Lines of the manifest by which segments go for a reason.
fn withdrawals(store: &Path, reason: &str) -> Result<u64> {
    let reason = format!(r#""reason":"{reason}""#);
    let lines = manifest_lines(store)?;
    Ok(lines
        .iter()
        .filter(|line| line.contains(r#""withdrawn":{"#) && line.contains(&reason))
        .count() as u64)
}

/// Hours that the manifest has segments of, gone or not.
fn hours(store: &Path) -> Result<u64> {
    let lines = manifest_lines(store)?;
    let hours = lines.iter().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["segment"]["hour"].as_i64()
    });
    Ok(hours.collect::<BTreeSet<_>>().len() as u64)
}

/// The lines of the manifest's parts and of its head.
fn manifest_lines(store: &Path) -> Result<Vec<String>> {
    let archive = store.join("archive");
    let mut files = vec![archive.join("manifest.jsonl")];
    if let Ok(parts) = fs::read_dir(archive.join("manifest")) {
        files.extend(parts.filter_map(|part| Some(part.ok()?.path())));
    }
    let mut lines = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        lines.extend(text.lines().map(str::to_owned));
    }
    Ok(lines)
}
