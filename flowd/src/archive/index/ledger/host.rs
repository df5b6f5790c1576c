//! What a ledger knows of an address, as numbers and as octets.

use std::net::IpAddr;

/// Days in a window: a bit each.
pub(super) const WINDOW_DAYS: i64 = 32;

/// The window of a day counted from 1970, and the day's bit in it.
pub(super) const fn place_of(day: i64) -> (i64, u32) {
    (day.div_euclid(WINDOW_DAYS), 1 << day.rem_euclid(WINDOW_DAYS))
}

/// Amounts, summed. A sum that would be greater than its type is the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Records.
    pub flows: u64,
    /// Packets in both directions.
    pub packets: u64,
    /// Octets in both directions.
    pub octets: u64,
}

impl Sums {
    /// Adds others; was one of the sums too great?
    pub(super) fn add(&mut self, other: Self) -> bool {
        let mut is_saturated = false;
        let Self { flows, packets, octets } = other;
        let pairs =
            [(&mut self.flows, flows), (&mut self.packets, packets), (&mut self.octets, octets)];
        for (sum, amount) in pairs {
            is_saturated |= sum.checked_add(amount).is_none();
            *sum = sum.saturating_add(amount);
        }
        is_saturated
    }
}

/// An address as it is sorted: IPv4 first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HostKey {
    pub(super) is_ipv6: bool,
    pub(super) address: u128,
}

impl HostKey {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self { is_ipv6: false, address: address.to_bits().into() },
            IpAddr::V6(address) => Self { is_ipv6: true, address: address.to_bits() },
        }
    }

    /// The first and the last address of a network around an address.
    pub(super) fn network(address: IpAddr, length: u8) -> (Self, Self) {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let host_bits = 128_u32.saturating_sub(bits - u32::from(length).min(bits));
        // All ones where the hosts are: none of them for a whole address, all for a length of 0.
        let hosts = u128::MAX.checked_shr(host_bits).unwrap_or(0);
        let key = Self::of(address);
        let first = Self { address: key.address & !hosts, ..key };
        (first, Self { address: first.address | hosts, ..key })
    }
}

/// What some records say of an address that they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The days of a window on which such were received.
    pub(super) days: u32,
    /// The earliest start and the latest end; none if no record told a time.
    pub(super) times: Option<(i64, i64)>,
    /// As source.
    pub(super) source: Sums,
    /// As destination.
    pub(super) destination: Sums,
    /// Is a sum less than what was added?
    pub(super) is_saturated: bool,
}

impl Seen {
    pub(super) fn add(&mut self, other: &Self) {
        self.days |= other.days;
        self.widen(other.times);
        self.is_saturated |= other.is_saturated;
        self.is_saturated |= self.source.add(other.source);
        self.is_saturated |= self.destination.add(other.destination);
    }

    pub(super) fn widen(&mut self, times: Option<(i64, i64)>) {
        self.times = match (self.times, times) {
            (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
            (one, other) => one.or(other),
        };
    }
}

/// A record of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostRecord {
    pub(super) key: HostKey,
    pub(super) seen: Seen,
}

const IPV6: u8 = 1;
const HAS_TIMES: u8 = 2;
const SATURATED: u8 = 4;
/// No record takes more octets.
pub(super) const RECORD_SIZE_MAX: usize = 1 + 19 + 5 + 10 + 10 + 6 * 10;

/// What a record is written as the difference to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    is_ipv6: bool,
    address: u128,
    first: i64,
}

/// Appends a record that comes after another.
pub(super) fn encode(record: &HostRecord, before: &mut Before, out: &mut Vec<u8>) {
    let HostRecord { key, seen } = record;
    if key.is_ipv6 != before.is_ipv6 {
        before.address = 0;
    }
    let mut flags = 0;
    flags |= if key.is_ipv6 { IPV6 } else { 0 };
    flags |= if seen.times.is_some() { HAS_TIMES } else { 0 };
    flags |= if seen.is_saturated { SATURATED } else { 0 };
    out.push(flags);
    put(out, key.address.wrapping_sub(before.address));
    put(out, seen.days.into());
    if let Some((first, last)) = seen.times {
        put(out, zigzag(first.wrapping_sub(before.first)).into());
        put(out, (last.wrapping_sub(first) as u64).into());
        before.first = first;
    }
    for Sums { flows, packets, octets } in [seen.source, seen.destination] {
        [flows, packets, octets].into_iter().for_each(|sum| put(out, sum.into()));
    }
    (before.is_ipv6, before.address) = (key.is_ipv6, key.address);
}

/// Takes a record from the front of some octets; none if there is none.
pub(super) fn decode(bytes: &mut &[u8], before: &mut Before) -> Option<HostRecord> {
    let (&flags, rest) = bytes.split_first()?;
    *bytes = rest;
    let is_ipv6 = flags & IPV6 != 0;
    if is_ipv6 != before.is_ipv6 {
        before.address = 0;
    }
    let address = take(bytes)?.wrapping_add(before.address);
    let days = u32::try_from(take(bytes)?).ok()?;
    let mut times = None;
    if flags & HAS_TIMES != 0 {
        let first = before.first.wrapping_add(unzigzag(take_u64(bytes)?));
        times = Some((first, first.wrapping_add(take_u64(bytes)? as i64)));
        before.first = first;
    }
    let mut sums = || {
        Some(Sums { flows: take_u64(bytes)?, packets: take_u64(bytes)?, octets: take_u64(bytes)? })
    };
    let (source, destination) = (sums()?, sums()?);
    (before.is_ipv6, before.address) = (is_ipv6, address);
    let is_saturated = flags & SATURATED != 0;
    let seen = Seen { days, times, source, destination, is_saturated };
    Some(HostRecord { key: HostKey { is_ipv6, address }, seen })
}

/// Seven bits an octet, the least first; the uppermost bit says that another follows.
fn put(out: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u128> {
    let mut number = 0;
    for shift in (0..128).step_by(7) {
        let (&octet, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u128::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    u64::try_from(take(bytes)?).ok()
}

/// Small numbers of either sign become small ones without.
const fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums() -> impl Strategy<Value = Sums> {
        any::<(u64, u64, u64)>().prop_map(|(flows, packets, octets)| Sums {
            flows,
            packets,
            octets,
        })
    }

    fn records() -> impl Strategy<Value = HostRecord> {
        let key = (any::<bool>(), any::<u128>()).prop_map(|(is_ipv6, address)| HostKey {
            is_ipv6,
            address: if is_ipv6 { address } else { address >> 96 },
        });
        let times = proptest::option::of(any::<(i64, i64)>());
        (key, any::<u32>(), times, sums(), sums(), any::<bool>()).prop_map(
            |(key, days, times, source, destination, is_saturated)| HostRecord {
                key,
                seen: Seen { days, times, source, destination, is_saturated },
            },
        )
    }

    proptest! {
        #[test]
        fn records_are_read_as_they_were_written(
            records in proptest::collection::vec(records(), 0..20),
        ) {
            let (mut bytes, mut before) = (Vec::new(), Before::default());
            for record in &records {
                let start = bytes.len();
                encode(record, &mut before, &mut bytes);
                prop_assert!(bytes.len() - start <= RECORD_SIZE_MAX);
            }
            let (mut rest, mut before) = (&bytes[..], Before::default());
            for record in &records {
                prop_assert_eq!(decode(&mut rest, &mut before), Some(*record));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn octets_of_any_kind_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (mut rest, mut before, mut count) = (&bytes[..], Before::default(), 0);
            while decode(&mut rest, &mut before).is_some() {
                count += 1;
            }
            prop_assert!(count <= bytes.len());
        }
    }

    #[test]
    fn sums_stay_at_the_greatest_and_say_so() {
        let mut seen = Seen::default();
        let source = Sums { flows: 1, packets: u64::MAX - 1, octets: 5 };
        let other = Seen { days: 1, source, ..Seen::default() };
        seen.add(&other);
        assert!(!seen.is_saturated);
        seen.add(&other);
        assert!(seen.is_saturated);
        assert_eq!(seen.source, Sums { flows: 2, packets: u64::MAX, octets: 10 });
    }

    #[test]
    fn networks_are_all_their_addresses() {
        for (address, length, first, last) in [
            ("10.1.2.3", 16, "10.1.0.0", "10.1.255.255"),
            ("10.1.2.3", 32, "10.1.2.3", "10.1.2.3"),
            ("10.1.2.3", 0, "0.0.0.0", "255.255.255.255"),
            ("2001:db8::5", 48, "2001:db8::", "2001:db8:0:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::5", 128, "2001:db8::5", "2001:db8::5"),
        ] {
            let key = |text: &str| HostKey::of(text.parse().unwrap());
            let network = HostKey::network(address.parse().unwrap(), length);
            assert_eq!(network, (key(first), key(last)), "{address}/{length}");
        }
        assert_eq!(place_of(0), (0, 1));
        assert_eq!(place_of(-1), (-1, 1 << 31));
        assert_eq!(place_of(33), (1, 2));
    }
}
