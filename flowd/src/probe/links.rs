//! links: the interfaces of this network namespace, as they appear, change and vanish (rtnetlink).
//!
//! The kernel is asked to tell of changes before it is asked what is there, so that nothing lies
//! between the two. If it could not keep what it had to tell, what is there is read anew and the
//! difference told.

use flowd_common::packet::LinkType;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType, LinkMessage, Stats64};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The multicast group of changes to interfaces.
const RTMGRP_LINK: u32 = 1;
/// Message types of rtnetlink(7).
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
/// Attributes of an interface, of linux/if_link.h.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_STATS64: u16 = 23;
const IFLA_PARENT_DEV_NAME: u16 = 56;
/// Octets read at a time: the kernel makes no longer messages of interfaces.
const BUFFER_SIZE: usize = 1 << 16;
/// What the kernel keeps for us of changes that were not yet read.
const EVENT_BUFFER_SIZE: u32 = 1 << 20;
/// Datagrams of changes read at a time, so that a storm of them cannot hold up metering.
const EVENT_COUNT_MAX: usize = 4_096;
/// Times that reading is begun anew because an interface came or went meanwhile.
const DUMP_COUNT_MAX: usize = 8;

/// Packets and octets of layer 2, as an interface counts them itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Packets; one that the kernel is still to segment counts once.
    pub packets: u64,
    /// Octets of layer 2.
    pub octets: u64,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in this network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What its owner wrote of it (`ip link set alias`), or nothing.
    pub description: String,
    /// What its packets begin with.
    pub link_type: LinkType,
    /// Is it the loopback interface?
    pub is_loopback: bool,
    /// Is there a device behind it, and not only the kernel?
    pub is_physical: bool,
    /// Was it set up by its owner? Otherwise no packet passes it.
    pub is_up: bool,
    /// What it received.
    pub received: LinkCounters,
    /// What it sent.
    pub sent: LinkCounters,
}

impl Link {
    /// Is it, but for its counters, what it was?
    fn is_as(&self, before: &Self) -> bool {
        let uncounted = Self { received: before.received, sent: before.sent, ..self.clone() };
        uncounted == *before
    }
}

/// What became of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is there now.
    Appeared(Link),
    /// It has another name, description or state.
    Changed(Link),
    /// It is gone, by deletion or into another network namespace.
    Vanished(Link),
}

/// Why interfaces cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The kernel cannot be asked.
    #[error(
        "interfaces cannot be read by netlink ({action}: {source}); allow sockets of AF_NETLINK"
    )]
    Netlink {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such interface.
    #[error("interface {index} is gone")]
    Gone {
        /// Its number.
        index: u32,
    },
}

const fn netlink(action: &'static str) -> impl FnOnce(io::Error) -> LinkError {
    move |source| LinkError::Netlink { action, source }
}

/// Follows the interfaces of the network namespace that it was made in.
#[derive(Debug)]
pub struct LinkMonitor {
    events: Socket,
    requests: Socket,
    links: BTreeMap<u32, Link>,
    sequence_number: u32,
    buffer: Vec<u8>,
    /// The kernel had more to tell than it could keep.
    is_behind: bool,
}

impl LinkMonitor {
    /// Subscribes to changes, then reads what is there.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn new() -> Result<Self, LinkError> {
        let mut events = Socket::new(NETLINK_ROUTE).map_err(netlink("open a socket"))?;
        events.bind(&SocketAddr::new(0, RTMGRP_LINK)).map_err(netlink("subscribe"))?;
        events.set_non_blocking(true).map_err(netlink("set up a socket"))?;
        events.set_rx_buf_sz(EVENT_BUFFER_SIZE).map_err(netlink("set up a socket"))?;
        let mut requests = Socket::new(NETLINK_ROUTE).map_err(netlink("open a socket"))?;
        requests.bind_auto().map_err(netlink("bind a socket"))?;
        let mut monitor = Self {
            events,
            requests,
            links: BTreeMap::new(),
            sequence_number: 0,
            buffer: Vec::with_capacity(BUFFER_SIZE),
            is_behind: false,
        };
        monitor.links = monitor.dump()?;
        Ok(monitor)
    }

    /// All interfaces, as they were told of last; their counters are as old as that.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// An interface with its counters as they are now.
    ///
    /// # Errors
    /// If it is gone or the kernel cannot be asked.
    pub fn look(&mut self, index: u32) -> Result<Link, LinkError> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        let (mut links, _) = self.request(request, NLM_F_REQUEST)?;
        links.remove(&index).ok_or(LinkError::Gone { index })
    }

    /// What became of interfaces since the last call. It does not wait.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn events(&mut self) -> Result<Vec<LinkEvent>, LinkError> {
        let mut events = Vec::new();
        for _ in 0..EVENT_COUNT_MAX {
            self.buffer.clear();
            let (size, sender) = match self.events.recv_from(&mut self.buffer, libc::MSG_TRUNC) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.is_behind = true;
                    continue;
                }
                Err(error) => return Err(netlink("read changes")(error)),
            };
            self.is_behind |= size > self.buffer.len();
            // Any process may send to a netlink socket; the kernel's own port is 0.
            if sender.port_number() == 0 {
                for (kind, message) in messages(&self.buffer).map(|it| (it.kind, it.payload)) {
                    note(&mut self.links, kind, message, &mut events);
                }
            }
        }
        if self.is_behind {
            let now = self.dump()?;
            let before = std::mem::replace(&mut self.links, now);
            difference(&before, &self.links, &mut events);
            self.is_behind = false;
        }
        Ok(events)
    }

    /// All interfaces, read anew.
    fn dump(&mut self) -> Result<BTreeMap<u32, Link>, LinkError> {
        let mut count = 1;
        loop {
            let request = LinkMessage::default();
            let (links, is_torn) = self.request(request, NLM_F_REQUEST | NLM_F_DUMP)?;
            if !is_torn || count == DUMP_COUNT_MAX {
                // What changes that often is told of by events as well.
                return Ok(links);
            }
            count += 1;
        }
    }

    /// Asks for interfaces; says too whether the answer was torn by a change meanwhile.
    fn request(
        &mut self,
        request: LinkMessage,
        flags: u16,
    ) -> Result<(BTreeMap<u32, Link>, bool), LinkError> {
        self.sequence_number = self.sequence_number.wrapping_add(1);
        let payload = NetlinkPayload::from(RouteNetlinkMessage::GetLink(request));
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.header.flags = flags;
        message.header.sequence_number = self.sequence_number;
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        self.requests
            .send_to(&octets, &SocketAddr::new(0, 0), 0)
            .map_err(netlink("ask for interfaces"))?;
        let mut links = BTreeMap::new();
        let mut is_torn = false;
        loop {
            self.buffer.clear();
            let (_, sender) = match self.requests.recv_from(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received.map_err(netlink("read interfaces"))?,
            };
            let ours = messages(&self.buffer)
                .filter(|it| sender.port_number() == 0 && it.number == self.sequence_number);
            for Message { kind, flags: answer_flags, payload, .. } in ours {
                is_torn |= answer_flags & NLM_F_DUMP_INTR != 0;
                match kind {
                    RTM_NEWLINK => links.extend(read_link(payload).map(|it| (it.index, it))),
                    NLMSG_DONE => return Ok((links, is_torn)),
                    NLMSG_ERROR => return refusal(payload).map(|()| (links, is_torn)),
                    _ => {}
                }
                if kind == RTM_NEWLINK && flags & NLM_F_DUMP == 0 {
                    return Ok((links, is_torn));
                }
            }
        }
    }
}

/// What an error message of netlink(7) says: an error number, negative; ENODEV is no error but
/// the answer that there is no such interface.
fn refusal(payload: &[u8]) -> Result<(), LinkError> {
    let number = payload.first_chunk().map_or(0, |number| i32::from_ne_bytes(*number));
    match number.checked_neg() {
        Some(0 | libc::ENODEV) => Ok(()),
        Some(number) => Err(netlink("ask for interfaces")(io::Error::from_raw_os_error(number))),
        None => Err(netlink("ask for interfaces")(io::ErrorKind::InvalidData.into())),
    }
}

/// One message of a datagram.
struct Message<'a> {
    kind: u16,
    flags: u16,
    number: u32,
    payload: &'a [u8],
}

/// The messages of a datagram, up to the first that is broken.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let size = usize::try_from(message.length()).ok()?.next_multiple_of(4);
        rest = rest.get(size..).unwrap_or_default();
        Some(Message {
            kind: message.message_type(),
            flags: message.flags(),
            number: message.sequence_number(),
            payload: message.payload(),
        })
    })
}

/// Reads an interface. Only what is asked for is decoded, so that no other attribute of a newer
/// kernel can spoil it.
fn read_link(payload: &[u8]) -> Option<Link> {
    let header = LinkHeader::parse(payload).ok()?;
    // A bridge tells of its ports with messages of its own family: they come and go as ports
    // while the interfaces stay.
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let is_loopback = header.link_layer_type == LinkLayerType::Loopback;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        description: String::new(),
        link_type: link_type(header.link_layer_type),
        is_loopback,
        is_physical: false,
        is_up: header.flags.contains(LinkFlags::Up),
        received: LinkCounters::default(),
        sent: LinkCounters::default(),
    };
    let (mut is_made_by_kernel, mut has_parent) = (is_loopback, false);
    for attribute in NlasIterator::new(payload.get(HEADER_SIZE..)?).map_while(Result::ok) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_IFNAME => link.name = text(value),
            IFLA_IFALIAS => link.description = text(value),
            IFLA_LINKINFO => is_made_by_kernel = true,
            IFLA_PARENT_DEV_NAME => has_parent = true,
            IFLA_STATS64 => {
                if let Ok(stats) = Stats64::parse(value) {
                    let Stats64 { rx_packets, rx_bytes, tx_packets, tx_bytes, .. } = stats;
                    link.received = LinkCounters { packets: rx_packets, octets: rx_bytes };
                    link.sent = LinkCounters { packets: tx_packets, octets: tx_bytes };
                }
            }
            _ => {}
        }
    }
    link.is_physical = !is_made_by_kernel && (has_parent || has_device(&link));
    (!link.name.is_empty()).then_some(link)
}

/// Octets of `ifinfomsg`, before the attributes.
const HEADER_SIZE: usize = 16;

/// Does sysfs know a device behind the interface? Kernels before 5.14 do not say it by netlink.
/// The sysfs that is mounted may be another namespace's, hence the look at the number.
fn has_device(link: &Link) -> bool {
    let path = Path::new("/sys/class/net").join(&link.name);
    let index = std::fs::read_to_string(path.join("ifindex"));
    index.is_ok_and(|text| text.trim().parse() == Ok(link.index)) && path.join("device").exists()
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&octet| octet == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

/// What packets of an interface begin with, where programs and captures see them.
fn link_type(kind: LinkLayerType) -> LinkType {
    match kind {
        LinkLayerType::Ether | LinkLayerType::Loopback => LinkType::Ethernet,
        LinkLayerType::None
        | LinkLayerType::Rawip
        | LinkLayerType::Ppp
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit
        | LinkLayerType::Ipgre
        | LinkLayerType::Ip6gre => LinkType::RawIp,
        other => LinkType::Unknown(u32::from(u16::from(other))),
    }
}

/// Enters a change.
fn note(links: &mut BTreeMap<u32, Link>, kind: u16, payload: &[u8], events: &mut Vec<LinkEvent>) {
    let Some(link) = read_link(payload) else { return };
    match kind {
        RTM_NEWLINK => match links.insert(link.index, link.clone()) {
            None => events.push(LinkEvent::Appeared(link)),
            Some(before) if !link.is_as(&before) => events.push(LinkEvent::Changed(link)),
            Some(_) => {}
        },
        RTM_DELLINK => {
            events.extend(links.remove(&link.index).map(LinkEvent::Vanished));
        }
        _ => {}
    }
}

/// What lies between two readings.
fn difference(
    before: &BTreeMap<u32, Link>,
    now: &BTreeMap<u32, Link>,
    events: &mut Vec<LinkEvent>,
) {
    let gone = before.values().filter(|link| !now.contains_key(&link.index));
    events.extend(gone.cloned().map(LinkEvent::Vanished));
    for link in now.values() {
        match before.get(&link.index) {
            None => events.push(LinkEvent::Appeared(link.clone())),
            Some(was) if !link.is_as(was) => events.push(LinkEvent::Changed(link.clone())),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
