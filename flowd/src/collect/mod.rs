//! collect: the Collecting Process. In: datagrams. Out: [`FlowBatch`](crate::model::FlowBatch)es.
//! Never: storage, or a clock of its own.
//!
//! ```text
//! UDP --[Worker: recvmmsg]--> datagram --[Decoder]--> FlowBatch --> sink
//!                                           |  ^
//!                     templates, any worker's  |  data whose template came late
//!                                           v  |
//!                              TemplateStore, PendingStore --> files of the store
//! ```
//!
//! - [`Decoder`]: one a worker. `decode(datagram, peer, received, batch, full)` appends the
//!   datagram's records to `batch`, handing it to `full` whenever it has no room left.
//! - [`TemplateStore`]: shared by all workers, read without a lock; saved and restored.
//! - [`PendingStore`]: data that waits for its template, of all workers, kept on disk.
//! - [`Books`]: what was received, decoded and dropped, and by whom it was sent;
//!   [`Books::statistics`] at any time from any thread.
//! - [`listen()`]: sockets and the loop that a worker runs.
//!
//! Two laws hold, and the tests hold them: datagrams received = decoded + dropped by reason, and
//! data sets received = decoded + held + dropped by reason. The second one holds over restarts too,
//! in the sum of all runs.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod arena;
mod assign;
mod books;
mod copy;
mod core;
#[cfg(test)]
mod corpus_tests;
mod decode;
mod exporters;
mod fixed;
mod listen;
mod message;
mod peer;
mod pending;
mod plan;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod restart_tests;
mod rows;
mod saved;
mod sequence;
mod session;
mod socket;
mod standing;
mod sum;
mod template_cache;
#[cfg(test)]
mod tests;

pub use books::{Books, CollectDrop, ExporterStatistics, Statistics};
pub use decode::{Decoder, DecoderConfig};
pub use listen::{ListenConfig, ListenError, Worker, listen};
pub use peer::{Peer, Transport};
pub use pending::{PendingLimits, PendingStore};
pub use template_cache::{TemplateLimits, TemplateStore};
