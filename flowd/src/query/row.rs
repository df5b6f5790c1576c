//! Rows as sinks get them: names and values, without arrow.

use crate::model::{Column, Value};
use std::io;
use std::net::IpAddr;

/// Takes the rows of an answer one by one, in their order.
pub trait Sink {
    /// Takes a row: the fields that it has, in output order. An error ends the query.
    fn row(&mut self, row: &[(&str, Value<'_>)]) -> io::Result<()>;
}

impl<F: FnMut(&[(&str, Value<'_>)]) -> io::Result<()>> Sink for F {
    fn row(&mut self, row: &[(&str, Value<'_>)]) -> io::Result<()> {
        self(row)
    }
}

/// A column of the answer, for headings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// As the user said it.
    pub label: String,
    /// The names that its values come under; a row has at most one of them.
    pub names: Vec<String>,
}

/// Columns of which a template may carry both, and what they are called as the inner ones.
const TWINS: [[(Column, &str); 2]; 3] = [
    [
        (Column::SourceIpv4Address, "sourceIPv4Address#2"),
        (Column::SourceIpv6Address, "sourceIPv6Address#2"),
    ],
    [
        (Column::DestinationIpv4Address, "destinationIPv4Address#2"),
        (Column::DestinationIpv6Address, "destinationIPv6Address#2"),
    ],
    [
        (Column::IpNextHopIpv4Address, "ipNextHopIPv4Address#2"),
        (Column::IpNextHopIpv6Address, "ipNextHopIPv6Address#2"),
    ],
];

/// Protocols of a packet that holds another one.
const IPV4_WITHIN: u64 = 4;
const IPV6_WITHIN: u64 = 41;

/// Of addresses sent in both families, leaves the one that is not zero. Where neither is, one
/// packet holds another: the protocol tells the outer from the inner, whose addresses then bear
/// the names of repeated elements.
pub fn tell_twins_apart(row: &mut Vec<(&str, Value<'_>)>) {
    let protocol = row.iter().find(|(name, _)| *name == Column::ProtocolIdentifier.name());
    let inner = match protocol {
        Some((_, Value::Unsigned(IPV4_WITHIN))) => Some(0),
        Some((_, Value::Unsigned(IPV6_WITHIN))) => Some(1),
        _ => None,
    };
    for twins in TWINS {
        let place =
            |(column, _): (Column, _)| row.iter().position(|(name, _)| *name == column.name());
        let [Some(ipv4), Some(ipv6)] = twins.map(place) else {
            continue;
        };
        if is_zero(row.get(ipv6)) {
            row.remove(ipv6);
        } else if is_zero(row.get(ipv4)) {
            row.remove(ipv4);
        } else if let Some(inner) = inner
            && let Some((name, _)) = row.get_mut(if inner == 0 { ipv4 } else { ipv6 })
        {
            *name = twins[inner].1;
        }
    }
}

fn is_zero(field: Option<&(&str, Value<'_>)>) -> bool {
    matches!(field, Some((_, Value::Address(address))) if match address {
        IpAddr::V4(address) => address.is_unspecified(),
        IpAddr::V6(address) => address.is_unspecified(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_families_the_zero_one_goes() {
        let field = |name: &'static str, text: &str| (name, Value::Address(text.parse().unwrap()));
        let (v4, v6) = ("sourceIPv4Address", "sourceIPv6Address");
        for (row, left) in [
            ([field(v4, "0.0.0.0"), field(v6, "::1")], vec![v6]),
            ([field(v4, "192.0.2.1"), field(v6, "::")], vec![v4]),
            ([field(v4, "0.0.0.0"), field(v6, "::")], vec![v4]),
            ([field(v4, "192.0.2.1"), field(v6, "::1")], vec![v4, v6]),
        ] {
            let mut row = row.to_vec();
            tell_twins_apart(&mut row);
            let names: Vec<_> = row.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, left);
        }
    }

    #[test]
    fn the_addresses_of_an_inner_packet_are_repeated_elements() {
        let field = |name: &'static str, text: &str| (name, Value::Address(text.parse().unwrap()));
        let (v4, v6) = ("sourceIPv4Address", "sourceIPv6Address");
        for (protocol, left) in
            [(4, ["sourceIPv4Address#2", v6]), (41, [v4, "sourceIPv6Address#2"]), (17, [v4, v6])]
        {
            let protocol = ("protocolIdentifier", Value::Unsigned(protocol));
            let mut row = vec![field(v4, "192.0.2.1"), field(v6, "2001:db8::1"), protocol];
            tell_twins_apart(&mut row);
            assert_eq!([row[0].0, row[1].0], left);
        }
    }
}
