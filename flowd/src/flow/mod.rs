//! flow: the Metering Process. In: captured packets, or deltas that the kernel counted. Out: flow
//! records, in the order in which their flows end. Never: files, sockets, or a clock of its own:
//! time is what packets say.
//!
//! ```text
//! CapturedPacket --[parser]--> Packet --[fragments]--> FlowKey + counters --[cache]--> FlowRecord
//!                   refused, by reason                     ^                by end reason
//!                                             FlowDelta ---'
//! ```
//!
//! The law: packets seen = accounted + refused, and what was accounted = what the records hold
//! + what the cache still holds, in packets and in octets, at each observation point.

mod books;
mod cache;
mod expiry;
mod fragments;
mod meter;
mod record;

#[cfg(test)]
mod delta_tests;
#[cfg(test)]
mod naive_tests;
#[cfg(test)]
mod tests;

pub use crate::model::Volume;
pub use books::Books;
pub use meter::{Meter, MeterConfig};
