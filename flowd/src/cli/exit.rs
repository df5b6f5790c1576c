//! How a run ends: 0 done or rows found, 1 no rows, 2 error.

use crate::query::QueryError;
use crate::query::filter::FilterError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// A run that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Done, or rows were found.
    Done,
    /// No row matched.
    NoRows,
}

impl Outcome {
    /// Done if there were rows.
    pub(super) const fn of_rows(rows: u64) -> Self {
        if rows == 0 { Self::NoRows } else { Self::Done }
    }
}

/// The process's exit code; an error is told in one line on stderr.
pub(super) fn code(result: &anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::NoRows) => ExitCode::from(1),
        Err(error) if is_broken_pipe(error) => ExitCode::SUCCESS,
        Err(error) => {
            let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
            say(format_args!("{}", text_of(error, is_terminal)));
            ExitCode::from(2)
        }
    }
}

/// An error with its causes, each once: many an error's own text has its cause in it already.
/// What stands below the first line (the place in a filter) is for a terminal; elsewhere an
/// error is one line, and the place is told in words.
fn text_of(error: &anyhow::Error, is_terminal: bool) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = match filter_error(cause) {
            Some(filter) if !is_terminal => filter.in_one_line(),
            _ => cause.to_string(),
        };
        let cause = if is_terminal { &cause } else { cause.lines().next().unwrap_or_default() };
        if !text.contains(cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{cause}");
        }
    }
    text
}

fn filter_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a FilterError> {
    let of_query = match cause.downcast_ref() {
        Some(QueryError::Filter(filter)) => Some(filter),
        _ => None,
    };
    of_query.or_else(|| cause.downcast_ref())
}

/// Says a line on stderr.
pub(super) fn say(words: fmt::Arguments<'_>) {
    // Nobody is left to tell if stderr is gone.
    drop(writeln!(io::stderr().lock(), "flowd: {words}"));
}

/// A reader that has seen enough (`| head`) is no error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// A mistake on the command line as one line: what was wrong, what was meant, where to look.
pub(super) fn usage_line(error: &clap::Error) -> String {
    use clap::error::ContextKind;
    let text = error.to_string();
    let what = text.lines().next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(what).trim_end_matches(':');
    let mut line = what.to_owned();
    if let Some(missing) = error.get(ContextKind::InvalidArg)
        && what.ends_with("not provided")
    {
        line = format!("{what}: {missing}");
    }
    let suggestion =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
            .into_iter()
            .find_map(|kind| error.get(kind));
    if let Some(suggestion) = suggestion {
        line = format!("{line}; did you mean {suggestion}?");
    } else if let Some(values) = error.get(ContextKind::ValidValue)
        && what.starts_with("invalid value")
    {
        line = format!("{line}; write {values}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_once_and_in_one_line() {
        let cause = io::Error::other("no such thing");
        let error = anyhow::Error::new(cause).context("cannot read x: no such thing");
        assert_eq!(text_of(&error, false), "cannot read x: no such thing");
        let error = anyhow::anyhow!("unknown word\n  prot tcp\n  ^^^^").context("filter");
        assert_eq!(text_of(&error, false), "filter: unknown word");
        assert!(text_of(&error, true).ends_with("^^^^"));
    }

    #[test]
    fn a_broken_pipe_is_success() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        let error = anyhow::Error::new(pipe).context("print rows");
        assert_eq!(format!("{:?}", code(&Err(error))), format!("{:?}", ExitCode::SUCCESS));
    }
}
