//! Why packets cannot be metered in the kernel, each with the remedy.

use aya::programs::ProgramError;
use aya::programs::tc::TcError;
use aya::programs::xdp::XdpError;
use aya::{EbpfError, maps::MapError};
use std::io;

/// Why packets cannot be metered in the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The process may not use BPF.
    #[error(
        "the kernel refuses BPF to this process ({action}: {source}); run as root or with CAP_BPF, \
         CAP_NET_ADMIN and CAP_PERFMON, or use --hook pcap"
    )]
    Rights {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel is older than what the programs use.
    #[error(
        "this kernel is Linux {found}; flowd's programs need {needed} or newer; use --hook pcap"
    )]
    OldKernel {
        /// The kernel that runs.
        found: String,
        /// The first that has all that is used.
        needed: &'static str,
        /// What does without.
        hook: &'static str,
    },
    /// The kernel's verifier found fault with a program.
    #[error(
        "the kernel does not take the program {program} ({reason}); please report it with the \
         output of `uname -a`, and use --hook pcap meanwhile"
    )]
    Verifier {
        /// Which program.
        program: &'static str,
        /// The last word of the verifier, or of the system.
        reason: String,
    },
    /// Something else is attached where only one can be.
    #[error("{interface}: another XDP program is attached; use --hook tc, which shares")]
    Busy {
        /// The interface's name.
        interface: String,
    },
    /// The driver cannot run XDP programs.
    #[error("{interface}: its driver runs no XDP programs ({reason}); use --hook tc")]
    NoXdp {
        /// The interface's name.
        interface: String,
        /// What the system said.
        reason: String,
    },
    /// The interface is gone.
    #[error("{interface}: there is no such interface any more")]
    Gone {
        /// The interface's name.
        interface: String,
    },
    /// A program cannot be attached for another cause.
    #[error("{interface}: {program} cannot be attached ({reason}); use --hook pcap")]
    Attach {
        /// The interface's name.
        interface: String,
        /// Which program.
        program: &'static str,
        /// What the system said.
        reason: String,
    },
    /// More interfaces than the ledger has room for.
    #[error("{interface}: more than {limit} interfaces; leave some out with --exclude")]
    TooManyInterfaces {
        /// The interface's name.
        interface: String,
        /// The limit.
        limit: usize,
    },
    /// The system refused an operation on the programs' maps.
    #[error("the kernel's flow tables cannot be used ({action}: {source})")]
    Maps {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The object is not what this program was built with.
    #[error("the built-in kernel programs cannot be read ({reason}); build flowd anew")]
    Object {
        /// What is wrong with it.
        reason: String,
    },
}

impl ProbeError {
    /// An error of the system while maps were made or used.
    pub(super) fn maps(action: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Rights { action, source },
            _ => Self::Maps { action, source },
        }
    }

    /// What using one of the object's maps said.
    pub(super) fn object(error: MapError) -> Self {
        Self::loading(EbpfError::MapError(error))
    }

    /// What loading the object said.
    pub(super) fn loading(error: EbpfError) -> Self {
        const ACTION: &str = "make the flow tables";
        match error {
            EbpfError::MapError(MapError::CreateError { io_error, .. }) => {
                Self::maps(ACTION, io_error)
            }
            EbpfError::MapError(MapError::SyscallError(error)) => {
                Self::maps(ACTION, error.io_error)
            }
            other => Self::Object { reason: one_line(&other) },
        }
    }

    /// What loading a program said.
    pub(super) fn program(program: &'static str, error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                let is_refused = io_error.kind() == io::ErrorKind::PermissionDenied;
                if (is_refused && log.is_empty()) || lacks_perfmon() {
                    return Self::Rights { action: "load the programs", source: io_error };
                }
                let reason = objection(&log).map_or_else(|| io_error.to_string(), str::to_owned);
                Self::Verifier { program, reason }
            }
            other => Self::Verifier { program, reason: one_line(&other) },
        }
    }

    /// What attaching a program to an interface said.
    pub(super) fn attaching(program: &'static str, interface: &str, error: &ProgramError) -> Self {
        let interface = interface.to_owned();
        match system_error(error) {
            Some(libc::EPERM | libc::EACCES) => Self::Rights {
                action: "attach the programs",
                source: io::Error::from_raw_os_error(libc::EPERM),
            },
            Some(libc::ENODEV | libc::ENXIO) => Self::Gone { interface },
            _ => Self::Attach { interface, program, reason: one_line(error) },
        }
    }
}

/// What the verifier objects to: the last line of its log but its statistics.
fn objection(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    let lines = log.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    lines.into_iter().find(|line| !STATISTICS.iter().any(|word| line.starts_with(word)))
}

/// Without `CAP_PERFMON` the verifier objects to programs that it takes else, as if they were at
/// fault. A system that does not tell is taken to have let us.
fn lacks_perfmon() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| !has_perfmon(&status))
}

fn has_perfmon(status: &str) -> bool {
    /// Bits of linux/capability.h; `CAP_SYS_ADMIN` has what was split off it later.
    const PERFMON: u64 = 1 << 38;
    const SYS_ADMIN: u64 = 1 << 21;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    effective.is_none_or(|bits| bits & (PERFMON | SYS_ADMIN) != 0)
}

/// The system's own number of an error of attaching.
pub(super) fn system_error(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::TcError(TcError::IoError(error)) => error.raw_os_error(),
        ProgramError::TcError(TcError::NetlinkError(error))
        | ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    }
}

/// An error with its sources, in one line.
pub(super) fn one_line(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = error.source();
    }
    words.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_s_statistics_are_no_objection() {
        let log = "0: (95) exit\nR0 !read_ok\nverification time 12 usec\nstack depth 96+128\n\
                   processed 1 insns (limit 1000000) max_states_per_insn 0\n\n";
        assert_eq!(objection(log), Some("R0 !read_ok"));
        assert_eq!(objection("processed 1 insns\n"), None);
    }

    #[test]
    fn the_right_to_what_the_programs_do_is_seen() {
        for (bits, expected) in [
            ("000001ffffffffff", true),
            ("0000004000000000", true),
            ("0000000000200000", true),
            ("0000008000001000", false),
            ("0000000000000000", false),
            ("no number", true),
        ] {
            assert_eq!(has_perfmon(&format!("Name:\tx\nCapEff:\t{bits}\n")), expected, "{bits}");
        }
        assert!(has_perfmon("Name:\tx\n"));
    }
}
