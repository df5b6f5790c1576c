//! Aggregation: records -> groups with their sums, and the sums of all.

use super::QueryError;
use super::columns::{self, Numbers, times};
use super::field::{Field, Measure};
use super::group_key::{KeyColumns, Layout, PackedKey};
use super::plan::{FLOW_COUNT, GroupOrder, GroupValue, Keys};
use super::top::{SortKey, Top};
use crate::model::{Column, Value};
use arrow_array::RecordBatch;
use hashbrown::hash_table::Entry as Slot;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::BuildHasher;

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

const NO_START: i64 = i64::MAX;
const NO_END: i64 = i64::MIN;

impl Totals {
    pub(super) const NONE: Self = Self {
        flows: 0,
        packets: 0,
        octets: 0,
        start: NO_START,
        end: NO_END,
    };

    fn add(&mut self, other: Self) {
        let Self {
            flows,
            packets,
            octets,
            start,
            end,
        } = other;
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

    fn measure(&self, measure: Measure) -> u64 {
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
        row.push((
            Column::PacketDeltaCount.name(),
            Value::Unsigned(self.packets),
        ));
        row.push((Column::OctetDeltaCount.name(), Value::Unsigned(self.octets)));
        if self.start != NO_START {
            row.push((
                Column::FlowStartMilliseconds.name(),
                Value::Millis(self.start),
            ));
        }
        if self.end != NO_END {
            row.push((Column::FlowEndMilliseconds.name(), Value::Millis(self.end)));
        }
    }
}

/// The columns of a batch that are summed.
struct Amounts<'a> {
    packets: Numbers<'a>,
    octets: Numbers<'a>,
    starts: Cow<'a, [i64]>,
    ends: Cow<'a, [i64]>,
}

impl<'a> Amounts<'a> {
    fn new(batch: &'a RecordBatch) -> Self {
        Self {
            packets: columns::measure(batch, Measure::Packets),
            octets: columns::measure(batch, Measure::Bytes),
            starts: times(batch, Column::FlowStartMilliseconds, NO_START),
            ends: times(batch, Column::FlowEndMilliseconds, NO_END),
        }
    }

    fn of_row(&self, row: usize) -> Totals {
        Totals {
            flows: 1,
            packets: self.packets.values[row],
            octets: self.octets.values[row],
            start: self.starts[row],
            end: self.ends[row],
        }
    }

    fn sum(&self) -> Totals {
        let total = |numbers: &Numbers<'_>| {
            numbers
                .values
                .iter()
                .fold(0, |sum: u64, &it| sum.saturating_add(it))
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

/// Groups by a key. The table holds places in `entries`, so that it stays small and that a group
/// is one place in memory: its key beside its sums.
#[derive(Debug)]
struct Groups<K> {
    places: HashTable<u32>,
    entries: Vec<(K, Totals)>,
}

impl<K> Groups<K> {
    const fn new() -> Self {
        Self {
            places: HashTable::new(),
            entries: Vec::new(),
        }
    }

    /// Adds to the group of a key that hashes to `hash`; `own` makes the key of a new group.
    fn add(
        &mut self,
        hash: u64,
        is_it: impl Fn(&K) -> bool,
        rehash: impl Fn(&K) -> u64,
        own: impl FnOnce() -> K,
        totals: Totals,
    ) {
        let entries = &self.entries;
        let at = |place: &u32| &entries[*place as usize].0;
        match self
            .places
            .entry(hash, |place| is_it(at(place)), |place| rehash(at(place)))
        {
            Slot::Occupied(slot) => {
                let place = *slot.get() as usize;
                self.entries[place].1.add(totals);
            }
            Slot::Vacant(slot) => {
                let place = u32::try_from(self.entries.len()).expect("groups_max fits 32 bits");
                slot.insert(place);
                self.entries.push((own(), totals));
            }
        }
    }
}

/// Collects groups over batches. Each thread has its own; [`Aggregator::merge`] joins them.
#[derive(Debug)]
pub(super) struct Aggregator<'k> {
    layout: &'k Layout,
    groups_max: usize,
    hasher: DefaultHashBuilder,
    all: Totals,
    narrow: Groups<u64>,
    middle: Groups<u128>,
    wide: Groups<Box<[u8]>>,
    scratch: Vec<u8>,
}

impl<'k> Aggregator<'k> {
    pub(super) fn new(layout: &'k Layout, groups_max: usize) -> Self {
        const PLACES_MAX: usize = u32::MAX as usize / 2;
        Self {
            layout,
            groups_max: groups_max.min(PLACES_MAX),
            hasher: DefaultHashBuilder::default(),
            all: Totals::NONE,
            narrow: Groups::new(),
            middle: Groups::new(),
            wide: Groups::new(),
            scratch: Vec::new(),
        }
    }

    /// The sums of all records, if there are no keys.
    pub(super) const fn totals(&self) -> Totals {
        self.all
    }

    fn group_count(&self) -> usize {
        self.narrow.entries.len() + self.middle.entries.len() + self.wide.entries.len()
    }

    fn check_count(&self) -> Result<(), QueryError> {
        if self.group_count() > self.groups_max {
            return Err(QueryError::TooManyGroups(self.groups_max));
        }
        Ok(())
    }

    /// Adds all records of a batch.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        // The count is checked between stretches, so that one part cannot overrun the limit far.
        const STRETCH: usize = 1 << 16;
        for start in (0..batch.num_rows()).step_by(STRETCH) {
            let rows = STRETCH.min(batch.num_rows() - start);
            self.add_stretch(&batch.slice(start, rows));
            self.check_count()?;
        }
        Ok(())
    }

    fn add_stretch(&mut self, batch: &RecordBatch) {
        let amounts = Amounts::new(batch);
        if self.layout.is_empty() {
            self.all.add(amounts.sum());
            return;
        }
        for side in 0..self.layout.sides() {
            let keys = KeyColumns::new(batch, self.layout, side);
            if self.layout.is_wide_only {
                self.add_wide(&keys, &amounts);
                continue;
            }
            if self.layout.fits_64 {
                add_packed(&mut self.narrow, &self.hasher, &keys, &amounts);
            } else {
                add_packed(&mut self.middle, &self.hasher, &keys, &amounts);
            }
            self.add_wide(&keys, &amounts);
        }
    }

    fn add_wide(&mut self, keys: &KeyColumns<'_>, amounts: &Amounts<'_>) {
        let Self {
            hasher,
            wide,
            scratch,
            ..
        } = self;
        keys.wide_rows().for_each(|row| {
            keys.write_wide(row, scratch);
            add_octets(wide, hasher, scratch, amounts.of_row(row));
        });
    }

    /// Takes over the groups of another thread.
    pub(super) fn merge(&mut self, other: Self) -> Result<(), QueryError> {
        self.all.add(other.all);
        for (key, totals) in other.narrow.entries {
            add_number(&mut self.narrow, &self.hasher, key, totals);
        }
        for (key, totals) in other.middle.entries {
            add_number(&mut self.middle, &self.hasher, key, totals);
        }
        for (key, totals) in other.wide.entries {
            add_octets(&mut self.wide, &self.hasher, &key, totals);
        }
        self.check_count()
    }

    /// Calls for the first groups in order, each as a row.
    pub(super) fn for_each_ordered<E>(
        &self,
        order: GroupOrder,
        limit: Option<usize>,
        mut each: impl FnMut(&[(&str, Value<'_>)]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut top = Top::new(limit, order.descending);
        let packed = self
            .narrow
            .entries
            .iter()
            .map(|(key, totals)| (key.widened(), totals));
        let middle = self
            .middle
            .entries
            .iter()
            .map(|(key, totals)| (*key, totals));
        for (key, totals) in packed.chain(middle) {
            let place = Place::Packed(key, PlacedTotals(*totals));
            top.push(self.sort_key(order.by, &place), place);
        }
        for (key, totals) in &self.wide.entries {
            let place = Place::Wide(key, PlacedTotals(*totals));
            top.push(self.sort_key(order.by, &place), place);
        }
        let mut row = Vec::new();
        for (_, place) in top.into_sorted() {
            self.read_keys(&place, &mut row);
            place.totals().show(&mut row);
            each(&row)?;
        }
        Ok(())
    }

    fn read_keys<'a>(&'a self, place: &Place<'a>, row: &mut Vec<(&'a str, Value<'a>)>) {
        row.clear();
        match place {
            Place::Packed(key, _) => self.layout.unpack(*key, row),
            Place::Wide(key, _) => self.layout.read_wide(key, row),
        }
    }

    fn sort_key(&self, by: GroupValue, place: &Place<'_>) -> SortKey {
        let totals = place.totals();
        match by {
            GroupValue::Flows => totals.flows.into(),
            GroupValue::Measure(measure) => totals.measure(measure).into(),
            GroupValue::Start if totals.start == NO_START => SortKey::Absent,
            GroupValue::Start => Value::Millis(totals.start).into(),
            GroupValue::End if totals.end == NO_END => SortKey::Absent,
            GroupValue::End => Value::Millis(totals.end).into(),
            GroupValue::Key(index) => {
                let mut row = Vec::new();
                self.read_keys(place, &mut row);
                let value = self.layout.key_value(index, &row);
                value.map_or(SortKey::Absent, SortKey::from)
            }
        }
    }
}

/// A group on its way out; groups that are equal in the order come by their keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    Packed(u128, PlacedTotals),
    Wide(&'a [u8], PlacedTotals),
}

/// The sums of a group, carried along: keys alone decide the order.
#[derive(Clone, Copy)]
struct PlacedTotals(Totals);

impl PartialEq for PlacedTotals {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for PlacedTotals {}

impl PartialOrd for PlacedTotals {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PlacedTotals {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Place<'_> {
    const fn totals(&self) -> Totals {
        match self {
            Self::Packed(_, PlacedTotals(totals)) | Self::Wide(_, PlacedTotals(totals)) => *totals,
        }
    }
}

fn add_packed<K: PackedKey>(
    groups: &mut Groups<K>,
    hasher: &DefaultHashBuilder,
    keys: &KeyColumns<'_>,
    amounts: &Amounts<'_>,
) {
    let packed = keys.packed::<K>();
    keys.packed_rows().for_each(|row| {
        add_number(groups, hasher, packed[row], amounts.of_row(row));
    });
}

fn add_number<K: PackedKey>(
    groups: &mut Groups<K>,
    hasher: &DefaultHashBuilder,
    key: K,
    totals: Totals,
) {
    let hash = |key: &K| hasher.hash_one(key);
    groups.add(hash(&key), |known| *known == key, hash, || key, totals);
}

fn add_octets(
    groups: &mut Groups<Box<[u8]>>,
    hasher: &DefaultHashBuilder,
    key: &[u8],
    totals: Totals,
) {
    // A boxed key hashes as the octets in it.
    groups.add(
        hasher.hash_one(key),
        |known| **known == *key,
        |known| hasher.hash_one(known),
        || key.into(),
        totals,
    );
}

/// The places in the schema of the columns that groups are made from.
pub(super) fn add_group_columns(keys: &Keys, columns: &mut BTreeSet<usize>) {
    for key in keys.as_slice() {
        for field in key.fields() {
            columns::add_columns(field, columns);
        }
    }
    add_total_columns(columns);
}

/// The places in the schema of the columns that are summed.
pub(super) fn add_total_columns(columns: &mut BTreeSet<usize>) {
    for measure in [Measure::Bytes, Measure::Packets, Measure::Duration] {
        columns::add_columns(Field::Measure(measure), columns);
    }
}
