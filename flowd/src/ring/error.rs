//! What can go wrong in the ring, and what the user can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the ring cannot do what was asked. Each text is one line that names the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Another process writes to the store.
    #[error("store {} is in use by {}: stop it or name another --store", store.display(), holder(*process))]
    StoreInUse {
        /// The store.
        store: PathBuf,
        /// The process that holds it, if it left its number.
        process: Option<u32>,
    },
    /// The path is a file or something else that cannot hold a store.
    #[error("{} is not a directory: name a directory for the store", .0.display())]
    NotADirectory(PathBuf),
    /// The directory has files but no store's mark.
    #[error("{} is not a flowd store (it has files but no flowd.json): name an empty directory or a store", .0.display())]
    NotAStore(PathBuf),
    /// There is no store to read.
    #[error("there is no store at {}: `flowd collect --store` makes one", .0.display())]
    NoStore(PathBuf),
    /// The store was written in a format that this program does not know.
    #[error("store {} has format {found}, this flowd knows {known}: use the flowd that wrote it", store.display())]
    StoreFormat {
        /// The store.
        store: PathBuf,
        /// The format it says it has.
        found: String,
        /// The format that is known here.
        known: u32,
    },
    /// The store's blocks lie in a directory elsewhere, which is not there.
    #[error("the ring of store {} is gone: it was in {}, and with it what was not archived yet; if that is not mounted, mount it", store.display(), ring.display())]
    RingGone {
        /// The store.
        store: PathBuf,
        /// Where its blocks were.
        ring: PathBuf,
    },
    /// The directory has the blocks of another store, or of the one that this is a copy of.
    #[error("{} holds the ring of another store than {}: name another --ring-dir", ring.display(), store.display())]
    RingOfAnother {
        /// The store that asked.
        store: PathBuf,
        /// The directory.
        ring: PathBuf,
    },
    /// The ring cannot go elsewhere while there are blocks in it.
    #[error("the ring of store {} is in {} and holds records: collect with that --ring-dir and end it with SIGTERM, which archives them", store.display(), ring.display())]
    RingInUse {
        /// The store.
        store: PathBuf,
        /// Where its blocks are.
        ring: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No room on the file system.
    #[error("no space left for {}: free some, or lower --ring-size or --backlog-max", .0.display())]
    NoSpace(PathBuf),
    /// The ring and its backlog are full and nothing in them may be dropped.
    #[error(
        "the ring is full ({size} bytes in blocks): the archive does not keep up, see --backlog-max and --when-full"
    )]
    Full {
        /// Bytes held in block files.
        size: u64,
    },
    /// A block file that cannot be what a writer left.
    #[error("ring block {} is damaged ({what}): `flowd store verify` lists what is lost", path.display())]
    DamagedBlock {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        what: &'static str,
    },
    /// A block file of another version.
    #[error("ring block {} was written by another version of flowd ({what}): let that version archive it first", path.display())]
    BlockFormat {
        /// The file.
        path: PathBuf,
        /// What is not known here.
        what: String,
    },
    /// Two writers were asked for one shard.
    #[error("shard {0} has a writer already")]
    ShardInUse(u16),
}

impl RingError {
    /// Makes the error of a refused system call.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace(path.to_owned())
            }
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }

    /// Is it that a file is no longer there?
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

fn holder(process: Option<u32>) -> String {
    process.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"))
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            " (check its owner and mode, or name another --store)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = RingError::io("reserve", Path::new("x"))(full);
        assert!(matches!(error, RingError::NoSpace(_)));
        let gone = RingError::io("open", Path::new("x"))(io::ErrorKind::NotFound.into());
        assert!(gone.is_not_found());
    }
}
