//! archive: sealed ring blocks -> Parquet segments, named by the manifest.

pub mod schema;
