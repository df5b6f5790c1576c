//! What was exported to a collector, and what was not, by reason.

use crate::model::{Column, FlowRecord, Value};
use crate::telemetry::Reason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Why records did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The collector's host said that nobody listens at the port.
    Refused,
    /// There is no way to the collector.
    Unreachable,
    /// After an error sending pauses.
    Paused,
    /// The system refused the datagram for another cause.
    SendFailed,
    /// Not a flow: options and counters of other exporters are not passed on.
    NotAFlow,
    /// It carries nothing that NetFlow v9 has a field for.
    NoFields,
    /// It does not fit a datagram.
    TooLarge,
    /// There are more kinds of records than templates are kept for.
    TemplateLimit,
}

impl Reason for NotSent {
    const ALL: &'static [Self] = &[
        Self::Refused,
        Self::Unreachable,
        Self::Paused,
        Self::SendFailed,
        Self::NotAFlow,
        Self::NoFields,
        Self::TooLarge,
        Self::TemplateLimit,
    ];

    fn index(self) -> usize {
        match self {
            Self::Refused => 0,
            Self::Unreachable => 1,
            Self::Paused => 2,
            Self::SendFailed => 3,
            Self::NotAFlow => 4,
            Self::NoFields => 5,
            Self::TooLarge => 6,
            Self::TemplateLimit => 7,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Paused => "paused",
            Self::SendFailed => "sendFailed",
            Self::NotAFlow => "notAFlow",
            Self::NoFields => "noFields",
            Self::TooLarge => "tooLarge",
            Self::TemplateLimit => "templateLimit",
        }
    }
}

/// Records, and what they tell of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Records.
    pub records: u64,
    /// Their packets.
    pub packets: u64,
    /// Their octets.
    pub octets: u64,
}

impl Totals {
    /// What one record tells of, in its forward direction.
    #[must_use]
    pub fn of(record: &FlowRecord) -> Self {
        let number = |column| match record.value(column) {
            Some(Value::Unsigned(number)) => number,
            _ => 0,
        };
        Self {
            records: 1,
            packets: number(Column::PacketDeltaCount),
            octets: number(Column::OctetDeltaCount),
        }
    }

    /// Adds.
    pub fn add(&mut self, more: Self) {
        let Self { records, packets, octets } = more;
        self.records = self.records.saturating_add(records);
        self.packets = self.packets.saturating_add(packets);
        self.octets = self.octets.saturating_add(octets);
    }

    /// Takes back what was added before.
    fn take_back(&mut self, less: Self) {
        let Self { records, packets, octets } = less;
        self.records = self.records.saturating_sub(records);
        self.packets = self.packets.saturating_sub(packets);
        self.octets = self.octets.saturating_sub(octets);
    }
}

/// The counters of one collector.
#[derive(Debug)]
pub(super) struct CollectorBooks {
    pub(super) messages: u64,
    pub(super) exported: Totals,
    not_sent: Vec<Totals>,
    pub(super) fields_left_out: u64,
    pub(super) pace_overruns: u64,
}

impl CollectorBooks {
    pub(super) fn new() -> Self {
        Self {
            messages: 0,
            exported: Totals::default(),
            not_sent: vec![Totals::default(); NotSent::ALL.len()],
            fields_left_out: 0,
            pace_overruns: 0,
        }
    }

    pub(super) fn not_sent(&mut self, reason: NotSent, totals: Totals) {
        if let Some(sum) = self.not_sent.get_mut(reason.index()) {
            sum.add(totals);
        }
    }

    /// A message that was counted as exported turns out to have reached nobody.
    pub(super) fn turned_out_not_sent(&mut self, reason: NotSent, totals: Totals) {
        self.messages = self.messages.saturating_sub(1);
        self.exported.take_back(totals);
        self.not_sent(reason, totals);
    }

    pub(super) fn statistics(&self, address: SocketAddr) -> CollectorStatistics {
        let Self { messages, exported, not_sent, fields_left_out, pace_overruns } = self;
        CollectorStatistics {
            address,
            messages: *messages,
            exported: *exported,
            not_sent: NotSent::ALL
                .iter()
                .zip(not_sent)
                .filter(|(_, totals)| totals.records > 0)
                .map(|(reason, totals)| (reason.name().to_owned(), *totals))
                .collect(),
            fields_left_out: *fields_left_out,
            pace_overruns: *pace_overruns,
        }
    }
}

/// What was exported to one collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorStatistics {
    /// Where it listens.
    pub address: SocketAddr,
    /// Messages handed to the network.
    pub messages: u64,
    /// What they carried.
    pub exported: Totals,
    /// What was given to the exporter and did not leave, by reason.
    pub not_sent: BTreeMap<String, Totals>,
    /// Fields that exported records had and NetFlow v9 cannot carry: the reverse direction's
    /// counters, elements of other enterprises, values of variable length.
    pub fields_left_out: u64,
    /// Times that the collector's queue was waited for in vain and sending went on. While the
    /// queue stays full it is not waited for again.
    pub pace_overruns: u64,
}
