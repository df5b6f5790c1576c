//! filter: the language of nfdump and tcpdump over flow records.
//!
//! ```text
//! text --[lexer]--> tokens --[parser, term, flags, value]--> Expr --[eval]--> a bit a row
//! ```
//!
//! Text comes from anyone: its length, depth and number of terms are bounded, and no text
//! panics. Only `eval` knows arrow.

mod ast;
mod error;
#[cfg(feature = "archive")]
mod eval;
mod flags;
mod lexer;
mod parser;
#[cfg(feature = "archive")]
mod ranges;
mod term;
#[cfg(test)]
mod tests;
mod value;

pub use ast::{Comparison, Expr, Family, NumberRange, Prefix, Subject, Term, Test};
pub use error::FilterError;
#[cfg(feature = "archive")]
pub(super) use eval::Predicate;

#[cfg(test)]
#[cfg(feature = "archive")]
pub(crate) use tests::{addresses, exprs};

use crate::model::time::UnixMillis;

/// Octets of a filter's text.
pub const FILTER_SIZE_MAX: usize = 1 << 20;
/// Parentheses within parentheses.
pub const FILTER_DEPTH_MAX: usize = 128;
/// Conditions in a filter.
pub const FILTER_TERMS_MAX: usize = 4_096;
/// Entries of one `[..]`.
pub const FILTER_SET_MAX: usize = 65_536;

/// A filter that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What it asks for.
    pub expr: Expr,
    /// What its author should know of how it was read: for stderr.
    pub notes: Vec<String>,
}

/// Reads a filter. Times such as `-1h` count from `now`.
///
/// ```
/// use flowd::model::time::UnixMillis;
/// let filter = flowd::query::filter::parse("dst port 53 and not proto tcp", UnixMillis(0))?;
/// assert_eq!(filter.expr.to_string(), "dst port = 53 and not proto = 6");
/// # Ok::<(), flowd::query::filter::FilterError>(())
/// ```
pub fn parse(text: &str, now: UnixMillis) -> Result<Filter, FilterError> {
    parser::parse(text, now)
}
