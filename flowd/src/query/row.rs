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

/// Columns of which a fixed template may carry both, one of them zero.
const TWINS: [[Column; 2]; 3] = [
    [Column::SourceIpv4Address, Column::SourceIpv6Address],
    [Column::DestinationIpv4Address, Column::DestinationIpv6Address],
    [Column::IpNextHopIpv4Address, Column::IpNextHopIpv6Address],
];

/// Of addresses sent in both families, leaves the one that is not zero.
pub fn drop_zero_twins(row: &mut Vec<(&str, Value<'_>)>) {
    for twins in TWINS {
        let place = |column: Column| row.iter().position(|(name, _)| *name == column.name());
        let [Some(ipv4), Some(ipv6)] = twins.map(place) else {
            continue;
        };
        if is_zero(row.get(ipv6)) {
            row.remove(ipv6);
        } else if is_zero(row.get(ipv4)) {
            row.remove(ipv4);
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
            drop_zero_twins(&mut row);
            let names: Vec<_> = row.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, left);
        }
    }
}
