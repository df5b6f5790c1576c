//! What was received, decoded and dropped: written by the workers, read by any thread.

use super::exporters::{ExporterBooks, Exporters};
use super::standing::Standings;
use crate::model::Origin;
use crate::telemetry::{Counter, Drops, Reason};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a datagram, or a data set of it, was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectDrop {
    /// It breaks the format. Of a datagram, what came before the damage was decoded.
    Malformed,
    /// Its first word is no version that is decoded.
    UnsupportedVersion,
    /// A data set whose template did not come in time.
    TemplateMissing,
    /// A data set or template beyond a limit.
    OverLimit,
    /// The socket cut it short.
    Truncated,
    /// A template beyond the share of its exporter.
    OverShare,
    /// A template of an exporter that changes its templates all the time.
    ChangedTooOften,
}

impl Reason for CollectDrop {
    const ALL: &'static [Self] = &[
        Self::Malformed,
        Self::UnsupportedVersion,
        Self::TemplateMissing,
        Self::OverLimit,
        Self::Truncated,
        Self::OverShare,
        Self::ChangedTooOften,
    ];

    fn index(self) -> usize {
        match self {
            Self::Malformed => 0,
            Self::UnsupportedVersion => 1,
            Self::TemplateMissing => 2,
            Self::OverLimit => 3,
            Self::Truncated => 4,
            Self::OverShare => 5,
            Self::ChangedTooOften => 6,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnsupportedVersion => "unsupportedVersion",
            Self::TemplateMissing => "templateMissing",
            Self::OverLimit => "overLimit",
            Self::Truncated => "truncated",
            Self::OverShare => "overShare",
            Self::ChangedTooOften => "changedTooOften",
        }
    }
}

/// The collector's counters. All workers share one.
#[derive(Debug, Default)]
pub struct Books {
    pub(super) datagrams: Counter,
    pub(super) octets: Counter,
    pub(super) datagrams_decoded: Counter,
    pub(super) datagram_drops: Drops<CollectDrop>,
    pub(super) kernel_drops: Counter,
    pub(super) records: Counter,
    pub(super) sets: Counter,
    pub(super) sets_decoded: Counter,
    pub(super) set_drops: Drops<CollectDrop>,
    /// Sets that an earlier collector held.
    sets_restored: Counter,
    pub(super) sets_waited: Counter,
    pub(super) sets_late: Counter,
    pub(super) templates: Counter,
    pub(super) template_drops: Drops<CollectDrop>,
    pub(super) withdrawals: Counter,
    pub(super) withdrawals_ignored: Counter,
    pub(super) redefinitions: Counter,
    pub(super) redefinitions_not_withdrawn: Counter,
    pub(super) standings: Standings,
    exporters: Mutex<Exporters>,
}

impl Books {
    /// The counters of an exporter, made when it is new.
    pub(super) fn exporter(&self, origin: &Origin) -> Arc<ExporterBooks> {
        // A thread that panicked left only sums behind: they are as good as ever.
        let mut exporters = self.exporters.lock().unwrap_or_else(PoisonError::into_inner);
        exporters.get_or_make(origin)
    }

    /// Takes over so many data sets that an earlier collector held.
    pub fn restored_sets(&self, count: u64) {
        self.sets_restored.add(count);
    }

    /// Takes over where the exporters' sequences stood when an earlier collector of this
    /// directory ended, of so many sessions: what was sent since is missing.
    pub fn restore_sequences(&self, dir: &Path) -> usize {
        self.standings.restore(dir)
    }

    /// Saves where the exporters' sequences stand, if they have moved.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_sequences(&self, dir: &Path) -> io::Result<()> {
        self.standings.save(dir)
    }

    /// A datagram came in.
    pub(super) fn received(&self, size: usize) {
        self.datagrams.add(1);
        self.octets.add(u64::try_from(size).unwrap_or(u64::MAX));
    }

    /// All counters as they stand.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let (mut exporters, other_exporters, exporters_over_limit) = {
            let exporters = self.exporters.lock().unwrap_or_else(PoisonError::into_inner);
            (exporters.statistics(), exporters.others(), exporters.given_way())
        };
        exporters.sort_by_key(|exporter| (exporter.address, exporter.domain));
        let (sets, sets_decoded) = (self.sets.value(), self.sets_decoded.value());
        let set_drops = by_name(&self.set_drops);
        let sets_dropped: u64 = set_drops.values().sum();
        let sets_restored = self.sets_restored.value();
        let sets_ended = sets_decoded.saturating_add(sets_dropped);
        Statistics {
            datagrams: self.datagrams.value(),
            octets: self.octets.value(),
            datagrams_decoded: self.datagrams_decoded.value(),
            drops: by_name(&self.datagram_drops),
            kernel_drops: self.kernel_drops.value(),
            records: self.records.value(),
            sets,
            sets_decoded,
            sets_held: sets.saturating_add(sets_restored).saturating_sub(sets_ended),
            set_drops,
            sets_restored,
            sets_waited: self.sets_waited.value(),
            sets_late: self.sets_late.value(),
            templates: self.templates.value(),
            template_drops: by_name(&self.template_drops),
            withdrawals: self.withdrawals.value(),
            withdrawals_ignored: self.withdrawals_ignored.value(),
            redefinitions: self.redefinitions.value(),
            redefinitions_not_withdrawn: self.redefinitions_not_withdrawn.value(),
            exporters_over_limit,
            exporters,
            other_exporters,
        }
    }
}

/// The reasons that happened, with their counts.
pub(super) fn by_name(drops: &Drops<CollectDrop>) -> BTreeMap<String, u64> {
    drops
        .iter()
        .filter(|&(_, count)| count > 0)
        .map(|(reason, count)| (reason.name().to_owned(), count))
        .collect()
}

/// The collector's counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Statistics {
    /// Datagrams received.
    pub datagrams: u64,
    /// Their octets of UDP payload.
    pub octets: u64,
    /// Datagrams that were read to their end.
    pub datagrams_decoded: u64,
    /// The others, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Datagrams that the kernel dropped because the socket's buffer was full. They were never
    /// received, and stand beside the other counts.
    pub kernel_drops: u64,
    /// Records decoded, of flows and of options.
    pub records: u64,
    /// Data sets received.
    pub sets: u64,
    /// Data sets whose records were decoded.
    pub sets_decoded: u64,
    /// Data sets that wait for their template.
    pub sets_held: u64,
    /// Data sets that were dropped, by reason.
    pub set_drops: BTreeMap<String, u64>,
    /// Data sets that an earlier collector of the store held, and this one took over.
    pub sets_restored: u64,
    /// Data sets that came before their template, whatever became of them.
    pub sets_waited: u64,
    /// Of these, such as were decoded when it had come.
    pub sets_late: u64,
    /// Template records accepted, repeats included.
    pub templates: u64,
    /// Template records that were refused, by reason.
    pub template_drops: BTreeMap<String, u64>,
    /// Templates withdrawn over connections.
    pub withdrawals: u64,
    /// Withdrawals in datagrams, where they mean nothing.
    pub withdrawals_ignored: u64,
    /// Templates that took the place of another of their exporter, domain, port and number.
    pub redefinitions: u64,
    /// Of these, such as came over connections without a withdrawal.
    pub redefinitions_not_withdrawn: u64,
    /// Times that an exporter lost its row below to a new one, because there are too many.
    pub exporters_over_limit: u64,
    /// Each exporter and domain.
    pub exporters: Vec<ExporterStatistics>,
    /// The exporters that lost their rows, in one sum under the address `::`.
    #[serde(default)]
    pub other_exporters: Option<ExporterStatistics>,
}

/// The counters of one exporter and domain at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExporterStatistics {
    /// Its address.
    pub address: IpAddr,
    /// Its Observation Domain.
    pub domain: u32,
    /// The protocol it speaks: [`Protocol::name`](crate::model::Protocol::name).
    pub protocol: String,
    /// Messages received from it.
    pub messages: u64,
    /// Records decoded, of flows and of options.
    pub records: u64,
    /// Template records received, repeats included.
    pub templates: u64,
    /// Times that its sequence numbers jumped ahead.
    pub sequence_gaps: u64,
    /// Messages that never came: the jumps' sizes, less those that came late.
    pub messages_lost: u64,
    /// Records that never came, where the protocol counts records or flows and not messages.
    #[serde(default)]
    pub records_lost: u64,
    /// Messages that came after later ones.
    pub messages_late: u64,
    /// Messages that came twice.
    pub messages_repeated: u64,
    /// Times that it began its sequence anew.
    pub restarts: u64,
    /// Data sets of it that came before their template and were decoded when it had come.
    #[serde(default)]
    pub sets_late: u64,
    /// Data sets of it that were dropped, by reason.
    pub set_drops: BTreeMap<String, u64>,
}
