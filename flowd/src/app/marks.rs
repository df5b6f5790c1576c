//! Marks: how far the counters on disk reach into the ring, so that a start after a kill counts
//! just what lies behind.

use crate::ring::{BlockId, Lane, NumberFloors, Ring, ShardWriter};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Of each lane the first block that is not counted as a whole, with how many of its rows are.
/// Written as an object: `{"0-ipv4-17": 1200}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, u64>", into = "BTreeMap<String, u64>")]
pub(super) struct Marks(BTreeMap<(u16, Lane), (u64, u64)>);

impl Marks {
    /// Where the writers of a ring stand.
    pub(super) fn of<'a>(ring: &Ring, writers: impl Iterator<Item = &'a ShardWriter>) -> Self {
        let begun = writers.flat_map(ShardWriter::open_blocks).collect::<Vec<_>>();
        // A lane without an open block goes on with a new one.
        let next = ring.next_numbers();
        Self::at(next.iter().map(|id| (id, 0)).chain(begun))
    }

    fn at(places: impl Iterator<Item = (BlockId, u64)>) -> Self {
        Self(places.map(|(id, rows)| ((id.shard, id.lane), (id.number, rows))).collect())
    }

    /// How many rows of a block are counted.
    pub(super) fn counted_rows(&self, id: BlockId) -> u64 {
        let (number, rows) = self.0.get(&(id.shard, id.lane)).copied().unwrap_or_default();
        match id.number.cmp(&number) {
            Ordering::Less => u64::MAX,
            Ordering::Equal => rows,
            Ordering::Greater => 0,
        }
    }

    /// By lane the number below which all blocks are counted.
    pub(super) fn numbers(&self) -> NumberFloors {
        let mut numbers = NumberFloors::default();
        for (&(shard, lane), &(number, _)) in &self.0 {
            numbers.raise(shard, lane, number);
        }
        numbers
    }
}

impl From<Marks> for BTreeMap<String, u64> {
    fn from(marks: Marks) -> Self {
        let places = marks.0.into_iter();
        places
            .map(|((shard, lane), (number, rows))| {
                (BlockId { shard, lane, number }.to_string(), rows)
            })
            .collect()
    }
}

impl From<BTreeMap<String, u64>> for Marks {
    /// What names no block is passed over: it marks none.
    fn from(places: BTreeMap<String, u64>) -> Self {
        Self::at(places.into_iter().filter_map(|(name, rows)| {
            BlockId::from_file_name(&format!("{name}.block")).map(|id| (id, rows))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(lane: Lane, number: u64) -> BlockId {
        BlockId { shard: 3, lane, number }
    }

    #[test]
    fn a_lane_is_counted_up_to_a_row() {
        let marks = Marks::at([(id(Lane::Ipv4, 7), 12), (id(Lane::Options, 2), 0)].into_iter());
        let counted = |lane, number| marks.counted_rows(id(lane, number));
        assert_eq!(counted(Lane::Ipv4, 6), u64::MAX);
        assert_eq!([counted(Lane::Ipv4, 7), counted(Lane::Ipv4, 8)], [12, 0]);
        assert_eq!([counted(Lane::Options, 1), counted(Lane::Options, 2)], [u64::MAX, 0]);
        assert_eq!(counted(Lane::Ipv6, 0), 0, "a lane that began later");
        assert_eq!(marks.numbers().floor(3, Lane::Ipv4), 7);
    }

    #[test]
    fn they_are_read_as_they_were_written() {
        let marks = Marks::at([(id(Lane::Ipv4, 7), 12), (id(Lane::Options, 2), 0)].into_iter());
        let text = serde_json::to_string(&marks).unwrap();
        assert_eq!(text, r#"{"3-ipv4-7":12,"3-options-2":0}"#);
        assert_eq!(serde_json::from_str::<Marks>(&text).unwrap(), marks);
        assert_eq!(serde_json::from_str::<Marks>(r#"{"elsewhere":1}"#).unwrap(), Marks::default());
    }
}
