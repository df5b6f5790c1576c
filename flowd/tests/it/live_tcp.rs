//! TCP with segmentation left to the interface: what is metered is what TCP itself says that it
//! sent and received. As root; elsewhere skipped with a word why.

use crate::live_captures::attach;
use crate::namespace::Namespace;
use crate::support::wait_until;
use crate::system::{set_receive_buffer, tcp_info};
use crate::veth::{End, Offloads, join};
use flowd::probe::{Datapath, DatapathConfig, HookChoice};
use flowd_common::{Direction, FlowKey};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Octets of a TCP header without options (RFC 9293 section 3.1).
const TCP_SIZE: u64 = 20;
/// Options of Linux's SYN and SYN-ACK: greatest segment size, timestamps, window scale, and three
/// fillers.
const SYN_OPTIONS_SIZE: u64 = 20;
/// Options of all later segments: timestamps and two fillers. There would be blocks of SACK too,
/// of which TCP keeps no count, wherever a segment comes out of order: SACK is turned off.
const OPTIONS_SIZE: u64 = 12;

/// Octets of the receiver's buffer. What fits in it, in segments of any size, fits in a veth's
/// queue of 256 packets: nothing is lost on the way.
const BUFFER_SIZE: i32 = 128 << 10;

/// What TCP says of a connection's one end: numbers of `struct tcp_info` in linux/tcp.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TcpInfo {
    options: u8,
    unacknowledged: u32,
    retransmitted: u32,
    /// Segments sent: pure acknowledgements and what was sent again too.
    segments_sent: u64,
    segments_received: u64,
    /// Octets of payload sent, those that were sent again too.
    octets_sent: u64,
    octets_received: u64,
}

impl TcpInfo {
    fn of(stream: &TcpStream) -> Self {
        let octets = tcp_info(stream).unwrap();
        assert!(octets.len() >= 208, "this kernel does not tell what was sent again");
        let word = |at: usize| u32::from_ne_bytes(octets[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(octets[at..at + 8].try_into().unwrap());
        Self {
            options: octets[5],
            unacknowledged: word(24),
            retransmitted: word(100),
            segments_sent: word(136).into(),
            segments_received: word(140).into(),
            octets_sent: long(200),
            octets_received: long(128),
        }
    }
}

/// Packets and octets of layer 3.
type Sum = (u64, u64);

/// What a connection has sent by wire. Who opens it has its SYN among the segments that TCP counts;
/// the SYN-ACK is sent before there is a connection, and is not among them.
fn on_the_wire(info: TcpInfo, is_opener: bool, ip_size: u64) -> Sum {
    /// TCPI_OPT_TIMESTAMPS, TCPI_OPT_SACK and TCPI_OPT_WSCALE.
    const OPTIONS: [u8; 3] = [1, 2, 4];
    let options = OPTIONS.map(|option| info.options & option != 0);
    assert_eq!(options, [true, false, true], "options make the headers as long as they are");
    let packets = info.segments_sent + u64::from(!is_opener);
    let syn = ip_size + TCP_SIZE + SYN_OPTIONS_SIZE;
    let later = ip_size + TCP_SIZE + OPTIONS_SIZE;
    (packets, syn + (packets - 1) * later + info.octets_sent)
}

/// What was metered of the connection to a port in each direction, received first. A connection
/// before it may just have ended.
fn metered(datapath: &mut Datapath, port: u16) -> [Sum; 2] {
    let harvest = datapath.drain().unwrap();
    assert!(harvest.ledger.iter().all(|(_, entry)| entry.unaccounted_packets == 0));
    [Direction::INGRESS, Direction::EGRESS].map(|direction| {
        let deltas = harvest.deltas.iter().filter(|delta| {
            let ports = match delta.key {
                FlowKey::V4(key) => [key.source_port, key.destination_port],
                FlowKey::V6(key) => [key.source_port, key.destination_port],
            };
            delta.key.protocol() == 6
                && delta.key.point().direction == direction
                && ports.contains(&port)
        });
        deltas.fold((0, 0), |sum, it| (sum.0 + it.counters.packets, sum.1 + it.counters.octets))
    })
}

/// Sends so many octets over a connection, and waits until both ends are at rest. Returns what the
/// sender, who opened it, and the receiver say. The connection stays until they are asked no more:
/// its end is traffic too.
fn stream(
    from: End<'_>,
    to: End<'_>,
    address: SocketAddr,
    octets: usize,
) -> ([TcpInfo; 2], [TcpStream; 2]) {
    let listener = to.namespace.inside(|| TcpListener::bind(address).unwrap());
    set_receive_buffer(&listener, BUFFER_SIZE).unwrap();
    let mut sender = from.namespace.inside(|| TcpStream::connect(address).unwrap());
    let (mut receiver, _) = listener.accept().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let block = vec![7; 1 << 20];
            let mut left = octets;
            while left > 0 {
                let size = left.min(block.len());
                sender.write_all(&block[..size]).unwrap();
                left -= size;
            }
        });
        let mut room = vec![0; 1 << 20];
        let mut left = octets;
        while left > 0 {
            left -= receiver.read(&mut room).unwrap();
        }
    });
    let infos = || [TcpInfo::of(&sender), TcpInfo::of(&receiver)];
    let mut before = infos();
    wait_until("the connection is at rest", || {
        // An acknowledgement may be held back for 200 ms.
        std::thread::sleep(Duration::from_millis(400));
        let now = infos();
        let is_at_rest = now == before && now[0].unacknowledged == 0;
        before = now;
        is_at_rest
    });
    (before, [sender, receiver])
}

/// Streams from one end to the other: all four observation points have the packets and octets that
/// TCP has sent, those that it sent again among them. Returns the segments that carried them.
fn check(ends: [End<'_>; 2], datapaths: [&mut Datapath; 2], address: &str, octets: usize) -> u64 {
    let address: SocketAddr = address.parse().unwrap();
    let ([sender, receiver], streams) = stream(ends[0], ends[1], address, octets);
    let ip_size = if address.is_ipv6() { 40 } else { 20 };
    let data = on_the_wire(sender, true, ip_size);
    let acknowledgements = on_the_wire(receiver, false, ip_size);
    let [at_sender, at_receiver] = datapaths.map(|datapath| metered(datapath, address.port()));
    drop(streams);
    println!(
        "{octets} octets to {address}: {data:?} and {acknowledgements:?} by TCP_INFO, \
         {at_sender:?} and {at_receiver:?} metered; {} sent again",
        sender.retransmitted
    );
    assert_eq!(receiver.octets_received, octets as u64);
    assert_eq!(at_sender[1], data, "sent: {sender:?}");
    for end in ends {
        assert_eq!(end.counted()[1].dropped, 0, "the link has lost nothing");
    }
    assert_eq!(at_receiver[0], data, "received: {receiver:?}");
    assert_eq!(receiver.segments_received, data.0, "the SYN is counted too");
    assert_eq!(at_receiver[1], at_sender[0]);
    assert_eq!(at_receiver[1], acknowledgements, "sent: {receiver:?}");
    data.0
}

fn streams(hook: HookChoice, label: &str) {
    let Some(near) = Namespace::new(&format!("{label}-a")) else { return };
    let Some(far) = Namespace::new(&format!("{label}-b")) else { return };
    let near = End { namespace: &near, name: "near" };
    let far = End { namespace: &far, name: "far" };
    join(near, far, Offloads::On, 1_500);
    let config = DatapathConfig::default();
    let Some((mut at_near, _)) = attach(near, &config, HookChoice::Tc) else { return };
    let Some((mut at_far, _)) = attach(far, &config, hook) else { return };
    for (end, number) in [(near, 1), (far, 2)] {
        end.namespace.inside(|| fs::write("/proc/sys/net/ipv4/tcp_sack", "0").unwrap());
        end.give_ipv4_address(number);
        end.give_ipv6_address(number);
    }
    near.wait_for_addresses();
    far.wait_for_addresses();
    let before = near.counted()[1].frames;
    let segments = check([near, far], [&mut at_near, &mut at_far], "192.0.2.2:5001", 1_000_000_000);
    if hook == HookChoice::Tc {
        // In front of XDP the kernel cuts them.
        let frames = near.counted()[1].frames - before;
        assert!(frames < segments / 4, "{frames} frames hold many segments each");
    }
    check([far, near], [&mut at_far, &mut at_near], "192.0.2.1:5002", 200_000_000);
    check([near, far], [&mut at_near, &mut at_far], "[2001:db8::2]:5003", 200_000_000);
}

#[test]
fn segments_of_tcp_count_as_the_wire_has_them() {
    streams(HookChoice::Tc, "tcp-tc");
}

#[test]
fn segments_of_tcp_count_as_the_wire_has_them_where_xdp_receives() {
    streams(HookChoice::Xdp, "tcp-xdp");
}
