//! datapath: flowd's programs in the kernel, from user space. In: interfaces. Out: [`Harvest`]s,
//! what the programs counted since the last one. Never: flows that last longer than that.
//!
//! ```text
//!             epoch, then wait until no program uses the old one
//! packets --[programs]--> flow tables of one generation --[drain]--> Harvest --> flow
//!                '------> ring buffer: what the tables have no room for --'
//! ```
//!
//! One set of programs serves interfaces of one link type: which one is fixed when it is loaded,
//! so that no packet has to ask.

mod attach;
mod bpf;
mod drain;
mod error;
mod programs;

pub use error::ProbeError;

use super::{Link, LinkType, clock};
use attach::Hooked;
use bpf::{Barrier, WakeUps};
use flowd_common::limits::{KERNEL_FLOW_COUNT_MAX, LEDGER_COUNT_MAX, RING_SIZE};
use flowd_common::{FlowDelta, LedgerEntry, ObservationPoint};
use programs::Programs;
use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Interfaces at a time: each has a ledger for either direction.
const INTERFACE_COUNT_MAX: usize = LEDGER_COUNT_MAX as usize / 2;

/// What was counted since the last time.
#[derive(Debug, Default)]
pub struct Harvest {
    /// What is to be added to flows, in the order of their first packets; times are Unix time.
    pub deltas: Vec<FlowDelta>,
    /// All packets that were seen before this time are in here; Unix time in nanoseconds.
    pub until_nanos: i64,
    /// What became of the packets at each observation point that had any.
    pub ledger: Vec<(ObservationPoint, LedgerEntry)>,
}

/// Where to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookChoice {
    /// XDP where a device's driver runs it, else TC.
    Auto,
    /// XDP for packets that come in, or an error.
    Xdp,
    /// TC.
    Tc,
}

/// How to count.
#[derive(Clone, Copy, Debug)]
pub struct DatapathConfig {
    /// One packet in so many is metered, at random.
    pub sampling_interval: NonZeroU32,
    /// Flows of one address family that a generation has room for.
    pub flow_count_max: u32,
    /// Octets of the ring buffer: a power of two, at least a page.
    pub ring_size: u32,
}

impl Default for DatapathConfig {
    fn default() -> Self {
        Self {
            sampling_interval: NonZeroU32::MIN,
            flow_count_max: KERNEL_FLOW_COUNT_MAX,
            ring_size: RING_SIZE,
        }
    }
}

/// By what an interface is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// For packets that come in: `xdp`, `tcx` or `clsact`.
    pub ingress: &'static str,
    /// For packets that go out: `tcx` or `clsact`.
    pub egress: &'static str,
}

/// What running a program on a packet gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What the program says is to become of the packet.
    pub verdict: i32,
    /// How long one run took.
    pub duration: Duration,
}

/// One of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Packets that come in, at the driver.
    Xdp,
    /// Packets that come in.
    TcIngress,
    /// Packets that go out.
    TcEgress,
}

impl Program {
    /// Its name in the object and in the kernel's lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "flowd_xdp",
            Self::TcIngress => "flowd_tc_ingress",
            Self::TcEgress => "flowd_tc_egress",
        }
    }
}

/// The programs, loaded, with the interfaces that they observe.
#[derive(Debug)]
pub struct Datapath {
    config: DatapathConfig,
    barrier: Barrier,
    wake_ups: WakeUps,
    ethernet: Programs,
    /// Loaded when the first interface without link header is attached.
    raw_ip: Option<Programs>,
    hooked: BTreeMap<u32, Hooked>,
    /// What a drain that failed had taken already.
    unfinished: Harvest,
}

impl Datapath {
    /// Loads the programs. Nothing is observed yet.
    ///
    /// # Errors
    /// If the kernel does not let this process, or cannot.
    pub fn load(config: &DatapathConfig) -> Result<Self, ProbeError> {
        programs::check_kernel()?;
        let barrier = Barrier::new().map_err(|e| ProbeError::maps("make the barrier", e))?;
        let wake_ups = WakeUps::new().map_err(|e| ProbeError::maps("make an epoll", e))?;
        let ethernet = Programs::load(config, LinkType::Ethernet, &wake_ups)?;
        Ok(Self {
            config: *config,
            barrier,
            wake_ups,
            ethernet,
            raw_ip: None,
            hooked: BTreeMap::new(),
            unfinished: Harvest::default(),
        })
    }

    /// Observes an interface, from now on; anew, if it was observed.
    ///
    /// # Errors
    /// If the programs cannot be attached there. What was attached is taken off again.
    pub fn attach(&mut self, link: &Link, hook: HookChoice) -> Result<Attachment, ProbeError> {
        self.detach(link.index);
        if self.hooked.len() >= INTERFACE_COUNT_MAX {
            return Err(ProbeError::TooManyInterfaces {
                interface: link.name.clone(),
                limit: INTERFACE_COUNT_MAX,
            });
        }
        let programs = self.programs(link.link_type)?;
        programs.list(link.index)?;
        let hooked = match Hooked::attach(programs, link, hook) {
            Ok(hooked) => hooked,
            Err(error) => {
                programs.unlist(link.index);
                return Err(error);
            }
        };
        let attachment = hooked.attachment();
        self.hooked.insert(link.index, hooked);
        Ok(attachment)
    }

    /// Observes an interface no longer. What was counted comes with the next harvest.
    pub fn detach(&mut self, interface: u32) {
        if let Some(hooked) = self.hooked.remove(&interface) {
            drop(self.take_off(interface, hooked));
        }
    }

    /// Observes nothing any more.
    pub fn detach_all(&mut self) {
        let mut links = Vec::new();
        for (interface, hooked) in std::mem::take(&mut self.hooked) {
            links.extend(self.take_off(interface, hooked).into_iter().flatten());
        }
        attach::close(links);
    }

    fn take_off(&mut self, interface: u32, hooked: Hooked) -> [Option<OwnedFd>; 2] {
        let mut all = std::iter::once(&mut self.ethernet).chain(&mut self.raw_ip);
        match all.find(|programs| programs.link_type == hooked.link_type) {
            Some(programs) => {
                programs.unlist(interface);
                hooked.detach(programs)
            }
            None => [None, None],
        }
    }

    /// Waits until it is time to drain: when the ring buffer fills, or after `timeout`.
    ///
    /// # Errors
    /// If the system cannot wait.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        self.wake_ups.wait(timeout)
    }

    /// Turns to the other generation, and takes what the one before has counted.
    ///
    /// # Errors
    /// If the kernel's tables cannot be read. What was taken and what is left there comes with a
    /// later harvest.
    pub fn drain(&mut self) -> Result<Harvest, ProbeError> {
        let mut harvest = std::mem::take(&mut self.unfinished);
        if let Err(error) = self.fill(&mut harvest) {
            self.unfinished = harvest;
            return Err(error);
        }
        harvest.deltas.sort_unstable_by_key(|delta| delta.counters.first_seen_nanos);
        Ok(harvest)
    }

    fn fill(&mut self, harvest: &mut Harvest) -> Result<(), ProbeError> {
        let moment = clock::now();
        harvest.until_nanos = moment.boot_nanos.saturating_add(moment.offset_nanos);
        for programs in std::iter::once(&mut self.ethernet).chain(&mut self.raw_ip) {
            programs.turn()?;
        }
        self.barrier.wait().map_err(|e| ProbeError::maps("wait for the programs", e))?;
        for programs in std::iter::once(&mut self.ethernet).chain(&mut self.raw_ip) {
            drain::harvest(programs, moment.offset_nanos, harvest)?;
        }
        Ok(())
    }

    /// Runs a program on a packet that comes by no interface (`BPF_PROG_TEST_RUN`), so many times,
    /// as if it passed the loopback interface.
    ///
    /// # Errors
    /// If the kernel does not take the packet: it is shorter than an Ethernet header, or longer
    /// than a page has room for.
    pub fn run(
        &mut self,
        program: Program,
        link_type: LinkType,
        packet: &[u8],
        repeat: u32,
    ) -> Result<TestRun, ProbeError> {
        let program = self.programs(link_type)?.descriptor(program)?;
        let (verdict, duration) = bpf::test_run(program, packet, repeat)
            .map_err(|e| ProbeError::maps("run a program on a packet", e))?;
        Ok(TestRun { verdict: verdict.cast_signed(), duration })
    }

    /// The programs for interfaces of this link type.
    fn programs(&mut self, link_type: LinkType) -> Result<&mut Programs, ProbeError> {
        Ok(match (link_type, &mut self.raw_ip) {
            (LinkType::Ethernet, _) => &mut self.ethernet,
            (_, Some(programs)) => programs,
            (other, none) => none.insert(Programs::load(&self.config, other, &self.wake_ups)?),
        })
    }
}
