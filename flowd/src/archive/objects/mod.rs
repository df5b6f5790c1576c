//! Objects: the archive's segments on an object store, read through from where they lie.
//!
//! ```text
//! segment.parquet --[Uploader]--> object of the same path, verified --> segment.remote here
//! manifest, index: always here. SegmentReader: the file if it is here, else ranges of the object
//! ```
//! A `*.remote` file, empty, is made before an object is written and goes after it was removed:
//! whatever is killed when, no object is forgotten, and a segment without either file is damage
//! that is told without asking anybody. What belongs together knows each other by a number:
//! `archive/objects.json` here, `flowd-archive.json` there. So no store writes into the objects of
//! another, and a directory that is not mounted is not taken for an empty archive.
//!
//! All waiting is in `client`, which has a runtime of its own; nothing asynchronous leaves it.

#[cfg(not(feature = "object-store"))]
#[path = "absent.rs"]
mod client;
#[cfg(feature = "object-store")]
mod client;
mod file;
mod upload;

pub(super) use file::SegmentFile;
pub use upload::{UploadCounters, Uploader};
pub(super) use upload::{Uploads, is_mark};

use super::error::ArchiveError;
use super::manifest::sync_dir;
use crate::ring::{Store, StoreLock};
use client::Client;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Says of an archive where its objects are.
const REFERENCE: &str = "objects.json";
/// Says of objects whose archive they are.
const MARK: &str = "flowd-archive.json";
/// The version of both.
const FORMAT: u32 = 1;
/// What the mark is called of a segment that has an object.
pub(super) const REMOTE_EXTENSION: &str = "remote";
/// What it is called once the object is to be removed.
pub(super) const UNWANTED_EXTENSION: &str = "unwanted";

/// Where an archive's objects are, and the number that both sides have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reference {
    format: u32,
    url: String,
    id: String,
}

/// Whose the objects under a URL are.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    format: u32,
    id: String,
}

/// What an object store answered that is not what was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectFault {
    /// There is no such object.
    Missing,
    /// It cannot be asked, or refuses.
    Refused,
}

/// The objects of an archive. What it takes to reach them is made when one is first asked for.
#[derive(Debug)]
pub struct Objects {
    archive_dir: PathBuf,
    client: Mutex<Option<Arc<Client>>>,
}

impl Objects {
    /// Those of an archive, which may have none.
    #[must_use]
    pub fn of(archive_dir: &Path) -> Arc<Self> {
        Arc::new(Self { archive_dir: archive_dir.to_owned(), client: Mutex::default() })
    }

    /// Where manifest and local segments are.
    pub(super) fn archive_dir(&self) -> &Path {
        &self.archive_dir
    }

    /// The file that says where the objects are.
    pub(super) fn reference_path(archive_dir: &Path) -> PathBuf {
        archive_dir.join(REFERENCE)
    }

    /// Where the objects are; none if all segments are local.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn url(&self) -> Result<Option<String>, ArchiveError> {
        Ok(reference(&self.archive_dir)?.map(|reference| reference.url))
    }

    /// Lets the segments of a store, made if it is not there, go to `url` from now on. A store
    /// that is bound to it already is left as it is, and nobody is asked.
    ///
    /// # Errors
    /// If it cannot be reached, or has the segments of another store; or if the store is bound
    /// elsewhere, and `url` does not have a copy.
    pub fn bind(store: &Path, url: &str) -> Result<(), ArchiveError> {
        if Store::find(store).is_err() {
            // What is wrong with the place is told before there is a store for it.
            match Client::open(url).and_then(|client| Ok((read_mark(&client)?, client))) {
                Ok((Some(_), client)) => return Err(client.foreign()),
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        let lock = StoreLock::acquire(store)?;
        let archive_dir = lock.store().archive_dir();
        let earlier = reference(&archive_dir)?;
        if earlier.as_ref().is_some_and(|earlier| earlier.url == url) {
            return Ok(());
        }
        let opened = match &earlier {
            None => Client::make(url),
            // It has a copy already, or is none that is made for a change that is refused.
            Some(_) => Client::open(url),
        };
        let client = match (opened, &earlier) {
            (Err(error), Some(earlier)) if error.is_not_found() => {
                return Err(ArchiveError::BoundElsewhere {
                    old: earlier.url.clone(),
                    new: url.to_owned(),
                });
            }
            (opened, _) => opened?,
        };
        let found = read_mark(&client)?;
        let id = match (&earlier, found) {
            (None, Some(_)) => return Err(client.foreign()),
            (None, None) => new_id()?,
            (Some(earlier), Some(mark)) if mark.id == earlier.id => mark.id,
            (Some(earlier), _) => {
                return Err(ArchiveError::BoundElsewhere {
                    old: earlier.url.clone(),
                    new: url.to_owned(),
                });
            }
        };
        // The mark first: a kill in between leaves a place that is claimed for nobody's use.
        if earlier.is_none() {
            let mark = Mark { format: FORMAT, id: id.clone() };
            client.create(MARK, json(&mark)?)?;
            if read_mark(&client)?.is_none_or(|found| found.id != id) {
                return Err(client.foreign());
            }
        }
        fs::create_dir_all(&archive_dir).map_err(ArchiveError::io("make", &archive_dir))?;
        let reference = Reference { format: FORMAT, url: url.to_owned(), id };
        write(&archive_dir.join(REFERENCE), &json(&reference)?)
    }

    /// Whoever asks for objects.
    fn client(&self) -> Result<Arc<Client>, ArchiveError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(Arc::clone(client));
        }
        let Some(Reference { url, .. }) = reference(&self.archive_dir)? else {
            let path = self.archive_dir.join(REFERENCE);
            return Err(ArchiveError::io("read", &path)(io::ErrorKind::NotFound.into()));
        };
        let opened = Arc::new(Client::open(&url)?);
        *client = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Can the objects be reached, and are they of this archive?
    ///
    /// # Errors
    /// If not.
    pub fn reach(&self) -> Result<(), ArchiveError> {
        self.check().map(drop)
    }

    /// Sees to it that the objects are of this archive.
    fn check(&self) -> Result<Arc<Client>, ArchiveError> {
        let client = self.client()?;
        let own = reference(&self.archive_dir)?;
        match (read_mark(&client)?, own) {
            (Some(mark), Some(own)) if mark.id == own.id => Ok(client),
            (Some(_), _) => Err(client.foreign()),
            (None, _) => Err(client.unmarked()),
        }
    }

    /// How many octets an object has.
    pub(super) fn size(&self, key: &str) -> Result<u64, ArchiveError> {
        self.client()?.size(key)
    }

    /// A part of an object.
    fn range(&self, key: &str, range: std::ops::Range<u64>) -> Result<bytes::Bytes, ArchiveError> {
        let mut parts = self.ranges(key, &[range])?;
        Ok(parts.pop().unwrap_or_default())
    }

    /// Parts of an object, at once.
    fn ranges(
        &self,
        key: &str,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<bytes::Bytes>, ArchiveError> {
        let client = self.client()?;
        let parts = client.ranges(key, ranges)?;
        let lengths = parts.iter().map(|part| part.len() as u64);
        if lengths.eq(ranges.iter().map(|range| range.end - range.start)) {
            Ok(parts)
        } else {
            let what = "its object is shorter";
            Err(ArchiveError::DamagedSegment { path: self.archive_dir.join(key), what })
        }
    }
}

/// The mark of a segment that has an object.
pub(super) fn remote_path(path: &Path) -> PathBuf {
    path.with_extension(REMOTE_EXTENSION)
}

fn reference(archive_dir: &Path) -> Result<Option<Reference>, ArchiveError> {
    let path = archive_dir.join(REFERENCE);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(ArchiveError::io("read", &path))?,
    };
    let reference: Option<Reference> = serde_json::from_slice(&text).ok();
    match reference {
        Some(reference) if reference.format == FORMAT => Ok(Some(reference)),
        _ => Err(ArchiveError::DamagedReference(path)),
    }
}

fn read_mark(client: &Client) -> Result<Option<Mark>, ArchiveError> {
    match client.get(MARK) {
        Ok(text) => match serde_json::from_slice::<Mark>(&text) {
            Ok(mark) if mark.format == FORMAT => Ok(Some(mark)),
            _ => Err(client.foreign()),
        },
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, ArchiveError> {
    let text = serde_json::to_vec(value);
    text.map_err(|error| ArchiveError::io("write", Path::new(REFERENCE))(error.into()))
}

fn new_id() -> Result<String, ArchiveError> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let id = fs::read_to_string(path).map_err(ArchiveError::io("read", path))?;
    Ok(id.trim().to_owned())
}

/// Replaces a small file.
fn write(path: &Path, octets: &[u8]) -> Result<(), ArchiveError> {
    let new = path.with_extension("json.new");
    let written = fs::write(&new, octets)
        .and_then(|()| fs::File::open(&new)?.sync_all())
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| path.parent().map_or(Ok(()), sync_dir));
    written.map_err(ArchiveError::io("write", path))
}
