//! cli: what was typed -> a plan -> the work of `app` -> text on stdout, words on stderr, an exit
//! code. The only module that reads arguments.

#![expect(clippy::print_stdout, reason = "results go to stdout")]

mod args;
mod exit;
mod info;
pub mod output;
mod resolve;
mod run;
mod status;

use args::store::Store;
use args::{Arguments, Command};
use clap::{CommandFactory, Parser};
use exit::Outcome;
use std::ffi::OsString;
use std::process::ExitCode;
use tracing::Level;

/// Runs the program with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let arguments = match Arguments::try_parse_from(&typed) {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error)
            if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            exit::say(format_args!("no subcommand; see 'flowd --help'"));
            return ExitCode::from(2);
        }
        Err(error) => {
            let help = subcommand_path(&typed);
            let line = exit::usage_line(&error);
            let takes_filter =
                matches!(help.as_str(), "flowd query" | "flowd top" | "flowd store send");
            let is_word = line.contains("argument '") && !line.contains("argument '-");
            let quotes = if takes_filter && is_word {
                "; put quotes around a filter of several words"
            } else {
                ""
            };
            exit::say(format_args!("{line}{quotes}; see '{help} --help'"));
            return ExitCode::from(2);
        }
    };
    crate::telemetry::init(match arguments.verbose {
        0 => Level::WARN,
        1 => Level::INFO,
        _ => Level::TRACE,
    });
    exit::code(&dispatch(arguments.command))
}

fn dispatch(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Export(export) => run::export(&export),
        Command::Replay(replay) => run::replay(&replay),
        Command::Collect(collect) => run::collect(&collect),
        Command::Decode(decode) => run::decode(&decode),
        Command::Resend(resend) => run::resend(&resend),
        Command::Query(query) => run::query(&query),
        Command::Top(top) => run::top(&top),
        Command::Store(Store::Info(info)) => run::info(&info),
        Command::Store(Store::Compact(compact)) => run::compact(&compact),
        Command::Store(Store::Expire(expire)) => run::expire(&expire),
        Command::Store(Store::Import(import)) => run::import(&import),
        Command::Store(Store::Send(send)) => run::send(&send),
        Command::Store(Store::Verify(verify)) => run::verify(&verify),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "flowd",
                &mut std::io::stdout(),
            );
            Ok(Outcome::Done)
        }
    }
}

/// The subcommand whose help explains what was mistyped: `flowd store info`.
fn subcommand_path(typed: &[OsString]) -> String {
    let mut command = Arguments::command();
    let mut path = "flowd".to_owned();
    for word in typed.iter().skip(1).filter_map(|word| word.to_str()) {
        let Some(next) = command.find_subcommand(word).cloned() else { break };
        path = format!("{path} {word}");
        command = next;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_all_flags_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_is_named_for_the_deepest_subcommand() {
        let path = |words: &[&str]| {
            let typed: Vec<OsString> = words.iter().map(Into::into).collect();
            subcommand_path(&typed)
        };
        assert_eq!(path(&["flowd", "store", "info", "--stor"]), "flowd store info");
        assert_eq!(path(&["flowd", "qery"]), "flowd");
    }
}
