//! wire::sflow: sFlow version 5 (sflow_version_5.txt of sflow.org). Only what is received: flowd
//! sends none.
//!
//! ```text
//! Datagram = agent, sequence, uptime, Sample..
//! Sample   = FlowSample | CountersSample | DiscardedPacket, each with records in Blocks
//! Block    = format, length, body: FlowData or CounterData, else skipped by its length
//! ```
//!
//! All of it is XDR (RFC 4506): big endian, in units of four octets. Nothing is copied, and every
//! count is bounded by the octets that are there: none of them is trusted before they were read.

mod counters;
mod flow_data;
mod layout;
mod sample;
#[cfg(test)]
pub(crate) mod tests;

pub use counters::CounterData;
pub use flow_data::{
    AsPathSegment, AsPathSegments, Ethernet, FlowData, Gateway, HeaderProtocol, Ip, Mpls, Nat,
    NatPort, RawHeader, Router, Switch, Url, User,
};
pub use layout::{Field, Fields, Kind, Layout, layouts};
pub use sample::{CountersSample, DiscardedPacket, FlowSample, Interface, Sample, SourceId};

use crate::model::time::SysUptime;
use crate::wire::{Reader, WireError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The version word, of four octets.
pub const VERSION: u32 = 5;

/// Do octets begin with the version word? No other export protocol's do: those have a word of
/// two octets that is not 0.
#[must_use]
pub fn is_announced_by(octets: &[u8]) -> bool {
    octets.starts_with(&VERSION.to_be_bytes())
}

/// Address types of the protocol.
mod address_type {
    pub(super) const UNKNOWN: u32 = 0;
    pub(super) const IPV4: u32 = 1;
    pub(super) const IPV6: u32 = 2;
}

/// A datagram that was received.
#[derive(Clone, Debug)]
pub struct Datagram<'a> {
    /// The address by which the agent is known; none if it does not know one itself.
    pub agent: Option<IpAddr>,
    /// Tells several streams of one agent apart.
    pub sub_agent: u32,
    /// Counts the datagrams of a sub-agent.
    pub sequence_number: u32,
    /// Time since the agent booted.
    pub uptime: SysUptime,
    /// What it carries: [`Sample::decode`] reads each.
    pub samples: Blocks<'a>,
}

impl<'a> Datagram<'a> {
    /// Reads the header; the samples are read as they are asked for. What lies behind the last
    /// one is nobody's: some agents send such.
    ///
    /// ```
    /// use flowd::wire::sflow::Datagram;
    /// let words = [5u32, 1, 0xc000_0201, 7, 42, 1_000, 0];
    /// let octets: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    /// let datagram = Datagram::decode(&octets).unwrap();
    /// assert_eq!(datagram.agent, Some("192.0.2.1".parse().unwrap()));
    /// assert_eq!((datagram.sub_agent, datagram.sequence_number), (7, 42));
    /// assert_eq!(datagram.samples.count(), 0);
    /// ```
    ///
    /// # Errors
    /// If the header is cut short, of another version, or its address of a type unheard of.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(datagram);
        let version = reader.u32()?;
        if version != VERSION {
            let version = u16::try_from(version).unwrap_or(u16::MAX);
            return Err(WireError::UnsupportedVersion(version));
        }
        Ok(Self {
            agent: address(&mut reader)?,
            sub_agent: reader.u32()?,
            sequence_number: reader.u32()?,
            uptime: SysUptime(reader.u32()?),
            samples: Blocks::decode(&mut reader)?,
        })
    }
}

/// What a block holds: an enterprise's format, 0 for sFlow's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DataFormat(u32);

impl DataFormat {
    /// The format of an enterprise: 20 bits and 12.
    #[must_use]
    pub const fn new(enterprise: u32, format: u32) -> Self {
        Self(enterprise << 12 | format & 0xfff)
    }

    /// The number on the wire. Of sFlow's own formats it is the format itself.
    #[must_use]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// Whose format it is.
    #[must_use]
    pub const fn enterprise(self) -> u32 {
        self.0 >> 12
    }

    /// Its number within the enterprise.
    #[must_use]
    pub const fn format(self) -> u32 {
        self.0 & 0xfff
    }
}

/// A sample of a datagram or a record of a sample, yet to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// What it holds.
    pub format: DataFormat,
    /// Its octets.
    pub body: &'a [u8],
}

/// Blocks one after another, up to their count, or to damage: an error is the last item. Each
/// takes eight octets at least, so that a count that lies ends with the octets.
#[derive(Clone, Debug)]
pub struct Blocks<'a> {
    reader: Reader<'a>,
    count: u32,
}

impl<'a> Blocks<'a> {
    /// Reads the count, and takes all that follows.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let count = reader.u32()?;
        Ok(Self { reader: *reader, count })
    }

    fn block(&mut self) -> Result<Block<'a>, WireError> {
        let format = DataFormat(self.reader.u32()?);
        Ok(Block { format, body: opaque(&mut self.reader)? })
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<Block<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let block = self.block();
        if block.is_err() {
            self.count = 0;
        }
        Some(block)
    }
}

/// Numbers of four octets, one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let count = reader.u32()?;
        // More than can be addressed is more than there is.
        let size = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(4);
        reader.take(size).map(Self)
    }

    /// The numbers.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u32> + ExactSizeIterator + 'a {
        let (words, _) = self.0.as_chunks::<4>();
        words.iter().map(|&octets| u32::from_be_bytes(octets))
    }

    /// Their octets.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Octets behind their number, filled up to a multiple of four (RFC 4506 section 4.10). What
/// would be the fill of the last ones may be missing.
fn opaque<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let size = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    let octets = reader.take(size)?;
    let fill = (size.wrapping_neg() & 3).min(reader.left());
    reader.take(fill)?;
    Ok(octets)
}

/// A MAC address, filled up to eight octets.
fn mac(reader: &mut Reader<'_>) -> Result<[u8; 6], WireError> {
    let [a, b, c, d, e, f, _, _] = reader.take_array()?;
    Ok([a, b, c, d, e, f])
}

/// An address behind its type; none if the sender does not know it.
fn address(reader: &mut Reader<'_>) -> Result<Option<IpAddr>, WireError> {
    match reader.u32()? {
        address_type::UNKNOWN => Ok(None),
        address_type::IPV4 => ipv4(reader).map(Some),
        address_type::IPV6 => ipv6(reader).map(Some),
        other => Err(WireError::AddressType(other)),
    }
}

fn ipv4(reader: &mut Reader<'_>) -> Result<IpAddr, WireError> {
    reader.take_array::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
}

fn ipv6(reader: &mut Reader<'_>) -> Result<IpAddr, WireError> {
    reader.take_array::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
}
