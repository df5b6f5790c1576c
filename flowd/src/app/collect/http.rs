//! What a running collector tells over HTTP.

use super::Plan;
use super::objects::Uploading;
use super::patience::Patience;
use crate::app::clock;
use crate::archive::{ArchiveCounters, UploadCounters};
use crate::collect::Books;
use crate::http::{ArchiveFigures, Figures, RingFigures, Server, Source, UploadFigures};
use crate::model::time::UnixMillis;
use crate::ring::{Ring, RingDrop};
use crate::telemetry::{Flag, Reason};
use anyhow::Result;
use std::net::SocketAddr;
use std::sync::Arc;

/// Takes the port, if one was asked for.
pub(super) fn bind(plan: &Plan, patience: &Patience) -> Result<Option<Server>> {
    plan.http.map(|address| patience.with(|| Ok(Server::bind(address)?))).transpose()
}

/// Begins to answer, if a port was asked for: where.
pub(super) fn start(
    server: &mut Option<Server>,
    books: &Arc<Books>,
    ring: &Arc<Ring>,
    archived: Arc<ArchiveCounters>,
    uploading: Option<&Uploading>,
    stop: &Arc<Flag>,
) -> Result<Option<SocketAddr>> {
    let Some(server) = server else { return Ok(None) };
    server.start(Arc::new(Running {
        started: clock::now(),
        books: Arc::clone(books),
        ring: Arc::clone(ring),
        archived,
        uploaded: uploading.map(|uploading| Arc::clone(&uploading.counters)),
        stop: Arc::clone(stop),
    }))?;
    Ok(Some(server.address()))
}

/// The parts of a running collector that count.
#[derive(Debug)]
struct Running {
    started: UnixMillis,
    books: Arc<Books>,
    ring: Arc<Ring>,
    archived: Arc<ArchiveCounters>,
    /// None if the store is bound to no object store.
    uploaded: Option<Arc<UploadCounters>>,
    /// Raised when the collector ends, whoever wished it: a signal, or a thread that failed.
    stop: Arc<Flag>,
}

impl Source for Running {
    fn figures(&self) -> Figures {
        let Self { started, books, ring, archived, uploaded, stop: _ } = self;
        let ArchiveCounters {
            segments,
            rows,
            bytes,
            failures,
            expired_segments: _,
            expired_rows,
            expired_bytes: _,
            expired_for_room,
            merged_segments,
            merged_rows: _,
            held_back,
        } = &**archived;
        let drops = ring.drops();
        Figures {
            started: *started,
            collect: books.statistics(),
            ring: RingFigures {
                appended_records: ring.appended().value(),
                dropped_records: drops
                    .iter()
                    .map(|(reason, count)| (RingDrop::name(reason), count))
                    .collect(),
                size: ring.size(),
                sealed_blocks: u64::try_from(ring.sealed_blocks().len()).unwrap_or(u64::MAX),
            },
            archive: ArchiveFigures {
                segments: segments.value(),
                records: rows.value(),
                bytes: bytes.value(),
                failures: failures.value(),
                expired_records: expired_rows.value(),
                expired_for_room: expired_for_room.value(),
                merged_segments: merged_segments.value(),
                held_back: held_back.value(),
                uploads: uploaded.as_ref().map(|uploaded| {
                    let UploadCounters { segments, bytes, failures, removed } = &**uploaded;
                    UploadFigures {
                        segments: segments.value(),
                        bytes: bytes.value(),
                        failures: failures.value(),
                        removed: removed.value(),
                    }
                }),
            },
        }
    }

    fn is_well(&self) -> bool {
        !self.stop.is_raised()
    }
}
