//! export: the Exporting Process. In: [`FlowRecord`](crate::model::FlowRecord)s. Out: NetFlow v9
//! over UDP, to several collectors. Never: a clock of its own.
//!
//! ```text
//! FlowRecord --[layout]--> Template + octets --[send]--> datagram --> collector
//!                                                '--> one sequence, template clock and
//!                                                     pace for each collector
//! ```
//!
//! - [`Exporter::export`] takes records and the time, [`Exporter::flush`] sends what is begun.
//! - What a record carries is exactly what is sent: its template is made from its columns.
//! - [`Exporter::statistics`]: for each collector, records given = exported + not sent by reason.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod books;
mod layout;
mod pace;
mod send;
#[cfg(test)]
mod tests;

pub use books::{CollectorStatistics, NotSent, Totals};
pub use pace::Pace;
pub use send::{ExportError, Exporter, ExporterConfig, Sampling};
