//! SegmentReader: one segment for reading, a row group and some columns at a time, or of that
//! the pages with some rows.

use super::checks::{CheckedFile, CheckedTail, Checksums};
use super::error::ArchiveError;
use super::index::{Day, Sidecar};
use super::manifest::SegmentEntry;
use super::objects::{Objects, SegmentFile, remote_path};
use super::schema::schema;
use arrow_array::{Array, RecordBatch, RecordBatchOptions, RecordBatchReader, new_null_array};
use arrow_buffer::BooleanBuffer;
use arrow_select::concat::concat_batches;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::PageIndexPolicy;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What the file of a segment is called once the manifest lists it no more: no pattern for
/// segments finds it.
pub(super) const WITHDRAWN_EXTENSION: &str = "withdrawn";

/// Where a segment lies once the manifest lists it no more.
pub(super) fn withdrawn_path(path: &Path) -> PathBuf {
    path.with_extension(WITHDRAWN_EXTENSION)
}

/// A segment that the manifest lists. The file, or else the object, is opened for each read, so that an archive of
/// many segments needs few descriptors, and threads do not share a position in it; what its
/// footer says is kept.
#[derive(Debug)]
pub struct SegmentReader {
    entry: SegmentEntry,
    path: PathBuf,
    objects: Arc<Objects>,
    footer: OnceLock<Footer>,
}

/// What a footer says.
#[derive(Debug)]
struct Footer {
    metadata: ArrowReaderMetadata,
    /// None for a segment that was written without.
    checksums: Option<Checksums>,
}

impl SegmentReader {
    /// The reader of a segment in an archive.
    #[must_use]
    pub fn new(archive_dir: &Path, entry: SegmentEntry) -> Self {
        Self::among(&Objects::of(archive_dir), entry)
    }

    /// One of several readers that ask for objects together.
    pub(super) fn among(objects: &Arc<Objects>, entry: SegmentEntry) -> Self {
        Self {
            path: objects.archive_dir().join(&entry.path),
            entry,
            objects: Arc::clone(objects),
            footer: OnceLock::new(),
        }
    }

    /// What the manifest says of it.
    #[must_use]
    pub const fn entry(&self) -> &SegmentEntry {
        &self.entry
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Is it on the object store, and not here?
    #[must_use]
    pub fn is_remote(&self) -> bool {
        !self.path.exists() && remote_path(&self.path).exists()
    }

    /// Can the objects of its archive be reached?
    ///
    /// # Errors
    /// If not.
    pub fn reach_objects(&self) -> Result<(), ArchiveError> {
        self.objects.reach()
    }

    /// Is its file there, and as long as the manifest says? What lies within is seen when it is
    /// read, and so is an object.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self) -> Result<(), ArchiveError> {
        let file = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match fs::metadata(withdrawn_path(&self.path)) {
                    Err(_) if remote_path(&self.path).exists() => return Ok(()),
                    other => other.or(Err(error)),
                }
            }
            result => result,
        };
        let file = file.map_err(ArchiveError::io("read", &self.path))?;
        if file.len() != self.entry.bytes {
            let what = "its file is longer or shorter";
            return Err(ArchiveError::DamagedSegment { path: self.path.clone(), what });
        }
        Ok(())
    }

    /// If it is on the object store, is it as long there as the manifest says?
    ///
    /// # Errors
    /// If not.
    pub(super) fn check_object(&self) -> Result<(), ArchiveError> {
        if self.is_remote() && self.objects.size(&self.entry.path)? != self.entry.bytes {
            return Err(self.damaged("its object is longer or shorter"));
        }
        Ok(())
    }

    /// Does its footer tell of the row groups that the manifest says it has?
    ///
    /// # Errors
    /// If not, or if it cannot be read.
    pub(super) fn check_footer(&self) -> Result<(), ArchiveError> {
        let file = self.open()?;
        let footer = self.guarded(|| self.footer(&file))?;
        let groups = footer.metadata.metadata().row_groups();
        let rows = groups.iter().map(|group| usize::try_from(group.num_rows()).unwrap_or(0));
        let listed = self.entry.row_groups.iter().map(|group| group.rows);
        if rows.eq(listed) { Ok(()) } else { Err(self.damaged("other row groups")) }
    }

    /// Its index; none if it has none.
    ///
    /// # Errors
    /// If it cannot be read, or is not what the manifest says. The segment can still be read.
    pub fn sidecar(&self) -> Result<Option<Sidecar>, ArchiveError> {
        Sidecar::read(self.objects.archive_dir(), &self.entry)
    }

    /// The filters of the segments of its day.
    ///
    /// # Errors
    /// If their file cannot be read. The segment can still be.
    pub fn day(&self) -> Result<Day, ArchiveError> {
        Day::read(self.objects.archive_dir(), &self.entry.path)
    }

    /// How many row groups it has.
    #[must_use]
    pub fn row_group_count(&self) -> usize {
        self.entry.row_groups.len()
    }

    /// How many rows a row group has; 0 if there is no such group.
    #[must_use]
    pub fn row_group_rows(&self, row_group: usize) -> usize {
        self.entry.row_groups.get(row_group).map_or(0, |group| group.rows)
    }

    /// The least start and the greatest end of the flows in a row group, in milliseconds since
    /// 1970. None if a flow in it may lie at any time.
    #[must_use]
    pub fn row_group_time_range(&self, row_group: usize) -> Option<(i64, i64)> {
        self.entry.row_groups.get(row_group)?.times
    }

    /// Some columns of a row group, given by their index in the schema. A column that the
    /// segment does not have is null.
    ///
    /// # Errors
    /// If the file is gone, or not what the manifest says.
    pub fn read(&self, row_group: usize, columns: &[usize]) -> Result<RecordBatch, ArchiveError> {
        self.read_selected(row_group, columns, None)
    }

    /// The same of those rows only whose bit is set: pages without such a row are not read.
    ///
    /// # Errors
    /// If the file is gone, or not what the manifest says, or if there are not as many bits as
    /// rows.
    pub fn read_rows(
        &self,
        row_group: usize,
        columns: &[usize],
        rows: &BooleanBuffer,
    ) -> Result<RecordBatch, ArchiveError> {
        self.read_selected(row_group, columns, Some(rows))
    }

    /// How many octets each column takes in the file, in the file's order.
    ///
    /// # Errors
    /// If the file is gone, or its footer is damaged.
    pub fn column_bytes(&self) -> Result<Vec<(String, u64)>, ArchiveError> {
        let file = self.open()?;
        let footer = self.guarded(|| self.footer(&file))?;
        let mut columns: Vec<(String, u64)> = Vec::new();
        for group in footer.metadata.metadata().row_groups() {
            for chunk in group.columns() {
                let size = u64::try_from(chunk.compressed_size()).unwrap_or_default();
                let name = chunk.column_path().parts().first().map_or("", String::as_str);
                match columns.iter_mut().find(|(known, _)| known == name) {
                    Some((_, bytes)) => *bytes = bytes.saturating_add(size),
                    None => columns.push((name.to_owned(), size)),
                }
            }
        }
        Ok(columns)
    }

    fn read_selected(
        &self,
        row_group: usize,
        columns: &[usize],
        selected: Option<&BooleanBuffer>,
    ) -> Result<RecordBatch, ArchiveError> {
        let group_rows = self.row_group_rows(row_group);
        if selected.is_some_and(|selected| selected.len() != group_rows) {
            return Err(self.damaged("another number of rows"));
        }
        let rows = selected.map_or(group_rows, BooleanBuffer::count_set_bits);
        let stored = self.guarded(|| self.read_stored(row_group, columns, selected, rows))?;
        if stored.num_rows() != rows {
            return Err(self.damaged("another number of rows"));
        }
        let projected = Arc::new(schema().project(columns)?);
        let mut arrays = Vec::with_capacity(columns.len());
        for field in projected.fields() {
            let array = match stored.column_by_name(field.name()) {
                Some(array) if array.data_type() == field.data_type() => Arc::clone(array),
                Some(_) => return Err(self.damaged("a column of another type")),
                None => new_null_array(field.data_type(), rows),
            };
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(projected, arrays, &options)?)
    }

    /// What is read of a segment that is gone: some columns, and no row.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn no_rows(columns: &[usize]) -> Result<RecordBatch, ArchiveError> {
        Ok(RecordBatch::new_empty(Arc::new(schema().project(columns)?)))
    }

    /// The names of the columns that the file has.
    ///
    /// # Errors
    /// If the file is gone, or its footer is damaged.
    pub(super) fn column_names(&self) -> Result<Vec<String>, ArchiveError> {
        let file = self.open()?;
        let footer = self.guarded(|| self.footer(&file))?;
        Ok(footer.metadata.schema().fields().iter().map(|field| field.name().clone()).collect())
    }

    /// The columns that the file has of those asked for, in its own order.
    fn read_stored(
        &self,
        row_group: usize,
        columns: &[usize],
        selected: Option<&BooleanBuffer>,
        rows: usize,
    ) -> Result<RecordBatch, ArchiveError> {
        let file = self.open()?;
        let Footer { metadata, checksums } = self.footer(&file)?;
        let file = CheckedFile::new(file, checksums.clone());
        let Some(group) = metadata.metadata().row_groups().get(row_group) else {
            return Err(self.damaged("fewer row groups"));
        };
        // The rows of the group as the manifest has them bound what is read, and what is kept.
        if usize::try_from(group.num_rows()) != Ok(self.row_group_rows(row_group)) {
            return Err(self.damaged("another number of rows"));
        }
        let wanted = columns.iter().filter_map(|&column| schema().fields().get(column));
        let wanted: HashSet<&str> = wanted.map(|field| field.name().as_str()).collect();
        let fields = metadata.schema().fields().iter().enumerate();
        let roots = fields.filter(|(_, field)| wanted.contains(field.name().as_str()));
        let roots: Vec<usize> = roots.map(|(index, _)| index).collect();
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let chunks = group.columns().iter().enumerate();
        file.file().fetch(
            chunks
                .filter(|(leaf, _)| mask.leaf_included(*leaf))
                .map(|(_, chunk)| file.needed(chunk.byte_range())),
        )?;
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
            .with_row_groups(vec![row_group])
            .with_projection(mask)
            .with_batch_size(rows.max(1));
        if let Some(selected) = selected {
            let selection = RowSelection::from_boolean_buffer(selected.clone());
            reader = reader.with_row_selection(selection);
        }
        let reader = reader.build().map_err(ArchiveError::segment(&self.path))?;
        let projected = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>();
        let batches = batches.map_err(|error| ArchiveError::segment(&self.path)(error.into()))?;
        match <[RecordBatch; 1]>::try_from(batches) {
            Ok([batch]) => Ok(batch),
            Err(batches) => Ok(concat_batches(&projected, &batches)?),
        }
    }

    /// Opens the file, also after it was withdrawn: it stays for a while, so that those who read
    /// by an older manifest end what they began. Without one it is the object, if there is one.
    pub(super) fn open(&self) -> Result<SegmentFile, ArchiveError> {
        let opened = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match File::open(withdrawn_path(&self.path)) {
                    Err(_) if remote_path(&self.path).exists() => {
                        let SegmentEntry { path, bytes, .. } = &self.entry;
                        return Ok(SegmentFile::object(&self.objects, path, *bytes));
                    }
                    other => other.or(Err(error)),
                }
            }
            result => result,
        };
        opened.map(SegmentFile::Local).map_err(ArchiveError::io("open", &self.path))
    }

    /// What the footer says, and where the pages lie.
    fn footer(&self, file: &SegmentFile) -> Result<&Footer, ArchiveError> {
        if let Some(footer) = self.footer.get() {
            return Ok(footer);
        }
        file.fetch_tail()?;
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
        let footer = match &self.entry.tail {
            Some(entry) => {
                let tail =
                    CheckedTail::read(file, entry).map_err(ArchiveError::segment(&self.path))?;
                let metadata = ArrowReaderMetadata::load(&tail, options);
                let metadata = metadata.map_err(ArchiveError::segment(&self.path))?;
                let checksums = tail.checksums(metadata.metadata());
                if checksums.is_none() {
                    return Err(self.damaged("no checksums"));
                }
                Footer { metadata, checksums }
            }
            None => {
                let metadata = ArrowReaderMetadata::load(file, options);
                let metadata = metadata.map_err(ArchiveError::segment(&self.path))?;
                Footer { metadata, checksums: None }
            }
        };
        // If two threads read it at once, one of the two stays.
        Ok(self.footer.get_or_init(|| footer))
    }

    /// Reads what may be damaged: the library asserts here and there what damaged octets do not
    /// hold to, and whoever asks is to be told which file it is.
    fn guarded<T>(
        &self,
        read: impl FnOnce() -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        // What is shared is the footer, which is whole or not there.
        catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|_| Err(self.damaged("its octets make no sense")))
    }

    fn damaged(&self, what: &'static str) -> ArchiveError {
        ArchiveError::DamagedSegment { path: self.path.clone(), what }
    }
}
