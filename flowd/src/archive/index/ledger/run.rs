//! Run: a file of what is known of addresses, sorted, in blocks that each speak for themselves.
//!
//! ```text
//! blocks of 4096 octets: XXH3 of the rest:8 token of the run:8 number of the block:4 records:4
//!                        the records, each as the difference to the one before; zeros
//! ```
//! An address is found by halving, and each block that is looked at is checked: no more is read
//! of a file than the answer needs.

use super::host::{self, Before, HostKey, HostRecord, RECORD_SIZE_MAX, Seen};
use crate::archive::error::ArchiveError;
use crate::archive::index::bytes::{Reader, put_u32, put_u64};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

pub(super) const BLOCK_SIZE: usize = 4_096;
const HEAD_SIZE: usize = 24;
/// Of a network with more addresses than these blocks hold it is said that it was met on every
/// day of the run.
const RANGE_BLOCKS_MAX: u32 = 4;

/// What a run's file is called.
pub(super) fn file_name(token: u64) -> String {
    format!("{token:016x}.run")
}

/// Writes a run, whose records come in the order of their keys.
pub(super) struct RunWriter {
    path: PathBuf,
    file: BufWriter<File>,
    token: u64,
    blocks: u32,
    hosts: u64,
    records: u32,
    block: Vec<u8>,
    before: Before,
}

impl RunWriter {
    pub(super) fn create(directory: &Path, token: u64) -> Result<Self, ArchiveError> {
        let path = directory.join(file_name(token));
        let file = File::create(&path).map_err(ArchiveError::io("make", &path))?;
        let block = Vec::with_capacity(BLOCK_SIZE + RECORD_SIZE_MAX);
        let file = BufWriter::with_capacity(64 * BLOCK_SIZE, file);
        let before = Before::default();
        Ok(Self { path, file, token, blocks: 0, hosts: 0, records: 0, block, before })
    }

    pub(super) fn push(&mut self, record: &HostRecord) -> Result<(), ArchiveError> {
        if HEAD_SIZE + self.block.len() + RECORD_SIZE_MAX > BLOCK_SIZE {
            self.end_block().map_err(ArchiveError::io("write", &self.path))?;
        }
        host::encode(record, &mut self.before, &mut self.block);
        self.records += 1;
        self.hosts += 1;
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let mut rest = Vec::with_capacity(BLOCK_SIZE);
        put_u64(&mut rest, self.token);
        put_u32(&mut rest, self.blocks);
        put_u32(&mut rest, self.records);
        rest.extend_from_slice(&self.block);
        rest.resize(BLOCK_SIZE - 8, 0);
        self.file.write_all(&xxh3_64(&rest).to_le_bytes())?;
        self.file.write_all(&rest)?;
        self.blocks += 1;
        self.records = 0;
        self.block.clear();
        self.before = Before::default();
        Ok(())
    }

    /// Ends the file, safe on disk except for its name; its blocks, and the addresses in it.
    pub(super) fn finish(mut self) -> Result<(u32, u64), ArchiveError> {
        let mut end = || {
            if self.records > 0 {
                self.end_block()?;
            }
            self.file.flush()?;
            self.file.get_ref().sync_all()
        };
        end().map_err(ArchiveError::io("write", &self.path))?;
        Ok((self.blocks, self.hosts))
    }
}

/// A run that is there, as long as it should be. What is in it is checked as it is read.
#[derive(Debug)]
pub(super) struct RunReader {
    path: PathBuf,
    file: File,
    token: u64,
    blocks: u32,
}

impl RunReader {
    pub(super) fn open(directory: &Path, token: u64, blocks: u32) -> Result<Self, ArchiveError> {
        let path = directory.join(file_name(token));
        let file = File::open(&path).map_err(ArchiveError::io("open", &path))?;
        let size = file.metadata().map_err(ArchiveError::io("read", &path))?.len();
        let run = Self { path, file, token, blocks };
        if size != u64::from(blocks) * BLOCK_SIZE as u64 {
            return Err(run.damaged("it is longer or shorter"));
        }
        Ok(run)
    }

    fn damaged(&self, what: &'static str) -> ArchiveError {
        ArchiveError::DamagedIndex { path: self.path.clone(), what }
    }

    /// The octets of a block's records, and how many these are.
    fn block(&self, number: u32) -> Result<Block, ArchiveError> {
        let mut bytes = vec![0; BLOCK_SIZE];
        let at = u64::from(number) * BLOCK_SIZE as u64;
        self.file.read_exact_at(&mut bytes, at).map_err(ArchiveError::io("read", &self.path))?;
        let mut reader = Reader(&bytes);
        let is_whole = reader.u64() == Some(xxh3_64(&bytes[8..]))
            && reader.u64() == Some(self.token)
            && reader.u32() == Some(number);
        match reader.u32() {
            Some(records) if is_whole && records > 0 => Ok(Block { bytes, records }),
            _ => Err(self.damaged("a block of it does not hold")),
        }
    }

    /// The records of a block.
    fn records(&self, number: u32) -> Result<Vec<HostRecord>, ArchiveError> {
        let block = self.block(number)?;
        let (mut rest, mut before) = (&block.bytes[HEAD_SIZE..], Before::default());
        let records = (0..block.records).map(|_| host::decode(&mut rest, &mut before));
        let records: Option<Vec<HostRecord>> = records.collect();
        records.ok_or_else(|| self.damaged("a block of it does not hold"))
    }

    fn first_key(&self, number: u32) -> Result<HostKey, ArchiveError> {
        let block = self.block(number)?;
        let first = host::decode(&mut &block.bytes[HEAD_SIZE..], &mut Before::default());
        let first = first.ok_or_else(|| self.damaged("a block of it does not hold"))?;
        Ok(first.key)
    }

    /// The block in which a key lies, or would lie.
    fn block_of(&self, key: HostKey) -> Result<u32, ArchiveError> {
        // The first block after it.
        let (mut low, mut high) = (0, self.blocks);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.first_key(middle)? <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.saturating_sub(1))
    }

    /// What is known of an address.
    pub(super) fn find(&self, key: HostKey) -> Result<Option<Seen>, ArchiveError> {
        if self.blocks == 0 {
            return Ok(None);
        }
        let records = self.records(self.block_of(key)?)?;
        let found = records.binary_search_by_key(&key, |record| record.key);
        Ok(found.ok().map(|index| records[index].seen))
    }

    /// The days on which addresses from one to another were met; `all` days of the run if
    /// these are too many to look at.
    pub(super) fn days_between(
        &self,
        first: HostKey,
        last: HostKey,
        all: u32,
    ) -> Result<u32, ArchiveError> {
        if self.blocks == 0 {
            return Ok(0);
        }
        let start = self.block_of(first)?;
        let mut days = 0;
        for number in start..self.blocks {
            if number - start >= RANGE_BLOCKS_MAX {
                return Ok(all);
            }
            for HostRecord { key, seen } in self.records(number)? {
                if key > last {
                    return Ok(days);
                }
                if key >= first {
                    days |= seen.days;
                }
            }
            if days == all {
                break;
            }
        }
        Ok(days)
    }

    /// All records in their order.
    pub(super) fn into_records(self) -> Records {
        Records { run: self, next: 0, records: Vec::new().into_iter() }
    }

    /// Reads all of it: how many addresses?
    pub(super) fn check(&self) -> Result<u64, ArchiveError> {
        let (mut hosts, mut previous) = (0, None);
        for number in 0..self.blocks {
            for HostRecord { key, .. } in self.records(number)? {
                if previous.is_some_and(|previous| previous >= key) {
                    return Err(self.damaged("its addresses are not in their order"));
                }
                previous = Some(key);
                hosts += 1;
            }
        }
        Ok(hosts)
    }
}

struct Block {
    bytes: Vec<u8>,
    records: u32,
}

/// The records of a run, a block at a time.
#[derive(Debug)]
pub(super) struct Records {
    run: RunReader,
    next: u32,
    records: std::vec::IntoIter<HostRecord>,
}

impl Records {
    pub(super) fn next(&mut self) -> Result<Option<HostRecord>, ArchiveError> {
        loop {
            if let Some(record) = self.records.next() {
                return Ok(Some(record));
            }
            if self.next == self.run.blocks {
                return Ok(None);
            }
            self.records = self.run.records(self.next)?.into_iter();
            self.next += 1;
        }
    }
}
