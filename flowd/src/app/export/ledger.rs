//! The ledger: what became of every packet at each observation point.
//!
//! The law, for each interface and direction, in packets and in octets:
//! `seen = recorded + in cache + unaccounted + not selected + unparsed`; and for each collector:
//! `recorded = exported + not sent`. What was seen is counted where packets pass, what was
//! recorded by the records handed to the exporter, what is in the cache by walking it: three
//! counts, of which none is made of the others.

use crate::model::{FlowRecord, PointTotals, Totals, Volume};
use crate::probe::LinkCounters;
use flowd_common::{Direction, DropReason, LedgerEntry, ObservationPoint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What became of the packets at one observation point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Packets that came by, and the octets of layer 3 of those that are IP; where packets are
    /// sampled, only of those that were selected: of the others the size is not read.
    pub seen: Volume,
    /// The records made of them.
    pub recorded: Totals,
    /// Flows under way, and what they hold.
    pub in_cache: Totals,
    /// Packets that there was no room for; of those that libpcap dropped the octets are unknown.
    pub unaccounted: Volume,
    /// Packets that sampling passed over.
    pub not_selected_packets: u64,
    /// Packets that are no flow, by reason.
    pub unparsed: BTreeMap<String, u64>,
    /// What passed before flowd was attached, by the interface's own counters: frames, and their
    /// octets of layer 2. It is not part of what was seen.
    pub before_attach: Volume,
    /// What the law is off by. It is a fault of flowd if it is not zero.
    pub discrepancy: Discrepancy,
}

/// What a law of the ledger is off by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discrepancy {
    /// Packets that are missing; less than zero if there are too many.
    pub packets: i64,
    /// Octets that are missing.
    pub octets: i64,
}

impl Discrepancy {
    /// Do the books balance?
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.packets == 0 && self.octets == 0
    }
}

impl Ledger {
    /// Packets that are no flow, in all.
    #[must_use]
    pub fn unparsed_packets(&self) -> u64 {
        self.unparsed.values().sum()
    }

    /// Packets in no record, for the options data.
    pub(super) fn ignored(&self) -> Volume {
        let Volume { packets, octets } = self.unaccounted;
        let others = self.not_selected_packets.saturating_add(self.unparsed_packets());
        Volume { packets: packets.saturating_add(others), octets }
    }
}

/// What is counted at one observation point.
#[derive(Clone, Copy, Debug)]
struct Point {
    entry: LedgerEntry,
    recorded: Totals,
    before_attach: Volume,
}

impl Default for Point {
    fn default() -> Self {
        Self {
            entry: LedgerEntry::ZERO,
            recorded: Totals::default(),
            before_attach: Volume::default(),
        }
    }
}

impl Point {
    fn ledger(&self, in_cache: Totals) -> Ledger {
        let Self { entry, recorded, before_attach } = self;
        let LedgerEntry {
            seen_packets,
            seen_octets,
            unaccounted_packets,
            unaccounted_octets,
            not_selected_packets,
            fragments_stitched: _,
            fragments_unstitched: _,
            refused,
        } = entry;
        let missing = |seen: u64, rest: &[u64]| {
            rest.iter().fold(seen, |sum, part| sum.wrapping_sub(*part)).cast_signed()
        };
        let packets = [
            recorded.packets,
            in_cache.packets,
            *unaccounted_packets,
            *not_selected_packets,
            entry.refused_packets(),
        ];
        let octets = [recorded.octets, in_cache.octets, *unaccounted_octets];
        let reasons = DropReason::ALL.iter().zip(refused).filter(|(_, count)| **count > 0);
        Ledger {
            seen: Volume { packets: *seen_packets, octets: *seen_octets },
            recorded: *recorded,
            in_cache,
            unaccounted: Volume { packets: *unaccounted_packets, octets: *unaccounted_octets },
            not_selected_packets: *not_selected_packets,
            unparsed: reasons.map(|(reason, count)| (reason.name().to_owned(), *count)).collect(),
            before_attach: *before_attach,
            discrepancy: Discrepancy {
                packets: missing(*seen_packets, &packets),
                octets: missing(*seen_octets, &octets),
            },
        }
    }

    fn add(&mut self, more: &Self) {
        let Self { entry, recorded, before_attach } = more;
        self.entry.add(entry);
        self.recorded.add(*recorded);
        self.before_attach.add(*before_attach);
    }
}

/// The ledgers of all observation points.
#[derive(Debug, Default)]
pub(super) struct Ledgers {
    points: BTreeMap<ObservationPoint, Point>,
    /// Those of interfaces that vanished, in one.
    vanished: Point,
    recorded: Totals,
    /// Packets that there was no room for, since somebody asked last.
    unaccounted: u64,
}

impl Ledgers {
    /// Adds what was counted where packets pass. What no interface has is with those that vanished.
    pub(super) fn add(&mut self, point: ObservationPoint, increment: &LedgerEntry) {
        self.unaccounted += increment.unaccounted_packets;
        if point.direction == Direction::NONE {
            return self.vanished.entry.add(increment);
        }
        self.points.entry(point).or_default().entry.add(increment);
    }

    /// Packets that there was no room for since the last call.
    pub(super) const fn take_unaccounted(&mut self) -> u64 {
        std::mem::replace(&mut self.unaccounted, 0)
    }

    /// Adds records that are handed to the exporter.
    pub(super) fn record(&mut self, records: &[FlowRecord]) {
        for record in records {
            let totals = Totals::of(record);
            self.recorded.add(totals);
            match record.point() {
                Some(point) => self.points.entry(point).or_default().recorded.add(totals),
                None => self.vanished.recorded.add(totals),
            }
        }
    }

    /// Notes what had passed an interface when flowd was attached for the first time: what its
    /// counters say later has been seen, but for the time that it was left out.
    pub(super) fn before_attach(&mut self, point: ObservationPoint, counters: LinkCounters) {
        let LinkCounters { packets, octets } = counters;
        self.points.entry(point).or_insert_with(|| Point {
            before_attach: Volume { packets, octets },
            ..Point::default()
        });
    }

    /// The ledger of a point.
    pub(super) fn of(&self, point: ObservationPoint, cached: &PointTotals) -> Ledger {
        let nothing = Point::default();
        self.points.get(&point).unwrap_or(&nothing).ledger(cached.of(point))
    }

    /// Lays the ledgers of an interface that vanished to those that vanished before it, unless
    /// flows of it are still under way. Says whether it did.
    pub(super) fn lay_aside(&mut self, interface: u32, cached: &PointTotals) -> bool {
        let points = [Direction::INGRESS, Direction::EGRESS]
            .map(|direction| ObservationPoint::new(interface, direction));
        if points.iter().any(|&point| cached.of(point).records > 0) {
            return false;
        }
        for point in points.iter().filter_map(|point| self.points.remove(point)) {
            self.vanished.add(&point);
        }
        true
    }

    /// The ledger of all that vanished.
    pub(super) fn vanished(&self) -> Ledger {
        self.vanished.ledger(Totals::default())
    }

    /// All records.
    pub(super) const fn recorded(&self) -> Totals {
        self.recorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Meter, MeterConfig};
    use flowd_common::packet::{Addresses, Transport};
    use flowd_common::{FirstPacket, FlowCounters, FlowDelta, FlowKey};

    const SECOND: i64 = 1_000_000_000;

    fn delta(point: ObservationPoint, port: u16, packets: u64, at_nanos: i64) -> FlowDelta {
        let addresses = Addresses::V4 { source: [192, 0, 2, 1], destination: [192, 0, 2, 2] };
        let transport = Transport::Ports { source: port, destination: 53 };
        FlowDelta {
            key: FlowKey::new(point, addresses, 17, transport),
            counters: FlowCounters {
                octets: packets * 60,
                packets,
                first_seen_nanos: at_nanos,
                last_seen_nanos: at_nanos,
                tcp_control_bits: 0,
                minimum_ttl: 64,
                maximum_ttl: 64,
                padding: [0; 4],
            },
            first: FirstPacket::default(),
        }
    }

    /// What the kernel counts beside these deltas.
    fn entry(packets: u64, unaccounted: u64, not_selected: u64, arp: u64) -> LedgerEntry {
        let mut refused = [0; DropReason::COUNT];
        refused[DropReason::Arp.index()] = arp;
        LedgerEntry {
            seen_packets: packets + unaccounted + not_selected + arp,
            seen_octets: (packets + unaccounted) * 60,
            unaccounted_packets: unaccounted,
            unaccounted_octets: unaccounted * 60,
            not_selected_packets: not_selected,
            refused,
            ..LedgerEntry::ZERO
        }
    }

    #[test]
    fn the_books_balance_over_harvests_and_to_the_end() {
        let points = [(2, Direction::INGRESS), (2, Direction::EGRESS), (9, Direction::INGRESS)]
            .map(|(interface, direction)| ObservationPoint::new(interface, direction));
        let mut meter = Meter::new(&MeterConfig { flow_count_max: 40, ..MeterConfig::default() });
        let mut ledgers = Ledgers::default();
        let mut records = Vec::new();
        for round in 0..120_u16 {
            let now_nanos = i64::from(round) * SECOND;
            for (place, &point) in (0_u16..).zip(&points) {
                let mut packets = 0;
                for flow in 0..(round * 7 + place) % 30 {
                    let count = u64::from(flow % 3 + 1);
                    meter.account(&delta(point, round % 11 + flow, count, now_nanos), &mut records);
                    packets += count;
                }
                let odd = u64::from(round % 4);
                ledgers.add(point, &entry(packets, odd, odd * 2, odd * 3));
            }
            meter.advance(now_nanos, &mut records);
            ledgers.record(&records);
            records.clear();
            let cached = meter.cached_at();
            for &point in &points {
                let ledger = ledgers.of(point, &cached);
                assert!(ledger.discrepancy.is_zero(), "{round}: {ledger:?}");
            }
        }
        meter.finish(&mut records);
        ledgers.record(&records);
        let cached = meter.cached_at();
        let ledger = ledgers.of(points[0], &cached);
        assert!(ledger.discrepancy.is_zero() && ledger.in_cache == Totals::default());
        assert!(ledger.recorded.packets > 1_000 && ledger.recorded.records > 100);
        assert_eq!(ledger.unparsed["arp"], 3 * 6 * 30);
        assert_eq!(ledger.ignored().packets, (1 + 2 + 3) * 6 * 30);
        assert_eq!(ledger.ignored().octets, 6 * 30 * 60);
        assert_eq!(
            ledgers.recorded(),
            Totals {
                records: meter.books().records_total(),
                packets: meter.books().accounted.packets,
                octets: meter.books().accounted.octets,
            }
        );
    }

    #[test]
    fn what_is_missing_shows() {
        let point = ObservationPoint::new(2, Direction::EGRESS);
        let mut ledgers = Ledgers::default();
        ledgers.add(point, &entry(5, 0, 0, 0));
        let mut cached = PointTotals::default();
        cached.add(point, Totals { records: 1, packets: 4, octets: 500 });
        let ledger = ledgers.of(point, &cached);
        assert_eq!(ledger.discrepancy, Discrepancy { packets: 1, octets: -200 });
    }

    #[test]
    fn what_passed_before_attaching_stands_apart() {
        let point = ObservationPoint::new(2, Direction::INGRESS);
        let mut ledgers = Ledgers::default();
        ledgers.before_attach(point, LinkCounters { packets: 7, octets: 900 });
        ledgers.before_attach(point, LinkCounters { packets: 70, octets: 9_000 });
        let ledger = ledgers.of(point, &PointTotals::default());
        assert_eq!(ledger.before_attach, Volume { packets: 7, octets: 900 });
        assert!(ledger.discrepancy.is_zero() && ledger.seen == Volume::default());
    }

    #[test]
    fn interfaces_that_vanished_are_summed_once_their_flows_are_over() {
        let point = ObservationPoint::new(5, Direction::INGRESS);
        let mut meter = Meter::new(&MeterConfig::default());
        let mut records = Vec::new();
        let mut ledgers = Ledgers::default();
        meter.account(&delta(point, 1, 3, SECOND), &mut records);
        ledgers.add(point, &entry(3, 1, 0, 1));
        assert!(!ledgers.lay_aside(5, &meter.cached_at()), "a flow is under way");
        meter.finish(&mut records);
        ledgers.record(&records);
        assert!(ledgers.lay_aside(5, &meter.cached_at()));
        let vanished = ledgers.vanished();
        assert!(vanished.discrepancy.is_zero());
        assert_eq!((vanished.seen.packets, vanished.recorded.packets), (5, 3));
        assert_eq!(ledgers.of(point, &meter.cached_at()), Ledger::default());
    }
}
