//! A collector that is measured: started, left to settle, ended, counted.

use anyhow::{Context, Result, bail, ensure};
use bench::process::{flowd, output, signal};
use clap::ValueEnum;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whose collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The flowd that was built beside this program.
    Flowd,
    /// nfdump's, with LZ4.
    Nfcapd,
}

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// Flows that are stored.
    pub(crate) stored: u64,
    /// Flows that it was sent.
    pub(crate) flows: u64,
    /// Time of the threads that bring what is measured into the ring, while they did.
    pub(crate) to_ring: Duration,
    /// Time of all its threads, from start to end.
    pub(crate) cpu: Duration,
    /// Octets of memory at its peak, files that it mapped included.
    pub(crate) memory_max: u64,
    /// Octets a flow of the files it left, index included; of flowd those of the archive, in which
    /// the last flows may not be yet.
    pub(crate) disk: f64,
    /// How long after the last datagram it was still busy.
    pub(crate) settled: Duration,
}

/// A collector that runs.
pub(crate) struct Running {
    kind: Kind,
    child: Child,
    store: PathBuf,
    /// Was it waited for? Its process id may be another's by then.
    has_ended: bool,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flowd => "flowd",
            Self::Nfcapd => "nfcapd -y",
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

impl Running {
    pub(crate) fn start(kind: Kind, folder: &Path, port: u16, more: &[String]) -> Result<Self> {
        let store = folder.join("store");
        let log = File::create(folder.join("log")).context("make a log")?;
        let mut command = match kind {
            Kind::Flowd => {
                let mut command = Command::new(flowd()?);
                command.args(["collect", "--listen"]).arg(format!("udp://127.0.0.1:{port}"));
                command.arg("--store").arg(&store).args(more);
                command
            }
            Kind::Nfcapd => {
                fs::create_dir(&store).context("make a folder")?;
                let mut command = Command::new("nfcapd");
                command.args(["-y", "-B", "67108864", "-b", "127.0.0.1", "-p"]);
                command.arg(port.to_string()).arg("-w").arg(&store);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(log.try_clone().context("a log")?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {}", kind.name()))?;
        let mut running = Self { kind, child, store, has_ended: false };
        running.wait_until_bound(port)?;
        Ok(running)
    }

    fn wait_until_bound(&mut self, port: u16) -> Result<()> {
        let hex = format!(":{port:04X} ");
        for _ in 0..500 {
            if fs::read_to_string("/proc/net/udp").context("sockets")?.contains(&hex) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().context("look at the collector")? {
                bail!("{} ended at once: {status}", self.kind.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} does not listen", self.kind.name());
    }

    /// Waits until it uses no more time than an idle process does; says how long that took.
    pub(crate) fn settle(&self, patience: Duration) -> Result<Duration> {
        const LOOK_INTERVAL: Duration = Duration::from_millis(250);
        let start = Instant::now();
        let mut before = self.ticks()?;
        loop {
            std::thread::sleep(LOOK_INTERVAL);
            let now = self.ticks()?;
            if now - before <= 2 || start.elapsed() > patience {
                return Ok(start.elapsed().saturating_sub(LOOK_INTERVAL));
            }
            before = now;
        }
    }

    /// What flowd's threads have used, but for the one that archives (proc_pid_schedstat).
    pub(crate) fn time_to_ring(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id())).context("threads")? {
            let task = task.context("a thread")?.path();
            let name = fs::read_to_string(task.join("comm")).context("a thread's name")?;
            let stat = fs::read_to_string(task.join("schedstat")).context("a thread's time")?;
            let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
            if name.trim_end() != "archiver" {
                sum += Duration::from_nanos(nanos.context("a thread's time")?);
            }
        }
        Ok(sum)
    }

    /// Clock ticks of user and system time (proc_pid_stat(5), fields 14 and 15).
    fn ticks(&self) -> Result<u64> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(path).context("look at the collector")?;
        let fields = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace();
        let times: Vec<u64> = fields.skip(11).take(2).filter_map(|it| it.parse().ok()).collect();
        Ok(times.iter().sum())
    }

    /// Ends it as its user would.
    pub(crate) fn end(mut self) -> Result<Cost> {
        let id = libc::pid_t::try_from(self.child.id()).context("a process id")?;
        signal(&self.child, libc::SIGTERM)?;
        let mut status = 0;
        // SAFETY: a rusage of zeros is a valid value of that plain struct.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live values of the types that the call fills.
        let ended = unsafe { libc::wait4(id, &raw mut status, 0, &raw mut usage) };
        ensure!(ended == id, "wait for the collector: {}", io::Error::last_os_error());
        self.has_ended = true;
        let time = |time: libc::timeval| {
            let micros = time.tv_sec * 1_000_000 + time.tv_usec;
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        };
        let (stored, disk) = self.stored()?;
        Ok(Cost {
            stored,
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            memory_max: u64::try_from(usage.ru_maxrss).unwrap_or(0) << 10,
            disk,
            ..Cost::default()
        })
    }

    /// Flows that are stored, and octets a flow.
    fn stored(&self) -> Result<(u64, f64)> {
        match self.kind {
            Kind::Flowd => {
                let mut command = Command::new(flowd()?);
                command.args(["store", "info", "-o", "json", "--store"]).arg(&self.store);
                let info: serde_json::Value = serde_json::from_slice(&output(&mut command)?)?;
                let count = |name: &str| info[name].as_u64().context(name.to_owned());
                let octets = count("archiveBytes")? + count("indexBytes")?;
                Ok((count("flowRecords")?, octets as f64 / count("archiveRecords")?.max(1) as f64))
            }
            Kind::Nfcapd => {
                let mut command = Command::new("nfdump");
                command.arg("-R").arg(&self.store).arg("-I");
                let text = String::from_utf8(output(&mut command)?)?;
                let line = text.lines().find_map(|line| line.strip_prefix("Flows:"));
                let flows: Option<u64> = line.and_then(|count| count.trim().parse().ok());
                let flows = flows.context("a count of flows")?;
                Ok((flows, disk(&self.store)? as f64 / flows.max(1) as f64))
            }
        }
    }
}

fn disk(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let data = entry.metadata()?;
        sum += if data.is_dir() { disk(&entry.path())? } else { data.len() };
    }
    Ok(sum)
}
