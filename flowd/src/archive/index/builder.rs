//! IndexBuilder: the rows of a segment into the octets of its sidecar.

use super::key::{INDEXED_PORTS_END, IndexKey, NetworkSize, Transport, mix};
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
const RECENT_COUNT: usize = 1 << 15;

/// Makes a segment's index while its rows are written.
#[derive(Debug)]
pub struct IndexBuilder {
    seed: u64,
    sections: Vec<Section>,
    /// All filters so far.
    filters: Vec<u8>,
    /// The row group that is being filled: its rows, and its keys, some more than once.
    rows: u64,
    keys: Vec<u64>,
    recent: Box<[u64]>,
    /// The keys of all addresses and networks of the segment, some more than once.
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
            recent: vec![0; RECENT_COUNT].into(),
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
        for column in [Column::SourceIpv4Address, Column::DestinationIpv4Address] {
            let Some(array) = there(batch, column) else { continue };
            let Some(addresses) = array.as_primitive_opt::<UInt32Type>() else { continue };
            for (row, &address) in addresses.values().iter().enumerate() {
                if addresses.is_valid(row) {
                    self.add(IpAddr::V4(Ipv4Addr::from_bits(address)), row, &services);
                }
            }
        }
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

    /// Ends the row group that is being filled.
    pub fn end_row_group(&mut self) {
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
        let record = day::record(sha256, self.seed, std::mem::take(&mut self.addresses));
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
        is_new(&mut self.recent, hash).then(|| {
            self.keys.push(hash);
            hash
        })
    }

    /// Puts a key that the row group has into the whole segment.
    fn push_address(&mut self, hash: u64) {
        if is_new(&mut self.recent_addresses, hash) {
            self.addresses.push(hash);
            if self.addresses.len() >= 2 * self.addresses_sorted.max(ADDRESSES_SORTED_MIN) {
                self.addresses.sort_unstable();
                self.addresses.dedup();
                self.addresses_sorted = self.addresses.len();
            }
        }
    }
}

/// So many keys of addresses are gathered before those that are there twice are taken out.
const ADDRESSES_SORTED_MIN: usize = 1 << 19;

/// Remembers a key; says whether it was not among the last.
fn is_new(recent: &mut [u64], hash: u64) -> bool {
    let place = &mut recent[hash as usize % RECENT_COUNT];
    // What an empty place looks like is taken for new each time.
    let is_new = *place != hash || hash == 0;
    *place = hash;
    is_new
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
    use arrow_array::{ArrayRef, FixedSizeBinaryArray};
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
}
