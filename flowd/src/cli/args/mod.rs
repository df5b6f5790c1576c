//! What was typed, a file a subcommand. [`resolve`](super::resolve) makes plans of it.

pub(super) mod collect;
pub(super) mod decode;
pub(super) mod export;
pub(super) mod query;
pub(super) mod replay;
pub(super) mod resend;
pub(super) mod store;

use clap::{Parser, Subcommand, ValueEnum};

/// Flow exporter, collector and flow search.
#[derive(Debug, Parser)]
#[command(
    name = "flowd",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit status: 0 done or rows found, 1 no rows, 2 error. Data goes to stdout, words to stderr."
)]
pub(super) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
    /// Say more on stderr (twice: everything).
    #[arg(short, long, global = true, display_order = 100, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

/// The subcommands, in the order that data flows.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Meter live interfaces and export their flow records.
    Export(export::Export),
    /// Make flow records of a capture and export, store or print them.
    Replay(replay::Replay),
    /// Receive flow records and store them.
    Collect(collect::Collect),
    /// Print every record in the export datagrams of a capture.
    Decode(decode::Decode),
    /// Send the export datagrams of a capture again, as they are and in their time.
    Resend(resend::Resend),
    /// Find records in a store.
    Query(query::Query),
    /// Show who leads: group by keys, order by a counter.
    Top(query::Top),
    /// Look after a store.
    #[command(subcommand)]
    Store(store::Store),
    /// Print completions for a shell.
    #[command(after_help = "Examples:\n  flowd completions bash > /etc/bash_completion.d/flowd")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How records are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Aligned columns for people.
    #[default]
    Table,
    /// One object a line; keys are Information Element names.
    Json,
    /// A header and one line a record (RFC 4180).
    Csv,
}
