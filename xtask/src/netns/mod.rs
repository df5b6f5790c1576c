//! Network namespaces of our own, joined by virtual Ethernet, and gone when they are dropped.
//!
//! They are named `flowd-demo-PROCESS-ROLE`, so that `ip netns exec` finds them while they are
//! there, and so that what a killed process left behind is known by its name.

mod sys;

pub(crate) use sys::{
    Offload, PacketSocket, bpf_is_permitted, icmp_socket, new_namespace_is_permitted,
};

use crate::{packages, steps};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const PREFIX: &str = "flowd-demo-";
/// Where `ip netns` keeps them.
const FOLDER: &str = "/run/netns";
/// A link carries within a second of its ends' being up; a machine under load gets some more.
const CARRIER_TIME_MAX: Duration = Duration::from_secs(20);

/// A network namespace; removed when dropped.
pub(crate) struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes an empty one, with its loopback up.
    pub(crate) fn new(role: &str) -> Result<Self> {
        packages::ensure(&[packages::IPROUTE])?;
        let name = format!("{PREFIX}{}-{role}", std::process::id());
        ip(&["netns", "add", &name])?;
        let path = Path::new(FOLDER).join(&name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let namespace = Self { name, file };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Does work inside: sockets and processes that it makes are of this namespace for good.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            // A thread of its own, as it cannot leave again without rights that it may not have.
            let inside = scope.spawn(|| sys::enter(&self.file).map(|()| work()));
            match inside.join() {
                Ok(done) => done.with_context(|| format!("enter namespace {}", self.name)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn ip(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["-n", self.name()];
        all.extend(arguments);
        ip(&all)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// One end of a pair of virtual Ethernet interfaces; it goes with its namespace.
pub(crate) struct Interface<'a> {
    namespace: &'a Namespace,
    name: String,
}

/// What an interface counts: whole frames, with their 14 octets of Ethernet header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InterfaceCounters {
    pub(crate) frames: u64,
    pub(crate) octets: u64,
    pub(crate) dropped: u64,
}

/// Joins two namespaces by a pair of interfaces, which are still down, and mute once they are up.
/// They carry what the wire would: no segment is left for an interface to cut or to put together.
pub(crate) fn join<'a>(
    [left, right]: [&'a Namespace; 2],
    [left_name, right_name]: [&str; 2],
) -> Result<[Interface<'a>; 2]> {
    left.ip(&["link", "add", left_name, "type", "veth"]
        .into_iter()
        .chain(["peer", "name", right_name, "netns", right.name()])
        .collect::<Vec<_>>())?;
    let ends = [(left, left_name), (right, right_name)]
        .map(|(namespace, name)| Interface { namespace, name: name.to_owned() });
    for end in &ends {
        end.namespace
            .enter(|| {
                // Segmentation by the interface first: without the generic one it would be refused.
                [Offload::TcpSegmentation, Offload::GenericSegmentation, Offload::GenericReceive]
                    .into_iter()
                    .try_for_each(|offload| sys::turn_off(&end.name, offload))
            })?
            .with_context(|| format!("turn offloads of {} off", end.name))?;
        // Else the kernel reports its multicast groups, whether or not anything can be sent yet.
        end.set_ipv6(false)?;
    }
    Ok(ends)
}

impl Interface<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        self.namespace
    }

    /// Gives it addresses, of networks that are only here; from now on the kernel talks through it.
    pub(crate) fn give_addresses(&self, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> Result<()> {
        self.set_ipv6(true)?;
        self.namespace.ip(&["addr", "add", &format!("{ipv4}/24"), "dev", &self.name])?;
        self.namespace.ip(&["addr", "add", &format!("{ipv6}/64"), "dev", &self.name, "nodad"])?;
        Ok(())
    }

    pub(crate) fn bring_up(&self) -> Result<()> {
        self.namespace.ip(&["link", "set", &self.name, "up"]).map(drop)
    }

    /// Waits until it sends what it is given: before, the kernel drops it.
    pub(crate) fn wait_for_carrier(&self) -> Result<()> {
        let start = Instant::now();
        while !self.namespace.ip(&["link", "show", &self.name])?.contains("state UP") {
            if start.elapsed() > CARRIER_TIME_MAX {
                bail!("{} has no carrier", self.name);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Takes its addresses, so that the kernel has nothing more to send through it.
    pub(crate) fn silence(&self) -> Result<()> {
        self.set_ipv6(false)?;
        self.namespace.ip(&["addr", "flush", "dev", &self.name]).map(drop)
    }

    fn set_ipv6(&self, is_on: bool) -> Result<()> {
        let switch = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.name);
        let value = if is_on { "0" } else { "1" };
        self.namespace.enter(|| fs::write(&switch, value))?.with_context(|| switch.clone())
    }

    /// What it received and sent since it was made.
    pub(crate) fn counters(&self) -> Result<InterfaceCounters> {
        let table = self.namespace.enter(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        counters(&table, &self.name).with_context(|| format!("no counters of {}", self.name))
    }

    /// A socket that sees every frame of it.
    pub(crate) fn tap(&self) -> Result<PacketSocket> {
        let socket = self.namespace.enter(|| PacketSocket::open(&self.name))?;
        socket.with_context(|| format!("listen to {}", self.name))
    }
}

/// The sum of both directions in a line of `/proc/net/dev`: eight columns of what was received,
/// then eight of what was sent, each beginning with octets, packets, errors, and drops.
fn counters(table: &str, name: &str) -> Option<InterfaceCounters> {
    let columns = table.lines().find_map(|line| {
        let (interface, columns) = line.split_once(':')?;
        (interface.trim() == name).then_some(columns)
    })?;
    let columns: Vec<u64> =
        columns.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let sum = |at: usize| Some(columns.get(at)? + columns.get(at + 8)?);
    Some(InterfaceCounters { octets: sum(0)?, frames: sum(1)?, dropped: sum(3)? })
}

/// Removes namespaces of processes that are no more, and flowd where it still runs in them.
pub(crate) fn remove_leftovers() -> Result<()> {
    let Ok(entries) = fs::read_dir(FOLDER) else { return Ok(()) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for name in names.filter(|name| owner(name).is_some_and(|owner| !is_running(owner, "xtask"))) {
        println!("removing {name}, left behind by a demo that was killed");
        for process in ip(&["netns", "pids", &name])?.lines().filter_map(|id| id.parse().ok()) {
            if is_running(process, "flowd") {
                steps::run(Command::new("kill").args(["-KILL", &process.to_string()]))?;
            }
        }
        ip(&["netns", "del", &name])?;
    }
    Ok(())
}

/// The process that made the namespace of this name.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

/// Does a process of this program run under this id?
fn is_running(process: u32, program: &str) -> bool {
    fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == program)
}

/// Runs `ip`; what it says is the error.
fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(arguments).output().context("run ip")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}` failed: {}", arguments.join(" "), words.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_the_sum_of_both_directions() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    \
            lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n flowd12: 1000 10 0 1 0 0 0 0 200 3 0 2 0 0 0 0\n";
        let expected = InterfaceCounters { frames: 13, octets: 1_200, dropped: 3 };
        assert_eq!(counters(table, "flowd12"), Some(expected));
        assert_eq!(counters(table, "flowd1"), None);
    }

    #[test]
    fn a_namespace_names_its_owner() {
        assert_eq!(owner("flowd-demo-123-exporter"), Some(123));
        assert_eq!(owner("flowd-demo-x-exporter"), None);
        assert_eq!(owner("blue"), None);
        assert!(!is_running(std::process::id(), "another"));
    }
}
