//! Traffic of many kinds between the two ends of a veth.

use crate::system::icmp_socket;
use crate::veth::{ETHERNET_SIZE, End, MACS};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// A frame, and its octets of layer 3 if it is IP.
type Frame = (Vec<u8>, Option<u64>);

/// How often each kind of frame is sent.
const REPEAT_COUNT: usize = 100;
const DATAGRAM_COUNT: usize = 1_200;
const FRAGMENTED_COUNT: usize = 60;
const ECHO_COUNT: usize = 300;
const EXCHANGE_COUNT: usize = 500;

/// What of known frames is not IP.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Frames by the reason why they are no flow.
    pub(crate) non_ip: BTreeMap<&'static str, u64>,
    /// Octets behind the Ethernet header that are not IP: tags, padding, frames that are not IP.
    pub(crate) octets_beside: u64,
}

impl Known {
    pub(crate) fn of(frames: &[Frame]) -> Self {
        let mut known = Self::default();
        for (octets, ip_size) in frames {
            if ip_size.is_none() {
                let reason = match octets[12..14] {
                    [0x08, 0x06] => "arp",
                    [0x88, 0xcc] => "lldp",
                    [0, _] => "llc",
                    _ => "otherEthertype",
                };
                *known.non_ip.entry(reason).or_default() += 1;
            }
            known.octets_beside += octets.len() as u64 - ETHERNET_SIZE - ip_size.unwrap_or(0);
        }
        known
    }

    pub(crate) fn and(mut self, other: &Self) -> Self {
        for (reason, count) in &other.non_ip {
            *self.non_ip.entry(reason).or_default() += count;
        }
        self.octets_beside += other.octets_beside;
        self
    }
}

fn ethernet(sender: usize, parts: &[&[u8]]) -> Vec<u8> {
    [&[&MACS[1 - sender][..], &MACS[sender]], parts].concat().concat()
}

/// A frame that no kernel answers.
pub(crate) fn probe_frame() -> Vec<u8> {
    ethernet(0, &[&[0x12, 0x34], &[0; 86]])
}

/// Frames that no socket sends, from the one end or from the other: tagged, padded, not IP.
pub(crate) fn raw_frames(sender: usize) -> Vec<Frame> {
    // No host of the link has these addresses.
    let mut ipv4 = vec![0x45, 0, 0, 48, 0, 0, 0, 0, 64, 17, 0, 0];
    ipv4.extend([198, 51, 100, 1, 203, 0, 113, 1, 0x30, 0x39, 0, 53, 0, 28, 0, 0]);
    ipv4.resize(48, 0);
    let mut short = ipv4[..28].to_vec();
    (short[3], short[25]) = (28, 8);
    let mut ipv6 = vec![0x60, 0, 0, 0, 0, 100, 59, 64];
    ipv6.extend([[0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2].concat());
    ipv6.resize(140, 0);
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(MACS[sender]);
    arp.extend([203, 0, 113, 1, 0, 0, 0, 0, 0, 0, 203, 0, 113, 2]);
    let tag = [0x81, 0x00, 0x20, 5];
    let outer_tag = [0x88, 0xa8, 0, 7];
    let kinds: [Frame; 9] = [
        (ethernet(sender, &[&tag, &[0x08, 0x00], &ipv4]), Some(48)),
        (ethernet(sender, &[&tag, &[0x86, 0xdd], &ipv6]), Some(140)),
        (ethernet(sender, &[&outer_tag, &tag, &[0x86, 0xdd], &ipv6]), Some(140)),
        // The least that Ethernet carries: 60 octets, the frame check sequence not counted.
        (ethernet(sender, &[&[0x08, 0x00], &short, &[0; 18]]), Some(28)),
        (ethernet(sender, &[&[0x08, 0x00], &ipv4, &[0; 200]]), Some(48)),
        (ethernet(sender, &[&[0x08, 0x06], &arp]), None),
        (ethernet(sender, &[&[0x88, 0xcc], &[2; 46]]), None),
        (ethernet(sender, &[&[0, 38], &[0x42, 0x42, 3], &[0; 43]]), None),
        (ethernet(sender, &[&[0x12, 0x34], &[9; 1_000]]), None),
    ];
    std::iter::repeat_n(kinds, REPEAT_COUNT).flatten().collect()
}

/// Lets what was sent come, now and then.
fn pause(number: usize) {
    if number.is_multiple_of(50) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn send_raw(from: End<'_>, frames: &[Frame]) {
    let socket = from.frames();
    for (number, (octets, _)) in frames.iter().enumerate() {
        pause(number);
        socket.send(octets);
    }
}

/// UDP, ICMP and TCP over IPv4 and IPv6 through sockets, both ways.
pub(crate) fn make(near: End<'_>, far: End<'_>) {
    for (end, number) in [(near, 1), (far, 2)] {
        end.give_ipv4_address(number);
        end.give_ipv6_address(number);
    }
    near.wait_for_addresses();
    far.wait_for_addresses();
    for (here, there) in [("192.0.2.1", "192.0.2.2"), ("[2001:db8::1]", "[2001:db8::2]")] {
        let at_near = near.namespace.udp(&format!("{here}:4000"));
        let at_far = far.namespace.udp(&format!("{there}:5000"));
        datagrams(&at_near, &format!("{there}:5000"));
        datagrams(&at_far, &format!("{here}:4000"));
        let is_ipv6 = here.starts_with('[');
        for (end, other) in [(near, there), (far, here)] {
            let socket = end.namespace.inside(|| icmp_socket(is_ipv6).unwrap());
            echoes(&socket, is_ipv6, other);
        }
        exchanges(near, far, &format!("{there}:80"));
        exchanges(far, near, &format!("{here}:80"));
    }
}

/// Datagrams of all sizes that go in one packet, and some that go in four.
fn datagrams(socket: &UdpSocket, to: &str) {
    for number in 0..DATAGRAM_COUNT {
        pause(number);
        socket.send_to(&vec![7; number % 1_400], to).unwrap();
    }
    for number in 0..FRAGMENTED_COUNT {
        pause(number * 10);
        socket.send_to(&vec![7; 5_000 + number], to).unwrap();
    }
}

/// Echo requests, which the other kernel answers.
fn echoes(socket: &UdpSocket, is_ipv6: bool, to: &str) {
    // Type, code, checksum, identifier, sequence number; of ICMPv6 the kernel makes the checksum.
    let mut request = vec![if is_ipv6 { 128 } else { 8 }, 0, 0, 0, 0, 1, 0, 1];
    if !is_ipv6 {
        // RFC 792: the complement of the sum of 0x0800, 1 and 1.
        request[2..4].copy_from_slice(&(!0x0802_u16).to_be_bytes());
    }
    request.resize(64, 0);
    for number in 0..ECHO_COUNT {
        pause(number);
        socket.send_to(&request, format!("{to}:0")).unwrap();
    }
}

/// Questions and answers over one connection.
fn exchanges(client: End<'_>, server: End<'_>, address: &str) {
    let listener = server.namespace.inside(|| TcpListener::bind(address).unwrap());
    let mut asks = client.namespace.inside(|| TcpStream::connect(address).unwrap());
    let (mut answers, _) = listener.accept().unwrap();
    let mut room = [0; 700];
    for _ in 0..EXCHANGE_COUNT {
        asks.write_all(&[1; 300]).unwrap();
        answers.read_exact(&mut room[..300]).unwrap();
        answers.write_all(&[2; 700]).unwrap();
        asks.read_exact(&mut room).unwrap();
    }
}
