//! attach: programs onto interfaces, so that whatever else is attached there goes on as before.

use super::error::{one_line, system_error};
use super::programs::Programs;
use super::{Attachment, HookChoice, ProbeError, Program, bpf};
use crate::probe::{Link, LinkType};
use aya::programs::tc::{
    self, NlOptions, SchedClassifierLinkId, TcAttachOptions, TcAttachType, TcError,
};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{ProgramError, XdpMode};
use aya::sys::SyscallError;
use std::io;
use std::os::fd::OwnedFd;
use tracing::debug;

/// Before all filters that leave the choice to the system; then, where that place is another
/// classifier's, as the system chooses.
const CLSACT_PRIORITIES: [u16; 2] = [1, 0];

/// What is attached to an interface.
#[derive(Debug)]
pub(super) struct Hooked {
    pub(super) link_type: LinkType,
    ingress: Ingress,
    egress: Tc,
}

#[derive(Debug)]
enum Ingress {
    Xdp(XdpLinkId),
    Tc(Tc),
}

/// A program of TC, and by which way it is attached.
#[derive(Debug)]
enum Tc {
    /// Until the descriptor is closed.
    Tcx(OwnedFd),
    /// Until it is taken off.
    Clsact(SchedClassifierLinkId),
}

impl Tc {
    const fn way(&self) -> &'static str {
        match self {
            Self::Tcx(_) => "tcx",
            Self::Clsact(_) => "clsact",
        }
    }
}

impl Hooked {
    /// Attaches for both directions.
    pub(super) fn attach(
        programs: &mut Programs,
        link: &Link,
        hook: HookChoice,
    ) -> Result<Self, ProbeError> {
        let link_type = programs.link_type;
        // Both at once: what comes in between them would be answered by packets unseen.
        let egress = attach_tc(programs, Program::TcEgress, link)?;
        match attach_ingress(programs, link, hook) {
            Ok(ingress) => Ok(Self { link_type, ingress, egress }),
            Err(error) => {
                drop(detach_tc(programs, Program::TcEgress, egress));
                Err(error)
            }
        }
    }

    pub(super) const fn attachment(&self) -> Attachment {
        let ingress = match &self.ingress {
            Ingress::Xdp(_) => "xdp",
            Ingress::Tc(tc) => tc.way(),
        };
        Attachment { ingress, egress: self.egress.way() }
    }

    /// Takes the programs off, but for those that are off when the descriptors returned are closed.
    /// An interface that is gone has taken them along.
    pub(super) fn detach(self, programs: &mut Programs) -> [Option<OwnedFd>; 2] {
        let ingress = match self.ingress {
            Ingress::Tc(tc) => detach_tc(programs, Program::TcIngress, tc),
            Ingress::Xdp(link) => {
                if let Ok(xdp) = programs.xdp()
                    && let Err(error) = xdp.detach(link)
                {
                    debug!(error = one_line(&error), "xdp was taken off already");
                }
                None
            }
        };
        [ingress, detach_tc(programs, Program::TcEgress, self.egress)]
    }
}

fn attach_ingress(
    programs: &mut Programs,
    link: &Link,
    hook: HookChoice,
) -> Result<Ingress, ProbeError> {
    let tries_xdp = match hook {
        HookChoice::Tc => false,
        HookChoice::Xdp => true,
        // On an interface that is only the kernel's, XDP costs the host its offloads.
        HookChoice::Auto => link.is_physical && link.link_type == LinkType::Ethernet,
    };
    if tries_xdp {
        match attach_xdp(programs, link) {
            Ok(id) => return Ok(Ingress::Xdp(id)),
            Err(error) if hook == HookChoice::Xdp => return Err(error),
            Err(error) => {
                debug!(interface = link.name, error = one_line(&error), "no xdp; tc instead");
            }
        }
    }
    attach_tc(programs, Program::TcIngress, link).map(Ingress::Tc)
}

fn attach_xdp(programs: &mut Programs, link: &Link) -> Result<XdpLinkId, ProbeError> {
    if link.link_type != LinkType::Ethernet {
        return Err(ProbeError::NoXdp {
            interface: link.name.clone(),
            reason: "its packets have no Ethernet header".into(),
        });
    }
    let xdp = programs.xdp()?;
    // In the driver only: the kernel's own substitute for it would linearise every packet.
    xdp.attach_to_if_index(link.index, XdpMode::Driver).map_err(|error| {
        let interface = link.name.clone();
        match system_error(&error) {
            Some(libc::EBUSY | libc::EEXIST) => ProbeError::Busy { interface },
            Some(libc::EPERM | libc::EACCES | libc::ENODEV) => {
                ProbeError::attaching(Program::Xdp.name(), &interface, &error)
            }
            _ => ProbeError::NoXdp { interface, reason: one_line(&error) },
        }
    })
}

fn attach_tc(programs: &mut Programs, program: Program, link: &Link) -> Result<Tc, ProbeError> {
    let tcx_side = match program {
        Program::TcEgress => bpf::BPF_TCX_EGRESS,
        Program::TcIngress | Program::Xdp => bpf::BPF_TCX_INGRESS,
    };
    let refusal = match bpf::attach_tcx(programs.descriptor(program)?, link.index, tcx_side) {
        Ok(attached) => return Ok(Tc::Tcx(attached)),
        Err(error) => error,
    };
    let told = |error: &ProgramError| ProbeError::attaching(program.name(), &link.name, error);
    if !is_tcx_missing(&refusal) {
        let error = SyscallError { call: "bpf_link_create", io_error: refusal };
        return Err(told(&error.into()));
    }
    attach_clsact(programs.tc(program)?, program, link).map_err(|error| told(&error))
}

/// Kernels before 6.6 have no TCX: they do not know what is asked for. Where the hook has as many
/// programs as it takes, the range is exceeded.
fn is_tcx_missing(refusal: &io::Error) -> bool {
    matches!(
        refusal.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::EBUSY | libc::ERANGE)
    )
}

/// By netlink, as a filter of the `clsact` queueing discipline. Such a filter outlives the process
/// that is killed, so that one may be there from before: it counts into tables that nobody reads,
/// and is taken off.
fn attach_clsact(
    tc: &mut aya::programs::SchedClassifier,
    program: Program,
    link: &Link,
) -> Result<Tc, ProgramError> {
    let side = match program {
        Program::TcEgress => TcAttachType::Egress,
        Program::TcIngress | Program::Xdp => TcAttachType::Ingress,
    };
    // It is there already, from us or from somebody else; or attaching fails and says why.
    if let Err(error) = tc::qdisc_add_clsact(&link.name) {
        debug!(interface = link.name, error = one_line(&error), "clsact is not added");
    }
    match tc::qdisc_detach_program(&link.name, side, program.name()) {
        Ok(()) => debug!(interface = link.name, program = program.name(), "took off an old filter"),
        Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            debug!(interface = link.name, error = one_line(&error), "old filters are not known");
        }
    }
    let [first, last] = CLSACT_PRIORITIES
        .map(|priority| TcAttachOptions::Netlink(NlOptions { priority, ..NlOptions::default() }));
    match tc.attach_with_options(&link.name, side, first) {
        Ok(id) => Ok(Tc::Clsact(id)),
        Err(_) => tc.attach_with_options(&link.name, side, last).map(Tc::Clsact),
    }
}

/// Takes a program off, or returns the descriptor that holds it there.
fn detach_tc(programs: &mut Programs, program: Program, attached: Tc) -> Option<OwnedFd> {
    match attached {
        Tc::Tcx(link) => Some(link),
        Tc::Clsact(link) => {
            if let Ok(tc) = programs.tc(program)
                && let Err(error) = tc.detach(link)
            {
                debug!(program = program.name(), error = one_line(&error), "was taken off already");
            }
            None
        }
    }
}

/// Closes descriptors of attached programs. The kernel waits at each until no packet is in the
/// program any more, some 15 ms. It takes one after the other, but those that wait for their turn
/// side by side take 5 ms each.
pub(super) fn close(links: Vec<OwnedFd>) {
    /// More than these gain nothing.
    const THREAD_COUNT: usize = 32;
    let share = links.len().div_ceil(THREAD_COUNT).max(1);
    let mut links = links.into_iter().peekable();
    std::thread::scope(|scope| {
        while links.peek().is_some() {
            let some: Vec<OwnedFd> = links.by_ref().take(share).collect();
            scope.spawn(move || drop(some));
        }
    });
}

#[cfg(test)]
mod tests;
