//! model: the vocabulary that all stages share. No I/O, no clock, and no state but the names of
//! elements that exporters told of.
//!
//! ```text
//! Element   what a field means (PEN, id, name, type)
//! Column    an Element that every record has a fixed place for
//! FlowRecord  one record, by row; metering and tests make and read these
//! FlowBatch   many records, by column; decoding fills it, the ring copies it
//! Shape     which elements a record carries, so that absent differs from zero
//! Origin    which exporter and Observation Domain a record came from
//! Totals    sums of records, packets and octets, whole or by observation point
//! ```

mod batch;
mod column;
mod exporter;
mod extras;
mod flow_end_reason;
mod flow_record;
pub mod ie;
#[rustfmt::skip]
mod ie_generated;
pub mod ie_learned;
mod ie_types;
mod list;
mod shape;
mod tcp_control_bits;
pub mod time;
mod totals;
mod value;

pub use batch::{BATCH_EXTRAS_SIZE_MAX, BATCH_ROWS_MAX, ColumnMut, ColumnRef, FlowBatch, Run};
pub use column::{Column, ColumnKind, ColumnSet};
pub use exporter::{ObservationDomainId, Origin, Protocol};
pub use extras::{ExtraFields, extras_size};
pub use flow_end_reason::FlowEndReason;
pub use flow_record::{Extra, FlowRecord};
pub use ie::{Element, ElementType, Semantics, Units};
pub use list::List;
pub use shape::{ExtraSpec, RecordType, Shape, VARIABLE_LENGTH, split_variable};
pub use tcp_control_bits::TcpControlBits;
pub use totals::{POINT_COUNT_MAX, PointTotals, Totals, Volume};
pub use value::{Value, element_value, ntp_millis, unsigned};
