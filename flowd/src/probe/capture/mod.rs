//! capture: a pcap or pcapng file -> its packets, in place, up to the end or to the damage.
//!
//! The file is mapped, and packets are slices of the mapping. A file that is cut or damaged
//! gives every packet before the damage, then one error that says where and what; the reader
//! does not guess where the next packet may begin.

mod byte_order;
mod error;
mod mapping;
mod pcap;
mod pcapng;

#[cfg(test)]
mod tests;

pub use error::{CaptureError, Damage};

use flowd_common::packet::LinkType;
use flowd_common::{Direction, ObservationPoint};
use mapping::Mapping;
use pcap::PcapReader;
use pcapng::PcapngReader;
use std::iter::FusedIterator;
use std::path::Path;

/// Octets of one packet above which a length is taken for damage: libpcap's own limit. A file
/// that announces a greater one in its header is believed.
pub const PACKET_SIZE_MAX: u32 = 262_144;

/// One packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturedPacket<'a> {
    /// When it was captured, nanoseconds since 1970 UTC.
    pub time_nanos: i64,
    /// What its octets begin with.
    pub link_type: LinkType,
    /// Where it was seen. A capture file numbers its interfaces in the order in which it
    /// describes them, and tells no direction.
    pub point: ObservationPoint,
    /// Octets it had on the wire.
    pub wire_size: u32,
    /// The octets that were captured.
    pub data: &'a [u8],
}

/// An interface of a capture file.
const fn interface(number: u32) -> ObservationPoint {
    ObservationPoint::new(number, Direction::NONE)
}

/// A capture file.
#[derive(Debug)]
pub struct CaptureFile {
    mapping: Mapping,
}

impl CaptureFile {
    /// Opens and maps a file.
    ///
    /// # Errors
    /// It cannot be opened, or is not a regular file.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let mapping = Mapping::open(path)?;
        Ok(Self { mapping })
    }

    /// The file's packets from the first on.
    ///
    /// # Errors
    /// It is no capture file, or its header is damaged.
    pub fn packets(&self) -> Result<Packets<'_>, CaptureError> {
        Packets::new(self.mapping.bytes())
    }

    /// Octets of the file.
    #[must_use]
    pub fn size(&self) -> usize {
        self.mapping.bytes().len()
    }
}

/// The packets of a capture, in file order; after an error there are no more.
#[derive(Debug)]
pub struct Packets<'a> {
    reader: Option<Reader<'a>>,
}

#[derive(Debug)]
enum Reader<'a> {
    Pcap(PcapReader<'a>),
    Pcapng(PcapngReader<'a>),
}

impl<'a> Packets<'a> {
    /// The packets in the octets of a capture file.
    ///
    /// # Errors
    /// They do not begin as a capture file does.
    pub fn new(bytes: &'a [u8]) -> Result<Self, CaptureError> {
        let reader = if pcapng::is_section_header(bytes) {
            Reader::Pcapng(PcapngReader::new(bytes))
        } else if let Some(reader) = PcapReader::new(bytes)? {
            Reader::Pcap(reader)
        } else {
            return Err(CaptureError::unknown_format(bytes));
        };
        Ok(Self { reader: Some(reader) })
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<CapturedPacket<'a>, CaptureError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let packet = match self.reader.as_mut()? {
            Reader::Pcap(reader) => reader.next_packet(),
            Reader::Pcapng(reader) => reader.next_packet(),
        };
        match packet {
            Ok(Some(packet)) => Some(Ok(packet)),
            Ok(None) => {
                self.reader = None;
                None
            }
            Err(error) => {
                self.reader = None;
                Some(Err(error))
            }
        }
    }
}

impl FusedIterator for Packets<'_> {}
