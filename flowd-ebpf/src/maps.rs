//! Every map, with its size and its cost in memory.
//!
//! One hash map for each address family and generation. A packet does one lookup there; which
//! flows there are is not known before, so that no array can stand for them.

use flowd_common::limits::KERNEL_FLOW_COUNT_MAX;
use flowd_common::{DropReason, FlowEntry, FlowKeyV4, FlowKeyV6};

/// Generations: user space drains one while the programs fill the other.
pub(crate) const GENERATION_COUNT: usize = 2;

/// Octets that the kernel adds to each entry of a preallocated hash map: links, hash and the
/// rounding of key and value to eight.
const ENTRY_OVERHEAD: usize = 48;

/// Octets of the flow maps of one family, both generations.
const fn flow_maps_size(key_size: usize) -> usize {
    let entry_size = key_size.next_multiple_of(8) + size_of::<FlowEntry>() + ENTRY_OVERHEAD;
    GENERATION_COUNT * KERNEL_FLOW_COUNT_MAX as usize * entry_size
}

/// Octets of all flow maps: what loading the programs costs the host.
pub(crate) const FLOW_MAPS_SIZE: usize =
    flow_maps_size(size_of::<FlowKeyV4>()) + flow_maps_size(size_of::<FlowKeyV6>());

const _: () = assert!(FLOW_MAPS_SIZE <= 40 << 20, "at most 40 MiB");

/// Counters of refused packets: one for each reason, on each CPU.
pub(crate) const DROP_COUNTER_COUNT: usize = DropReason::COUNT;

const _: () = assert!(DROP_COUNTER_COUNT * size_of::<u64>() <= 4096, "one page on each CPU");
