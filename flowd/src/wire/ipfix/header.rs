//! Message Header (RFC 7011 section 3.1).

use super::VERSION;
use crate::model::ObservationDomainId;
use crate::model::time::UnixMillis;
use crate::wire::{Reader, WireError, Writer};

/// What a Message says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Octets of the Message, this header included.
    pub length: u16,
    /// The exporter's clock: seconds since 1970.
    pub export_seconds: u32,
    /// Counts Data Records: those sent before this Message.
    pub sequence_number: u32,
    /// The scope of templates and of the sequence.
    pub domain: ObservationDomainId,
}

impl Header {
    /// Octets on the wire.
    pub const SIZE: usize = 16;

    /// Reads a header.
    ///
    /// # Errors
    /// If it is cut short or of another version.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let version = reader.u16()?;
        if version != VERSION {
            return Err(WireError::UnsupportedVersion(version));
        }
        Ok(Self {
            length: reader.u16()?,
            export_seconds: reader.u32()?,
            sequence_number: reader.u32()?,
            domain: ObservationDomainId(reader.u32()?),
        })
    }

    /// The octets of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let Self { length, export_seconds, sequence_number, domain } = *self;
        let mut writer = Writer::with_capacity(Self::SIZE);
        writer.u16(VERSION);
        writer.u16(length);
        writer.u32(export_seconds);
        writer.u32(sequence_number);
        writer.u32(domain.0);
        writer.as_bytes().try_into().expect("the fields are 16 octets")
    }

    /// The exporter's clock when it sent the Message.
    #[must_use]
    pub fn export_time(&self) -> UnixMillis {
        UnixMillis(i64::from(self.export_seconds).saturating_mul(1_000))
    }
}
