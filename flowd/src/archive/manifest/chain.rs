//! Digests that chain lines to one another, and files that appear whole or not at all.

use super::entry::Entry;
use crate::archive::error::ArchiveError;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What a file is called while it is being written.
pub(super) const NEW_SUFFIX: &str = ".new";

/// Checks that each line names the digest of the line before; the digest of the last.
pub(super) fn check_chain<'a>(
    lines: impl Iterator<Item = &'a str>,
    mut previous: String,
) -> Result<String, String> {
    for (index, line) in lines.enumerate() {
        let (_, named) =
            Entry::from_line(line).map_err(|error| format!("line {}: {error}", index + 1))?;
        if named != previous {
            return Err(format!("line {} does not follow the one before", index + 1));
        }
        previous = sha256_hex(line.as_bytes());
    }
    Ok(previous)
}

/// Writes a file beside its place and renames it. It outlasts a power cut, if asked for, once
/// the directory is synced.
pub(super) fn write_new(
    directory: &Path,
    name: &str,
    bytes: &[u8],
    is_safe: bool,
) -> Result<(), ArchiveError> {
    let new = directory.join(format!("{name}{NEW_SUFFIX}"));
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        if is_safe {
            file.sync_all()?;
        }
        fs::rename(&new, directory.join(name))
    });
    written.map_err(ArchiveError::io("write", &new))
}

/// The SHA-256 of some octets, in hexadecimal.
pub(in crate::archive) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Octets in hexadecimal.
pub(in crate::archive) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
}

/// Waits until the names in a directory are on disk.
pub(in crate::archive) fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes a file that may not be there.
pub(in crate::archive) fn remove_if_there(path: &PathBuf) -> Result<(), ArchiveError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ArchiveError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
