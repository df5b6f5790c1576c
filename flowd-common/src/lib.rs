//! What flowd's kernel side and user side share: flow keys, counters, drop reasons, limits and
//! the one packet parser.
//!
//! What crosses the kernel boundary ([`FlowKeyV4`], [`FlowKeyV6`], [`FlowEntry`], [`LedgerEntry`]
//! and the records of the ring buffer) is `repr(C)`, of integers and octet arrays only, its padding spelled out as
//! fields, its size asserted when it is compiled. There is no unsafe code, no allocation and no
//! panic in here: the kernel's verifier has to follow all of it.

#![no_std]
#![forbid(unsafe_code)]

mod drop_reason;
mod flow_counters;
mod flow_entry;
mod flow_key;
pub mod limits;
pub mod packet;

pub use drop_reason::DropReason;
pub use flow_counters::{FirstPacket, FlowCounters};
pub use flow_entry::{FlowDelta, FlowEntry, LedgerEntry, RingRecordV4, RingRecordV6};
pub use flow_key::{Direction, FlowKey, FlowKeyV4, FlowKeyV6, ObservationPoint, TransportKind};
