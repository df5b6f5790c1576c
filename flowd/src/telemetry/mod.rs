//! telemetry: what flowd counts and says of itself. A leaf: any stage may use it.

pub mod counters;
mod log;

pub use counters::{Counter, Drops, Epoch, Flag, Reason};
pub use log::{Throttle, init};
