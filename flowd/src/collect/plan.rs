//! A template compiled to a copy plan: which field goes into which column, and what is kept
//! verbatim.
//!
//! What a record has depends on the template, and in a few things on the record; each outcome is
//! a [`Variant`]:
//! - where addresses of both families are sent, a record keeps the ones that are not zero;
//! - a number that is wider than its column and does not fit stays as it was sent;
//! - ICMP without an element of its own has type and code in the destination port, as NetFlow
//!   always had them;
//! - times of uptime whose zero is not known stay as they were sent.

use super::assign::{Field, Target, assign};
use super::copy::How;
use super::facts::FactFields;
use super::icmp_port::{ICMP, ICMPV6, IcmpPort};
use super::learn::DescriptionFields;
use super::lists::ListField;
use crate::model::{
    BATCH_ROWS_MAX, Column, ColumnKind, ColumnSet, ExtraSpec, Protocol, RecordType, Shape,
    VARIABLE_LENGTH, ie, split_variable,
};
use crate::wire::FieldSpecifier;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

/// Addresses that can be sent in both families: source, destination, next hop.
const FAMILIES_MAX: usize = 3;
/// Where the templates of a record's lists are kept.
const SUB_TEMPLATES: ExtraSpec =
    ExtraSpec { enterprise: ie::PEN_SUB_TEMPLATES, id: 0, length: VARIABLE_LENGTH };

/// How records of one template are decoded.
#[derive(Debug)]
pub(super) struct Plan {
    /// Those that have octets. A field without any costs the sender nothing in a record, and so it
    /// costs nothing here.
    fields: Box<[Field]>,
    /// Where each field begins and the record ends; what varies has no meaning here.
    offsets: Box<[usize]>,
    record_size_min: NonZeroUsize,
    is_variable: bool,
    copies: Box<[Copy]>,
    families: Box<[Families]>,
    /// Numbers sent in more octets than their column has: field, and octets that must be zero.
    wide: Box<[(usize, usize)]>,
    icmp: Option<IcmpPort>,
    /// Where a record tells when the exporter booted, for times that count from then.
    boot: Option<usize>,
    facts: FactFields,
    lists: Box<[ListField]>,
    /// Are times of uptime sent that only the session's clock can tell?
    is_relative: bool,
    /// Variants that records differ in; as many follow where the clock is not known.
    record_variants: usize,
    record_type: RecordType,
    descriptions: Option<DescriptionFields>,
    own_columns: ColumnSet,
    /// One for each outcome of [`Plan::variant_index`], made when the first record needs it.
    variants: Box<[OnceLock<Variant>]>,
}

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
pub(super) fn field_at<'a>(record: &'a [u8], offsets: &[usize], field: usize) -> Option<&'a [u8]> {
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
    /// None if the template describes records of no octets. Fields of no octets tell nothing: a
    /// record of one octet may have a thousand of them, and none has a place in the plan.
    pub(super) fn compile(
        record_type: RecordType,
        specifiers: &[FieldSpecifier],
        protocol: Protocol,
        own_columns: ColumnSet,
    ) -> Option<Self> {
        let specifiers: Vec<FieldSpecifier> =
            specifiers.iter().copied().filter(|specifier| specifier.length > 0).collect();
        let (offsets, end) = places(&specifiers);
        let fields = assign(&specifiers, protocol);
        let mut copies: Vec<Copy> = fields
            .iter()
            .enumerate()
            .filter_map(|(index, field)| match field.target {
                Target::Column(column, how) => {
                    Some(Copy { column, how, field: index, length: usize::from(field.spec.length) })
                }
                _ => None,
            })
            .collect();
        // What joins an octet to a column comes after what fills the column.
        copies.sort_by_key(|copy| copy.how == How::LowOctet);
        let families = families(&copies);
        let wide: Vec<(usize, usize)> =
            copies.iter().filter_map(|copy| Some((copy.field, excess(copy)?))).collect();
        let icmp = IcmpPort::find(&copies, protocol);
        let boot = copies.iter().find_map(|copy| match copy.how {
            How::UptimeSince(field) => Some(field),
            _ => None,
        });
        let mut record_variants = if wide.is_empty() && boot.is_none() { 1usize } else { 2 };
        for _ in &families {
            record_variants = record_variants.saturating_mul(3);
        }
        if let Some(IcmpPort { destination_port: field, .. }) = icmp {
            record_variants = record_variants.saturating_mul(3);
            let copy = |column| Copy { column, how: How::Plain, field, length: 2 };
            copies.extend(IcmpPort::COLUMNS.map(copy));
        }
        let is_relative = copies.iter().any(|copy| copy.how == How::Uptime);
        let variant_count = record_variants.saturating_mul(if is_relative { 2 } else { 1 });
        let lists: Vec<ListField> = fields.iter().enumerate().filter_map(list_field).collect();
        let facts = FactFields::find(fields.iter().map(|field| &field.spec));
        let descriptions = (record_type == RecordType::Options)
            .then(|| DescriptionFields::find(fields.iter().map(|field| &field.spec)))
            .flatten();
        Some(Self {
            record_size_min: NonZeroUsize::new(end)?,
            is_variable: specifiers.iter().any(|s| s.length == VARIABLE_LENGTH),
            fields: fields.into(),
            offsets: offsets.into(),
            copies: copies.into(),
            families: families.into(),
            wide: wide.into(),
            icmp,
            boot,
            facts,
            lists: lists.into(),
            is_relative,
            record_variants,
            record_type,
            descriptions,
            own_columns,
            variants: (0..variant_count).map(|_| OnceLock::new()).collect(),
        })
    }

    /// Octets of a record, or the least of them where the size varies.
    pub(super) const fn record_size_min(&self) -> NonZeroUsize {
        self.record_size_min
    }

    /// Do records tell of the exporter and not of flows?
    pub(super) fn is_options(&self) -> bool {
        self.record_type == RecordType::Options
    }

    /// Do records differ in size?
    pub(super) const fn is_variable(&self) -> bool {
        self.is_variable
    }

    /// Do records of the template differ in what they carry?
    pub(super) fn has_variants(&self) -> bool {
        self.record_variants > 1
    }

    /// The lists in records.
    pub(super) const fn lists(&self) -> &[ListField] {
        &self.lists
    }

    /// Where records tell of the exporter itself.
    pub(super) const fn fact_fields(&self) -> &FactFields {
        &self.facts
    }

    /// Where the fields of a record of fixed size begin, and where it ends.
    pub(super) fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The fields that describe elements, if the template has such.
    pub(super) const fn descriptions(&self) -> Option<&DescriptionFields> {
        self.descriptions.as_ref()
    }

    /// The fields that fill columns.
    pub(super) fn copies(&self) -> &[Copy] {
        &self.copies
    }

    /// Does the decoder fill the column itself?
    pub(super) const fn owns(&self, column: Column) -> bool {
        self.own_columns.contains(column)
    }

    /// Octets that the plan takes, about and at most: records may bring forth all its variants.
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.fields)
            .saturating_add(size_of_val(&*self.offsets))
            .saturating_add(size_of_val(&*self.copies))
            .saturating_add(size_of_val(&*self.variants))
            .saturating_add(self.variants.len().saturating_mul(self.variant_size_max()))
    }

    /// Octets that a variant takes besides its own: its shape, and what it keeps verbatim.
    fn variant_size_max(&self) -> usize {
        let is_extra = |field: &&Field| field.target == Target::Extra;
        let extras = self.fields.iter().filter(is_extra).count();
        let specs = extras.saturating_add(self.copies.len()).saturating_add(1);
        let spec_size = size_of::<ExtraSpec>().saturating_add(size_of::<(usize, usize)>());
        specs.saturating_mul(spec_size).saturating_add(size_of::<Shape>())
    }

    /// Finds where the fields of the first record lie, and how many octets it has. None if the
    /// octets end before it does.
    pub(super) fn measure(&self, records: &[u8], offsets: &mut Vec<usize>) -> Option<NonZeroUsize> {
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
        NonZeroUsize::new(end).filter(|size| size.get() <= records.len())
    }

    /// Of records of one size: the first one's variant, and how many from it on are of the same.
    pub(super) fn alike(&self, records: &[u8]) -> (usize, usize) {
        let size = self.record_size_min.get();
        if let (Some(icmp), true) =
            (self.icmp, self.families.is_empty() && self.wide.is_empty() && self.boot.is_none())
        {
            // Nearly all records of nearly all templates: nothing but ICMP sets one apart.
            let protocol = self.offsets.get(icmp.protocol).copied().unwrap_or(usize::MAX);
            let protocols = records.get(protocol..).unwrap_or_default().iter().step_by(size);
            let is_other = |&&protocol: &&u8| !matches!(protocol, ICMP | ICMPV6);
            let count_max = (records.len() / self.record_size_min).min(BATCH_ROWS_MAX);
            let count = protocols.take(count_max).take_while(is_other).count();
            if count > 0 {
                return (0, count);
            }
        }
        let mut records = records.chunks_exact(size).take(BATCH_ROWS_MAX);
        let offsets = &self.offsets;
        let first = records.next().map_or(0, |record| self.variant_index(record, offsets));
        let more = records.take_while(|record| self.variant_index(record, offsets) == first);
        (first, more.count().saturating_add(1))
    }

    /// Which variant a record is of.
    pub(super) fn variant_index(&self, record: &[u8], offsets: &[usize]) -> usize {
        let exceeds = self.wide.iter().any(|&(field, size)| {
            let excess = field_at(record, offsets, field).and_then(|octets| octets.get(..size));
            excess.is_some_and(|octets| octets.iter().any(|&octet| octet != 0))
        });
        // Nor can times be read that count from a boot time of 0, which tells none.
        let has_no_boot = self.boot.is_some_and(|field| {
            let boot = field_at(record, offsets, field).and_then(|octets| octets.get(..8));
            boot.is_some_and(|octets| octets.iter().all(|&octet| octet == 0))
        });
        let exceeds = exceeds || has_no_boot;
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
        let icmp = self.icmp.as_ref().map(|icmp| icmp.digit(record, offsets));
        let index =
            self.families.iter().zip(found).fold(usize::from(exceeds), |index, (_, family)| {
                let digit = match family.unwrap_or(common) {
                    Family::Ipv4 => 0,
                    Family::Ipv6 => 1,
                    Family::Both => 2,
                };
                index.saturating_mul(3).saturating_add(digit)
            });
        icmp.map_or(index, |digit| index.saturating_mul(3).saturating_add(digit))
    }

    /// The variant of a record, where the exporter's clock is known or not.
    pub(super) const fn at_clock(&self, index: usize, is_known: bool) -> usize {
        if self.is_relative && !is_known {
            index.saturating_add(self.record_variants)
        } else {
            index
        }
    }

    /// A variant by its index.
    pub(super) fn variant(&self, index: usize) -> &Variant {
        let index = index.min(self.variants.len().saturating_sub(1));
        let slot = self.variants.get(index).expect("a plan has a variant");
        slot.get_or_init(|| self.make_variant(index))
    }

    fn make_variant(&self, index: usize) -> Variant {
        let mut columns: ColumnSet = self.copies.iter().map(|copy| copy.column).collect();
        let is_clocked = index < self.record_variants;
        let mut rest = if is_clocked { index } else { index.saturating_sub(self.record_variants) };
        if self.icmp.is_some() {
            for (digit, column) in (1..).zip(IcmpPort::COLUMNS) {
                if rest % 3 != digit {
                    columns.remove(column);
                }
            }
            rest /= 3;
        }
        for families in self.families.iter().rev() {
            match rest % 3 {
                0 => columns.remove(families.ipv6.0),
                1 => columns.remove(families.ipv4.0),
                _ => {}
            }
            rest /= 3;
        }
        let exceeds = rest > 0;
        let stays = |copy: &Copy| {
            let is_since = matches!(copy.how, How::UptimeSince(_));
            (exceeds && (is_since || excess(copy).is_some()))
                || (!is_clocked && copy.how == How::Uptime)
        };
        for copy in self.copies.iter().filter(|copy| stays(copy)) {
            columns.remove(copy.column);
        }
        let mut extras: Vec<(usize, usize)> = Vec::new();
        // Where the last run of extras would go on: fields without octets do not end it.
        let mut next = 0;
        let mut specs = Vec::new();
        for (index, field) in self.fields.iter().enumerate() {
            let is_left = self.copies.iter().any(|copy| copy.field == index && stays(copy));
            let after = index.saturating_add(1);
            let is_kept = field.target == Target::Extra || is_left;
            if is_kept {
                specs.push(field.spec);
            }
            if field.spec.length == 0 {
                next = if next == index { after } else { next };
                continue;
            }
            if !is_kept {
                continue;
            }
            match extras.last_mut() {
                Some((_, end)) if next == index => *end = after,
                _ => extras.push((index, after)),
            }
            next = after;
        }
        if !self.lists.is_empty() {
            specs.push(SUB_TEMPLATES);
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

/// Where each field begins if those of variable length are empty, and where the last one ends.
fn places(specifiers: &[FieldSpecifier]) -> (Vec<usize>, usize) {
    let mut offsets = Vec::with_capacity(specifiers.len().saturating_add(1));
    let mut end = 0usize;
    for specifier in specifiers {
        offsets.push(end);
        end = end.saturating_add(specifier.size_min());
    }
    offsets.push(end);
    (offsets, end)
}

/// The list that a field is, if it is kept as one.
fn list_field((index, field): (usize, &Field)) -> Option<ListField> {
    let ExtraSpec { enterprise, id, length } = field.spec;
    let list = ListField::of(index, ie::element_type(enterprise, id), length);
    list.filter(|_| field.target == Target::Extra)
}

/// Octets of a variable-length value, its length prefix included.
fn variable_size(octets: &[u8]) -> Option<usize> {
    split_variable(octets).map(|(_, after)| octets.len().saturating_sub(after.len()))
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
