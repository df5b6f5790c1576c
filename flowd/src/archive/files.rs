//! The files of an archive, as a start finds them: what is whole, what waits to be removed, and
//! what a kill left half written.

use super::error::ArchiveError;
use super::manifest::{Entry, Manifest, remove_if_there};
use super::objects::{REMOTE_EXTENSION, UNWANTED_EXTENSION, is_mark};
use super::retention::WithdrawnFile;
use super::segment::WITHDRAWN_EXTENSION;
use super::writer::NEW_SUFFIX;
use crate::model::RecordType;
use crate::model::time::UnixMillis;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tracing::warn;

/// What a segment is called that the manifest does not list.
const UNLISTED_EXTENSION: &str = "unlisted";

/// Looks at the files that are there: what a kill left half written goes, what is withdrawn goes
/// later, and what no line tells of is put aside.
pub(super) fn take_up_files(
    archive_dir: &Path,
    manifest: &Manifest,
    grace_millis: i64,
) -> Result<Vec<WithdrawnFile>, ArchiveError> {
    let held: BTreeSet<&str> = manifest.segments().map(|segment| segment.path.as_str()).collect();
    let lines = manifest.entries().filter_map(Entry::segment);
    let told: BTreeSet<&str> = lines.map(|segment| segment.path.as_str()).collect();
    let mut withdrawn = Vec::new();
    for path in segment_files(archive_dir)? {
        let relative = path.strip_prefix(archive_dir).ok().and_then(Path::to_str).unwrap_or("");
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        let id = stem.parse::<u64>().ok();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") if held.contains(relative) => {}
            Some("parquet") if id.is_some_and(|id| manifest.may_list(id)) => {}
            Some("parquet")
                if told.contains(relative) || id.is_some_and(|id| manifest.is_past(id)) =>
            {
                // Withdrawn just before a kill.
                let due = UnixMillis(i64::MIN);
                withdrawn.push(WithdrawnFile { path, is_renamed: false, due });
            }
            // Whoever reads all files by a pattern would find its records twice. It is kept
            // under another name: should the manifest be an old copy, it has the only ones.
            Some("parquet") => {
                let aside = path.with_extension(UNLISTED_EXTENSION);
                fs::rename(&path, &aside).map_err(ArchiveError::io("rename", &path))?;
                warn!(file = %aside.display(), "a segment that the manifest does not list");
            }
            // Of an object: it goes if the segment was withdrawn, and else is what the segment is.
            Some(REMOTE_EXTENSION | UNWANTED_EXTENSION) => {
                let path = path.with_extension("parquet");
                let relative = Path::new(relative).with_extension("parquet");
                let relative = relative.to_str().unwrap_or("");
                let is_past =
                    || told.contains(relative) || id.is_some_and(|id| manifest.is_past(id));
                if !held.contains(relative) && is_past() {
                    let due = UnixMillis(i64::MIN);
                    withdrawn.push(WithdrawnFile { path, is_renamed: true, due });
                }
            }
            Some(WITHDRAWN_EXTENSION) => {
                // When it was renamed, by the file system's own clock.
                let renamed = fs::metadata(&path).map_or(0, |file| file.ctime());
                let due = UnixMillis(renamed.saturating_mul(1_000).saturating_add(grace_millis));
                let path = path.with_extension("parquet");
                withdrawn.push(WithdrawnFile { path, is_renamed: true, due });
            }
            _ => remove_if_there(&path)?,
        }
    }
    Ok(withdrawn)
}

/// The segments in an archive's directories, and what is left of segments that were being
/// written.
pub(super) fn segment_files(archive_dir: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
    let mut files = Vec::new();
    for root in [RecordType::Flow, RecordType::Options, RecordType::Counters] {
        let root = match root {
            RecordType::Flow => archive_dir.to_owned(),
            other => archive_dir.join(other.name()),
        };
        for date in entries(&root, "date=")? {
            for hour in entries(&date, "hour=")? {
                for path in entries(&hour, "")? {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
                    let id = name.strip_suffix(".parquet").map(str::parse::<u64>);
                    let is_withdrawn = name.ends_with(&format!(".{WITHDRAWN_EXTENSION}"));
                    if matches!(id, Some(Ok(_)))
                        || is_withdrawn
                        || is_mark(name)
                        || name.ends_with(NEW_SUFFIX)
                    {
                        files.push(path);
                    }
                }
            }
        }
    }
    Ok(files)
}

pub(super) fn entries(directory: &Path, prefix: &str) -> Result<Vec<PathBuf>, ArchiveError> {
    let listed = match fs::read_dir(directory) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        result => result.map_err(ArchiveError::io("read", directory))?,
    };
    let paths = listed.map(|entry| Ok(entry?.path()));
    let paths: io::Result<Vec<_>> = paths.collect();
    let mut paths = paths.map_err(ArchiveError::io("read", directory))?;
    paths.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(prefix))
    });
    Ok(paths)
}
