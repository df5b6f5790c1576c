//! query: filter -> plan -> pruned sources -> bits a row -> rows, groups or one sum.
//!
//! ```text
//! QueryRequest --[plan]--> Plan
//! Source's parts, newest first --[run: filter, columns]--> the rows that match
//!     --[rows]--> records | --[top, rows]--> sorted records
//!     --[key_column, group_key, totals, groups, aggregate, top]--> groups | --[aggregate]--> one sum
//!     --> (name, Value) pairs for a Sink
//! ```
//!
//! One engine for the command line, alerts and the page. It reads no clock and prints nothing.
//! The language and the form of rows need no arrow; plan and engine do.

#[cfg(feature = "archive")]
mod aggregate;
#[cfg(feature = "archive")]
mod columns;
mod coverage;
#[cfg(feature = "archive")]
mod error;
pub mod field;
pub mod filter;
#[cfg(feature = "archive")]
mod group_key;
#[cfg(feature = "archive")]
mod groups;
#[cfg(feature = "archive")]
mod key_column;
#[cfg(feature = "archive")]
mod plan;
pub mod protocol;
#[cfg(feature = "archive")]
mod prune;
pub mod quantity;
mod row;
#[cfg(feature = "archive")]
mod rows;
#[cfg(feature = "archive")]
mod run;
#[cfg(feature = "archive")]
mod source;
pub mod time_range;
#[cfg(feature = "archive")]
mod top;
#[cfg(feature = "archive")]
mod totals;

pub use coverage::{Coverage, ExporterLoss, Gap, SampledExporter};
#[cfg(feature = "archive")]
pub use error::QueryError;
#[cfg(feature = "archive")]
pub use plan::{
    GROUPS_MAX, KEYS_MAX, Keys, Limits, Plan, QueryRequest, SORTED_RECORDS_MAX, Sort, TOP_LIMIT,
    Top,
};
#[cfg(feature = "archive")]
pub use prune::Probes;
pub use row::{Heading, Sink, tell_twins_apart};
#[cfg(feature = "archive")]
pub use run::{Outcome, run, run_records};
#[cfg(feature = "archive")]
pub use source::{BooleanBuffer, RecordBatch, Source, SourceError};

#[cfg(test)]
#[cfg(feature = "archive")]
pub(crate) mod memory;
#[cfg(test)]
#[cfg(feature = "archive")]
mod naive;
#[cfg(test)]
#[cfg(feature = "archive")]
mod tests;
