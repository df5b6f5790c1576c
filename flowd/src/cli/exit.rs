//! How a run ends: 0 done or rows found, 1 no rows, 2 error.

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
            say(format_args!("{error:#}"));
            ExitCode::from(2)
        }
    }
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
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_pipe_is_success() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        let error = anyhow::Error::new(pipe).context("print rows");
        assert_eq!(format!("{:?}", code(&Err(error))), format!("{:?}", ExitCode::SUCCESS));
    }
}
