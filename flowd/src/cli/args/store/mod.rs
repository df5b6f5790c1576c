//! `flowd store`.

pub(in crate::cli) mod compact;
pub(in crate::cli) mod info;
pub(in crate::cli) mod verify;

use clap::Subcommand;

/// Look after a store.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Store {
    /// Say what a store holds, what was dropped, and who sent it.
    Info(info::Info),
    /// Read all of a store, and name what is damaged or missing.
    Verify(verify::Verify),
    /// Make anew what is missing or damaged of the index.
    Compact(compact::Compact),
}
