//! export: the Exporting Process. In: [`FlowRecord`](crate::model::FlowRecord)s. Out: NetFlow v9
//! over UDP, to several collectors. Never: a clock of its own.
//!
//! ```text
//! FlowRecord --[layout]--> Template + octets --[send]--> datagram --> collector
//! InterfaceOptions --[options]--> options data ---^  '--> one sequence, template clock and
//!                                                         pace for each collector
//! ```
//!
//! - [`Exporter::export`] takes records and the time, [`Exporter::flush`] sends what is begun.
//! - [`Exporter::describe`] takes what is told of the interfaces; it goes out with the templates.
//! - What a record carries is exactly what is sent: its template is made from its columns.
//! - [`Pacer`]: as fast as a collector takes datagrams, for whoever sends them.
//! - [`Exporter::statistics`]: for each collector, records given = exported + not sent by reason.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod books;
mod exporter;
mod layout;
mod options;
#[cfg(test)]
mod options_tests;
mod pace;
mod send;
#[cfg(test)]
mod tests;

pub use crate::model::Totals;
pub use books::{CollectorStatistics, NotSent, NotSentAt};
pub use exporter::{ExportError, Exporter, ExporterConfig};
pub use options::{InterfaceOptions, PointLedger, Sampling};
pub use pace::{Pace, Pacer};
