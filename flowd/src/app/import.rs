//! `flowd store import`: files of nfdump -> a store, each file once.

mod list;

use self::list::{Known, ListEntry, Listed};
use super::writer::StoreWriter;
use super::{clock, shutdown};
use crate::import::{ImportError, NfdumpFile};
use crate::telemetry::Flag;
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

pub use crate::import::NotImported;

/// Records that are put in the order of their hours and written together.
const RECORDS_AT_ONCE: usize = 32_768;

/// What to import, and where to.
#[derive(Debug)]
pub struct Plan {
    /// The store's directory; made if it is not there.
    pub store: PathBuf,
    /// Files, in this order.
    pub files: Vec<PathBuf>,
    /// Import files again that the store has already.
    pub again: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Files that are done.
    pub files: usize,
    /// Records so far.
    pub records: u64,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// Records stored.
    pub records: u64,
    /// Files of which all or, if they are damaged, a part is in the store now.
    pub files: usize,
    /// What of their records has no place in the store.
    pub not_imported: NotImported,
    /// What is wrong with other files, or the rest of one, each in a line.
    pub faults: Vec<String>,
    /// A signal ended it before the last file.
    pub is_cut_short: bool,
}

/// Imports the files. What is wrong with one of them is no reason to leave out the others.
///
/// # Errors
/// If the store cannot be written.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(Progress)) -> Result<Report> {
    let stop = shutdown::on_signal()?;
    // A store is not made, nor opened, for files of which not one can be imported.
    let faults: Vec<String> = plan.files.iter().map_while(|path| fault(path)).collect();
    if faults.len() == plan.files.len() {
        return Ok(Report { faults, ..Report::default() });
    }
    let mut writer = StoreWriter::open(&plan.store)?;
    let mut listed = Listed::open(&plan.store)?;
    let mut report = Report::default();
    for (index, path) in plan.files.iter().enumerate() {
        if stop.is_raised() {
            report.is_cut_short = true;
            break;
        }
        let mut work = Work { writer: &mut writer, listed: &mut listed, report: &mut report };
        work.import(path, plan.again, &stop, &mut |records| {
            progress(Progress { files: index, records });
        })?;
    }
    let stored = writer.finish()?;
    debug_assert_eq!(stored, report.records, "what was read is what is stored");
    Ok(report)
}

struct Work<'a> {
    writer: &'a mut StoreWriter,
    listed: &'a mut Listed,
    report: &'a mut Report,
}

impl Work<'_> {
    /// Imports one file, unless it is in the store. An error is the store's, not the file's.
    fn import(
        &mut self,
        path: &Path,
        again: bool,
        stop: &Flag,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let opened = open(path);
        let (entry, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.report.faults.push(format!("{}: {error}", path.display()));
                return Ok(());
            }
        };
        if !again && let Some(known) = self.listed.find(&entry) {
            let fault = match known {
                Known::Whole { at, records } => format!(
                    "{}: was imported {at}, {records} records; --again imports it once more",
                    path.display()
                ),
                Known::Begun { at } => format!(
                    "{}: an import of it was begun {at} and did not end, so that some of its \
                     records may be in the store; --again imports it whole",
                    path.display()
                ),
            };
            self.report.faults.push(fault);
            return Ok(());
        }
        let mut file = match NfdumpFile::open(file) {
            Ok(file) => file,
            Err(error) => {
                self.report.faults.push(format!("{}: {error}", path.display()));
                return Ok(());
            }
        };
        self.listed.begin(&entry, clock::now())?;
        let before = self.report.records;
        let damage = self.copy(&mut file, stop, progress)?;
        self.report.not_imported.add(file.not_imported());
        self.report.files += 1;
        if let Some(damage) = damage {
            self.report.faults.push(format!("{}: {damage}", path.display()));
        }
        if stop.is_raised() {
            self.report.is_cut_short = true;
            return Ok(());
        }
        self.listed.end(&entry, clock::now(), self.report.records - before)
    }

    /// Stores a file's records up to its end or, which it says then, to its damage.
    fn copy(
        &mut self,
        file: &mut NfdumpFile,
        stop: &Flag,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<ImportError>> {
        let mut records = Vec::new();
        while !stop.is_raised() {
            records.clear();
            let read = file.read(&mut records, RECORDS_AT_ONCE);
            self.report.records += records.len() as u64;
            self.writer.write_imported(&mut records)?;
            progress(self.report.records);
            match read {
                Ok(true) => {}
                Ok(false) => break,
                Err(damage) => return Ok(Some(damage)),
            }
        }
        Ok(None)
    }
}

/// What keeps all of a file from being imported, if that is seen at its beginning.
fn fault(path: &Path) -> Option<String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    match open_file(path) {
        Ok(file) => NfdumpFile::open(file).err().map(|error| named(&error)),
        Err(error) => Some(named(&error)),
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory; name its files"));
    }
    Ok(file)
}

/// Opens a file and looks through it for its digest.
fn open(path: &Path) -> io::Result<(ListEntry, File)> {
    let mut file = open_file(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                digest.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    file.rewind()?;
    let sha256 = digest.finalize().iter().map(|octet| format!("{octet:02x}")).collect();
    // The name alone: a store may be moved, and with it the files that it was made of.
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((ListEntry { name, size, sha256 }, file))
}
