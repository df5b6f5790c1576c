//! Traffic that looks like an office's: web, names, time, shells, pings, in both families, and
//! what is not IP beside it. Sizes and pauses have heavy tails. All of it follows from one seed.

use super::capture::{CLIENT_MAC, Capture, Entry, Frame, Pcap, SERVER_MAC};
use super::packet::{ACK, FIN, PSH, Packet, RST, SYN};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How long the traffic goes on.
const DURATION_MILLIS: i64 = 300_000;

/// Packets of the whole capture.
const PACKET_COUNT: usize = 20_000;

/// Headers are all that is kept.
const SNAPLEN: usize = 96;

pub(super) fn captures() -> Vec<Capture> {
    let mut traffic = Traffic { random: Random(0x5eed_f10d), entries: Vec::new() };
    while traffic.entries.len() < PACKET_COUNT + PACKET_COUNT / 5 {
        traffic.conversation();
    }
    let mut entries = traffic.entries;
    // Sorting is stable: packets of the same time stay as they were made.
    entries.sort_by_key(|entry| entry.time_nanos);
    entries.truncate(PACKET_COUNT);
    let pcap = Pcap { snaplen: SNAPLEN, ..Pcap::of_link_type(1) };
    vec![pcap.capture(
        "demo-traffic.pcap",
        "20,000 packets of seeded traffic as an office has it: what the demonstration replays.",
        entries,
    )]
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(end)) >> 32).unwrap_or(0)
    }

    fn millis(&mut self, end: i64) -> i64 {
        i64::from(self.below(u32::try_from(end).unwrap_or(1)))
    }

    /// A number from `least` on, of which half the draws go no further than twice of it, a
    /// quarter no further than four times, and so on, up to `doublings` times.
    fn heavy(&mut self, least: u32, doublings: u32) -> u32 {
        let tail = self.next().trailing_ones().min(doublings);
        let base = least << tail;
        base + self.below(base)
    }
}

/// Both ends of a conversation.
#[derive(Clone, Copy)]
struct Hosts {
    client: (IpAddr, u16),
    server: (IpAddr, u16),
}

struct Traffic {
    random: Random,
    entries: Vec<Entry>,
}

impl Traffic {
    fn conversation(&mut self) {
        let start = self.random.millis(DURATION_MILLIS);
        match self.random.below(100) {
            0..40 => self.lookup(start),
            40..78 => self.web(start),
            78..83 => self.shell(start),
            83..88 => self.ping(start),
            88..92 => self.time_of_day(start),
            92..94 => self.refused_connection(start),
            _ => self.link_chatter(start),
        }
    }

    /// A client out of some, and one of many servers of which few are popular.
    fn hosts(&mut self, server_port: u16) -> Hosts {
        let client = u8::try_from(self.random.below(40)).unwrap_or(0) + 10;
        let server = u16::try_from(self.random.heavy(1, 9) % 500).unwrap_or(0);
        let port = 32_768 + u16::try_from(self.random.below(28_000)).unwrap_or(0);
        let [high, low] = server.to_be_bytes();
        let (client, server) = if self.random.below(4) == 0 {
            let client = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, client.into());
            let server = Ipv6Addr::new(0x2001, 0xdb8, 0x100, server, 0, 0, 0, 1);
            (IpAddr::V6(client), IpAddr::V6(server))
        } else {
            let client = Ipv4Addr::new(10, 1, 0, client);
            let server = Ipv4Addr::new(198, 18 + high, low, 80);
            (IpAddr::V4(client), IpAddr::V4(server))
        };
        Hosts { client: (client, port), server: (server, server_port) }
    }

    fn push(&mut self, millis: i64, packet: Packet) {
        let label = if packet.source.is_ipv6() { 0x1_2345 } else { 0 };
        let packet = packet.flow_label(label);
        let mut entry = Entry::at(millis, Frame::plain(&packet));
        // Microseconds, so that few packets share a time.
        entry.time_nanos += self.random.millis(1_000) * 1_000;
        self.entries.push(entry);
    }

    fn lookup(&mut self, start: i64) {
        let hosts = self.hosts(53);
        let question = 30 + usize::try_from(self.random.below(40)).unwrap_or(0);
        let answer = question + usize::try_from(self.random.heavy(16, 5)).unwrap_or(0);
        let delay = i64::from(self.random.heavy(2, 6));
        self.push(start, Packet::udp(hosts.client, hosts.server, question));
        let reply = Packet::udp(hosts.server, hosts.client, answer).ttl(57);
        self.push(start + delay, reply);
    }

    fn web(&mut self, start: i64) {
        let port = if self.random.below(5) == 0 { 80 } else { 443 };
        let hosts = self.hosts(port);
        let away = i64::from(self.random.heavy(3, 5));
        let out = |flags, size| Packet::tcp(hosts.client, hosts.server, flags, size);
        let back = |flags, size| Packet::tcp(hosts.server, hosts.client, flags, size).ttl(55);
        self.push(start, out(SYN, 0));
        self.push(start + away, back(SYN | ACK, 0));
        self.push(start + away + 1, out(ACK, 0));
        let mut now = start + away + 2;
        for _ in 0..self.random.heavy(1, 3) {
            let request = usize::try_from(self.random.heavy(150, 3)).unwrap_or(0);
            self.push(now, out(PSH | ACK, request.min(1_400)));
            now += away;
            for segment in 0..self.random.heavy(1, 7) {
                self.push(now, back(ACK, 1_400));
                if segment % 2 == 1 {
                    self.push(now + 1, out(ACK, 0));
                }
                now += i64::from(self.random.below(4));
            }
            let rest = usize::try_from(self.random.below(1_400)).unwrap_or(0);
            self.push(now + 1, back(PSH | ACK, rest));
            self.push(now + 2, out(ACK, 0));
            now += i64::from(self.random.heavy(20, 9));
        }
        self.push(now, out(FIN | ACK, 0));
        self.push(now + away, back(FIN | ACK, 0));
        self.push(now + away + 1, out(ACK, 0));
    }

    /// Keys typed for minutes: longer than the active timeout.
    fn shell(&mut self, start: i64) {
        let hosts = self.hosts(22);
        let out = |size| Packet::tcp(hosts.client, hosts.server, PSH | ACK, size);
        let mut now = start;
        for _ in 0..self.random.heavy(40, 3) {
            self.push(now, out(36).class_of_service(0x10));
            let echo = Packet::tcp(hosts.server, hosts.client, PSH | ACK, 36);
            self.push(now + 15, echo.class_of_service(0x10).ttl(60));
            now += i64::from(self.random.heavy(200, 8));
        }
    }

    fn ping(&mut self, start: i64) {
        let hosts = self.hosts(0);
        let (ask, answer) = if hosts.client.0.is_ipv4() { (8, 0) } else { (128, 129) };
        for turn in 0..i64::from(self.random.heavy(2, 4)) {
            let now = start + turn * 1_000;
            self.push(now, Packet::icmp(hosts.client.0, hosts.server.0, ask, 0));
            let reply = Packet::icmp(hosts.server.0, hosts.client.0, answer, 0).ttl(50);
            self.push(now + 12, reply);
        }
    }

    fn time_of_day(&mut self, start: i64) {
        let hosts = self.hosts(123);
        self.push(start, Packet::udp(hosts.client, hosts.server, 48));
        self.push(start + 20, Packet::udp(hosts.server, hosts.client, 48).ttl(52));
    }

    fn refused_connection(&mut self, start: i64) {
        let hosts = self.hosts(8_080);
        self.push(start, Packet::tcp(hosts.client, hosts.server, SYN, 0));
        let reset = Packet::tcp(hosts.server, hosts.client, RST | ACK, 0);
        self.push(start + 4, reset.ttl(58));
    }

    /// What a switch port sees beside IP.
    fn link_chatter(&mut self, start: i64) {
        let (reason, header): (_, &[u8]) = match self.random.below(3) {
            0 => ("lldp", &[0x88, 0xcc]),
            1 => ("llc", &[0, 38, 0x42, 0x42, 3]),
            _ => ("arp", &[8, 6]),
        };
        let octets = [&SERVER_MAC, &CLIENT_MAC, header, &[0; 46]].concat();
        self.entries.push(Entry::at(start, Frame::refused(reason, &octets)));
    }
}
