//! wire::v9: NetFlow version 9 (RFC 3954). Decoding and encoding of each part stand in one file.
//!
//! ```text
//! Message = Header, Set..
//! Set     = TemplateRecord..  (id 0) | OptionsTemplateRecord.. (id 1) | data (id = template's)
//! ```
//!
//! The header's count is written right and never trusted: exporters count records, FlowSets or
//! nothing. A set's length is what bounds it.

mod data;
mod header;
mod message;
mod options;
mod template;
#[cfg(test)]
mod tests;

pub use data::{DataSet, Set, Sets};
pub use header::Header;
pub use message::{Message, MessageEncoder};
pub use options::{OptionsTemplateRecord, OptionsTemplateRecords};
pub use template::{TemplateRecord, TemplateRecords};

/// The version word.
pub const VERSION: u16 = 9;

/// Fields that a template may have here. The format allows 16,000 in a full datagram; the
/// richest exporters known send about a hundred.
pub const FIELD_COUNT_MAX: usize = 1_024;
