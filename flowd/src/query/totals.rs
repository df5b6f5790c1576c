//! Totals: what the records of a group have together, and the columns that it is summed from.

use super::columns::{self, Numbers, times};
use super::field::Measure;
use super::plan::FLOW_COUNT;
use crate::model::{Column, Value};
use arrow_array::RecordBatch;
use std::borrow::Cow;

/// What the records of a group have together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) flows: u64,
    pub(super) packets: u64,
    pub(super) octets: u64,
    /// The earliest start; [`NO_START`] if no record has one.
    pub(super) start: i64,
    /// The latest end; [`NO_END`] if no record has one.
    pub(super) end: i64,
}

pub(super) const NO_START: i64 = i64::MAX;
pub(super) const NO_END: i64 = i64::MIN;

impl Totals {
    pub(super) const NONE: Self =
        Self { flows: 0, packets: 0, octets: 0, start: NO_START, end: NO_END };

    pub(super) fn add(&mut self, other: Self) {
        let Self { flows, packets, octets, start, end } = other;
        self.flows += flows;
        self.packets = self.packets.saturating_add(packets);
        self.octets = self.octets.saturating_add(octets);
        self.start = self.start.min(start);
        self.end = self.end.max(end);
    }

    fn duration(&self) -> u64 {
        if self.start == NO_START || self.end == NO_END {
            0
        } else {
            columns::millis_between(self.start, self.end)
        }
    }

    pub(super) fn measure(&self, measure: Measure) -> u64 {
        match measure {
            Measure::Bytes => self.octets,
            Measure::Packets => self.packets,
            Measure::Duration => self.duration(),
            Measure::BitsPerSecond => columns::rate(self.octets, 8_000, self.duration()),
            Measure::PacketsPerSecond => columns::rate(self.packets, 1_000, self.duration()),
            Measure::BytesPerPacket => columns::rate(self.octets, 1, self.packets),
        }
    }

    /// Adds what the group says of its records to a row.
    pub(super) fn show(&self, row: &mut Vec<(&str, Value<'_>)>) {
        row.push((FLOW_COUNT, Value::Unsigned(self.flows)));
        row.push((Column::PacketDeltaCount.name(), Value::Unsigned(self.packets)));
        row.push((Column::OctetDeltaCount.name(), Value::Unsigned(self.octets)));
        if self.start != NO_START {
            row.push((Column::FlowStartMilliseconds.name(), Value::Millis(self.start)));
        }
        if self.end != NO_END {
            row.push((Column::FlowEndMilliseconds.name(), Value::Millis(self.end)));
        }
    }
}

/// The columns of a batch that are summed.
pub(super) struct Amounts<'a> {
    packets: Numbers<'a>,
    octets: Numbers<'a>,
    starts: Cow<'a, [i64]>,
    ends: Cow<'a, [i64]>,
}

impl<'a> Amounts<'a> {
    pub(super) fn new(batch: &'a RecordBatch) -> Self {
        Self {
            packets: columns::measure(batch, Measure::Packets),
            octets: columns::measure(batch, Measure::Bytes),
            starts: times(batch, Column::FlowStartMilliseconds, NO_START),
            ends: times(batch, Column::FlowEndMilliseconds, NO_END),
        }
    }

    pub(super) fn of_row(&self, row: usize) -> Totals {
        Totals {
            flows: 1,
            packets: self.packets.values[row],
            octets: self.octets.values[row],
            start: self.starts[row],
            end: self.ends[row],
        }
    }

    pub(super) fn sum(&self) -> Totals {
        let total = |numbers: &Numbers<'_>| {
            numbers.values.iter().fold(0, |sum: u64, &it| sum.saturating_add(it))
        };
        Totals {
            flows: u64::try_from(self.starts.len()).unwrap_or(u64::MAX),
            packets: total(&self.packets),
            octets: total(&self.octets),
            start: self.starts.iter().copied().min().unwrap_or(NO_START),
            end: self.ends.iter().copied().max().unwrap_or(NO_END),
        }
    }
}
