//! A file as a slice.

#![expect(unsafe_code, reason = "mapping a file")]

use super::error::CaptureError;
use memmap2::{Advice, Mmap, MmapOptions};
use std::fs::File;
use std::path::Path;

/// A file as a slice.
#[derive(Debug)]
pub(super) struct Mapping(Mmap);

impl Mapping {
    /// Opens a file and maps the octets that it has now.
    pub(super) fn open(path: &Path) -> Result<Self, CaptureError> {
        let unreadable = |source| CaptureError::Open { path: path.to_owned(), source };
        // Asked before it is opened: opening a pipe waits for its writer.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(CaptureError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(unreadable)?;
        // SAFETY: the mapping is read-only and private. Nothing in flowd writes to a capture.
        // That no one else does while it is replayed is the user's part, as with any file that
        // is read twice: a capture that still grows is mapped with the length it has here, and
        // one that is cut short under us ends the process by SIGBUS.
        let map = unsafe { MmapOptions::new().map(&file) }.map_err(unreadable)?;
        // Advice only: the pages come without it too.
        drop(map.advise(Advice::Sequential));
        Ok(Self(map))
    }

    /// The octets of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
