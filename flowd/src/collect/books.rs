//! What was received, decoded and dropped: written by the workers, read by any thread.

use super::exporters::{ExporterBooks, Exporters};
use super::forward::{ForwardStatistics, ForwardTargets};
use super::rounds::Rounds;
use super::sflow::{SampleBooks, SampleStatistics};
use super::standing::{Sequences, Standings};
use crate::model::Origin;
use crate::telemetry::{Counter, Drops, Reason};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
    /// The socket cut it short, or its connection ended before it did.
    Truncated,
    /// It came from an address that may not send.
    NotAllowed,
    /// Its exporter sent more than its share.
    RateLimited,
    /// A template beyond the share of its exporter.
    OverShare,
    /// A template of an exporter that changes its templates all the time.
    ChangedTooOften,
    /// A set whose id has no meaning.
    UnknownSet,
}

impl Reason for CollectDrop {
    const ALL: &'static [Self] = &[
        Self::Malformed,
        Self::UnsupportedVersion,
        Self::TemplateMissing,
        Self::OverLimit,
        Self::Truncated,
        Self::NotAllowed,
        Self::RateLimited,
        Self::OverShare,
        Self::ChangedTooOften,
        Self::UnknownSet,
    ];

    fn index(self) -> usize {
        match self {
            Self::Malformed => 0,
            Self::UnsupportedVersion => 1,
            Self::TemplateMissing => 2,
            Self::OverLimit => 3,
            Self::Truncated => 4,
            Self::NotAllowed => 5,
            Self::RateLimited => 6,
            Self::OverShare => 7,
            Self::ChangedTooOften => 8,
            Self::UnknownSet => 9,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnsupportedVersion => "unsupportedVersion",
            Self::TemplateMissing => "templateMissing",
            Self::OverLimit => "overLimit",
            Self::Truncated => "truncated",
            Self::NotAllowed => "notAllowed",
            Self::RateLimited => "rateLimited",
            Self::OverShare => "overShare",
            Self::ChangedTooOften => "changedTooOften",
            Self::UnknownSet => "unknownSet",
        }
    }
}

/// Why a TCP connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The exporter closed it, or it broke.
    Closed,
    /// The exporter closed it within a message.
    Truncated,
    /// What it sent is no message.
    Malformed,
    /// What it sent is no IPFIX.
    UnsupportedVersion,
    /// No message came for long.
    Idle,
    /// A message began and did not come to its end in time.
    Stalled,
    /// There were too many, or too much of their messages was waiting.
    OverLimit,
    /// It came from an address that may not send.
    NotAllowed,
    /// The collector ended.
    Stopped,
}

impl Reason for ConnectionEnd {
    const ALL: &'static [Self] = &[
        Self::Closed,
        Self::Truncated,
        Self::Malformed,
        Self::UnsupportedVersion,
        Self::Idle,
        Self::Stalled,
        Self::OverLimit,
        Self::NotAllowed,
        Self::Stopped,
    ];

    fn index(self) -> usize {
        match self {
            Self::Closed => 0,
            Self::Truncated => 1,
            Self::Malformed => 2,
            Self::UnsupportedVersion => 3,
            Self::Idle => 4,
            Self::Stalled => 5,
            Self::OverLimit => 6,
            Self::NotAllowed => 7,
            Self::Stopped => 8,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::UnsupportedVersion => "unsupportedVersion",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::OverLimit => "overLimit",
            Self::NotAllowed => "notAllowed",
            Self::Stopped => "stopped",
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
    pub(super) connections: Counter,
    pub(super) connection_ends: Drops<ConnectionEnd>,
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
    pub(super) samples: SampleBooks,
    pub(super) elements_learned: Counter,
    pub(super) elements_refused: Counter,
    pub(super) lists_over_limit: Counter,
    pub(super) sessions_over_limit: Counter,
    pub(super) redefinitions: Counter,
    pub(super) redefinitions_not_withdrawn: Counter,
    pub(super) standings: Standings,
    pub(super) rounds: Rounds,
    /// Receivers of repeated datagrams, set once before any worker runs.
    forwarded: OnceLock<ForwardTargets>,
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
    /// directory made its save of that number, of so many sessions: what was sent since is
    /// missing.
    pub fn restore_sequences(&self, dir: &Path, save: u64) -> usize {
        self.standings.restore(dir, save)
    }

    /// Where the exporters' sequences stand, if they have moved since the last save, for the save
    /// of this number. Asked between rounds they are of the moment that the counters are of.
    #[must_use]
    pub fn sequences(&self, save: u64) -> Option<Sequences> {
        self.standings.sequences(save)
    }

    /// Writes them, beside those of the save before.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_sequences(&self, dir: &Path, sequences: Option<Sequences>) -> io::Result<()> {
        sequences.map_or(Ok(()), |sequences| self.standings.save(dir, sequences))
    }

    /// Counts what is repeated to these receivers among the rest. To be told once.
    pub fn forward_to(&self, targets: &ForwardTargets) {
        // A second telling would be another collector's, which has books of its own.
        drop(self.forwarded.set(targets.clone()));
    }

    /// A datagram came in.
    pub(super) fn received(&self, size: usize) {
        self.datagrams.add(1);
        self.octets.add(u64::try_from(size).unwrap_or(u64::MAX));
    }

    /// All counters as they stand.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let (mut exporters, other_exporters) = {
            let exporters = self.exporters.lock().unwrap_or_else(PoisonError::into_inner);
            (exporters.statistics(), exporters.others())
        };
        exporters.sort_by_key(|exporter| (exporter.address, exporter.domain));
        Statistics { exporters, other_exporters, ..self.totals() }
    }

    /// The counters of one exporter as they stand, if it has any.
    #[must_use]
    pub fn statistics_of(&self, origin: &Origin) -> Option<ExporterStatistics> {
        let exporters = self.exporters.lock().unwrap_or_else(PoisonError::into_inner);
        exporters.statistics_of(origin)
    }

    /// The counters of all exporters together, without those of each.
    #[must_use]
    pub fn totals(&self) -> Statistics {
        let exporters_over_limit = {
            let exporters = self.exporters.lock().unwrap_or_else(PoisonError::into_inner);
            exporters.given_way()
        };
        let (sets, sets_decoded) = (self.sets.value(), self.sets_decoded.value());
        let set_drops = by_name(&self.set_drops);
        let sets_dropped: u64 = set_drops.values().sum();
        // In this order: one that ends meanwhile must not be missing at its beginning.
        let connection_ends = by_name(&self.connection_ends);
        let connections = self.connections.value();
        let connections_ended: u64 = connection_ends.values().sum();
        let sets_restored = self.sets_restored.value();
        let sets_ended = sets_decoded.saturating_add(sets_dropped);
        Statistics {
            datagrams: self.datagrams.value(),
            octets: self.octets.value(),
            datagrams_decoded: self.datagrams_decoded.value(),
            drops: by_name(&self.datagram_drops),
            kernel_drops: self.kernel_drops.value(),
            connections,
            connections_open: connections.saturating_sub(connections_ended),
            connection_ends,
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
            samples: self.samples.statistics(),
            elements_learned: self.elements_learned.value(),
            elements_refused: self.elements_refused.value(),
            lists_over_limit: self.lists_over_limit.value(),
            sessions_over_limit: self.sessions_over_limit.value(),
            standings_over_limit: self.standings.over_limit(),
            redefinitions: self.redefinitions.value(),
            redefinitions_not_withdrawn: self.redefinitions_not_withdrawn.value(),
            exporters_over_limit,
            forwarded: self.forwarded.get().map(ForwardTargets::statistics).unwrap_or_default(),
            exporters: Vec::new(),
            other_exporters: None,
        }
    }
}

/// The reasons that happened, with their counts.
pub(super) fn by_name<R: Reason>(drops: &Drops<R>) -> BTreeMap<String, u64> {
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
    /// TCP connections that came in, those among them that were refused.
    pub connections: u64,
    /// Connections that have not ended.
    pub connections_open: u64,
    /// The others, by why they ended.
    pub connection_ends: BTreeMap<String, u64>,
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
    /// sFlow samples.
    pub samples: SampleStatistics,
    /// Elements of enterprises that exporters described, and that have their names since.
    pub elements_learned: u64,
    /// Descriptions of elements that contradict what is known, or are none, or that there was no
    /// room for.
    pub elements_refused: u64,
    /// Records whose lists refer to more templates than are kept with them: the lists show as
    /// octets.
    pub lists_over_limit: u64,
    /// Sessions that were forgotten, and with them their place in the sequence, because there
    /// were too many, in all or of their address.
    pub sessions_over_limit: u64,
    /// Sessions whose place in the sequence is not kept over a restart, because there are too
    /// many.
    pub standings_over_limit: u64,
    /// Templates that took the place of another of their exporter, domain, port and number.
    pub redefinitions: u64,
    /// Of these, such as came over connections without a withdrawal.
    pub redefinitions_not_withdrawn: u64,
    /// Times that an exporter lost its row below to a new one, because there are too many.
    pub exporters_over_limit: u64,
    /// Datagrams repeated to other receivers, by address.
    pub forwarded: BTreeMap<String, ForwardStatistics>,
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
    /// Messages that the jumps passed over, whether they came late or never.
    #[serde(default)]
    pub messages_missing: u64,
    /// Messages that never came: those passed over, less those that came late.
    pub messages_lost: u64,
    /// Records that the jumps passed over, where the protocol counts records or flows and not
    /// messages.
    #[serde(default)]
    pub records_missing: u64,
    /// Of these, such as came late.
    #[serde(default)]
    pub records_late: u64,
    /// The others of them, which never came.
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
    /// Its sFlow samples.
    #[serde(default)]
    pub samples: SampleStatistics,
    /// How it samples, as it told in options data, records or headers; nothing if it told
    /// nothing.
    #[serde(default)]
    pub sampling: Vec<SamplingStatistics>,
    /// Times that it told of a sampler whose rate is not in `sampling`, because there are too
    /// many.
    #[serde(default)]
    pub samplers_over_limit: u64,
}

/// One sampler of an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SamplingStatistics {
    /// Its number at the exporter; 0 where it has none.
    pub sampler: u64,
    /// One packet of so many is looked at.
    pub interval: u64,
    /// When that was heard first, in milliseconds since 1970.
    pub since: i64,
}
