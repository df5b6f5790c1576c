//! Client, in a flowd that was built without object stores: says so.

use super::super::error::ArchiveError;
use bytes::Bytes;
use std::ops::Range;
use std::path::Path;

/// Whoever could ask for objects; there is none.
#[derive(Debug)]
pub(super) enum Client {}

impl Client {
    pub(super) fn make(url: &str) -> Result<Self, ArchiveError> {
        Self::open(url)
    }

    pub(super) fn open(url: &str) -> Result<Self, ArchiveError> {
        let what = "this flowd was built without object stores";
        Err(ArchiveError::ObjectUrl { url: url.to_owned(), what: what.to_owned() })
    }

    pub(super) fn foreign(&self) -> ArchiveError {
        match *self {}
    }

    pub(super) fn unmarked(&self) -> ArchiveError {
        match *self {}
    }

    pub(super) fn get(&self, _: &str) -> Result<Bytes, ArchiveError> {
        match *self {}
    }

    pub(super) fn create(&self, _: &str, _: Vec<u8>) -> Result<(), ArchiveError> {
        match *self {}
    }

    pub(super) fn put_file(&self, _: &str, _: &Path) -> Result<(), ArchiveError> {
        match *self {}
    }

    pub(super) fn size(&self, _: &str) -> Result<u64, ArchiveError> {
        match *self {}
    }

    pub(super) fn ranges(&self, _: &str, _: &[Range<u64>]) -> Result<Vec<Bytes>, ArchiveError> {
        match *self {}
    }

    pub(super) fn remove(&self, _: &str) -> Result<(), ArchiveError> {
        match *self {}
    }
}
