//! A socket for each exporter of the capture: the collector tells them apart by their ports.

use super::{NotSent, Report, mtu};
use crate::telemetry::Reason;
use hashbrown::HashMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Exporters, each with a socket of its own. A process has 1,024 files unless told otherwise.
pub(super) const EXPORTER_COUNT_MAX: usize = 900;
/// Octets of IP and UDP header before the payload, by family.
const HEADERS_SIZE_V4: usize = 28;
const HEADERS_SIZE_V6: usize = 48;

/// The ways to the collector.
#[derive(Debug)]
pub(super) struct Sockets {
    collector: SocketAddr,
    by_exporter: HashMap<SocketAddr, Way>,
    refused: u64,
    refused_octets: u64,
    pub(super) path_mtu: Option<usize>,
    fragmented: u64,
    last_error: Option<io::Error>,
}

#[derive(Debug)]
struct Way {
    socket: UdpSocket,
    /// Octets of the last datagram, which a refusal is the answer to.
    last_size: usize,
}

impl Sockets {
    pub(super) fn new(collector: SocketAddr) -> Self {
        Self {
            collector,
            by_exporter: HashMap::new(),
            refused: 0,
            refused_octets: 0,
            path_mtu: None,
            fragmented: 0,
            last_error: None,
        }
    }

    /// Sends a datagram of this exporter.
    pub(super) fn send(&mut self, from: SocketAddr, payload: &[u8]) -> Result<(), NotSent> {
        if !self.by_exporter.contains_key(&from) {
            if self.by_exporter.len() >= EXPORTER_COUNT_MAX {
                return Err(NotSent::ExporterOverLimit);
            }
            let socket = self.open().map_err(|error| self.failed(error))?;
            self.path_mtu = mtu::of_path(&socket, self.collector);
            self.by_exporter.insert(from, Way { socket, last_size: 0 });
        }
        let Some(way) = self.by_exporter.get_mut(&from) else {
            return Err(NotSent::ExporterOverLimit);
        };
        let mut sent = way.socket.send(payload);
        if matches!(&sent, Err(error) if error.kind() == ErrorKind::ConnectionRefused) {
            // It is the answer to the datagram before, and kept this one from leaving.
            self.refused += 1;
            self.refused_octets += u64::try_from(way.last_size).unwrap_or(u64::MAX);
            sent = way.socket.send(payload);
        }
        way.last_size = payload.len();
        sent.map_err(|error| self.failed(error))?;
        let headers = if self.collector.is_ipv4() { HEADERS_SIZE_V4 } else { HEADERS_SIZE_V6 };
        if self.path_mtu.is_some_and(|mtu| payload.len() + headers > mtu) {
            self.fragmented += 1;
        }
        Ok(())
    }

    /// Writes down what the sockets know, and what their last datagrams were answered.
    pub(super) fn tell(mut self, report: &mut Report) {
        for way in self.by_exporter.values() {
            let error = way.socket.take_error().ok().flatten();
            if error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                self.refused += 1;
                self.refused_octets += u64::try_from(way.last_size).unwrap_or(u64::MAX);
            }
        }
        report.exporters = self.by_exporter.len();
        report.fragmented =
            self.path_mtu.filter(|_| self.fragmented > 0).map(|mtu| (self.fragmented, mtu));
        if self.refused > 0 {
            // They were taken for sent.
            report.datagrams = report.datagrams.saturating_sub(self.refused);
            report.octets = report.octets.saturating_sub(self.refused_octets);
            *report.not_sent.entry(NotSent::Refused.name()).or_default() += self.refused;
        }
        report.last_error = self.last_error;
    }

    fn open(&self) -> io::Result<UdpSocket> {
        let any = match self.collector {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(self.collector)?;
        Ok(socket)
    }

    fn failed(&mut self, error: io::Error) -> NotSent {
        let reason = match error.kind() {
            ErrorKind::ConnectionRefused => NotSent::Refused,
            ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable => NotSent::Unreachable,
            _ if error.raw_os_error() == Some(libc::EMSGSIZE) => NotSent::TooLarge,
            _ => NotSent::Failed,
        };
        self.last_error = Some(error);
        reason
    }
}
