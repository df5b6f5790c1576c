//! Value: what an element holds, and how it is written as text.

use super::ie::ElementType;
use super::time::UnixMillis;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Seconds from NTP's epoch (1900) to Unix's (1970): RFC 7011 section 6.1.9 counts from 1900.
const NTP_TO_UNIX_SECONDS: i64 = 2_208_988_800;

/// What an element holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number.
    Unsigned(u64),
    /// A number that may be negative.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// An address of either family.
    Address(IpAddr),
    /// A MAC address.
    Mac([u8; 6]),
    /// Text.
    Text(&'a str),
    /// Octets without a meaning known here.
    Octets(&'a [u8]),
    /// Milliseconds since 1970 UTC.
    Millis(i64),
}

impl fmt::Display for Value<'_> {
    /// The text of tables, CSV and, between quotes where it is no number, of JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unsigned(value) => value.fmt(f),
            Self::Signed(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Boolean(value) => value.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Mac([a, b, c, d, e, g]) => {
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            Self::Text(text) => text.fmt(f),
            Self::Octets(octets) => octets.iter().try_for_each(|octet| write!(f, "{octet:02x}")),
            Self::Millis(millis) => UnixMillis(millis).fmt(f),
        }
    }
}

/// Reads an element's octets, as sent, by its type. What does not fit the type stays octets.
#[must_use]
pub fn element_value(element_type: ElementType, bytes: &[u8]) -> Value<'_> {
    let octets = Value::Octets(bytes);
    match element_type {
        ElementType::Unsigned => unsigned(bytes).map_or(octets, Value::Unsigned),
        ElementType::Signed => signed(bytes).map_or(octets, Value::Signed),
        ElementType::Float => float(bytes).map_or(octets, Value::Float),
        // RFC 7011 section 6.1.5: 1 is true, 2 is false.
        ElementType::Boolean => match bytes {
            [1] => Value::Boolean(true),
            [2] => Value::Boolean(false),
            _ => octets,
        },
        ElementType::MacAddress => bytes.try_into().map_or(octets, Value::Mac),
        ElementType::OctetArray | ElementType::List => octets,
        ElementType::String => text(bytes).map_or(octets, Value::Text),
        ElementType::DateTimeSeconds => {
            unsigned(bytes).map_or(octets, |s| Value::Millis(s.cast_signed().saturating_mul(1000)))
        }
        ElementType::DateTimeMilliseconds => {
            unsigned(bytes).map_or(octets, |ms| Value::Millis(ms.cast_signed()))
        }
        ElementType::DateTimeMicroseconds | ElementType::DateTimeNanoseconds => {
            ntp_millis(bytes).map_or(octets, Value::Millis)
        }
        ElementType::Ipv4Address => <[u8; 4]>::try_from(bytes)
            .map_or(octets, |a| Value::Address(IpAddr::V4(Ipv4Addr::from(a)))),
        ElementType::Ipv6Address => <[u8; 16]>::try_from(bytes)
            .map_or(octets, |a| Value::Address(IpAddr::V6(Ipv6Addr::from(a)))),
    }
}

/// A big-endian number of one to eight octets.
#[must_use]
pub fn unsigned(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 8 {
        return None;
    }
    Some(bytes.iter().fold(0, |value, &octet| value << 8 | u64::from(octet)))
}

fn signed(bytes: &[u8]) -> Option<i64> {
    let unused_bits = 64 - 8 * u32::try_from(bytes.len()).ok()?.min(8);
    Some((unsigned(bytes)? << unused_bits).cast_signed() >> unused_bits)
}

fn float(bytes: &[u8]) -> Option<f64> {
    match bytes.len() {
        4 => Some(f64::from(f32::from_be_bytes(bytes.try_into().ok()?))),
        8 => Some(f64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
    std::str::from_utf8(bytes.get(..end)?).ok()
}

/// RFC 7011 section 6.1.9: seconds since 1900 and a binary fraction of 2^-32 s.
#[must_use]
pub fn ntp_millis(bytes: &[u8]) -> Option<i64> {
    let ntp = u64::from_be_bytes(bytes.try_into().ok()?);
    let seconds = (ntp >> 32).cast_signed() - NTP_TO_UNIX_SECONDS;
    let fraction_millis = (((ntp & 0xffff_ffff) * 1000) >> 32).cast_signed();
    Some(seconds * 1000 + fraction_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(element_type: ElementType, bytes: &[u8]) -> String {
        element_value(element_type, bytes).to_string()
    }

    #[test]
    fn values_are_written_as_users_expect() {
        assert_eq!(shown(ElementType::Unsigned, &[1, 0]), "256");
        assert_eq!(shown(ElementType::Signed, &[0xff]), "-1");
        assert_eq!(shown(ElementType::Boolean, &[2]), "false");
        assert_eq!(shown(ElementType::MacAddress, &[0, 1, 2, 3, 4, 255]), "00:01:02:03:04:ff");
        assert_eq!(shown(ElementType::String, b"eth0\0\0"), "eth0");
        assert_eq!(shown(ElementType::String, &[0xff, 0xfe]), "fffe");
        assert_eq!(shown(ElementType::OctetArray, &[0xde, 0xad]), "dead");
        assert_eq!(shown(ElementType::Ipv4Address, &[192, 0, 2, 1]), "192.0.2.1");
        assert_eq!(shown(ElementType::DateTimeSeconds, &[0, 0, 0, 1]), "1970-01-01T00:00:01.000Z");
    }

    #[test]
    fn ntp_times_floor_to_milliseconds() {
        let half_second = (u64::try_from(NTP_TO_UNIX_SECONDS).unwrap() << 32) | 1 << 31;
        assert_eq!(ntp_millis(&half_second.to_be_bytes()), Some(500));
    }
}
