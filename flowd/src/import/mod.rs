//! import: files of nfdump -> records with who sent them. In: octets of files that nfcapd, nfdump
//! and their like wrote. Out: [`Imported`] records. Never: clocks, stores, more memory than a block.
//!
//! ```text
//! file --[NfdumpFile]--> header, blocks --[lzo | LZ4 | bz2 | zstd]--> octets
//!      --[blocks: records by type]--> layout 1: extension maps, common records [v1]
//!                                     layout 2: records with an element table  [v3]
//!                                     exporters, by their number in the file   [exporters]
//!      --> FlowRecord + Origin, and by name what a record has no place for
//! ```
//!
//! Layout 1 is nfdump 1.6's, layout 2 nfdump 1.7's. Numbers lie in the byte order of the machine
//! that wrote the file; those of little-endian machines are read. A damaged file gives what stands
//! before the damage, then an [`ImportError`] that names the place.
//!
//! What nfdump keeps as zero where an exporter sent nothing cannot be told from a zero that was
//! sent. Such a field is absent here if it is zero: masks, direction, forwarding status, VLANs, MACs.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod builder;
mod error;
mod exporters;
mod file;
mod lzo;
mod reader;
mod v1;
mod v3;

pub use error::ImportError;
pub use file::{Imported, NfdumpFile, NotImported};

#[cfg(test)]
mod tests;
