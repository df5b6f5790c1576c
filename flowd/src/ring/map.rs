//! Blocks in mapped files, and on the heap for tests and models. The only file of the ring with
//! unsafe code.
//!
//! What makes it sound: [`Layout`](super::layout::Layout) gives areas that overlap neither one
//! another nor the words; items below an area's frontier are never written again; items from
//! it on are touched by the one writer alone. A foreign process that truncates or scribbles on
//! a block file breaks this as it would any mapped file; files are made readable to all but
//! writable to their owner only.

#![expect(unsafe_code, reason = "memory shared with other processes")]

use super::layout::HEAD_SIZE;
use super::storage::{Area, ReadStorage, WriteStorage};
use super::sync::{MappedU64, Ordering, fence};
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// fcntl(2): which signal tells of what happens to a file. The number is the same on all of Linux's
/// architectures that flowd is built for.
const F_SETSIG: libc::c_int = 10;

/// A block file mapped for reading. The mapping outlives the file's name.
#[derive(Debug)]
pub(super) struct MappedReader {
    map: MmapRaw,
}

/// A block file mapped by its one writer.
#[derive(Debug)]
pub(super) struct MappedWriter {
    map: MmapRaw,
    file: File,
}

/// A word of the block.
fn word(map: &MmapRaw, index: usize) -> &MappedU64 {
    let start = HEAD_SIZE + 8 * index;
    assert!(start + 8 <= map.len(), "words lie within the block");
    // SAFETY: the eight octets lie in the mapping, which lives as long as the borrow, and are
    // aligned, since mappings begin at pages. Areas do not overlap the words, so nobody
    // accesses them but as atomics. A read-only mapping is only loaded from.
    unsafe { MappedU64::from_ptr(map.as_mut_ptr().add(start).cast()) }
}

/// Octets of the block.
///
/// # Safety
/// Nobody may write to these octets as long as the borrow lives.
unsafe fn octets(map: &MmapRaw, range: Range<usize>) -> &[u8] {
    assert!(range.start <= range.end && range.end <= map.len());
    // SAFETY: the range lies in the mapping, which lives as long as the borrow; the caller
    // promises that it is not written to.
    unsafe { std::slice::from_raw_parts(map.as_ptr().add(range.start), range.len()) }
}

impl MappedReader {
    /// Maps a block file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let size = metadata.len();
        if size < HEAD_SIZE as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Not longer than the file is now: a page beyond its end is no memory.
        let size = usize::try_from(size).map_err(io::Error::other)?;
        let map = MmapOptions::new().len(size).map_raw_read_only(&file)?;
        // A file that is used again loses its name first, and is left alone if it is mapped
        // then. One that has lost it already may be about to change.
        let named = fs::metadata(path)?;
        if (named.dev(), named.ino()) != (metadata.dev(), metadata.ino()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { map })
    }
}

impl ReadStorage for MappedReader {
    fn size(&self) -> usize {
        self.map.len()
    }

    fn head(&self) -> &[u8] {
        // SAFETY: the head is written before the file gets a name that readers open.
        unsafe { octets(&self.map, 0..HEAD_SIZE) }
    }

    fn load(&self, index: usize) -> u64 {
        // A relaxed load and a fence are an acquire load, and allowed on read-only memory.
        let value = word(&self.map, index).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        value
    }

    fn items(&self, area: &Area, items: Range<usize>) -> Option<&[u8]> {
        let span = area.span(&items)?;
        if items.end as u64 > self.load(area.frontier.word()) || span.end > self.map.len() {
            return None;
        }
        // SAFETY: items below the frontier are never written again, and the acquire load of
        // the frontier makes visible what the writer wrote before it moved it.
        Some(unsafe { octets(&self.map, span) })
    }
}

impl MappedWriter {
    /// Makes a block file of `size` octets, of which the first `fixed_size` are reserved.
    pub(super) fn create(path: &Path, size: usize, fixed_size: usize) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o644);
        let file = options.open(path)?;
        file.set_len(size as u64)?;
        reserve(&file, 0..fixed_size)?;
        let map = MmapOptions::new().len(size).map_raw(&file)?;
        Ok(Self { map, file })
    }

    /// Maps the block file that a writer left behind. The caller holds the store's lock, so
    /// that writer is gone.
    pub(super) fn reopen(path: &Path, size: usize) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() < size as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let map = MmapOptions::new().len(size).map_raw(&file)?;
        Ok(Self { map, file })
    }

    /// Writes the head, before the file gets the name that readers look for.
    pub(super) fn write_head(&self, head: &[u8]) -> io::Result<()> {
        // By the file rather than by the mapping, so that no borrow of the head can see it.
        self.file.write_all_at(head, 0)
    }

    /// Does nobody else have the file open or mapped, in any process? No, where the file system
    /// does not tell.
    pub(super) fn is_alone(&self) -> bool {
        let file = self.file.as_raw_fd();
        // Whoever opens the file while the lease is held makes the kernel send a signal, and of
        // itself it sends one that ends the process. The choice lasts as long as the lease.
        // SAFETY: system calls on a file descriptor that `file` keeps open; they take no pointer.
        unsafe {
            libc::fcntl(file, F_SETSIG, libc::SIGURG) == 0
                && libc::fcntl(file, libc::F_SETLEASE, libc::F_WRLCK) == 0
                && libc::fcntl(file, libc::F_SETLEASE, libc::F_UNLCK) == 0
        }
    }

    /// Takes the page faults of a range now. Where the kernel cannot (before Linux 5.14), the
    /// writer takes them as it goes.
    pub(super) fn populate(&self, range: Range<usize>) {
        drop(self.map.advise_range(Advice::PopulateWrite, range.start, range.len()));
    }
}

impl WriteStorage for MappedWriter {
    fn store(&mut self, index: usize, value: u64) {
        word(&self.map, index).store(value, Ordering::Release);
    }

    fn write(&mut self, area: &Area, item: usize, bytes: &[u8]) {
        debug_assert_eq!(bytes.len() % area.width, 0, "whole items are written");
        let span = area
            .span(&(item..item + bytes.len() / area.width))
            .expect("the writer asked for room first");
        let frontier = word(&self.map, area.frontier.word()).load(Ordering::Relaxed);
        assert!(item as u64 >= frontier && span.end <= self.map.len());
        // SAFETY: the span lies in the mapping, and at or beyond the frontier, where no reader
        // looks; this is the only writer, borrowed exclusively. `bytes` cannot lie in the span:
        // a borrow of the span would be one of `self`.
        unsafe {
            let target = self.map.as_mut_ptr().add(span.start);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
    }

    fn written(&self, area: &Area, items: Range<usize>) -> &[u8] {
        let span = area.span(&items).expect("the writer wrote these items");
        // SAFETY: only this writer writes, and it is borrowed as long as the slice lives.
        unsafe { octets(&self.map, span) }
    }

    fn reserve(&mut self, range: Range<usize>) -> io::Result<()> {
        reserve(&self.file, range)
    }

    fn discard(&mut self, range: Range<usize>) -> io::Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.file, mode, &range)
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    fn sync(&self) -> io::Result<()> {
        self.map.flush()?;
        self.file.sync_data()
    }
}

/// Allocates a range of a file, so that writing to its mapping never meets a full disk, which
/// would be a signal instead of an error. The range was never written to.
fn reserve(file: &File, range: Range<usize>) -> io::Result<()> {
    match fallocate(file, 0, &range) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            // This file system allocates only what is written: zeros do.
            let zeros = [0; 4_096];
            let mut start = range.start;
            while start < range.end {
                let size = zeros.len().min(range.end - start);
                file.write_all_at(&zeros[..size], start as u64)?;
                start += size;
            }
            Ok(())
        }
        result => result,
    }
}

fn fallocate(file: &File, mode: libc::c_int, range: &Range<usize>) -> io::Result<()> {
    let offset = libc::off_t::try_from(range.start).map_err(io::Error::other)?;
    let size = libc::off_t::try_from(range.len()).map_err(io::Error::other)?;
    loop {
        // SAFETY: a system call on a file descriptor that `file` keeps open; it takes no
        // pointer, and the ranges given hold no memory that anybody has borrowed.
        let status = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, size) };
        if status == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// What the pages of this machine measure.
pub(super) fn system_page_size() -> usize {
    // SAFETY: sysconf takes no pointer and has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4_096)
}

#[cfg(test)]
pub(super) mod heap {
    //! The same protocol without files.
    //!
    //! Under loom each octet has a shadow cell, so that a reader and the writer who touch one
    //! octet without an order between them are reported, whatever value was read.

    use super::super::sync::HeapU64;
    #[cfg(flowd_loom)]
    use super::super::sync::Shadow;
    use super::{Area, HEAD_SIZE, Ordering, ReadStorage, WriteStorage};
    use std::cell::UnsafeCell;
    use std::io;
    use std::ops::Range;
    use std::sync::Arc;

    struct Heap {
        /// u64 for alignment.
        octets: Box<[UnsafeCell<u64>]>,
        head: Vec<u8>,
        size: usize,
        /// Written by the writer, read by all.
        words: Vec<HeapU64>,
        #[cfg(flowd_loom)]
        shadows: Vec<Shadow<()>>,
    }

    // SAFETY: octets below a frontier are immutable, those beyond it are the one writer's.
    unsafe impl Send for Heap {}
    // SAFETY: as above; what orders the two are the words.
    unsafe impl Sync for Heap {}

    impl Heap {
        fn start(&self) -> *mut u8 {
            UnsafeCell::raw_get(self.octets.as_ptr()).cast()
        }

        #[cfg(flowd_loom)]
        fn watch_read(&self, span: &Range<usize>) {
            for shadow in &self.shadows[span.start - HEAD_SIZE..span.end - HEAD_SIZE] {
                shadow.with(|_| ());
            }
        }

        #[cfg(flowd_loom)]
        fn watch_write(&self, span: &Range<usize>) {
            for shadow in &self.shadows[span.start - HEAD_SIZE..span.end - HEAD_SIZE] {
                shadow.with_mut(|_| ());
            }
        }

        #[cfg(not(flowd_loom))]
        #[expect(clippy::unused_self, reason = "loom's twin uses it")]
        const fn watch_read(&self, _: &Range<usize>) {}

        #[cfg(not(flowd_loom))]
        #[expect(clippy::unused_self, reason = "loom's twin uses it")]
        const fn watch_write(&self, _: &Range<usize>) {}

        fn octets(&self, span: Range<usize>) -> &[u8] {
            assert!(span.end <= self.size);
            self.watch_read(&span);
            // SAFETY: the span lies in the allocation; both callers hold that it is not written to
            // as long as the borrow lives.
            unsafe { std::slice::from_raw_parts(self.start().add(span.start), span.len()) }
        }
    }

    /// A reader of a block on the heap.
    #[derive(Clone)]
    pub(in crate::ring) struct HeapReader(Arc<Heap>);

    /// The writer of a block on the heap.
    pub(in crate::ring) struct HeapWriter(Arc<Heap>);

    /// A block on the heap: its writer, and a reader to clone.
    pub(in crate::ring) fn heap_block(
        head: Vec<u8>,
        size: usize,
        words: usize,
    ) -> (HeapWriter, HeapReader) {
        assert_eq!(head.len(), HEAD_SIZE);
        let heap = Arc::new(Heap {
            octets: (0..size.div_ceil(8)).map(|_| UnsafeCell::new(0)).collect(),
            head,
            size,
            words: (0..words).map(|_| HeapU64::new(0)).collect(),
            #[cfg(flowd_loom)]
            shadows: (HEAD_SIZE..size).map(|_| Shadow::new(())).collect(),
        });
        (HeapWriter(Arc::clone(&heap)), HeapReader(heap))
    }

    impl ReadStorage for HeapReader {
        fn size(&self) -> usize {
            self.0.size
        }

        fn head(&self) -> &[u8] {
            &self.0.head
        }

        fn load(&self, word: usize) -> u64 {
            self.0.words[word].load(Ordering::Acquire)
        }

        fn items(&self, area: &Area, items: Range<usize>) -> Option<&[u8]> {
            let span = area.span(&items)?;
            let there = items.end as u64 <= self.load(area.frontier.word());
            there.then(|| self.0.octets(span))
        }
    }

    impl WriteStorage for HeapWriter {
        fn store(&mut self, word: usize, value: u64) {
            self.0.words[word].store(value, Ordering::Release);
        }

        fn write(&mut self, area: &Area, item: usize, bytes: &[u8]) {
            let span = area
                .span(&(item..item + bytes.len() / area.width))
                .expect("the writer asked for room first");
            let frontier = self.0.words[area.frontier.word()].load(Ordering::Relaxed);
            assert!(item as u64 >= frontier && span.end <= self.0.size);
            self.0.watch_write(&span);
            // SAFETY: the span lies in the allocation, at or beyond the frontier, where no reader
            // looks; this is the only writer, borrowed exclusively.
            unsafe {
                let target = self.0.start().add(span.start);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
            }
        }

        fn written(&self, area: &Area, items: Range<usize>) -> &[u8] {
            self.0.octets(area.span(&items).expect("the writer wrote these items"))
        }

        fn reserve(&mut self, _: Range<usize>) -> io::Result<()> {
            Ok(())
        }

        fn discard(&mut self, _: Range<usize>) -> io::Result<()> {
            Ok(())
        }

        fn allocated(&self) -> io::Result<u64> {
            Ok(self.0.size as u64)
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }
}
