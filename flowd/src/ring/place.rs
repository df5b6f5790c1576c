//! Where a store's blocks lie: in the store, or in a directory elsewhere, such as a tmpfs.
//!
//! ```text
//! STORE/ring.json        where they lie, if not in STORE/ring: the only path in a store
//! DIR/flowd-ring.json    whose they are: the same number, and the store's path
//! DIR/lock               held by the one writer, beside the store's own
//! ```
//! The number keeps a store from taking up the blocks of another, and the path keeps a copy of a
//! store from taking up those of its original. A store that was moved takes its ring along.

use super::error::RingError;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const REFERENCE: &str = "ring.json";
const MARK: &str = "flowd-ring.json";
const OWN: &str = "ring";

/// What a store says of its ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    directory: PathBuf,
    id: String,
}

/// What a directory says of the ring in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    id: String,
    store: PathBuf,
}

/// The directory of a store's ring.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    reference: Option<Reference>,
}

/// Why the blocks of a store are not where it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Gone,
    Foreign,
}

impl Place {
    /// Where the store at `path` says that its ring is.
    pub(super) fn of(path: &Path) -> Result<Self, RingError> {
        let reference: Option<Reference> = read(&path.join(REFERENCE))?;
        let directory = match &reference {
            Some(reference) => reference.directory.clone(),
            None => path.join(OWN),
        };
        Ok(Self { directory, reference })
    }

    /// Does it lie outside of the store?
    pub(super) const fn is_elsewhere(&self) -> bool {
        self.reference.is_some()
    }

    /// Why a reader cannot have the blocks, if it cannot.
    pub(super) fn fault(&self, store: &Path) -> Option<RingError> {
        let fault = self.find_fault(store).transpose()?;
        Some(fault.map_or_else(|error| error, |fault| self.error(fault, store)))
    }

    /// Makes the directory, takes it for this store, and says whether it was there before.
    pub(super) fn claim(&self, store: &Path) -> Result<bool, RingError> {
        let directory = &self.directory;
        fs::create_dir_all(directory).map_err(RingError::io("make", directory))?;
        let Some(Reference { directory: _, id }) = &self.reference else {
            return Ok(true);
        };
        let fault = self.find_fault(store)?;
        if fault == Some(Fault::Foreign) {
            return Err(self.error(Fault::Foreign, store));
        }
        let mark = Mark { id: id.clone(), store: absolute(store)? };
        write(&directory.join(MARK), &mark)?;
        Ok(fault.is_none())
    }

    /// Lets the store's ring be in `directory` from now on. The caller holds the store's lock.
    pub(super) fn change(&self, store: &Path, directory: &Path) -> Result<Self, RingError> {
        fs::create_dir_all(directory).map_err(RingError::io("make", directory))?;
        let directory = absolute(directory)?;
        if absolute(&self.directory).is_ok_and(|now| now == directory) {
            return Ok(self.clone());
        }
        if self.has_blocks()? {
            return Err(RingError::RingInUse {
                store: store.to_owned(),
                ring: self.directory.clone(),
            });
        }
        let own = store.join(OWN);
        if absolute(&own).is_ok_and(|own| own == directory) {
            let reference = store.join(REFERENCE);
            fs::remove_file(&reference).map_err(RingError::io("remove", &reference))?;
            self.leave();
            return Self::of(store);
        }
        if read::<Mark>(&directory.join(MARK))?.is_some() {
            return Err(RingError::RingOfAnother { store: store.to_owned(), ring: directory });
        }
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid")
            .map_err(RingError::io("read", Path::new("/proc/sys/kernel/random/uuid")))?;
        let reference = Reference { directory: directory.clone(), id: id.trim().to_owned() };
        // The mark first: a kill in between leaves a directory that is claimed for nobody's use.
        let mark = Mark { id: reference.id.clone(), store: absolute(store)? };
        write(&directory.join(MARK), &mark)?;
        write(&store.join(REFERENCE), &reference)?;
        self.leave();
        Self::of(store)
    }

    /// Takes the mark off a directory that the ring is no longer in, so that others may have it.
    fn leave(&self) {
        if self.is_elsewhere() {
            // One that stays is told to whoever wants the directory next.
            drop(fs::remove_file(self.directory.join(MARK)));
        }
    }

    fn has_blocks(&self) -> Result<bool, RingError> {
        let files = super::store::files_in(&self.directory)?;
        let names = files.iter().filter_map(|path| path.file_name()?.to_str());
        Ok(names.filter_map(super::lane::BlockId::from_file_name).next().is_some())
    }

    fn find_fault(&self, store: &Path) -> Result<Option<Fault>, RingError> {
        let Some(reference) = &self.reference else {
            return Ok(None);
        };
        let Some(mark) = read::<Mark>(&self.directory.join(MARK))? else {
            return Ok(Some(Fault::Gone));
        };
        // Where the store that the mark names is another one with the same ring, this is a copy.
        let is_ours = mark.id == reference.id
            && (mark.store == absolute(store)?
                || read(&mark.store.join(REFERENCE))? != Some(reference.clone()));
        Ok((!is_ours).then_some(Fault::Foreign))
    }

    fn error(&self, fault: Fault, store: &Path) -> RingError {
        let (store, ring) = (store.to_owned(), self.directory.clone());
        match fault {
            Fault::Gone => RingError::RingGone { store, ring },
            Fault::Foreign => RingError::RingOfAnother { store, ring },
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, RingError> {
    fs::canonicalize(path).map_err(RingError::io("find", path))
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, RingError> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let error = |error: serde_json::Error| io::Error::other(error.to_string());
            let read = serde_json::from_str(&text).map_err(error);
            read.map(Some).map_err(RingError::io("understand", path))
        }
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(RingError::io("read", path)(error)),
    }
}

/// Renamed into place, so that a kill in between leaves no half of it.
fn write(path: &Path, value: &impl Serialize) -> Result<(), RingError> {
    let text = serde_json::to_string(value).map_err(io::Error::other);
    let new = path.with_extension("json.new");
    let written = text.and_then(|text| {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, path)
    });
    written.map_err(RingError::io("write", path))
}

#[cfg(test)]
#[cfg(not(flowd_loom))]
mod tests {
    use super::super::sample::{NOW, Source};
    use super::super::tests::v4_batch;
    use super::super::{Block, NumberFloors, Ring, RingConfig, RingError, Store, StoreLock};
    use std::fs;
    use std::path::Path;

    fn collect(store: &Path, ring_dir: Option<&Path>, rows: usize) -> Result<(), RingError> {
        let lock = StoreLock::acquire(store)?;
        let lock = match ring_dir {
            Some(directory) => lock.with_ring_dir(directory)?,
            None => lock,
        };
        let (ring, _) = Ring::open(lock, RingConfig::default(), NumberFloors::default())?;
        let mut writer = ring.writer(0, NOW)?;
        assert_eq!(writer.append(&v4_batch(&mut Source(1), rows, NOW.0)).rows, rows as u64);
        Ok(())
    }

    fn rows(store: &Path) -> usize {
        let files = Store::find(store).unwrap().block_files().unwrap();
        files.iter().map(|(_, path)| Block::open(path).unwrap().rows()).sum()
    }

    #[test]
    fn a_ring_elsewhere_is_remembered_and_found() {
        let dir = tempfile::tempdir().unwrap();
        let [store, ring] = ["store", "ring"].map(|name| dir.path().join(name));
        collect(&store, Some(&ring), 10).unwrap();
        assert_eq!(rows(&store), 10);
        assert!(!store.join("ring").exists() && ring.join("0-ipv4-0.block").exists());
        // A later start need not say it again, and a store that was moved keeps it.
        collect(&store, None, 5).unwrap();
        let moved = dir.path().join("moved");
        fs::rename(&store, &moved).unwrap();
        assert!(Store::find(&moved).unwrap().ring_fault().is_none());
        collect(&moved, None, 5).unwrap();
        assert_eq!(rows(&moved), 20);
    }

    #[test]
    fn a_ring_that_is_gone_is_told_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let [store, ring] = ["store", "ring"].map(|name| dir.path().join(name));
        collect(&store, Some(&ring), 10).unwrap();
        fs::remove_dir_all(&ring).unwrap();
        let found = Store::find(&store).unwrap();
        let text = found.ring_fault().unwrap().to_string();
        assert!(text.contains(ring.to_str().unwrap()) && text.contains("is gone"), "{text}");
        assert!(found.block_files().unwrap().is_empty());
        assert!(!StoreLock::acquire(&store).unwrap().found_ring());
        collect(&store, None, 3).unwrap();
        assert_eq!(rows(&store), 3);
    }

    #[test]
    fn a_copy_of_a_store_does_not_take_the_ring_of_its_original() {
        let dir = tempfile::tempdir().unwrap();
        let [store, copy, ring] = ["store", "copy", "ring"].map(|name| dir.path().join(name));
        collect(&store, Some(&ring), 10).unwrap();
        fs::create_dir(&copy).unwrap();
        for name in ["flowd.json", "ring.json"] {
            fs::copy(store.join(name), copy.join(name)).unwrap();
        }
        let fault = Store::find(&copy).unwrap().ring_fault();
        assert!(matches!(fault, Some(RingError::RingOfAnother { .. })), "{fault:?}");
        let error = collect(&copy, None, 1).unwrap_err();
        assert!(matches!(error, RingError::RingOfAnother { .. }), "{error}");
        let other = dir.path().join("other");
        let error = collect(&other, Some(&ring), 1).unwrap_err();
        assert!(matches!(error, RingError::RingOfAnother { .. }), "{error}");
        assert_eq!(rows(&store), 10);
    }

    #[test]
    fn a_ring_with_blocks_in_it_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let [store, ring] = ["store", "ring"].map(|name| dir.path().join(name));
        collect(&store, None, 10).unwrap();
        let error = collect(&store, Some(&ring), 1).unwrap_err();
        assert!(matches!(error, RingError::RingInUse { .. }), "{error}");
        for file in fs::read_dir(store.join("ring")).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        collect(&store, Some(&ring), 2).unwrap();
        fs::remove_file(ring.join("0-ipv4-0.block")).unwrap();
        // Back into the store.
        collect(&store, Some(&store.join("ring")), 3).unwrap();
        assert!(!store.join("ring.json").exists());
        assert_eq!(rows(&store), 3);
    }
}
