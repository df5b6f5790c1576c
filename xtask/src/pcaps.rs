//! `cargo xtask pcaps`: makes the captures of `test-pcaps` and what is to be found in them.
//!
//! Frames are put together by hand from what they are meant to say, and what they are meant to
//! say becomes the expected records. flowd's own parser and flow cache take no part in it, so
//! that a test against these files can fail.

mod capture;
mod demo;
mod files;
mod flows;
mod ip;
mod links;
mod naive;
mod packet;

use anyhow::{Context as _, bail};
use capture::Capture;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the captures, or with `check` only compares them with what is there.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-pcaps");
    let files = all_files(&directory);
    if check {
        return compare(&files);
    }
    fs::create_dir_all(directory.join("expected")).context("cannot make test-pcaps/expected")?;
    for (path, content) in &files {
        fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn captures() -> Vec<Capture> {
    let mut captures = links::captures();
    captures.extend(ip::captures());
    captures.extend(flows::captures());
    captures.extend(files::captures());
    captures.extend(demo::captures());
    captures.sort_by_key(|capture| capture.name);
    captures
}

/// Every file with its content.
fn all_files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let captures = captures();
    let mut files = vec![(directory.join("README.md"), readme(&captures).into_bytes())];
    for capture in captures {
        let expected = directory.join("expected");
        let name = capture.name;
        let records = naive::records(&capture).into_bytes();
        let books = naive::books(&capture).into_bytes();
        files.push((expected.join(format!("{name}.json")), records));
        files.push((expected.join(format!("{name}.books.json")), books));
        files.push((directory.join(name), capture.file));
    }
    files
}

fn compare(files: &[(PathBuf, Vec<u8>)]) -> anyhow::Result<()> {
    let remedy = "run `cargo xtask pcaps` and commit what changes";
    for (path, content) in files {
        let committed =
            fs::read(path).with_context(|| format!("{} is missing: {remedy}", path.display()))?;
        if committed != *content {
            bail!("{} is not what is made now: {remedy}", path.display());
        }
    }
    Ok(())
}

fn readme(captures: &[Capture]) -> String {
    let mut text = String::from(
        "# Test captures\n\
         \n\
         Made by `cargo xtask pcaps`, octet by octet, from nothing but that program; \
         `cargo xtask pcaps --check` fails if they differ from what it makes.\n\
         They hold no traffic of anyone. Licence: Apache-2.0 OR MIT, as the rest of flowd.\n\
         \n\
         `expected/FILE.json` holds the flow records that replaying FILE gives, one JSON object \
         a line, in the order in which the flows end, at an active timeout of 60 s and an \
         inactive timeout of 15 s.\n\
         `expected/FILE.books.json` holds what becomes of its packets: how many are read, \
         accounted and refused by reason, and the byte at which the file is damaged, if it is.\n\
         Both are written from what the frames were built to say, by a program that does not \
         use flowd's parser or flow cache.\n\
         \n\
         | File | Packets | Proves | SHA-256 |\n\
         |---|---|---|---|\n",
    );
    for capture in captures {
        let digest = Sha256::digest(&capture.file);
        let digest = digest.iter().fold(String::new(), |mut text, octet| {
            write!(text, "{octet:02x}").expect("a String takes all");
            text
        });
        writeln!(
            text,
            "| {} | {} | {} | `{digest}` |",
            capture.name,
            capture.entries.len(),
            capture.proves
        )
        .expect("a String takes all");
    }
    text
}
