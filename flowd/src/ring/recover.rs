//! What a restart finds in the ring: blocks sealed, blocks left open, blocks torn by a power cut.

use super::block::Block;
use super::blocks::SealedBlock;
use super::drops::{LostRows, RingDrop};
use super::error::RingError;
use super::lane::BlockId;
use super::layout::{BlockHead, Layout};
use super::map::MappedWriter;
use super::prepare::{NEW_SUFFIX, Prepared, with_new_suffix};
use super::storage::{SEALED, STATE, WriteStorage};
use super::store::{Store, files_in};
use super::writer::BlockWriter;
use crate::model::time::UnixMillis;
use crate::model::{FlowBatch, Run};
use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Block files that could not be read keep their name with this ending, for `store verify`.
const DAMAGED_SUFFIX: &str = ".damaged";

/// What a restart found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Blocks that wait for the archive.
    pub blocks: usize,
    /// Their rows.
    pub rows: u64,
    /// What is lost.
    pub lost: Vec<LostRows>,
    /// Files that were put aside because nothing in them can be read.
    pub damaged: Vec<PathBuf>,
}

/// A block file as it was found.
struct Found {
    id: BlockId,
    path: PathBuf,
    /// None if nothing in it can be read.
    block: Option<Block>,
    /// The rows that are what was appended.
    trusted: Vec<Range<usize>>,
}

/// Seals all blocks that are there. The caller holds the store's lock.
///
/// What is lost is told first, and only then is anything changed that shows it: a start that is
/// killed on the way leaves the next one to find the same.
pub(super) fn recover<E: From<RingError>>(
    store: &Store,
    boot_id: [u8; 16],
    tell: impl FnOnce(&mut Vec<LostRows>) -> Result<(), E>,
) -> Result<(Recovery, Vec<SealedBlock>), E> {
    for path in files_in(&store.ring_dir())? {
        if path.as_os_str().as_encoded_bytes().ends_with(NEW_SUFFIX.as_bytes()) {
            fs::remove_file(&path).map_err(RingError::io("remove", &path))?;
        }
    }
    let mut recovery = Recovery::default();
    let mut found = Vec::new();
    for (id, path) in store.block_files()? {
        let one = Found::look(id, path, boot_id)?;
        recovery.lost.extend(one.lost());
        found.push(one);
    }
    tell(&mut recovery.lost)?;
    let mut blocks = Vec::new();
    for one in found {
        match &one.block {
            Some(block) => blocks.extend(one.recover(block, boot_id)?),
            None => {
                set_aside(&one.path)?;
                recovery.damaged.push(one.path);
            }
        }
    }
    blocks.sort_by_key(|block| (block.received, block.id));
    recovery.blocks = blocks.len();
    recovery.rows = blocks.iter().map(|block| block.rows).sum();
    Ok((recovery, blocks))
}

/// Renames a file that cannot be read, so that it is neither read again nor lost to study.
pub(super) fn set_aside(path: &Path) -> Result<(), RingError> {
    let mut aside = OsString::from(path);
    aside.push(DAMAGED_SUFFIX);
    fs::rename(path, aside).map_err(RingError::io("put aside", path))
}

fn open(path: &Path, id: BlockId) -> Result<Block, RingError> {
    let block = Block::open_unchecked(path)?;
    if block.id() == id {
        return Ok(block);
    }
    Err(RingError::DamagedBlock { path: path.to_owned(), what: "another block's head" })
}

impl Found {
    fn look(id: BlockId, path: PathBuf, boot_id: [u8; 16]) -> Result<Self, RingError> {
        let block = match open(&path, id) {
            Err(RingError::DamagedBlock { .. }) => None,
            result => Some(result?),
        };
        let trusted = block.as_ref().map_or_else(Vec::new, |block| {
            // In the same boot the kernel has every page that the writer wrote, killed or not.
            // Rows that name no shape are then our own bug, and are treated as torn.
            let same_boot = boot_id != [0; 16] && block.head().boot_id == boot_id;
            match same_boot && block.check_ids().is_ok() {
                true => std::iter::once(0..block.rows()).collect(),
                false => trusted_rows(block),
            }
        });
        Ok(Self { id, path, block, trusted })
    }

    fn trusted_count(&self) -> usize {
        self.trusted.iter().map(Range::len).sum()
    }

    /// What is lost of it, if anything is.
    fn lost(&self) -> Option<LostRows> {
        let BlockId { shard, lane, number } = self.id;
        let whole = LostRows {
            reason: RingDrop::Damaged,
            shard,
            lane,
            blocks: Some((number, number)),
            in_block: None,
            rows: 0,
            received: (0, 0),
        };
        let Some(block) = &self.block else {
            // When the file last changed is all that is known of it.
            let written = fs::metadata(&self.path).map_or(0, |found| found.mtime() * 1_000);
            return Some(LostRows { received: (written, written), ..whole });
        };
        let rows = self.trusted_count();
        (rows < block.rows()).then(|| LostRows {
            reason: RingDrop::Torn,
            blocks: whole.blocks.filter(|_| rows == 0),
            in_block: (rows > 0).then_some(number),
            rows: (block.rows() - rows) as u64,
            received: (
                UnixMillis::of_hour(block.hour()).0,
                UnixMillis::of_hour(block.hour().saturating_add(1)).0,
            ),
            ..whole
        })
    }

    /// Seals it; none is left if it has no rows.
    fn recover(&self, block: &Block, boot_id: [u8; 16]) -> Result<Option<SealedBlock>, RingError> {
        let (path, rows) = (&self.path, self.trusted_count());
        if rows == 0 {
            fs::remove_file(path).map_err(RingError::io("remove", path))?;
            return Ok(None);
        }
        if rows < block.rows() {
            let rescued = rescue(block, path, &self.trusted, boot_id)?;
            return describe(&rescued, path).map(Some);
        }
        if !block.is_sealed() {
            seal(block, path)?;
        }
        describe(block, path).map(Some)
    }
}

/// Rows of stripes that hold and whose shapes and origins are there.
fn trusted_rows(block: &Block) -> Vec<Range<usize>> {
    let known = |rows: &Range<usize>| {
        let named: usize = block.runs(rows.clone()).map(|run| run.rows.len()).sum();
        named == rows.len()
    };
    let stripes = block.stripes().into_iter();
    let trusted = stripes.filter(|(rows, holds)| *holds && known(rows));
    trusted.map(|(rows, _)| rows).collect()
}

/// Does what the writer did not come to do.
fn seal(block: &Block, path: &Path) -> Result<(), RingError> {
    let storage = MappedWriter::reopen(path, block.layout().size);
    let mut storage = storage.map_err(RingError::io("open", path))?;
    if let Some((first_word, words)) = block.last_stripe() {
        for (word, value) in (first_word..).zip(words) {
            storage.store(word, value);
        }
    }
    storage.store(STATE, SEALED);
    Ok(())
}

/// Writes the trusted rows to a new file in the block's place. Readers of the old one keep it.
fn rescue(
    block: &Block,
    path: &Path,
    trusted: &[Range<usize>],
    boot_id: [u8; 16],
) -> Result<Block, RingError> {
    // Of the block's own sizes, so that all of it fits whatever the configuration is now.
    let layout = Arc::new(Layout::new(block.layout().format));
    let new = with_new_suffix(path);
    let head = BlockHead { boot_id, ..*block.head() };
    let prepared =
        Prepared::make_bare(new.clone(), &layout).map_err(RingError::io("make", &new))?;
    let whole = new.with_extension("rescued.new");
    let placed = prepared.place(&layout, &head, &whole);
    let (storage, reserved) = placed.map_err(RingError::io("make", &new))?;
    let mut writer = BlockWriter::new(storage, layout, head.identity(), whole.clone(), reserved);
    let mut batch = FlowBatch::new();
    for rows in trusted {
        let mut rows = rows.clone();
        while !rows.is_empty() {
            batch.clear();
            let copied = block.copy_to(rows.clone(), &mut batch);
            for run in batch.runs() {
                append_all(&mut writer, &batch, run, path)?;
            }
            rows.start += copied;
            if copied == 0 {
                break;
            }
        }
    }
    // The old file goes only when the new one is safe.
    writer.sync()?;
    writer.seal().size?;
    fs::rename(&whole, path).map_err(RingError::io("replace", path))?;
    Block::open(path)
}

fn append_all(
    writer: &mut BlockWriter<MappedWriter>,
    batch: &FlowBatch,
    run: &Run,
    path: &Path,
) -> Result<(), RingError> {
    let mut rows = run.rows.clone();
    while !rows.is_empty() {
        match writer.append(batch, run, rows.clone())? {
            0 => {
                return Err(RingError::DamagedBlock {
                    path: path.to_owned(),
                    what: "more in it than it has room for",
                });
            }
            appended => rows.start += appended,
        }
    }
    Ok(())
}

fn describe(block: &Block, path: &Path) -> Result<SealedBlock, RingError> {
    let metadata = fs::metadata(path).map_err(RingError::io("look at", path))?;
    Ok(SealedBlock {
        id: block.id(),
        path: path.to_owned(),
        hour: block.hour(),
        rows: block.rows() as u64,
        size: metadata.blocks() * 512,
        received: block.received(),
    })
}
