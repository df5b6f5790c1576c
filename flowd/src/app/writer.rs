//! Records metered here or imported -> a store: the ring's writer and the archiver in one thread.

use super::clock;
use crate::archive::{ArchiveConfig, Archiver, OpenStore, open_store};
use crate::import::Imported;
use crate::model::time::UnixMillis;
use crate::model::{Column, FlowBatch, FlowRecord, ObservationDomainId, Origin, Protocol, Shape};
use crate::ring::{Ring, RingConfig, ShardWriter};
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

/// Shapes that are kept for the records that follow.
const SHAPE_COUNT_MAX: usize = 4_096;
/// Hours of receipt between two looks at what the ring has to give to the archive: each hour
/// takes a block.
const HOURS_BETWEEN_LOOKS: usize = 64;
/// No hour was over at this time, so that only a ring that is too full has something archived.
const BEFORE_ALL: UnixMillis = UnixMillis(0);

/// Writes records into a store that nobody else writes to.
pub(super) struct StoreWriter {
    ring: Arc<Ring>,
    writer: ShardWriter,
    archiver: Archiver,
    batch: FlowBatch,
    shapes: Shapes,
    origin: Arc<Origin>,
}

/// The shapes of records so far.
#[derive(Default)]
struct Shapes {
    known: HashMap<Shape, Arc<Shape>>,
    last: Option<Arc<Shape>>,
}

impl Shapes {
    /// The shape of a record. Most records have that of the one before.
    fn of(&mut self, record: &FlowRecord) -> &Arc<Shape> {
        let is_last = self.last.as_ref().is_some_and(|last| {
            last.columns == record.present
                && last.record_type == record.record_type
                && last.extras.iter().eq(record.extras.iter().map(|extra| &extra.spec))
        });
        if !is_last {
            if self.known.len() >= SHAPE_COUNT_MAX {
                self.known.clear();
            }
            let shape = FlowBatch::shape_of(record);
            let known = self.known.entry(shape);
            self.last = Some(Arc::clone(known.or_insert_with_key(|shape| Arc::new(shape.clone()))));
        }
        self.last.as_ref().expect("it was put there just now")
    }
}

impl StoreWriter {
    /// Opens the store, which is made if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let config = RingConfig::default();
        let OpenStore { ring, archiver, recovery: _ } =
            open_store(path, config, ArchiveConfig::for_ring(&config))?;
        let writer = ring.writer(0, clock::now())?;
        let origin = Origin {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            domain: ObservationDomainId(0),
            protocol: Protocol::Metered,
        };
        Ok(Self {
            ring,
            writer,
            archiver,
            batch: FlowBatch::new(),
            shapes: Shapes::default(),
            origin: Arc::new(origin),
        })
    }

    /// Appends records that were received at `now`.
    pub(super) fn write(&mut self, records: &[FlowRecord], now: UnixMillis) -> Result<()> {
        for record in records {
            let mut record = record.clone();
            record.collection_time_milliseconds = now.0;
            record.present.insert(Column::CollectionTimeMilliseconds);
            if self.batch.room() == 0 {
                self.append()?;
            }
            self.batch.push(&record, self.shapes.of(&record), &self.origin);
        }
        self.append()?;
        self.archiver.archive_due(now).context("archive records")?;
        Ok(())
    }

    /// Appends records that say themselves when they were received. They are put in the order of
    /// their hours, for a block holds one hour.
    pub(super) fn write_imported(&mut self, records: &mut [Imported]) -> Result<()> {
        let hour =
            |imported: &Imported| UnixMillis(imported.record.collection_time_milliseconds).hour();
        records.sort_by_key(hour);
        for (index, of_hour) in records.chunk_by(|a, b| hour(a) == hour(b)).enumerate() {
            for Imported { record, origin } in of_hour {
                if self.batch.room() == 0 {
                    self.append()?;
                }
                self.batch.push(record, self.shapes.of(record), origin);
            }
            if (index + 1) % HOURS_BETWEEN_LOOKS == 0 {
                self.append()?;
                self.archiver.archive_due(BEFORE_ALL).context("archive records")?;
            }
        }
        self.append()?;
        self.archiver.archive_due(BEFORE_ALL).context("archive records")?;
        Ok(())
    }

    fn append(&mut self) -> Result<()> {
        let outcome = self.writer.append(&self.batch);
        self.batch.clear();
        match outcome.error {
            Some(error) => Err(error).context("store records"),
            None if outcome.dropped > 0 => bail!("the ring is full: {} dropped", outcome.dropped),
            None => Ok(()),
        }
    }

    /// Moves everything into the archive; returns how many records were stored.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.writer.seal_all()?;
        self.archiver.finish(clock::now, UnixMillis(i64::MAX))?;
        Ok(self.ring.appended().value())
    }
}
