//! What an exporter tells of its own elements in options data (RFC 5610): read from the records
//! of a set, and learned by all.

use super::books::Books;
use super::plan::Plan;
use crate::model::ie_learned::{Description, Lesson, learn};
use crate::model::{
    ElementType, ExtraSpec, Semantics, Units, VARIABLE_LENGTH, split_variable, unsigned,
};
use std::net::IpAddr;

const INFORMATION_ELEMENT_ID: u16 = 303;
const PRIVATE_ENTERPRISE_NUMBER: u16 = 346;
const DATA_TYPE: u16 = 339;
const NAME: u16 = 341;
const RANGE_BEGIN: u16 = 342;
const RANGE_END: u16 = 343;
const SEMANTICS: u16 = 344;
const UNITS: u16 = 345;

/// Where the fields are that describe an element. Its description in words (340) stays with the
/// record and is not looked at.
#[derive(Debug)]
pub(super) struct DescriptionFields {
    id: Place,
    name: Place,
    enterprise: Option<Place>,
    data_type: Option<Place>,
    semantics: Option<Place>,
    units: Option<Place>,
    range: Option<(Place, Place)>,
}

/// One field of the template.
#[derive(Clone, Copy, Debug)]
struct Place {
    field: usize,
    is_variable: bool,
}

impl Place {
    /// The field's value in a record, without the length before one that varies.
    fn value<'a>(self, record: &'a [u8], offsets: &[usize]) -> Option<&'a [u8]> {
        let after = self.field.saturating_add(1);
        let octets = record.get(*offsets.get(self.field)?..*offsets.get(after)?)?;
        if !self.is_variable {
            return Some(octets);
        }
        split_variable(octets).map(|(value, _)| value)
    }
}

impl DescriptionFields {
    /// Finds them in a template. None if it does not name elements.
    pub(super) fn find<'a>(specs: impl Iterator<Item = &'a ExtraSpec> + Clone) -> Option<Self> {
        let find = |id: u16| {
            let mut fields = specs.clone().enumerate();
            let is_it = |s: &ExtraSpec| (s.enterprise, s.id) == (0, id) && s.length > 0;
            let (field, spec) = fields.find(|(_, spec)| is_it(spec))?;
            Some(Place { field, is_variable: spec.length == VARIABLE_LENGTH })
        };
        Some(Self {
            id: find(INFORMATION_ELEMENT_ID)?,
            name: find(NAME)?,
            enterprise: find(PRIVATE_ENTERPRISE_NUMBER),
            data_type: find(DATA_TYPE),
            semantics: find(SEMANTICS),
            units: find(UNITS),
            range: find(RANGE_BEGIN).zip(find(RANGE_END)),
        })
    }

    /// What a record tells, unless it is none: no element has the number 0, no name is empty.
    fn read<'a>(&self, record: &'a [u8], offsets: &[usize]) -> Option<Description<'a>> {
        let number = |place: Place| place.value(record, offsets).and_then(unsigned);
        let small = |place: Option<Place>| place.and_then(number);
        // RFC 7011 section 3.2: the bit of an enterprise's element is no part of its number.
        let id = u16::try_from(number(self.id)?).ok()? & 0x7fff;
        let name = text(self.name.value(record, offsets)?);
        // What is no UTF-8 is no name, and is refused as one.
        let name = std::str::from_utf8(name).unwrap_or("\u{fffd}");
        if id == 0 || name.is_empty() {
            return None;
        }
        let data_type = small(self.data_type).and_then(|it| u8::try_from(it).ok());
        let semantics = small(self.semantics).and_then(|it| u8::try_from(it).ok());
        let units = small(self.units).and_then(|it| u16::try_from(it).ok());
        let range = self.range.and_then(|(begin, end)| number(begin).zip(number(end)));
        Some(Description {
            enterprise: u32::try_from(small(self.enterprise).unwrap_or(0)).ok()?,
            id,
            name,
            element_type: data_type
                .and_then(ElementType::from_number)
                .unwrap_or(ElementType::OctetArray),
            semantics: semantics.map_or(Semantics::Default, Semantics::from_number),
            units: units.map_or(Units::None, Units::from_number),
            // Both ends 0 say that any value is allowed.
            range: range.filter(|&(begin, end)| begin < end),
            exporter: None,
        })
    }
}

/// A name of fixed length is filled up with NULs.
fn text(octets: &[u8]) -> &[u8] {
    let end = octets.iter().rposition(|&octet| octet != 0);
    end.and_then(|last| octets.get(..=last)).unwrap_or_default()
}

/// Learns the elements that the records of an exporter's set describe. `scratch` is memory of
/// measuring.
pub(super) fn learn_elements(
    plan: &Plan,
    body: &[u8],
    exporter: IpAddr,
    scratch: &mut Vec<usize>,
    books: &Books,
) {
    let Some(fields) = plan.descriptions() else { return };
    let mut rest = body;
    while rest.len() >= plan.record_size_min().get() {
        let Some(size) = plan.measure(rest, scratch) else { return };
        let Some((record, after)) = rest.split_at_checked(size.get()) else { return };
        rest = after;
        if let Some(told) = fields.read(record, scratch) {
            match learn(&Description { exporter: Some(exporter), ..told }) {
                Lesson::Learned => books.elements_learned.add(1),
                Lesson::Known => {}
                Lesson::Contradicts
                | Lesson::NameRefused
                | Lesson::NumberRefused
                | Lesson::Full
                | Lesson::OverShare => books.elements_refused.add(1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ColumnSet, Protocol, RecordType, ie};
    use crate::wire::FieldSpecifier;

    /// RFC 5610 section 3.9: the template that it recommends, its texts of variable length.
    const FIELDS: [(u16, u16); 9] = [
        (PRIVATE_ENTERPRISE_NUMBER, 4),
        (INFORMATION_ELEMENT_ID, 2),
        (DATA_TYPE, 1),
        (SEMANTICS, 1),
        (UNITS, 2),
        (RANGE_BEGIN, 8),
        (RANGE_END, 8),
        (NAME, VARIABLE_LENGTH),
        (340, VARIABLE_LENGTH),
    ];

    fn plan(record_type: RecordType, fields: &[(u16, u16)]) -> Plan {
        let specifiers: Vec<_> = fields
            .iter()
            .map(|&(id, length)| FieldSpecifier { enterprise: 0, id, length })
            .collect();
        Plan::compile(record_type, &specifiers, Protocol::Ipfix, ColumnSet::EMPTY).unwrap()
    }

    fn record(enterprise: u32, id: u16, name: &[u8]) -> Vec<u8> {
        let mut record = enterprise.to_be_bytes().to_vec();
        record.extend(id.to_be_bytes());
        record.extend([13, 4, 0, 0]);
        record.extend(7_u64.to_be_bytes());
        record.extend(70_u64.to_be_bytes());
        record.push(u8::try_from(name.len()).unwrap());
        record.extend(name);
        record.extend([255, 0, 2, b'n', b'o']);
        record
    }

    fn learned(plan: &Plan, body: &[u8]) -> (u64, u64) {
        let books = Books::default();
        let exporter = [192, 0, 2, 1].into();
        learn_elements(plan, body, exporter, &mut Vec::new(), &books);
        (books.elements_learned.value(), books.elements_refused.value())
    }

    #[test]
    fn elements_that_options_data_describes_are_learned() {
        let plan = plan(RecordType::Options, &FIELDS);
        let body = [
            record(500_020, 1, b"heardText"),
            record(500_020, 0x8002, b"heardOther"),
            record(500_020, 1, b"heardText"),
        ];
        assert_eq!(learned(&plan, &body.concat()), (2, 0));
        let element = ie::find(500_020, 1).unwrap();
        assert_eq!((element.name, element.element_type), ("heardText", ElementType::String));
        assert_eq!((element.semantics, element.units), (Semantics::Identifier, Units::None));
        assert_eq!(element.range, Some((7, 70)));
        assert_eq!(ie::display_name(500_020, 2), "heardOther");
    }

    #[test]
    fn what_lies_is_refused_and_counted() {
        let plan = plan(RecordType::Options, &FIELDS);
        let body = [
            record(500_021, 1, b"octetDeltaCount"),
            record(500_021, 2, b"\"};rm"),
            record(500_021, 3, &[0xff, 0xfe]),
            record(0, 4, b"noEnterprise"),
            record(9, 12_235, b"notThatName"),
        ];
        assert_eq!(learned(&plan, &body.concat()), (0, 5));
        assert_eq!(ie::display_name(500_021, 1), "500021:1");
        // Padding, and no element at all.
        assert_eq!(learned(&plan, &[0; 300]), (0, 0));
        assert_eq!(learned(&plan, &record(500_021, 0, b"zero")), (0, 0));
    }

    #[test]
    fn every_truncation_ends() {
        let plan = plan(RecordType::Options, &FIELDS);
        let whole = record(500_022, 1, b"wholeName");
        for size in 0..whole.len() {
            assert_eq!(learned(&plan, &whole[..size]), (0, 0), "{size}");
        }
        assert_eq!(learned(&plan, &whole), (1, 0));
    }

    #[test]
    fn names_of_fixed_length_end_where_their_nuls_begin() {
        let plan = plan(
            RecordType::Options,
            &[(INFORMATION_ELEMENT_ID, 2), (PRIVATE_ENTERPRISE_NUMBER, 4), (NAME, 12)],
        );
        let mut body = vec![0, 5];
        body.extend(500_023_u32.to_be_bytes());
        body.extend(b"fixedName\0\0\0");
        assert_eq!(learned(&plan, &body), (1, 0));
        let element = ie::find(500_023, 5).unwrap();
        assert_eq!((element.name, element.element_type), ("fixedName", ElementType::OctetArray));
    }

    #[test]
    fn flows_and_other_options_teach_nothing() {
        assert!(plan(RecordType::Flow, &FIELDS).descriptions().is_none());
        let without_name = &FIELDS[..7];
        assert!(plan(RecordType::Options, without_name).descriptions().is_none());
    }
}
