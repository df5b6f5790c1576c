//! flowd: flow exporter, collector and flow search in one binary.
//!
//! The way of the data; modules are declared in its order:
//!
//! ```text
//! packet     --[probe, flow]-->   FlowRecord  --[export, wire]-->   datagram
//! datagram   --[wire, collect]--> FlowBatch   --[ring]-->           blocks
//! blocks     --[archive]-->       Parquet segments, named by the manifest
//! blocks + segments --[query]-->  rows        --[cli]-->            table | JSON | CSV
//! ```
//!
//! At every arrow what is dropped is counted by reason, so that at each stage
//! `received = passed on + dropped`.

#![deny(unsafe_code)]

pub mod model;
pub mod wire;
pub mod probe;
pub mod flow;
pub mod export;
pub mod collect;
#[cfg(feature = "archive")]
pub mod import;
pub mod ring;
#[cfg(feature = "archive")]
pub mod archive;
pub mod query;
#[cfg(feature = "http")]
pub mod http;
pub mod telemetry;
#[cfg(feature = "archive")]
pub mod app;
#[cfg(feature = "archive")]
pub mod cli;
