//! Pace: as fast as a collector takes it, and no faster.
//!
//! A replay makes hours of flows in a second. UDP has no flow control, but a collector on this
//! machine shows how much of its receive buffer is filled, in `/proc/net/udp`: sending waits
//! while that is above a bound. A collector elsewhere gets a plain rate.

use crate::telemetry::Flag;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::sync::Arc;
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
/// Times that a queue is waited for in vain before it is not waited for any more: a minute in
/// all, however often something takes a little out of it.
const OVERRUN_COUNT_MAX: u32 = 12;
/// A long wait looks at the wish to stop this often.
const STOP_LOOK_INTERVAL: Duration = Duration::from_millis(100);
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
pub struct Pacer {
    way: Way,
    /// Messages since the last look or pause.
    burst: u32,
    /// Raised when nobody wants to wait any more.
    stop: Arc<Flag>,
}

#[derive(Debug)]
enum Way {
    Free,
    Local(LocalQueue),
    Rate(NonZeroU32),
}

/// The receive queue of a collector's sockets on this machine.
#[derive(Debug)]
struct LocalQueue {
    collector: SocketAddr,
    /// It was waited for in vain, and was not below the bound since.
    is_dead: bool,
    /// Looks that a wait takes at most.
    look_count_max: u32,
    overruns: u32,
    table: String,
}

impl Pacer {
    /// A pace to this collector, whose waits end when the flag is raised.
    #[must_use]
    pub fn new(pace: Pace, collector: SocketAddr, stop: Arc<Flag>) -> Self {
        let way = match pace {
            Pace::AsMade => Way::Free,
            Pace::AsTaken { .. } if is_local(collector) => Way::Local(LocalQueue::new(collector)),
            Pace::AsTaken { remote_rate } => Way::Rate(remote_rate),
        };
        Self { way, burst: 0, stop }
    }

    /// Waits until one more message may leave, or somebody wants to stop. False if a queue
    /// stayed full for too long.
    pub fn wait(&mut self) -> bool {
        if matches!(self.way, Way::Free) || !self.is_due() {
            return true;
        }
        match &mut self.way {
            Way::Free => true,
            Way::Local(queue) => queue.wait(&self.stop),
            Way::Rate(rate) => {
                let burst = Duration::from_secs(1).saturating_mul(BURST_MESSAGES);
                let mut left = burst.checked_div(rate.get()).unwrap_or(burst);
                while !left.is_zero() && !self.stop.is_raised() {
                    let step = left.min(STOP_LOOK_INTERVAL);
                    std::thread::sleep(step);
                    left = left.saturating_sub(step);
                }
                true
            }
        }
    }

    fn is_due(&mut self) -> bool {
        self.burst = self.burst.saturating_add(1);
        let due = self.burst >= BURST_MESSAGES;
        if due {
            self.burst = 0;
        }
        due
    }
}

impl LocalQueue {
    const fn new(collector: SocketAddr) -> Self {
        Self {
            collector,
            is_dead: false,
            look_count_max: LOOK_COUNT_MAX,
            overruns: 0,
            table: String::new(),
        }
    }

    /// Waits until there is room. False if it waited in vain: then nobody reads, and it does not
    /// wait again before a look finds that somebody does.
    fn wait(&mut self, stop: &Flag) -> bool {
        if self.overruns >= OVERRUN_COUNT_MAX {
            return true;
        }
        if self.is_dead {
            self.is_dead = self.is_full();
            return true;
        }
        for _ in 0..self.look_count_max {
            if stop.is_raised() || !self.is_full() {
                return true;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        self.is_dead = true;
        self.overruns = self.overruns.saturating_add(1);
        false
    }

    fn is_full(&mut self) -> bool {
        self.size() > QUEUE_SIZE_MAX
    }

    /// Octets in the fullest of the collector's queues; none if nobody listens or nothing can be
    /// read.
    fn size(&mut self) -> u64 {
        let mut queues = Queues::default();
        for path in SOCKET_TABLES {
            self.table.clear();
            let read = File::open(path).and_then(|mut file| file.read_to_string(&mut self.table));
            if read.is_ok() {
                queues.look(&self.table, self.collector);
            }
        }
        queues.size()
    }
}

/// The fullest receive queues that datagrams to one address may end in.
#[derive(Debug, Default)]
struct Queues {
    /// Of the sockets that are bound to the address itself: they come before all others.
    own: Option<u64>,
    /// Of those that are bound to all addresses.
    wildcard: Option<u64>,
}

impl Queues {
    /// Looks through a table of sockets (proc(5): the second column is the local address, the
    /// fifth `tx_queue:rx_queue` in octets as the kernel accounts them, all in hex).
    fn look(&mut self, table: &str, collector: SocketAddr) {
        // What is sent to no address in particular goes to this machine.
        let ip = match collector.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        for (local, size) in table.lines().skip(1).filter_map(socket_queue) {
            let local_ip = local.ip().to_canonical();
            if local.port() != collector.port() {
                continue;
            }
            if local_ip == ip {
                self.own = self.own.max(Some(size));
            } else if local_ip.is_unspecified() && (local_ip.is_ipv6() || ip.is_ipv4()) {
                self.wildcard = self.wildcard.max(Some(size));
            }
        }
    }

    fn size(&self) -> u64 {
        self.own.or(self.wildcard).unwrap_or(0)
    }
}

/// The local address and the receive queue of a line of the table.
fn socket_queue(line: &str) -> Option<(SocketAddr, u64)> {
    let mut columns = line.split_ascii_whitespace();
    let (ip, port) = columns.nth(1)?.rsplit_once(':')?;
    let (_, rx_queue) = columns.nth(2)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((SocketAddr::new(table_address(ip)?, port), u64::from_str_radix(rx_queue, 16).ok()?))
}

/// An address as the table has it: words of 32 bits, each printed as this machine's number.
fn table_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at..at.checked_add(8)?)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets = <[u8; 16]>::try_from(words.as_flattened()).ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// Does the address belong to this machine? Only such a one can be bound.
fn is_local(address: SocketAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace::AsTaken { remote_rate: NonZeroU32::MIN };

    fn local(collector: SocketAddr) -> LocalQueue {
        match Pacer::new(PACE, collector, Arc::default()).way {
            Way::Local(queue) => queue,
            other => panic!("{collector} is of this machine: {other:?}"),
        }
    }

    /// A socket that nobody reads, with more in its queue than the bound.
    fn unread() -> (UdpSocket, SocketAddr) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let collector = receiver.local_addr().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..300 {
            sender.send_to(&[0; 1_000], collector).unwrap();
        }
        (receiver, collector)
    }

    #[test]
    fn reads_the_fullest_queue_of_an_address() {
        let lines = |lines: &[(String, &str)]| {
            let mut table = String::from("  sl  local_address rem_address st tx_queue rx_queue\n");
            for (local, queue) in lines {
                table += &format!("  12: {local} 00000000:0000 07 00000000:{queue} 00:00 0\n");
            }
            table
        };
        let v4 = |octets: [u8; 4]| format!("{:08X}:0807", u32::from_ne_bytes(octets));
        let v6 = |address: Ipv6Addr| {
            let octets = address.octets();
            let words = octets.as_chunks::<4>().0.iter();
            let words: String =
                words.map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect();
            format!("{words}:0807")
        };
        let size = |table: &str, collector: &str| {
            let mut queues = Queues::default();
            queues.look(table, collector.parse().unwrap());
            queues.size()
        };
        let table = lines(&[
            (v4([127, 0, 0, 1]), "00001200"),
            (v4([127, 0, 0, 1]), "00021F00"),
            (v4([127, 0, 0, 2]), "0FFFFFFF"),
            (v4([0, 0, 0, 0]), "00000333"),
            (v6(Ipv6Addr::LOCALHOST), "00000444"),
            ("0100007F:0808".into(), "0FFFFFFF"),
        ]);
        assert_eq!(size(&table, "127.0.0.1:2055"), 0x2_1f00);
        assert_eq!(size(&table, "0.0.0.0:2055"), 0x2_1f00);
        assert_eq!(size(&table, "127.0.0.3:2055"), 0x333, "the wildcard's");
        assert_eq!(size(&table, "[::1]:2055"), 0x444);
        assert_eq!(size(&table, "[2001:db8::1]:2055"), 0, "no wildcard of IPv6");
        assert_eq!(size(&table, "127.0.0.1:1"), 0);
        let dual = lines(&[(v6(Ipv6Addr::UNSPECIFIED), "00000555")]);
        assert_eq!(size(&dual, "127.0.0.1:2055"), 0x555);
        assert_eq!(size(&dual, "[::1]:2055"), 0x555);
        assert_eq!(size("", "127.0.0.1:2055"), 0);
    }

    #[test]
    fn a_queue_that_nobody_empties_is_seen_to_grow() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let receiver = UdpSocket::bind(address).unwrap();
            let collector = receiver.local_addr().unwrap();
            let mut queue = local(collector);
            assert_eq!(queue.size(), 0);
            let sender = UdpSocket::bind(SocketAddr::new(collector.ip(), 0)).unwrap();
            for _ in 0..10 {
                sender.send_to(&[0; 1_000], collector).unwrap();
            }
            assert!(queue.size() >= 10_000);
        }
    }

    #[test]
    fn a_queue_that_nobody_empties_is_waited_for_once() {
        let (receiver, collector) = unread();
        let mut queue = local(collector);
        queue.look_count_max = 3;
        let stop = Flag::default();
        assert!(!queue.wait(&stop), "waited in vain");
        for _ in 0..100 {
            assert!(queue.wait(&stop));
        }
        assert_eq!((queue.overruns, queue.is_dead), (1, true));
        // Somebody empties it: it is waited for again, but not for ever.
        receiver.set_nonblocking(true).unwrap();
        while receiver.recv(&mut [0; 2_000]).is_ok() {}
        assert!(queue.wait(&stop));
        assert!(!queue.is_dead);
        drop(receiver);
        let (_receiver, collector) = unread();
        queue.collector = collector;
        for _ in 0..100 {
            queue.wait(&stop);
            queue.is_dead = false;
        }
        assert_eq!(queue.overruns, OVERRUN_COUNT_MAX);
    }

    #[test]
    fn who_wants_to_stop_does_not_wait() {
        let (_receiver, collector) = unread();
        for collector in [collector, "192.0.2.77:2055".parse().unwrap()] {
            let stop = Arc::new(Flag::default());
            stop.raise();
            let mut pacer = Pacer::new(PACE, collector, stop);
            if let Way::Local(queue) = &mut pacer.way {
                queue.look_count_max = 3;
            }
            // At one message a second this would take 96 s.
            assert!((0..100).all(|_| pacer.wait()), "{collector}");
        }
    }

    #[test]
    fn addresses_of_other_machines_have_a_rate() {
        let pace = Pace::AsTaken { remote_rate: NonZeroU32::MAX };
        let mut pacer = Pacer::new(pace, "192.0.2.77:2055".parse().unwrap(), Arc::default());
        assert!(matches!(pacer.way, Way::Rate(_)));
        assert!((0..100).all(|_| pacer.wait()));
    }
}
