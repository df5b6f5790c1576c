//! index: which row groups may hold an address, known without reading them.
//!
//! In: the rows of each row group, as they are written. Out: for a question of
//! [`IndexKey`]s, "no" or "maybe". Never: "no" for a row group that has such a record, whatever
//! is damaged or missing: what cannot be read denies nothing.
//!
//! ```text
//! RecordBatch --[IndexBuilder: keys]--> Filter a row group --> STORE/index/../00000007.parquet.idx
//!                                        Filter a segment --> STORE/index/../day.idx
//! question --[query::prune]--> IndexKeys --[Ledger]--> days
//!                                        --[Day]--> segments --[Sidecar]--> row groups to read
//! ```
//! Both are written before the manifest lists the segment. Each says of which segment it speaks
//! and how to know that it is whole. The ledger of all addresses follows behind, and says which
//! segments went into it.

mod builder;
mod bytes;
mod day;
mod filter;
mod key;
mod ledger;
mod radix;
mod sidecar;

pub use builder::IndexBuilder;
pub use day::{DAY_SIZE_MAX, Day, DayFilter, date_of, day_path};
pub use filter::{FILTER_SIZE_MAX, Filter, Fuse, LISTED_MAX};
pub use key::{INDEXED_PORTS_END, IndexKey, NetworkSize, Transport};
pub use ledger::{Answer, Host, Ledger, Sums};
pub(super) use ledger::{
    LedgerKeeper, LedgerRuns, SegmentTally, size as ledger_size, verify as verify_ledger,
};
pub use sidecar::{IndexEntry, SIDECAR_SIZE_MAX, Sidecar};

use std::path::{Path, PathBuf};

/// What a sidecar's name ends in.
const EXTENSION: &str = "idx";

/// The directory of an archive's index: beside the archive.
#[must_use]
pub fn index_dir(archive_dir: &Path) -> PathBuf {
    archive_dir.with_file_name("index")
}

/// The sidecar of a segment, whose path is relative to the archive's directory.
#[must_use]
pub fn sidecar_path(archive_dir: &Path, segment: &str) -> PathBuf {
    index_dir(archive_dir).join(format!("{segment}.{EXTENSION}"))
}
