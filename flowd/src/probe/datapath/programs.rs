//! programs: one set of programs with its maps, loaded for interfaces of one link type.

use super::bpf::{self, WakeUps};
use super::{DatapathConfig, LinkType, ProbeError, Program};
use aya::maps::{Array, Map, MapData, RingBuf};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::util::{KernelVersion, nr_cpus};
use aya::{Ebpf, EbpfLoader};
use flowd_common::{Direction, FlowDelta, LedgerEntry, ObservationPoint};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

/// The programs as built from `flowd-ebpf` (`cargo xtask ebpf`).
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../flowd-ebpf/prebuilt/flowd.bpf.o");

/// The first kernel with all that the programs use: atomic compare and exchange is the latest.
const KERNEL_MIN: (u8, u8, &str) = (5, 12, "5.12");
/// The first with packets of several buffers for XDP.
const KERNEL_MIN_XDP: (u8, u8, &str) = (5, 18, "5.18");

/// Generations of tables and ledgers, by the lowest bit of the epoch.
const GENERATION_COUNT: usize = 2;

/// Values of `LINK_TYPE` in `flowd-ebpf/src/program.rs`.
const LINK_TYPE_ETHERNET: u32 = 0;
const LINK_TYPE_RAW_IP: u32 = 1;

/// One generation's maps.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) flows_v4: MapData,
    pub(super) flows_v6: MapData,
    pub(super) ledger: MapData,
    /// What the ledger held when it was read last: its entries stay, for making them anew would
    /// take memory that the kernel may not have at hand when the next packet comes.
    pub(super) ledger_before: BTreeMap<ObservationPoint, LedgerEntry>,
}

/// A set of programs, loaded.
pub(super) struct Programs {
    pub(super) link_type: LinkType,
    ebpf: Ebpf,
    control: Array<MapData, u32>,
    generations: [Generation; GENERATION_COUNT],
    pub(super) ring: RingBuf<MapData>,
    spare: MapData,
    /// What the spare ledger held when it was read last.
    pub(super) spare_before: LedgerEntry,
    /// How often the generation was changed.
    epoch: u32,
    /// Of the ring buffer, what belongs to the generation that is being filled.
    pub(super) held: Vec<FlowDelta>,
    /// Interfaces that are observed no longer, and drains until nothing of them can come.
    leaving: Vec<(u32, usize)>,
    pub(super) ring_size: u32,
    cpu_count: usize,
}

/// Errs if the kernel is too old, before anything fails without saying so.
pub(super) fn check_kernel() -> Result<(), ProbeError> {
    check(KERNEL_MIN, "pcap")
}

fn check(
    (major, minor, needed): (u8, u8, &'static str),
    hook: &'static str,
) -> Result<(), ProbeError> {
    // A system that does not tell its version is let try.
    match KernelVersion::current() {
        Ok(found) if found < KernelVersion::new(major, minor, 0) => {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
            let found =
                release.map_or_else(|_| "of an unknown version".into(), |r| r.trim().into());
            Err(ProbeError::OldKernel { found, needed, hook })
        }
        _ => Ok(()),
    }
}

impl Programs {
    /// Makes the maps and loads the programs of TC; that of XDP is loaded when it is asked for.
    pub(super) fn load(
        config: &DatapathConfig,
        link_type: LinkType,
        wake_ups: &WakeUps,
    ) -> Result<Self, ProbeError> {
        let link_type_number = match link_type {
            LinkType::Ethernet => LINK_TYPE_ETHERNET,
            _ => LINK_TYPE_RAW_IP,
        };
        let sampling_interval = config.sampling_interval.get();
        let mut loader = EbpfLoader::new();
        loader
            .override_global("SAMPLING_INTERVAL", &sampling_interval, true)
            .override_global("LINK_TYPE", &link_type_number, true)
            .map_max_entries("RING", config.ring_size);
        for table in ["FLOWS_V4_0", "FLOWS_V4_1", "FLOWS_V6_0", "FLOWS_V6_1"] {
            loader.map_max_entries(table, config.flow_count_max);
        }
        let mut ebpf = loader.load(OBJECT).map_err(ProbeError::loading)?;
        let cpus = nr_cpus().map_err(|(action, source)| ProbeError::Maps { action, source });
        let control = take(&mut ebpf, "CONTROL")?;
        let ring = RingBuf::try_from(take(&mut ebpf, "RING")?).map_err(ProbeError::object)?;
        wake_ups
            .add(ring.as_fd())
            .map_err(|source| ProbeError::maps("watch the ring buffer", source))?;
        let Map::PerCpuArray(spare) = take(&mut ebpf, "LEDGER_SPARE")? else {
            return Err(missing("LEDGER_SPARE"));
        };
        let mut programs = Self {
            link_type,
            control: Array::try_from(control).map_err(ProbeError::object)?,
            generations: [generation(&mut ebpf, 0)?, generation(&mut ebpf, 1)?],
            ring,
            spare,
            spare_before: LedgerEntry::ZERO,
            epoch: 0,
            held: Vec::new(),
            leaving: Vec::new(),
            ring_size: config.ring_size,
            cpu_count: cpus?,
            ebpf,
        };
        for program in [Program::TcIngress, Program::TcEgress] {
            let tc = programs.tc(program)?;
            tc.load().map_err(|error| ProbeError::program(program.name(), error))?;
        }
        Ok(programs)
    }

    /// A program of TC.
    pub(super) fn tc(&mut self, program: Program) -> Result<&mut SchedClassifier, ProbeError> {
        let found = self.ebpf.program_mut(program.name()).ok_or_else(|| missing(program.name()))?;
        found.try_into().map_err(|error: ProgramError| ProbeError::program(program.name(), error))
    }

    /// The program of XDP, loaded.
    pub(super) fn xdp(&mut self) -> Result<&mut Xdp, ProbeError> {
        check(KERNEL_MIN_XDP, "tc")?;
        let name = Program::Xdp.name();
        let found = self.ebpf.program_mut(name).ok_or_else(|| missing(name))?;
        let xdp: &mut Xdp =
            found.try_into().map_err(|error: ProgramError| ProbeError::program(name, error))?;
        match xdp.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(xdp),
            Err(error) => Err(ProbeError::program(name, error)),
        }
    }

    /// A program's descriptor.
    pub(super) fn descriptor(&mut self, program: Program) -> Result<BorrowedFd<'_>, ProbeError> {
        let fd = match program {
            Program::Xdp => self.xdp()?.fd(),
            Program::TcIngress | Program::TcEgress => self.tc(program)?.fd(),
        };
        Ok(fd.map_err(|error| ProbeError::program(program.name(), error))?.as_fd())
    }

    /// Lets the programs fill the other generation.
    pub(super) fn turn(&mut self) -> Result<(), ProbeError> {
        let next = self.epoch.wrapping_add(1);
        self.control.set(0, next, 0).map_err(ProbeError::object)?;
        self.epoch = next;
        Ok(())
    }

    /// Makes the ledgers of an interface that is to be observed.
    pub(super) fn list(&mut self, interface: u32) -> Result<(), ProbeError> {
        self.leaving.retain(|(leaving, _)| *leaving != interface);
        let size = self.ledger_size();
        for generation in &self.generations {
            for point in points(interface) {
                bpf::insert_zeros(generation.ledger.fd().as_fd(), &point, size)
                    .map_err(|source| ProbeError::maps("make a ledger", source))?;
            }
        }
        Ok(())
    }

    /// Notes that an interface is observed no longer.
    pub(super) fn unlist(&mut self, interface: u32) {
        self.leaving.push((interface, GENERATION_COUNT));
    }

    /// Removes the ledgers of interfaces of which each generation was read since they were left.
    pub(super) fn remove_left(&mut self) -> Result<(), ProbeError> {
        for (_, drains) in &mut self.leaving {
            *drains = drains.saturating_sub(1);
        }
        let gone: Vec<u32> =
            self.leaving.extract_if(.., |(_, drains)| *drains == 0).map(|(it, _)| it).collect();
        for point in gone.into_iter().flat_map(points) {
            for generation in &mut self.generations {
                generation.ledger_before.remove(&point);
                bpf::remove(generation.ledger.fd().as_fd(), &point)
                    .map_err(|source| ProbeError::maps("remove a ledger", source))?;
            }
        }
        Ok(())
    }

    /// Octets of a ledger entry, those of all CPUs.
    pub(super) const fn ledger_size(&self) -> usize {
        size_of::<LedgerEntry>() * self.cpu_count
    }

    /// The epoch that is being filled.
    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The generation that is not being filled.
    pub(super) const fn frozen(&mut self) -> &mut Generation {
        let [even, odd] = &mut self.generations;
        if self.epoch & 1 == 0 { odd } else { even }
    }

    /// What was counted so far of packets that no ledger had room for.
    pub(super) fn spare(&self) -> Result<LedgerEntry, ProbeError> {
        let octets = bpf::lookup(self.spare.fd().as_fd(), 0, self.ledger_size());
        Ok(bpf::ledger(&octets.map_err(|source| ProbeError::maps("read the ledger", source))?))
    }
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { link_type, epoch, held, .. } = self;
        f.debug_struct("Programs")
            .field("link_type", link_type)
            .field("epoch", epoch)
            .field("held", &held.len())
            .finish_non_exhaustive()
    }
}

fn generation(ebpf: &mut Ebpf, number: usize) -> Result<Generation, ProbeError> {
    let mut hash = |name: &str| match take(ebpf, &format!("{name}_{number}"))? {
        Map::HashMap(map) | Map::PerCpuHashMap(map) => Ok(map),
        _ => Err(missing(name)),
    };
    Ok(Generation {
        flows_v4: hash("FLOWS_V4")?,
        flows_v6: hash("FLOWS_V6")?,
        ledger: hash("LEDGER")?,
        ledger_before: BTreeMap::new(),
    })
}

/// Both directions of an interface.
fn points(interface: u32) -> [ObservationPoint; 2] {
    [Direction::INGRESS, Direction::EGRESS]
        .map(|direction| ObservationPoint::new(interface, direction))
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, ProbeError> {
    ebpf.take_map(name).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ProbeError {
    ProbeError::Object { reason: format!("there is no {name} in them") }
}
