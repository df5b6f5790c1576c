//! http: what a running collector answers over HTTP. In: requests, [`Figures`]. Out: pages.
//! Never: the counting itself, files, or another protocol. The only module that knows HTTP.
//!
//! ```text
//! Books, Ring, Archiver --[app: Source]--> Figures --[metrics]--> text --[Server]--> GET /metrics
//! ```
//!
//! - [`Server::bind`] takes an address, [`Server::start`] answers there on a thread of its own
//!   until it is dropped.
//! - `/metrics`: all counters in the Prometheus text format 0.0.4; `/healthz`: 200 while the
//!   collector is well, 503 while it ends.
//!
//! Whoever may reach the address may ask: there is nothing to change by asking. Connections are
//! limited in number, and none is waited for longer than half a minute.

mod connection;
mod exposition;
mod metrics;
mod server;

pub use metrics::{ArchiveFigures, Figures, RingFigures, UploadFigures};
pub use server::{HttpError, Server, Source};
