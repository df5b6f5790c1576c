//! Sends datagrams at a rate, many a system call.

use crate::layout::Header;
use crate::traffic::{self, Flow};
use crate::v9::{self, RECORDS_MAX};
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Datagrams a system call, at most.
const BURST_MAX: usize = 64;
/// A burst is what is due after this time, so that the rate is smooth.
const TICK: Duration = Duration::from_micros(500);

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub collector: SocketAddr,
    /// Flows a second; none means as fast as it goes.
    pub rate: Option<u64>,
    /// Flows in all.
    pub flows: u64,
    /// Seed of the flows.
    pub seed: u64,
    /// Exporters, each with its own socket, Source ID and sequence.
    pub exporters: u32,
    /// A template goes into every so many datagrams of an exporter.
    pub template_interval: u32,
    /// So many flows are made and encoded beforehand, and sent again and again: for rates that
    /// leave no time to make them. None means that each flow sent is another.
    pub repeat: Option<u64>,
}

/// What was sent.
#[derive(Debug)]
pub struct Sent {
    /// Flows.
    pub flows: u64,
    /// Packets that the flows tell of.
    pub packets: u64,
    /// Octets that the flows tell of.
    pub octets: u64,
    /// Datagrams.
    pub datagrams: u64,
    /// System calls that the kernel refused with a full buffer, tried again.
    pub retries: u64,
    /// From first to last.
    pub time: Duration,
    /// How late each burst was, in microseconds.
    pub lateness: Histogram<u64>,
}

struct Exporter {
    socket: UdpSocket,
    domain: u32,
    sequence: u32,
}

/// Sends the load.
pub fn run(load: &Load) -> Result<Sent> {
    let local = if load.collector.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let mut exporters = (0..load.exporters.max(1))
        .map(|domain| {
            let socket = UdpSocket::bind(local).context("open a UDP socket")?;
            Ok(Exporter { socket, domain, sequence: 0 })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut sent = Sent {
        flows: 0,
        packets: 0,
        octets: 0,
        datagrams: 0,
        retries: 0,
        time: Duration::ZERO,
        lateness: Histogram::new(3).context("a histogram")?,
    };
    let mut burst = Burst::new();
    let mut prepared = load.repeat.map(|flows| Prepared::new(load, flows));
    let start = Instant::now();
    let mut turn = 0;
    while sent.flows < load.flows {
        let due = load.rate.map_or(load.flows, |rate| due_at(rate, start.elapsed()));
        let due = due.min(load.flows);
        if due <= sent.flows {
            std::thread::sleep(TICK);
            continue;
        }
        if let Some(rate) = load.rate {
            let wanted = Duration::from_secs_f64(sent.flows as f64 / rate as f64);
            let late = start.elapsed().saturating_sub(wanted);
            sent.lateness.saturating_record(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
        }
        let exporter = &mut exporters[turn];
        turn = (turn + 1) % load.exporters.max(1) as usize;
        let due = due - sent.flows;
        let datagrams = match &mut prepared {
            Some(prepared) => prepared.next(exporter, due, &mut sent),
            None => burst.fill(load, exporter, due, &mut sent),
        };
        sent.retries += send_all(&exporter.socket, load.collector, datagrams)?;
    }
    sent.time = start.elapsed();
    Ok(sent)
}

/// Flows that are due a time after the start.
fn due_at(rate: u64, elapsed: Duration) -> u64 {
    u64::try_from(u128::from(rate) * elapsed.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
}

fn unix_seconds() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

/// Datagrams that are made as they are sent.
struct Burst {
    datagrams: Vec<Vec<u8>>,
    flows: Vec<Flow>,
}

impl Burst {
    fn new() -> Self {
        Self { datagrams: vec![Vec::new(); BURST_MAX], flows: Vec::with_capacity(RECORDS_MAX) }
    }

    /// Encodes up to a burst of the flows that are due.
    fn fill(
        &mut self,
        load: &Load,
        exporter: &mut Exporter,
        mut due: u64,
        sent: &mut Sent,
    ) -> &mut [Vec<u8>] {
        let unix_seconds = unix_seconds();
        let mut filled = 0;
        while due > 0 && filled < BURST_MAX {
            let count = due.min(RECORDS_MAX as u64);
            self.flows.clear();
            for index in sent.flows..sent.flows + count {
                let flow = traffic::flow(load.seed, index);
                sent.packets += u64::from(flow.packets);
                sent.octets += u64::from(flow.octets);
                self.flows.push(flow);
            }
            let header = Header {
                unix_seconds,
                // An exporter that has been up for an hour at the first second sent.
                uptime_millis: 3_600_000,
                sequence: exporter.sequence,
                domain: exporter.domain,
            };
            let with_template = exporter.sequence.is_multiple_of(load.template_interval.max(1));
            v9::encode(&mut self.datagrams[filled], header, with_template, &self.flows);
            exporter.sequence = exporter.sequence.wrapping_add(1);
            filled += 1;
            due -= count;
            sent.flows += count;
            sent.datagrams += 1;
        }
        &mut self.datagrams[..filled]
    }
}

/// Datagrams that were made beforehand. Each burst of them begins with a template; time,
/// sequence and Source ID are put in as they are sent.
struct Prepared {
    datagrams: Vec<Vec<u8>>,
    /// Packets and octets that the flows of each tell of.
    sums: Vec<(u64, u64)>,
    at: usize,
}

impl Prepared {
    fn new(load: &Load, flows: u64) -> Self {
        // Whole bursts, so that every burst has its template.
        let count = flows.div_ceil(RECORDS_MAX as u64).next_multiple_of(BURST_MAX as u64);
        let (mut datagrams, mut sums) = (Vec::new(), Vec::new());
        for number in 0..count {
            let first = number * RECORDS_MAX as u64;
            let flows: Vec<Flow> = (first..first + RECORDS_MAX as u64)
                .map(|index| traffic::flow(load.seed, index))
                .collect();
            let sum = |of: fn(&Flow) -> u32| flows.iter().map(|flow| u64::from(of(flow))).sum();
            sums.push((sum(|flow| flow.packets), sum(|flow| flow.octets)));
            let header =
                Header { unix_seconds: 0, uptime_millis: 3_600_000, sequence: 0, domain: 0 };
            let with_template = number.is_multiple_of(BURST_MAX as u64);
            let mut datagram = Vec::new();
            v9::encode(&mut datagram, header, with_template, &flows);
            datagrams.push(datagram);
        }
        Self { datagrams, sums, at: 0 }
    }

    /// The next burst of whole datagrams, one at least.
    fn next(&mut self, exporter: &mut Exporter, due: u64, sent: &mut Sent) -> &mut [Vec<u8>] {
        let wanted = usize::try_from(due).unwrap_or(usize::MAX) / RECORDS_MAX;
        let first = self.at;
        let end = first + wanted.clamp(1, BURST_MAX - first % BURST_MAX);
        self.at = end % self.datagrams.len();
        let unix_seconds = unix_seconds();
        for (datagram, sums) in self.datagrams[first..end].iter_mut().zip(&self.sums[first..end]) {
            v9::stamp(datagram, unix_seconds, exporter.sequence, exporter.domain);
            exporter.sequence = exporter.sequence.wrapping_add(1);
            sent.flows += RECORDS_MAX as u64;
            sent.packets += sums.0;
            sent.octets += sums.1;
            sent.datagrams += 1;
        }
        &mut self.datagrams[first..end]
    }
}

/// Sends all datagrams; returns how often the kernel's buffer was full.
fn send_all(socket: &UdpSocket, to: SocketAddr, datagrams: &mut [Vec<u8>]) -> Result<u64> {
    let mut address = SocketAddress::from(to);
    let mut vectors: Vec<libc::iovec> = datagrams
        .iter_mut()
        .map(|datagram| libc::iovec {
            iov_base: datagram.as_mut_ptr().cast(),
            iov_len: datagram.len(),
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> =
        vectors.iter_mut().map(|vector| message(&mut address, vector)).collect();
    let (mut done, mut retries) = (0, 0);
    while done < messages.len() {
        let rest = &mut messages[done..];
        let count = u32::try_from(rest.len())?;
        // SAFETY: each header points to one vector, each vector to a datagram's octets, and the
        // address to `address`; all outlive the call, and `count` is their number.
        let result = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), count, 0) };
        match usize::try_from(result) {
            Ok(count) => done += count,
            Err(_) => {
                let error = std::io::Error::last_os_error();
                let full = matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN));
                if !full {
                    return Err(error).context("send datagrams");
                }
                retries += 1;
                std::thread::sleep(TICK);
            }
        }
    }
    Ok(retries)
}

/// A socket address as the kernel takes it.
struct SocketAddress {
    storage: libc::sockaddr_in6,
    size: u32,
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        // SAFETY: a sockaddr_in6 of zeros is a valid value of that plain struct.
        let mut storage: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        let size = match address {
            SocketAddr::V4(address) => {
                let ipv4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as u16,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: a sockaddr_in6 is larger than a sockaddr_in and aligned as strictly.
                unsafe { std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in>().write(ipv4) };
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(address) => {
                storage.sin6_family = libc::AF_INET6 as u16;
                storage.sin6_port = address.port().to_be();
                storage.sin6_addr.s6_addr = address.ip().octets();
                storage.sin6_scope_id = address.scope_id();
                size_of::<libc::sockaddr_in6>()
            }
        };
        Self { storage, size: size as u32 }
    }
}

fn message(address: &mut SocketAddress, vector: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: an mmsghdr of zeros is a valid value of that plain struct: no name, no vectors.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_name = std::ptr::from_mut(&mut address.storage).cast();
    message.msg_hdr.msg_namelen = address.size;
    message.msg_hdr.msg_iov = vector;
    message.msg_hdr.msg_iovlen = 1;
    message
}
