//! `flowd store expire` and `flowd store compact`: what a collector does beside its work, done on a
//! store that has none.

use super::clock;
use crate::archive::{ArchiveConfig, Archiver, Manifest, OpenStore, SegmentEntry, open_store};
use crate::ring::{RingConfig, Store};
use anyhow::{Context, Result};
use std::path::Path;

pub use crate::archive::{Expiry, Merged, Retention};

/// Lets go what is due, or only says what that is. The clock of this machine tells ages.
///
/// # Errors
/// If there is no store, or it is in use, or cannot be written to.
pub fn expire(store: &Path, retention: Retention, dry_run: bool) -> Result<Expiry> {
    let archive_dir = Store::find(store)?.archive_dir();
    let now = clock::now();
    if dry_run {
        let manifest = Manifest::load(&archive_dir)?;
        let wanted = retention.wanted(&archive_dir)?;
        let is_here = |segment: &SegmentEntry| archive_dir.join(&segment.path).exists();
        return Ok(retention.due(&archive_dir, &manifest, Some(now), wanted, &is_here));
    }
    // The files go at once: who runs this wants the room.
    let mut archiver = open(store, ArchiveConfig { unlink_grace_millis: 0, ..config(retention) })?;
    let expiry = archiver.due(now)?;
    if retention.keep_ledger_millis.is_some() {
        // What goes now is to stay there.
        while archiver.advance_ledger(Some(now), &|| true)? {}
    }
    archiver.expire(&expiry, now)?;
    archiver.remove_withdrawn(now)?;
    while archiver.advance_ledger(Some(now), &|| true)? {}
    remove_objects(&archiver)?;
    Ok(expiry)
}

/// Merges small segments of an hour. Their files stay for a quarter of an hour, for those who read
/// them, and are removed by whatever writes to the store after that.
///
/// # Errors
/// If there is no store, or it is in use, or cannot be written to.
pub fn compact(store: &Path) -> Result<Merged> {
    Store::find(store)?;
    // What is kept of addresses beyond their records is for those to let go who keep it.
    let retention = Retention { keep_ledger_millis: Some(i64::MAX), ..Retention::default() };
    let mut archiver = open(store, config(retention))?;
    let now = clock::now();
    archiver.remove_withdrawn(now)?;
    // Before segments are merged, so that each record is counted once; and what they became is
    // taken over after.
    while archiver.advance_ledger(None, &|| true)? {}
    let merged = archiver.merge_all(now, &|| true)?;
    while archiver.advance_ledger(None, &|| true)? {}
    remove_objects(&archiver)?;
    Ok(merged)
}

/// Removes the objects of segments that are gone. Nothing is moved: that is for a collector.
fn remove_objects(archiver: &Archiver) -> Result<()> {
    if let Some(mut uploader) = archiver.uploader(i64::MAX) {
        let removed = uploader.work(clock::now());
        removed.context("the store is done, but objects remain, which a collector removes")?;
    }
    Ok(())
}

fn config(retention: Retention) -> ArchiveConfig {
    ArchiveConfig { retention, ..ArchiveConfig::for_ring(&RingConfig::default()) }
}

fn open(store: &Path, config: ArchiveConfig) -> Result<Archiver> {
    let OpenStore { archiver, .. } = open_store(store, RingConfig::default(), config)?;
    Ok(archiver)
}
