//! What running exporters answer when they are asked: each at a socket of the runtime directory.

use super::ledger::Ledger;
use crate::app::control;
use crate::export::CollectorStatistics;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What an exporter is asked for.
const REQUEST: &str = "status";
const SOCKET_NAME: &str = "export.sock";
/// Exporters that are asked at most: more sockets than that are not ours.
const EXPORTER_COUNT_MAX: usize = 1_024;

/// What is used to see packets, by direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// For packets received.
    pub ingress: String,
    /// For packets sent.
    pub egress: String,
}

/// An interface and its ledgers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceStatus {
    /// Its number: elements 10 and 14 of its records.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What its owner wrote of it.
    pub description: String,
    /// Is it metered now? Else it vanished, and its flows end by their timeouts.
    pub is_attached: bool,
    /// How its packets are seen.
    pub hooks: Hooks,
    /// What it received.
    pub ingress: Ledger,
    /// What it sent.
    pub egress: Ledger,
}

/// A collector and what was sent to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorStatus {
    /// What was exported, and what was not.
    #[serde(flatten)]
    pub statistics: CollectorStatistics,
    /// Records that were made, less those exported and those not sent. It is a fault of flowd if
    /// it is not zero.
    pub discrepancy: i64,
}

/// A running exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExporterStatus {
    /// Its process.
    pub process_id: u32,
    /// When it began.
    pub since: String,
    /// When it counted.
    pub at: String,
    /// NetFlow v9 Source ID.
    pub source_id: u32,
    /// One packet in so many is metered.
    pub sampling_interval: u32,
    /// Interfaces, by number.
    pub interfaces: Vec<InterfaceStatus>,
    /// The ledger of interfaces that vanished, both directions together.
    pub vanished: Ledger,
    /// Collectors, as configured.
    pub collectors: Vec<CollectorStatus>,
}

impl ExporterStatus {
    /// Do all its books balance?
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let interfaces = self.interfaces.iter().flat_map(|it| [&it.ingress, &it.egress]);
        interfaces.chain([&self.vanished]).all(|ledger| ledger.discrepancy.is_zero())
            && self.collectors.iter().all(|collector| collector.discrepancy == 0)
    }
}

/// A socket that answers for this exporter, gone when it is dropped.
#[derive(Debug)]
pub(super) struct StatusSocket {
    path: PathBuf,
}

impl StatusSocket {
    /// Answers with what `status` gives. If another exporter has the usual socket, this one's
    /// stands beside it under the process's id.
    pub(super) fn open(
        directory: &Path,
        status: impl Fn() -> ExporterStatus + Send + 'static,
    ) -> Result<Self> {
        let named = || directory.display().to_string();
        fs::create_dir_all(directory).with_context(named)?;
        // Of two that start at once, one looks after the other has made its socket.
        let lock = File::create(directory.join("export.lock")).with_context(named)?;
        lock.lock().with_context(named)?;
        let mut path = directory.join(SOCKET_NAME);
        if control::ask(&path, REQUEST).is_ok() {
            path = directory.join(format!("export-{}.sock", std::process::id()));
        }
        control::serve(&path, move |request| match request {
            REQUEST => serde_json::to_string(&status()).ok(),
            _ => None,
        })?;
        Ok(Self { path })
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        control::remove(&self.path);
    }
}

/// Asks all running exporters, those that began first in front.
///
/// # Errors
/// If there is one that may not be asked.
pub fn ask_all(directory: &Path) -> Result<Vec<ExporterStatus>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", directory.display())),
    };
    let mut found = Vec::new();
    let sockets = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for name in sockets.filter(|name| is_socket_name(name)).take(EXPORTER_COUNT_MAX) {
        let path = directory.join(name);
        match control::ask(&path, REQUEST) {
            Ok(text) => {
                let status = serde_json::from_str(&text).with_context(|| {
                    format!("{} is answered by another version of flowd", path.display())
                })?;
                found.push(status);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                bail!("{} may not be asked; run as the user who runs the exporter", path.display())
            }
            // Left behind by one that was killed, or ending just now.
            Err(_) => {}
        }
    }
    found.sort_by(|a: &ExporterStatus, b| (&a.since, a.process_id).cmp(&(&b.since, b.process_id)));
    Ok(found)
}

fn is_socket_name(name: &str) -> bool {
    let id = name.strip_prefix("export-").and_then(|rest| rest.strip_suffix(".sock"));
    name == SOCKET_NAME || id.is_some_and(|id| id.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn status(process_id: u32) -> ExporterStatus {
        ExporterStatus { process_id, since: process_id.to_string(), ..ExporterStatus::default() }
    }

    #[test]
    fn all_exporters_answer_and_what_the_dead_left_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("flowd");
        assert_eq!(ask_all(&directory).unwrap(), []);
        let first = StatusSocket::open(&directory, || status(1)).unwrap();
        let second = StatusSocket::open(&directory, || status(2)).unwrap();
        drop(UnixListener::bind(directory.join("export-3.sock")).unwrap());
        drop(UnixListener::bind(directory.join("letter.sock")).unwrap());
        assert_eq!(ask_all(&directory).unwrap(), [status(1), status(2)]);
        drop((first, second));
        assert_eq!(ask_all(&directory).unwrap(), []);
    }

    #[test]
    fn a_stale_socket_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(folder.path().join(SOCKET_NAME)).unwrap());
        let socket = StatusSocket::open(folder.path(), || status(7)).unwrap();
        assert_eq!(socket.path.file_name().unwrap(), SOCKET_NAME);
        assert_eq!(ask_all(folder.path()).unwrap(), [status(7)]);
    }
}
