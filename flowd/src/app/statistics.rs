//! STORE/statistics.json: what the collectors of a store have counted, over restarts.

use super::control;
use super::marks::Marks;
use super::refusals::Refused;
use super::ring_use::RingUse;
use crate::archive::LossEntry;
use crate::collect::{Books, Statistics, replace_file};
use crate::model::time::UnixMillis;
use crate::ring::{Ring, RingDrop};
use crate::telemetry::Reason;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};
use tracing::warn;

/// What a running collector is asked for.
pub(super) const REQUEST: &str = "statistics";
/// Absences that are told apart.
const ABSENCES_MAX: usize = 1_000;
const FILE_NAME: &str = "statistics.json";

/// STORE/control.sock, where the running collector answers.
pub(super) fn socket(store: &Path) -> PathBuf {
    store.join("control.sock")
}

/// The counters of a store's collectors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StoreStatistics {
    /// When they were read, in milliseconds since 1970.
    pub(super) at: i64,
    /// How often they were saved.
    pub(super) saves: u64,
    /// How far they reach into the ring; none of those that a running collector tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) counted: Option<Marks>,
    /// When nobody listened, from the end of one collector to the start of the next, in
    /// milliseconds since 1970.
    pub(super) absences: Vec<(i64, i64)>,
    /// What was received, decoded and dropped before the ring.
    pub(super) collect: Statistics,
    /// Records that the ring took.
    pub(super) appended: u64,
    /// Records that the ring refused or lost, by reason.
    pub(super) ring_drops: BTreeMap<String, u64>,
    /// When records were refused.
    pub(super) refused: Vec<Refused>,
    /// Records that were lost from the ring, of which the archive could not be told yet.
    pub(super) untold: Vec<LossEntry>,
    /// What the ring takes, and how fast it is filled.
    pub(super) ring: RingUse,
}

/// The counters of one run, as they were read.
#[derive(Debug)]
pub(super) struct Reading {
    /// When.
    pub(super) at: UnixMillis,
    collect: Statistics,
    appended: u64,
    ring_drops: Vec<(RingDrop, u64)>,
    untold: Vec<LossEntry>,
}

impl Reading {
    /// Reads them.
    pub(super) fn new(at: UnixMillis, books: &Books, ring: &Ring) -> Self {
        Self {
            at,
            collect: books.statistics(),
            appended: ring.appended().value(),
            ring_drops: ring.drops().iter().filter(|(_, count)| *count > 0).collect(),
            untold: ring.untold_losses().into_iter().map(LossEntry::from).collect(),
        }
    }
}

impl StoreStatistics {
    /// These of earlier runs and those of this one.
    pub(super) fn and(&self, reading: Reading) -> Self {
        let Reading { at, collect, appended, ring_drops, untold } = reading;
        let mut sum = Self { at: at.0, counted: None, untold, ..self.clone() };
        sum.collect.add(&collect);
        sum.appended += appended;
        for (reason, count) in ring_drops {
            *sum.ring_drops.entry(RingDrop::name(reason).to_owned()).or_default() += count;
        }
        sum
    }

    /// Notes that a collector begins: from the last count until now nobody listened.
    pub(super) fn begin(&mut self, now: UnixMillis) {
        if self.at == 0 || self.at >= now.0 {
            return;
        }
        self.absences.push((self.at, now.0));
        if self.absences.len() > ABSENCES_MAX {
            // The two oldest become one that reaches over both: rather too much said than too
            // little.
            let (since, _) = self.absences.remove(0);
            if let Some(oldest) = self.absences.first_mut() {
                oldest.0 = since;
            }
        }
    }

    /// The counters of a store for whoever asks: the running collector's, and whether there is
    /// one, else those that were written last.
    pub(super) fn of_store(store: &Path) -> (Self, Option<bool>) {
        let live = control::ask(&socket(store), REQUEST);
        let is_denied =
            live.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        match live.ok().and_then(|text| serde_json::from_str(&text).ok()) {
            Some(statistics) => (statistics, Some(true)),
            None => (Self::read(store), (!is_denied).then_some(false)),
        }
    }

    /// What was written last; nothing if the store has had no collector. Counters are no
    /// records: if they cannot be read, that is said and counting begins anew.
    pub(super) fn read(store: &Path) -> Self {
        let path = store.join(FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // What is no store is told by whoever opens it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Self::default();
            }
            Err(error) => {
                warn!(%error, file = %path.display(), "the statistics cannot be read");
                return Self::default();
            }
        };
        serde_json::from_str(&text).unwrap_or_else(|error| {
            warn!(%error, file = %path.display(), "the statistics are damaged: counting anew");
            Self::default()
        })
    }

    /// Replaces what was written last. It survives the process being killed; after a power cut
    /// it may be gone, which is worth less than a wait for the disk several times a second.
    pub(super) fn write(&self, store: &Path) -> Result<()> {
        let text = serde_json::to_string(self).context("statistics as JSON")?;
        let path = store.join(FILE_NAME);
        replace_file(&path, |file| file.write_all(text.as_bytes()))
            .with_context(|| format!("write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_without_a_collector_is_kept_within_bounds() {
        let mut statistics = StoreStatistics::default();
        statistics.begin(UnixMillis(5));
        assert!(statistics.absences.is_empty(), "before the first collector nothing was promised");
        for hour in 1..=2_000 {
            statistics.at = hour * 10;
            statistics.begin(UnixMillis(hour * 10 + 3));
        }
        assert_eq!(statistics.absences.len(), ABSENCES_MAX);
        assert_eq!(statistics.absences[0], (10, 10_013));
        assert_eq!(statistics.absences[ABSENCES_MAX - 1], (20_000, 20_003));
    }

    #[test]
    fn what_was_written_is_read_again_and_damage_is_no_end() {
        let store = tempfile::tempdir().unwrap();
        assert_eq!(StoreStatistics::read(store.path()), StoreStatistics::default());
        let statistics = StoreStatistics { at: 7, appended: 3, ..StoreStatistics::default() };
        statistics.write(store.path()).unwrap();
        assert_eq!(StoreStatistics::read(store.path()), statistics);
        fs::write(store.path().join(FILE_NAME), "{").unwrap();
        assert_eq!(StoreStatistics::read(store.path()), StoreStatistics::default());
        fs::write(store.path().join(FILE_NAME), r#"{"appended": 5}"#).unwrap();
        assert_eq!(StoreStatistics::read(store.path()).appended, 5);
    }
}
