//! Why a frame is no IP packet.

use crate::DropReason;

/// Why a frame is no IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is sound, and carries something else.
    NonIp(NonIp),
    /// It is cut or broken.
    Malformed(Malformed),
    /// Its link type is not read.
    LinkType(u32),
}

/// What a frame carries that is not IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonIp {
    /// Address resolution, forward (0x0806) or reverse (0x8035).
    Arp,
    /// An LLC frame of another network.
    Llc,
    /// Link layer discovery, 0x88cc.
    Lldp,
    /// Port authentication, 0x888e.
    Eapol,
    /// Link aggregation control and its kin, 0x8809.
    SlowProtocol,
    /// MACsec, 0x88e5.
    Macsec,
    /// PPPoE before its session, 0x8863.
    PppoeDiscovery,
    /// PPP itself, by its protocol number.
    PppControl(u16),
    /// Something below MPLS labels that is neither IP nor Ethernet.
    MplsPayload,
    /// An address family of a loopback link.
    Family(u32),
    /// Any other ethertype.
    Other(u16),
}

/// How a frame is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It ends before its IP header begins.
    LinkHeaderCut,
    /// More tags, labels or headers than are walked.
    TooManyLayers,
    /// It ends within the fixed IPv4 header.
    Ipv4HeaderCut,
    /// Announced as IPv4, but the version is another.
    Ipv4Version(u8),
    /// The IPv4 header length is less than 20 octets.
    Ipv4HeaderLength(u8),
    /// The IPv4 total length is less than the header's.
    Ipv4TotalLength(u16),
    /// It ends within the fixed IPv6 header.
    Ipv6HeaderCut,
    /// Announced as IPv6, but the version is another.
    Ipv6Version(u8),
    /// Announced as IP of either version, but the version is neither.
    IpVersion(u8),
}

impl Refusal {
    /// Which counter it belongs to.
    #[must_use]
    pub const fn drop_reason(self) -> DropReason {
        match self {
            Self::NonIp(non_ip) => match non_ip {
                NonIp::Arp => DropReason::Arp,
                NonIp::Llc => DropReason::Llc,
                NonIp::Lldp => DropReason::Lldp,
                NonIp::Eapol => DropReason::Eapol,
                NonIp::SlowProtocol => DropReason::SlowProtocol,
                NonIp::Macsec => DropReason::Macsec,
                NonIp::PppoeDiscovery => DropReason::PppoeDiscovery,
                NonIp::PppControl(_) => DropReason::PppControl,
                NonIp::MplsPayload => DropReason::MplsPayload,
                NonIp::Family(_) => DropReason::OtherFamily,
                NonIp::Other(_) => DropReason::OtherEthertype,
            },
            Self::Malformed(malformed) => match malformed {
                Malformed::LinkHeaderCut => DropReason::LinkHeaderCut,
                Malformed::TooManyLayers => DropReason::TooManyLayers,
                Malformed::Ipv4HeaderCut => DropReason::Ipv4HeaderCut,
                Malformed::Ipv4Version(_) => DropReason::Ipv4Version,
                Malformed::Ipv4HeaderLength(_) => DropReason::Ipv4HeaderLength,
                Malformed::Ipv4TotalLength(_) => DropReason::Ipv4TotalLength,
                Malformed::Ipv6HeaderCut => DropReason::Ipv6HeaderCut,
                Malformed::Ipv6Version(_) => DropReason::Ipv6Version,
                Malformed::IpVersion(_) => DropReason::IpVersion,
            },
            Self::LinkType(_) => DropReason::UnsupportedLinkType,
        }
    }
}
