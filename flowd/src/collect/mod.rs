//! collect: the Collecting Process. In: datagrams and streams. Out:
//! [`FlowBatch`](crate::model::FlowBatch)es. Never: storage, or a clock of its own.
//!
//! ```text
//! TCP --[TcpWorker: Stream]--> message -+
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
//! - [`listen()`], [`listen_tcp()`]: sockets and the loop that a worker runs; [`Access`] says who
//!   is heard.
//!
//! Two laws hold, and the tests hold them: datagrams received = decoded + dropped by reason, and
//! data sets received = decoded + held + dropped by reason. The second one holds over restarts too,
//! in the sum of all runs.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod access;
mod address;
mod arena;
mod assign;
mod books;
mod budget;
mod complaints;
mod connections;
mod copy;
mod core;
#[cfg(test)]
mod corpus_tests;
mod decode;
mod exporters;
mod facts;
mod fixed;
mod forward;
mod icmp_port;
mod learn;
#[cfg(test)]
mod limit_tests;
mod listen;
mod listen_tcp;
mod lists;
mod message;
mod peer;
mod pending;
mod plan;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod restart_tests;
mod rounds;
mod rows;
mod saved;
mod sequence;
mod session;
mod sflow;
mod socket;
mod standing;
mod stream;
mod sum;
#[cfg(test)]
mod tcp_tests;
mod template_cache;
#[cfg(test)]
mod tests;
mod unsaved;

pub use access::{Access, Prefix, PrefixError};
pub use address::{ListenAddress, ListenError};
pub use books::{
    Books, CollectDrop, ConnectionEnd, ExporterStatistics, SamplingStatistics, Statistics,
};
pub use connections::ConnectionLimits;
pub use decode::{Decoder, DecoderConfig};
pub use forward::{ForwardDrop, ForwardStatistics, ForwardTargets};
pub use listen::{ListenConfig, Worker, listen};
pub use listen_tcp::{TcpWorker, listen_tcp};
pub use peer::{Peer, Transport};
pub use pending::{PendingLimits, PendingStore};
pub use saved::replace_file;
pub use sflow::SampleStatistics;
pub use standing::Sequences;
pub use template_cache::{TemplateLimits, TemplateStore};
pub use unsaved::{TakenUp, Unsaved};
