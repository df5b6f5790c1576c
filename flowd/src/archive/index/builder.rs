//! IndexBuilder: the rows of a segment into the octets of its sidecar.

use super::key::{INDEXED_PORTS_END, IndexKey, NetworkSize, Transport, mix};
use super::radix::{sort_by_bits, sort_spread};
use super::sidecar::{self, IndexEntry, Section};
use super::{day, filter};
use crate::archive::error::ArchiveError;
use crate::model::Column;
use arrow_array::cast::AsArray;
use arrow_array::types::{UInt8Type, UInt16Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use tracing::warn;

/// So many of the keys met last are remembered, so that those of busy hosts are put in once and
/// not for each of their records.
const RECENT_COUNT: usize = 1 << RECENT_BITS;
const RECENT_BITS: u32 = 15;

/// Makes a segment's index while its rows are written.
#[derive(Debug)]
pub struct IndexBuilder {
    seed: u64,
    sections: Vec<Section>,
    /// All filters so far.
    filters: Vec<u8>,
    /// The row group that is being filled: its rows, and its keys that are no IPv4 ones, some
    /// more than once.
    rows: u64,
    keys: Vec<u64>,
    /// Its IPv4 addresses with their services, as [`packed`] has them, some more than once.
    services: Vec<u64>,
    recent: Box<[u64]>,
    /// The IPv4 addresses of the segment, some more than once, and how many are known to differ.
    hosts: Vec<u32>,
    hosts_sorted: usize,
    /// The keys of all other addresses and networks of the segment, some more than once.
    addresses: Vec<u64>,
    recent_addresses: Box<[u64]>,
    /// How many of them are known to differ.
    addresses_sorted: usize,
}

impl IndexBuilder {
    /// The columns that an index is made of.
    pub const COLUMNS: [Column; 7] = [
        Column::SourceIpv4Address,
        Column::DestinationIpv4Address,
        Column::SourceIpv6Address,
        Column::DestinationIpv6Address,
        Column::SourceTransportPort,
        Column::DestinationTransportPort,
        Column::ProtocolIdentifier,
    ];

    /// Begins the index of a segment.
    #[must_use]
    pub fn new(segment: u64) -> Self {
        Self {
            // Another one each segment, so that what two take for the same by chance differs;
            // and always the same, so that an index that is made again is the same.
            seed: mix(segment.wrapping_add(1)),
            sections: Vec::new(),
            filters: Vec::new(),
            rows: 0,
            keys: Vec::new(),
            services: Vec::new(),
            recent: vec![0; RECENT_COUNT].into(),
            hosts: Vec::new(),
            hosts_sorted: 0,
            addresses: Vec::new(),
            recent_addresses: vec![0; RECENT_COUNT].into(),
            addresses_sorted: 0,
        }
    }

    /// Adds the rows of a whole row group. Columns are found by name; others may be there.
    pub fn add_row_group(&mut self, batch: &RecordBatch) {
        self.add_rows(batch);
        self.end_row_group();
    }

    /// Adds rows to the row group that is being filled.
    pub fn add_rows(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        let ports = [Column::SourceTransportPort, Column::DestinationTransportPort];
        let services = Services {
            ports: ports.map(|column| Numbers::of(batch, column)),
            protocols: Bytes::of(batch),
        };
        self.add_ipv4(batch, &services);
        for column in [Column::SourceIpv6Address, Column::DestinationIpv6Address] {
            let Some(array) = there(batch, column) else { continue };
            let Some(addresses) = array.as_fixed_size_binary_opt() else { continue };
            for row in 0..addresses.len() {
                if addresses.is_valid(row)
                    && let Ok(octets) = <[u8; 16]>::try_from(addresses.value(row))
                {
                    self.add(IpAddr::V6(Ipv6Addr::from(octets)), row, &services);
                }
            }
        }
    }

    /// Adds the IPv4 addresses of rows with their services.
    fn add_ipv4(&mut self, batch: &RecordBatch, services: &Services<'_>) {
        for column in [Column::SourceIpv4Address, Column::DestinationIpv4Address] {
            let Some(array) = there(batch, column) else { continue };
            let Some(addresses) = array.as_primitive_opt::<UInt32Type>() else { continue };
            for (row, &address) in addresses.values().iter().enumerate() {
                if addresses.is_null(row) {
                    continue;
                }
                let transport = Transport::of(services.protocols.value(row));
                let ports = services
                    .ports
                    .each_ref()
                    .map(|ports| ports.value(row).filter(|&port| port < INDEXED_PORTS_END));
                if ports == [None, None] {
                    self.push_packed(packed(address, None));
                }
                for port in ports.into_iter().flatten() {
                    self.push_packed(packed(address, Some((port, transport))));
                }
            }
        }
    }

    fn push_packed(&mut self, packed: u64) {
        if is_new(&mut self.recent, packed, mix_place(packed)) {
            self.services.push(packed);
        }
    }

    /// Makes keys of the IPv4 addresses of the row group: one of each, since they are sorted.
    fn take_services(&mut self) {
        let mut services = std::mem::take(&mut self.services);
        // The addresses first: three digits have all of their bits.
        let address_of = |packed: u64| packed >> SERVICE_BITS;
        sort_by_bits(&mut services, &mut Vec::new(), 3, address_of);
        let mut before: Option<u32> = None;
        for group in services.chunk_by_mut(|one, other| address_of(*one) == address_of(*other)) {
            let Some(&first) = group.first() else { continue };
            let address = address_of(first) as u32;
            let host = IpAddr::V4(Ipv4Addr::from_bits(address));
            self.keys.push(IndexKey::Address(host).hash(self.seed));
            self.hosts.push(address);
            push_networks(address, before, self.seed, &mut self.keys);
            before = Some(address);
            if group.len() > 1 {
                group.sort_unstable();
            }
            let mut last = None;
            for &packed in &*group {
                if last != Some(packed)
                    && let Some((port, transport)) = service_of(packed)
                {
                    let key = IndexKey::Service(host, port, transport);
                    self.keys.push(key.hash(self.seed));
                }
                last = Some(packed);
            }
        }
        services.clear();
        self.services = services;
        if self.hosts.len() >= 2 * self.hosts_sorted.max(ADDRESSES_SORTED_MIN) {
            self.sort_hosts();
        }
    }

    fn sort_hosts(&mut self) {
        sort_by_bits(&mut self.hosts, &mut Vec::new(), 3, u64::from);
        self.hosts.dedup();
        self.hosts_sorted = self.hosts.len();
    }

    /// The keys of all addresses and networks of the segment.
    fn take_addresses(&mut self) -> Vec<u64> {
        self.sort_hosts();
        let mut keys = std::mem::take(&mut self.addresses);
        let mut before = None;
        for &address in &self.hosts {
            let host = IpAddr::V4(Ipv4Addr::from_bits(address));
            keys.push(IndexKey::Address(host).hash(self.seed));
            push_networks(address, before, self.seed, &mut keys);
            before = Some(address);
        }
        keys
    }

    /// Ends the row group that is being filled.
    pub fn end_row_group(&mut self) {
        self.take_services();
        let start = self.filters.len();
        filter::encode(std::mem::take(&mut self.keys), &mut self.filters);
        // A key that the last row group had is not in this one yet.
        self.recent.fill(0);
        let rows = std::mem::take(&mut self.rows);
        self.sections.push(Section::of(rows, &self.filters[start..]));
    }

    /// Writes the index of a segment, which has its place in the archive and its SHA-256. None
    /// if that fails: an index is no reason not to keep records.
    pub(in crate::archive) fn write(
        self,
        archive_dir: &Path,
        segment: &str,
        sha256: &str,
    ) -> Option<IndexEntry> {
        self.write_all(archive_dir, segment, sha256)
            .inspect_err(|error| warn!(%error, segment, "a segment is kept without an index"))
            .ok()
    }

    /// Writes the sidecar, and the record of the day's file.
    ///
    /// # Errors
    /// If one of them cannot be written.
    pub(in crate::archive) fn write_all(
        mut self,
        archive_dir: &Path,
        segment: &str,
        sha256: &str,
    ) -> Result<IndexEntry, ArchiveError> {
        let addresses = self.take_addresses();
        let record = day::record(sha256, self.seed, addresses);
        let entry = self.write_sidecar(archive_dir, segment, sha256)?;
        let path = day::day_path(archive_dir, segment);
        day::append(&path, &record).map_err(ArchiveError::io("write", &path))?;
        Ok(entry)
    }

    /// Writes the sidecar alone.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(in crate::archive) fn write_sidecar(
        self,
        archive_dir: &Path,
        segment: &str,
        sha256: &str,
    ) -> Result<IndexEntry, ArchiveError> {
        sidecar::write_sidecar(archive_dir, segment, &self.finish(sha256))
    }

    /// The octets of the sidecar, for the segment whose file has this SHA-256 in hexadecimal.
    #[must_use]
    pub fn finish(self, sha256: &str) -> Vec<u8> {
        sidecar::encode(sha256, self.seed, &self.sections, &self.filters)
    }

    /// Adds the keys of one address of a row.
    fn add(&mut self, address: IpAddr, row: usize, services: &Services<'_>) {
        if let Some(hash) = self.push(IndexKey::Address(address)) {
            self.push_address(hash);
            for size in NetworkSize::ALL {
                if let Some(hash) = self.push(IndexKey::Network(address, size)) {
                    self.push_address(hash);
                }
            }
        }
        let transport = Transport::of(services.protocols.value(row));
        for ports in &services.ports {
            if let Some(port) = ports.value(row).filter(|&port| port < INDEXED_PORTS_END) {
                self.push(IndexKey::Service(address, port, transport));
            }
        }
    }

    /// Puts a key into the row group, unless it was among the last; says what it is as a number.
    fn push(&mut self, key: IndexKey) -> Option<u64> {
        let hash = key.hash(self.seed);
        is_new(&mut self.recent, hash, hash as usize % RECENT_COUNT).then(|| {
            self.keys.push(hash);
            hash
        })
    }

    /// Puts a key that the row group has into the whole segment.
    fn push_address(&mut self, hash: u64) {
        if is_new(&mut self.recent_addresses, hash, hash as usize % RECENT_COUNT) {
            self.addresses.push(hash);
            if self.addresses.len() >= 2 * self.addresses_sorted.max(ADDRESSES_SORTED_MIN) {
                sort_spread(&mut self.addresses);
                self.addresses_sorted = self.addresses.len();
            }
        }
    }
}

/// So many keys of addresses are gathered before those that are there twice are taken out.
const ADDRESSES_SORTED_MIN: usize = 1 << 19;

/// Remembers a key in its place; says whether it was not among the last.
fn is_new(recent: &mut [u64], key: u64, place: usize) -> bool {
    let place = &mut recent[place];
    // What an empty place looks like is taken for new each time.
    let is_new = *place != key || key == 0;
    *place = key;
    is_new
}

/// Bits of a service below its address: one that says that there is one, two for the transport
/// and fifteen for the port.
const SERVICE_BITS: u32 = 18;
const PORT_BITS: u32 = INDEXED_PORTS_END.trailing_zeros();

/// An IPv4 address and one of its services as a number.
fn packed(address: u32, service: Option<(u16, Transport)>) -> u64 {
    let service = service.map_or(0, |(port, transport)| {
        1 << (SERVICE_BITS - 1) | (transport as u64) << PORT_BITS | u64::from(port)
    });
    u64::from(address) << SERVICE_BITS | service
}

/// The service that was packed.
fn service_of(packed: u64) -> Option<(u16, Transport)> {
    let port = packed as u16 % INDEXED_PORTS_END;
    let transport = Transport::ALL.get((packed >> PORT_BITS) as usize % 4)?;
    (packed >> (SERVICE_BITS - 1) & 1 == 1).then_some((port, *transport))
}

/// Where a packed number is remembered.
const fn mix_place(packed: u64) -> usize {
    (packed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - RECENT_BITS)) as usize
}

/// Appends the keys of the networks around an address, but for those that the address before it
/// is in.
fn push_networks(address: u32, before: Option<u32>, seed: u64, keys: &mut Vec<u64>) {
    for size in NetworkSize::ALL {
        let shift = 32 - u32::from(size.lengths().0);
        if before.is_none_or(|before| before >> shift != address >> shift) {
            let key = IndexKey::Network(IpAddr::V4(Ipv4Addr::from_bits(address)), size);
            keys.push(key.hash(seed));
        }
    }
}

/// What makes services of the addresses of a row.
struct Services<'a> {
    ports: [Numbers<'a>; 2],
    protocols: Bytes<'a>,
}

/// A column of a batch, unless all of it is null.
fn there(batch: &RecordBatch, column: Column) -> Option<&arrow_array::ArrayRef> {
    let array = batch.column_by_name(column.name())?;
    (array.null_count() < array.len()).then_some(array)
}

struct Numbers<'a>(Option<&'a arrow_array::UInt16Array>);

impl<'a> Numbers<'a> {
    fn of(batch: &'a RecordBatch, column: Column) -> Self {
        Self(there(batch, column).and_then(|array| array.as_primitive_opt::<UInt16Type>()))
    }

    fn value(&self, row: usize) -> Option<u16> {
        let array = self.0?;
        array.is_valid(row).then(|| array.value(row))
    }
}

struct Bytes<'a>(Option<&'a arrow_array::UInt8Array>);

impl<'a> Bytes<'a> {
    fn of(batch: &'a RecordBatch) -> Self {
        let array = there(batch, Column::ProtocolIdentifier);
        Self(array.and_then(|array| array.as_primitive_opt::<UInt8Type>()))
    }

    fn value(&self, row: usize) -> Option<u8> {
        let array = self.0?;
        array.is_valid(row).then(|| array.value(row))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Filter;
    use super::*;
    use arrow_array::{ArrayRef, FixedSizeBinaryArray, UInt8Array, UInt16Array, UInt32Array};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn no_address_or_network_of_a_row_is_denied_whatever_the_segment() {
        // Some are the first of their networks.
        let addresses = ["2001:db8:0:1::2", "2001:db8:0:1::", "2001:db8::", "2001:db8:1::", "::"];
        let addresses = addresses.map(|address| address.parse::<Ipv6Addr>().unwrap());
        let octets = addresses.iter().map(Ipv6Addr::octets);
        let array = FixedSizeBinaryArray::try_from_iter(octets).unwrap();
        let name = Column::SourceIpv6Address.name();
        let batch = RecordBatch::try_from_iter([(name, Arc::new(array) as ArrayRef)]).unwrap();
        for segment in 0..200 {
            let mut builder = IndexBuilder::new(segment);
            builder.add_row_group(&batch);
            let filter = Filter::decode(&builder.filters).unwrap();
            for address in addresses.map(IpAddr::V6) {
                let networks = NetworkSize::ALL.map(|size| IndexKey::Network(address, size));
                for key in networks.into_iter().chain([IndexKey::Address(address)]) {
                    let hash = key.hash(builder.seed);
                    assert!(filter.may_hold(hash), "segment {segment}: {key:?}");
                    assert!(builder.addresses.contains(&hash), "segment {segment}: {key:?}");
                }
            }
        }
    }

    /// What a row group and its segment should have of some rows, key by key.
    fn expected(seed: u64, rows: &[(u32, u32, u16, u16, u8)]) -> (Vec<u64>, Vec<u64>) {
        let (mut keys, mut addresses) = (Vec::new(), Vec::new());
        for &(source, destination, source_port, destination_port, protocol) in rows {
            for address in [source, destination].map(|it| IpAddr::V4(Ipv4Addr::from_bits(it))) {
                addresses.push(IndexKey::Address(address).hash(seed));
                let networks = NetworkSize::ALL.map(|size| IndexKey::Network(address, size));
                addresses.extend(networks.map(|key| key.hash(seed)));
                let ports = [source_port, destination_port].into_iter();
                keys.extend(ports.filter(|&port| port < INDEXED_PORTS_END).map(|port| {
                    IndexKey::Service(address, port, Transport::of(Some(protocol))).hash(seed)
                }));
            }
        }
        keys.extend(&addresses);
        (keys, addresses)
    }

    proptest! {
        #[test]
        fn a_row_group_has_the_keys_of_its_rows_and_no_others(
            rows in vec((0_u32..400, any::<u32>(), 0_u16..5, any::<u16>(), 5_u8..18), 1..300),
            repeated in 1_usize..40,
        ) {
            let rows: Vec<_> = rows.iter().copied().cycle().take(rows.len() * repeated).collect();
            let sources = rows.iter().map(|row| row.0);
            let columns: [(Column, ArrayRef); 5] = [
                (Column::SourceIpv4Address, Arc::new(UInt32Array::from_iter_values(sources))),
                (
                    Column::DestinationIpv4Address,
                    Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.1))),
                ),
                (
                    Column::SourceTransportPort,
                    Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| row.2))),
                ),
                (
                    Column::DestinationTransportPort,
                    Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| row.3))),
                ),
                (
                    Column::ProtocolIdentifier,
                    Arc::new(UInt8Array::from_iter_values(rows.iter().map(|row| row.4))),
                ),
            ];
            let columns = columns.into_iter().map(|(column, array)| (column.name(), array));
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let mut builder = IndexBuilder::new(7);
            builder.add_row_group(&batch);
            let first = builder.filters.len();
            builder.add_row_group(&batch);
            let (keys, mut addresses) = expected(builder.seed, &rows);
            let mut filter = Vec::new();
            filter::encode(keys, &mut filter);
            prop_assert_eq!(&builder.filters[..first], &filter);
            prop_assert_eq!(&builder.filters[first..], &filter);
            let mut taken = builder.take_addresses();
            sort_spread(&mut taken);
            sort_spread(&mut addresses);
            prop_assert_eq!(taken, addresses);
        }
    }
}
