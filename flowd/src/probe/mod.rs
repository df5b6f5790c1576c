//! probe: the Observation Point. In: capture files. Out: [`CapturedPacket`]s, in file order.
//! Never: what packets mean (that is the packet parser's) or which flow they belong to.
//!
//! ```text
//! pcap, pcapng --[capture]--> CapturedPacket --> flow
//! ```

pub mod capture;

pub use capture::{CaptureError, CaptureFile, CapturedPacket, Damage, Packets};
pub use flowd_common::packet::LinkType;
