//! Records of a counter sample: what was counted.

use super::layout::{COUNTER_LAYOUTS, Fields};
use super::{Block, DataFormat};
use crate::wire::WireError;

/// One record of a counter sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterData<'a> {
    /// Counters and what describes their source. A counter that the agent does not keep has all
    /// bits set.
    Fields(Fields<'a>),
    /// A format that is not read.
    Unknown(DataFormat),
}

impl<'a> CounterData<'a> {
    /// Number of the ifIndex among the fields.
    pub const INTERFACE_INDEX: u16 = 1024;
    /// Number of the VLAN among the fields.
    pub const VLAN_ID: u16 = 1152;

    /// Reads a record.
    ///
    /// # Errors
    /// If it ends within a field.
    pub fn decode(block: &Block<'a>) -> Result<Self, WireError> {
        let fields = Fields::decode(COUNTER_LAYOUTS, block)?;
        Ok(fields.map_or(Self::Unknown(block.format), Self::Fields))
    }
}
