//! SegmentWriter: sealed blocks into one Parquet file.

use super::checks::Summing;
use super::cluster::clustered;
use super::columns::block_batch;
use super::encodings::properties;
use super::error::ArchiveError;
use super::index::{IndexBuilder, SegmentTally};
use super::manifest::{Covered, RowGroupEntry, SegmentEntry, hex, sync_dir};
use super::schema::{SegmentColumns, schema};
use super::times::FlowSpan;
use crate::model::RecordType;
use crate::model::time::UnixMillis;
use crate::ring::{Block, BlockId};
use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files with this ending are in no manifest, and are removed at a restart.
pub(super) const NEW_SUFFIX: &str = ".new";

/// What a segment is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentConfig {
    /// Rows of a row group.
    pub row_group_rows: usize,
    /// The level of zstd.
    pub compression_level: i32,
}

impl Default for SegmentConfig {
    fn default() -> Self {
        Self { row_group_rows: 131_072, compression_level: 1 }
    }
}

/// A segment that is being written, under a name that nobody reads. If it is not finished, its
/// file goes.
pub(super) struct SegmentWriter {
    archive_dir: PathBuf,
    new: NewFile,
    writer: ArrowWriter<HashingFile>,
    columns: SegmentColumns,
    config: SegmentConfig,
    entry: SegmentEntry,
    /// The row group that is being filled.
    group_rows: usize,
    group_span: FlowSpan,
    /// Only flows are looked for.
    index: Option<IndexBuilder>,
    tally: Option<SegmentTally>,
}

/// A file that has no place yet. What is left of it when it is dropped is removed, so that a
/// full disk is not filled with tries.
struct NewFile(PathBuf);

impl Drop for NewFile {
    fn drop(&mut self) {
        // It is there only if it was not given its name. If it stays, a restart removes it.
        drop(fs::remove_file(&self.0));
    }
}

/// Counts and hashes what it passes on to a file.
struct HashingFile {
    file: BufWriter<File>,
    sha256: Sha256,
    checks: Summing,
    size: u64,
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = self.file.write(bytes)?;
        self.sha256.update(&bytes[..size]);
        self.checks.update(&bytes[..size]);
        self.size += size as u64;
        Ok(size)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl SegmentWriter {
    /// Begins the segment `id`, for records of one type and one hour of receipt, with those
    /// columns that any of them has a value in.
    pub(super) fn create(
        archive_dir: &Path,
        id: u64,
        record_type: RecordType,
        hour: i64,
        columns: SegmentColumns,
        config: SegmentConfig,
    ) -> Result<Self, ArchiveError> {
        let path = segment_path(id, record_type, hour);
        let new = NewFile(archive_dir.join(format!("{path}{NEW_SUFFIX}")));
        let directory = new.0.parent().unwrap_or(archive_dir);
        fs::create_dir_all(directory).map_err(ArchiveError::io("make", directory))?;
        let file = File::create(&new.0).map_err(ArchiveError::io("make", &new.0))?;
        let file = HashingFile {
            file: BufWriter::with_capacity(1 << 20, file),
            sha256: Sha256::new(),
            checks: Summing::default(),
            size: 0,
        };
        let properties = properties(config).map_err(ArchiveError::segment(&new.0))?;
        let projected = Arc::new(schema().project(columns.indices())?);
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            // The types of the file say all that Arrow's would.
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(file, projected, options)
            .map_err(ArchiveError::segment(&new.0))?;
        Ok(Self {
            archive_dir: archive_dir.to_owned(),
            new,
            writer,
            columns,
            config,
            entry: SegmentEntry {
                id,
                path,
                record_type,
                hour,
                covered: Vec::new(),
                rows: 0,
                row_groups: Vec::new(),
                received: (i64::MAX, i64::MIN),
                bytes: 0,
                sha256: String::new(),
                tail: None,
                index: None,
            },
            group_rows: 0,
            group_span: FlowSpan::default(),
            index: (record_type == RecordType::Flow).then(|| IndexBuilder::new(id)),
            tally: None,
        })
    }

    /// Adds all rows of a sealed block.
    pub(super) fn write(&mut self, block: &Arc<Block>) -> Result<(), ArchiveError> {
        assert!(block.is_sealed(), "only sealed blocks are archived");
        let mut first = 0;
        while first < block.rows() {
            let room = self.config.row_group_rows - self.group_rows;
            let rows = first..block.rows().min(first + room);
            let batch = block_batch(block, rows.clone(), self.columns.indices())?;
            let batch = clustered(block, rows.clone(), batch)?;
            self.group_span.add(block, rows.clone());
            if self.index.is_some() {
                let hour = self.entry.hour;
                self.tally.get_or_insert_with(|| SegmentTally::of_hour(hour)).add(&batch);
            }
            self.write_rows(&batch)?;
            first = rows.end;
        }
        let (earliest, latest) = block.received();
        let received = &mut self.entry.received;
        *received = (received.0.min(earliest), received.1.max(latest));
        self.entry.rows += block.rows() as u64;
        let BlockId { shard, lane, number } = block.id();
        self.cover(Covered { shard, lane, first: number, last: number });
        Ok(())
    }

    /// Adds rows of another segment, whose flows lie within some times.
    pub(super) fn write_batch(
        &mut self,
        batch: &RecordBatch,
        times: Option<(i64, i64)>,
    ) -> Result<(), ArchiveError> {
        let mut first = 0;
        while first < batch.num_rows() {
            let room = self.config.row_group_rows - self.group_rows;
            let count = room.min(batch.num_rows() - first);
            self.group_span.add_range(times);
            self.write_rows(&batch.slice(first, count))?;
            first += count;
        }
        Ok(())
    }

    /// What the flows of its blocks add to the ledger of addresses, to be handed on once the
    /// segment is listed. Rows of other segments are not in it.
    pub(super) const fn take_tally(&mut self) -> Option<SegmentTally> {
        self.tally.take()
    }

    /// Takes the place of a segment whose rows were all added.
    pub(super) fn take_over(&mut self, segment: &SegmentEntry) {
        let received = &mut self.entry.received;
        *received = (received.0.min(segment.received.0), received.1.max(segment.received.1));
        self.entry.rows += segment.rows;
        segment.covered.iter().for_each(|covered| self.cover(*covered));
    }

    /// Adds rows that fit into the row group, and ends it if it is full.
    fn write_rows(&mut self, batch: &RecordBatch) -> Result<(), ArchiveError> {
        let written = self.writer.write(batch);
        written.map_err(ArchiveError::segment(&self.new.0))?;
        if let Some(index) = &mut self.index {
            index.add_rows(batch);
        }
        self.group_rows += batch.num_rows();
        if self.group_rows == self.config.row_group_rows {
            self.end_row_group()?;
        }
        Ok(())
    }

    /// Waits until the segment is on disk, and gives it its name. It counts only when the
    /// manifest lists it.
    pub(super) fn finish(mut self) -> Result<SegmentEntry, ArchiveError> {
        self.end_row_group()?;
        let Self { archive_dir, new, mut writer, mut entry, index, .. } = self;
        // All data is to have passed by before its checksums are asked for.
        writer.sync().map_err(ArchiveError::io("write", &new.0))?;
        let checksums = writer.inner_mut().checks.end_data();
        writer.append_key_value_metadata(checksums);
        let written = writer.into_inner().map_err(ArchiveError::segment(&new.0))?;
        let HashingFile { file, sha256, checks, size } = written;
        entry.bytes = size;
        entry.tail = checks.tail();
        entry.sha256 = hex(&sha256.finalize());
        entry.index = index.and_then(|index| index.write(&archive_dir, &entry.path, &entry.sha256));
        let path = archive_dir.join(&entry.path);
        let named = file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&new.0, &path))
            .and_then(|()| sync_dirs(&archive_dir, &path));
        named.map_err(ArchiveError::io("write", &new.0))?;
        Ok(entry)
    }

    fn end_row_group(&mut self) -> Result<(), ArchiveError> {
        if self.group_rows == 0 {
            return Ok(());
        }
        let flushed = self.writer.flush();
        flushed.map_err(ArchiveError::segment(&self.new.0))?;
        if let Some(index) = &mut self.index {
            index.end_row_group();
        }
        self.entry.row_groups.push(RowGroupEntry {
            rows: std::mem::take(&mut self.group_rows),
            times: std::mem::take(&mut self.group_span).range(),
        });
        Ok(())
    }

    fn cover(&mut self, blocks: Covered) {
        let before = self.entry.covered.iter_mut().find(|covered| {
            (covered.shard, covered.lane, covered.last + 1)
                == (blocks.shard, blocks.lane, blocks.first)
        });
        match before {
            Some(covered) => covered.last = blocks.last,
            None => self.entry.covered.push(blocks),
        }
    }
}

/// Flows lie in directories of their own, so that `date=*/hour=*/*.parquet` names all flows and
/// nothing else.
fn segment_path(id: u64, record_type: RecordType, hour: i64) -> String {
    let hour_path = UnixMillis::of_hour(hour).hour_path();
    match record_type {
        RecordType::Flow => format!("{hour_path}/{id:08}.parquet"),
        other => format!("{}/{hour_path}/{id:08}.parquet", other.name()),
    }
}

/// Waits until the names of a file and of the directories above it are on disk.
fn sync_dirs(archive_dir: &Path, path: &Path) -> io::Result<()> {
    let directories = path.ancestors().skip(1);
    for directory in directories.take_while(|directory| directory.starts_with(archive_dir)) {
        sync_dir(directory)?;
    }
    Ok(())
}
