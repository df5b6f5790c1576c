//! ShardWriter: appends batches to the blocks of one shard.

use super::blocks::{Ring, SealedBlock};
use super::drops::RingDrop;
use super::error::RingError;
use super::lane::{BlockId, Lane};
use super::layout::BlockHead;
use super::map::MappedWriter;
use super::prepare::{NEW_SUFFIX, Prepared};
use super::writer::{BlockWriter, Sealed};
use crate::model::time::{HOUR_MILLIS, UnixMillis};
use crate::model::{Column, ColumnRef, ColumnSet, FlowBatch, Run};
use crossbeam_channel::{Receiver, TryRecvError};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The one writer of a shard. It may move between threads; there is no second one.
#[derive(Debug)]
pub struct ShardWriter {
    ring: Arc<Ring>,
    shard: u16,
    /// The time of the last tick.
    now: UnixMillis,
    lanes: [LaneWriter; Lane::ALL.len()],
}

/// What became of a batch: `rows` and `dropped` add up to its rows.
#[derive(Debug, Default)]
pub struct Appended {
    /// Rows that are in the ring.
    pub rows: u64,
    /// Rows that were refused. They are counted by reason in [`Ring::drops`].
    pub dropped: u64,
    /// Why rows were refused, if it was the system: the last of it.
    pub error: Option<RingError>,
}

#[derive(Debug)]
struct LaneWriter {
    lane: Lane,
    open: Option<OpenBlock>,
    /// The next block's file, being made.
    prepared: Option<Receiver<Prepared>>,
    /// Columns that the lane's blocks are likely to need.
    columns: ColumnSet,
    /// Did this batch fail here? Then the rest of it is not tried.
    failed: Option<RingDrop>,
}

#[derive(Debug)]
struct OpenBlock {
    id: BlockId,
    hour: i64,
    writer: BlockWriter<MappedWriter>,
    /// What the ring was told that the block takes.
    size: u64,
    received: (i64, i64),
}

/// Rows that were received within one hour.
struct Span {
    rows: Range<usize>,
    received: (i64, i64),
}

impl ShardWriter {
    pub(super) fn new(ring: Arc<Ring>, shard: u16, now: UnixMillis) -> Self {
        let lanes = Lane::ALL.map(|lane| LaneWriter {
            lane,
            open: None,
            prepared: None,
            columns: ColumnSet::EMPTY,
            failed: None,
        });
        Self { ring, shard, now, lanes }
    }

    /// The shard's number.
    #[must_use]
    pub const fn shard(&self) -> u16 {
        self.shard
    }

    /// Appends all rows of a batch. Each that is appended is seen by readers, and found again
    /// after the process is killed, from then on.
    pub fn append(&mut self, batch: &FlowBatch) -> Appended {
        let mut outcome = Appended::default();
        for lane in &mut self.lanes {
            lane.failed = None;
        }
        for run in batch.runs() {
            let lane = &mut self.lanes[Lane::of(&run.shape).index()];
            let mut rows = run.rows.clone();
            while !rows.is_empty() {
                let span = same_hour(batch, run, rows.clone(), self.now);
                rows.start = span.rows.end;
                lane.append(&self.ring, self.shard, batch, run, span, &mut outcome);
            }
        }
        self.ring.count_appended(outcome.rows);
        outcome
    }

    /// The blocks that it appends to, and how many rows each has now.
    pub fn open_blocks(&self) -> impl Iterator<Item = (BlockId, u64)> {
        let open = self.lanes.iter().filter_map(|lane| lane.open.as_ref());
        open.map(|block| (block.id, block.writer.rows() as u64))
    }

    /// Seals blocks whose hour is over.
    ///
    /// # Errors
    /// If a block cannot be looked at after sealing; its rows are safe.
    pub fn tick(&mut self, now: UnixMillis) -> Result<(), RingError> {
        self.now = now;
        self.seal_if(|block| block.hour < now.hour())
    }

    /// Seals all blocks: at the end, or to have them archived now.
    ///
    /// # Errors
    /// As [`ShardWriter::tick`].
    pub fn seal_all(&mut self) -> Result<(), RingError> {
        self.seal_if(|_| true)
    }

    /// Waits until all rows are on the disk. For the end of a run, not for each batch.
    ///
    /// # Errors
    /// If the system cannot write them.
    pub fn sync(&self) -> Result<(), RingError> {
        let mut open = self.lanes.iter().filter_map(|lane| lane.open.as_ref());
        open.try_for_each(|block| block.writer.sync())
    }

    fn seal_if(&mut self, condition: impl Fn(&OpenBlock) -> bool) -> Result<(), RingError> {
        let mut result = Ok(());
        for lane in &mut self.lanes {
            if lane.open.as_ref().is_some_and(&condition) {
                result = lane.seal(&self.ring).and(result);
            }
        }
        result
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        // What cannot be sealed now is sealed at the next start.
        drop(self.seal_all());
        self.ring.writer_ended(self.shard);
    }
}

impl LaneWriter {
    fn append(
        &mut self,
        ring: &Ring,
        shard: u16,
        batch: &FlowBatch,
        run: &Run,
        span: Span,
        outcome: &mut Appended,
    ) {
        let Span { mut rows, received } = span;
        while !rows.is_empty() {
            let mut refused = rows.len();
            let reason = match self.failed {
                Some(reason) => reason,
                None => match self.append_some(ring, shard, batch, run, &rows, received) {
                    Ok(0) => {
                        refused = 1;
                        RingDrop::TooLarge
                    }
                    Ok(count) => {
                        rows.start += count;
                        outcome.rows += count as u64;
                        continue;
                    }
                    Err(error) => {
                        let reason = reason_of(&error);
                        self.failed = Some(reason);
                        outcome.error = Some(error);
                        reason
                    }
                },
            };
            ring.drops().count(reason, refused as u64);
            outcome.dropped += refused as u64;
            rows.start += refused;
        }
    }

    /// Appends as many rows as fit into one block; none if the first is too large for any.
    fn append_some(
        &mut self,
        ring: &Ring,
        shard: u16,
        batch: &FlowBatch,
        run: &Run,
        rows: &Range<usize>,
        received: (i64, i64),
    ) -> Result<usize, RingError> {
        let hour = UnixMillis(received.0).hour();
        loop {
            if self.open.as_ref().is_some_and(|block| block.hour != hour) {
                self.seal(ring)?;
            }
            let block = match &mut self.open {
                Some(block) => block,
                None => {
                    self.columns = self.columns.union(run.shape.columns);
                    let block = self.open_block(ring, shard, received.0)?;
                    self.open.insert(block)
                }
            };
            let count = block.append(ring, batch, run, rows, received)?;
            if count > 0 {
                if self.prepared.is_none() && block.writer.is_well_begun() {
                    self.prepared = Some(ring.preparer().request(block.writer.columns()));
                }
                return Ok(count);
            }
            if block.writer.rows() == 0 {
                return Ok(0);
            }
            self.seal(ring)?;
        }
    }

    fn open_block(&mut self, ring: &Ring, shard: u16, now: i64) -> Result<OpenBlock, RingError> {
        let layout = ring.layout();
        let id = ring.next_block(shard, self.lane, layout.size_of(self.columns))?;
        let directory = ring.store().ring_dir();
        let path = directory.join(id.file_name());
        let head =
            BlockHead { id, boot_id: ring.boot_id(), hour: UnixMillis(now).hour(), created: now };
        let ready = self.prepared.as_ref().map(Receiver::try_recv);
        // One that is not ready yet will serve the block after this.
        if !matches!(ready, Some(Err(TryRecvError::Empty))) {
            self.prepared = None;
        }
        let prepared = match ready {
            Some(Ok(prepared)) => prepared,
            _ => {
                ring.unprepared().add(1);
                let new = directory.join(format!("{}{NEW_SUFFIX}", id.file_name()));
                Prepared::make_bare(new, layout).map_err(RingError::io("make", &path))?
            }
        };
        ring.reused().add(u64::from(prepared.is_reused()));
        let placed = prepared.place(layout, &head, &path);
        let (storage, reserved) = placed.map_err(RingError::io("make", &path))?;
        let writer = BlockWriter::new(storage, Arc::clone(layout), head.identity(), path, reserved);
        let size = writer.reserved_size();
        ring.opened(id, size);
        Ok(OpenBlock { id, hour: head.hour, writer, size, received: (now, now) })
    }

    fn seal(&mut self, ring: &Ring) -> Result<(), RingError> {
        let Some(block) = self.open.take() else {
            return Ok(());
        };
        let path = ring.store().ring_dir().join(block.id.file_name());
        if block.writer.rows() == 0 {
            ring.remove_empty(block.id);
            return fs::remove_file(&path).map_err(RingError::io("remove", &path));
        }
        self.columns = block.writer.columns_used();
        block.seal(ring, &path)
    }
}

impl OpenBlock {
    fn append(
        &mut self,
        ring: &Ring,
        batch: &FlowBatch,
        run: &Run,
        rows: &Range<usize>,
        received: (i64, i64),
    ) -> Result<usize, RingError> {
        let appended = self.writer.append(batch, run, rows.clone());
        let size = self.writer.reserved_size();
        if size != self.size {
            ring.resized(self.id, size);
            self.size = size;
        }
        self.received.0 = self.received.0.min(received.0);
        self.received.1 = self.received.1.max(received.1);
        appended
    }

    fn seal(self, ring: &Ring, path: &Path) -> Result<(), RingError> {
        let rows = self.writer.rows() as u64;
        let Sealed { size, reusable, storage } = self.writer.seal();
        ring.preparer().retire(storage);
        let block = SealedBlock {
            id: self.id,
            path: path.to_owned(),
            hour: self.hour,
            rows,
            size: *size.as_ref().unwrap_or(&self.size),
            received: self.received,
        };
        ring.sealed(block, reusable);
        size.map(drop)
    }
}

/// The rows from the first on that were received in its hour. Rows that do not tell their time
/// were received now.
fn same_hour(batch: &FlowBatch, run: &Run, rows: Range<usize>, now: UnixMillis) -> Span {
    let column = Column::CollectionTimeMilliseconds;
    let times = match batch.column(column) {
        ColumnRef::I64(times) if run.shape.columns.contains(column) => &times[rows.clone()],
        _ => &[],
    };
    let Some(&first) = times.first() else {
        return Span { rows, received: (now.0, now.0) };
    };
    let hour_start = first - first.rem_euclid(HOUR_MILLIS);
    let (mut earliest, mut latest, mut count) = (first, first, 0);
    for &time in times {
        if time.wrapping_sub(hour_start).cast_unsigned() >= HOUR_MILLIS.cast_unsigned() {
            break;
        }
        (earliest, latest, count) = (earliest.min(time), latest.max(time), count + 1);
    }
    Span { rows: rows.start..rows.start + count, received: (earliest, latest) }
}

const fn reason_of(error: &RingError) -> RingDrop {
    match error {
        RingError::Full { .. } => RingDrop::Full,
        RingError::NoSpace(_) => RingDrop::NoSpace,
        _ => RingDrop::Failed,
    }
}
