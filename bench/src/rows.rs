//! Rows as a v9 template of 18 fields fills them, for benchmarks of what comes after decoding.

use crate::random::Draws;
use flowd::model::time::UnixMillis;
use flowd::model::{
    Column, ColumnMut, ColumnSet, FlowBatch, ObservationDomainId, Origin, Protocol, RecordType,
    Shape,
};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// When all of them are received: 2024-07-03T14:00:00Z.
pub const NOW: UnixMillis = UnixMillis(1_720_015_200_000);

/// The columns of the rows: 15 that an exporter sends, and the three that a collector adds.
pub const COLUMNS: [Column; 18] = [
    Column::SourceIpv4Address,
    Column::DestinationIpv4Address,
    Column::SourceTransportPort,
    Column::DestinationTransportPort,
    Column::ProtocolIdentifier,
    Column::OctetDeltaCount,
    Column::PacketDeltaCount,
    Column::FlowStartMilliseconds,
    Column::FlowEndMilliseconds,
    Column::TcpControlBits,
    Column::IpClassOfService,
    Column::IngressInterface,
    Column::EgressInterface,
    Column::FlowDirection,
    Column::FlowEndReason,
    Column::CollectionTimeMilliseconds,
    Column::ExportSequenceNumber,
    Column::ExportRecordIndex,
];

/// One run of rows of one exporter.
#[must_use]
pub fn batch(count: usize) -> FlowBatch {
    let shape = Arc::new(Shape {
        record_type: RecordType::Flow,
        columns: ColumnSet::of(&COLUMNS),
        extras: Vec::new(),
    });
    let origin = Arc::new(Origin {
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        domain: ObservationDomainId(0),
        protocol: Protocol::NetflowV9,
    });
    let (mut draws, mut batch) = (Draws(1), FlowBatch::new());
    let rows = batch.append_rows(&shape, &origin, count);
    for column in COLUMNS {
        for row in rows.clone() {
            let number = draws.below(1 << 62);
            match batch.column_mut(column) {
                ColumnMut::U8(values) => values[row] = number as u8,
                ColumnMut::U16(values) => values[row] = number as u16,
                ColumnMut::U32(values) => values[row] = number as u32,
                ColumnMut::U64(values) => values[row] = number,
                ColumnMut::I64(values) => values[row] = NOW.0 + (number % 60_000).cast_signed(),
                ColumnMut::Octets6(_) | ColumnMut::Octets16(_) => {}
            }
        }
    }
    batch
}
