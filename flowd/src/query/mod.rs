//! query: filter -> plan -> pruned sources -> bits a row -> rows, groups or one sum.
//!
//! ```text
//! QueryRequest --[plan]--> Plan
//! Source's parts, newest first --[run: filter::Predicate]--> the rows that match
//!     --[rows]--> records | --[top]--> sorted records | --[aggregate, top]--> groups
//!     --> (name, Value) pairs for a sink
//! ```
//!
//! One engine for the command line, alerts and the page. It reads no clock and prints nothing.
//! The language and the plan need no arrow; the engine does.

pub mod field;
pub mod filter;
pub mod protocol;
pub mod quantity;
pub mod time_range;
