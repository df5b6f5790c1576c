//! Every map, with its size and its cost in memory.
//!
//! Flow tables and ledgers exist twice, once for each generation: programs fill the one that the
//! control map names, user space reads and empties the other. A flow table is a hash map because
//! which flows there are is not known before, so that no array can stand for them; a packet does
//! one lookup there. It is preallocated, and it never evicts: a table that is full is told so.

use flowd_common::limits::{
    KERNEL_FLOW_COUNT_MAX, KERNEL_FRAGMENT_COUNT_MAX, LEDGER_COUNT_MAX, RING_SIZE,
};
use flowd_common::{FlowEntry, FlowKeyV4, FlowKeyV6, LedgerEntry};

/// Octets that the kernel adds to each entry of a preallocated hash map: links, hash and the
/// rounding of key and value to eight.
const ENTRY_OVERHEAD: usize = 48;

/// Octets of one flow table.
const fn flow_table_size(key_size: usize) -> usize {
    let entry_size = key_size.next_multiple_of(8) + size_of::<FlowEntry>() + ENTRY_OVERHEAD;
    KERNEL_FLOW_COUNT_MAX as usize * entry_size
}

/// Octets of all maps but the ledgers: what loading the programs costs the host.
const MAPS_SIZE: usize = 2 * flow_table_size(size_of::<FlowKeyV4>())
    + 2 * flow_table_size(size_of::<FlowKeyV6>())
    + KERNEL_FRAGMENT_COUNT_MAX as usize * (FRAGMENT_SIZE + ENTRY_OVERHEAD)
    + RING_SIZE as usize;

/// Octets of a fragment's key and value.
const FRAGMENT_SIZE: usize = 48 + 16;

const _: () = assert!(MAPS_SIZE <= 44 << 20, "at most 44 MiB");

// A ledger's entries are made when an interface is attached; so much on each CPU at most.
const _: () = assert!(LEDGER_COUNT_MAX as usize * size_of::<LedgerEntry>() <= 2 << 20);

#[cfg(target_arch = "bpf")]
pub(crate) use kernel::*;

#[cfg(target_arch = "bpf")]
mod kernel {
    use super::*;
    use crate::account::Work;
    use crate::fragments::{FragmentKey, FragmentPorts};
    use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
    use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};
    use aya_ebpf::macros::btf_map;
    use flowd_common::ObservationPoint;
    use flowd_common::packet::Packet;

    /// A flow table.
    pub(crate) type FlowTable<K> = HashMap<K, FlowEntry, { KERNEL_FLOW_COUNT_MAX as usize }>;

    /// What became of the packets of each interface and direction.
    pub(crate) type Ledger = PerCpuHashMap<
        ObservationPoint,
        LedgerEntry,
        { LEDGER_COUNT_MAX as usize },
        { BPF_F_NO_PREALLOC as usize },
    >;

    /// The epoch: how often user space has turned to the other generation. Its lowest bit is the
    /// generation that is filled.
    #[btf_map]
    pub(crate) static CONTROL: Array<u32, 1> = Array::new();

    #[btf_map]
    pub(crate) static FLOWS_V4_0: FlowTable<FlowKeyV4> = HashMap::new();
    #[btf_map]
    pub(crate) static FLOWS_V4_1: FlowTable<FlowKeyV4> = HashMap::new();
    #[btf_map]
    pub(crate) static FLOWS_V6_0: FlowTable<FlowKeyV6> = HashMap::new();
    #[btf_map]
    pub(crate) static FLOWS_V6_1: FlowTable<FlowKeyV6> = HashMap::new();
    #[btf_map]
    pub(crate) static LEDGER_0: Ledger = PerCpuHashMap::new();
    #[btf_map]
    pub(crate) static LEDGER_1: Ledger = PerCpuHashMap::new();

    /// Where a program works out what to add: its stack is too small for it.
    #[btf_map]
    pub(crate) static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

    /// What lies in [`SCRATCH`].
    #[repr(C)]
    pub(crate) struct Scratch {
        /// What the packet says of itself. Maps begin as zeros, which are a packet without
        /// anything: each enum's first variant, no boolean set.
        pub(crate) parsed: Packet,
        /// Key and entry of the packet's flow.
        pub(crate) work: Work,
        /// Key of the packet as a fragment.
        pub(crate) fragment_key: FragmentKey,
        /// Octets from outside the packet's linear part.
        pub(crate) octets: [u8; 64],
    }

    // The octets hold numbers, too.
    const _: () = assert!(core::mem::offset_of!(Scratch, octets) % align_of::<u64>() == 0);

    /// For packets of observation points that a ledger has no room for. It has one generation:
    /// what is counted here only grows.
    #[btf_map]
    pub(crate) static LEDGER_SPARE: PerCpuArray<LedgerEntry, 1> = PerCpuArray::new();

    /// Deltas that no table took: of flows that a full table has no room for, and of the SYN
    /// that opens a connection anew.
    #[btf_map]
    pub(crate) static RING: RingBuf<[u64; 0], { RING_SIZE as usize }> = RingBuf::new();

    /// What first fragments said. Here the oldest may go unseen: the packets that ask for it
    /// are accounted without ports then, and counted as such.
    #[btf_map]
    pub(crate) static FRAGMENTS: LruHashMap<
        FragmentKey,
        FragmentPorts,
        { KERNEL_FRAGMENT_COUNT_MAX as usize },
    > = LruHashMap::new();
}
