//! IndexBuilder: the rows of a segment into the octets of its sidecar.

use super::filter;
use super::key::{INDEXED_PORTS_END, IndexKey, NetworkSize, Transport, mix};
use super::sidecar::{self, Section};
use crate::model::Column;
use arrow_array::cast::AsArray;
use arrow_array::types::{UInt8Type, UInt16Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

    /// The octets of the sidecar, for the segment whose file has this SHA-256 in hexadecimal.
    #[must_use]
    pub fn finish(self, sha256: &str) -> Vec<u8> {
        sidecar::encode(sha256, self.seed, &self.sections, &self.filters)
    }

    /// Adds the keys of one address of a row.
    fn add(&mut self, address: IpAddr, row: usize, services: &Services<'_>) {
        if self.push(IndexKey::Address(address)) {
            for size in NetworkSize::ALL {
                self.push(IndexKey::Network(address, size));
            }
        }
        let transport = Transport::of(services.protocols.value(row));
        for ports in &services.ports {
            if let Some(port) = ports.value(row).filter(|&port| port < INDEXED_PORTS_END) {
                self.push(IndexKey::Service(address, port, transport));
            }
        }
    }

    /// Puts in a key, unless it was among the last; says whether it was put in.
    fn push(&mut self, key: IndexKey) -> bool {
        let hash = key.hash(self.seed);
        // The one hash that an empty place looks like is put in each time.
        let place = &mut self.recent[hash as usize % RECENT_COUNT];
        if *place == hash && hash != 0 {
            return false;
        }
        *place = hash;
        self.keys.push(hash);
        true
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
