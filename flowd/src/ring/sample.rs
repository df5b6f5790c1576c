//! Random batches for tests of the ring and of what reads it.

use crate::model::time::UnixMillis;
use crate::model::{
    Column, ColumnMut, ColumnSet, ExtraSpec, FlowBatch, FlowRecord, ObservationDomainId, Origin,
    Protocol, RecordType, Shape, VARIABLE_LENGTH,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// 2024-07-03T14:00:00Z.
pub(crate) const HOUR: i64 = 477_758;

/// The start of [`HOUR`].
pub(crate) const NOW: UnixMillis = UnixMillis::of_hour(HOUR);

/// A source of numbers that a seed fixes (splitmix64).
pub(crate) struct Source(pub(crate) u64);

impl Source {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn octets(&mut self, size: usize) -> Vec<u8> {
        (0..size).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// A shape of any record type, with any columns, and with some extras.
    pub(crate) fn shape(&mut self) -> Arc<Shape> {
        let record_type = match self.below(8) {
            0 => RecordType::Options,
            1 => RecordType::Counters,
            _ => RecordType::Flow,
        };
        let bits = self.next() & self.next() & ((1 << Column::COUNT) - 1);
        let mut columns = ColumnSet::from_bits(bits).unwrap();
        columns.insert(Column::CollectionTimeMilliseconds);
        let extras = (0..self.below(4)).map(|_| ExtraSpec {
            enterprise: [0, 0, 9, 35_632][self.below(4)],
            id: [1, 8, 95, 12_235, 40_000][self.below(5)],
            length: [0, 4, 16, VARIABLE_LENGTH][self.below(4)],
        });
        let extras = extras.collect();
        Arc::new(Shape { record_type, columns, extras })
    }

    /// An origin of either family.
    pub(crate) fn origin(&mut self) -> Arc<Origin> {
        let address = match self.below(2) {
            0 => IpAddr::V4(Ipv4Addr::from_bits(self.below(100_000).try_into().unwrap())),
            _ => IpAddr::V6(Ipv6Addr::from_bits(self.next().into())),
        };
        Arc::new(Origin {
            address,
            domain: ObservationDomainId(u32::try_from(self.below(1_000)).unwrap()),
            protocol: [Protocol::NetflowV9, Protocol::Ipfix, Protocol::Metered][self.below(3)],
        })
    }

    /// Appends rows of random values, received from `received` on at one a millisecond.
    pub(crate) fn fill(
        &mut self,
        batch: &mut FlowBatch,
        shape: &Arc<Shape>,
        origin: &Arc<Origin>,
        count: usize,
        received: i64,
    ) {
        let rows = batch.append_rows(shape, origin, count);
        for column in shape.columns.iter() {
            for row in rows.clone() {
                let number = self.next();
                match batch.column_mut(column) {
                    ColumnMut::U8(values) => values[row] = number.to_le_bytes()[0],
                    ColumnMut::U16(values) => values[row] = (number & 0xffff) as u16,
                    ColumnMut::U32(values) => values[row] = (number >> 32) as u32,
                    ColumnMut::U64(values) => values[row] = number,
                    ColumnMut::I64(values) => values[row] = NOW.0 + (number & 0xfff_ffff) as i64,
                    ColumnMut::Octets6(values) => {
                        values[row].copy_from_slice(&number.to_le_bytes()[..6]);
                    }
                    ColumnMut::Octets16(values) => {
                        values[row][..8].copy_from_slice(&number.to_le_bytes());
                    }
                }
            }
        }
        if let ColumnMut::I64(times) = batch.column_mut(Column::CollectionTimeMilliseconds) {
            for (time, row) in (received..).zip(rows.clone()) {
                times[row] = time;
            }
        }
        if !shape.extras.is_empty() {
            for row in rows {
                let bytes = self.extras(&shape.extras);
                batch.push_extras(row, &bytes);
            }
        }
    }

    fn extras(&mut self, specs: &[ExtraSpec]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for spec in specs {
            let mut size = usize::from(spec.length);
            if spec.length == VARIABLE_LENGTH {
                size = [0, 3, 254, 255, 300][self.below(5)];
                match u8::try_from(size) {
                    Ok(short) if short < 255 => bytes.push(short),
                    _ => {
                        bytes.push(255);
                        bytes.extend(u16::try_from(size).unwrap().to_be_bytes());
                    }
                }
            }
            bytes.extend(self.octets(size));
        }
        bytes
    }

    /// A batch of some runs; about one in eight crosses into the next hour.
    pub(crate) fn batch(&mut self, runs: usize, run_rows_max: usize) -> FlowBatch {
        let mut batch = FlowBatch::new();
        let shapes: Vec<_> = (0..3).map(|_| self.shape()).collect();
        let origins: Vec<_> = (0..3).map(|_| self.origin()).collect();
        for _ in 0..runs {
            let count = (1 + self.below(run_rows_max)).min(batch.room());
            let received = match self.below(8) {
                0 => NOW.0 - (count / 2) as i64,
                _ => NOW.0 + self.below(1_000_000) as i64,
            };
            let (shape, origin) = (self.below(3), self.below(3));
            self.fill(&mut batch, &shapes[shape], &origins[origin], count, received);
        }
        batch
    }
}

/// A shape as a v9 template of 18 fields gives it, with flowd's own three columns.
pub(crate) fn v4_shape() -> Arc<Shape> {
    use Column as C;
    Arc::new(Shape {
        record_type: RecordType::Flow,
        columns: ColumnSet::of(&[
            C::SourceIpv4Address,
            C::DestinationIpv4Address,
            C::SourceTransportPort,
            C::DestinationTransportPort,
            C::ProtocolIdentifier,
            C::OctetDeltaCount,
            C::PacketDeltaCount,
            C::FlowStartMilliseconds,
            C::FlowEndMilliseconds,
            C::TcpControlBits,
            C::IpClassOfService,
            C::IngressInterface,
            C::EgressInterface,
            C::FlowDirection,
            C::FlowEndReason,
            C::CollectionTimeMilliseconds,
            C::ExportSequenceNumber,
            C::ExportRecordIndex,
        ]),
        extras: Vec::new(),
    })
}

/// A record with who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) origin: Arc<Origin>,
    pub(crate) record: FlowRecord,
}

/// All records of a batch.
pub(crate) fn sent_records(batch: &FlowBatch) -> Vec<Sent> {
    let sent = |row| Sent {
        origin: Arc::clone(&batch.run_of(row).unwrap().origin),
        record: batch.record(row).unwrap(),
    };
    (0..batch.len()).map(sent).collect()
}
