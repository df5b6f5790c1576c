//! STORE/imported.jsonl: which files a store has the records of, a line when the import of one
//! begins and another when it ends.

use crate::model::time::UnixMillis;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "imported.jsonl";

/// A file by which it is known again: its digest; name and size are for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListEntry {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    file: ListEntry,
    /// Milliseconds since 1970.
    at: i64,
    /// Records imported; absent at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// All of it that can be read is in the store.
    Whole { at: UnixMillis, records: u64 },
    /// An import of it did not end.
    Begun { at: UnixMillis },
}

/// The list of a store.
#[derive(Debug)]
pub(super) struct Listed {
    path: PathBuf,
    file: File,
    known: HashMap<String, Known>,
}

impl Listed {
    /// Reads the list, or begins it. A line that a crash cut short is passed over.
    pub(super) fn open(store: &Path) -> Result<Self> {
        let path = store.join(FILE_NAME);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.with_context(|| format!("read {}", path.display()))?,
        };
        let mut known = HashMap::new();
        for line in text.split(|&octet| octet == b'\n') {
            if let Ok(Line { file, at, records }) = serde_json::from_slice(line) {
                let at = UnixMillis(at);
                let now = match records {
                    Some(records) => Known::Whole { at, records },
                    None => Known::Begun { at },
                };
                known.insert(file.sha256, now);
            }
        }
        let opened = File::options().append(true).create(true).open(&path).and_then(|mut file| {
            if text.last().is_some_and(|&last| last != b'\n') {
                file.write_all(b"\n")?;
            }
            Ok(file)
        });
        let file = opened.with_context(|| format!("open {}", path.display()))?;
        Ok(Self { path, file, known })
    }

    pub(super) fn find(&self, file: &ListEntry) -> Option<Known> {
        self.known.get(&file.sha256).copied()
    }

    pub(super) fn begin(&mut self, file: &ListEntry, at: UnixMillis) -> Result<()> {
        self.write(file, at, None)
    }

    pub(super) fn end(&mut self, file: &ListEntry, at: UnixMillis, records: u64) -> Result<()> {
        self.write(file, at, Some(records))
    }

    fn write(&mut self, file: &ListEntry, at: UnixMillis, records: Option<u64>) -> Result<()> {
        let line = Line { file: file.clone(), at: at.0, records };
        let mut text = serde_json::to_string(&line).context("a list's line as JSON")?;
        text.push('\n');
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.with_context(|| format!("write {}", self.path.display()))?;
        let known = match records {
            Some(records) => Known::Whole { at, records },
            None => Known::Begun { at },
        };
        self.known.insert(file.sha256.clone(), known);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(digest: &str) -> ListEntry {
        ListEntry { name: "nfcapd.1".to_owned(), size: 7, sha256: digest.to_owned() }
    }

    #[test]
    fn what_was_begun_and_what_ended_is_known_again() {
        let store = tempfile::tempdir().unwrap();
        let mut list = Listed::open(store.path()).unwrap();
        assert_eq!(list.find(&entry("a")), None);
        list.begin(&entry("a"), UnixMillis(1)).unwrap();
        list.end(&entry("a"), UnixMillis(2), 5).unwrap();
        list.begin(&entry("b"), UnixMillis(3)).unwrap();
        drop(list);
        let list = Listed::open(store.path()).unwrap();
        assert_eq!(list.find(&entry("a")), Some(Known::Whole { at: UnixMillis(2), records: 5 }));
        assert_eq!(list.find(&entry("b")), Some(Known::Begun { at: UnixMillis(3) }));
    }

    #[test]
    fn half_a_line_is_no_end() {
        let store = tempfile::tempdir().unwrap();
        let mut list = Listed::open(store.path()).unwrap();
        list.begin(&entry("a"), UnixMillis(1)).unwrap();
        list.file.write_all(b"{\"name\":").unwrap();
        drop(list);
        let mut list = Listed::open(store.path()).unwrap();
        list.end(&entry("a"), UnixMillis(2), 5).unwrap();
        drop(list);
        let list = Listed::open(store.path()).unwrap();
        assert!(matches!(list.find(&entry("a")), Some(Known::Whole { .. })));
    }
}
