//! Link types, by the numbers that pcap and pcapng files give them.

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// An Ethernet header.
    Ethernet,
    /// An IPv4 or IPv6 header; the version tells.
    RawIp,
    /// An IPv4 header.
    Ipv4,
    /// An IPv6 header.
    Ipv6,
    /// Linux's cooked header, 16 octets.
    LinuxSll,
    /// Linux's cooked header, version 2, 20 octets.
    LinuxSll2,
    /// BSD's loopback: an address family of four octets in the order of the host that captured.
    BsdNull,
    /// OpenBSD's loopback: an address family of four octets in network order.
    BsdLoop,
    /// PPP, with or without its HDLC address and control octets, or Cisco's HDLC.
    Ppp,
    /// PPP in HDLC framing, or Cisco's HDLC.
    PppHdlc,
    /// A PPPoE session header and PPP behind it.
    PppEther,
    /// Cisco's HDLC.
    CiscoHdlc,
    /// Any other: its packets are refused, and counted.
    Unknown(u32),
}

impl LinkType {
    /// The link type of a number in a capture file.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::BsdNull,
            1 => Self::Ethernet,
            9 => Self::Ppp,
            // 12 and 14 are what systems whose own number for raw IP it is wrote into files.
            12 | 14 | 101 => Self::RawIp,
            50 => Self::PppHdlc,
            51 => Self::PppEther,
            104 => Self::CiscoHdlc,
            108 => Self::BsdLoop,
            113 => Self::LinuxSll,
            228 => Self::Ipv4,
            229 => Self::Ipv6,
            276 => Self::LinuxSll2,
            other => Self::Unknown(other),
        }
    }
}
