//! Probes: what the index can say of a filter.
//!
//! A filter becomes a condition on keys that holds of each row group with a record that matches.
//! It may hold of others too. Whatever the index does not know (`not`, other fields, great sets)
//! holds of all.

use super::field::{AddressRole, Field, Pair};
use super::filter::{Comparison, Expr, NumberRange, Prefix, Subject, Term, Test};
use crate::archive::index::{INDEXED_PORTS_END, IndexKey, NetworkSize, Transport};
use crate::model::Column;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A condition of more alternatives than this is not asked: one of them would hold by chance.
const ALTERNATIVES_MAX: usize = 1_024;
/// A prefix that is a little shorter than a network of the index is asked for as the networks in
/// it, if it is not shorter by more bits than this.
const SHORTER_BITS_MAX: u8 = 4;

/// A condition that each part with matching records fulfils.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes(Condition);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// Nothing is known.
    True,
    Key(IndexKey),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Probes {
    /// The condition of a filter.
    #[must_use]
    pub fn new(filter: &Expr) -> Self {
        Self(condition(filter))
    }

    /// Does it hold of everything, so that nothing needs to be looked up?
    #[must_use]
    pub const fn is_true(&self) -> bool {
        matches!(self.0, Condition::True)
    }

    /// May something match where these keys are? `has` may say yes by mistake, but not no.
    pub fn may_match(&self, mut has: impl FnMut(IndexKey) -> bool) -> bool {
        self.0.holds(&mut has)
    }
}

impl Condition {
    fn holds(&self, has: &mut dyn FnMut(IndexKey) -> bool) -> bool {
        match self {
            Self::True => true,
            Self::Key(key) => has(*key),
            Self::All(members) => members.iter().all(|member| member.holds(has)),
            Self::Any(members) => members.iter().any(|member| member.holds(has)),
        }
    }

    fn all(mut members: Vec<Self>) -> Self {
        members.retain(|member| *member != Self::True);
        match members.len() {
            0 => Self::True,
            1 => members.remove(0),
            _ => Self::All(members),
        }
    }

    fn any(mut members: Vec<Self>) -> Self {
        if members.contains(&Self::True) || members.len() > ALTERNATIVES_MAX {
            return Self::True;
        }
        if members.len() == 1 { members.remove(0) } else { Self::Any(members) }
    }
}

fn condition(filter: &Expr) -> Condition {
    match filter {
        Expr::Term(_) => match prefixes(filter) {
            Some(prefixes) => Condition::any(prefixes.into_iter().map(of_prefix).collect()),
            None => Condition::True,
        },
        // A part that has the key may have other records as well.
        Expr::Not(_) => Condition::True,
        Expr::Or(members) => Condition::any(members.iter().map(condition).collect()),
        Expr::And(members) => {
            let services = services(members);
            Condition::all(members.iter().map(condition).chain(services).collect())
        }
    }
}

/// Conditions on an address together with a port, from filters that all hold.
fn services(members: &[Expr]) -> Vec<Condition> {
    let transports = members.iter().find_map(transports);
    let transports = transports.unwrap_or_else(|| Transport::ALL.to_vec());
    let ports: Vec<Vec<u16>> = members.iter().filter_map(ports).collect();
    let mut conditions = Vec::new();
    for prefixes in members.iter().filter_map(prefixes) {
        let addresses: Option<Vec<IpAddr>> = prefixes.into_iter().map(single_address).collect();
        let Some(addresses) = addresses else { continue };
        for ports in &ports {
            if addresses.len() * ports.len() * transports.len() > ALTERNATIVES_MAX {
                continue;
            }
            let mut keys = Vec::new();
            for &address in &addresses {
                for &port in ports {
                    let key = |&transport| IndexKey::Service(address, port, transport);
                    keys.extend(transports.iter().map(key).map(Condition::Key));
                }
            }
            conditions.push(Condition::any(keys));
        }
    }
    conditions
}

/// Prefixes of which one has the source or the destination of each record that matches; none if
/// the filter does not ask for such.
fn prefixes(filter: &Expr) -> Option<Vec<Prefix>> {
    match filter {
        Expr::Term(Term::Test(subject, Test::Addresses { prefixes, negated: false })) => {
            let is_indexed = match subject {
                Subject::Field(field) => is_address(*field),
                Subject::Either(pair) | Subject::Both(pair) => *pair == Pair::Ip,
            };
            (is_indexed && prefixes.len() <= ALTERNATIVES_MAX).then(|| prefixes.clone())
        }
        Expr::Or(members) => joined(members, prefixes),
        Expr::And(members) => members.iter().find_map(prefixes),
        Expr::Term(_) | Expr::Not(_) => None,
    }
}

const fn is_address(field: Field) -> bool {
    matches!(
        field,
        Field::Address(AddressRole::Source | AddressRole::Destination)
            | Field::Column(
                Column::SourceIpv4Address
                    | Column::DestinationIpv4Address
                    | Column::SourceIpv6Address
                    | Column::DestinationIpv6Address
            )
    )
}

/// Ports of which each record that matches has one; none if the filter does not ask for few
/// ports, or one of them is not indexed.
fn ports(filter: &Expr) -> Option<Vec<u16>> {
    match filter {
        Expr::Term(Term::Test(subject, test)) => {
            let is_port = match subject {
                Subject::Field(field) => Pair::Port.fields().contains(field),
                Subject::Either(pair) | Subject::Both(pair) => *pair == Pair::Port,
            };
            if is_port { numbers(test, u64::from(INDEXED_PORTS_END)) } else { None }
        }
        Expr::Or(members) => joined(members, ports),
        Expr::And(members) => members.iter().find_map(ports),
        Expr::Term(_) | Expr::Not(_) => None,
    }
}

/// Transports of which each record that matches has one.
fn transports(filter: &Expr) -> Option<Vec<Transport>> {
    let found: Vec<Transport> = match filter {
        Expr::Term(Term::Flags { .. } | Term::FlagsNumber(..)) => vec![Transport::Tcp],
        Expr::Term(Term::Test(Subject::Field(field), test))
            if *field == Field::Column(Column::ProtocolIdentifier) =>
        {
            let protocols = numbers(test, 256)?;
            let protocols = protocols.into_iter().filter_map(|number| u8::try_from(number).ok());
            protocols.map(|number| Transport::of(Some(number))).collect()
        }
        Expr::Or(members) => joined(members, transports)?,
        Expr::And(members) => members.iter().find_map(transports)?,
        Expr::Term(_) | Expr::Not(_) => return None,
    };
    Some(Transport::ALL.into_iter().filter(|transport| found.contains(transport)).collect())
}

/// What any of the members asks for, if each asks for something.
fn joined<T>(members: &[Expr], of: impl Fn(&Expr) -> Option<Vec<T>>) -> Option<Vec<T>> {
    let all: Vec<Vec<T>> = members.iter().map(of).collect::<Option<_>>()?;
    let all: Vec<T> = all.into_iter().flatten().collect();
    (all.len() <= ALTERNATIVES_MAX).then_some(all)
}

/// The numbers that a test looks for, if they are few and all below an end.
fn numbers(test: &Test, end: u64) -> Option<Vec<u16>> {
    let ranges = match test {
        Test::Number(Comparison::Equal, number) => &[NumberRange::single(*number)][..],
        Test::Numbers { ranges, negated: false } => ranges,
        _ => return None,
    };
    let mut numbers = Vec::new();
    for range in ranges {
        if range.last >= end || range.last.saturating_sub(range.first) as usize > ALTERNATIVES_MAX {
            return None;
        }
        let range = range.first..=range.last;
        numbers.extend(range.filter_map(|number| u16::try_from(number).ok()));
        if numbers.len() > ALTERNATIVES_MAX {
            return None;
        }
    }
    Some(numbers)
}

fn single_address(prefix: Prefix) -> Option<IpAddr> {
    let length = if prefix.address().is_ipv4() { 32 } else { 128 };
    (prefix.length() == length).then_some(prefix.address())
}

/// What is known of parts with an address in a prefix: the networks of the index that it lies
/// in, and those that lie in it, if they are few.
fn of_prefix(prefix: Prefix) -> Condition {
    let address = prefix.address();
    let is_ipv4 = address.is_ipv4();
    let size = |size: NetworkSize| {
        let (ipv4, ipv6) = size.lengths();
        (if is_ipv4 { ipv4 } else { ipv6 }, Some(size))
    };
    let levels = [
        (if is_ipv4 { 32 } else { 128 }, None),
        size(NetworkSize::Small),
        size(NetworkSize::Large),
    ];
    let level = |(length, size): (u8, Option<NetworkSize>)| {
        let key = |address| match size {
            None => Condition::Key(IndexKey::Address(address)),
            Some(size) => Condition::Key(IndexKey::Network(address, size)),
        };
        match length.saturating_sub(prefix.length()) {
            0 => key(address),
            bits if bits <= SHORTER_BITS_MAX => {
                let within = (0..1 << bits).map(|index| nth(address, length, index));
                Condition::any(within.map(key).collect())
            }
            _ => Condition::True,
        }
    };
    // The greatest network first: what was never near is refused by the first key.
    Condition::all(levels.into_iter().rev().map(level).collect())
}

/// The network of this length that is so many after the one at an address.
fn nth(address: IpAddr, length: u8, index: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let step = index.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() | step))
        }
        IpAddr::V6(address) => {
            let step = u128::from(index).checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() | step))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::UnixMillis;
    use crate::query::filter;

    fn probes(text: &str) -> Probes {
        Probes::new(&filter::parse(text, UnixMillis(0)).unwrap().expr)
    }

    /// The keys that are asked for until the answer is no.
    fn asked(text: &str) -> Vec<IndexKey> {
        let mut asked = Vec::new();
        probes(text).may_match(|key| {
            asked.push(key);
            true
        });
        asked
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_the_index_does_not_know_is_not_asked() {
        for text in [
            "any",
            "not host 10.0.0.1",
            "src ip != 10.0.0.1",
            "host not in [10.0.0.1 10.0.0.2]",
            "net 10.0.0.0/8",
            "net 2001:db8::/32",
            "port 80",
            "proto tcp",
            "router ip 10.0.0.1",
            "next ip 10.0.0.1",
            "host 10.0.0.1 or port 80",
            "not (host 10.0.0.1 and port 80)",
            "postNATSourceIPv4Address = 10.0.0.1",
        ] {
            assert!(probes(text).is_true(), "{text}");
        }
    }

    #[test]
    fn an_address_is_asked_for_with_its_networks() {
        use NetworkSize::{Large, Small};
        let host = address("10.1.2.3");
        let keys = [
            IndexKey::Network(host, Large),
            IndexKey::Network(host, Small),
            IndexKey::Address(host),
        ];
        for text in
            ["host 10.1.2.3", "src ip 10.1.2.3", "dstip4 10.1.2.3", "src and dst host 10.1.2.3"]
        {
            assert_eq!(asked(text), keys, "{text}");
        }
        assert_eq!(asked("net 10.1.2.0/25").len(), 2);
        assert_eq!(asked("net 10.1.0.0/16"), [IndexKey::Network(address("10.1.0.0"), Large)]);
        assert_eq!(asked("net 2001:db8:1::/48").len(), 1);
        // Any of the sixteen /24 of a /20: one that is not there leads to the next.
        let mut count = 0;
        assert!(!probes("net 10.1.16.0/20").may_match(|key| {
            count += 1;
            matches!(key, IndexKey::Network(_, Large))
        }));
        assert_eq!(count, 17);
    }

    #[test]
    fn an_address_with_a_port_is_asked_for_as_both_together() {
        let service = |transport| IndexKey::Service(address("10.1.2.3"), 53, transport);
        let mut refused = Vec::new();
        let mut services = |text: &str| {
            refused.clear();
            probes(text).may_match(|key| {
                let is_service = matches!(key, IndexKey::Service(..));
                refused.extend(is_service.then_some(key));
                !is_service
            });
            refused.clone()
        };
        assert_eq!(services("host 10.1.2.3 and port 53"), Transport::ALL.map(service));
        assert_eq!(services("dst port 53 and src 10.1.2.3"), Transport::ALL.map(service));
        assert_eq!(services("proto udp and host 10.1.2.3 and port 53"), [service(Transport::Udp)]);
        assert_eq!(services("host 10.1.2.3 and port 53 and flags S"), [service(Transport::Tcp)]);
        assert_eq!(services("proto sctp and ip 10.1.2.3 and port 53"), [service(Transport::Other)]);
        assert_eq!(services("host 10.1.2.3 and (port 53 or port 80) and proto tcp").len(), 2);
        for text in [
            "host 10.1.2.3 or port 53",
            "host 10.1.2.3 and not port 53",
            "host 10.1.2.3 and port > 53",
            "host 10.1.2.3 and port in [53 40000]",
            "net 10.1.2.0/24 and port 53",
            "next ip 10.1.2.3 and port 53",
        ] {
            assert_eq!(services(text), [], "{text}");
        }
    }
}
