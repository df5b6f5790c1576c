//! The flowd that was built, run and asked.

use super::books::Volume;
use crate::{interrupt, steps};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::io;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// flowd is ready within 1 s of its start and ends within 25 s of SIGTERM; a machine under load
/// gets some more.
const START_TIME_MAX: Duration = Duration::from_secs(20);
const END_TIME_MAX: Duration = Duration::from_secs(30);
/// What was exported is stored within 1 s.
const STORE_TIME_MAX: Duration = Duration::from_secs(5);

/// The program, and the store that the demo fills.
pub(super) struct Flowd {
    program: PathBuf,
    store: PathBuf,
}

/// A flowd that runs on; killed if the demo ends before it was stopped.
pub(super) struct Running {
    child: Child,
    name: &'static str,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already after a demo that went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Flowd {
    /// The program as cargo left it, with a store that is empty.
    pub(super) fn new() -> Result<Self> {
        let store = steps::target_dir().join("demo/store");
        if store.exists() {
            fs::remove_dir_all(&store).context("remove the last demo's store")?;
        }
        fs::create_dir_all(store.parent().context("the store has a parent")?)?;
        Ok(Self { program: steps::target_dir().join("debug/flowd"), store })
    }

    /// A flowd that finds no exporter but the demo's own, and is found by none.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null());
        command.env("RUNTIME_DIRECTORY", self.store.with_file_name("run"));
        command
    }

    fn store(&self) -> &str {
        self.store.to_str().expect("the target directory has a UTF-8 name")
    }

    /// Starts a collector by `spawn`, and waits until it listens.
    pub(super) fn collect(
        &self,
        address: &str,
        spawn: impl FnOnce(&mut Command) -> Result<Child>,
    ) -> Result<Running> {
        let mut command = self.command(&["collect", "--listen", address, "--store", self.store()]);
        println!("\n$ {}", steps::show(&command));
        let mut collector = Running { child: spawn(&mut command)?, name: "flowd collect" };
        collector.wait_until(|_| Ok(self.store.join("control.sock").exists()))?;
        Ok(collector)
    }

    /// Asks the store, by a command whose first words are given; it is shown as it is typed.
    pub(super) fn show(&self, first: &[&str], rest: &[&str]) -> Result<()> {
        let mut command = self.command(first);
        command.args(["--store", self.store()]).args(rest);
        let shown = steps::show(&command);
        println!("\n$ {shown}");
        let status = command.status().with_context(|| format!("start `{shown}`"))?;
        // 1 says that there are no rows; what that means, the books tell.
        ensure!(matches!(status.code(), Some(0 | 1)), "`{shown}` failed: {status}");
        Ok(())
    }

    /// What the store holds.
    pub(super) fn stored(&self) -> Result<Volume> {
        let output = self
            .command(&["query", "--store", self.store(), "--summary", "-o", "json", "--quiet"])
            .output()
            .context("run flowd query")?;
        if output.stdout.is_empty() {
            return Ok(Volume::default());
        }
        let row: Value = serde_json::from_slice(&output.stdout).context("flowd query's JSON")?;
        let count = |name: &str| row[name].as_u64().unwrap_or_default();
        Ok(Volume { packets: count("packetDeltaCount"), octets: count("octetDeltaCount") })
    }

    /// What the store holds once it holds what was exported, or after a while.
    pub(super) fn wait_until_stored(&self, exported: Volume) -> Result<Volume> {
        let start = Instant::now();
        loop {
            let stored = self.stored()?;
            if stored == exported || start.elapsed() > STORE_TIME_MAX {
                return Ok(stored);
            }
            interrupt::check()?;
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Shows what a running collector's store answers, ends the collector, and shows what its
    /// archive answers; gives what that holds.
    pub(super) fn show_and_end(&self, collector: &mut Running) -> Result<Volume> {
        self.show(&["query"], &["proto udp and port 53", "-n", "5"])?;
        self.show(&["top"], &["srcip/bytes", "-n", "5"])?;
        self.show(&["query"], &["--summary"])?;
        let status = collector.stop()?;
        ensure!(status.success(), "flowd collect ended with {status}");
        println!("\nthe collector has ended; its archive answers on");
        self.show(&["store", "info"], &[])?;
        self.stored()
    }
}

impl Running {
    pub(super) fn new(child: Child, name: &'static str) -> Self {
        Self { child, name }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until it is ready; an error if it ends or takes too long.
    pub(super) fn wait_until(
        &mut self,
        mut is_ready: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        while !is_ready(self)? {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended early: {status}", self.name);
            }
            ensure!(start.elapsed() < START_TIME_MAX, "{} does not get ready", self.name);
            interrupt::check()?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it by SIGTERM.
    pub(super) fn stop(&mut self) -> Result<ExitStatus> {
        steps::run(Command::new("kill").args(["-TERM", &self.id().to_string()]))?;
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(start.elapsed() < END_TIME_MAX, "{} does not end on SIGTERM", self.name);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What flowd says that it exported.
pub(super) fn exported(words: &str) -> Result<Volume> {
    let line = words
        .lines()
        .find(|line| line.starts_with("flowd: exported"))
        .context("flowd does not say what it exported")?;
    Ok(Volume { packets: number_before(line, "packets")?, octets: number_before(line, "octets")? })
}

fn number_before(line: &str, unit: &str) -> Result<u64> {
    let words: Vec<&str> =
        line.split([' ', ',', '(', ')']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| *word == unit);
    let number = at.and_then(|at| words.get(at.checked_sub(1)?)).copied();
    number.context("a number before its unit")?.parse().context("a number")
}

/// A UDP port of this thread's namespace that was free a moment ago.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_exported_is_read_from_its_line() {
        let words =
            "flowd: exporting a\nflowd: exported 7 records (12 packets, 3456 octets) in 1 message";
        assert_eq!(exported(words).unwrap(), Volume { packets: 12, octets: 3456 });
        assert!(exported("flowd: exported nothing").is_err());
        assert!(exported("").is_err());
    }
}
