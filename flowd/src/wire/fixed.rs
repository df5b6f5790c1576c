//! wire::fixed: NetFlow versions 1, 5 and 7, whose records have one layout each.
//!
//! The layouts stand here as the fields of a template would, so that records are decoded as those
//! of templates are. Versions 5 and 7 count flows in their sequence; version 1 counts nothing.
//! The formats are Cisco's (NetFlow FlowCollector, export datagram formats). Of version 1 there
//! are two: some documents and exporters pad its record to 48 octets, some to 52. A datagram that
//! is exactly as long as its records of 48 has those.

use super::{FieldSpecifier, Reader, WireError, Writer};
use crate::model::time::{SysUptime, UnixMillis};

/// Version word of NetFlow v1.
pub const VERSION_1: u16 = 1;
/// Version word of NetFlow v5.
pub const VERSION_5: u16 = 5;
/// Version word of NetFlow v7, which Catalyst switches send.
pub const VERSION_7: u16 = 7;

/// The low bits of the sampling word are the interval; the mode stands above.
const SAMPLING_INTERVAL_MASK: u16 = 0x3fff;
const NANOS_PER_SECOND: u32 = 1_000_000_000;
const NANOS_PER_MILLI: u32 = 1_000_000;

/// Which of the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The first one: no sequence, no autonomous systems.
    V1,
    /// The same with records of 48 octets.
    V1Short,
    /// The one that is still met.
    V5,
    /// Catalyst switches: as v5, with the router that a shortcut bypassed.
    V7,
}

const fn field(id: u16, length: u16) -> FieldSpecifier {
    FieldSpecifier { enterprise: 0, id, length }
}

/// `paddingOctets`: octets that say nothing.
const fn padding(length: u16) -> FieldSpecifier {
    field(210, length)
}

static FIELDS_V1: [FieldSpecifier; 16] = [
    field(8, 4),
    field(12, 4),
    field(15, 4),
    field(10, 2),
    field(14, 2),
    field(2, 4),
    field(1, 4),
    field(22, 4),
    field(21, 4),
    field(7, 2),
    field(11, 2),
    padding(2),
    field(4, 1),
    field(5, 1),
    field(6, 1),
    padding(11),
];

/// As [`FIELDS_V1`], with less padding.
static FIELDS_V1_SHORT: [FieldSpecifier; 16] = {
    let mut fields = FIELDS_V1;
    fields[15] = padding(7);
    fields
};

/// Version 5 has the same without the last one.
static FIELDS_V7: [FieldSpecifier; 21] = [
    field(8, 4),
    field(12, 4),
    field(15, 4),
    field(10, 2),
    field(14, 2),
    field(2, 4),
    field(1, 4),
    field(22, 4),
    field(21, 4),
    field(7, 2),
    field(11, 2),
    padding(1),
    field(6, 1),
    field(4, 1),
    field(5, 1),
    field(16, 2),
    field(17, 2),
    field(9, 1),
    field(13, 1),
    padding(2),
    // ipv4RouterSc: the router whose way the switch took over.
    field(43, 4),
];

impl Version {
    /// The version of a first word.
    #[must_use]
    pub const fn from_word(word: u16) -> Option<Self> {
        match word {
            VERSION_1 => Some(Self::V1),
            VERSION_5 => Some(Self::V5),
            VERSION_7 => Some(Self::V7),
            _ => None,
        }
    }

    /// Its first word.
    #[must_use]
    pub const fn word(self) -> u16 {
        match self {
            Self::V1 | Self::V1Short => VERSION_1,
            Self::V5 => VERSION_5,
            Self::V7 => VERSION_7,
        }
    }

    /// The layout of its records.
    #[must_use]
    pub const fn fields(self) -> &'static [FieldSpecifier] {
        match self {
            Self::V1 => &FIELDS_V1,
            Self::V1Short => &FIELDS_V1_SHORT,
            Self::V5 => FIELDS_V7.split_at(20).0,
            Self::V7 => &FIELDS_V7,
        }
    }

    /// Octets of a record.
    #[must_use]
    pub const fn record_size(self) -> usize {
        match self {
            Self::V1 | Self::V7 => 52,
            Self::V5 | Self::V1Short => 48,
        }
    }
}

/// What a datagram says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which version.
    pub version: Version,
    /// Records that follow.
    pub count: u16,
    /// Time since the exporter booted.
    pub sys_uptime: SysUptime,
    /// The exporter's clock: seconds since 1970.
    pub unix_seconds: u32,
    /// And nanoseconds within that second.
    pub unix_nanos: u32,
    /// Flows that were sent before; version 1 does not say.
    pub sequence_number: Option<u32>,
    /// Type and number of the switching engine; version 5 alone says them.
    pub engine: u16,
    /// One of so many packets was looked at; 0 if the header does not say.
    pub sampling_interval: u16,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What it says of itself.
    pub header: Header,
    /// The whole records that are there, as many as the header says at most.
    pub records: &'a [u8],
    /// Records that the header says and that are not there.
    pub missing: usize,
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// If the header is cut short or of another version.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(datagram);
        let mut header = Header::decode(&mut reader)?;
        let announced = usize::from(header.count);
        let short_size = announced.saturating_mul(Version::V1Short.record_size());
        if header.version == Version::V1 && reader.left() == short_size {
            header.version = Version::V1Short;
        }
        let record_size = header.version.record_size();
        let count = announced.min(reader.left().checked_div(record_size).unwrap_or(0));
        let records = reader.take(count.saturating_mul(record_size))?;
        Ok(Self { header, records, missing: announced.saturating_sub(count) })
    }
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// If it is cut short or of another version.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let word = reader.u16()?;
        let version = Version::from_word(word).ok_or(WireError::UnsupportedVersion(word))?;
        let mut header = Self {
            version,
            count: reader.u16()?,
            sys_uptime: SysUptime(reader.u32()?),
            unix_seconds: reader.u32()?,
            unix_nanos: reader.u32()?,
            sequence_number: None,
            engine: 0,
            sampling_interval: 0,
        };
        match version {
            Version::V1 | Version::V1Short => {}
            Version::V5 => {
                header.sequence_number = Some(reader.u32()?);
                header.engine = reader.u16()?;
                header.sampling_interval = reader.u16()? & SAMPLING_INTERVAL_MASK;
            }
            Version::V7 => {
                header.sequence_number = Some(reader.u32()?);
                reader.u32()?;
            }
        }
        Ok(header)
    }

    /// Appends the header.
    pub fn encode(&self, writer: &mut Writer) {
        let Self {
            version,
            count,
            sys_uptime,
            unix_seconds,
            unix_nanos,
            sequence_number,
            engine,
            sampling_interval,
        } = *self;
        writer.u16(version.word());
        writer.u16(count);
        writer.u32(sys_uptime.0);
        writer.u32(unix_seconds);
        writer.u32(unix_nanos);
        match version {
            Version::V1 | Version::V1Short => {}
            Version::V5 => {
                writer.u32(sequence_number.unwrap_or(0));
                writer.u16(engine);
                writer.u16(sampling_interval & SAMPLING_INTERVAL_MASK);
            }
            Version::V7 => {
                writer.u32(sequence_number.unwrap_or(0));
                writer.u32(0);
            }
        }
    }

    /// The exporter's clock when it sent the datagram. Nanoseconds beyond a second are none: some
    /// exporters leave the word to chance.
    #[must_use]
    pub fn export_time(&self) -> UnixMillis {
        let nanos = if self.unix_nanos < NANOS_PER_SECOND { self.unix_nanos } else { 0 };
        let millis = i64::from(nanos / NANOS_PER_MILLI);
        UnixMillis(i64::from(self.unix_seconds).saturating_mul(1_000).saturating_add(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSIONS: [Version; 4] = [Version::V1, Version::V1Short, Version::V5, Version::V7];

    fn header(version: Version) -> Header {
        Header {
            version,
            count: 2,
            sys_uptime: SysUptime(3_600_000),
            unix_seconds: 1_700_000_000,
            unix_nanos: 123_999_999,
            sequence_number: (version.word() != VERSION_1).then_some(7),
            engine: if version == Version::V5 { 0x0102 } else { 0 },
            sampling_interval: if version == Version::V5 { 100 } else { 0 },
        }
    }

    fn datagram(header: &Header, body_size: usize) -> Vec<u8> {
        let mut writer = Writer::default();
        header.encode(&mut writer);
        writer.zeros(body_size);
        writer.as_bytes().to_vec()
    }

    #[test]
    fn layouts_are_as_long_as_their_records() {
        for version in VERSIONS {
            let size: usize = version.fields().iter().map(|f| usize::from(f.length)).sum();
            assert_eq!(size, version.record_size(), "{version:?}");
            let decoded = Version::from_word(version.word()).map(Version::word);
            assert_eq!(decoded, Some(version.word()));
        }
    }

    #[test]
    fn headers_come_back() {
        for version in VERSIONS {
            let header = header(version);
            let datagram = datagram(&header, 2 * version.record_size());
            let message = Message::decode(&datagram).unwrap();
            assert_eq!(message.header, header);
            assert_eq!(message.records.len(), 2 * version.record_size());
            assert_eq!(message.missing, 0);
            assert_eq!(message.header.export_time(), UnixMillis(1_700_000_000_123));
        }
    }

    #[test]
    fn a_count_beyond_the_octets_is_told_and_octets_beyond_the_count_are_left() {
        for version in VERSIONS {
            if version == Version::V1Short {
                // Of another length, it is none.
                continue;
            }
            let size = version.record_size();
            let header = header(version);
            let short = datagram(&header, size + 5);
            let message = Message::decode(&short).unwrap();
            assert_eq!((message.records.len(), message.missing), (size, 1));
            let long = datagram(&header, 3 * size);
            let message = Message::decode(&long).unwrap();
            assert_eq!((message.records.len(), message.missing), (2 * size, 0));
        }
    }

    #[test]
    fn a_header_cut_anywhere_is_an_error() {
        for version in VERSIONS {
            let whole = datagram(&header(version), 0);
            for size in 0..whole.len() {
                assert!(Message::decode(&whole[..size]).is_err(), "{version:?} {size}");
            }
        }
    }

    #[test]
    fn nanoseconds_beyond_a_second_are_not_added() {
        let header = Header { unix_nanos: u32::MAX, ..header(Version::V5) };
        assert_eq!(header.export_time(), UnixMillis(1_700_000_000_000));
    }
}
