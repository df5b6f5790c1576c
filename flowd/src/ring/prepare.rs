//! Block files made ahead of need, so that the writer of a busy shard meets neither the file
//! system nor page faults when it changes blocks.

use super::layout::Layout;
use super::map::MappedWriter;
use crate::model::ColumnSet;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Files with this ending have no place in the ring yet, and are removed at a restart.
pub(super) const NEW_SUFFIX: &str = ".new";

/// The thread that makes block files.
#[derive(Debug)]
pub(super) struct Preparer {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    columns: ColumnSet,
    reply: Sender<Prepared>,
}

/// A block file without a name or a head. It is removed if nobody takes it.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Where it lies.
    path: Option<PathBuf>,
    /// Its memory; taken only together with the path.
    storage: Option<MappedWriter>,
    /// The columns that have memory.
    columns: ColumnSet,
}

impl Preparer {
    /// Starts the thread.
    pub(super) fn start(directory: PathBuf, layout: Arc<Layout>) -> io::Result<Self> {
        // Never more than one request a lane of a shard is under way.
        let (requests, received) = unbounded::<Request>();
        let thread = std::thread::Builder::new().name("ring-prepare".to_owned());
        let thread = thread.spawn(move || {
            for (number, Request { columns, reply }) in received.iter().enumerate() {
                let path = directory.join(format!("prepared-{number}{NEW_SUFFIX}"));
                // A lane that gets no reply makes its file itself and meets the error there.
                if let Ok(prepared) = Prepared::make(path, &layout, columns) {
                    drop(reply.send(prepared));
                }
            }
        })?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Asks for a block file with memory for some columns.
    pub(super) fn request(&self, columns: ColumnSet) -> Receiver<Prepared> {
        let (reply, prepared) = bounded(1);
        if let Some(requests) = &self.requests {
            // Fails only after the thread has ended, and then there is no reply.
            drop(requests.send(Request { columns, reply }));
        }
        prepared
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Prepared {
    /// Makes a block file with memory for some columns, its page faults taken.
    fn make(path: PathBuf, layout: &Layout, columns: ColumnSet) -> io::Result<Self> {
        use super::storage::WriteStorage;
        let mut prepared = Self::make_bare(path, layout)?;
        if let Some(storage) = &mut prepared.storage {
            let areas = columns.iter().filter_map(|column| layout.column(column));
            for area in areas.chain([&layout.shape_ids, &layout.origin_ids]) {
                storage.reserve(area.range())?;
                storage.populate(area.range());
            }
        }
        prepared.columns = columns;
        Ok(prepared)
    }

    /// Makes a block file that has memory for its head and words only.
    pub(super) fn make_bare(path: PathBuf, layout: &Layout) -> io::Result<Self> {
        let storage = MappedWriter::create(&path, layout.size, layout.fixed_size);
        if storage.is_err() {
            drop(fs::remove_file(&path));
        }
        Ok(Self { storage: Some(storage?), path: Some(path), columns: ColumnSet::EMPTY })
    }

    /// Gives the file its head and its name.
    pub(super) fn place(
        mut self,
        head: &[u8],
        path: &Path,
    ) -> io::Result<(MappedWriter, ColumnSet)> {
        let storage = self.storage.take().expect("taken once");
        storage.write_head(head)?;
        if let Some(new) = &self.path {
            fs::rename(new, path)?;
        }
        self.path = None;
        Ok((storage, self.columns))
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            drop(fs::remove_file(path));
        }
    }
}
