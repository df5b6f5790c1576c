//! Who may send: prefixes of addresses that are listened to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Octets that `::ffff:0:0/96` puts before an IPv4 address, in bits.
const MAPPED_LENGTH: u8 = 96;

/// Addresses that begin alike: `192.0.2.0/24`, `2001:db8::/32`, or one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrefixError {
    /// The part before the slash is no address.
    #[error("`{0}` is no address or prefix; write 192.0.2.0/24, 2001:db8::/32 or an address")]
    Address(String),
    /// The part after the slash is no length of such a prefix.
    #[error("`{text}`: the length of a prefix of this family is a number from 0 to {max}")]
    Length {
        /// What was written.
        text: String,
        /// The longest of the family.
        max: u8,
    },
    /// The address has bits beyond the length: one of the two is a mistake.
    #[error("`{text}` has bits beyond its length; write {prefix} for all of these addresses, or {} for one", .prefix.with_address(text))]
    Bits {
        /// What was written.
        text: String,
        /// The prefix that it lies in.
        prefix: Prefix,
    },
}

impl Prefix {
    /// First and last address, as numbers.
    fn range(&self) -> (u128, u128) {
        let (first, width) = match self.address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        (first, first | host_bits(self.length, width))
    }

    /// The address of a text that lies in this prefix, for a hint.
    fn with_address(&self, text: &str) -> String {
        text.split('/').next().unwrap_or(text).to_owned()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_unsaid| PrefixError::Address(text.to_owned()))?;
        let width = width(address);
        let length = match length {
            None => width,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= width)
                .ok_or_else(|| PrefixError::Length { text: text.to_owned(), max: width })?,
        };
        let prefix = Self { address: network(address, length), length }.canonical();
        if network(address, length) != address {
            return Err(PrefixError::Bits { text: text.to_owned(), prefix });
        }
        Ok(prefix)
    }
}

impl Prefix {
    /// `::ffff:192.0.2.0/120` is `192.0.2.0/24`.
    fn canonical(self) -> Self {
        match (self.address.to_canonical(), self.length.checked_sub(MAPPED_LENGTH)) {
            (address @ IpAddr::V4(_), Some(length)) if self.address.is_ipv6() => {
                Self { address, length }
            }
            _ => self,
        }
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The bits of an address after so many, all of them one.
fn host_bits(length: u8, width: u8) -> u128 {
    let free = u32::from(width.saturating_sub(length));
    u128::MAX.checked_shr(128u32.saturating_sub(free)).unwrap_or(0)
}

/// The address with all bits after the length zero.
fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(u32::from(32u8.saturating_sub(length))).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !host_bits(length, 128)).into()
        }
    }
}

/// Who may send. Looked up for each datagram: ranges that do not touch, in order.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// None: everyone may.
    allowed: Option<Allowed>,
}

#[derive(Clone, Debug)]
struct Allowed {
    ipv4: Box<[(u128, u128)]>,
    ipv6: Box<[(u128, u128)]>,
}

impl Access {
    /// Everyone may send.
    #[must_use]
    pub const fn everyone() -> Self {
        Self { allowed: None }
    }

    /// Only addresses within these prefixes may.
    ///
    /// ```
    /// use flowd::collect::Access;
    ///
    /// let access = Access::only(&["192.0.2.0/24".parse()?, "2001:db8::1".parse()?]);
    /// assert!(access.allows("192.0.2.7".parse()?));
    /// assert!(access.allows("::ffff:192.0.2.7".parse()?));
    /// assert!(!access.allows("2001:db8::2".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn only(prefixes: &[Prefix]) -> Self {
        let ranges = |of_family: fn(&IpAddr) -> bool| {
            let of_family = prefixes.iter().filter(|prefix| of_family(&prefix.address));
            joined(of_family.map(Prefix::range).collect())
        };
        let allowed = Allowed { ipv4: ranges(IpAddr::is_ipv4), ipv6: ranges(IpAddr::is_ipv6) };
        Self { allowed: Some(allowed) }
    }

    /// May this address send?
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let Some(Allowed { ipv4, ipv6 }) = &self.allowed else {
            return true;
        };
        let (ranges, number) = match address.to_canonical() {
            IpAddr::V4(address) => (ipv4, u128::from(address.to_bits())),
            IpAddr::V6(address) => (ipv6, address.to_bits()),
        };
        let after = ranges.partition_point(|&(first, _)| first <= number);
        let before = after.checked_sub(1).and_then(|index| ranges.get(index));
        before.is_some_and(|&(_, last)| number <= last)
    }
}

/// The same numbers in ranges that are in order and have gaps between them.
fn joined(mut ranges: Vec<(u128, u128)>) -> Box<[(u128, u128)]> {
    ranges.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn access(prefixes: &[&str]) -> Access {
        let prefixes: Vec<Prefix> = prefixes.iter().map(|text| text.parse().unwrap()).collect();
        Access::only(&prefixes)
    }

    #[test]
    fn prefixes_of_both_families_hold_their_addresses_and_no_others() {
        let access =
            access(&["192.0.2.0/24", "198.51.100.7", "2001:db8::/33", "::1", "203.0.113.0/31"]);
        for (address, may) in [
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.1.255", false),
            ("192.0.3.0", false),
            ("198.51.100.7", true),
            ("198.51.100.6", false),
            ("198.51.100.8", false),
            ("203.0.113.1", true),
            ("203.0.113.2", false),
            ("::ffff:192.0.2.9", true),
            ("::ffff:192.0.3.9", false),
            ("2001:db8:7fff:ffff::1", true),
            ("2001:db8:8000::", false),
            ("::1", true),
            ("::", false),
            ("::2", false),
        ] {
            assert_eq!(access.allows(address.parse().unwrap()), may, "{address}");
        }
    }

    #[test]
    fn the_whole_of_a_family_is_that_family_alone() {
        let four = access(&["0.0.0.0/0"]);
        let six = access(&["::/0"]);
        let [v4, v6] = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        assert!(four.allows(v4) && !four.allows(v6));
        assert!(six.allows(v6) && !six.allows(v4));
        assert!(Access::everyone().allows(v4) && Access::everyone().allows(v6));
        assert!(!Access::only(&[]).allows(v4));
    }

    #[test]
    fn a_mapped_prefix_is_one_of_ipv4() {
        let prefix: Prefix = "::ffff:192.0.2.0/120".parse().unwrap();
        assert_eq!(prefix.to_string(), "192.0.2.0/24");
        assert_eq!("::ffff:192.0.2.1".parse::<Prefix>().unwrap().to_string(), "192.0.2.1/32");
    }

    #[test]
    fn a_mistake_is_told_with_what_to_write() {
        for (text, words) in [
            ("router1", "write 192.0.2.0/24"),
            ("192.0.2", "`192.0.2` is no address"),
            ("", "`` is no address"),
            ("192.0.2.0/33", "from 0 to 32"),
            ("192.0.2.0/", "from 0 to 32"),
            ("192.0.2.0/-1", "from 0 to 32"),
            ("2001:db8::/129", "from 0 to 128"),
            ("192.0.2.1/24", "write 192.0.2.0/24 for all of these addresses, or 192.0.2.1 for one"),
            ("2001:db8::1/64", "write 2001:db8::/64"),
            ("::ffff:192.0.2.1/120", "write 192.0.2.0/24"),
        ] {
            let error = text.parse::<Prefix>().unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn ranges_answer_as_the_prefixes_one_by_one(
            prefixes in proptest::collection::vec((any::<u32>(), 0u8..=32), 1..20),
            probes in proptest::collection::vec(any::<u32>(), 20),
        ) {
            let masked = |bits: u32, length: u8| {
                if length == 0 { 0 } else { bits >> (32 - length) << (32 - length) }
            };
            let texts: Vec<String> = prefixes
                .iter()
                .map(|&(bits, length)| {
                    format!("{}/{length}", Ipv4Addr::from_bits(masked(bits, length)))
                })
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let access = access(&texts);
            let edges = prefixes.iter().flat_map(|&(bits, length)| {
                let first = masked(bits, length);
                let last = first | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                [first, first.wrapping_sub(1), last, last.wrapping_add(1)]
            });
            for probe in probes.iter().copied().chain(edges) {
                let expected = prefixes
                    .iter()
                    .any(|&(bits, length)| masked(bits, length) == masked(probe, length));
                prop_assert_eq!(access.allows(Ipv4Addr::from_bits(probe).into()), expected);
            }
        }
    }
}
