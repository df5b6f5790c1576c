//! Datagrams repeated, as they came, to other receivers. In: what was received. Out: the same
//! octets, from an address of ours. Never: a wait; what a receiver does not take at once is
//! counted and let go.

use super::books::by_name;
use crate::telemetry::{Counter, Drops, Reason};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// Why a datagram was not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardDrop {
    /// The receiver's host said that nobody listens there.
    Refused,
    /// The way out is full.
    Full,
    /// It is larger than the way out takes.
    TooLarge,
    /// The system refused it for another reason: there is no route, or a firewall.
    Failed,
}

impl Reason for ForwardDrop {
    const ALL: &'static [Self] = &[Self::Refused, Self::Full, Self::TooLarge, Self::Failed];

    fn index(self) -> usize {
        match self {
            Self::Refused => 0,
            Self::Full => 1,
            Self::TooLarge => 2,
            Self::Failed => 3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Full => "full",
            Self::TooLarge => "tooLarge",
            Self::Failed => "failed",
        }
    }
}

/// What became of the datagrams for one receiver: what was for it is handed over or dropped.
#[derive(Debug, Default)]
struct Counts {
    /// Datagrams that were for it.
    offered: Counter,
    drops: Drops<ForwardDrop>,
}

/// The receivers, which all workers share.
#[derive(Clone, Debug, Default)]
pub struct ForwardTargets(Arc<[(SocketAddr, Counts)]>);

impl ForwardTargets {
    /// These receivers.
    #[must_use]
    pub fn new(addresses: &[SocketAddr]) -> Self {
        Self(addresses.iter().map(|&address| (address, Counts::default())).collect())
    }

    /// What became of the datagrams for each, by address.
    #[must_use]
    pub fn statistics(&self) -> BTreeMap<String, ForwardStatistics> {
        let of = |counts: &Counts| {
            // In this order: what is dropped meanwhile must not be missing from what was offered.
            let not_sent = by_name(&counts.drops);
            let dropped = not_sent.values().sum();
            ForwardStatistics { sent: counts.offered.value().saturating_sub(dropped), not_sent }
        };
        self.0.iter().map(|(address, counts)| (address.to_string(), of(counts))).collect()
    }
}

/// What became of the datagrams for one receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ForwardStatistics {
    /// Handed to the network, and no refusal came back.
    pub sent: u64,
    /// The others, by reason.
    pub not_sent: BTreeMap<String, u64>,
}

impl ForwardStatistics {
    /// Adds the counts of a later run.
    pub fn add(&mut self, later: &Self) {
        let Self { sent, not_sent } = later;
        self.sent = self.sent.saturating_add(*sent);
        for (reason, count) in not_sent {
            let sum = self.not_sent.entry(reason.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}

/// One worker's sockets to the receivers.
#[derive(Debug)]
pub(super) struct Forwarder {
    targets: ForwardTargets,
    /// One a receiver, in their order, so that a refusal is known to be its own.
    sockets: Vec<UdpSocket>,
}

impl Forwarder {
    /// Opens the sockets. None of them ever waits.
    pub(super) fn open(targets: &ForwardTargets) -> io::Result<Self> {
        let open = |(address, _): &(SocketAddr, Counts)| {
            let local = match address {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            let socket = UdpSocket::bind(local)?;
            socket.set_nonblocking(true)?;
            socket.connect(address)?;
            Ok(socket)
        };
        let sockets = targets.0.iter().map(open).collect::<io::Result<_>>()?;
        Ok(Self { targets: targets.clone(), sockets })
    }

    /// Sends a datagram to all receivers.
    pub(super) fn forward(&self, datagram: &[u8]) {
        for (socket, (_, counts)) in self.sockets.iter().zip(self.targets.0.iter()) {
            counts.offered.add(1);
            let mut sent = socket.send(datagram);
            // A refusal is of a datagram before: that one did not arrive, and this one has yet
            // to be sent.
            if is_refusal(&sent) {
                counts.drops.count(ForwardDrop::Refused, 1);
                sent = socket.send(datagram);
            }
            if let Err(error) = sent {
                counts.drops.count(reason_of(&error), 1);
            }
        }
    }
}

fn is_refusal(sent: &io::Result<usize>) -> bool {
    sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn reason_of(error: &io::Error) -> ForwardDrop {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::ConnectionRefused, _) => ForwardDrop::Refused,
        (io::ErrorKind::WouldBlock, _) | (_, Some(libc::ENOBUFS)) => ForwardDrop::Full,
        (_, Some(libc::EMSGSIZE)) => ForwardDrop::TooLarge,
        _ => ForwardDrop::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_receiver_gets_the_octets_and_a_refusal_is_its_own() {
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        there.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // Nobody listens on a port that was just given back.
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let targets = ForwardTargets::new(&[gone, there.local_addr().unwrap()]);
        let forwarder = Forwarder::open(&targets).unwrap();
        for size in 0..10_u8 {
            forwarder.forward(&vec![size; usize::from(size)]);
            let mut buffer = [0; 100];
            let got = there.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..got], vec![size; usize::from(size)]);
        }
        let statistics = targets.statistics();
        let there = &statistics[&there.local_addr().unwrap().to_string()];
        assert_eq!(there, &ForwardStatistics { sent: 10, not_sent: BTreeMap::new() });
        let gone = &statistics[&gone.to_string()];
        assert!(gone.not_sent["refused"] >= 4, "{gone:?}");
        assert_eq!(gone.sent + gone.not_sent["refused"], 10);
    }

    #[test]
    fn what_is_too_large_is_counted() {
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let targets = ForwardTargets::new(&[there.local_addr().unwrap()]);
        Forwarder::open(&targets).unwrap().forward(&[0; 65_536]);
        let statistics = targets.statistics();
        let (_, counts) = statistics.first_key_value().unwrap();
        assert_eq!((counts.sent, counts.not_sent["tooLarge"]), (0, 1));
    }
}
