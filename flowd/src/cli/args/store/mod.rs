//! `flowd store`.

pub(in crate::cli) mod compact;
pub(in crate::cli) mod expire;
pub(in crate::cli) mod import;
pub(in crate::cli) mod info;
pub(in crate::cli) mod send;
pub(in crate::cli) mod verify;

use clap::Subcommand;

/// Look after a store.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Store {
    /// Say what a store holds, what was dropped, and who sent it.
    Info(info::Info),
    /// Merge the archive's small segments.
    Compact(compact::Compact),
    /// Let go the oldest hours of the archive.
    Expire(expire::Expire),
    /// Bring along what nfdump kept: put records of its files into a store.
    Import(import::Import),
    /// Send stored records on, as NetFlow v9.
    Send(send::Send),
    /// Read all of a store, and name what is damaged or missing.
    Verify(verify::Verify),
}
