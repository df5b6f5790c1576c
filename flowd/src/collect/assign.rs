//! Which field of a template goes where.
//!
//! Rules, in the order in which they are asked for each field of the template:
//! - no octets, or `paddingOctets`: nothing is sent, so nothing is kept;
//! - a start or end time of the flow: the best one sent fills `flowStartMilliseconds` or
//!   `flowEndMilliseconds`, the others say the same less well and are dropped;
//! - ICMP type and code sent apart (176-179) fill the column of both;
//! - an element that has a column, the first time it is sent: its column. A number sent in more
//!   octets than its column has fits in nearly every record; the record where it does not keeps
//!   all such fields as extras;
//! - all else, and all elements of variable length: extras, verbatim.

use super::copy::How;
use crate::model::ie::{self, PEN_REVERSE};
use crate::model::{Column, ColumnKind, ColumnSet, ExtraSpec, Protocol};
use crate::wire::FieldSpecifier;
use std::collections::HashMap;

/// Numbers wider than this are extras wherever they have a column.
const NUMBER_SIZE_MAX: u16 = 8;
/// `paddingOctets`.
const PADDING_ELEMENT: u16 = 210;
/// `systemInitTimeMilliseconds`: when the exporter booted.
pub(super) const SYSTEM_INIT_TIME: u16 = 160;

/// A field of a template: the element that it is, and where its value goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) spec: ExtraSpec,
    pub(super) target: Target,
}

/// Where the value of a field goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// It says nothing, or nothing that another field does not say better.
    Nothing,
    /// To a column, which reads it so.
    Column(Column, How),
    /// To the record's extras, as it was sent.
    Extra,
}

/// ICMP_TYPE of NetFlow v9, and the registry's icmpTypeCodeIPv4.
const ICMP_TYPE: u16 = 32;
/// The registry's icmpTypeCodeIPv6.
const ICMP_TYPE_IPV6: u16 = 139;

/// ICMP type and code that are sent apart, and the column of both.
const ICMP_PAIRS: [(u16, u16, Column); 2] =
    [(176, 177, Column::IcmpTypeCodeIpv4), (178, 179, Column::IcmpTypeCodeIpv6)];

/// Decides for each field where it goes.
pub(super) fn assign(specifiers: &[FieldSpecifier], protocol: Protocol) -> Vec<Field> {
    let icmp = icmp_type(specifiers);
    let relative = relative_time(specifiers, protocol);
    let specs: Vec<ExtraSpec> = specifiers
        .iter()
        .map(|specifier| match element(specifier) {
            spec if (spec.enterprise, spec.id) == (0, ICMP_TYPE) => ExtraSpec { id: icmp, ..spec },
            spec => spec,
        })
        .collect();
    let times = [Edge::Start, Edge::End].map(|edge| best_time(&specs, edge));
    let pairs = icmp_pairs(&specs);
    let mut seen = ColumnSet::EMPTY;
    let mut times_seen: Vec<u16> = Vec::new();
    specs
        .iter()
        .enumerate()
        .map(|(index, &spec)| {
            let target = if spec.length == 0 || (spec.enterprise, spec.id) == (0, PADDING_ELEMENT) {
                Target::Nothing
            } else if let Some(&(column, how)) = pairs.get(&index) {
                Target::Column(column, how)
            } else if let Some((edge, time)) = flow_time(spec) {
                let how = if time.how == How::Uptime { relative } else { time.how };
                let is_first = !times_seen.contains(&spec.id);
                times_seen.push(spec.id);
                match edge {
                    Edge::Start if times[0] == Some(index) => {
                        Target::Column(Column::FlowStartMilliseconds, how)
                    }
                    Edge::End if times[1] == Some(index) => {
                        Target::Column(Column::FlowEndMilliseconds, how)
                    }
                    _ if is_first => Target::Nothing,
                    _ => Target::Extra,
                }
            } else {
                match column(spec) {
                    Some((column, how)) if seen.insert(column) => Target::Column(column, how),
                    _ => Target::Extra,
                }
            };
            Field { spec, target }
        })
        .collect()
}

/// How times in milliseconds of uptime are read. NetFlow's messages tell the uptime; IPFIX has
/// `systemInitTimeMilliseconds` (RFC 5102 section 5.9.13), in the record itself or in options.
fn relative_time(specifiers: &[FieldSpecifier], protocol: Protocol) -> How {
    let is_init = |s: &FieldSpecifier| (s.enterprise, s.id, s.length) == (0, SYSTEM_INIT_TIME, 8);
    match specifiers.iter().position(is_init) {
        Some(field) if protocol == Protocol::Ipfix => How::UptimeSince(field),
        _ => How::Uptime,
    }
}

/// The fields that are an ICMP type or code of one octet, where both are sent and the element of
/// both together is not.
fn icmp_pairs(specs: &[ExtraSpec]) -> HashMap<usize, (Column, How)> {
    let find =
        |id, length| specs.iter().position(|s| (s.enterprise, s.id, s.length) == (0, id, length));
    let mut fields = HashMap::new();
    for (type_id, code_id, column) in ICMP_PAIRS {
        let is_whole_sent =
            specs.iter().any(|s| s.enterprise == 0 && Column::from_element(s.id) == Some(column));
        if is_whole_sent {
            continue;
        }
        if let (Some(icmp_type), Some(code)) = (find(type_id, 1), find(code_id, 1)) {
            fields.insert(icmp_type, (column, How::HighOctet));
            fields.insert(code, (column, How::LowOctet));
        }
    }
    fields
}

/// The element that NetFlow v9's ICMP_TYPE is (RFC 3954 section 8). It is of both families; the
/// registry has an element for each. In a template of IPv6 addresses alone it is the IPv6 one.
fn icmp_type(specifiers: &[FieldSpecifier]) -> u16 {
    let has = |ids: &[u16]| specifiers.iter().any(|s| s.enterprise == 0 && ids.contains(&s.id));
    let is_ipv6 = has(&[27, 28]) && !has(&[8, 12, ICMP_TYPE_IPV6]);
    if is_ipv6 { ICMP_TYPE_IPV6 } else { ICMP_TYPE }
}

/// The element that a field is. Some NetFlow v9 field types beyond the registry are elements
/// under another number; in IPFIX no element of IANA's has such a number.
fn element(specifier: &FieldSpecifier) -> ExtraSpec {
    let FieldSpecifier { enterprise, id, length } = *specifier;
    let (enterprise, id) = if enterprise == 0 { ie::v9_element(id) } else { (enterprise, id) };
    ExtraSpec { enterprise, id, length }
}

/// The column of an element, if it has one and is sent in a length that suits it.
fn column(spec: ExtraSpec) -> Option<(Column, How)> {
    let column = match spec.enterprise {
        0 => Column::from_element(spec.id)?,
        PEN_REVERSE => Column::from_reverse_element(spec.id)?,
        _ => return None,
    };
    let length = spec.length;
    let suits = match column.kind() {
        ColumnKind::U8 | ColumnKind::U16 | ColumnKind::U32 | ColumnKind::U64 => {
            (1..=NUMBER_SIZE_MAX).contains(&length)
        }
        ColumnKind::Ipv4 | ColumnKind::Ipv6 | ColumnKind::Mac => {
            usize::from(length) == column.kind().width()
        }
        // When the record was received here is flowd's own to say; the other times were
        // looked at before.
        ColumnKind::Millis => false,
    };
    let how = match column {
        Column::TcpControlBits => How::Flags,
        _ => How::Plain,
    };
    suits.then_some((column, how))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Start,
    End,
}

/// A way to say when a flow began or ended.
#[derive(Clone, Copy, Debug)]
struct Time {
    /// The lowest one sent is used.
    rank: u8,
    how: How,
}

/// Is the element a start or end time, in a length that can be read?
fn flow_time(spec: ExtraSpec) -> Option<(Edge, Time)> {
    if spec.enterprise != 0 {
        return None;
    }
    let (rank, how) = match spec.id {
        152 | 153 => (0, How::Millis),
        154 | 155 => (1, How::Ntp),
        156 | 157 => (2, How::Ntp),
        150 | 151 => (3, How::Seconds),
        158 | 159 => (4, How::DeltaMicros),
        21 | 22 => (5, How::Uptime),
        _ => return None,
    };
    let suits = match how {
        How::Ntp => spec.length == 8,
        _ => (1..=NUMBER_SIZE_MAX).contains(&spec.length),
    };
    // flowEndSysUpTime (21) comes before flowStartSysUpTime (22); all others start first.
    let edge = match (spec.id, spec.id.is_multiple_of(2)) {
        (21, _) => Edge::End,
        (22, _) | (_, true) => Edge::Start,
        _ => Edge::End,
    };
    suits.then_some((edge, Time { rank, how }))
}

fn best_time(specs: &[ExtraSpec], wanted: Edge) -> Option<usize> {
    specs
        .iter()
        .enumerate()
        .filter_map(|(index, &spec)| {
            let (edge, time) = flow_time(spec)?;
            (edge == wanted).then_some((time.rank, index))
        })
        .min()
        .map(|(_, index)| index)
}
