//! Every bound that the packet parser and the kernel's tables keep.

/// VLAN tags (802.1Q, 802.1ad and their forerunners) that are walked.
pub const VLAN_TAG_COUNT_MAX: usize = 4;

/// MPLS labels that are walked.
pub const MPLS_LABEL_COUNT_MAX: usize = 8;

/// IPv6 extension headers that are walked.
pub const EXTENSION_HEADER_COUNT_MAX: usize = 8;

/// Steps from the start of a frame to its IP header: a tag, a label stack, LLC, PPPoE, PPP and
/// an Ethernet header are one step each. The deepest stack of sense is Ethernet, four tags, LLC
/// or PPPoE with PPP, MPLS, and the Ethernet header of a pseudowire.
pub const LAYER_COUNT_MAX: usize = 12;

/// Flows that one generation of a kernel table holds, for each address family.
pub const KERNEL_FLOW_COUNT_MAX: u32 = 65_536;

/// First fragments that the kernel remembers.
pub const KERNEL_FRAGMENT_COUNT_MAX: u32 = 16_384;

/// How long a first fragment is remembered. Linux gives up reassembly after 30 s; much longer,
/// and a busy pair of hosts has come round to the same identification (RFC 4963).
pub const FRAGMENT_TIMEOUT_NANOS: i64 = 30_000_000_000;

/// Observation points that one generation of the kernel's ledger holds: two for an interface.
pub const LEDGER_COUNT_MAX: u32 = 8_192;

/// Octets of the ring buffer for deltas that no table took: a power of two. It holds about 43
/// thousand of IPv4.
pub const RING_SIZE: u32 = 4 << 20;
