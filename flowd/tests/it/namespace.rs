//! Network namespaces that a test makes, joined by a veth, and removes again.

use crate::support::{end_of, flowd};
use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::process::Command;

/// A network namespace, with all interfaces in it gone when it is dropped.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, its loopback up. None, with a word why, where that is not allowed.
    pub(crate) fn new(label: &str) -> Option<Self> {
        let name = format!("flowd-it-{}-{label}", std::process::id());
        let made = end_of(Command::new("ip").args(["netns", "add", &name]));
        if made.code() != Some(0) {
            println!("skipped: no network namespace: {}", made.stderr.trim());
            return None;
        }
        let namespace = Self { name };
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// Its name, as `ip netns` has it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it, which must succeed.
    pub(crate) fn ip(&self, arguments: &str) {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(arguments.split_whitespace());
        let ended = end_of(&mut command);
        assert_eq!(ended.code(), Some(0), "ip {arguments}: {ended:?}");
    }

    /// Joins it to another by a veth, both ends up with an address each: 192.0.2.1 here and
    /// 192.0.2.2 there.
    pub(crate) fn join(&self, here: &str, other: &Self, there: &str) {
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", other.name));
        for (namespace, name, address) in [(self, here, "192.0.2.1"), (other, there, "192.0.2.2")] {
            namespace.ip(&format!("addr add {address}/24 dev {name}"));
            namespace.ip(&format!("link set {name} up"));
        }
    }

    /// The flowd under test, to be started in it.
    pub(crate) fn flowd(&self) -> Command {
        self.program(flowd().get_program().to_str().unwrap())
    }

    /// Another program, to be started in it.
    pub(crate) fn program(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Does something in it, on a thread that ends then.
    pub(crate) fn inside<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: the descriptor is open, and only this thread, which ends here, is moved.
                let outcome = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
                action()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A UDP socket in it.
    pub(crate) fn udp(&self, address: &str) -> UdpSocket {
        self.inside(|| UdpSocket::bind(address).unwrap())
    }

    /// The number of one of its interfaces.
    pub(crate) fn index_of(&self, interface: &str) -> u32 {
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: the name ends with a zero and outlives the call.
        let index = self.inside(|| unsafe { libc::if_nametoindex(name.as_ptr()) });
        assert_ne!(index, 0, "no interface {interface}");
        index
    }

    /// What a command of iproute2 prints about it: `ip` or `tc`.
    pub(crate) fn ask(&self, program: &str, arguments: &str) -> String {
        // By its own option `-n` it would lose the file system of pinned programs out of sight.
        let mut command = self.program(program);
        end_of(command.args(arguments.split_whitespace())).ok().stdout
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(end_of(Command::new("ip").args(["netns", "del", &self.name])));
    }
}
