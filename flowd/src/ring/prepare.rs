//! Block files made ahead of need, so that the writer of a busy shard meets neither the file
//! system nor page faults when it changes blocks.
//!
//! Most of what a new block costs is the kernel's: pages are found, zeroed, mapped, and freed
//! again when the archive has the block. A file that the ring is done with is therefore used
//! again where nobody else has it. Who has it, the kernel knows: it grants a lease on a file for
//! writing only while no other open file and no mapping of it is left, in whatever process.
//! The file loses its name first, so that nobody can begin to read it after the look; and
//! readers look, once they have it mapped, whether it has its name still
//! ([`MappedReader::open`](super::map::MappedReader::open)).

use super::layout::{BlockHead, Layout};
use super::map::{MappedReader, MappedWriter};
use super::reserved::Reserved;
use super::storage::{IDENTITY, WriteStorage};
use crate::model::ColumnSet;
use crossbeam_channel::{Receiver, Sender, bounded, select_biased, unbounded};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Files with this ending have no place in the ring yet, or no longer, and are removed at a
/// restart.
pub(super) const NEW_SUFFIX: &str = ".new";

/// The thread that makes block files.
#[derive(Debug)]
pub(super) struct Preparer {
    senders: Option<(Sender<Request>, Sender<Leftover>)>,
    thread: Option<JoinHandle<()>>,
}

/// A block file with memory for some columns is wanted.
struct Request {
    columns: ColumnSet,
    reply: Sender<Prepared>,
}

/// What blocks leave behind. It can wait while a writer does.
enum Leftover {
    /// A block is sealed, and its writer's mapping may go.
    Mapping(MappedWriter),
    /// A block is archived. Its file has the ending of new ones already.
    File {
        path: PathBuf,
        reserved: Reserved,
        /// Octets that blocks left of the ring's size when this one went.
        room: u64,
    },
}

/// A block file without a name or a head. It is removed if nobody takes it.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Where it lies.
    path: Option<PathBuf>,
    /// Its memory; taken only together with the path.
    storage: Option<MappedWriter>,
    /// What is reserved of it.
    reserved: Reserved,
    /// Was it another block's before?
    is_reused: bool,
}

/// Files that wait to be used again, the oldest first.
struct Spares {
    layout: Arc<Layout>,
    /// Can a file that a reader has mapped be told from one that nobody has?
    tells_readers: bool,
    size: u64,
    files: VecDeque<Prepared>,
}

impl Preparer {
    /// Starts the thread.
    pub(super) fn start(directory: PathBuf, layout: Arc<Layout>) -> io::Result<Self> {
        // Never more than one file to be made a lane of a shard is under way, and never more
        // to be used again than the ring had blocks.
        let (request, requests) = unbounded::<Request>();
        let (leftover, leftovers) = unbounded::<Leftover>();
        let thread = std::thread::Builder::new().name("ring-prepare".to_owned());
        let thread = thread.spawn(move || {
            let tells_readers = tells_readers(&directory);
            let mut spares = Spares { layout, tells_readers, size: 0, files: VecDeque::new() };
            let mut number: u64 = 0;
            loop {
                select_biased! {
                    recv(requests) -> request => {
                        let Ok(Request { columns, reply }) = request else { break };
                        let path = directory.join(format!("prepared-{number}{NEW_SUFFIX}"));
                        number = number.wrapping_add(1);
                        // A lane that gets no reply makes its file itself and meets the error
                        // there.
                        if let Ok(prepared) = spares.take_or_make(columns, path) {
                            drop(reply.send(prepared));
                        }
                    }
                    recv(leftovers) -> leftover => match leftover {
                        Ok(Leftover::Mapping(storage)) => drop(storage),
                        Ok(Leftover::File { path, reserved, room }) => {
                            spares.keep(path, reserved, room);
                        }
                        Err(_) => break,
                    },
                }
            }
            for leftover in leftovers {
                if let Leftover::File { path, reserved, .. } = leftover {
                    drop(Prepared::left_over(path, reserved));
                }
            }
        })?;
        Ok(Self { senders: Some((request, leftover)), thread: Some(thread) })
    }

    /// Asks for a block file with memory for some columns.
    pub(super) fn request(&self, columns: ColumnSet) -> Receiver<Prepared> {
        let (reply, prepared) = bounded(1);
        if let Some((requests, _)) = &self.senders {
            // Fails only after the thread has ended, and then there is no reply.
            drop(requests.send(Request { columns, reply }));
        }
        prepared
    }

    /// Takes a sealed block's mapping away: to unmap thousands of pages is not for its writer.
    pub(super) fn retire(&self, storage: MappedWriter) {
        self.leave(Leftover::Mapping(storage));
    }

    /// Takes the file of a block that is no longer in the ring, to use it again as long as such
    /// files fit into `room`, else to remove it. Nobody finds it under its name from then on.
    pub(super) fn reuse(&self, path: &Path, reserved: Reserved, room: u64) -> io::Result<()> {
        let nameless = with_new_suffix(path);
        fs::rename(path, &nameless)?;
        self.leave(Leftover::File { path: nameless, reserved, room });
        Ok(())
    }

    fn leave(&self, leftover: Leftover) {
        if let Some((_, leftovers)) = &self.senders {
            // As above.
            drop(leftovers.send(leftover));
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.senders = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Spares {
    /// A file that has memory for these columns: an earlier block's if there is one, or a new
    /// one.
    fn take_or_make(&mut self, columns: ColumnSet, path: PathBuf) -> io::Result<Prepared> {
        while let Some(file) = self.take(columns) {
            if let Some(file) = file.cleared(&self.layout) {
                return Ok(file);
            }
        }
        Prepared::make(path, &self.layout, columns)
    }

    /// A file that has memory for these columns and no others.
    fn take(&mut self, columns: ColumnSet) -> Option<Prepared> {
        let index = self.files.iter().position(|file| file.reserved.columns == columns)?;
        let file = self.files.remove(index)?;
        self.size -= file.reserved.size(&self.layout);
        Some(file)
    }

    fn keep(&mut self, path: PathBuf, reserved: Reserved, room: u64) {
        // Removed when this ends, unless it is kept.
        let file = Prepared::left_over(path, reserved);
        if !self.tells_readers {
            return;
        }
        let size = reserved.size(&self.layout);
        while self.size + size > room {
            // Those of columns that are no longer in use give way.
            match self.files.front() {
                Some(oldest) if oldest.reserved.columns != reserved.columns => {
                    let columns = oldest.reserved.columns;
                    drop(self.take(columns));
                }
                _ => return,
            }
        }
        self.size += size;
        self.files.push_back(file);
    }
}

impl Prepared {
    /// Makes a block file with memory for some columns, its page faults taken.
    fn make(path: PathBuf, layout: &Layout, columns: ColumnSet) -> io::Result<Self> {
        let mut prepared = Self::make_bare(path, layout)?;
        prepared.reserved = Reserved::of_columns(columns);
        prepared.reserve(layout)?;
        Ok(prepared)
    }

    /// Makes a block file that has memory for its head and words only.
    pub(super) fn make_bare(path: PathBuf, layout: &Layout) -> io::Result<Self> {
        let storage = MappedWriter::create(&path, layout.size, layout.fixed_size);
        if storage.is_err() {
            drop(fs::remove_file(&path));
        }
        Ok(Self {
            storage: Some(storage?),
            path: Some(path),
            reserved: Reserved::NONE,
            is_reused: false,
        })
    }

    /// The file that a block has left.
    const fn left_over(path: PathBuf, reserved: Reserved) -> Self {
        Self { path: Some(path), storage: None, reserved, is_reused: true }
    }

    /// Was the file another block's before?
    pub(super) const fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// The file as a new one, if nobody else has it.
    fn cleared(mut self, layout: &Layout) -> Option<Self> {
        let path = self.path.as_ref()?;
        let mut storage = MappedWriter::reopen(path, layout.size).ok()?;
        if !storage.is_alone() {
            return None;
        }
        for word in 0..layout.word_count() {
            storage.store(word, 0);
        }
        self.storage = Some(storage);
        // What was given back of it when it was sealed is reserved again.
        self.reserve(layout).ok()?;
        Some(self)
    }

    fn reserve(&mut self, layout: &Layout) -> io::Result<()> {
        let Some(storage) = &mut self.storage else {
            return Ok(());
        };
        for range in self.reserved.ranges(layout) {
            storage.reserve(range.clone())?;
            storage.populate(range);
        }
        Ok(())
    }

    /// Gives the file its head and its name.
    pub(super) fn place(
        mut self,
        layout: &Layout,
        head: &BlockHead,
        path: &Path,
    ) -> io::Result<(MappedWriter, Reserved)> {
        let mut storage = self.storage.take().expect("taken once");
        storage.write_head(&layout.encode_head(head))?;
        storage.store(IDENTITY, head.identity());
        if let Some(new) = &self.path {
            fs::rename(new, path)?;
        }
        self.path = None;
        Ok((storage, self.reserved))
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            drop(fs::remove_file(path));
        }
    }
}

/// A file's name with the ending of those that have no place in the ring.
pub(super) fn with_new_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(NEW_SUFFIX);
    PathBuf::from(name)
}

/// Does the file system tell whether a file is mapped that nobody has open? Found out by trying:
/// some grant no leases, and others forget who has mapped what lies below them.
fn tells_readers(directory: &Path) -> bool {
    let path = directory.join(format!("probe{NEW_SUFFIX}"));
    let told = || -> io::Result<bool> {
        let size = 2 * super::layout::HEAD_SIZE;
        let writer = MappedWriter::create(&path, size, size)?;
        let reader = MappedReader::open(&path)?;
        let refused = !writer.is_alone();
        drop(reader);
        Ok(refused && writer.is_alone())
    };
    let told = told().unwrap_or(false);
    drop(fs::remove_file(&path));
    told
}
