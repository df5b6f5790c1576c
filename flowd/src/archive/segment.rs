//! SegmentReader: one segment for reading, a row group and some columns at a time.

use super::error::ArchiveError;
use super::index::{Day, Sidecar, day_path, sidecar_path};
use super::manifest::SegmentEntry;
use super::schema::schema;
use arrow_array::{Array, RecordBatch, RecordBatchOptions, RecordBatchReader, new_null_array};
use arrow_select::concat::concat_batches;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A segment that the manifest lists. The file is opened for each read, so that an archive of
/// many segments needs few descriptors, and threads do not share a position in it; what its
/// footer says is kept.
#[derive(Debug)]
pub struct SegmentReader {
    entry: SegmentEntry,
    path: PathBuf,
    archive_dir: PathBuf,
    footer: OnceLock<ArrowReaderMetadata>,
}

impl SegmentReader {
    /// The reader of a segment in an archive.
    #[must_use]
    pub fn new(archive_dir: &Path, entry: SegmentEntry) -> Self {
        Self {
            path: archive_dir.join(&entry.path),
            entry,
            archive_dir: archive_dir.to_owned(),
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

    /// Is its file there, and as long as the manifest says? What lies within is seen when it is
    /// read.
    pub(super) fn check(&self) -> Result<(), ArchiveError> {
        let file = fs::metadata(&self.path).map_err(ArchiveError::io("read", &self.path))?;
        if file.len() != self.entry.bytes {
            let what = "its file is longer or shorter";
            return Err(ArchiveError::DamagedSegment { path: self.path.clone(), what });
        }
        Ok(())
    }

    /// Does its footer tell of the row groups that the manifest says it has?
    ///
    /// # Errors
    /// If not, or if it cannot be read.
    pub(super) fn check_footer(&self) -> Result<(), ArchiveError> {
        let file = File::open(&self.path).map_err(ArchiveError::io("open", &self.path))?;
        let groups = self.footer(&file)?.metadata().row_groups();
        let rows = groups.iter().map(|group| usize::try_from(group.num_rows()).unwrap_or(0));
        let listed = self.entry.row_groups.iter().map(|group| group.rows);
        if rows.eq(listed) { Ok(()) } else { Err(self.damaged("other row groups")) }
    }

    /// Its index; none if it has none.
    ///
    /// # Errors
    /// If it cannot be read, or is not what the manifest says. The segment can still be read.
    pub fn sidecar(&self) -> Result<Option<Sidecar>, ArchiveError> {
        Sidecar::read(&self.archive_dir, &self.entry)
    }

    /// The filters of the segments of its day.
    ///
    /// # Errors
    /// If their file cannot be read. The segment can still be.
    pub fn day(&self) -> Result<Day, ArchiveError> {
        Day::read(&self.archive_dir, &self.entry.path)
    }

    /// The file of its day.
    pub(super) fn day_path(&self) -> PathBuf {
        day_path(&self.archive_dir, &self.entry.path)
    }

    /// Octets of its index.
    pub(super) fn index_bytes(&self) -> u64 {
        match &self.entry.index {
            Some(index) => index.bytes,
            // One that was made later, or none.
            None => fs::metadata(sidecar_path(&self.archive_dir, &self.entry.path))
                .map_or(0, |file| file.len()),
        }
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

    /// Some columns of a row group, given by their index in the schema. A column that an older
    /// segment does not have is null.
    ///
    /// # Errors
    /// If the file is gone, or not what the manifest says.
    pub fn read(&self, row_group: usize, columns: &[usize]) -> Result<RecordBatch, ArchiveError> {
        let rows = self.row_group_rows(row_group);
        let stored = self.read_stored(row_group, columns, rows)?;
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

    /// The columns that the file has of those asked for, in its own order.
    fn read_stored(
        &self,
        row_group: usize,
        columns: &[usize],
        rows: usize,
    ) -> Result<RecordBatch, ArchiveError> {
        let file = File::open(&self.path).map_err(ArchiveError::io("open", &self.path))?;
        let metadata = self.footer(&file)?;
        if row_group >= metadata.metadata().num_row_groups() {
            return Err(self.damaged("fewer row groups"));
        }
        let fields = metadata.schema().fields().iter().enumerate();
        let wanted = |name: &String| {
            columns.iter().any(|&column| {
                let fields = schema().fields();
                fields.get(column).is_some_and(|field| field.name() == name)
            })
        };
        let roots = fields.filter(|(_, field)| wanted(field.name()));
        let roots: Vec<usize> = roots.map(|(index, _)| index).collect();
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
            .with_row_groups(vec![row_group])
            .with_projection(mask)
            .with_batch_size(rows.max(1))
            .build()
            .map_err(ArchiveError::segment(&self.path))?;
        let projected = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        match <[RecordBatch; 1]>::try_from(batches) {
            Ok([batch]) => Ok(batch),
            Err(batches) => Ok(concat_batches(&projected, &batches)?),
        }
    }

    fn footer(&self, file: &File) -> Result<&ArrowReaderMetadata, ArchiveError> {
        if let Some(footer) = self.footer.get() {
            return Ok(footer);
        }
        let footer = ArrowReaderMetadata::load(file, ArrowReaderOptions::new())
            .map_err(ArchiveError::segment(&self.path))?;
        // If two threads read it at once, one of the two stays.
        Ok(self.footer.get_or_init(|| footer))
    }

    fn damaged(&self, what: &'static str) -> ArchiveError {
        ArchiveError::DamagedSegment { path: self.path.clone(), what }
    }
}
