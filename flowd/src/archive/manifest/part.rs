//! Part: some hundreds of lines of the manifest in a file of their own, written once.

use super::chain::{check_chain, sha256_hex, sync_dir, write_new};
use super::entry::Entry;
use super::held::Held;
use super::marks::Marks;
use crate::archive::error::ArchiveError;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// Where parts lie in the archive.
pub(super) const DIRECTORY: &str = "manifest";
/// Lines of a part. What is replaced with each commit has no more lines than this besides a
/// record of each part.
pub(super) const PART_LINES: usize = 256;
/// A part is not read beyond this: lines name their blocks, and a line is far shorter.
const PART_SIZE_MAX: u64 = 256 << 20;

/// What the head says of a part, so that a reader passes over the parts it has no use for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartRecord {
    /// The name of its file.
    pub(super) file: String,
    /// The number of its first line in the chain, counted from 0.
    pub(super) first: u64,
    /// How many lines.
    pub(super) lines: usize,
    /// SHA-256 of the file.
    pub(super) sha256: String,
    /// SHA-256 of its last line, which the line after it names.
    pub(super) head: String,
    /// The least and the greatest number of its segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ids: Option<(u64, u64)>,
    /// Its lines whose segments are held no more.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub(super) withdrawn: Marks,
    /// What is held of it.
    pub(super) held: Held,
}

/// A part, and its lines if they were read.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) record: PartRecord,
    pub(super) entries: Option<Arc<Vec<Entry>>>,
    /// Could it not be read, although it was asked for?
    pub(super) is_damaged: bool,
}

impl PartRecord {
    /// What tells it from others, and from itself once more of its segments are held no more.
    pub(super) fn identity(&self) -> u128 {
        let withdrawn = self.withdrawn.octets();
        xxh3_128(&[self.sha256.as_bytes(), withdrawn].concat())
    }

    /// The number of the line after its last.
    pub(super) const fn end(&self) -> u64 {
        self.first + self.lines as u64
    }

    /// Reads its lines. That each follows the one before is looked at if `chain` asks for it:
    /// the digest of the file vouches for it as far as the head can be trusted.
    pub(super) fn read(
        &self,
        archive_dir: &Path,
        previous: &str,
        chain: bool,
    ) -> Result<Vec<Entry>, String> {
        let path = archive_dir.join(DIRECTORY).join(&self.file);
        let size = fs::metadata(&path).map_err(|error| error.to_string())?.len();
        if size > PART_SIZE_MAX {
            return Err("larger than any that flowd writes".to_owned());
        }
        let bytes = fs::read(&path).map_err(|error| error.to_string())?;
        if sha256_hex(&bytes) != self.sha256 {
            return Err("its digest is not the one in the head".to_owned());
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
        if chain {
            let last = check_chain(text.lines(), previous.to_owned())?;
            if last != self.head {
                return Err("its last line is not the one in the head".to_owned());
            }
        }
        let lines = text.lines().map(|line| Entry::from_line(line).map(|(entry, _)| entry));
        let entries = lines.collect::<Result<Vec<_>, _>>()?;
        if entries.len() != self.lines {
            return Err("another number of lines".to_owned());
        }
        Ok(entries)
    }
}

/// Writes lines as a part, safe on disk except for its name; the name and the SHA-256 of its
/// file.
pub(super) fn write(
    archive_dir: &Path,
    first: u64,
    lines: &[&str],
) -> Result<(String, String), ArchiveError> {
    let mut text = lines.join("\n");
    text.push('\n');
    let sha256 = sha256_hex(text.as_bytes());
    // With a piece of the digest, so that no two parts ever have the same name: a name that was
    // read once means the same for ever, also in a store that is copied or cached.
    let file = format!("{first:010}-{}.jsonl", &sha256[..12]);
    let directory = archive_dir.join(DIRECTORY);
    fs::create_dir_all(&directory).map_err(ArchiveError::io("make", &directory))?;
    write_new(&directory, &file, text.as_bytes(), true)?;
    sync_dir(&directory).map_err(ArchiveError::io("sync", &directory))?;
    Ok((file, sha256))
}

/// The number of the first line of a part, from the name of its file.
pub(super) fn first_line(file: &str) -> Option<u64> {
    let (first, digest) = file.strip_suffix(".jsonl")?.split_once('-')?;
    let is_digest = digest.len() == 12 && digest.bytes().all(|octet| octet.is_ascii_hexdigit());
    if first.len() != 10 || !is_digest {
        return None;
    }
    first.parse().ok()
}
