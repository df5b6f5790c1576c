//! wire: octets <-> messages. In: a datagram. Out: its header, sets and records.
//! Never: sockets, clocks, templates kept between calls.
//!
//! ```text
//! datagram --[Reader]--> v9::Message, ipfix::Message --> Header + Sets
//!                                          |-> TemplateRecord, OptionsTemplateRecord
//!                                          '-> DataSet: octets that only a template explains
//!                    '-> fixed::Message --> Header + records of one layout (v1, v5, v7)
//!                    '-> sflow::Datagram --> Samples and their records
//! datagram <--[Writer]-- MessageEncoder <-- the same records
//! ```
//!
//! Whatever the octets are, decoding ends, allocates no more than a small multiple of their
//! number, and says what was wrong as a [`WireError`].

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod encoder;
mod error;
mod field;
pub mod fixed;
pub mod ipfix;
mod reader;
mod set;
pub mod sflow;
mod template;
#[cfg(test)]
mod testing;
pub mod v9;
mod writer;

pub use encoder::MessageEncoder;
pub use error::{WireError, WireErrorKind};
pub use field::{FieldSpecifier, TemplateId};
pub use reader::Reader;
pub use set::{DataSet, Dialect, Set, Sets, TemplateSet};
pub use template::{
    FIELD_COUNT_MAX, OptionsTemplateRecord, TemplateChange, TemplateRecord, Withdrawal,
};
pub use writer::{LengthSlot, Writer};

/// Octets of UDP payload that reach any collector in one piece: 1,500 of Ethernet less 40 of
/// IPv6, 8 of UDP and 20 to spare for a tunnel on the way.
pub const MESSAGE_SIZE_MAX: usize = 1_432;
