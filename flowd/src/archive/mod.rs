//! archive: sealed ring blocks into Parquet segments, named by the manifest; and ring and
//! archive together as one store to read.
//!
//! In: [`SealedBlock`](crate::ring::SealedBlock)s. Out: [`RecordBatch`](arrow_array::RecordBatch)es
//! whose columns are Information Elements. Never: a record twice or not at all, whatever is
//! killed when; a lock that readers take.
//!
//! ```text
//! ring --[sealed blocks]--> Archiver --[SegmentWriter]--> date=../hour=../00000007.parquet
//!                              |--[Manifest]--> manifest.jsonl, then blocks are unlinked
//! StoreSnapshot: blocks of the ring, then the manifest --[block_batch, SegmentReader]--> query
//! ```
//! With `query` the only module that knows Arrow, and alone in knowing Parquet.
//!
//! # Example
//! ```
//! use flowd::archive::{ArchiveConfig, OpenStore, StoreSnapshot, open_store};
//! use flowd::model::time::UnixMillis;
//! use flowd::ring::RingConfig;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//! let ring = RingConfig::default();
//! let store: OpenStore = open_store(path, ring, ArchiveConfig::for_ring(&ring))?;
//! let mut archiver = store.archiver;
//! // A collector runs the archiver on a thread; here it has nothing to do.
//! assert_eq!(archiver.archive_due(UnixMillis(1_720_000_000_000))?, 0);
//! assert_eq!(StoreSnapshot::open(path)?.flow_records(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archiver;
mod buffers;
mod checks;
mod clearance;
mod cluster;
mod columns;
mod compact;
mod config;
mod day_files;
mod elements;
mod encodings;
mod error;
mod files;
mod free_space;
pub mod index;
mod manifest;
mod objects;
mod reindex;
mod retention;
pub mod schema;
mod segment;
mod snapshot;
mod times;
mod verify;
mod writer;

#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verify_tests;

pub use archiver::{Archiver, OpenStore, open_store};
pub use checks::TailEntry;
pub use clearance::Clearance;
pub use columns::{block_batch, block_rows};
pub use compact::Merged;
pub use config::{ArchiveConfig, ArchiveCounters};
pub use error::ArchiveError;
pub use manifest::{
    Covered, Entry, Expired, Held, LossEntry, Manifest, RowGroupEntry, SegmentEntry,
    WithdrawReason, WithdrawnEntry,
};
pub use objects::{ObjectFault, Objects, UploadCounters, Uploader};
pub use reindex::{Reindexed, reindex};
pub use retention::{Expiry, Retention};
pub use segment::SegmentReader;
pub use snapshot::{BlockGap, StoreSnapshot, was_expired};
pub use times::{FlowSpan, block_time_range};
pub use verify::{Finding, Verification, verify};
pub use writer::SegmentConfig;
