//! A template compiled to a copy plan: which field goes into which column, and what is kept
//! verbatim.
//!
//! Rules, in the order in which they are asked for each field of the template:
//! - no octets, or `paddingOctets`: nothing is sent, so nothing is kept;
//! - a start or end time of the flow: the best one sent fills `flowStartMilliseconds` or
//!   `flowEndMilliseconds`, the others say the same less well and are dropped;
//! - an element that has a column, the first time it is sent: its column. A number sent in more
//!   octets than its column has fits in nearly every record; the record where it does not keeps
//!   all such fields as extras;
//! - all else, and all elements of variable length: extras, verbatim.
//!
//! Where addresses of both families are sent, a record keeps the ones that are not zero.

use super::copy::How;
use crate::model::ie::{self, PEN_PROCESS, PEN_REVERSE, PEN_V9_SCOPE};
use crate::model::{Column, ColumnKind, ColumnSet, ExtraSpec, RecordType, Shape, VARIABLE_LENGTH};
use crate::wire::FieldSpecifier;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

/// Numbers wider than this are extras wherever they have a column.
const NUMBER_SIZE_MAX: u16 = 8;
/// Addresses that can be sent in both families: source, destination, next hop.
const FAMILIES_MAX: usize = 3;
/// `paddingOctets`.
const PADDING_ELEMENT: u16 = 210;

/// How records of one template are decoded.
#[derive(Debug)]
pub(super) struct Plan {
    fields: Box<[Field]>,
    /// Where each field begins and the record ends; what varies has no meaning here.
    offsets: Box<[usize]>,
    record_size_min: NonZeroUsize,
    is_variable: bool,
    copies: Box<[Copy]>,
    families: Box<[Families]>,
    /// Numbers sent in more octets than their column has: field, and octets that must be zero.
    wide: Box<[(usize, usize)]>,
    record_type: RecordType,
    own_columns: ColumnSet,
    /// One for each outcome of [`Plan::variant_index`], made when the first record needs it.
    variants: Box<[OnceLock<Variant>]>,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    spec: ExtraSpec,
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Nothing,
    Column(Column, How),
    Extra,
}

/// ICMP_TYPE of NetFlow v9, and the registry's icmpTypeCodeIPv4.
const ICMP_TYPE: u16 = 32;
/// The registry's icmpTypeCodeIPv6.
const ICMP_TYPE_IPV6: u16 = 139;

/// A field that fills a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy {
    pub(super) column: Column,
    pub(super) how: How,
    pub(super) field: usize,
    pub(super) length: usize,
}

/// An address that is sent in both families.
#[derive(Clone, Copy, Debug)]
struct Families {
    ipv4: (Column, usize),
    ipv6: (Column, usize),
}

/// Which of two families a record's address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
    Both,
}

impl Families {
    /// The family that is not zero, if one is.
    fn of(&self, record: &[u8], offsets: &[usize]) -> Option<Family> {
        let ipv4 = field_at(record, offsets, self.ipv4.1).and_then(<[u8]>::first_chunk);
        let ipv6 = field_at(record, offsets, self.ipv6.1).and_then(<[u8]>::first_chunk);
        let has_ipv4 = ipv4.is_some_and(|octets| u32::from_ne_bytes(*octets) != 0);
        let has_ipv6 = ipv6.is_some_and(|octets| u128::from_ne_bytes(*octets) != 0);
        match (has_ipv4, has_ipv6) {
            (true, true) => Some(Family::Both),
            (true, false) => Some(Family::Ipv4),
            (false, true) => Some(Family::Ipv6),
            (false, false) => None,
        }
    }
}

/// A record from the beginning of one of its fields on.
fn field_at<'a>(record: &'a [u8], offsets: &[usize], field: usize) -> Option<&'a [u8]> {
    record.get(*offsets.get(field)?..)
}

/// What some records of the template carry.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) shape: Arc<Shape>,
    /// Extras that stand next to one another: first field, and the field after the last.
    pub(super) extras: Box<[(usize, usize)]>,
}

impl Plan {
    /// Compiles a template. `own_columns` are the ones that the decoder fills itself.
    /// None if the template describes records of no octets.
    pub(super) fn compile(
        record_type: RecordType,
        specifiers: &[FieldSpecifier],
        own_columns: ColumnSet,
    ) -> Option<Self> {
        let mut offsets = Vec::with_capacity(specifiers.len().saturating_add(1));
        let mut end = 0usize;
        for specifier in specifiers {
            offsets.push(end);
            end = end.saturating_add(specifier.size_min());
        }
        offsets.push(end);
        let fields = assign(specifiers);
        let copies: Vec<Copy> = fields
            .iter()
            .enumerate()
            .filter_map(|(index, field)| match field.target {
                Target::Column(column, how) => {
                    Some(Copy { column, how, field: index, length: usize::from(field.spec.length) })
                }
                _ => None,
            })
            .collect();
        let families = families(&copies);
        let wide: Vec<(usize, usize)> =
            copies.iter().filter_map(|copy| Some((copy.field, excess(copy)?))).collect();
        let mut variant_count = if wide.is_empty() { 1usize } else { 2 };
        for _ in &families {
            variant_count = variant_count.saturating_mul(3);
        }
        Some(Self {
            record_size_min: NonZeroUsize::new(end)?,
            is_variable: specifiers.iter().any(|s| s.length == VARIABLE_LENGTH),
            fields: fields.into(),
            offsets: offsets.into(),
            copies: copies.into(),
            families: families.into(),
            wide: wide.into(),
            record_type,
            own_columns,
            variants: (0..variant_count).map(|_| OnceLock::new()).collect(),
        })
    }

    /// Octets of a record, or the least of them where the size varies.
    pub(super) const fn record_size_min(&self) -> NonZeroUsize {
        self.record_size_min
    }

    /// Do records differ in size?
    pub(super) const fn is_variable(&self) -> bool {
        self.is_variable
    }

    /// Do records of the template differ in what they carry?
    pub(super) fn has_variants(&self) -> bool {
        self.variants.len() > 1
    }

    /// Where the fields of a record of fixed size begin, and where it ends.
    pub(super) fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The fields that fill columns.
    pub(super) fn copies(&self) -> &[Copy] {
        &self.copies
    }

    /// Octets that the plan takes, about.
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.fields)
            .saturating_add(size_of_val(&*self.offsets))
            .saturating_add(size_of_val(&*self.copies))
            .saturating_add(size_of_val(&*self.variants))
    }

    /// Finds where the fields of the first record lie. None if the octets end before it does.
    pub(super) fn measure(&self, records: &[u8], offsets: &mut Vec<usize>) -> Option<()> {
        offsets.clear();
        let mut end = 0usize;
        for field in &self.fields {
            offsets.push(end);
            let size = match field.spec.length {
                VARIABLE_LENGTH => variable_size(records.get(end..)?)?,
                length => usize::from(length),
            };
            end = end.saturating_add(size);
        }
        offsets.push(end);
        (end <= records.len()).then_some(())
    }

    /// Which variant a record is of.
    pub(super) fn variant_index(&self, record: &[u8], offsets: &[usize]) -> usize {
        let exceeds = self.wide.iter().any(|&(field, size)| {
            let excess = field_at(record, offsets, field).and_then(|octets| octets.get(..size));
            excess.is_some_and(|octets| octets.iter().any(|&octet| octet != 0))
        });
        let mut found = [None; FAMILIES_MAX];
        for (found, families) in found.iter_mut().zip(&self.families) {
            *found = families.of(record, offsets);
        }
        // An address that is zero in both families (0.0.0.0 asks for a lease, :: for its own
        // address) is of the family of the record's other address.
        let common = match found.iter().flatten().next() {
            Some(Family::Ipv6) => Family::Ipv6,
            _ => Family::Ipv4,
        };
        self.families.iter().zip(found).fold(usize::from(exceeds), |index, (_, family)| {
            let digit = match family.unwrap_or(common) {
                Family::Ipv4 => 0,
                Family::Ipv6 => 1,
                Family::Both => 2,
            };
            index.saturating_mul(3).saturating_add(digit)
        })
    }

    /// A variant by its index.
    pub(super) fn variant(&self, index: usize) -> &Variant {
        let index = index.min(self.variants.len().saturating_sub(1));
        let slot = self.variants.get(index).expect("a plan has a variant");
        slot.get_or_init(|| self.make_variant(index))
    }

    fn make_variant(&self, index: usize) -> Variant {
        let mut columns: ColumnSet = self.copies.iter().map(|copy| copy.column).collect();
        let mut rest = index;
        for families in self.families.iter().rev() {
            match rest % 3 {
                0 => columns.remove(families.ipv6.0),
                1 => columns.remove(families.ipv4.0),
                _ => {}
            }
            rest /= 3;
        }
        let exceeds = rest > 0;
        for copy in self.copies.iter().filter(|copy| excess(copy).is_some()) {
            if exceeds {
                columns.remove(copy.column);
            }
        }
        let is_wide = |field: usize| self.wide.iter().any(|&(wide, _)| wide == field);
        let mut extras: Vec<(usize, usize)> = Vec::new();
        let mut specs = Vec::new();
        for (index, field) in self.fields.iter().enumerate() {
            if field.target != Target::Extra && !(exceeds && is_wide(index)) {
                continue;
            }
            specs.push(field.spec);
            let after = index.saturating_add(1);
            match extras.last_mut() {
                Some((_, end)) if *end == index => *end = after,
                _ => extras.push((index, after)),
            }
        }
        Variant {
            shape: Arc::new(Shape {
                record_type: self.record_type,
                columns: columns.union(self.own_columns),
                extras: specs,
            }),
            extras: extras.into(),
        }
    }
}

/// Octets of a variable-length value, its length prefix included (RFC 7011 section 7).
fn variable_size(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [255, high, low, ..] => {
            Some(usize::from(u16::from_be_bytes([*high, *low])).saturating_add(3))
        }
        [255, ..] | [] => None,
        [size, ..] => Some(usize::from(*size).saturating_add(1)),
    }
}

/// Octets that a number has more than its column.
fn excess(copy: &Copy) -> Option<usize> {
    let is_number = matches!(
        copy.column.kind(),
        ColumnKind::U8 | ColumnKind::U16 | ColumnKind::U32 | ColumnKind::U64
    );
    let excess = copy.length.saturating_sub(copy.column.kind().width());
    (is_number && excess > 0).then_some(excess)
}

/// Decides for each field where it goes.
fn assign(specifiers: &[FieldSpecifier]) -> Vec<Field> {
    let icmp = icmp_type(specifiers);
    let specs: Vec<ExtraSpec> = specifiers
        .iter()
        .map(|specifier| match element(specifier) {
            spec if (spec.enterprise, spec.id) == (0, ICMP_TYPE) => ExtraSpec { id: icmp, ..spec },
            spec => spec,
        })
        .collect();
    let times = [Edge::Start, Edge::End].map(|edge| best_time(&specs, edge));
    let mut seen = ColumnSet::EMPTY;
    let mut times_seen: Vec<u16> = Vec::new();
    specs
        .iter()
        .enumerate()
        .map(|(index, &spec)| {
            let target = if spec.length == 0 || (spec.enterprise, spec.id) == (0, PADDING_ELEMENT) {
                Target::Nothing
            } else if let Some((edge, time)) = flow_time(spec) {
                let is_first = !times_seen.contains(&spec.id);
                times_seen.push(spec.id);
                match edge {
                    Edge::Start if times[0] == Some(index) => {
                        Target::Column(Column::FlowStartMilliseconds, time.how)
                    }
                    Edge::End if times[1] == Some(index) => {
                        Target::Column(Column::FlowEndMilliseconds, time.how)
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

/// The element that NetFlow v9's ICMP_TYPE is (RFC 3954 section 8). It is of both families; the
/// registry has an element for each. In a template of IPv6 addresses alone it is the IPv6 one.
fn icmp_type(specifiers: &[FieldSpecifier]) -> u16 {
    let has = |ids: &[u16]| specifiers.iter().any(|s| s.enterprise == 0 && ids.contains(&s.id));
    let is_ipv6 = has(&[27, 28]) && !has(&[8, 12, ICMP_TYPE_IPV6]);
    if is_ipv6 { ICMP_TYPE_IPV6 } else { ICMP_TYPE }
}

/// The element that a field is. Some NetFlow v9 field types beyond the registry are elements
/// under another number.
fn element(specifier: &FieldSpecifier) -> ExtraSpec {
    let FieldSpecifier { enterprise, id, length } = *specifier;
    let (enterprise, id) = match (enterprise, id) {
        // Firewalls that log events by NetFlow v9 number these before the registry did.
        (0, 40_000) => (0, 371),
        (0, 40_001..=40_004) => (0, id.saturating_sub(40_001).saturating_add(225)),
        (0, 40_005) => (0, 233),
        // PEN 35632's elements have their NetFlow v9 types from 57472 on.
        (0, 57_472..) if ie::find(PEN_PROCESS, id.saturating_sub(57_472)).is_some() => {
            (PEN_PROCESS, id.saturating_sub(57_472))
        }
        own => own,
    };
    ExtraSpec { enterprise, id, length }
}

/// The column of an element, if it has one and is sent in a length that suits it.
fn column(spec: ExtraSpec) -> Option<(Column, How)> {
    let column = match spec.enterprise {
        0 => Column::from_element(spec.id)?,
        PEN_REVERSE => Column::from_reverse_element(spec.id)?,
        PEN_V9_SCOPE => return None,
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

fn families(copies: &[Copy]) -> Vec<Families> {
    let find = |column: Column| {
        let copy = copies.iter().find(|copy| copy.column == column)?;
        Some((column, copy.field))
    };
    [
        (Column::SourceIpv4Address, Column::SourceIpv6Address),
        (Column::DestinationIpv4Address, Column::DestinationIpv6Address),
        (Column::IpNextHopIpv4Address, Column::IpNextHopIpv6Address),
    ]
    .into_iter()
    .filter_map(|(ipv4, ipv6)| Some(Families { ipv4: find(ipv4)?, ipv6: find(ipv6)? }))
    .collect()
}
