//! ring: the newest records, where any number of readers see them as they come.
//!
//! In: [`FlowBatch`](crate::model::FlowBatch). Out: [`Block`], by column, while it grows and
//! after; sealed blocks to the archive. Never: a writer that waits for a reader, a reader that
//! sees half a row, a record that is gone without being counted.
//!
//! ```text
//! collector worker --[ShardWriter]--> lane ipv4     --> 0-ipv4-17.block   (open: grows)
//!  (one a shard)                      lane ipv6     --> 0-ipv6-4.block
//!                                     lane options  --> ..
//! Ring: which blocks there are    <-- sealed blocks --> archive, then unlinked
//! reader (any process) --[Block::open]--> the rows that were there at that moment
//! ```
//!
//! # One file a block
//! A block is a file that one writer maps, fills from the first row to the last, seals, and
//! never writes again as this block. It is freed by taking away its name, so that a reader keeps
//! what it has mapped for as long as it likes. There is nothing to be overtaken: a reader that
//! comes too late finds no file, and the manifest says where the rows went. A file that no
//! reader has is used again for another block (`prepare.rs` says how that is known), which
//! spares the kernel most of its work; words and checksums begin with the block's identity, so
//! that after a power cut nothing of the one passes for the other.
//!
//! # Memory order
//! All sharing goes through words at the start of a block, each written by the writer alone:
//!
//! | word | says | stored |
//! |---|---|---|
//! | extras | octets of the extras heap that are there | before the rows that use them |
//! | dictionary | octets of shapes and origins that are there | before the rows that use them |
//! | rows | rows that are there: this commits them | after everything in them |
//! | state | open or sealed | after the last row |
//!
//! The writer stores them `Release`; readers load them `Acquire`. A reader loads `state`, then
//! `rows`, then the other two. Whatever value of `rows` it gets, the stores of `extras` and
//! `dictionary` that came before that value happened before its loads of them, so it finds at
//! least what the rows need; and every octet below a frontier it loaded was written before
//! that frontier was stored. Octets below a frontier are never written again, and readers
//! never look beyond one, so no octet is read and written at once. `loom_tests.rs` holds the
//! code to this, down to the octet.
//!
//! # After a kill, after a power cut
//! The file's pages belong to the kernel: a killed writer has lost nothing that it committed,
//! and [`Ring::open`] seals what it left at its committed rows. Power takes pages that were not
//! yet written, each for itself. A block of another boot is therefore trusted only by stripes,
//! whose checksums cover their rows in all columns; what does not hold is counted as lost.
//!
//! # Running out of room
//! Areas of a block are reserved before they are written, so that a full disk is an error and
//! not a signal. Blocks together take at most [`RingConfig::size_max`], and beyond it by no more
//! than what the blocks then open grow, what is prepared for those that follow them, at most
//! one file a lane of a shard, and an eighth of the ring in files to be used again; what happens then is [`WhenFull`]. Every record that was
//! received is appended or counted under a [`RingDrop`], and every record that was appended and
//! lost is a [`LostRows`], with the time it leaves a gap in.
//!
//! # Example
//! ```
//! use flowd::model::time::UnixMillis;
//! use flowd::model::{FlowBatch, FlowRecord, ObservationDomainId, Origin, Protocol};
//! use flowd::ring::{Block, NumberFloors, Ring, RingConfig, StoreLock};
//! use std::sync::Arc;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//! let mut record = FlowRecord::default();
//! record.set_source_address("192.0.2.1".parse()?);
//! let shape = Arc::new(FlowBatch::shape_of(&record));
//! let origin = Arc::new(Origin {
//!     address: "198.51.100.1".parse()?,
//!     domain: ObservationDomainId(0),
//!     protocol: Protocol::NetflowV9,
//! });
//! let mut batch = FlowBatch::new();
//! batch.push(&record, &shape, &origin);
//!
//! let lock = StoreLock::acquire(path)?;
//! let (ring, _) = Ring::open(lock, RingConfig::default(), NumberFloors::default())?;
//! let mut writer = ring.writer(0, UnixMillis(1_720_000_000_000))?;
//! assert_eq!(writer.append(&batch).rows, 1);
//!
//! // From here on any process can see it.
//! let (_, file) = ring.store().block_files()?.remove(0);
//! assert_eq!(Block::open(&file)?.rows(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod block;
mod blocks;
mod config;
mod dictionary;
mod drops;
mod error;
mod lane;
mod layout;
mod map;
mod place;
mod prepare;
mod recover;
mod reserved;
mod shard;
mod storage;
mod store;
mod stripe;
mod sync;
mod writer;

#[cfg(test)]
#[cfg(not(flowd_loom))]
mod kill_tests;
#[cfg(test)]
#[cfg(flowd_loom)]
mod loom_tests;
#[cfg(test)]
#[cfg(not(flowd_loom))]
mod recover_tests;
#[cfg(test)]
#[cfg_attr(flowd_loom, expect(dead_code, reason = "the models use a part of it"))]
pub(crate) mod sample;
#[cfg(test)]
#[cfg(not(flowd_loom))]
mod stress_tests;
#[cfg(test)]
#[cfg(not(flowd_loom))]
mod tests;
#[cfg(test)]
#[cfg(not(flowd_loom))]
mod writer_tests;

pub use block::{Block, BlockRun};
pub use blocks::{Ring, SealedBlock};
pub use config::{RingConfig, WhenFull};
pub use drops::{LostRows, RingDrop};
pub use error::RingError;
pub use lane::{BlockId, Lane, NumberFloors};
pub use recover::Recovery;
pub use shard::{Appended, ShardWriter};
pub use store::{Store, StoreLock};
