//! IP packets built from what they are meant to say.
//!
//! A [`Packet`] holds both the octets and their meaning, each written down by whoever builds it:
//! nothing here reads octets back.

use std::net::IpAddr;

/// What tells flows between the same hosts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    None,
    Ports(u16, u16),
    /// Type * 256 + code.
    Icmp(u16),
}

/// What the link says of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) source_mac: Option<[u8; 6]>,
    pub(super) destination_mac: Option<[u8; 6]>,
    pub(super) vlan_id: Option<u16>,
}

/// One IP packet and what a flow record should say of it.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// What the record says; the header may begin a chain that leads to it.
    pub(super) protocol: u8,
    pub(super) transport: Transport,
    pub(super) tcp_control_bits: u16,
    pub(super) class_of_service: u8,
    pub(super) ttl: u8,
    pub(super) flow_label: u32,
    pub(super) link: Link,
    /// What the header claims.
    pub(super) octets: usize,
    /// IPv4: identification, flags and offset.
    id: u16,
    flags_offset: u16,
    options: Vec<u8>,
    /// IPv6: the next header of the fixed header, and the headers up to the payload.
    extensions: Option<(u8, Vec<u8>)>,
    /// All above IP and its extension headers.
    payload: Vec<u8>,
}

pub(super) const FIN: u16 = 0x001;
pub(super) const SYN: u16 = 0x002;
pub(super) const RST: u16 = 0x004;
pub(super) const PSH: u16 = 0x008;
pub(super) const ACK: u16 = 0x010;

/// The client of most captures, in both families.
pub(super) const CLIENT: [&str; 2] = ["192.0.2.10", "2001:db8:1::10"];

/// Their server.
pub(super) const SERVER: [&str; 2] = ["198.51.100.20", "2001:db8:2::20"];

/// An address that is written in this program.
pub(super) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address in the program's own text")
}

/// The low sixteen bits of a size that is known to fit them.
fn short(size: usize) -> [u8; 2] {
    u16::try_from(size).expect("packets are shorter than 64 KiB").to_be_bytes()
}

impl Packet {
    /// A packet of any protocol between two hosts.
    pub(super) fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Self {
        let header_size = if source.is_ipv4() { 20 } else { 40 };
        Self {
            source,
            destination,
            protocol,
            transport: Transport::None,
            tcp_control_bits: 0,
            class_of_service: 0,
            ttl: 64,
            flow_label: 0,
            link: Link::default(),
            octets: header_size + payload.len(),
            id: 1,
            flags_offset: 0,
            options: Vec::new(),
            extensions: None,
            payload: payload.to_vec(),
        }
    }

    /// A packet from the client to the server, IPv4.
    pub(super) fn between(protocol: u8, payload: &[u8]) -> Self {
        Self::new(address(CLIENT[0]), address(SERVER[0]), protocol, payload)
    }

    /// A packet from the client to the server, IPv6.
    pub(super) fn between6(protocol: u8, payload: &[u8]) -> Self {
        Self::new(address(CLIENT[1]), address(SERVER[1]), protocol, payload)
    }

    /// The same host pair, with ports before the payload.
    fn with_ports(mut self, source_port: u16, destination_port: u16) -> Self {
        self.transport = Transport::Ports(source_port, destination_port);
        self
    }

    /// A TCP segment with a payload of zeros.
    pub(super) fn tcp(
        (source, source_port): (IpAddr, u16),
        (destination, destination_port): (IpAddr, u16),
        flags: u16,
        payload_size: usize,
    ) -> Self {
        let mut segment = Vec::with_capacity(20 + payload_size);
        segment.extend(source_port.to_be_bytes());
        segment.extend(destination_port.to_be_bytes());
        segment.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        // The data offset stands above the twelve flags.
        segment.extend((0x5000 | flags).to_be_bytes());
        segment.extend([0xff, 0xff, 0, 0, 0, 0]);
        segment.resize(20 + payload_size, 0);
        let mut packet =
            Self::new(source, destination, 6, &segment).with_ports(source_port, destination_port);
        packet.tcp_control_bits = flags;
        packet.with_checksum(16)
    }

    /// A UDP datagram with a payload of zeros.
    pub(super) fn udp(
        (source, source_port): (IpAddr, u16),
        (destination, destination_port): (IpAddr, u16),
        payload_size: usize,
    ) -> Self {
        let size = short(8 + payload_size);
        let mut datagram = Vec::with_capacity(8 + payload_size);
        datagram.extend(source_port.to_be_bytes());
        datagram.extend(destination_port.to_be_bytes());
        datagram.extend([size[0], size[1], 0, 0]);
        datagram.resize(8 + payload_size, 0);
        Self::new(source, destination, 17, &datagram)
            .with_ports(source_port, destination_port)
            .with_checksum(6)
    }

    /// A DNS question's worth of UDP from the client to the server.
    pub(super) fn question(family: usize) -> Self {
        let source = address(CLIENT[family]);
        let destination = address(SERVER[family]);
        Self::udp((source, 40_000), (destination, 53), 32)
    }

    /// A packet of a protocol whose header begins with ports, and goes on with these octets.
    pub(super) fn ported(protocol: u8, ports: (u16, u16), rest: &[u8]) -> Self {
        let mut header = Vec::new();
        header.extend(ports.0.to_be_bytes());
        header.extend(ports.1.to_be_bytes());
        header.extend(rest);
        Self::between(protocol, &header).with_ports(ports.0, ports.1)
    }

    /// An ICMP or ICMPv6 message with 32 octets behind its header.
    pub(super) fn icmp(source: IpAddr, destination: IpAddr, icmp_type: u8, code: u8) -> Self {
        let mut message = vec![icmp_type, code, 0, 0, 0, 7, 0, 1];
        message.resize(40, 0x2a);
        let protocol = if source.is_ipv4() { 1 } else { 58 };
        let mut packet = Self::new(source, destination, protocol, &message);
        packet.transport = Transport::Icmp(u16::from_be_bytes([icmp_type, code]));
        packet.with_checksum(2)
    }

    pub(super) fn class_of_service(mut self, class_of_service: u8) -> Self {
        self.class_of_service = class_of_service;
        self
    }

    pub(super) fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    pub(super) fn flow_label(mut self, flow_label: u32) -> Self {
        self.flow_label = flow_label;
        self
    }

    /// IPv4 options, a multiple of four octets.
    pub(super) fn options(mut self, options: &[u8]) -> Self {
        self.octets += options.len();
        self.options = options.to_vec();
        self
    }

    /// IPv6 extension headers: the type of the first, and their octets.
    pub(super) fn extensions(mut self, first: u8, octets: &[u8]) -> Self {
        self.octets += octets.len();
        self.extensions = Some((first, octets.to_vec()));
        self
    }

    /// An IPv4 fragment of this identification, its offset in octets. The payload is the
    /// fragment's own part.
    pub(super) fn fragment(mut self, id: u16, offset: u16, more: bool) -> Self {
        self.id = id;
        self.flags_offset = (offset / 8) | if more { 0x2000 } else { 0 };
        self
    }

    /// Says what a record should say where the octets do not: a later fragment's ports.
    pub(super) fn means(mut self, protocol: u8, transport: Transport) -> Self {
        (self.protocol, self.transport) = (protocol, transport);
        self
    }

    /// The header claims this many octets, whatever there are.
    pub(super) fn claims(mut self, octets: usize) -> Self {
        self.octets = octets;
        self
    }

    /// Cuts what is above IP and leaves the claim. TCP's flags end with its 14th octet.
    pub(super) fn cut_payload(mut self, size: usize) -> Self {
        self.payload.truncate(size);
        if size < 14 {
            self.tcp_control_bits = 0;
        }
        self
    }

    /// The packet as it is sent.
    pub(super) fn octets_on_wire(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = vec![0x45 + u8::try_from(self.options.len() / 4).unwrap_or(10)];
                header.push(self.class_of_service);
                header.extend(short(self.octets));
                header.extend(self.id.to_be_bytes());
                header.extend(self.flags_offset.to_be_bytes());
                header.extend([self.ttl, self.protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(&self.options);
                let sum = ones_complement_sum(&header);
                header[10..12].copy_from_slice(&sum);
                header.extend(&self.payload);
                header
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let class = u32::from(self.class_of_service);
                let word = 6 << 28 | class << 20 | self.flow_label;
                let mut header = word.to_be_bytes().to_vec();
                header.extend(short(self.octets - 40));
                let (next_header, extensions) = match &self.extensions {
                    Some((first, octets)) => (*first, &octets[..]),
                    None => (self.protocol, &[][..]),
                };
                header.extend([next_header, self.ttl]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(extensions);
                header.extend(&self.payload);
                header
            }
            _ => unreachable!("both addresses are of one family"),
        }
    }

    /// Fills the transport's checksum, which covers addresses, protocol and length too.
    fn with_checksum(mut self, at: usize) -> Self {
        let mut covered = Vec::new();
        // ICMP alone does without the addresses.
        if self.protocol != 1 {
            for address in [self.source, self.destination] {
                match address {
                    IpAddr::V4(address) => covered.extend(address.octets()),
                    IpAddr::V6(address) => covered.extend(address.octets()),
                }
            }
            covered.extend([0, self.protocol]);
            covered.extend(short(self.payload.len()));
        }
        covered.extend(&self.payload);
        let sum = ones_complement_sum(&covered);
        self.payload[at..at + 2].copy_from_slice(&sum);
        self
    }
}

/// The Internet checksum, RFC 1071.
fn ones_complement_sum(octets: &[u8]) -> [u8; 2] {
    let mut sum = 0_u32;
    for pair in octets.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}
