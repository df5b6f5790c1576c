//! Information Elements: what an element number means. The table is made from
//! `xtask/data/information-elements.csv` by `cargo xtask codegen-ie`; what exporters told of
//! their own elements (RFC 5610) comes after it.

use super::ie_generated::{BY_NAME, ELEMENTS};
use super::ie_learned;
pub use super::ie_types::{ElementType, Semantics, Units};
use std::cmp::Ordering;

/// Private Enterprise Number of Cisco's elements.
pub const PEN_CISCO: u32 = 9;
/// Private Enterprise Number of the elements that name a flow's process.
pub const PEN_PROCESS: u32 = 35_632;
/// Private Enterprise Number of reverse elements (RFC 5103).
pub const PEN_REVERSE: u32 = 29_305;
/// Private Enterprise Number of InMon, under which sFlow's fields that no IANA element says are
/// kept (`xtask/data/sflow-elements.csv`).
pub const PEN_INMON: u32 = 4_300;
/// A number outside the registry's range that stands for NetFlow v9's scope types (RFC 3954
/// section 6.1), which are numbered apart from its field types.
pub const PEN_V9_SCOPE: u32 = u32::MAX;
/// A number outside the registry's range under which a record keeps, as its last extra and with
/// element number 0, the templates that its lists refer to. It is never shown.
pub const PEN_SUB_TEMPLATES: u32 = u32::MAX - 1;
/// Set in the element numbers that an exporter sends under one of these two enterprises: so they
/// are none of flowd's own. In IPFIX a number has 15 bits, so that it is free.
const FOREIGN_MARK: u16 = 0x8000;
/// The name under which those templates are stored.
pub const SUB_TEMPLATES_NAME: &str = "subTemplates";

/// The first NetFlow v9 field type that is an element of Cisco's, less whose number (IPFIX marks
/// an enterprise's element by this bit, RFC 7011 section 3.2).
const V9_CISCO_FIRST: u16 = 0x8000;
/// The NetFlow v9 field type that is element 0 of [`PEN_PROCESS`].
const V9_PROCESS_FIRST: u16 = 57_472;

/// An Information Element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Private Enterprise Number, 0 for IANA's own.
    pub enterprise: u32,
    /// Element number.
    pub id: u16,
    /// The registry's name.
    pub name: &'static str,
    /// Its type.
    pub element_type: ElementType,
    /// What its numbers are.
    pub semantics: Semantics,
    /// What its numbers count.
    pub units: Units,
    /// The least and the greatest value, where not all that the type holds are allowed.
    pub range: Option<(u64, u64)>,
}

/// One entry of the generated table.
pub(super) const fn element(
    enterprise: u32,
    id: u16,
    name: &'static str,
    element_type: ElementType,
    semantics: Semantics,
    units: Units,
    range: Option<(u64, u64)>,
) -> Element {
    Element { enterprise, id, name, element_type, semantics, units, range }
}

/// The element with this number, if the table has it or an exporter told of it.
#[must_use]
pub fn find(enterprise: u32, id: u16) -> Option<&'static Element> {
    find_registered(enterprise, id).or_else(|| ie_learned::find(enterprise, id))
}

/// The element with this number, if the table has it.
#[must_use]
pub fn find_registered(enterprise: u32, id: u16) -> Option<&'static Element> {
    let index = ELEMENTS.binary_search_by_key(&(enterprise, id), |e| (e.enterprise, e.id)).ok()?;
    ELEMENTS.get(index)
}

/// The element with this name in any case, if the table has it or an exporter told of it. The
/// table's come first.
#[must_use]
pub fn find_by_name(name: &str) -> Option<&'static Element> {
    find_registered_by_name(name).or_else(|| ie_learned::find_by_name(name))
}

/// The element with this name in any case, if the table has it.
#[must_use]
pub fn find_registered_by_name(name: &str) -> Option<&'static Element> {
    let named = |&place: &u16| ELEMENTS.get(usize::from(place));
    let order = |place: &u16| {
        named(place).map_or(Ordering::Less, |element| ignoring_case(element.name, name))
    };
    let index = BY_NAME.binary_search_by(order).ok()?;
    BY_NAME.get(index).and_then(named)
}

fn ignoring_case(left: &str, right: &str) -> Ordering {
    let lower = |octet: u8| octet.to_ascii_lowercase();
    left.bytes().map(lower).cmp(right.bytes().map(lower))
}

/// All elements of the table, ordered by enterprise and number.
#[must_use]
pub fn all() -> &'static [Element] {
    ELEMENTS
}

/// The element that a NetFlow v9 field type is. Its types are the registry's numbers as far as
/// those go; beyond, exporters number their own.
#[must_use]
pub fn v9_element(field_type: u16) -> (u32, u16) {
    let above = |first: u16| field_type.checked_sub(first);
    match field_type {
        // Firewalls that log events by NetFlow v9 number these before the registry did.
        40_000 => (0, 371),
        40_001..=40_004 => (0, 225 + (field_type - 40_001)),
        40_005 => (0, 233),
        _ if find_registered(0, field_type).is_some() => (0, field_type),
        _ => {
            let known = |first, enterprise| {
                let id = above(first)?;
                find_registered(enterprise, id).map(|_| (enterprise, id))
            };
            known(V9_PROCESS_FIRST, PEN_PROCESS)
                .or_else(|| known(V9_CISCO_FIRST, PEN_CISCO))
                .unwrap_or((0, field_type))
        }
    }
}

/// The number that an enterprise's element of an IPFIX exporter has here: its own, marked where
/// the enterprise's number is one that flowd uses for itself.
#[must_use]
pub const fn foreign_number(enterprise: u32, id: u16) -> u16 {
    if is_own(enterprise) { id | FOREIGN_MARK } else { id }
}

/// Is the element one of flowd's own, which has no enterprise number on any wire?
#[must_use]
pub const fn is_own_element(enterprise: u32, id: u16) -> bool {
    is_own(enterprise) && id & FOREIGN_MARK == 0
}

const fn is_own(enterprise: u32) -> bool {
    enterprise >= PEN_SUB_TEMPLATES
}

/// The name that users see: the registry's, the one that an exporter told, or `PEN:ID` where
/// there is none.
///
/// Elements of the reverse direction are called `reverse` and the forward name (RFC 5103
/// section 6.1). A NetFlow v9 scope type without a name is `scope:TYPE`.
#[must_use]
pub fn display_name(enterprise: u32, id: u16) -> String {
    match ie_learned::find(enterprise, id) {
        Some(element) => element.name.to_owned(),
        None => stored_name(enterprise, id),
    }
}

/// The name under which a store keeps an element: the registry's, or `PEN:ID` where it has none.
/// What exporters tell does not change it, so that one element always lies under one name.
#[must_use]
pub fn stored_name(enterprise: u32, id: u16) -> String {
    if let Some(element) = find_registered(enterprise, id) {
        return element.name.to_owned();
    }
    if enterprise == PEN_REVERSE
        && let Some(forward) = find_registered(0, id)
    {
        return reverse_name(forward.name);
    }
    match (enterprise, id) {
        _ if is_own(enterprise) && !is_own_element(enterprise, id) => {
            format!("{enterprise}:{}", id & !FOREIGN_MARK)
        }
        (PEN_V9_SCOPE, _) => format!("scope:{id}"),
        (PEN_SUB_TEMPLATES, 0) => SUB_TEMPLATES_NAME.to_owned(),
        _ => format!("{enterprise}:{id}"),
    }
}

fn reverse_name(forward: &str) -> String {
    let (first, rest) = forward.split_at(1);
    format!("reverse{}{rest}", first.to_ascii_uppercase())
}

/// The element that a stored or shown name stands for, without the `#2` of a repeated one: by
/// its name, as a reverse element, or by `PEN:ID`.
#[must_use]
pub fn number_of_name(name: &str) -> Option<(u32, u16)> {
    if let Some((enterprise, id)) = name.split_once(':') {
        return match enterprise {
            "scope" => Some((PEN_V9_SCOPE, id.parse().ok()?)),
            _ => {
                let enterprise = enterprise.parse().ok()?;
                Some((enterprise, foreign_number(enterprise, id.parse().ok()?)))
            }
        };
    }
    if name == SUB_TEMPLATES_NAME {
        return Some((PEN_SUB_TEMPLATES, 0));
    }
    let named = find_by_name(name).map(|element| (element.enterprise, element.id));
    // RFC 5103 section 6.1: `reverse` before the name of the forward element.
    let reverse = || {
        let forward = find_registered_by_name(name.strip_prefix("reverse")?)?;
        (forward.enterprise == 0).then_some((PEN_REVERSE, forward.id))
    };
    named.or_else(reverse)
}

/// The type that an element's value has: its own, or for a reverse element the forward one's.
/// Elements that nobody described are octets.
#[must_use]
pub fn element_type(enterprise: u32, id: u16) -> ElementType {
    let forward = || (enterprise == PEN_REVERSE).then(|| find_registered(0, id)).flatten();
    find_registered(enterprise, id)
        .or_else(forward)
        .or_else(|| ie_learned::find(enterprise, id))
        .map_or(ElementType::OctetArray, |e| e.element_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Column;

    #[test]
    fn the_table_is_ordered_and_names_are_single() {
        assert!(ELEMENTS.is_sorted_by(|a, b| (a.enterprise, a.id) < (b.enterprise, b.id)));
        let mut names: Vec<_> = ELEMENTS.iter().map(|e| e.name.to_ascii_lowercase()).collect();
        let reverse = ELEMENTS.iter().filter(|element| element.enterprise == 0);
        names.extend(reverse.map(|element| reverse_name(element.name).to_ascii_lowercase()));
        names.push(SUB_TEMPLATES_NAME.to_ascii_lowercase());
        names.sort_unstable();
        let repeated: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(repeated.is_empty(), "{repeated:?}");
    }

    #[test]
    fn no_enterprise_s_element_is_taken_for_one_of_our_own() {
        for enterprise in [PEN_V9_SCOPE, PEN_SUB_TEMPLATES] {
            let foreign = foreign_number(enterprise, 0);
            assert!(!is_own_element(enterprise, foreign));
            assert!(is_own_element(enterprise, 0));
            let name = display_name(enterprise, foreign);
            assert_eq!(name, format!("{enterprise}:0"));
            assert_eq!(number_of_name(&name), Some((enterprise, foreign)));
        }
        assert_eq!(foreign_number(9, 7), 7);
    }

    #[test]
    fn every_element_is_found_by_its_name_and_number() {
        assert_eq!(BY_NAME.len(), ELEMENTS.len());
        for element in ELEMENTS {
            let number = (element.enterprise, element.id);
            assert_eq!(find(element.enterprise, element.id), Some(element));
            assert_eq!(find_by_name(&element.name.to_ascii_uppercase()), Some(element));
            assert_eq!(number_of_name(element.name), Some(number));
            if let Some((least, greatest)) = element.range {
                assert!(least <= greatest, "{element:?}");
            }
        }
        for name in ["", "a", "zzz", "octetDeltaCoun", "octetDeltaCountX", "reverse", "1:2:3"] {
            assert_eq!(find_by_name(name), None);
            assert_eq!(number_of_name(name), None);
        }
    }

    #[test]
    fn names_lead_back_to_their_elements() {
        for number in [
            (PEN_REVERSE, 1),
            (PEN_V9_SCOPE, 2),
            (PEN_V9_SCOPE, 99),
            (PEN_SUB_TEMPLATES, 0),
            (424_242, 7),
            (0, 65_000),
            (PEN_CISCO, 12_235),
        ] {
            assert_eq!(number_of_name(&stored_name(number.0, number.1)), Some(number));
        }
    }

    #[test]
    fn columns_bear_the_registry_s_names() {
        for &column in Column::ALL {
            if column.element_id() != 0 && !column.is_reverse() {
                assert_eq!(display_name(0, column.element_id()), column.name());
            } else if column.is_reverse() {
                assert_eq!(display_name(PEN_REVERSE, column.element_id()), column.name());
            }
        }
    }

    #[test]
    fn unknown_elements_show_their_numbers() {
        assert_eq!(display_name(0, 65_000), "0:65000");
        assert_eq!(display_name(424_242, 7), "424242:7");
        assert_eq!(display_name(PEN_V9_SCOPE, 9), "scope:9");
    }

    #[test]
    fn elements_of_every_enterprise_are_named_and_typed() {
        for (enterprise, id, name, expected) in [
            (0, 82, "interfaceName", ElementType::String),
            (0, 291, "basicList", ElementType::BasicList),
            (0, 323, "observationTimeMilliseconds", ElementType::DateTimeMilliseconds),
            (0, 33_000, "ingressAclId", ElementType::OctetArray),
            (PEN_CISCO, 12_236, "ciscoClientIPv4Address", ElementType::Ipv4Address),
            (6_871, 18, "payload", ElementType::OctetArray),
            (6_871, 16_398, "reverseInitialTCPFlags", ElementType::Unsigned),
            (6_876, 880, "vmwareTenantProtocol", ElementType::Unsigned),
            (PEN_REVERSE, 6, "reverseTcpControlBits", ElementType::Unsigned),
            (PEN_PROCESS, 169, "sourceProcessName", ElementType::String),
            (PEN_PROCESS, 119, "ntopL7ProtoName", ElementType::String),
            (PEN_V9_SCOPE, 2, "scopeInterface", ElementType::Unsigned),
        ] {
            assert_eq!(display_name(enterprise, id), name);
            assert_eq!(element_type(enterprise, id), expected);
        }
        assert_eq!(element_type(0, 65_000), ElementType::OctetArray);
        let counter = find(0, 1).unwrap();
        assert_eq!((counter.semantics, counter.units), (Semantics::DeltaCounter, Units::Octets));
        assert_eq!(find(0, 31).unwrap().range, Some((0, 0xf_ffff)));
    }

    #[test]
    fn field_types_of_netflow_v9_are_elements() {
        for (field_type, element) in [
            (1, (0, 1)),
            (323, (0, 323)),
            (33_002, (0, 33_002)),
            (40_000, (0, 371)),
            (40_002, (0, 226)),
            (40_005, (0, 233)),
            (42_036, (PEN_CISCO, 9_268)),
            (45_003, (PEN_CISCO, 12_235)),
            (57_590, (PEN_PROCESS, 118)),
            (57_640, (PEN_PROCESS, 168)),
            (58_031, (PEN_PROCESS, 559)),
            (56_701, (0, 56_701)),
            (50_000, (0, 50_000)),
            (65_535, (0, 65_535)),
        ] {
            assert_eq!(v9_element(field_type), element, "{field_type}");
        }
    }
}
