//! Aggregation: records -> groups with their sums, and the sums of all.

use super::QueryError;
use super::columns;
use super::field::{Field, Measure};
use super::group_key::{KeyColumns, Layout, PackedKey};
use super::groups::Groups;
use super::plan::{GroupOrder, GroupValue, Keys};
use super::top::{SortKey, Top};
use super::totals::{Amounts, NO_END, NO_START, Totals};
use crate::model::Value;
use arrow_array::RecordBatch;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Collects groups over batches. Each thread has its own; [`Aggregator::merge`] joins them.
#[derive(Debug)]
pub(super) struct Aggregator<'k> {
    layout: &'k Layout,
    groups_max: usize,
    all: Totals,
    narrow: Groups<u64>,
    middle: Groups<u128>,
    wide: Groups<Box<[u8]>>,
    scratch: Vec<u8>,
}

impl<'k> Aggregator<'k> {
    pub(super) fn new(layout: &'k Layout, groups_max: usize) -> Self {
        Self {
            layout,
            groups_max,
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
        self.narrow.count() + self.middle.count() + self.wide.count()
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
                add_packed(&mut self.narrow, &keys, &amounts);
            } else {
                add_packed(&mut self.middle, &keys, &amounts);
            }
            self.add_wide(&keys, &amounts);
        }
    }

    fn add_wide(&mut self, keys: &KeyColumns<'_>, amounts: &Amounts<'_>) {
        let Self { wide, scratch, .. } = self;
        keys.wide_rows().for_each(|row| {
            keys.write_wide(row, scratch);
            wide.add_octets(scratch, amounts.of_row(row));
        });
    }

    /// Takes over the groups of another thread.
    pub(super) fn merge(&mut self, other: Self) -> Result<(), QueryError> {
        self.all.add(other.all);
        self.narrow.merge(other.narrow);
        self.middle.merge(other.middle);
        self.wide.merge(other.wide);
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
        let narrow = self.narrow.iter().map(Place::Narrow);
        let middle = self.middle.iter().map(Place::Middle);
        let wide = self.wide.iter().map(Place::Wide);
        for place in narrow.chain(middle).chain(wide) {
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
            Place::Narrow((key, _)) => self.layout.unpack(key.widened(), row),
            Place::Middle((key, _)) => self.layout.unpack(*key, row),
            Place::Wide((key, _)) => self.layout.read_wide(key, row),
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

/// A group on its way out. Groups that are equal in the order come by their keys.
#[derive(Clone)]
enum Place<'a> {
    Narrow(&'a (u64, Totals)),
    Middle(&'a (u128, Totals)),
    Wide(&'a (Box<[u8]>, Totals)),
}

impl<'a> Place<'a> {
    const fn totals(&self) -> Totals {
        match self {
            Self::Narrow((_, totals)) | Self::Middle((_, totals)) | Self::Wide((_, totals)) => {
                *totals
            }
        }
    }

    /// Packed keys come before those of octets.
    fn rank(&self) -> (&'a [u8], u128) {
        match self {
            Self::Narrow((key, _)) => (&[], key.widened()),
            Self::Middle((key, _)) => (&[], *key),
            Self::Wide((key, _)) => (key, 0),
        }
    }
}

impl Ord for Place<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Place<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Place<'_> {}

impl PartialEq for Place<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

fn add_packed<K: PackedKey>(groups: &mut Groups<K>, keys: &KeyColumns<'_>, amounts: &Amounts<'_>) {
    let packed = keys.packed::<K>();
    keys.packed_rows().for_each(|row| groups.add(packed[row], amounts.of_row(row)));
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
