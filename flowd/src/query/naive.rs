//! For tests: the meaning of filters and groups a second time, record by record, from the tree
//! as it was written. It shares no code with the engine.

use super::field::{AddressRole, Field, Measure, Pair, Provenance};
use super::filter::{Comparison, Expr, Family, Subject, Term, Test};
use super::memory::Stored;
use crate::model::{Column, Value, element_value, ie, unsigned};
use std::cmp::Ordering;
use std::net::IpAddr;

/// Does a record match?
pub(super) fn matches(expr: &Expr, stored: &Stored) -> bool {
    match expr {
        Expr::Term(term) => term_matches(term, stored),
        Expr::Not(inner) => !matches(inner, stored),
        Expr::And(members) => members.iter().all(|member| matches(member, stored)),
        Expr::Or(members) => members.iter().any(|member| matches(member, stored)),
    }
}

fn term_matches(term: &Term, stored: &Stored) -> bool {
    let record = &stored.record;
    let is_tcp = record.value(Column::ProtocolIdentifier) == Some(Value::Unsigned(6));
    let flags = match record.value(Column::TcpControlBits) {
        Some(Value::Unsigned(flags)) => Some(flags % 4096),
        _ => None,
    };
    match term {
        Term::Any => true,
        Term::Family(family) => {
            let is_of = |address: IpAddr| address.is_ipv4() == (*family == Family::Ipv4);
            [record.source_address(), record.destination_address()].into_iter().flatten().any(is_of)
        }
        Term::Flags { mask, bits } => {
            is_tcp && flags.is_some_and(|it| it & u64::from(*mask) == u64::from(*bits))
        }
        Term::FlagsNumber(comparison, number) => {
            is_tcp && flags.is_some_and(|flags| compares(*comparison, flags.cmp(number)))
        }
        Term::Test(Subject::Field(field), test) => one_of(&values(*field, stored), test),
        Term::Test(Subject::Either(pair), test) => {
            let both: Vec<_> = sides(*pair).into_iter().flat_map(|it| values(it, stored)).collect();
            one_of(&both, test)
        }
        Term::Test(Subject::Both(pair), test) => {
            sides(*pair).into_iter().all(|field| one_of(&values(field, stored), test))
        }
    }
}

const fn sides(pair: Pair) -> [Field; 2] {
    pair.fields()
}

/// Of values that are there, does one pass? If the test asks for what is not there: do all?
fn one_of(values: &[Value<'_>], test: &Test) -> bool {
    let is_negated = matches!(
        test,
        Test::Number(Comparison::NotEqual, _)
            | Test::Time(Comparison::NotEqual, _)
            | Test::Numbers { negated: true, .. }
            | Test::Addresses { negated: true, .. }
            | Test::Macs { negated: true, .. }
            | Test::Texts { negated: true, .. }
            | Test::Octets { negated: true, .. }
    );
    if is_negated {
        !values.is_empty() && values.iter().all(|value| !is_in(*value, test))
    } else {
        values.iter().any(|value| is_in(*value, test))
    }
}

/// Is the value in the set that the test names, leaving aside whether it is negated?
fn is_in(value: Value<'_>, test: &Test) -> bool {
    let number = match value {
        Value::Unsigned(number) => Some(number),
        Value::Octets(octets) => unsigned(octets),
        _ => None,
    };
    match (test, value) {
        (Test::Number(comparison, wanted), _) => {
            number.is_some_and(|number| in_order(*comparison, number.cmp(wanted)))
        }
        (Test::Numbers { ranges, .. }, _) => number.is_some_and(|number| {
            ranges.iter().any(|range| range.first <= number && number <= range.last)
        }),
        (Test::Time(comparison, wanted), Value::Millis(millis)) => {
            in_order(*comparison, millis.cmp(&wanted.0))
        }
        (Test::Addresses { prefixes, .. }, Value::Address(address)) => {
            prefixes.iter().any(|prefix| starts_with(address, prefix.address(), prefix.length()))
        }
        (Test::Macs { addresses, .. }, Value::Mac(mac)) => addresses.contains(&mac),
        (Test::Texts { texts, .. }, Value::Text(_) | Value::BrokenText(_)) => {
            texts.iter().any(|it| Some(it.as_str()) == value.text().as_deref())
        }
        (Test::Octets { values, .. }, Value::Octets(octets)) => {
            values.iter().any(|it| it == octets)
        }
        (Test::Boolean(wanted), Value::Boolean(value)) => *wanted == value,
        _ => false,
    }
}

fn in_order(comparison: Comparison, order: Ordering) -> bool {
    comparison == Comparison::NotEqual && order.is_eq() || compares_positively(comparison, order)
}

fn compares(comparison: Comparison, order: Ordering) -> bool {
    comparison == Comparison::NotEqual && order.is_ne() || compares_positively(comparison, order)
}

const fn compares_positively(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => false,
        Comparison::Greater => order.is_gt(),
        Comparison::Less => order.is_lt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::LessOrEqual => order.is_le(),
    }
}

/// Bit by bit.
fn starts_with(address: IpAddr, prefix: IpAddr, length: u8) -> bool {
    let bits = |address: IpAddr| -> Vec<bool> {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1)).collect()
    };
    let (address, prefix) = (bits(address), bits(prefix));
    let length = usize::from(length);
    address.len() == prefix.len() && address[..length] == prefix[..length]
}

/// The values that a record has of a field.
pub(super) fn values(field: Field, stored: &Stored) -> Vec<Value<'_>> {
    let record = &stored.record;
    let column = |column| record.value(column);
    let found = match field {
        Field::Column(Column::TcpControlBits) => {
            number(stored, Column::TcpControlBits).map(|flags| Value::Unsigned(flags % 4096))
        }
        Field::Column(it) => column(it),
        Field::Provenance(Provenance::ExporterIpv4) => {
            Some(Value::Address(stored.origin.address)).filter(|_| stored.origin.address.is_ipv4())
        }
        Field::Provenance(Provenance::ExporterIpv6) => {
            Some(Value::Address(stored.origin.address)).filter(|_| stored.origin.address.is_ipv6())
        }
        Field::Provenance(Provenance::ObservationDomain) => {
            Some(Value::Unsigned(u64::from(stored.origin.domain.0)))
        }
        Field::Provenance(Provenance::ExportProtocol) => {
            Some(Value::Text(stored.origin.protocol.name()))
        }
        Field::Element(enterprise, id) => record
            .extras
            .iter()
            .find(|extra| (extra.spec.enterprise, extra.spec.id) == (enterprise, id))
            .map(|extra| element_value(ie::element_type(enterprise, id), &extra.value)),
        Field::Address(AddressRole::Source) => record.source_address().map(Value::Address),
        Field::Address(AddressRole::Destination) => {
            record.destination_address().map(Value::Address)
        }
        Field::Address(AddressRole::NextHop) => {
            column(Column::IpNextHopIpv4Address).or_else(|| column(Column::IpNextHopIpv6Address))
        }
        Field::Address(AddressRole::Exporter) => Some(Value::Address(stored.origin.address)),
        Field::SourcePrefixLength => {
            let both = [Column::SourceIpv4PrefixLength, Column::SourceIpv6PrefixLength];
            return both.into_iter().filter_map(column).collect();
        }
        Field::DestinationPrefixLength => {
            let both = [Column::DestinationIpv4PrefixLength, Column::DestinationIpv6PrefixLength];
            return both.into_iter().filter_map(column).collect();
        }
        Field::Measure(measure) => measured(measure, stored).map(Value::Unsigned),
        Field::IcmpType => icmp(stored).map(|both| Value::Unsigned(both / 256)),
        Field::IcmpCode => icmp(stored).map(|both| Value::Unsigned(both % 256)),
    };
    found.into_iter().collect()
}

fn number(stored: &Stored, column: Column) -> Option<u64> {
    match stored.record.value(column)? {
        Value::Unsigned(number) => Some(number),
        _ => None,
    }
}

fn icmp(stored: &Stored) -> Option<u64> {
    let ipv4 = number(stored, Column::IcmpTypeCodeIpv4);
    match number(stored, Column::ProtocolIdentifier)? {
        1 => ipv4,
        58 => number(stored, Column::IcmpTypeCodeIpv6).or(ipv4),
        _ => None,
    }
}

pub(super) fn measured(measure: Measure, stored: &Stored) -> Option<u64> {
    let sum = |pairs: [[Column; 2]; 3]| {
        pairs.into_iter().find_map(|pair| {
            let [forward, reverse] = pair.map(|column| number(stored, column));
            if forward.is_none() && reverse.is_none() {
                return None;
            }
            Some(forward.unwrap_or(0) + reverse.unwrap_or(0))
        })
    };
    let bytes = || sum(Column::OCTETS);
    let packets = || sum(Column::PACKETS);
    let duration = || {
        let start = stored.record.value(Column::FlowStartMilliseconds)?;
        let end = stored.record.value(Column::FlowEndMilliseconds)?;
        match (start, end) {
            (Value::Millis(start), Value::Millis(end)) => {
                Some((end - start).max(0).cast_unsigned())
            }
            _ => None,
        }
    };
    let per = |amount: u64, factor: u64, divisor: u64| {
        (amount * factor).checked_div(divisor).unwrap_or(0)
    };
    Some(match measure {
        Measure::Bytes => bytes()?,
        Measure::Packets => packets()?,
        Measure::Duration => duration()?,
        Measure::BitsPerSecond => per(bytes()?, 8 * 1000, duration()?),
        Measure::PacketsPerSecond => per(packets()?, 1000, duration()?),
        Measure::BytesPerPacket => per(bytes()?, 1, packets()?),
    })
}
