//! `flowd store verify` and `flowd store compact --reindex`.

use crate::archive::{self, Reindexed, Verification};
use anyhow::Result;
use serde::Serialize;
use std::path::Path;

/// A file that is not what was written.
#[derive(Debug, Serialize)]
pub struct Damage {
    /// The file, relative to the store.
    pub file: String,
    /// What does not hold.
    pub finding: String,
}

/// What a reading of all of a store found.
#[derive(Debug)]
pub struct Verified {
    /// Damaged and missing files.
    pub damage: Vec<Damage>,
    /// What was looked at.
    pub words: String,
}

/// Reads all of a store.
///
/// # Errors
/// If there is no store, or it cannot be listed.
pub fn verify(store: &Path) -> Result<Verified> {
    let Verification { findings, segments, bytes, sidecars, unindexed, blocks, remote } =
        archive::verify(store)?;
    let damage = findings
        .into_iter()
        .map(|finding| Damage { file: finding.file.display().to_string(), finding: finding.what });
    let mut words = format!(
        "whole are {segments} segments of {bytes} octets, {sidecars} of their indexes, \
         {blocks} blocks of the ring"
    );
    if remote > 0 {
        words += &format!("; {remote} of the segments were read from the object store");
    }
    if unindexed > 0 {
        words +=
            &format!("; {unindexed} segments have no index: run `flowd store compact --reindex`");
    }
    Ok(Verified { damage: damage.collect(), words })
}

/// What was made of an index.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub words: String,
    /// Why segments have no index still.
    pub failed: Vec<String>,
}

/// Makes anew what is missing or damaged of a store's index.
///
/// # Errors
/// If there is no store, a collector runs on it, or it cannot be written to.
pub fn reindex(store: &Path) -> Result<Outcome> {
    let Reindexed { whole, made, removed, failed } = archive::reindex(store)?;
    let words = format!(
        "indexes: {made} made, {whole} were whole, {removed} that belonged to nothing removed"
    );
    Ok(Outcome { words, failed: failed.iter().map(ToString::to_string).collect() })
}
