//! `flowd store`.

pub(in crate::cli) mod compact;
pub(in crate::cli) mod expire;
pub(in crate::cli) mod info;

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
}
