//! What the kernel's tables hold, and what crosses to user space.

use crate::{DropReason, FirstPacket, FlowCounters, FlowKey, FlowKeyV4, FlowKeyV6};

/// A flow in a kernel table, beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlowEntry {
    /// What is counted.
    pub counters: FlowCounters,
    /// What the first packet fixed.
    pub first: FirstPacket,
    /// Always zero.
    pub padding: [u8; 4],
}

const _: () = assert!(size_of::<FlowEntry>() == 64 && align_of::<FlowEntry>() == 8);

/// What is to be added to one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowDelta {
    /// Which flow.
    pub key: FlowKey,
    /// What is added.
    pub counters: FlowCounters,
    /// What is fixed if the flow is new.
    pub first: FirstPacket,
}

/// A delta of an IPv4 flow that no table took, as it lies in the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RingRecordV4 {
    /// Which generation it belongs to.
    pub epoch: u32,
    /// Which flow.
    pub key: FlowKeyV4,
    /// What is added to it.
    pub entry: FlowEntry,
}

/// A delta of an IPv6 flow that no table took, as it lies in the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RingRecordV6 {
    /// Which generation it belongs to.
    pub epoch: u32,
    /// Which flow.
    pub key: FlowKeyV6,
    /// What is added to it.
    pub entry: FlowEntry,
}

// Their sizes tell them apart.
const _: () = assert!(size_of::<RingRecordV4>() == 88 && align_of::<RingRecordV4>() == 8);
const _: () = assert!(size_of::<RingRecordV6>() == 112 && align_of::<RingRecordV6>() == 8);

/// What became of the packets at one observation point, in one generation:
/// `seen = in the tables and the ring buffer + unaccounted + not selected + refused`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LedgerEntry {
    /// Packets that came by.
    pub seen_packets: u64,
    /// Octets of layer 3 of those that are IP.
    pub seen_octets: u64,
    /// Packets of flows that neither a table nor the ring buffer had room for.
    pub unaccounted_packets: u64,
    /// Their octets of layer 3.
    pub unaccounted_octets: u64,
    /// Packets that sampling passed over.
    pub not_selected_packets: u64,
    /// Later fragments that took the ports of their first one.
    pub fragments_stitched: u64,
    /// Later fragments whose first one was not seen.
    pub fragments_unstitched: u64,
    /// Packets that were refused, by the index of their reason.
    pub refused: [u64; DropReason::COUNT],
}

impl LedgerEntry {
    /// Nothing came by.
    pub const ZERO: Self = Self {
        seen_packets: 0,
        seen_octets: 0,
        unaccounted_packets: 0,
        unaccounted_octets: 0,
        not_selected_packets: 0,
        fragments_stitched: 0,
        fragments_unstitched: 0,
        refused: [0; DropReason::COUNT],
    };

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, more: &Self) {
        self.combine(more, u64::wrapping_add);
    }

    /// Takes away what was counted before.
    pub fn subtract(&mut self, less: &Self) {
        self.combine(less, u64::wrapping_sub);
    }

    fn combine(&mut self, other: &Self, operation: fn(u64, u64) -> u64) {
        let Self {
            seen_packets,
            seen_octets,
            unaccounted_packets,
            unaccounted_octets,
            not_selected_packets,
            fragments_stitched,
            fragments_unstitched,
            refused,
        } = other;
        let fields = [
            (&mut self.seen_packets, seen_packets),
            (&mut self.seen_octets, seen_octets),
            (&mut self.unaccounted_packets, unaccounted_packets),
            (&mut self.unaccounted_octets, unaccounted_octets),
            (&mut self.not_selected_packets, not_selected_packets),
            (&mut self.fragments_stitched, fragments_stitched),
            (&mut self.fragments_unstitched, fragments_unstitched),
        ];
        for (field, other) in fields.into_iter().chain(self.refused.iter_mut().zip(refused)) {
            *field = operation(*field, *other);
        }
    }

    /// Packets that were refused in all.
    #[must_use]
    pub fn refused_packets(&self) -> u64 {
        self.refused.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledgers_add_field_by_field() {
        let one = LedgerEntry {
            seen_packets: 1,
            seen_octets: 2,
            unaccounted_packets: 3,
            unaccounted_octets: 4,
            not_selected_packets: 5,
            fragments_stitched: 6,
            fragments_unstitched: 7,
            refused: core::array::from_fn(|index| index as u64),
        };
        let mut sum = one;
        sum.add(&one);
        assert_eq!((sum.seen_packets, sum.fragments_unstitched), (2, 14));
        assert_eq!(sum.refused_packets(), 2 * one.refused_packets());
        sum.subtract(&one);
        assert_eq!(sum, one);
    }
}
