//! Where to listen, and why that cannot be.

use super::Transport;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// A transport with an address of this machine: `udp://0.0.0.0:2055`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// By datagrams or by connections.
    pub transport: Transport,
    /// Address and port. `[::]` takes IPv4 too; port 0 is any that is free.
    pub address: SocketAddr,
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl ListenAddress {
    /// The option of ss(8) that lists those who listen by this transport.
    const fn ss_option(self) -> &'static str {
        match self.transport {
            Transport::Udp => "-ulpn",
            Transport::Tcp => "-tlpn",
        }
    }
}

/// Why an address cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process has the port.
    #[error(
        "{0} is in use: stop the process that has it \
         (`ss {option} 'sport = :{port}'` names it) or listen at another port",
        option = .0.ss_option(),
        port = .0.address.port()
    )]
    InUse(ListenAddress),
    /// No network of this machine has the address.
    #[error("{0} is no address of this machine: `ip address` lists those it has")]
    NoSuchAddress(ListenAddress),
    /// The port is one that only root may have.
    #[error("{0} may not be listened at by this user: choose a port from 1024 on")]
    NotAllowed(ListenAddress),
    /// The system refused something else.
    #[error(
        "{address} cannot be listened at ({source}): listen at an address that `ip address` \
         lists; too many open files need a higher `ulimit -n`"
    )]
    System {
        /// Where.
        address: ListenAddress,
        /// What the system said.
        source: io::Error,
    },
}

impl ListenError {
    pub(super) fn new(address: ListenAddress, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress(address),
            io::ErrorKind::PermissionDenied => Self::NotAllowed(address),
            _ => Self::System { address, source },
        }
    }
}
