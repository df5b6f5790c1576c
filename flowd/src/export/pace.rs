//! Pace: as fast as a collector takes it, and no faster.
//!
//! A replay makes hours of flows in a second. UDP has no flow control, but a collector on this
//! machine shows how much of its receive buffer is filled, in `/proc/net/udp`: sending waits
//! while that is above a bound. A collector elsewhere gets a plain rate.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::time::Duration;

/// Messages between two looks. With their bookkeeping they take 40 to 70 KiB of the receiver's
/// buffer, which has 208 KiB by default: bound and one burst fit.
const BURST_MESSAGES: u32 = 16;
/// A queue of more octets than this is let drain.
const QUEUE_SIZE_MAX: u64 = 96 << 10;
/// How long to wait before looking again.
const LOOK_INTERVAL: Duration = Duration::from_micros(100);
/// Looks after which sending goes on although the queue is full: about 5 s, far more than a
/// collector that is alive needs.
const LOOK_COUNT_MAX: u32 = 20_000;
/// The kernel's lists of UDP sockets.
const SOCKET_TABLES: [&str; 2] = ["/proc/net/udp", "/proc/net/udp6"];

/// How fast messages may leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As they are made: the records come at the speed of real traffic.
    #[default]
    AsMade,
    /// As fast as a collector on this machine takes them in; to any other, so many messages a
    /// second.
    AsTaken {
        /// Messages a second to a collector on another machine.
        remote_rate: NonZeroU32,
    },
}

/// The pace to one collector.
#[derive(Debug)]
pub(super) enum Pacer {
    Free,
    Local(LocalQueue),
    Rate { rate: NonZeroU32, burst: u32 },
}

/// The receive queue of sockets on this machine.
#[derive(Debug)]
pub(super) struct LocalQueue {
    port: u16,
    burst: u32,
    table: String,
}

impl Pacer {
    pub(super) fn new(pace: Pace, collector: SocketAddr) -> Self {
        match pace {
            Pace::AsMade => Self::Free,
            Pace::AsTaken { .. } if is_local(collector) => {
                Self::Local(LocalQueue { port: collector.port(), burst: 0, table: String::new() })
            }
            Pace::AsTaken { remote_rate } => Self::Rate { rate: remote_rate, burst: 0 },
        }
    }

    /// Waits until one more message may leave. False if a queue stayed full for too long.
    pub(super) fn wait(&mut self) -> bool {
        match self {
            Self::Free => true,
            Self::Local(queue) => {
                if !is_due(&mut queue.burst) {
                    return true;
                }
                queue.wait()
            }
            Self::Rate { rate, burst } => {
                if is_due(burst) {
                    let burst = Duration::from_secs(1).saturating_mul(BURST_MESSAGES);
                    std::thread::sleep(burst.checked_div(rate.get()).unwrap_or(burst));
                }
                true
            }
        }
    }
}

fn is_due(burst: &mut u32) -> bool {
    *burst = burst.saturating_add(1);
    let due = *burst >= BURST_MESSAGES;
    if due {
        *burst = 0;
    }
    due
}

impl LocalQueue {
    fn wait(&mut self) -> bool {
        for _ in 0..LOOK_COUNT_MAX {
            if self.size() <= QUEUE_SIZE_MAX {
                return true;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        false
    }

    /// Octets in the fullest queue at the port; none if nobody listens or nothing can be read.
    fn size(&mut self) -> u64 {
        let mut size = 0;
        for path in SOCKET_TABLES {
            self.table.clear();
            let read = File::open(path).and_then(|mut file| file.read_to_string(&mut self.table));
            if read.is_ok() {
                size = queue_size(&self.table, self.port).unwrap_or(0).max(size);
            }
        }
        size
    }
}

/// The fullest receive queue of the sockets at a port, in octets as the kernel accounts them
/// (proc(5): the second column is the local address, the fifth `tx_queue:rx_queue`, all in hex).
fn queue_size(table: &str, port: u16) -> Option<u64> {
    let queue = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let (_, local_port) = columns.nth(1)?.rsplit_once(':')?;
        if u16::from_str_radix(local_port, 16) != Ok(port) {
            return None;
        }
        let (_, rx_queue) = columns.nth(2)?.split_once(':')?;
        u64::from_str_radix(rx_queue, 16).ok()
    };
    table.lines().skip(1).filter_map(queue).max()
}

/// Does the address belong to this machine? Only such a one can be bound.
fn is_local(address: SocketAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fullest_queue_of_a_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n\
            \x20 12: 0100007F:0807 00000000:0000 07 00000000:00001200 00:00000000 00000000 0\n\
            \x20 12: 00000000:0807 00000000:0000 07 00000010:00021F00 00:00000000 00000000 0\n\
            \x20 13: 0100007F:0808 00000000:0000 07 00000000:0FFFFFFF 00:00000000 00000000 0\n";
        assert_eq!(queue_size(table, 0x807), Some(0x2_1f00));
        assert_eq!(queue_size(table, 1), None);
        assert_eq!(queue_size("", 0x807), None);
    }

    #[test]
    fn a_queue_that_nobody_empties_is_seen_to_grow() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let receiver = UdpSocket::bind(address).unwrap();
            let collector = receiver.local_addr().unwrap();
            let pace = Pace::AsTaken { remote_rate: NonZeroU32::MIN };
            let Pacer::Local(mut queue) = Pacer::new(pace, collector) else {
                panic!("{collector} is of this machine");
            };
            assert_eq!(queue.size(), 0);
            let sender = UdpSocket::bind(SocketAddr::new(collector.ip(), 0)).unwrap();
            for _ in 0..10 {
                sender.send_to(&[0; 1_000], collector).unwrap();
            }
            assert!(queue.size() >= 10_000);
        }
    }

    #[test]
    fn addresses_of_other_machines_have_a_rate() {
        let pace = Pace::AsTaken { remote_rate: NonZeroU32::MAX };
        let mut pacer = Pacer::new(pace, "192.0.2.77:2055".parse().unwrap());
        assert!(matches!(pacer, Pacer::Rate { .. }));
        assert!((0..100).all(|_| pacer.wait()));
    }
}
