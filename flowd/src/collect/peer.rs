//! Who sends, and by what.

use std::net::SocketAddr;

/// What carries messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram is a message.
    Udp,
    /// A connection is a stream of messages.
    Tcp,
}

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address and port.
    pub address: SocketAddr,
    /// By what.
    pub transport: Transport,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Udp }
    }
}
