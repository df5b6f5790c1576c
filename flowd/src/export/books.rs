//! What was exported to a collector, and what was not, by reason.

use crate::model::{FlowRecord, PointTotals, Totals};
use crate::telemetry::Reason;
use flowd_common::{Direction, ObservationPoint};
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

/// What one message carries.
#[derive(Debug, Default)]
pub(super) struct Carried {
    flows: Totals,
    options_records: u64,
    /// Of the flow records that say where they were seen; at most as many as there are records.
    points: Vec<(ObservationPoint, Totals)>,
    /// Of those whose interface was forgotten meanwhile.
    forgotten: Totals,
}

impl Carried {
    /// Adds a flow record.
    pub(super) fn add(&mut self, record: &FlowRecord) {
        let totals = Totals::of(record);
        self.flows.add(totals);
        let Some(point) = record.point() else {
            return;
        };
        // Records of one point come together: it is mostly the last one.
        match self.points.iter_mut().rev().find(|(known, _)| *known == point) {
            Some((_, sum)) => sum.add(totals),
            None => self.points.push((point, totals)),
        }
    }

    /// Adds records of options data.
    pub(super) const fn add_options(&mut self, count: u64) {
        self.options_records = self.options_records.saturating_add(count);
    }

    /// Forgets all and keeps the memory.
    pub(super) fn clear(&mut self) {
        let Self { flows, options_records, points, forgotten } = self;
        *flows = Totals::default();
        *options_records = 0;
        points.clear();
        *forgotten = Totals::default();
    }

    /// Tells the points of this interface apart no more: should the message turn out not to have
    /// arrived, they are not to come up again.
    pub(super) fn forget_interface(&mut self, interface: u32) {
        let Self { points, forgotten, .. } = self;
        points.retain(|&(point, totals)| {
            let stays = point.interface != interface;
            if !stays {
                forgotten.add(totals);
            }
            stays
        });
    }
}

/// The counters of one collector.
#[derive(Debug)]
pub(super) struct CollectorBooks {
    messages: u64,
    exported: Totals,
    options_records: u64,
    not_sent: Vec<Totals>,
    not_sent_at: PointTotals,
    pub(super) fields_left_out: u64,
    pub(super) pace_overruns: u64,
}

impl CollectorBooks {
    pub(super) fn new() -> Self {
        Self {
            messages: 0,
            exported: Totals::default(),
            options_records: 0,
            not_sent: vec![Totals::default(); NotSent::ALL.len()],
            not_sent_at: PointTotals::default(),
            fields_left_out: 0,
            pace_overruns: 0,
        }
    }

    /// A message was handed to the network.
    pub(super) const fn exported(&mut self, carried: &Carried) {
        self.messages = self.messages.saturating_add(1);
        self.exported.add(carried.flows);
        self.options_records = self.options_records.saturating_add(carried.options_records);
    }

    /// A message did not leave. Its options data is sent again anyway.
    pub(super) fn not_sent(&mut self, reason: NotSent, carried: &Carried) {
        let Carried { flows, options_records: _, points, forgotten } = carried;
        if let Some(sum) = self.not_sent.get_mut(reason.index()) {
            sum.add(*flows);
        }
        for &(point, totals) in points {
            self.not_sent_at.add(point, totals);
        }
        self.not_sent_at.add_beyond(*forgotten);
    }

    /// Tells the points of this interface apart no more.
    pub(super) fn forget_interface(&mut self, interface: u32) {
        for direction in [Direction::INGRESS, Direction::EGRESS] {
            self.not_sent_at.lay_beyond(ObservationPoint::new(interface, direction));
        }
    }

    /// A record came into no message.
    pub(super) fn refused(&mut self, reason: NotSent, record: &FlowRecord) {
        let mut carried = Carried::default();
        carried.add(record);
        self.not_sent(reason, &carried);
    }

    /// A message that was counted as exported turns out to have reached nobody.
    pub(super) fn turned_out_not_sent(&mut self, reason: NotSent, carried: &Carried) {
        self.messages = self.messages.saturating_sub(1);
        self.exported.take_back(carried.flows);
        self.options_records = self.options_records.saturating_sub(carried.options_records);
        self.not_sent(reason, carried);
    }

    /// What did not leave, by where it was seen.
    pub(super) const fn not_sent_at(&self) -> &PointTotals {
        &self.not_sent_at
    }

    pub(super) fn statistics(&self, address: SocketAddr) -> CollectorStatistics {
        let Self {
            messages,
            exported,
            options_records,
            not_sent,
            not_sent_at,
            fields_left_out,
            pace_overruns,
        } = self;
        CollectorStatistics {
            address,
            messages: *messages,
            exported: *exported,
            options_records: *options_records,
            not_sent: NotSent::ALL
                .iter()
                .zip(not_sent)
                .filter(|(_, totals)| totals.records > 0)
                .map(|(reason, totals)| (reason.name().to_owned(), *totals))
                .collect(),
            not_sent_at: NotSentAt::list(not_sent_at),
            fields_left_out: *fields_left_out,
            pace_overruns: *pace_overruns,
        }
    }
}

/// What of one observation point did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotSentAt {
    /// The interface; none for all the points together that are not told apart: those of
    /// interfaces that vanished, and those beyond
    /// [`POINT_COUNT_MAX`](crate::model::POINT_COUNT_MAX).
    pub interface: Option<u32>,
    /// `flowDirection`: 0 ingress, 1 egress; none beside no interface.
    pub flow_direction: Option<u8>,
    /// What did not leave.
    #[serde(flatten)]
    pub totals: Totals,
}

impl NotSentAt {
    fn list(points: &PointTotals) -> Vec<Self> {
        let known = points.iter().map(|(point, totals)| Self {
            interface: Some(point.interface),
            flow_direction: Some(point.direction.0),
            totals,
        });
        let beyond = Self { interface: None, flow_direction: None, totals: points.beyond() };
        known.chain([beyond].into_iter().filter(|beyond| beyond.totals.records > 0)).collect()
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
    /// What they carried of flows.
    pub exported: Totals,
    /// Records of options data that they carried besides.
    pub options_records: u64,
    /// What was given to the exporter and did not leave, by reason.
    pub not_sent: BTreeMap<String, Totals>,
    /// The same by observation point, of the records that tell where their flows were seen.
    pub not_sent_at: Vec<NotSentAt>,
    /// Fields that exported records had and NetFlow v9 cannot carry: the reverse direction's
    /// counters, elements of other enterprises, values of variable length.
    pub fields_left_out: u64,
    /// Times that the collector's queue was waited for in vain and sending went on. While the
    /// queue stays full it is not waited for again.
    pub pace_overruns: u64,
}
