//! ICMP in records that have no element for it: NetFlow always had type and code in the
//! destination port.

use super::plan::{Copy, field_at};
use crate::model::{Column, Protocol};

pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;

/// Where ICMP type and code stand in the destination port.
#[derive(Clone, Copy, Debug)]
pub(super) struct IcmpPort {
    pub(super) protocol: usize,
    source_port: usize,
    pub(super) destination_port: usize,
    /// Is it so whatever the ports are? NetFlow's fixed formats have no other place for it.
    is_sure: bool,
}

impl IcmpPort {
    pub(super) fn find(copies: &[Copy], protocol: Protocol) -> Option<Self> {
        let has_own = copies
            .iter()
            .any(|copy| matches!(copy.column, Column::IcmpTypeCodeIpv4 | Column::IcmpTypeCodeIpv6));
        if has_own {
            return None;
        }
        let field = |column, length| {
            let copy = copies.iter().find(|copy| copy.column == column)?;
            (copy.length == length).then_some(copy.field)
        };
        Some(Self {
            protocol: field(Column::ProtocolIdentifier, 1)?,
            source_port: field(Column::SourceTransportPort, 2)?,
            destination_port: field(Column::DestinationTransportPort, 2)?,
            is_sure: !matches!(protocol, Protocol::NetflowV9 | Protocol::Ipfix),
        })
    }

    /// 1 for ICMP and 2 for ICMPv6 of that habit, else 0. An ICMP flow has no ports: a
    /// destination port beside a source port of 0 is nothing else. Without one, the exporter may
    /// have sent an echo reply, or no type at all.
    pub(super) fn digit(&self, record: &[u8], offsets: &[usize]) -> usize {
        let digit = match field_at(record, offsets, self.protocol) {
            Some([ICMP, ..]) => 1,
            Some([ICMPV6, ..]) => 2,
            _ => return 0,
        };
        let is_zero = |field| matches!(field_at(record, offsets, field), Some([0, 0, ..]) | None);
        let is_so = self.is_sure || (is_zero(self.source_port) && !is_zero(self.destination_port));
        if is_so { digit } else { 0 }
    }

    /// The columns that its digit is the number of.
    pub(super) const COLUMNS: [Column; 2] = [Column::IcmpTypeCodeIpv4, Column::IcmpTypeCodeIpv6];
}
