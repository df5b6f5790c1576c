//! IndexKey: what the index can be asked for, as numbers of 64 bits.
//!
//! A record puts in: each of its addresses with the two networks around it, and each of its
//! addresses with each of its ports below [`INDEXED_PORTS_END`] and its transport. So whoever
//! looks for records that have an address, or an address and such a port, whichever side each is
//! on, may ask for these keys; nothing else may be concluded from them.

use std::net::IpAddr;

/// Ports from here on are mostly those of clients, a new one each connection: they are not
/// indexed.
pub const INDEXED_PORTS_END: u16 = 32_768;

/// What the records of some rows may have in common with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexKey {
    /// The source or the destination is this address.
    Address(IpAddr),
    /// The source or the destination is in the network of this size around this address.
    Network(IpAddr, NetworkSize),
    /// The source or the destination is this address, and the source or the destination port,
    /// which is below [`INDEXED_PORTS_END`], is this one.
    Service(IpAddr, u16, Transport),
}

/// Which of the two networks around an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetworkSize {
    /// /24 of IPv4, /64 of IPv6.
    Small,
    /// /16 of IPv4, /48 of IPv6.
    Large,
}

/// What ports belong to. Protocols other than the two that nearly all traffic has share one, so
/// that a question that names no protocol is three keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are what they say")]
pub enum Transport {
    Tcp,
    Udp,
    /// Any other protocol, or none.
    Other,
}

impl NetworkSize {
    /// Both sizes.
    pub const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// The length of the prefix in IPv4 and in IPv6.
    #[must_use]
    pub const fn lengths(self) -> (u8, u8) {
        match self {
            Self::Small => (24, 64),
            Self::Large => (16, 48),
        }
    }
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Other];

    /// That of a protocol's number.
    #[must_use]
    pub const fn of(protocol: Option<u8>) -> Self {
        match protocol {
            Some(6) => Self::Tcp,
            Some(17) => Self::Udp,
            _ => Self::Other,
        }
    }
}

// What distinguishes the kinds of keys, above 48 bits of IPv4 address and port.
const ADDRESS: u64 = 1 << 56;
const SMALL_NETWORK: u64 = 2 << 56;
const LARGE_NETWORK: u64 = 3 << 56;
const SERVICE: u64 = 4 << 56;
const IPV6: u64 = 1 << 60;

impl IndexKey {
    /// The key as a number. The seed is that of the file, so that what two files take for the
    /// same key by chance differs.
    #[must_use]
    pub fn hash(self, seed: u64) -> u64 {
        let (address, tag) = match self {
            Self::Address(address) => (address, ADDRESS),
            Self::Network(address, NetworkSize::Small) => (address, SMALL_NETWORK),
            Self::Network(address, NetworkSize::Large) => (address, LARGE_NETWORK),
            Self::Service(address, port, transport) => (address, service_tag(port, transport)),
        };
        match (address, self) {
            (IpAddr::V4(address), Self::Network(_, size)) => {
                let shift = 32 - u32::from(size.lengths().0);
                hash_v4(address.to_bits() >> shift << shift, tag, seed)
            }
            (IpAddr::V6(address), Self::Network(_, size)) => {
                let shift = 128 - u32::from(size.lengths().1);
                hash_v6(address.to_bits() >> shift << shift, tag, seed)
            }
            (IpAddr::V4(address), _) => hash_v4(address.to_bits(), tag, seed),
            (IpAddr::V6(address), _) => hash_v6(address.to_bits(), tag, seed),
        }
    }
}

const fn service_tag(port: u16, transport: Transport) -> u64 {
    SERVICE | (transport as u64) << 48 | (port as u64) << 32
}

/// Different keys of IPv4 have different hashes: each step can be turned back.
const fn hash_v4(address: u32, tag: u64, seed: u64) -> u64 {
    mix((tag | address as u64) ^ seed)
}

const fn hash_v6(address: u128, tag: u64, seed: u64) -> u64 {
    let (high, low) = ((address >> 64) as u64, address as u64);
    mix(mix(mix((tag | IPV6) ^ seed) ^ high) ^ low)
}

/// Spreads each bit over all (the finaliser of splitmix64); different numbers stay different.
pub(super) const fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_network_share_its_key_and_no_other() {
        for (one, other, stranger) in [
            ("10.1.2.3", "10.1.2.250", "10.1.3.3"),
            ("2001:db8:1:2::3", "2001:db8:1:2:ffff::", "2001:db8:1:3::3"),
        ] {
            let hash = |text: &str, size| IndexKey::Network(text.parse().unwrap(), size).hash(7);
            assert_eq!(hash(one, NetworkSize::Small), hash(other, NetworkSize::Small));
            assert_ne!(hash(one, NetworkSize::Small), hash(stranger, NetworkSize::Small));
            assert_eq!(hash(one, NetworkSize::Large), hash(stranger, NetworkSize::Large));
            assert_ne!(hash(one, NetworkSize::Small), hash(one, NetworkSize::Large));
        }
    }

    #[test]
    fn kind_family_port_transport_and_seed_tell_keys_apart() {
        let v4: IpAddr = "10.0.0.0".parse().unwrap();
        let v6: IpAddr = "::10.0.0.0".parse().unwrap();
        // Seeds with each of the bits by which kinds differ, among others.
        for seed in [0, 7, 1 << 56, 2 << 56, 3 << 56, 1 << 60, u64::MAX] {
            let mut hashes = Vec::new();
            for address in [v4, v6] {
                hashes.push(IndexKey::Address(address).hash(seed));
                let networks = NetworkSize::ALL.map(|size| IndexKey::Network(address, size));
                hashes.extend(networks.map(|key| key.hash(seed)));
                for port in [0, 1, 256] {
                    let key = |transport| IndexKey::Service(address, port, transport).hash(seed);
                    hashes.extend(Transport::ALL.map(key));
                }
            }
            let count = hashes.len();
            hashes.sort_unstable();
            hashes.dedup();
            assert_eq!(hashes.len(), count, "seed {seed:x}");
        }
        assert_ne!(IndexKey::Address(v6).hash(7), IndexKey::Address(v6).hash(8));
    }
}
