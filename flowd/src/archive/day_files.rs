//! DayFiles: what of the index is no segment's own, and when it goes.

use super::index::{LedgerRuns, date_of, day_path, ledger_size};
use super::manifest::{Manifest, SegmentEntry};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What the index has beside that of each segment: a file a day, which goes with the last segment
/// of its day, and the ledger of addresses.
#[derive(Debug, Default)]
pub(super) struct DayFiles<'a> {
    /// By date how many segments there are, and how many octets the file has.
    files: BTreeMap<&'a str, (usize, u64)>,
    ledger_size: u64,
    /// What of the ledger goes with its records.
    runs: LedgerRuns,
}

impl<'a> DayFiles<'a> {
    /// Those of an archive, whose ledger is kept for longer than its records or goes with them.
    pub(super) fn of(archive_dir: &Path, manifest: &'a Manifest, is_ledger_kept: bool) -> Self {
        let mut files: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for segment in manifest.segments() {
            let (segments, _) = files.entry(date_of(&segment.path)).or_insert_with(|| {
                let file = fs::metadata(day_path(archive_dir, &segment.path));
                (0, file.map_or(0, |file| file.len()))
            });
            *segments += 1;
        }
        let runs = if is_ledger_kept {
            LedgerRuns::default()
        } else {
            LedgerRuns::of(archive_dir, manifest.segments())
        };
        Self { files, ledger_size: ledger_size(archive_dir), runs }
    }

    pub(super) fn octets(&self) -> u64 {
        self.files.values().map(|(_, octets)| octets).sum::<u64>() + self.ledger_size
    }

    /// Notes that a segment goes; the octets that go with it.
    pub(super) fn let_go(&mut self, segment: &SegmentEntry) -> u64 {
        let Some((segments, octets)) = self.files.get_mut(date_of(&segment.path)) else {
            return 0;
        };
        *segments = segments.saturating_sub(1);
        if *segments > 0 {
            return 0;
        }
        std::mem::take(octets) + self.runs.let_go(segment)
    }
}
