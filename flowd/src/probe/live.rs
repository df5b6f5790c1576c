//! live: packets of live interfaces through libpcap, where BPF programs are refused.
//!
//! Each interface has a handle for what it receives and one for what it sends, so that what the
//! kernel had no room for is counted for the direction that it went. A packet that is still to
//! be segmented by the kernel or the device is seen, and counted, once. Of loopback only what is
//! received is captured: that is all of it.

#![expect(unsafe_code, reason = "std has no name for a socket's filter")]

use super::{CapturedPacket, Link};
use flowd_common::packet::LinkType;
use flowd_common::{Direction, ObservationPoint};
use pcap::{Active, Capture, Error, Precision};
use std::io;
use std::os::fd::AsRawFd;

/// Octets kept of a packet: all headers that are read, with room for tags and options.
const SNAPSHOT_SIZE: i32 = 256;
/// Octets that the kernel keeps for a handle: some 40,000 packets.
const BUFFER_SIZE: i32 = 16 << 20;

/// Packets read at most of what is detached: more than the kernel keeps for a handle, so that an
/// interface on which they never end does not hold up the end.
const LAST_PACKET_COUNT_MAX: usize = 1 << 18;

/// Why an interface cannot be captured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// The rights are missing.
    #[error("capture on {name} is not permitted; run as root or with CAP_NET_RAW")]
    NotPermitted {
        /// Which interface.
        name: String,
    },
    /// No packet passes it.
    #[error("{name} is down; set it up first: ip link set {name} up")]
    Down {
        /// Which interface.
        name: String,
    },
    /// What libpcap said.
    #[error("libpcap cannot capture on {name} ({reason}); leave it out, or use --hook tc")]
    Refused {
        /// Which interface.
        name: String,
        /// In its words.
        reason: String,
    },
}

/// The interfaces that are captured.
#[derive(Default)]
pub struct LiveCapture {
    handles: Vec<LiveHandle>,
}

/// One direction of an interface.
pub struct LiveHandle {
    point: ObservationPoint,
    link_type: LinkType,
    capture: Capture<Active>,
    /// What libpcap had counted as dropped when it was asked last.
    dropped: u32,
    dropped_by_interface: u32,
    is_leaving: bool,
}

impl LiveCapture {
    /// Captures nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to capture an interface.
    ///
    /// # Errors
    /// If the interface is down or gone, or the rights are missing.
    pub fn attach(&mut self, link: &Link) -> Result<(), LiveError> {
        if !link.is_up {
            return Err(LiveError::Down { name: link.name.clone() });
        }
        let received = LiveHandle::open(link, Direction::INGRESS)?;
        if !link.is_loopback {
            self.handles.push(LiveHandle::open(link, Direction::EGRESS)?);
        }
        self.handles.push(received);
        Ok(())
    }

    /// Ends with an interface; what was captured of it stays until the next
    /// [`LiveCapture::forget_detached`].
    pub fn detach(&mut self, interface: u32) {
        for handle in &mut self.handles {
            handle.is_leaving |= handle.point.interface == interface;
        }
    }

    /// Detaches from all.
    pub fn detach_all(&mut self) {
        for handle in &mut self.handles {
            handle.is_leaving = true;
        }
    }

    /// Each direction of each interface.
    pub fn handles(&mut self) -> impl Iterator<Item = &mut LiveHandle> {
        self.handles.iter_mut()
    }

    /// Closes what was detached: the last of it has been read.
    pub fn forget_detached(&mut self) {
        self.handles.retain(|handle| !handle.is_leaving);
    }
}

impl LiveHandle {
    fn open(link: &Link, direction: Direction) -> Result<Self, LiveError> {
        let name = || link.name.clone();
        let refuse = |error: Error| match error {
            Error::PcapError(words)
                if words.contains("ermission") || words.contains("not permitted") =>
            {
                LiveError::NotPermitted { name: name() }
            }
            Error::PcapError(reason) => LiveError::Refused { name: name(), reason },
            error => LiveError::Refused { name: name(), reason: error.to_string() },
        };
        let inactive = Capture::from_device(link.name.as_str()).map_err(refuse)?;
        let capture = inactive
            .snaplen(SNAPSHOT_SIZE)
            .buffer_size(BUFFER_SIZE)
            .promisc(false)
            .immediate_mode(true)
            .precision(Precision::Nano)
            .open()
            .and_then(Capture::setnonblock)
            .map_err(refuse)?;
        let way = if direction == Direction::INGRESS {
            pcap::Direction::In
        } else {
            pcap::Direction::Out
        };
        capture.direction(way).map_err(refuse)?;
        keep_direction(&capture, direction)
            .map_err(|error| LiveError::Refused { name: name(), reason: error.to_string() })?;
        let number = u32::try_from(capture.get_datalink().0).unwrap_or(u32::MAX);
        let mut handle = Self {
            point: ObservationPoint::new(link.index, direction),
            link_type: LinkType::from_number(number),
            capture,
            dropped: 0,
            dropped_by_interface: 0,
            is_leaving: false,
        };
        handle.dropped();
        Ok(handle)
    }

    /// Where its packets are seen.
    #[must_use]
    pub const fn point(&self) -> ObservationPoint {
        self.point
    }

    /// Hands on what was captured, up to the first packet that came at `until_nanos` or later; of
    /// an interface that was detached all, as there is no next time.
    ///
    /// # Errors
    /// If capturing was interrupted, as by the interface going down; it goes on when that is
    /// over.
    pub fn read(
        &mut self,
        until_nanos: i64,
        observe: &mut dyn FnMut(&CapturedPacket<'_>),
    ) -> Result<(), String> {
        let mut trouble = None;
        let mut count: usize = 0;
        loop {
            let packet = match self.capture.next_packet() {
                Ok(packet) => packet,
                Err(Error::TimeoutExpired | Error::NoMorePackets) => break,
                // What happened to the interface is told first, what came before it after.
                Err(error) if trouble.is_none() => {
                    trouble = Some(error);
                    continue;
                }
                Err(_) => break,
            };
            // With this precision the field of microseconds holds nanoseconds.
            let time = packet.header.ts;
            let time_nanos = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_usec);
            observe(&CapturedPacket {
                time_nanos,
                link_type: self.link_type,
                point: self.point,
                wire_size: packet.header.len,
                data: packet.data,
            });
            count = count.saturating_add(1);
            let is_end = if self.is_leaving {
                count >= LAST_PACKET_COUNT_MAX
            } else {
                time_nanos >= until_nanos
            };
            if is_end {
                break;
            }
        }
        match trouble {
            Some(Error::PcapError(words)) if !self.is_leaving => Err(words),
            Some(error) if !self.is_leaving => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// Packets that were dropped since the last call: for lack of room, or, among those
    /// received, by the interface.
    pub fn dropped(&mut self) -> u64 {
        // Its counters go round; that they do so twice between two calls cannot be.
        let Ok(statistics) = self.capture.stats() else { return 0 };
        let dropped = statistics.dropped.wrapping_sub(self.dropped);
        self.dropped = statistics.dropped;
        let by_interface = statistics.if_dropped.wrapping_sub(self.dropped_by_interface);
        self.dropped_by_interface = statistics.if_dropped;
        let is_ingress = self.point.direction == Direction::INGRESS;
        u64::from(dropped) + if is_ingress { u64::from(by_interface) } else { 0 }
    }
}

/// Has the kernel pass over packets of the other direction before it keeps or drops them, so that
/// what it counts as dropped is of this direction. libpcap would leave them out when they are
/// read; its own filter for this loses the first packet, which it filters again without knowing
/// the direction.
fn keep_direction(capture: &Capture<Active>, direction: Direction) -> io::Result<()> {
    let is_egress = u8::from(direction == Direction::EGRESS);
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    let packet_kind = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    let compare = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let verdict = libc::BPF_RET | libc::BPF_K;
    let mut steps = [
        step(load, 0, 0, packet_kind),
        step(compare, 1 - is_egress, is_egress, u32::from(libc::PACKET_OUTGOING)),
        step(verdict, 0, 0, u32::MAX),
        step(verdict, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: 4, filter: steps.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0);
    // SAFETY: the kernel copies the program, which names four steps that live until then.
    let outcome = unsafe {
        libc::setsockopt(
            capture.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl std::fmt::Debug for LiveCapture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.handles.iter().map(LiveHandle::point)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::LinkMonitor;
    use crate::probe::test_namespace::in_namespace;
    use std::net::UdpSocket;

    const FAR_NANOS: i64 = i64::MAX;

    fn link(name: &str) -> Link {
        let monitor = LinkMonitor::new().unwrap();
        monitor.links().find(|link| link.name == name).unwrap().clone()
    }

    /// Wire sizes of the UDP packets read, by direction.
    fn sizes(live: &mut LiveCapture, direction: Direction) -> Vec<u32> {
        let mut sizes = Vec::new();
        for handle in live.handles().filter(|handle| handle.point().direction == direction) {
            let point = handle.point();
            handle
                .read(FAR_NANOS, &mut |packet| {
                    assert_eq!(packet.point, point);
                    if packet.data.get(23) == Some(&17) && packet.data.get(12) == Some(&8) {
                        sizes.push(packet.wire_size);
                    }
                })
                .unwrap();
        }
        sizes
    }

    #[test]
    fn each_direction_gives_its_own_packets() {
        in_namespace(|ip| {
            ip("link set lo up");
            ip("link add one type veth peer name two");
            ip("addr add 192.0.2.1/24 dev one");
            ip("link set one up");
            ip("link set two up");
            ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev one nud permanent");
            let mut live = LiveCapture::new();
            live.attach(&link("one")).unwrap();
            live.attach(&link("two")).unwrap();
            let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
            for size in [10, 500, 1_000] {
                socket.send_to(&vec![0; size], "192.0.2.2:9").unwrap();
            }
            let expected = [52, 542, 1_042];
            assert_eq!(sizes(&mut live, Direction::EGRESS), expected, "out of one");
            assert_eq!(sizes(&mut live, Direction::INGRESS), expected, "into two");
            assert!(live.handles().all(|handle| handle.dropped() == 0));
            let index = link("one").index;
            live.detach(index);
            live.forget_detached();
            assert!(live.handles().all(|handle| handle.point().interface != index));
        });
    }

    #[test]
    fn reading_ends_at_the_time_that_was_asked_for() {
        in_namespace(|ip| {
            ip("link set lo up");
            let mut live = LiveCapture::new();
            live.attach(&link("lo")).unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..3 {
                socket.send_to(&[0; 10], socket.local_addr().unwrap()).unwrap();
            }
            let mut count = 0;
            let handle = live.handles().next().unwrap();
            handle.read(0, &mut |_| count += 1).unwrap();
            assert_eq!(count, 1, "one packet is later than 1970, and the last");
            handle.read(FAR_NANOS, &mut |_| count += 1).unwrap();
            assert_eq!(count, 3);
        });
    }

    #[test]
    fn what_is_detached_is_read_to_its_end() {
        in_namespace(|ip| {
            ip("link set lo up");
            let mut live = LiveCapture::new();
            live.attach(&link("lo")).unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..3 {
                socket.send_to(&[0; 10], socket.local_addr().unwrap()).unwrap();
            }
            live.detach(link("lo").index);
            let mut count = 0;
            live.handles().next().unwrap().read(0, &mut |_| count += 1).unwrap();
            assert_eq!(count, 3);
        });
    }

    #[test]
    fn what_the_kernel_had_no_room_for_is_counted() {
        in_namespace(|ip| {
            ip("link set lo up");
            let mut live = LiveCapture::new();
            live.attach(&link("lo")).unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let sent: u64 = 100_000;
            for _ in 0..sent {
                socket.send_to(&[0; 10], "127.0.0.1:9").unwrap_or(0);
            }
            let mut seen = 0;
            let handle = live.handles().next().unwrap();
            handle
                .read(FAR_NANOS, &mut |packet| seen += u64::from(packet.data.get(23) == Some(&17)))
                .unwrap();
            let dropped = handle.dropped();
            assert!(dropped > 0, "the buffer has room for fewer");
            assert!(seen + dropped >= sent, "{seen} seen, {dropped} dropped");
            assert_eq!(handle.dropped(), 0, "told once");
        });
    }

    #[test]
    fn an_interface_that_is_down_is_named_with_the_remedy() {
        in_namespace(|_| {
            let error = LiveCapture::new().attach(&link("lo")).unwrap_err();
            assert!(matches!(&error, LiveError::Down { name } if name == "lo"));
            assert!(error.to_string().contains("ip link set lo up"));
        });
    }
}
