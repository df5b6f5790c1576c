//! The thread that moves segments to the object store, which nobody waits long for.

use super::Plan;
use crate::app::clock;
#[cfg(feature = "http")]
use crate::archive::UploadCounters;
use crate::archive::{Archiver, Objects};
use crate::ring::Store;
use crate::telemetry::Flag;
use anyhow::{Context, Result, bail};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long after the end of its hour a segment moves if nobody says.
const ARCHIVE_AFTER_MILLIS: i64 = 300_000;
/// What may still be moved at the end; the rest is for the next start.
const END_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether that is done.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A running uploader.
pub(super) struct Uploading {
    thread: JoinHandle<()>,
    stop: Arc<Flag>,
    #[cfg(feature = "http")]
    pub(super) counters: Arc<UploadCounters>,
}

/// Binds the store to the object store that was asked for, if it is not yet.
pub(super) fn bind(plan: &Plan) -> Result<()> {
    match &plan.archive {
        Some(url) => Objects::bind(&plan.store, url).context("--archive"),
        None if plan.archive_after_millis.is_some() && !is_bound(plan)? => {
            bail!(
                "--archive-after: segments move nowhere; add --archive s3://BUCKET/PREFIX or file:///DIRECTORY"
            )
        }
        None => Ok(()),
    }
}

/// Does the store know where its segments are to go?
fn is_bound(plan: &Plan) -> Result<bool> {
    let Ok(store) = Store::find(&plan.store) else { return Ok(false) };
    Ok(Objects::of(&store.archive_dir()).url()?.is_some())
}

/// Starts it, if the store is bound.
pub(super) fn start(plan: &Plan, archiver: &Archiver) -> Result<Option<Uploading>> {
    let after_millis = plan.archive_after_millis.unwrap_or(ARCHIVE_AFTER_MILLIS);
    let Some(mut uploader) = archiver.uploader(after_millis) else {
        return Ok(None);
    };
    let stop = Arc::new(Flag::default());
    #[cfg(feature = "http")]
    let counters = uploader.counters();
    let until = Arc::clone(&stop);
    let work = move || uploader.run(&until, clock::now);
    let thread = thread::Builder::new().name("uploader".into()).spawn(work);
    Ok(Some(Uploading {
        thread: thread.context("start the uploader")?,
        stop,
        #[cfg(feature = "http")]
        counters,
    }))
}

impl Uploading {
    /// Lets it do what is due now, for a while. A request that takes longer ends with the process:
    /// the next uploader makes it again.
    pub(super) fn end(self) {
        self.stop.raise();
        let start = Instant::now();
        while !self.thread.is_finished() && start.elapsed() < END_MAX {
            thread::sleep(LOOK_INTERVAL);
        }
    }
}
