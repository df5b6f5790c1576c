//! Value: what an element holds, and how it is written as text.

use super::ie::ElementType;
use super::list::List;
use super::time::UnixMillis;
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Seconds from NTP's epoch (1900) to Unix's (1970): RFC 7011 section 6.1.9 counts from 1900.
const NTP_TO_UNIX_SECONDS: i64 = 2_208_988_800;
/// The last millisecond of the year 9999.
const TIME_MILLIS_MAX: i64 = 253_402_300_799_999;

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
    /// Text that is no UTF-8 throughout: what is none is shown as U+FFFD.
    BrokenText(&'a [u8]),
    /// Octets without a meaning known here.
    Octets(&'a [u8]),
    /// Milliseconds since 1970 UTC.
    Millis(i64),
    /// Values or records in a value.
    List(List<'a>),
}

impl<'a> Value<'a> {
    /// The text, if it is one, as it is shown.
    #[must_use]
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::BrokenText(octets) => Some(String::from_utf8_lossy(octets)),
            _ => None,
        }
    }

    /// The value with the templates that its record keeps for lists.
    #[must_use]
    pub const fn with_templates(self, templates: &'a [u8]) -> Self {
        match self {
            Self::List(list) => Self::List(List { templates, ..list }),
            other => other,
        }
    }
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
            Self::BrokenText(octets) => String::from_utf8_lossy(octets).fmt(f),
            Self::Octets(octets) | Self::List(List { octets, .. }) => {
                octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
            Self::Millis(millis) => UnixMillis(millis).fmt(f),
        }
    }
}

/// Reads an element's octets, as sent, by its type. What does not fit the type stays octets:
/// integers and floating-point numbers may be sent in fewer octets than their type has (RFC 7011
/// section 6.2), all else may not.
#[must_use]
pub fn element_value(element_type: ElementType, bytes: &[u8]) -> Value<'_> {
    let octets = Value::Octets(bytes);
    match element_type {
        ElementType::Unsigned => unsigned(significant(bytes)).map_or(octets, Value::Unsigned),
        ElementType::Signed => signed(bytes).map_or(octets, Value::Signed),
        ElementType::Float => float(bytes).map_or(octets, Value::Float),
        // RFC 7011 section 6.1.5: 1 is true, 2 is false.
        ElementType::Boolean => match bytes {
            [1] => Value::Boolean(true),
            [2] => Value::Boolean(false),
            _ => octets,
        },
        ElementType::MacAddress => bytes.try_into().map_or(octets, Value::Mac),
        ElementType::OctetArray => octets,
        ElementType::BasicList
        | ElementType::SubTemplateList
        | ElementType::SubTemplateMultiList => {
            Value::List(List { element_type, octets: bytes, templates: &[] })
        }
        ElementType::String => text(bytes),
        ElementType::DateTimeSeconds => seconds(bytes).and_then(time).unwrap_or(octets),
        ElementType::DateTimeMilliseconds => {
            <[u8; 8]>::try_from(bytes).ok().map(i64::from_be_bytes).and_then(time).unwrap_or(octets)
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

/// The octets of a number wider than 64 bits (unsigned256) that are not leading zeros; all of a
/// narrower one.
fn significant(bytes: &[u8]) -> &[u8] {
    match bytes {
        [leading @ .., _, _, _, _, _, _, _, _]
            if bytes.len() <= 32 && leading.iter().all(|&octet| octet == 0) =>
        {
            bytes.get(leading.len()..).unwrap_or(bytes)
        }
        _ => bytes,
    }
}

/// Exporters send text in fixed lengths, filled up with NULs.
fn text(bytes: &[u8]) -> Value<'_> {
    let end = bytes.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
    let bytes = bytes.get(..end).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_or(Value::BrokenText(bytes), Value::Text)
}

/// Milliseconds of a number of seconds since 1970. RFC 7011 section 6.1.7 gives it four octets;
/// some exporters send eight.
fn seconds(bytes: &[u8]) -> Option<i64> {
    if !matches!(bytes.len(), 4 | 8) {
        return None;
    }
    i64::try_from(unsigned(bytes)?).ok()?.checked_mul(1000)
}

/// A time, unless it lies beyond the years that RFC 3339 can write.
fn time<'a>(millis: i64) -> Option<Value<'a>> {
    (0..=TIME_MILLIS_MAX).contains(&millis).then_some(Value::Millis(millis))
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
        assert_eq!(shown(ElementType::Boolean, &[1]), "true");
        assert_eq!(shown(ElementType::Boolean, &[2]), "false");
        assert_eq!(shown(ElementType::MacAddress, &[0, 1, 2, 3, 4, 255]), "00:01:02:03:04:ff");
        assert_eq!(shown(ElementType::String, b"eth0\0\0"), "eth0");
        assert_eq!(shown(ElementType::String, b"a\0b"), "a\0b");
        assert_eq!(shown(ElementType::String, b"\0\0"), "");
        assert_eq!(shown(ElementType::String, &[b'a', 0xff, b'b', 0xfe, 0]), "a\u{fffd}b\u{fffd}");
        assert_eq!(shown(ElementType::OctetArray, &[0xde, 0xad]), "dead");
        assert_eq!(shown(ElementType::Ipv4Address, &[192, 0, 2, 1]), "192.0.2.1");
        assert_eq!(shown(ElementType::DateTimeSeconds, &[0, 0, 0, 1]), "1970-01-01T00:00:01.000Z");
        assert_eq!(shown(ElementType::SubTemplateList, &[3, 1, 0]), "030100");
    }

    #[test]
    fn numbers_may_be_sent_in_fewer_octets() {
        for size in 1..=8 {
            let bytes = [0xff; 8];
            assert_eq!(
                element_value(ElementType::Unsigned, &bytes[..size]),
                Value::Unsigned(u64::MAX >> (64 - 8 * size))
            );
            assert_eq!(element_value(ElementType::Signed, &bytes[..size]), Value::Signed(-1));
            let mut least = [0; 8];
            least[0] = 0x80;
            let expected = i64::MIN >> (64 - 8 * size);
            assert_eq!(element_value(ElementType::Signed, &least[..size]), Value::Signed(expected));
        }
        let third = 1.0_f32 / 3.0;
        assert_eq!(
            element_value(ElementType::Float, &third.to_be_bytes()),
            Value::Float(f64::from(third))
        );
        assert_eq!(element_value(ElementType::Float, &0.1_f64.to_be_bytes()), Value::Float(0.1));
    }

    #[test]
    fn wide_numbers_are_numbers_as_long_as_they_fit() {
        let mut wide = [0; 32];
        wide[31] = 9;
        assert_eq!(shown(ElementType::Unsigned, &wide), "9");
        wide[24] = 0x80;
        assert_eq!(shown(ElementType::Unsigned, &wide), "9223372036854775817");
        wide[23] = 1;
        assert_eq!(shown(ElementType::Unsigned, &wide).len(), 64, "as octets");
        assert_eq!(shown(ElementType::Unsigned, &[0; 33]).len(), 66, "as octets");
    }

    #[test]
    fn what_does_not_fit_its_type_stays_octets() {
        use ElementType as T;
        let bytes: Vec<u8> = (0xa0..=0xff).collect();
        for (element_type, fitting) in [
            (T::Unsigned, &[1, 2, 3, 4, 5, 6, 7, 8][..]),
            (T::Signed, &[1, 2, 3, 4, 5, 6, 7, 8]),
            (T::Float, &[4, 8]),
            (T::Boolean, &[]),
            (T::MacAddress, &[6]),
            (T::DateTimeSeconds, &[4]),
            (T::DateTimeMilliseconds, &[]),
            (T::DateTimeMicroseconds, &[8]),
            (T::DateTimeNanoseconds, &[8]),
            (T::Ipv4Address, &[4]),
            (T::Ipv6Address, &[16]),
            (T::OctetArray, &[]),
        ] {
            for size in 0..40 {
                let value = element_value(element_type, &bytes[..size]);
                let is_octets = matches!(value, Value::Octets(octets) if octets.len() == size);
                assert_eq!(is_octets, !fitting.contains(&size), "{element_type:?} of {size}");
            }
        }
    }

    #[test]
    fn times_floor_to_milliseconds_of_years_that_can_be_written() {
        let seconds = shown(ElementType::DateTimeSeconds, &u32::MAX.to_be_bytes());
        assert_eq!(seconds, "2106-02-07T06:28:15.000Z");
        let last = TIME_MILLIS_MAX.to_be_bytes();
        assert_eq!(shown(ElementType::DateTimeMilliseconds, &last), "9999-12-31T23:59:59.999Z");
        let beyond = (TIME_MILLIS_MAX + 1).to_be_bytes();
        assert_eq!(shown(ElementType::DateTimeMilliseconds, &beyond), "0000e677d21fdc00");
        assert_eq!(shown(ElementType::DateTimeMilliseconds, &[0xff; 8]), "ffffffffffffffff");
        assert_eq!(shown(ElementType::DateTimeSeconds, &[0xff; 8]), "ffffffffffffffff");
        let ntp = (3_913_056_000_u64 << 32 | 0xffff_ffff).to_be_bytes();
        assert_eq!(shown(ElementType::DateTimeNanoseconds, &ntp), "2024-01-01T00:00:00.999Z");
    }

    #[test]
    fn ntp_times_floor_to_milliseconds() {
        let half_second = (u64::try_from(NTP_TO_UNIX_SECONDS).unwrap() << 32) | 1 << 31;
        assert_eq!(ntp_millis(&half_second.to_be_bytes()), Some(500));
    }
}
