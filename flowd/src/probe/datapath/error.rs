//! Why packets cannot be metered in the kernel, each with the remedy.

use aya::programs::ProgramError;
use aya::programs::tc::TcError;
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
                if io_error.kind() == io::ErrorKind::PermissionDenied
                    && verifier_log.to_string().is_empty()
                {
                    return Self::Rights { action: "load the programs", source: io_error };
                }
                // The verifier's last lines but its statistics say what it objects to.
                let log = verifier_log.to_string();
                let words = log.lines().rev().map(str::trim);
                let objection = words
                    .filter(|line| !line.is_empty() && !line.starts_with("processed "))
                    .find(|line| !line.starts_with("verification time"));
                Self::Verifier {
                    program,
                    reason: objection.map_or_else(|| io_error.to_string(), str::to_owned),
                }
            }
            other => Self::Verifier { program, reason: one_line(&other) },
        }
    }

    /// What attaching a program to an interface said.
    pub(super) fn attaching(program: &'static str, interface: &str, error: &ProgramError) -> Self {
        let interface = interface.to_owned();
        match system_error(error).and_then(io::Error::raw_os_error) {
            Some(libc::EPERM | libc::EACCES) => Self::Rights {
                action: "attach the programs",
                source: io::Error::from_raw_os_error(libc::EPERM),
            },
            Some(libc::ENODEV | libc::ENXIO) => Self::Gone { interface },
            _ => Self::Attach { interface, program, reason: one_line(error) },
        }
    }
}

/// The system's own word in an error of attaching.
pub(super) fn system_error(error: &ProgramError) -> Option<&io::Error> {
    match error {
        ProgramError::SyscallError(error) => Some(&error.io_error),
        ProgramError::TcError(TcError::IoError(error)) => Some(error),
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
