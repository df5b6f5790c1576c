//! How each column is laid out in a segment's file (`docs/journal/2026-11-23-store.md` has the
//! measurements).

use super::schema::{EXPORT_PROTOCOL, EXPORTER_IPV4, OBSERVATION_DOMAIN};
use super::writer::SegmentConfig;
use crate::model::{Column, ColumnKind};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

/// Rows of a page: what is read at least of a column that a query shows rows of.
const PAGE_ROWS: usize = 16_384;
/// A page of this many rows never reaches a limit in octets before that in rows.
const PAGE_SIZE_MAX: usize = 8 << 20;

/// How the values of a column are laid out before zstd gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnLayout {
    /// First all first octets, then all second ones: high octets compress to nothing, and
    /// nothing is hashed.
    Split,
    /// As differences, for what rises.
    Delta,
    /// As numbers in a list, for few values; as they are once the list is too long.
    Dictionary,
    /// As they are: to look a text up in a list costs more than zstd does on what repeats.
    Plain,
}

/// The writer's settings.
pub(super) fn properties(config: SegmentConfig) -> parquet::errors::Result<WriterProperties> {
    let level = ZstdLevel::try_new(config.compression_level)?;
    let mut properties = WriterProperties::builder()
        .set_created_by("flowd".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_SIZE_MAX)
        // Row groups end where SegmentWriter says.
        .set_max_row_group_row_count(None);
    for &column in Column::ALL {
        properties = laid_out(properties, column.name(), layout_of(column));
        if column.kind() == ColumnKind::Millis {
            // Least and greatest of what is not sorted say nothing, but for times.
            let path = ColumnPath::from(column.name());
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::Chunk);
        }
        if has_great_pages(column) {
            let path = ColumnPath::from(column.name());
            let rows = config.row_group_rows;
            properties = properties.set_column_data_page_row_count_limit(path, rows);
        }
    }
    for name in [EXPORTER_IPV4, OBSERVATION_DOMAIN] {
        properties = laid_out(properties, name, ColumnLayout::Split);
    }
    properties = laid_out(properties, EXPORT_PROTOCOL, ColumnLayout::Plain);
    Ok(properties.build())
}

/// Is the column mostly read by a filter, hence in whole row groups, or does a page for each of
/// them spare much? zstd then sees each of the octets that [`ColumnLayout::Split`] sets apart in
/// a block of its own.
fn has_great_pages(column: Column) -> bool {
    use Column::{
        BgpDestinationAsNumber, BgpSourceAsNumber, DestinationTransportPort, FlowEndMilliseconds,
        FlowStartMilliseconds, OctetDeltaCount, SourceTransportPort,
    };
    matches!(column.kind(), ColumnKind::Ipv4 | ColumnKind::Ipv6)
        || matches!(column, SourceTransportPort | DestinationTransportPort)
        || matches!(column, FlowStartMilliseconds | FlowEndMilliseconds | OctetDeltaCount)
        || matches!(column, BgpSourceAsNumber | BgpDestinationAsNumber)
}

fn layout_of(column: Column) -> ColumnLayout {
    match column {
        Column::CollectionTimeMilliseconds | Column::ExportSequenceNumber => ColumnLayout::Delta,
        Column::TcpControlBits | Column::IpClassOfService | Column::FlowEndReason => {
            ColumnLayout::Dictionary
        }
        // Octets of a fixed length may be split too, but DuckDB does not read them then.
        _ if matches!(column.kind(), ColumnKind::Ipv6 | ColumnKind::Mac) => {
            ColumnLayout::Dictionary
        }
        _ => ColumnLayout::Split,
    }
}

fn laid_out(
    properties: WriterPropertiesBuilder,
    name: &str,
    layout: ColumnLayout,
) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(name);
    let encoding = match layout {
        ColumnLayout::Split => Encoding::BYTE_STREAM_SPLIT,
        ColumnLayout::Delta => Encoding::DELTA_BINARY_PACKED,
        ColumnLayout::Plain => Encoding::PLAIN,
        ColumnLayout::Dictionary => return properties.set_column_dictionary_enabled(path, true),
    };
    properties
        .set_column_dictionary_enabled(path.clone(), false)
        .set_column_encoding(path, encoding)
}
