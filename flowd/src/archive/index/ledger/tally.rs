//! Tally: the records of a day, added up by address.

use super::host::{HostKey, HostRecord, Seen, Sums};
use crate::archive::index::key::mix;
use crate::model::Column;
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// The sums by address.
#[derive(Debug)]
pub(super) struct Tally {
    /// The day's bit.
    day: u32,
    hosts: HashMap<HostKey, Seen, Spread>,
}

impl Tally {
    pub(super) fn new(day: u32) -> Self {
        // Another one each time, so that nobody can choose addresses that meet.
        let seed = RandomState::new().hash_one(0);
        Self { day, hosts: HashMap::with_hasher(Spread(seed)) }
    }

    /// The columns that are added up.
    pub(super) fn columns() -> Vec<usize> {
        use Column::{
            CollectionTimeMilliseconds, DestinationIpv4Address, DestinationIpv6Address,
            FlowEndMilliseconds, FlowStartMilliseconds, SourceIpv4Address, SourceIpv6Address,
        };
        let columns = [
            SourceIpv4Address,
            DestinationIpv4Address,
            SourceIpv6Address,
            DestinationIpv6Address,
            FlowStartMilliseconds,
            FlowEndMilliseconds,
            CollectionTimeMilliseconds,
        ];
        let amounts = Column::OCTETS.into_iter().chain(Column::PACKETS).flatten();
        columns.into_iter().chain(amounts).map(Column::index).collect()
    }

    /// How many addresses it has.
    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Adds the records of a batch.
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        let rows = Self::rows(batch);
        for (column, is_source) in
            [(Column::SourceIpv4Address, true), (Column::DestinationIpv4Address, false)]
        {
            let array = batch.column_by_name(column.name());
            let Some(addresses) = array.and_then(|array| array.as_primitive_opt::<UInt32Type>())
            else {
                continue;
            };
            for (row, address) in addresses.iter().enumerate() {
                if let (Some(address), Some(row)) = (address, rows.get(row)) {
                    let key = HostKey { is_ipv6: false, address: address.into() };
                    self.count(key, row, is_source);
                }
            }
        }
        for (column, is_source) in
            [(Column::SourceIpv6Address, true), (Column::DestinationIpv6Address, false)]
        {
            let array = batch.column_by_name(column.name());
            let Some(addresses) = array.and_then(|array| array.as_fixed_size_binary_opt()) else {
                continue;
            };
            for (index, row) in rows.iter().enumerate() {
                if addresses.is_valid(index)
                    && let Ok(octets) = <[u8; 16]>::try_from(addresses.value(index))
                {
                    let address = u128::from_be_bytes(octets);
                    self.count(HostKey { is_ipv6: true, address }, row, is_source);
                }
            }
        }
    }

    /// What each record says of its addresses.
    fn rows(batch: &RecordBatch) -> Vec<Row> {
        let (octets, packets) = (volume(batch, Column::OCTETS), volume(batch, Column::PACKETS));
        let times = |column: Column| {
            let array = batch.column_by_name(column.name())?;
            array.as_primitive_opt::<TimestampMillisecondType>()
        };
        let (starts, ends) =
            (times(Column::FlowStartMilliseconds), times(Column::FlowEndMilliseconds));
        let received = times(Column::CollectionTimeMilliseconds);
        let rows = octets.into_iter().zip(packets).enumerate();
        rows.map(|(row, (octets, packets))| {
            let at = |times: Option<&arrow_array::PrimitiveArray<TimestampMillisecondType>>| {
                times.filter(|times| times.is_valid(row)).map(|times| times.value(row))
            };
            let (start, end) = (at(starts), at(ends));
            let known = [start, end].into_iter().flatten();
            let times = known.map(|time| (time, time)).reduce(|one, other| {
                // A record of a broken clock may end before it starts.
                (one.0.min(other.0), one.1.max(other.1))
            });
            let times = times.or_else(|| at(received).map(|time| (time, time)));
            Row { times, sums: Sums { flows: 1, packets, octets } }
        })
        .collect()
    }

    fn count(&mut self, key: HostKey, row: &Row, is_source: bool) {
        let host = self.hosts.entry(key).or_default();
        host.days |= self.day;
        host.widen(row.times);
        let sums = if is_source { &mut host.source } else { &mut host.destination };
        host.is_saturated |= sums.add(row.sums);
    }

    /// Adds what another one has.
    pub(super) fn take(&mut self, other: &Self) {
        if self.hosts.is_empty() {
            self.hosts.clone_from(&other.hosts);
            return;
        }
        for (key, seen) in &other.hosts {
            self.hosts.entry(*key).or_default().add(seen);
        }
    }

    /// All of it in the order of the addresses.
    pub(super) fn into_records(self) -> Vec<HostRecord> {
        let hosts = self.hosts.into_iter();
        let mut records: Vec<_> = hosts.map(|(key, seen)| HostRecord { key, seen }).collect();
        records.sort_unstable_by_key(|record| record.key);
        records
    }
}

/// What a record says of its addresses.
struct Row {
    times: Option<(i64, i64)>,
    sums: Sums,
}

/// What each record carries: the first pair of counters that it has one of, both directions
/// added, as sums of a query have it.
fn volume(batch: &RecordBatch, pairs: [[Column; 2]; 3]) -> Vec<u64> {
    let mut volumes: Vec<Option<u64>> = vec![None; batch.num_rows()];
    for pair in pairs {
        let counters = pair.map(|column| {
            let array = batch.column_by_name(column.name())?;
            array.as_primitive_opt::<UInt64Type>()
        });
        if counters.iter().all(Option::is_none) {
            continue;
        }
        for (row, volume) in volumes.iter_mut().enumerate().filter(|(_, volume)| volume.is_none()) {
            let there = counters.iter().flatten().filter(|counter| counter.is_valid(row));
            *volume = there.map(|counter| counter.value(row)).reduce(u64::saturating_add);
        }
    }
    volumes.into_iter().map(Option::unwrap_or_default).collect()
}

/// Hashes addresses.
#[derive(Clone, Debug)]
struct Spread(u64);

impl BuildHasher for Spread {
    type Hasher = Spreading;

    fn build_hasher(&self) -> Spreading {
        Spreading(self.0)
    }
}

struct Spreading(u64);

impl Hasher for Spreading {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&octet| self.write_u64(octet.into()));
    }

    fn write_u8(&mut self, number: u8) {
        self.0 ^= u64::from(number) << 56;
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64((number >> 64) as u64);
        self.write_u64(number as u64);
    }
}
