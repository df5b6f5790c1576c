//! A veth between two network namespaces of a test: its offloads, its counters, raw frames on it.

use crate::namespace::Namespace;
use crate::support::wait_until;
use crate::system::{FrameSocket, set_offload};
use std::fs;

/// Octets of an Ethernet header without tags.
pub(crate) const ETHERNET_SIZE: u64 = 14;

/// MAC addresses of the two ends: the metered one, and the other.
pub(crate) const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

/// Work on segments that an interface takes over from the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offloads {
    On,
    Off,
}

/// One end of a veth.
#[derive(Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) name: &'static str,
}

/// What an interface counts itself, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) octets: u64,
    pub(crate) frames: u64,
    pub(crate) dropped: u64,
}

/// Joins two namespaces by a veth without addresses and without IPv6, so that nothing is on it
/// but what the test sends. Both ends are up and carry.
pub(crate) fn join<'a>(near: End<'a>, far: End<'a>, offloads: Offloads, mtu: u32) {
    let (here, there, peer) = (near.name, far.name, far.namespace.name());
    near.namespace.ip(&format!("link add {here} type veth peer name {there} netns {peer}"));
    for (end, mac) in [(near, MACS[0]), (far, MACS[1])] {
        end.set_ipv6(false);
        end.set_offloads(offloads);
        let mac = text(mac);
        end.namespace.ip(&format!("link set {} address {mac} mtu {mtu}", end.name));
        end.namespace.ip(&format!("link set {} up", end.name));
    }
    // What an interface is given before it carries, it drops.
    for end in [near, far] {
        wait_until("the link carries", || {
            end.namespace.ask("ip", &format!("link show {}", end.name)).contains("state UP")
        });
    }
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

impl End<'_> {
    /// Gives it the IPv4 address that ends in this number. The other's MAC is told, so that the
    /// kernels send no ARP of their own.
    pub(crate) fn give_ipv4_address(&self, number: u8) {
        let (Self { namespace, name }, other) = (self, 3 - number);
        let mac = text(MACS[usize::from(other) - 1]);
        namespace.ip(&format!("addr add 192.0.2.{number}/24 dev {name}"));
        namespace.ip(&format!("neigh add 192.0.2.{other} lladdr {mac} dev {name} nud permanent"));
    }

    /// Gives it IPv6, and the address that ends in this number: from now on the kernel talks of
    /// neighbours and multicast groups.
    pub(crate) fn give_ipv6_address(&self, number: u8) {
        self.set_ipv6(true);
        self.namespace.ip(&format!("addr add 2001:db8::{number}/64 dev {}", self.name));
    }

    /// Waits until no address of it is still looked for elsewhere (RFC 4862 section 5.4).
    pub(crate) fn wait_for_addresses(&self) {
        wait_until("the addresses are found to be nobody else's", || {
            let Self { namespace, name } = self;
            namespace.ask("ip", &format!("-6 addr show dev {name} tentative")).is_empty()
                && namespace.ask("ip", &format!("-6 addr show dev {name}")).contains("fe80")
        });
    }

    /// Takes its addresses, so that the kernel has nothing more to send by it.
    pub(crate) fn silence(&self) {
        self.set_ipv6(false);
        self.namespace.ip(&format!("addr flush dev {}", self.name));
    }

    fn set_ipv6(&self, is_on: bool) {
        let switch = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.name);
        self.namespace.inside(|| fs::write(switch, if is_on { "0" } else { "1" }).unwrap());
    }

    /// Turns segmentation by the interface, the generic one and generic receiving on or off.
    fn set_offloads(&self, offloads: Offloads) {
        // ETHTOOL_STSO, ETHTOOL_SGSO and ETHTOOL_SGRO of linux/ethtool.h. Without the generic one
        // the interface's own would be refused.
        const COMMANDS: [u32; 3] = [0x1f, 0x24, 0x2c];
        self.namespace.inside(|| {
            for command in COMMANDS {
                set_offload(self.name, command, u32::from(offloads == Offloads::On)).unwrap();
            }
        });
    }

    /// What it received and what it sent since it was made.
    pub(crate) fn counted(&self) -> [Counted; 2] {
        let table =
            self.namespace.inside(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let columns: Vec<u64> = table
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(interface, _)| interface.trim() == self.name)
            .map(|(_, columns)| columns.split_whitespace().map(|it| it.parse().unwrap()).collect())
            .unwrap();
        // Eight columns of what was received, then eight of what was sent.
        [0, 8].map(|at| Counted {
            octets: columns[at],
            frames: columns[at + 1],
            dropped: columns[at + 3],
        })
    }

    /// A socket that sends whole frames by it.
    pub(crate) fn frames(&self) -> FrameSocket {
        self.namespace.inside(|| FrameSocket::open(self.name).unwrap())
    }
}
