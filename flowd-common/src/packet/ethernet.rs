//! From the start of a frame to its IP header: Ethernet, tags, LLC, PPPoE, PPP, MPLS, loopback.

use super::{Cursor, LinkHeader, LinkType, Malformed, NonIp, PacketBytes, Refusal, ipv4, ipv6};
use crate::limits::{LAYER_COUNT_MAX, MPLS_LABEL_COUNT_MAX, VLAN_TAG_COUNT_MAX};

/// Which IP header the walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    Ipv4,
    Ipv6,
}

/// What begins at the cursor.
#[derive(Clone, Copy)]
enum Layer {
    /// MAC addresses and an ethertype.
    Ethernet,
    /// What this ethertype stands for.
    Ethertype(u16),
    /// 802.2 LLC, perhaps with SNAP.
    Llc,
    /// PPP, perhaps with HDLC's address and control before it.
    Ppp,
    /// A PPPoE session header.
    PppoeSession,
    /// MPLS labels.
    Mpls,
    /// IP; the version tells which.
    AnyIp,
    Ip(Network),
}

mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const ARP: u16 = 0x0806;
    pub(super) const RARP: u16 = 0x8035;
    pub(super) const IPV6: u16 = 0x86dd;
    /// 802.1Q, 802.1ad, and what came before 802.1ad.
    pub(super) const TAGS: [u16; 5] = [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300];
    pub(super) const SLOW_PROTOCOLS: u16 = 0x8809;
    pub(super) const MPLS: u16 = 0x8847;
    pub(super) const MPLS_MULTICAST: u16 = 0x8848;
    pub(super) const PPPOE_DISCOVERY: u16 = 0x8863;
    pub(super) const PPPOE_SESSION: u16 = 0x8864;
    pub(super) const EAPOL: u16 = 0x888e;
    pub(super) const LLDP: u16 = 0x88cc;
    pub(super) const MACSEC: u16 = 0x88e5;
    /// Below this the field is 802.3's length.
    pub(super) const MIN: u16 = 0x0600;
}

/// PPP's protocol numbers.
mod ppp {
    pub(super) const IPV4: u16 = 0x0021;
    pub(super) const IPV6: u16 = 0x0057;
    pub(super) const MPLS: u16 = 0x0281;
    pub(super) const MPLS_MULTICAST: u16 = 0x0283;
}

/// Finds the IP header, leaves the cursor on it, and notes what the link says.
#[inline]
pub(super) fn find_network<P: PacketBytes + ?Sized>(
    link_type: LinkType,
    cursor: &mut Cursor<'_, P>,
    link: &mut LinkHeader,
) -> Result<Network, Refusal> {
    *link = LinkHeader::default();
    let mut walk = Walk { link, tag_count: cursor.tags_taken(), mpls_count: 0 };
    let mut layer = walk.start(link_type, cursor)?;
    for _ in 0..LAYER_COUNT_MAX {
        cursor.forget();
        walk.tag_count = cursor.forget_number(walk.tag_count);
        walk.mpls_count = cursor.forget_number(walk.mpls_count);
        layer = match layer {
            Layer::Ip(network) => return Ok(network),
            Layer::Ethernet => walk.ethernet(cursor)?,
            Layer::Ethertype(ethertype) => walk.ethertype(ethertype, cursor)?,
            Layer::Llc => llc(cursor)?,
            Layer::Ppp => ppp(cursor)?,
            Layer::PppoeSession => pppoe_session(cursor)?,
            Layer::Mpls => walk.mpls(cursor)?,
            Layer::AnyIp => any_ip(cursor)?,
        };
    }
    Err(Refusal::Malformed(Malformed::TooManyLayers))
}

const CUT: Refusal = Refusal::Malformed(Malformed::LinkHeaderCut);

struct Walk<'a> {
    link: &'a mut LinkHeader,
    tag_count: usize,
    /// Label stacks that were walked. Where there are none, this is still the frame that was
    /// captured, not one that MPLS carries.
    mpls_count: usize,
}

impl Walk<'_> {
    #[inline]
    fn start<P: PacketBytes + ?Sized>(
        &mut self,
        link_type: LinkType,
        cursor: &mut Cursor<'_, P>,
    ) -> Result<Layer, Refusal> {
        match link_type {
            LinkType::Ethernet => Ok(Layer::Ethernet),
            LinkType::RawIp => Ok(Layer::AnyIp),
            LinkType::Ipv4 => Ok(Layer::Ip(Network::Ipv4)),
            LinkType::Ipv6 => Ok(Layer::Ip(Network::Ipv6)),
            LinkType::LinuxSll => self.linux_sll(cursor),
            LinkType::LinuxSll2 => self.linux_sll2(cursor),
            LinkType::BsdNull | LinkType::BsdLoop => address_family(cursor),
            LinkType::Ppp | LinkType::PppHdlc => match cursor.peek(0).ok_or(CUT)? {
                // RFC 1547 section 4.3.1: Cisco's framing. It is captured under both link types;
                // as compressed PPP protocols these octets stand for nothing.
                [0x0f | 0x8f] => cisco_hdlc(cursor),
                [_] => Ok(Layer::Ppp),
            },
            LinkType::PppEther => Ok(Layer::PppoeSession),
            LinkType::CiscoHdlc => cisco_hdlc(cursor),
            LinkType::Unknown(number) => Err(Refusal::LinkType(number)),
        }
    }

    #[inline]
    fn ethernet<P: PacketBytes + ?Sized>(
        &mut self,
        cursor: &mut Cursor<'_, P>,
    ) -> Result<Layer, Refusal> {
        let destination = cursor.take().ok_or(CUT)?;
        let source = cursor.take().ok_or(CUT)?;
        let ethertype = u16::from_be_bytes(cursor.take().ok_or(CUT)?);
        if self.mpls_count == 0 {
            self.link.destination_mac = Some(destination);
            self.link.source_mac = Some(source);
        }
        Ok(Layer::Ethertype(ethertype))
    }

    #[inline]
    fn ethertype<P: PacketBytes + ?Sized>(
        &mut self,
        ethertype: u16,
        cursor: &mut Cursor<'_, P>,
    ) -> Result<Layer, Refusal> {
        let non_ip = match ethertype {
            ethertype::IPV4 => return Ok(Layer::Ip(Network::Ipv4)),
            ethertype::IPV6 => return Ok(Layer::Ip(Network::Ipv6)),
            ethertype::MPLS | ethertype::MPLS_MULTICAST => return Ok(Layer::Mpls),
            ethertype::PPPOE_SESSION => return Ok(Layer::PppoeSession),
            ..ethertype::MIN => return Ok(Layer::Llc),
            tag if ethertype::TAGS.contains(&tag) => return self.tag(cursor),
            ethertype::ARP | ethertype::RARP => NonIp::Arp,
            ethertype::SLOW_PROTOCOLS => NonIp::SlowProtocol,
            ethertype::PPPOE_DISCOVERY => NonIp::PppoeDiscovery,
            ethertype::EAPOL => NonIp::Eapol,
            ethertype::LLDP => NonIp::Lldp,
            ethertype::MACSEC => NonIp::Macsec,
            other => NonIp::Other(other),
        };
        Err(Refusal::NonIp(non_ip))
    }

    #[inline]
    fn tag<P: PacketBytes + ?Sized>(
        &mut self,
        cursor: &mut Cursor<'_, P>,
    ) -> Result<Layer, Refusal> {
        if self.tag_count >= VLAN_TAG_COUNT_MAX {
            return Err(Refusal::Malformed(Malformed::TooManyLayers));
        }
        self.tag_count = self.tag_count.saturating_add(1);
        let control = u16::from_be_bytes(cursor.take().ok_or(CUT)?);
        let ethertype = u16::from_be_bytes(cursor.take().ok_or(CUT)?);
        if self.mpls_count == 0 && self.link.vlan_id.is_none() {
            // The upper four bits are priority and drop eligibility.
            self.link.vlan_id = Some(control & 0x0fff);
        }
        Ok(Layer::Ethertype(ethertype))
    }

    /// Packet type, hardware type, address length, address, protocol.
    #[inline]
    fn linux_sll<P: PacketBytes + ?Sized>(
        &mut self,
        cursor: &mut Cursor<'_, P>,
    ) -> Result<Layer, Refusal> {
        let [_, _, _, _, l0, l1] = cursor.take().ok_or(CUT)?;
        let address: [u8; 8] = cursor.take().ok_or(CUT)?;
        let ethertype = u16::from_be_bytes(cursor.take().ok_or(CUT)?);
        self.note_cooked_address(u16::from_be_bytes([l0, l1]), address);
        Ok(Layer::Ethertype(ethertype))
    }

    /// Protocol, reserved, interface, hardware type, packet type, address length, address.
    #[inline]
    fn linux_sll2<P: PacketBytes + ?Sized>(
        &mut self,
        cursor: &mut Cursor<'_, P>,
    ) -> Result<Layer, Refusal> {
        let ethertype = u16::from_be_bytes(cursor.take().ok_or(CUT)?);
        let [_, _, _, _, _, _, _, _, _, size] = cursor.take().ok_or(CUT)?;
        let address: [u8; 8] = cursor.take().ok_or(CUT)?;
        self.note_cooked_address(u16::from(size), address);
        Ok(Layer::Ethertype(ethertype))
    }

    #[inline]
    fn note_cooked_address(&mut self, size: u16, [a, b, c, d, e, f, _, _]: [u8; 8]) {
        if size == 6 {
            self.link.source_mac = Some([a, b, c, d, e, f]);
        }
    }

    /// The label stack, RFC 3032 section 2.1. No field says what it carries: the payload's
    /// first four bits do, as RFC 4928 section 3 has it.
    #[inline]
    fn mpls<P: PacketBytes + ?Sized>(
        &mut self,
        cursor: &mut Cursor<'_, P>,
    ) -> Result<Layer, Refusal> {
        self.mpls_count = self.mpls_count.saturating_add(1);
        for _ in 0..MPLS_LABEL_COUNT_MAX {
            cursor.forget();
            let [_, _, bottom_of_stack, _] = cursor.take().ok_or(CUT)?;
            if bottom_of_stack & 1 == 1 {
                return mpls_payload(cursor);
            }
        }
        Err(Refusal::Malformed(Malformed::TooManyLayers))
    }
}

#[inline]
fn mpls_payload<P: PacketBytes + ?Sized>(cursor: &mut Cursor<'_, P>) -> Result<Layer, Refusal> {
    let [first] = cursor.peek(0).ok_or(CUT)?;
    match first >> 4 {
        4 if ipv4::is_plausible(cursor) => return Ok(Layer::Ip(Network::Ipv4)),
        6 if ipv6::is_plausible(cursor) => return Ok(Layer::Ip(Network::Ipv6)),
        // RFC 4385 section 3: a pseudowire's control word begins with 0. So do many MAC
        // addresses, therefore the ethertype that follows has to be a known one.
        0 if is_ethernet(cursor, 4) => {
            cursor.advance(4);
            return Ok(Layer::Ethernet);
        }
        _ => {}
    }
    if is_ethernet(cursor, 0) {
        return Ok(Layer::Ethernet);
    }
    match first >> 4 {
        4 => Ok(Layer::Ip(Network::Ipv4)),
        6 => Ok(Layer::Ip(Network::Ipv6)),
        _ => Err(Refusal::NonIp(NonIp::MplsPayload)),
    }
}

/// Could an Ethernet header lie `ahead` of the cursor? Its ethertype tells.
#[inline]
fn is_ethernet<P: PacketBytes + ?Sized>(cursor: &Cursor<'_, P>, ahead: usize) -> bool {
    let Some(octets) = cursor.peek(ahead.saturating_add(12)) else {
        return false;
    };
    match u16::from_be_bytes(octets) {
        ethertype::IPV4
        | ethertype::IPV6
        | ethertype::ARP
        | ethertype::MPLS
        | ethertype::PPPOE_DISCOVERY
        | ethertype::PPPOE_SESSION
        | ethertype::SLOW_PROTOCOLS
        | ethertype::LLDP => true,
        length @ ..ethertype::MIN => {
            let header_size = ahead.saturating_add(14);
            usize::from(length) <= cursor.wire_left().saturating_sub(header_size) && length >= 3
        }
        other => ethertype::TAGS.contains(&other),
    }
}

/// 802.2 LLC, and SNAP behind it (RFC 1042).
#[inline]
fn llc<P: PacketBytes + ?Sized>(cursor: &mut Cursor<'_, P>) -> Result<Layer, Refusal> {
    match cursor.take().ok_or(CUT)? {
        [0xaa, 0xaa, 0x03] => match cursor.take().ok_or(CUT)? {
            // The OUI of ethertypes, and 802.1H's for those that bridges must not translate.
            [0, 0, 0 | 0xf8, e0, e1] => match u16::from_be_bytes([e0, e1]) {
                ..ethertype::MIN => Err(Refusal::NonIp(NonIp::Llc)),
                ethertype => Ok(Layer::Ethertype(ethertype)),
            },
            _ => Err(Refusal::NonIp(NonIp::Llc)),
        },
        // IP's own service access point.
        [0x06, 0x06, 0x03] => Ok(Layer::Ip(Network::Ipv4)),
        _ => Err(Refusal::NonIp(NonIp::Llc)),
    }
}

/// RFC 2516 section 4: version and type, code, session, length; PPP follows.
#[inline]
fn pppoe_session<P: PacketBytes + ?Sized>(cursor: &mut Cursor<'_, P>) -> Result<Layer, Refusal> {
    let [_, code, _, _, _, _] = cursor.take().ok_or(CUT)?;
    if code == 0 { Ok(Layer::Ppp) } else { Err(Refusal::NonIp(NonIp::PppoeDiscovery)) }
}

/// RFC 1661 section 2, in RFC 1662's framing or without.
#[inline]
fn ppp<P: PacketBytes + ?Sized>(cursor: &mut Cursor<'_, P>) -> Result<Layer, Refusal> {
    if cursor.peek(0) == Some([0xff, 0x03]) {
        cursor.advance(2);
    }
    let [first] = cursor.take().ok_or(CUT)?;
    // RFC 1661 section 6.5: the protocol's last octet is odd, any before it even; a first octet
    // that is odd is the whole of a compressed one.
    let protocol = if first & 1 == 1 {
        u16::from(first)
    } else {
        let [second] = cursor.take().ok_or(CUT)?;
        u16::from_be_bytes([first, second])
    };
    match protocol {
        ppp::IPV4 => Ok(Layer::Ip(Network::Ipv4)),
        ppp::IPV6 => Ok(Layer::Ip(Network::Ipv6)),
        ppp::MPLS | ppp::MPLS_MULTICAST => Ok(Layer::Mpls),
        other => Err(Refusal::NonIp(NonIp::PppControl(other))),
    }
}

/// Address, control, ethertype.
#[inline]
fn cisco_hdlc<P: PacketBytes + ?Sized>(cursor: &mut Cursor<'_, P>) -> Result<Layer, Refusal> {
    /// The link's own keepalives, which took reverse ARP's number.
    const SLARP: u16 = 0x8035;
    /// The ethertype under which ISO's protocols stand without an LLC header.
    const ISO: u16 = 0xfefe;
    let [_, _, e0, e1] = cursor.take().ok_or(CUT)?;
    match u16::from_be_bytes([e0, e1]) {
        protocol @ (SLARP | ISO | ..ethertype::MIN) => Err(Refusal::NonIp(NonIp::Other(protocol))),
        ethertype => Ok(Layer::Ethertype(ethertype)),
    }
}

/// BSD's loopback. Families are small numbers, so that the wrong byte order shows.
#[inline]
fn address_family<P: PacketBytes + ?Sized>(cursor: &mut Cursor<'_, P>) -> Result<Layer, Refusal> {
    let octets = cursor.take().ok_or(CUT)?;
    let family = match u32::from_be_bytes(octets) {
        family @ ..0x1_0000 => family,
        swapped => swapped.swap_bytes(),
    };
    match family {
        2 => Ok(Layer::Ip(Network::Ipv4)),
        // Linux, NetBSD and OpenBSD, FreeBSD, macOS.
        10 | 24 | 28 | 30 => Ok(Layer::Ip(Network::Ipv6)),
        other => Err(Refusal::NonIp(NonIp::Family(other))),
    }
}

#[inline]
fn any_ip<P: PacketBytes + ?Sized>(cursor: &Cursor<'_, P>) -> Result<Layer, Refusal> {
    let [first] = cursor.peek(0).ok_or(CUT)?;
    match first >> 4 {
        4 => Ok(Layer::Ip(Network::Ipv4)),
        6 => Ok(Layer::Ip(Network::Ipv6)),
        other => Err(Refusal::Malformed(Malformed::IpVersion(other))),
    }
}
