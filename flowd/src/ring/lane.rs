//! Which block a record belongs in: shard, lane and number.

use crate::model::{Column, ColumnSet, RecordType, Shape};
use std::fmt;

/// A kind of record within a shard. Records of one lane use much the same columns, so that a
/// block has memory for few others; a lane also fixes the record's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Flows with IPv4 addresses, and flows without any address.
    Ipv4 = 0,
    /// Flows with IPv6 addresses.
    Ipv6 = 1,
    /// Options data.
    Options = 2,
    /// Counters of interfaces.
    Counters = 3,
}

const IPV6_ADDRESSES: ColumnSet =
    ColumnSet::EMPTY.with(Column::SourceIpv6Address).with(Column::DestinationIpv6Address);

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 4] = [Self::Ipv4, Self::Ipv6, Self::Options, Self::Counters];

    /// The lane of records with this shape.
    #[must_use]
    pub fn of(shape: &Shape) -> Self {
        match shape.record_type {
            RecordType::Options => Self::Options,
            RecordType::Counters => Self::Counters,
            RecordType::Flow if shape.columns.to_bits() & IPV6_ADDRESSES.to_bits() != 0 => {
                Self::Ipv6
            }
            RecordType::Flow => Self::Ipv4,
        }
    }

    /// The type of all records in this lane.
    #[must_use]
    pub const fn record_type(self) -> RecordType {
        match self {
            Self::Ipv4 | Self::Ipv6 => RecordType::Flow,
            Self::Options => RecordType::Options,
            Self::Counters => RecordType::Counters,
        }
    }

    /// The name in file names and in the manifest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Options => "options",
            Self::Counters => "counters",
        }
    }

    /// The lane of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.name() == name)
    }

    /// A stored number back to the lane.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Its place in [`Lane::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The name of a block: within a lane of a shard, numbers have no gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// The writer.
    pub shard: u16,
    /// The kind of records.
    pub lane: Lane,
    /// The place in the lane's order.
    pub number: u64,
}

const SUFFIX: &str = ".block";

impl BlockId {
    /// The name of the block's file.
    #[must_use]
    pub fn file_name(self) -> String {
        let Self { shard, lane, number } = self;
        format!("{shard}-{}-{number}{SUFFIX}", lane.name())
    }

    /// The block whose file has this name; none if it is not a block's name exactly.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(SUFFIX)?.split('-');
        let id = Self {
            shard: parts.next()?.parse().ok()?,
            lane: Lane::from_name(parts.next()?)?,
            number: parts.next()?.parse().ok()?,
        };
        (parts.next().is_none() && id.file_name() == name).then_some(id)
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.shard, self.lane.name(), self.number)
    }
}

/// For each lane of each shard, the least number that a new block may have.
///
/// The manifest names blocks by number, so a number that it covers must never be given again,
/// even if the ring's directory was lost.
#[derive(Clone, Debug, Default)]
pub struct NumberFloors(std::collections::BTreeMap<(u16, Lane), u64>);

impl NumberFloors {
    /// Raises the floor of a lane; it never falls.
    pub fn raise(&mut self, shard: u16, lane: Lane, number: u64) {
        let floor = self.0.entry((shard, lane)).or_insert(0);
        *floor = number.max(*floor);
    }

    /// The least number that a new block of the lane may have.
    #[must_use]
    pub fn floor(&self, shard: u16, lane: Lane) -> u64 {
        self.0.get(&(shard, lane)).copied().unwrap_or(0)
    }

    /// The floor of each lane that has one.
    pub fn iter(&self) -> impl Iterator<Item = BlockId> {
        self.0.iter().map(|(&(shard, lane), &number)| BlockId { shard, lane, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_lead_back_to_their_block() {
        for lane in Lane::ALL {
            let id = BlockId { shard: 3, lane, number: 12 };
            assert_eq!(BlockId::from_file_name(&id.file_name()), Some(id));
        }
        for name in [
            "3-ipv4-12",
            "3-ipv4-012.block",
            "3-ipv5-1.block",
            "+3-ipv4-1.block",
            "3-ipv4-1-2.block",
            "3-ipv4-12.block.new",
            "",
        ] {
            assert_eq!(BlockId::from_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_shape_s_lane_keeps_its_record_type() {
        let mut shape = Shape::default();
        assert_eq!(Lane::of(&shape), Lane::Ipv4);
        shape.columns.insert(Column::IpNextHopIpv6Address);
        assert_eq!(Lane::of(&shape), Lane::Ipv4);
        shape.columns.insert(Column::DestinationIpv6Address);
        assert_eq!(Lane::of(&shape), Lane::Ipv6);
        for record_type in [RecordType::Options, RecordType::Counters, RecordType::Flow] {
            shape.record_type = record_type;
            assert_eq!(Lane::of(&shape).record_type(), record_type);
        }
    }
}
