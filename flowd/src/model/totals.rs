//! Sums: packets and octets, records of them, and both by observation point.

use super::{Column, FlowRecord, Value};
use flowd_common::ObservationPoint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Observation points that are told apart; those beyond are summed together. A host with
/// thousands of virtual interfaces, each seen both ways, stays below it.
pub const POINT_COUNT_MAX: usize = 1 << 16;

/// Packets and their octets of layer 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Packets.
    pub packets: u64,
    /// Octets of layer 3.
    pub octets: u64,
}

impl Volume {
    /// Adds.
    pub const fn add(&mut self, more: Self) {
        let Self { packets, octets } = more;
        self.packets = self.packets.saturating_add(packets);
        self.octets = self.octets.saturating_add(octets);
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
    /// One record of this volume.
    #[must_use]
    pub const fn of_one(volume: Volume) -> Self {
        let Volume { packets, octets } = volume;
        Self { records: 1, packets, octets }
    }

    /// One record and what it tells of, in its forward direction.
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

    /// What the records tell of.
    #[must_use]
    pub const fn volume(self) -> Volume {
        let Self { records: _, packets, octets } = self;
        Volume { packets, octets }
    }

    /// Adds.
    pub const fn add(&mut self, more: Self) {
        let Self { records, packets, octets } = more;
        self.records = self.records.saturating_add(records);
        self.packets = self.packets.saturating_add(packets);
        self.octets = self.octets.saturating_add(octets);
    }

    /// Takes back what was added before.
    pub const fn take_back(&mut self, less: Self) {
        let Self { records, packets, octets } = less;
        self.records = self.records.saturating_sub(records);
        self.packets = self.packets.saturating_sub(packets);
        self.octets = self.octets.saturating_sub(octets);
    }
}

/// Totals by observation point, of at most [`POINT_COUNT_MAX`] points.
///
/// ```
/// use flowd::model::{PointTotals, Totals};
/// use flowd_common::{Direction, ObservationPoint};
///
/// let mut totals = PointTotals::default();
/// let point = ObservationPoint::new(2, Direction::INGRESS);
/// totals.add(point, Totals { records: 1, packets: 3, octets: 120 });
/// assert_eq!(totals.of(point).packets, 3);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PointTotals {
    points: BTreeMap<ObservationPoint, Totals>,
    beyond: Totals,
}

impl PointTotals {
    /// Adds to the totals of a point; to those beyond the limit if there is no room for it.
    pub fn add(&mut self, point: ObservationPoint, more: Totals) {
        if let Some(sum) = self.points.get_mut(&point) {
            sum.add(more);
        } else if self.points.len() < POINT_COUNT_MAX {
            self.points.insert(point, more);
        } else {
            self.beyond.add(more);
        }
    }

    /// Adds to the totals of all points that are not told apart.
    pub const fn add_beyond(&mut self, more: Totals) {
        self.beyond.add(more);
    }

    /// Lays the totals of a point that is there no more to those that are not told apart.
    pub fn lay_beyond(&mut self, point: ObservationPoint) {
        if let Some(sum) = self.points.remove(&point) {
            self.beyond.add(sum);
        }
    }

    /// The totals of a point; nothing if it has none of its own.
    #[must_use]
    pub fn of(&self, point: ObservationPoint) -> Totals {
        self.points.get(&point).copied().unwrap_or_default()
    }

    /// The totals of each point, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (ObservationPoint, Totals)> {
        self.points.iter().map(|(&point, &totals)| (point, totals))
    }

    /// The totals of all points beyond the limit, and of those laid there.
    #[must_use]
    pub const fn beyond(&self) -> Totals {
        self.beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowd_common::Direction;

    #[test]
    fn points_beyond_the_limit_are_summed_together() {
        let mut totals = PointTotals::default();
        let one = Totals::of_one(Volume { packets: 2, octets: 80 });
        let count_max = u32::try_from(POINT_COUNT_MAX).unwrap();
        for interface in 0..count_max + 3 {
            totals.add(ObservationPoint::new(interface, Direction::EGRESS), one);
        }
        totals.add(ObservationPoint::new(7, Direction::EGRESS), one);
        assert_eq!(totals.iter().count(), POINT_COUNT_MAX);
        assert_eq!(totals.of(ObservationPoint::new(7, Direction::EGRESS)).records, 2);
        assert_eq!(totals.of(ObservationPoint::new(7, Direction::INGRESS)), Totals::default());
        assert_eq!(totals.beyond(), Totals { records: 3, packets: 6, octets: 240 });
    }

    #[test]
    fn a_point_laid_beyond_makes_room_and_its_sums_stay() {
        let mut totals = PointTotals::default();
        let one = Totals::of_one(Volume { packets: 2, octets: 80 });
        let point = ObservationPoint::new(7, Direction::EGRESS);
        totals.add(point, one);
        totals.lay_beyond(point);
        totals.lay_beyond(point);
        assert_eq!((totals.iter().count(), totals.beyond()), (0, one));
        totals.add_beyond(one);
        assert_eq!(totals.beyond(), Totals { records: 2, packets: 4, octets: 160 });
    }
}
