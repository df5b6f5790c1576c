//! Ring: which blocks there are, what they take, and which may go.
//!
//! Writers and the archiver come here when a block begins, is sealed or is freed, never for a
//! record; one lock serves.

use super::config::{RingConfig, WhenFull};
use super::drops::{LostRows, RingDrop};
use super::error::RingError;
use super::lane::{BlockId, Lane, NumberFloors};
use super::layout::Layout;
use super::prepare::Preparer;
use super::recover::{self, Recovery};
use super::reserved::Reserved;
use super::shard::ShardWriter;
use super::store::{Store, StoreLock};
use crate::model::time::UnixMillis;
use crate::telemetry::{Counter, Drops};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A block that will not change any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBlock {
    /// Its name.
    pub id: BlockId,
    /// Its file.
    pub path: PathBuf,
    /// The hour in which its rows were received, counted from 1970.
    pub hour: i64,
    /// How many rows.
    pub rows: u64,
    /// Octets of disk or memory that it takes.
    pub size: u64,
    /// The times of receipt of its first and its last row, in milliseconds since 1970.
    pub received: (i64, i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    /// A writer appends to it.
    Open,
    /// It waits for the archive.
    Sealed,
    /// The archive is at work on it; it must not be dropped.
    Claimed,
}

#[derive(Debug)]
struct Held {
    holding: Holding,
    size: u64,
    /// Place in the order of sealing.
    order: u64,
    sealed: Option<SealedBlock>,
    /// What its file has memory for, if it is worth using again.
    reusable: Option<Reserved>,
}

#[derive(Debug, Default)]
struct State {
    blocks: BTreeMap<BlockId, Held>,
    /// The sum of the sizes of `blocks`.
    size: u64,
    numbers: NumberFloors,
    sealed_count: u64,
    writers: BTreeSet<u16>,
    lost: Vec<LostRows>,
    /// A limit below that of the configuration, while the disk is nearly full.
    size_held: Option<u64>,
}

/// The blocks of a store, for its writers and its archiver.
#[derive(Debug)]
pub struct Ring {
    lock: StoreLock,
    config: RingConfig,
    layout: Arc<Layout>,
    boot_id: [u8; 16],
    state: Mutex<State>,
    wake: (Sender<()>, Receiver<()>),
    preparer: Preparer,
    appended: Counter,
    unprepared: Counter,
    reused: Counter,
    drops: Drops<RingDrop>,
}

impl Ring {
    /// Opens the ring of a store, and seals what a writer left open. No block gets a number
    /// below its lane's floor.
    ///
    /// # Errors
    /// If the ring's directory cannot be used, or holds blocks of another version.
    pub fn open(
        lock: StoreLock,
        config: RingConfig,
        floors: NumberFloors,
    ) -> Result<(Arc<Self>, Recovery), RingError> {
        let (ring, recovery) =
            Self::open_telling(lock, config, floors, |_| Ok::<_, RingError>(()))?;
        for lost in &recovery.lost {
            ring.lose(lost.clone());
        }
        Ok((ring, recovery))
    }

    /// Opens the ring of a store as [`Ring::open`] does, and says what is lost before anything
    /// that shows it is changed, so that a kill at any point forgets nothing. `tell` keeps it,
    /// for good, and takes out what it was told before.
    ///
    /// # Errors
    /// If the ring's directory cannot be used, or holds blocks of another version, or what is
    /// lost cannot be kept.
    pub fn open_telling<E: From<RingError>>(
        lock: StoreLock,
        config: RingConfig,
        floors: NumberFloors,
        tell: impl FnOnce(&mut Vec<LostRows>) -> Result<(), E>,
    ) -> Result<(Arc<Self>, Recovery), E> {
        let directory = lock.store().ring_dir();
        fs::create_dir_all(&directory).map_err(RingError::io("make", &directory))?;
        let layout = Arc::new(Layout::new(config.block_format()));
        let boot_id = boot_id();
        let (recovery, blocks) = recover::recover(lock.store(), boot_id, tell)?;
        let preparer = Preparer::start(directory.clone(), Arc::clone(&layout))
            .map_err(RingError::io("start a thread for", &directory))?;
        let ring = Self {
            lock,
            config,
            layout,
            boot_id,
            state: Mutex::new(State { numbers: floors, ..State::default() }),
            wake: bounded(1),
            preparer,
            appended: Counter::new(),
            unprepared: Counter::new(),
            reused: Counter::new(),
            drops: Drops::default(),
        };
        for block in blocks {
            ring.sealed(block, None);
        }
        for lost in &recovery.lost {
            ring.drops.count(lost.reason, lost.rows);
            if let Some((_, last)) = lost.blocks {
                ring.state().numbers.raise(lost.shard, lost.lane, last + 1);
            }
        }
        Ok((Arc::new(ring), recovery))
    }

    /// The writer of a shard. `now` is the hour of records that do not tell theirs.
    ///
    /// # Errors
    /// If the shard has a writer.
    pub fn writer(self: &Arc<Self>, shard: u16, now: UnixMillis) -> Result<ShardWriter, RingError> {
        if !self.state().writers.insert(shard) {
            return Err(RingError::ShardInUse(shard));
        }
        Ok(ShardWriter::new(Arc::clone(self), shard, now))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.lock.store()
    }

    /// The limits.
    #[must_use]
    pub const fn config(&self) -> &RingConfig {
        &self.config
    }

    /// Records that were appended since the ring was opened.
    #[must_use]
    pub const fn appended(&self) -> &Counter {
        &self.appended
    }

    /// Records that were refused or lost since the ring was opened.
    #[must_use]
    pub const fn drops(&self) -> &Drops<RingDrop> {
        &self.drops
    }

    /// Blocks that a writer had to make itself because none was prepared.
    #[must_use]
    pub const fn unprepared(&self) -> &Counter {
        &self.unprepared
    }

    /// Blocks whose file was another block's before.
    #[must_use]
    pub const fn reused(&self) -> &Counter {
        &self.reused
    }

    /// The numbers that the next blocks get.
    #[must_use]
    pub fn next_numbers(&self) -> NumberFloors {
        self.state().numbers.clone()
    }

    /// Octets that all blocks take.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.state().size
    }

    /// Octets that a row takes, on the average of the blocks that are there; 0 without any.
    #[must_use]
    pub fn row_size(&self) -> u64 {
        let state = self.state();
        let held = state.blocks.values();
        // An open block has its memory before it has its rows.
        let full = self.config.block_rows as u64;
        let rows = held.map(|held| held.sealed.as_ref().map_or(full, |block| block.rows));
        state.size.checked_div(rows.sum()).unwrap_or(0)
    }

    /// Receives when blocks were sealed since the last time.
    #[must_use]
    pub const fn wakeups(&self) -> &Receiver<()> {
        &self.wake.1
    }

    /// The sealed blocks that nobody claimed, by shard, lane and number.
    #[must_use]
    pub fn sealed_blocks(&self) -> Vec<SealedBlock> {
        let state = self.state();
        let waiting = state.blocks.values().filter(|held| held.holding == Holding::Sealed);
        waiting.filter_map(|held| held.sealed.clone()).collect()
    }

    /// Claims sealed blocks for the archive, so that they are not dropped, and returns those
    /// that are still there.
    pub fn claim(&self, ids: &[BlockId]) -> Vec<SealedBlock> {
        let mut state = self.state();
        let claimed = ids.iter().filter_map(|id| {
            let held = state.blocks.get_mut(id)?;
            if held.holding != Holding::Sealed {
                return None;
            }
            held.holding = Holding::Claimed;
            held.sealed.clone()
        });
        claimed.collect()
    }

    /// Gives claimed blocks back: the archive could not take them.
    pub fn release(&self, ids: &[BlockId]) {
        let mut state = self.state();
        for id in ids {
            if let Some(held) = state.blocks.get_mut(id)
                && held.holding == Holding::Claimed
            {
                held.holding = Holding::Sealed;
            }
        }
    }

    /// Removes blocks that the archive has. Readers keep what they have mapped; a file that
    /// none has may serve as another block.
    ///
    /// # Errors
    /// If a file cannot be removed; it is removed at a restart.
    pub fn free(&self, ids: &[BlockId]) -> Result<(), RingError> {
        let mut result = Ok(());
        for id in ids {
            let (held, size) = {
                let mut state = self.state();
                (state.remove(*id), state.size)
            };
            let Some((block, reusable)) = held.and_then(|held| Some((held.sealed?, held.reusable)))
            else {
                continue;
            };
            let room = self.config.ring_size_max.saturating_sub(size);
            let removed = match reusable {
                Some(reserved) => self.preparer.reuse(&block.path, reserved, room),
                None => fs::remove_file(&block.path),
            };
            if let Err(error) = removed {
                result = Err(RingError::io("remove", &block.path)(error));
            }
        }
        result
    }

    /// Puts a claimed block that cannot be read out of the way, and counts its rows as lost.
    ///
    /// # Errors
    /// If its file cannot be renamed.
    pub fn set_aside(&self, id: BlockId) -> Result<(), RingError> {
        let Some(block) = self.remove(id).and_then(|held| held.sealed) else {
            return Ok(());
        };
        self.drops.count(RingDrop::Damaged, block.rows);
        self.lose(LostRows::of_block(&block, RingDrop::Damaged));
        recover::set_aside(&block.path)
    }

    /// Keeps blocks from taking more room than they do now, or lets them again: the disk is
    /// nearly full, or not any more.
    pub fn set_growth(&self, may_grow: bool) {
        let mut state = self.state();
        state.size_held = if may_grow { None } else { Some(state.size) };
    }

    /// What was lost and nobody has taken yet.
    #[must_use]
    pub fn untold_losses(&self) -> Vec<LostRows> {
        self.state().lost.clone()
    }

    /// What was lost since this was last asked. Who takes it keeps it.
    #[must_use]
    pub fn take_lost(&self) -> Vec<LostRows> {
        std::mem::take(&mut self.state().lost)
    }

    /// Gives back what was taken but could not be kept.
    pub fn return_lost(&self, mut lost: Vec<LostRows>) {
        let mut state = self.state();
        lost.append(&mut state.lost);
        state.lost = lost;
    }

    pub(super) const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    pub(super) const fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    pub(super) const fn preparer(&self) -> &Preparer {
        &self.preparer
    }

    /// The name of a lane's next block, if there is room for `size` octets more.
    pub(super) fn next_block(
        &self,
        shard: u16,
        lane: Lane,
        size: u64,
    ) -> Result<BlockId, RingError> {
        let mut state = self.state();
        let size_max = self.config.size_max().min(state.size_held.unwrap_or(u64::MAX));
        while state.size + size > size_max {
            if !(self.config.when_full == WhenFull::DropOldest && self.drop_oldest(&mut state)) {
                return Err(RingError::Full { size: state.size });
            }
        }
        Ok(BlockId { shard, lane, number: state.numbers.floor(shard, lane) })
    }

    fn drop_oldest(&self, state: &mut State) -> bool {
        let waiting = state.blocks.iter().filter(|(_, held)| held.holding == Holding::Sealed);
        let Some((&id, _)) = waiting.min_by_key(|(_, held)| held.order) else {
            return false;
        };
        let Some(block) = state.remove(id).and_then(|held| held.sealed) else {
            return false;
        };
        // A file that stays is found at a restart and archived then: twice told, not lost.
        drop(fs::remove_file(&block.path));
        self.drops.count(RingDrop::Overrun, block.rows);
        state.lose(LostRows::of_block(&block, RingDrop::Overrun));
        true
    }

    /// Says that a block exists and takes some octets.
    pub(super) fn opened(&self, id: BlockId, size: u64) {
        let mut state = self.state();
        state.numbers.raise(id.shard, id.lane, id.number + 1);
        state.insert(id, Held::open(size));
    }

    /// Says that an open block takes more octets than before.
    pub(super) fn resized(&self, id: BlockId, size: u64) {
        let mut state = self.state();
        if let Some(held) = state.blocks.get_mut(&id) {
            let before = std::mem::replace(&mut held.size, size);
            state.size = state.size + size - before;
        }
    }

    /// Says that a block is sealed, and wakes the archiver.
    pub(super) fn sealed(&self, block: SealedBlock, reusable: Option<Reserved>) {
        let mut state = self.state();
        state.remove(block.id);
        state.numbers.raise(block.id.shard, block.id.lane, block.id.number + 1);
        state.insert(
            block.id,
            Held {
                holding: Holding::Sealed,
                size: block.size,
                sealed: Some(block),
                reusable,
                order: 0,
            },
        );
        drop(state);
        // If one wake-up waits already, it serves for this block too.
        self.wake.0.try_send(()).ok();
    }

    /// Says that a block that was opened is gone without a row.
    pub(super) fn remove_empty(&self, id: BlockId) {
        self.remove(id);
    }

    /// Counts what a writer did with records.
    pub(super) fn count_appended(&self, rows: u64) {
        self.appended.add(rows);
    }

    /// Says that a writer is gone.
    pub(super) fn writer_ended(&self, shard: u16) {
        self.state().writers.remove(&shard);
    }

    fn remove(&self, id: BlockId) -> Option<Held> {
        self.state().remove(id)
    }

    fn lose(&self, lost: LostRows) {
        self.state().lose(lost);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    const fn open(size: u64) -> Self {
        Self { holding: Holding::Open, size, order: 0, sealed: None, reusable: None }
    }
}

impl State {
    fn insert(&mut self, id: BlockId, held: Held) {
        self.sealed_count += 1;
        let held = Held { order: self.sealed_count, ..held };
        self.size += held.size;
        let before = self.blocks.insert(id, held);
        debug_assert!(before.is_none(), "a block's number is given once");
    }

    fn remove(&mut self, id: BlockId) -> Option<Held> {
        let held = self.blocks.remove(&id)?;
        self.size -= held.size;
        Some(held)
    }

    fn lose(&mut self, lost: LostRows) {
        let joined = self.lost.iter_mut().any(|before| before.join(&lost));
        if !joined {
            self.lost.push(lost);
        }
    }
}

/// The number that the kernel gave this boot; zeros where it gives none, which are never
/// trusted to be the same boot.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits = text.trim().replace('-', "");
    u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
}
