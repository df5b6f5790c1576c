//! How records of one kind lie on the wire: a template made from what they carry.

use super::books::NotSent;
use crate::model::ie::{PEN_CISCO, PEN_PROCESS, v9_element};
use crate::model::time::UnixMillis;
use crate::model::{
    Column, ColumnKind, ColumnSet, Extra, ExtraSpec, FlowRecord, RecordType, TcpControlBits,
    VARIABLE_LENGTH, Value,
};
use crate::wire::TemplateRecord;
use crate::wire::v9::V9;
use crate::wire::{FieldSpecifier, TemplateId, Writer};
use std::collections::HashMap;
use std::net::IpAddr;

/// Kinds of records that are told apart. Metering makes about a dozen.
const LAYOUT_COUNT_MAX: usize = 1_024;
/// PEN 35632's elements have their NetFlow v9 types from here on.
const PROCESS_TYPE_BASE: u16 = 57_472;
/// Cisco's elements have theirs from here on.
const CISCO_TYPE_BASE: u16 = 0x8000;
/// Milliseconds before and after its message of which a time is told as uptime too: as far as the
/// 32 bits reach less a day, and as long as clocks of one host differ.
pub(super) const UPTIME_SPAN_MILLIS: i64 = (1 << 32) - 86_400_000;
const UPTIME_AHEAD_MILLIS_MAX: i64 = 3_600_000;

/// One field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A column's value in its own width.
    Column(Column),
    /// TCP flags of one octet: all that most flows have.
    FlagsShort,
    /// A time as the exporter's uptime, modulo 2^32 ms.
    Uptime(Column),
    /// ICMP has no ports: the source port is sent as 0.
    NoPort,
    /// ICMP type * 256 + code, as the destination port and as NetFlow v9's ICMP field.
    IcmpCode(Column),
    /// The value of one of the record's extras.
    Extra(usize),
}

/// The wire form of records of one kind.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) template: TemplateRecord,
    pub(super) record_size: usize,
    /// Fields of the record that have no form in NetFlow v9.
    pub(super) left_out: u64,
    parts: Vec<Part>,
    extras: Vec<ExtraSpec>,
}

/// What records of one kind have in common, without their extras.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    present: ColumnSet,
    has_long_flags: bool,
    /// One of its times is beyond what an uptime can tell.
    has_far_times: bool,
}

/// All layouts so far.
#[derive(Debug)]
pub(super) struct Layouts {
    list: Vec<Layout>,
    by_kind: HashMap<Kind, Vec<usize>>,
    next_id: Option<TemplateId>,
    /// Octets that a message has for one record of any kind, templates among them.
    record_size_max: usize,
}

impl Layouts {
    /// Templates are numbered from `first_id` on.
    pub(super) fn new(first_id: TemplateId, record_size_max: usize) -> Self {
        Self { list: Vec::new(), by_kind: HashMap::new(), next_id: Some(first_id), record_size_max }
    }

    pub(super) fn all(&self) -> &[Layout] {
        &self.list
    }

    pub(super) fn get(&self, index: usize) -> Option<&Layout> {
        self.list.get(index)
    }

    /// The layout of a record, made when it is the first of its kind. With the time at which it
    /// leaves, one whose times an uptime cannot tell then has no uptimes.
    pub(super) fn of(
        &mut self,
        record: &FlowRecord,
        leaves: Option<UnixMillis>,
    ) -> Result<usize, NotSent> {
        if record.record_type != RecordType::Flow {
            return Err(NotSent::NotAFlow);
        }
        let kind = Kind {
            present: record.present,
            has_long_flags: record.tcp_control_bits > u16::from(u8::MAX),
            has_far_times: leaves.is_some_and(|now| has_far_times(record, now)),
        };
        let known = self.by_kind.entry(kind).or_default();
        let has_same_extras = |&&index: &&usize| {
            let layout = self.list.get(index);
            layout.is_some_and(|l| l.extras.iter().eq(record.extras.iter().map(|e| &e.spec)))
        };
        if let Some(&index) = known.iter().find(has_same_extras) {
            return Ok(index);
        }
        let id = self.next_id.ok_or(NotSent::TemplateLimit)?;
        if self.list.len() >= LAYOUT_COUNT_MAX {
            return Err(NotSent::TemplateLimit);
        }
        let layout = Layout::new(id, kind, &record.extras);
        if layout.parts.is_empty() {
            return Err(NotSent::NoFields);
        }
        // A record is of no use without its template, which takes four octets a field.
        if layout.record_size.max(layout.template.size_in::<V9>()) > self.record_size_max {
            return Err(NotSent::TooLarge);
        }
        let index = self.list.len();
        known.push(index);
        self.list.push(layout);
        self.next_id = id.next();
        Ok(index)
    }
}

impl Layout {
    fn new(id: TemplateId, kind: Kind, extras: &[Extra]) -> Self {
        let mut layout = Self {
            template: TemplateRecord { id, fields: Vec::new() },
            record_size: 0,
            left_out: 0,
            parts: Vec::new(),
            extras: extras.iter().map(|extra| extra.spec).collect(),
        };
        for column in kind.present.iter() {
            layout.add_column(column, kind);
        }
        for (index, extra) in extras.iter().enumerate() {
            match v9_type(extra.spec) {
                Some(field_type) => {
                    layout.add(field_type, extra.spec.length, Part::Extra(index));
                }
                None => layout.left_out = layout.left_out.saturating_add(1),
            }
        }
        layout
    }

    fn add(&mut self, field_type: u16, length: u16, part: Part) {
        self.template.fields.push(FieldSpecifier { enterprise: 0, id: field_type, length });
        self.record_size = self.record_size.saturating_add(usize::from(length));
        self.parts.push(part);
    }

    fn add_column(&mut self, column: Column, kind: Kind) {
        let id = column.element_id();
        let length = u16::try_from(column.kind().width()).expect("columns are narrow");
        match column {
            Column::FlowStartMilliseconds => {
                if !kind.has_far_times {
                    self.add(22, 4, Part::Uptime(column));
                }
                self.add(id, length, Part::Column(column));
            }
            Column::FlowEndMilliseconds => {
                if !kind.has_far_times {
                    self.add(21, 4, Part::Uptime(column));
                }
                self.add(id, length, Part::Column(column));
            }
            Column::TcpControlBits if !kind.has_long_flags => {
                self.add(id, 1, Part::FlagsShort);
            }
            Column::IcmpTypeCodeIpv4 | Column::IcmpTypeCodeIpv6 => {
                let ports = [Column::SourceTransportPort, Column::DestinationTransportPort];
                if !ports.iter().any(|&port| kind.present.contains(port)) {
                    self.add(7, 2, Part::NoPort);
                    self.add(11, 2, Part::IcmpCode(column));
                }
                // NetFlow v9's own ICMP field is of both families (RFC 3954 section 8), and the
                // one that collectors know.
                self.add(32, 2, Part::IcmpCode(column));
            }
            // NetFlow v9 has no fields of the reverse direction.
            Column::ReverseOctetDeltaCount | Column::ReversePacketDeltaCount => {
                self.left_out = self.left_out.saturating_add(1);
            }
            // How the record reached flowd is not the flow's own; the next collector writes its
            // own account of that.
            Column::CollectionTimeMilliseconds
            | Column::ExportSequenceNumber
            | Column::ExportRecordIndex => {}
            _ => self.add(id, length, Part::Column(column)),
        }
    }

    /// Appends a record of this layout. `boot` is when the exporter's uptime was 0.
    pub(super) fn write(&self, record: &FlowRecord, boot: UnixMillis, writer: &mut Writer) {
        for &part in &self.parts {
            match part {
                Part::Column(column) => write_column(record, column, writer),
                Part::FlagsShort => {
                    let flags = record.tcp_control_bits & u16::from(u8::MAX);
                    writer.u8(u8::try_from(flags).unwrap_or(0));
                }
                Part::Uptime(column) => match record.value(column) {
                    Some(Value::Millis(millis)) => writer.u32(uptime(UnixMillis(millis), boot)),
                    _ => writer.u32(0),
                },
                Part::NoPort => writer.u16(0),
                Part::IcmpCode(column) => match record.value(column) {
                    Some(Value::Unsigned(number)) => writer.u16(u16::try_from(number).unwrap_or(0)),
                    _ => writer.u16(0),
                },
                Part::Extra(index) => {
                    let extra = record.extras.get(index);
                    writer.bytes(extra.map_or(&[], |extra| &extra.value));
                }
            }
        }
    }
}

/// Milliseconds from boot, modulo 2^32 (RFC 3954 section 5.1).
pub(super) fn uptime(at: UnixMillis, boot: UnixMillis) -> u32 {
    let millis = at.0.wrapping_sub(boot.0).rem_euclid(1 << 32);
    u32::try_from(millis).expect("a remainder of 2^32 fits 32 bits")
}

fn has_far_times(record: &FlowRecord, now: UnixMillis) -> bool {
    [Column::FlowStartMilliseconds, Column::FlowEndMilliseconds].into_iter().any(|column| {
        matches!(record.value(column), Some(Value::Millis(at))
            if !(-UPTIME_AHEAD_MILLIS_MAX..=UPTIME_SPAN_MILLIS).contains(&now.0.saturating_sub(at)))
    })
}

/// The NetFlow v9 field type of an element that has no column, if it has one.
fn v9_type(spec: ExtraSpec) -> Option<u16> {
    if spec.length == VARIABLE_LENGTH {
        return None;
    }
    match spec.enterprise {
        0 => Some(spec.id),
        PEN_PROCESS => spec.id.checked_add(PROCESS_TYPE_BASE),
        PEN_CISCO => {
            let field_type = spec.id.checked_add(CISCO_TYPE_BASE)?;
            (v9_element(field_type) == (PEN_CISCO, spec.id)).then_some(field_type)
        }
        _ => None,
    }
}

fn write_column(record: &FlowRecord, column: Column, writer: &mut Writer) {
    let number = match record.value(column) {
        Some(Value::Unsigned(number)) if column == Column::TcpControlBits => {
            number & u64::from(TcpControlBits::MASK)
        }
        Some(Value::Unsigned(number)) => number,
        Some(Value::Millis(millis)) => millis.cast_unsigned(),
        Some(Value::Address(IpAddr::V4(address))) => return writer.bytes(&address.octets()),
        Some(Value::Address(IpAddr::V6(address))) => return writer.bytes(&address.octets()),
        Some(Value::Mac(octets)) => return writer.bytes(&octets),
        // A layout has the columns that its records have, and columns have no other values.
        _ => 0,
    };
    match column.kind() {
        ColumnKind::U8 => writer.u8(u8::try_from(number).unwrap_or(u8::MAX)),
        ColumnKind::U16 => writer.u16(u16::try_from(number).unwrap_or(u16::MAX)),
        ColumnKind::U32 => writer.u32(u32::try_from(number).unwrap_or(u32::MAX)),
        ColumnKind::U64 | ColumnKind::Millis => writer.u64(number),
        ColumnKind::Ipv4 => writer.zeros(4),
        ColumnKind::Ipv6 => writer.zeros(16),
        ColumnKind::Mac => writer.zeros(6),
    }
}
