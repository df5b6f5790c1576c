//! Samples of a datagram: what each says before its records.

use super::{Block, Blocks, DataFormat};
use crate::wire::{Reader, WireError};

/// Numbers of the sample formats.
mod format {
    pub(super) const FLOW: u32 = 1;
    pub(super) const COUNTERS: u32 = 2;
    pub(super) const FLOW_EXPANDED: u32 = 3;
    pub(super) const COUNTERS_EXPANDED: u32 = 4;
    pub(super) const DISCARDED_PACKET: u32 = 5;
}

/// What was sampled: an interface, a VLAN, a part of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceId {
    /// 0 an interface, 1 a VLAN, 2 a physical entity, 3 a logical one.
    pub class: u32,
    /// Which one: of an interface its ifIndex.
    pub index: u32,
}

impl SourceId {
    /// The class of interfaces.
    pub const INTERFACE: u32 = 0;

    /// Class and index in one word.
    const fn compact(word: u32) -> Self {
        Self { class: word >> 24, index: word & 0x00ff_ffff }
    }

    fn decode(reader: &mut Reader<'_>, expanded: bool) -> Result<Self, WireError> {
        if expanded {
            Ok(Self { class: reader.u32()?, index: reader.u32()? })
        } else {
            reader.u32().map(Self::compact)
        }
    }
}

/// Where a packet came in or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// This ifIndex: 0 if it is not known, [`Interface::LOCAL`] if it is the device itself.
    Index(u32),
    /// Nowhere: it was discarded, for this reason.
    Discarded(u32),
    /// So many interfaces; 0 if it is not known how many.
    Multiple(u32),
    /// A format that is not defined.
    Unknown {
        /// The format's number.
        format: u32,
        /// What it says.
        value: u32,
    },
}

impl Interface {
    /// The ifIndex of packets that the device itself sends or takes.
    pub const LOCAL: u32 = 0x3fff_ffff;

    const fn new(format: u32, value: u32) -> Self {
        match format {
            0 => Self::Index(value),
            1 => Self::Discarded(value),
            2 => Self::Multiple(value),
            format => Self::Unknown { format, value },
        }
    }

    fn decode(reader: &mut Reader<'_>, expanded: bool) -> Result<Self, WireError> {
        let word = reader.u32()?;
        if expanded {
            Ok(Self::new(word, reader.u32()?))
        } else {
            Ok(Self::new(word >> 30, word & 0x3fff_ffff))
        }
    }
}

/// A packet that was sampled, in either form.
#[derive(Clone, Debug)]
pub struct FlowSample<'a> {
    /// Counts the flow samples of this source.
    pub sequence_number: u32,
    /// Who sampled.
    pub source: SourceId,
    /// One packet in so many is sampled.
    pub sampling_rate: u32,
    /// Packets that could have been sampled.
    pub sample_pool: u32,
    /// Packets that should have been sampled and were not, for want of resources.
    pub drops: u32,
    /// Where the packet came in.
    pub input: Interface,
    /// Where it went.
    pub output: Interface,
    /// What is told of it: [`FlowData::decode`](super::FlowData::decode) reads each.
    pub records: Blocks<'a>,
}

/// Counters of one source, in either form.
#[derive(Clone, Debug)]
pub struct CountersSample<'a> {
    /// Counts the counter samples of this source.
    pub sequence_number: u32,
    /// Whose counters.
    pub source: SourceId,
    /// The counters: [`CounterData::decode`](super::CounterData::decode) reads each.
    pub records: Blocks<'a>,
}

/// A packet that the device dropped.
#[derive(Clone, Debug)]
pub struct DiscardedPacket<'a> {
    /// Counts the discarded packets that this source has told of.
    pub sequence_number: u32,
    /// Who dropped it.
    pub source: SourceId,
    /// Discarded packets that it did not tell of.
    pub drops: u32,
    /// Its input interface; 0 if it is not known.
    pub input: u32,
    /// Its output interface; 0 if it is not known.
    pub output: u32,
    /// Why: below 256 a code of ICMP's unreachable messages, from 256 on one of sFlow's own.
    pub reason: u32,
    /// What is told of it: [`FlowData::decode`](super::FlowData::decode) reads each.
    pub records: Blocks<'a>,
}

/// One sample.
#[derive(Clone, Debug)]
pub enum Sample<'a> {
    /// A packet.
    Flow(FlowSample<'a>),
    /// Counters.
    Counters(CountersSample<'a>),
    /// A packet that was dropped.
    Discarded(DiscardedPacket<'a>),
    /// A format that is not read.
    Unknown(DataFormat),
}

impl<'a> Sample<'a> {
    /// Reads a sample up to its records.
    ///
    /// # Errors
    /// If it is cut short.
    pub fn decode(block: &Block<'a>) -> Result<Self, WireError> {
        let reader = &mut Reader::new(block.body);
        match block.format.word() {
            format::FLOW => flow(reader, false).map(Self::Flow),
            format::FLOW_EXPANDED => flow(reader, true).map(Self::Flow),
            format::COUNTERS => counters(reader, false).map(Self::Counters),
            format::COUNTERS_EXPANDED => counters(reader, true).map(Self::Counters),
            format::DISCARDED_PACKET => discarded(reader).map(Self::Discarded),
            _ => Ok(Self::Unknown(block.format)),
        }
    }
}

fn flow<'a>(reader: &mut Reader<'a>, expanded: bool) -> Result<FlowSample<'a>, WireError> {
    Ok(FlowSample {
        sequence_number: reader.u32()?,
        source: SourceId::decode(reader, expanded)?,
        sampling_rate: reader.u32()?,
        sample_pool: reader.u32()?,
        drops: reader.u32()?,
        input: Interface::decode(reader, expanded)?,
        output: Interface::decode(reader, expanded)?,
        records: Blocks::decode(reader)?,
    })
}

fn counters<'a>(reader: &mut Reader<'a>, expanded: bool) -> Result<CountersSample<'a>, WireError> {
    Ok(CountersSample {
        sequence_number: reader.u32()?,
        source: SourceId::decode(reader, expanded)?,
        records: Blocks::decode(reader)?,
    })
}

/// Its source is always in the expanded form.
fn discarded<'a>(reader: &mut Reader<'a>) -> Result<DiscardedPacket<'a>, WireError> {
    Ok(DiscardedPacket {
        sequence_number: reader.u32()?,
        source: SourceId::decode(reader, true)?,
        drops: reader.u32()?,
        input: reader.u32()?,
        output: reader.u32()?,
        reason: reader.u32()?,
        records: Blocks::decode(reader)?,
    })
}
