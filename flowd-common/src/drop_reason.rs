//! Why a packet was not accounted to a flow.

macro_rules! define_drop_reason {
    ($(($variant:ident, $name:literal, $doc:literal),)*) => {
        /// Why a packet was not accounted to a flow; its number is the index of its counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum DropReason {
            $(#[doc = $doc] $variant,)*
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name that users see.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The index of its counter.
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

define_drop_reason! {
    (Arp, "arp", "Address resolution, forward or reverse."),
    (Llc, "llc", "An 802.2 LLC frame of another network: spanning tree, IS-IS, IPX, CDP."),
    (Lldp, "lldp", "Link layer discovery."),
    (Eapol, "eapol", "Port authentication, 802.1X."),
    (SlowProtocol, "slowProtocol", "Link aggregation control, OAM: 802.3's slow protocols."),
    (Macsec, "macsec", "MACsec, whose payload may be encrypted."),
    (PppoeDiscovery, "pppoeDiscovery", "PPPoE before its session."),
    (PppControl, "pppControl", "PPP itself: link control, authentication, network control."),
    (MplsPayload, "mplsPayload", "Below the label stack is neither IP nor Ethernet."),
    (OtherEthertype, "otherEthertype", "An ethertype that is not IP's and not named here."),
    (OtherFamily, "otherFamily", "An address family of a loopback link that is not IP's."),
    (UnsupportedLinkType, "unsupportedLinkType", "A link type that is not read."),
    (LinkHeaderCut, "linkHeaderCut", "The frame ends before its IP header begins."),
    (TooManyLayers, "tooManyLayers", "More tags, labels or headers than are walked."),
    (Ipv4HeaderCut, "ipv4HeaderCut", "The frame ends within the IPv4 header."),
    (Ipv4Version, "ipv4Version", "Announced as IPv4, but its version is not 4."),
    (Ipv4HeaderLength, "ipv4HeaderLength", "The IPv4 header claims less than 20 octets."),
    (Ipv4TotalLength, "ipv4TotalLength", "The IPv4 packet claims to be shorter than its header."),
    (Ipv6HeaderCut, "ipv6HeaderCut", "The frame ends within the IPv6 header."),
    (Ipv6Version, "ipv6Version", "Announced as IPv6, but its version is not 6."),
    (IpVersion, "ipVersion", "An IP packet by its link type, but its version is neither 4 nor 6."),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_follow_the_order_and_names_differ() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            let same_name = DropReason::ALL.iter().filter(|other| other.name() == reason.name());
            assert_eq!(same_name.count(), 1, "{}", reason.name());
        }
    }
}
