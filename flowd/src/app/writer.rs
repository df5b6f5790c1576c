//! Records metered here -> a store: the ring's writer and the archiver in one thread.

use super::clock;
use crate::archive::{ArchiveConfig, Archiver, OpenStore, open_store};
use crate::model::time::UnixMillis;
use crate::model::{
    Column, ColumnSet, FlowBatch, FlowRecord, ObservationDomainId, Origin, Protocol, Shape,
};
use crate::ring::{Ring, RingConfig, ShardWriter};
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

/// Writes records into a store that nobody else writes to.
pub(super) struct StoreWriter {
    ring: Arc<Ring>,
    writer: ShardWriter,
    archiver: Archiver,
    batch: FlowBatch,
    shapes: HashMap<ColumnSet, Arc<Shape>>,
    origin: Arc<Origin>,
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
            shapes: HashMap::new(),
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
            // Metered records have no extras: their columns are their shape.
            let shape = self
                .shapes
                .entry(record.present)
                .or_insert_with(|| Arc::new(FlowBatch::shape_of(&record)));
            self.batch.push(&record, shape, &self.origin);
        }
        self.append()?;
        self.archiver.archive_due(now).context("archive records")?;
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
