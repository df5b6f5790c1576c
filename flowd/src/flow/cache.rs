//! FlowCache: the flows under way. Deltas go in, records of ended flows come out.
//!
//! A flow ends when it was quiet for the inactive timeout, when it lasted the active timeout,
//! or, for TCP, two seconds after its first FIN or RST. The cache never holds more flows than
//! it was given room for: then the one that is nearest to its end goes early.

use super::books::Books;
use super::expiry::Wheel;
use super::meter::MeterConfig;
use super::record::{PROTOCOL_TCP, flow_record};
use crate::model::{FlowEndReason, FlowRecord, PointTotals, TcpControlBits, Totals, Volume};
use flowd_common::{FirstPacket, FlowCounters, FlowKey};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// How long a TCP flow stays after its first FIN or RST, so that the acknowledgements that still
/// come join it.
pub(super) const LINGER_NANOS: i64 = 2_000_000_000;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// A flow under way. The key comes first: it is what every lookup touches.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Flow {
    key: FlowKey,
    counters: FlowCounters,
    /// The clock when the last packet came, whose own time may lie before it; or the time of a
    /// delta's last packet, which may lie after it.
    touched_nanos: i64,
    /// The clock when the first packet or delta came.
    began_nanos: i64,
    /// When the flow is over, after FIN or RST.
    over_nanos: Option<i64>,
    /// Which flow of all this is, by its beginning.
    sequence: u64,
    first: FirstPacket,
}

/// Where ended flows go.
pub(super) struct Sink<'a> {
    pub(super) records: &'a mut Vec<FlowRecord>,
    pub(super) books: &'a mut Books,
}

/// The flows under way.
#[derive(Debug)]
pub(super) struct FlowCache {
    /// Hash of the key -> index of the flow.
    indexes: HashTable<u32>,
    /// Flows by index; those named in `free` are over.
    flows: Vec<Flow>,
    free: Vec<u32>,
    wheel: Wheel,
    hash_builder: DefaultHashBuilder,
    next_sequence: u64,
    active_timeout_nanos: i64,
    inactive_timeout_nanos: i64,
    flow_count_max: usize,
}

impl FlowCache {
    pub(super) fn new(config: &MeterConfig) -> Self {
        let nanos =
            |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(NANOS_PER_MILLI);
        let active_timeout_nanos = nanos(config.active_timeout_millis);
        let inactive_timeout_nanos = nanos(config.inactive_timeout_millis);
        let horizon_nanos = active_timeout_nanos.min(inactive_timeout_nanos).max(LINGER_NANOS);
        Self {
            indexes: HashTable::new(),
            flows: Vec::new(),
            free: Vec::new(),
            wheel: Wheel::new(horizon_nanos),
            hash_builder: DefaultHashBuilder::default(),
            next_sequence: 0,
            active_timeout_nanos,
            inactive_timeout_nanos,
            flow_count_max: config.flow_count_max.clamp(1, FLOW_COUNT_LIMIT),
        }
    }

    /// Ends all flows whose time has come, in the order in which it came.
    #[inline]
    pub(super) fn expire(&mut self, now_nanos: i64, sink: &mut Sink<'_>) {
        while let Some(due) = self.wheel.pop_due(now_nanos) {
            let (deadline_nanos, reason) = self.end_of(&self.flows[place(due.index)]);
            if deadline_nanos > due.deadline_nanos {
                self.wheel.arm(due.index, deadline_nanos, due.sequence);
            } else {
                self.remove(due.index, reason, sink);
            }
        }
    }

    /// Adds a delta to the flow of this key, or begins it. Everything due at `now_nanos` was
    /// expired before. The delta's last packet may lie ahead of that: the flow is quiet, or its
    /// end was seen, from then on.
    #[inline]
    pub(super) fn account(
        &mut self,
        key: &FlowKey,
        delta: &FlowCounters,
        first: impl Fn() -> FirstPacket,
        now_nanos: i64,
        sink: &mut Sink<'_>,
    ) {
        let hash = self.hash_builder.hash_one(key);
        let flows = &self.flows;
        let found = self.indexes.find(hash, |&index| flows[place(index)].key == *key);
        match found.copied() {
            Some(index) if !self.is_new_incarnation(index, &first) => {
                let flow = &mut self.flows[place(index)];
                flow.counters.merge(delta);
                let touched_nanos = now_nanos.max(delta.last_seen_nanos);
                flow.touched_nanos = flow.touched_nanos.max(touched_nanos);
                if is_end(key, delta) && flow.over_nanos.is_none() {
                    self.note_end(index, touched_nanos);
                }
            }
            Some(index) => {
                self.wheel.disarm(index);
                self.remove(index, FlowEndReason::EndOfFlow, sink);
                self.begin(key, hash, delta, first(), now_nanos);
            }
            None => {
                if self.indexes.len() >= self.flow_count_max {
                    self.make_room(sink);
                }
                self.begin(key, hash, delta, first(), now_nanos);
            }
        }
    }

    /// Ends all flows, those first that began first.
    pub(super) fn finish(&mut self, sink: &mut Sink<'_>) {
        let mut indexes: Vec<u32> = self.indexes.iter().copied().collect();
        indexes.sort_unstable_by_key(|&index| self.flows[place(index)].sequence);
        for index in indexes {
            self.wheel.disarm(index);
            self.remove(index, FlowEndReason::ForcedEnd, sink);
        }
    }

    /// Flows under way.
    pub(super) fn flow_count(&self) -> usize {
        self.indexes.len()
    }

    /// What the flows under way hold.
    pub(super) fn volume(&self) -> Volume {
        let mut volume = Volume::default();
        for flow in self.under_way() {
            volume.add(flow.volume());
        }
        volume
    }

    /// The flows under way and what they hold, by where they were seen.
    pub(super) fn totals_at(&self) -> PointTotals {
        let mut totals = PointTotals::default();
        for flow in self.under_way() {
            totals.add(flow.key.point(), Totals::of_one(flow.volume()));
        }
        totals
    }

    fn under_way(&self) -> impl Iterator<Item = &Flow> {
        self.indexes.iter().map(|&index| &self.flows[place(index)])
    }

    /// A SYN without ACK onto a flow whose end was seen opens another connection. What a delta's
    /// flags hold in all says nothing of that: they are or-ed.
    fn is_new_incarnation(&self, index: u32, first: impl Fn() -> FirstPacket) -> bool {
        self.flows[place(index)].over_nanos.is_some() && first().has(FirstPacket::OPENS_CONNECTION)
    }

    /// The end was seen: it comes after a while, which may be sooner than the timer is armed for.
    fn note_end(&mut self, index: u32, seen_nanos: i64) {
        let over_nanos = seen_nanos.saturating_add(LINGER_NANOS);
        let flow = &mut self.flows[place(index)];
        flow.over_nanos = Some(over_nanos);
        let sequence = flow.sequence;
        if over_nanos < self.wheel.deadline_nanos(index) {
            self.wheel.disarm(index);
            self.wheel.arm(index, over_nanos, sequence);
        }
    }

    fn begin(
        &mut self,
        key: &FlowKey,
        hash: u64,
        delta: &FlowCounters,
        first: FirstPacket,
        now_nanos: i64,
    ) {
        let touched_nanos = now_nanos.max(delta.last_seen_nanos);
        let flow = Flow {
            key: *key,
            counters: *delta,
            touched_nanos,
            began_nanos: now_nanos,
            over_nanos: is_end(key, delta).then(|| touched_nanos.saturating_add(LINGER_NANOS)),
            sequence: self.next_sequence,
            first,
        };
        self.next_sequence += 1;
        let index = match self.free.pop() {
            Some(index) => {
                self.flows[place(index)] = flow;
                index
            }
            None => {
                let index = u32::try_from(self.flows.len()).expect("flow_count_max is below 2^32");
                self.flows.push(flow);
                index
            }
        };
        let (flows, hash_builder) = (&self.flows, &self.hash_builder);
        self.indexes
            .insert_unique(hash, index, |&index| hash_builder.hash_one(flows[place(index)].key));
        let (deadline_nanos, _) = self.end_of(&flow);
        self.wheel.arm(index, deadline_nanos, flow.sequence);
    }

    /// Ends the flow that is nearest to its end.
    fn make_room(&mut self, sink: &mut Sink<'_>) {
        // A timer never comes later than its flow's end, so that the first one which is not
        // early belongs to the flow that ends first.
        while let Some(due) = self.wheel.pop_first() {
            let (deadline_nanos, _) = self.end_of(&self.flows[place(due.index)]);
            if deadline_nanos > due.deadline_nanos {
                self.wheel.arm(due.index, deadline_nanos, due.sequence);
            } else {
                self.remove(due.index, FlowEndReason::LackOfResources, sink);
                return;
            }
        }
    }

    /// When a flow ends as things stand, and why. One whose end was seen waits for nothing else,
    /// so that late acknowledgements make no second record.
    fn end_of(&self, flow: &Flow) -> (i64, FlowEndReason) {
        if let Some(over_nanos) = flow.over_nanos {
            return (over_nanos, FlowEndReason::EndOfFlow);
        }
        let idle_nanos = flow.touched_nanos.saturating_add(self.inactive_timeout_nanos);
        let active_nanos = flow.began_nanos.saturating_add(self.active_timeout_nanos);
        if idle_nanos <= active_nanos {
            (idle_nanos, FlowEndReason::IdleTimeout)
        } else {
            (active_nanos, FlowEndReason::ActiveTimeout)
        }
    }

    /// Takes out a flow whose timer is not armed, and records it.
    fn remove(&mut self, index: u32, reason: FlowEndReason, sink: &mut Sink<'_>) {
        let flow = &self.flows[place(index)];
        let hash = self.hash_builder.hash_one(flow.key);
        if let Ok(entry) = self.indexes.find_entry(hash, |&other| other == index) {
            entry.remove();
        }
        sink.books.count_record(reason, flow.volume());
        sink.records.push(flow_record(&flow.key, &flow.counters, &flow.first, reason));
        self.free.push(index);
    }
}

/// Flows are numbered by 32 bits, of which the wheel keeps the two last numbers to itself.
const FLOW_COUNT_LIMIT: usize = 1 << 31;

impl Flow {
    const fn volume(&self) -> Volume {
        Volume { packets: self.counters.packets, octets: self.counters.octets }
    }
}

/// Does this delta hold a FIN or RST?
fn is_end(key: &FlowKey, delta: &FlowCounters) -> bool {
    key.protocol() == PROTOCOL_TCP
        && delta.tcp_control_bits & (TcpControlBits::FIN | TcpControlBits::RST) != 0
}

const fn place(index: u32) -> usize {
    index as usize
}
