//! Packet Header (RFC 3954 section 5.1).

use super::VERSION;
use crate::model::ObservationDomainId;
use crate::model::time::{SysUptime, UnixMillis};
use crate::wire::{Reader, WireError, Writer};

/// What an Export Packet says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Records of all kinds in the packet; exporters count otherwise, so it is only shown.
    pub count: u16,
    /// Time since the exporter booted.
    pub sys_uptime: SysUptime,
    /// The exporter's clock: seconds since 1970.
    pub unix_seconds: u32,
    /// Counts Export Packets.
    pub sequence_number: u32,
    /// The scope of templates and of the sequence.
    pub source_id: ObservationDomainId,
}

impl Header {
    /// Octets on the wire.
    pub const SIZE: usize = 20;

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
            count: reader.u16()?,
            sys_uptime: SysUptime(reader.u32()?),
            unix_seconds: reader.u32()?,
            sequence_number: reader.u32()?,
            source_id: ObservationDomainId(reader.u32()?),
        })
    }

    /// The octets of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let Self { count, sys_uptime, unix_seconds, sequence_number, source_id } = *self;
        let mut writer = Writer::with_capacity(Self::SIZE);
        writer.u16(VERSION);
        writer.u16(count);
        writer.u32(sys_uptime.0);
        writer.u32(unix_seconds);
        writer.u32(sequence_number);
        writer.u32(source_id.0);
        writer.as_bytes().try_into().expect("the fields are 20 octets")
    }

    /// The exporter's clock when it sent the packet.
    #[must_use]
    pub fn export_time(&self) -> UnixMillis {
        UnixMillis(i64::from(self.unix_seconds).saturating_mul(1_000))
    }
}
