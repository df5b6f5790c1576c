//! The head: the one file of the manifest that is replaced.
//!
//! ```text
//! {"format":"flowd-manifest","version":2,..,"parts":[..],"covered":[..]}
//! {"segment":{..},"previous":".."}      the last lines of the chain, at most a part's worth
//! {"sha256":".."}                       of all that stands before
//! ```

use super::chain::{check_chain, sha256_hex, write_new};
use super::entry::{Covered, Entry};
use super::marks::Marks;
use super::part::PartRecord;
use super::{Expired, Past};
use crate::archive::error::ArchiveError;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

pub(super) const FILE: &str = "manifest.jsonl";
/// The same once more: a head that is damaged takes nothing with it.
pub(super) const COPY: &str = "manifest.copy.jsonl";
const FORMAT: &str = "flowd-manifest";
pub(super) const VERSION: u32 = 2;
/// The format that had all lines in one file.
const VERSION_ONE_FILE: u32 = 1;

/// The first line, as far as every version has it.
#[derive(Deserialize)]
struct Mark {
    format: String,
    version: u32,
}

/// The first line of version 1.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OneFile {
    generation: u64,
    next_segment: u64,
    entries: usize,
    head: String,
}

/// The first line.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    pub(super) format: String,
    pub(super) version: u32,
    /// Rises with each replacement.
    pub(super) generation: u64,
    /// The number that the next segment gets; none is given twice.
    pub(super) next_segment: u64,
    /// Lines before the first part that is listed.
    pub(super) past: Past,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expired: Option<Expired>,
    pub(super) parts: Vec<PartRecord>,
    /// The blocks that any line names.
    pub(super) covered: Vec<Covered>,
    /// Lines that follow in this file.
    pub(super) lines: usize,
    /// Which of them are segments that are held no more.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub(super) withdrawn: Marks,
    /// SHA-256 of the last line.
    pub(super) head: String,
}

#[derive(Serialize, Deserialize)]
struct Seal {
    sha256: String,
}

/// A head that was read, with its lines.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) head: Head,
    pub(super) lines: Vec<(Entry, String)>,
    /// What was wrong with the file, if its copy was read instead.
    pub(super) damage: Option<String>,
}

/// Reads the head of an archive, or its copy; none if there is neither.
pub(super) fn read(archive_dir: &Path) -> Result<Option<Read>, ArchiveError> {
    let path = archive_dir.join(FILE);
    let first = read_file(&path);
    match first {
        Ok(Some(read)) => Ok(Some(read)),
        // Newer than this program is not damage.
        Err(error @ (ArchiveError::ManifestFormat { .. } | ArchiveError::Io { .. })) => Err(error),
        Ok(None) | Err(_) => match read_file(&archive_dir.join(COPY)) {
            Ok(Some(mut read)) => {
                let what = first.err().map_or_else(
                    || format!("manifest {} is gone", path.display()),
                    |error| error.to_string(),
                );
                read.damage = Some(format!("{what}; read from its copy {COPY}"));
                Ok(Some(read))
            }
            Ok(None) | Err(_) => first,
        },
    }
}

fn read_file(path: &Path) -> Result<Option<Read>, ArchiveError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ArchiveError::io("read", path)(error)),
    };
    let damaged = |what: String| ArchiveError::DamagedManifest { path: path.to_owned(), what };
    let text = std::str::from_utf8(&bytes).map_err(|error| damaged(error.to_string()))?;
    let (first, rest) =
        text.split_once('\n').ok_or_else(|| damaged("cut in its first line".to_owned()))?;
    let mark: Mark =
        serde_json::from_str(first).map_err(|error| damaged(format!("first line: {error}")))?;
    let read = match (mark.format.as_str(), mark.version) {
        (FORMAT, VERSION) => parse(text, first),
        (FORMAT, VERSION_ONE_FILE) => parse_one_file(first, rest),
        _ => {
            return Err(ArchiveError::ManifestFormat {
                path: path.to_owned(),
                found: format!("{} {}", mark.format, mark.version),
                known: VERSION,
            });
        }
    };
    read.map(Some).map_err(damaged)
}

fn parse(text: &str, first: &str) -> Result<Read, String> {
    let body = text.strip_suffix('\n').ok_or("cut in its last line")?;
    let (body, seal) = body.rsplit_once('\n').ok_or("cut after its first line")?;
    let seal: Seal = serde_json::from_str(seal)
        .map_err(|error| format!("cut: its last line is no digest ({error})"))?;
    // The digest is of all that stands before, the end of line too.
    if sha256_hex(&text.as_bytes()[..=body.len()]) != seal.sha256 {
        return Err("its last line is not the digest of the others".to_owned());
    }
    let head: Head = serde_json::from_str(first).map_err(|error| format!("first line: {error}"))?;
    let lines = body.strip_prefix(first).unwrap_or_default();
    let lines = parse_lines(lines.strip_prefix('\n').unwrap_or_default())?;
    if lines.len() != head.lines {
        return Err("not as long as its first line says".to_owned());
    }
    Ok(Read { head, lines, damage: None })
}

fn parse_lines(text: &str) -> Result<Vec<(Entry, String)>, String> {
    let lines = text.lines().enumerate().map(|(index, line)| {
        let (entry, _) =
            Entry::from_line(line).map_err(|error| format!("line {}: {error}", index + 2))?;
        Ok((entry, line.to_owned()))
    });
    lines.collect()
}

/// Version 1: each line ends, names the one before, and the first line knows the last.
fn parse_one_file(first: &str, rest: &str) -> Result<Read, String> {
    let OneFile { generation, next_segment, entries, head: last } =
        serde_json::from_str(first).map_err(|error| format!("first line: {error}"))?;
    if !rest.is_empty() && !rest.ends_with('\n') {
        return Err(format!("cut in line {}", rest.lines().count() + 1));
    }
    let found = check_chain(rest.lines(), String::new())?;
    let lines = parse_lines(rest)?;
    if lines.len() != entries || found != last {
        return Err("not as long as its first line says".to_owned());
    }
    let mut covered = super::covered::CoveredBlocks::default();
    lines.iter().for_each(|(entry, _)| covered.add(entry));
    let head = Head {
        generation,
        next_segment,
        covered: covered.ranges().collect(),
        lines: lines.len(),
        head: last,
        ..Head::default()
    };
    Ok(Read { head, lines, damage: None })
}

/// Replaces the head of an archive, for all who read it from then on. It outlasts a power cut
/// once the directory is synced.
pub(super) fn write<'a>(
    archive_dir: &Path,
    mut head: Head,
    lines: impl Iterator<Item = &'a str>,
) -> Result<(), ArchiveError> {
    (head.format, head.version) = (FORMAT.to_owned(), VERSION);
    let mut text = serde_json::to_string(&head).expect("plain fields and string keys");
    text.push('\n');
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    let seal = Seal { sha256: sha256_hex(text.as_bytes()) };
    text.push_str(&serde_json::to_string(&seal).expect("one plain field"));
    text.push('\n');
    write_new(archive_dir, FILE, text.as_bytes(), true)?;
    // The head is in place; without its copy it is only less safe from damage.
    if let Err(error) = write_new(archive_dir, COPY, text.as_bytes(), false) {
        tracing::warn!(%error, "the manifest has no copy beside it");
    }
    Ok(())
}
