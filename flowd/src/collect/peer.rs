//! Who sent a message, and over what.

use std::net::{IpAddr, SocketAddr};

/// What carried a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A datagram: it may be lost, doubled and late, and so may a template.
    Udp,
    /// A connection: templates live as long as it does, and may be withdrawn (RFC 7011
    /// section 8.1).
    Tcp,
}

/// The other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its address and port.
    pub address: SocketAddr,
    /// What it sends over.
    pub transport: Transport,
}

impl Peer {
    /// One that sends datagrams.
    #[must_use]
    pub const fn udp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Udp }
    }

    /// One that has a connection.
    #[must_use]
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Tcp }
    }

    /// Its address; `::ffff:a.b.c.d` is `a.b.c.d`.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::udp(address)
    }
}
