//! QueryError: why a query gave no answer.

use super::filter::FilterError;
use super::time_range::TimeError;
use std::io;

/// Why a query gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The filter is not understood: the message shows the place.
    #[error("{0}")]
    Filter(#[from] FilterError),
    /// A time or range is not understood.
    #[error("{0}")]
    Time(#[from] TimeError),
    /// The request asks for what there is not, or for things that do not go together.
    #[error("{0}")]
    Usage(String),
    /// The answer has too many groups.
    #[error(
        "more than {0} groups: narrow the filter or the time range, group by fewer keys, or by a prefix such as srcip/24"
    )]
    TooManyGroups(usize),
    /// Too many records to sort.
    #[error(
        "more than {0} records to sort: ask for the first ones with -n, narrow the filter or the time range, or leave out -s"
    )]
    TooManyRecords(usize),
    /// The store cannot be read.
    #[error("the store cannot be read: {0}")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The sink refused a row.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    /// The caller raised the flag.
    #[error("the query was cancelled")]
    Cancelled,
}

impl QueryError {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    pub(super) fn source(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Source(error.into())
    }

    /// Did the reader of the answer go away? For a command line that is no failure.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
