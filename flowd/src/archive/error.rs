//! What can go wrong in the archive, and what the user can do about it.

use super::objects::ObjectFault;
use crate::ring::RingError;
use parquet::errors::ParquetError;
use std::io;
use std::path::{Path, PathBuf};

/// Why the archive cannot do what was asked. Each text is one line that names the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The ring refused.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifest is not what flowd wrote.
    #[error("manifest {} is damaged ({what}): restore it from a copy, the segments beside it are untouched", path.display())]
    DamagedManifest {
        /// The manifest.
        path: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// The manifest has a format that this program does not know.
    #[error("manifest {} has format {found}, this flowd knows {known}: use the flowd that wrote it", path.display())]
    ManifestFormat {
        /// The manifest.
        path: PathBuf,
        /// The format it says it has.
        found: String,
        /// The format that is known here.
        known: u32,
    },
    /// There are segments, but nothing that lists them.
    #[error("archive {} has segments but no manifest.jsonl: restore it from a copy, or move the segments away", .0.display())]
    MissingManifest(PathBuf),
    /// A segment cannot be read or written as Parquet.
    #[error("segment {}: {source}", path.display())]
    Segment {
        /// The segment.
        path: PathBuf,
        /// What the Parquet library said.
        source: ParquetError,
    },
    /// A segment has fewer row groups or rows, or a column of another type, than it should.
    #[error("segment {} is not what the manifest says ({what}): restore it from a copy", path.display())]
    DamagedSegment {
        /// The segment.
        path: PathBuf,
        /// What does not hold.
        what: &'static str,
    },
    /// A file of the index is not what was written.
    #[error("index {} is damaged ({what}): run `flowd store compact --reindex`", path.display())]
    DamagedIndex {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        what: &'static str,
    },
    /// An object store refuses, or cannot be reached.
    #[error("cannot {doing} {url}: {what}; see {}", what_to_see(url))]
    Object {
        /// What was being done.
        doing: &'static str,
        /// To which object.
        url: String,
        /// Of what kind the answer was.
        fault: ObjectFault,
        /// What was answered.
        what: String,
    },
    /// A URL at which no segments can be kept.
    #[error("archive {url}: {what}")]
    ObjectUrl {
        /// The URL.
        url: String,
        /// Why not.
        what: String,
    },
    /// A store whose segments are elsewhere.
    #[error("the store keeps its segments at {old}: copy all objects from there to {new} first")]
    BoundElsewhere {
        /// Where they are.
        old: String,
        /// Where they were to go.
        new: String,
    },
    /// What says where the objects are cannot be read.
    #[error("{} is damaged, or of a later flowd: restore it from a copy", .0.display())]
    DamagedReference(PathBuf),
    /// Columns that do not make a batch.
    #[error("cannot lay out records by column: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
}

/// What whoever cannot reach an object store is to look at.
fn what_to_see(url: &str) -> &'static str {
    if url.starts_with("file:") {
        "that its disk is mounted, and who may use it"
    } else {
        "that the store can be reached from here, and what AWS_ENDPOINT, AWS_REGION, \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say"
    }
}

impl ArchiveError {
    /// Is it that a file is not there?
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Object { fault, .. } => *fault == ObjectFault::Missing,
            _ => false,
        }
    }

    /// Is it that the file of a segment is there, but not what was written?
    #[must_use]
    pub const fn is_damaged_segment(&self) -> bool {
        matches!(self, Self::Segment { .. } | Self::DamagedSegment { .. })
    }

    /// Makes the error of a refused system call.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// Makes the error of a segment. What an object store said under way stays what it was.
    pub(super) fn segment(path: &Path) -> impl FnOnce(ParquetError) -> Self {
        move |source| {
            let other = |source| Self::Segment { path: path.to_owned(), source };
            match source {
                ParquetError::External(source) => match source.downcast::<Self>() {
                    Ok(own) => *own,
                    Err(source) => other(ParquetError::External(source)),
                },
                source => other(source),
            }
        }
    }

    /// Does an object store refuse, or not answer? Then what it has is not known to be damaged.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Object { fault: ObjectFault::Refused, .. } | Self::ObjectUrl { .. })
    }
}
