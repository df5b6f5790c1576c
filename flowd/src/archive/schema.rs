//! The columns of a segment, and of every batch that queries see: Information Element names.

use super::error::ArchiveError;
use super::segment::SegmentReader;
use crate::model::{Column, ColumnKind, ColumnSet};
use crate::ring::Block;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

/// The exporter's address, if it is an IPv4 one (IE 130).
pub const EXPORTER_IPV4: &str = "exporterIPv4Address";
/// The exporter's address, if it is an IPv6 one (IE 131).
pub const EXPORTER_IPV6: &str = "exporterIPv6Address";
/// The exporter's Observation Domain (IE 149).
pub const OBSERVATION_DOMAIN: &str = "observationDomainId";
/// The protocol that the record came by: [`Protocol::name`](crate::model::Protocol::name).
pub const EXPORT_PROTOCOL: &str = "exportProtocol";
/// The elements that have no column: their name (`name#2` for the second of a name, and so on)
/// and their octets as sent.
pub const ELEMENTS: &str = "elements";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields: Vec<Field> = Column::ALL
        .iter()
        .map(|column| Field::new(column.name(), data_type(column.kind()), true))
        .collect();
    fields.push(Field::new(EXPORTER_IPV4, DataType::UInt32, true));
    fields.push(Field::new(EXPORTER_IPV6, DataType::FixedSizeBinary(16), true));
    fields.push(Field::new(OBSERVATION_DOMAIN, DataType::UInt32, true));
    fields.push(Field::new(EXPORT_PROTOCOL, DataType::Utf8, true));
    fields.push(Field::new(ELEMENTS, DataType::Map(entries_field(), false), true));
    Arc::new(Schema::new(fields))
});

/// All columns that a segment may have. Any may be absent from a record, hence null.
#[must_use]
pub fn schema() -> &'static SchemaRef {
    &SCHEMA
}

/// The columns of one segment: those of [`schema`] that any of its records has a value in. A
/// column that is not there takes no octet, neither in a row group nor in the footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentColumns(Vec<usize>);

impl SegmentColumns {
    /// The columns of blocks.
    pub(super) fn of_blocks(blocks: &[Arc<Block>]) -> Self {
        let columns = blocks.iter().map(|block| block.columns());
        let columns = columns.fold(ColumnSet::EMPTY, ColumnSet::union);
        let origins = || blocks.iter().flat_map(|block| block.origins());
        let shapes = || blocks.iter().flat_map(|block| block.shapes());
        let fields = schema().fields().iter().enumerate();
        let used =
            fields.filter(|(index, field)| match (Column::ALL.get(*index), &**field.name()) {
                (Some(&column), _) => columns.contains(column),
                (None, EXPORTER_IPV4) => origins().any(|origin| origin.address.is_ipv4()),
                (None, EXPORTER_IPV6) => origins().any(|origin| origin.address.is_ipv6()),
                (None, ELEMENTS) => shapes().any(|shape| !shape.extras.is_empty()),
                (None, _) => true,
            });
        Self(used.map(|(index, _)| index).collect())
    }

    /// The columns of segments.
    pub(super) fn of_segments(segments: &[SegmentReader]) -> Result<Self, ArchiveError> {
        let mut names = HashSet::new();
        for segment in segments {
            names.extend(segment.column_names()?);
        }
        let fields = schema().fields().iter().enumerate();
        let used = fields.filter(|(_, field)| names.contains(field.name()));
        Ok(Self(used.map(|(index, _)| index).collect()))
    }

    /// Their places in [`schema`], in rising order.
    pub(super) fn indices(&self) -> &[usize] {
        &self.0
    }
}

/// The type that a column's values have in Arrow and Parquet. An IPv4 address is a number, so
/// that statistics and comparisons see prefixes as ranges.
#[must_use]
pub fn data_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::U8 => DataType::UInt8,
        ColumnKind::U16 => DataType::UInt16,
        ColumnKind::U32 | ColumnKind::Ipv4 => DataType::UInt32,
        ColumnKind::U64 => DataType::UInt64,
        ColumnKind::Ipv6 => DataType::FixedSizeBinary(16),
        ColumnKind::Mac => DataType::FixedSizeBinary(6),
        ColumnKind::Millis => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
    }
}

/// The entries of [`ELEMENTS`], a map from name to octets.
#[must_use]
pub fn entries_field() -> Arc<Field> {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ]);
    Arc::new(Field::new("entries", DataType::Struct(entries), false))
}
