//! Information Elements: what an element number means. The table is made from
//! `xtask/data/information-elements.csv` by `cargo xtask codegen-ie`.

use super::ie_generated::ELEMENTS;

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

/// Abstract data type of an element (RFC 7012 section 3.1). Integers of all sizes are one type,
/// since an exporter may send fewer octets than the registry says (RFC 7011 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are RFC 7012's names")]
pub enum ElementType {
    Unsigned,
    Signed,
    Float,
    Boolean,
    MacAddress,
    OctetArray,
    String,
    DateTimeSeconds,
    DateTimeMilliseconds,
    DateTimeMicroseconds,
    DateTimeNanoseconds,
    Ipv4Address,
    Ipv6Address,
    List,
}

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
}

/// One entry of the generated table.
pub(super) const fn element(
    enterprise: u32,
    id: u16,
    name: &'static str,
    element_type: ElementType,
) -> Element {
    Element { enterprise, id, name, element_type }
}

/// The element with this number, if the table has it.
#[must_use]
pub fn find(enterprise: u32, id: u16) -> Option<&'static Element> {
    let index = ELEMENTS.binary_search_by_key(&(enterprise, id), |e| (e.enterprise, e.id)).ok()?;
    ELEMENTS.get(index)
}

/// The element with this name, if the table has it.
#[must_use]
pub fn find_by_name(name: &str) -> Option<&'static Element> {
    ELEMENTS.iter().find(|element| element.name == name)
}

/// All elements, ordered by enterprise and number.
#[must_use]
pub fn all() -> &'static [Element] {
    ELEMENTS
}

/// The name that users see: the registry's, or `PEN:ID` where it has none.
///
/// Elements of the reverse direction are called `reverse` and the forward name (RFC 5103
/// section 6.1). A NetFlow v9 scope type without a name is `scope:TYPE`.
#[must_use]
pub fn display_name(enterprise: u32, id: u16) -> String {
    if let Some(element) = find(enterprise, id) {
        return element.name.to_owned();
    }
    if enterprise == PEN_REVERSE
        && let Some(forward) = find(0, id)
    {
        let (first, rest) = forward.name.split_at(1);
        return format!("reverse{}{rest}", first.to_ascii_uppercase());
    }
    if enterprise == PEN_V9_SCOPE {
        return format!("scope:{id}");
    }
    format!("{enterprise}:{id}")
}

/// The type that an element's value has: its own, or for a reverse element the forward one's.
/// Elements that nobody described are octets.
#[must_use]
pub fn element_type(enterprise: u32, id: u16) -> ElementType {
    let forward = || (enterprise == PEN_REVERSE).then(|| find(0, id)).flatten();
    find(enterprise, id).or_else(forward).map_or(ElementType::OctetArray, |e| e.element_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Column;

    #[test]
    fn the_table_is_ordered_and_names_are_single() {
        assert!(ELEMENTS.is_sorted_by(|a, b| (a.enterprise, a.id) < (b.enterprise, b.id)));
        let mut names: Vec<_> = ELEMENTS.iter().map(|e| e.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ELEMENTS.len());
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
            (0, 323, "observationTimeMilliseconds", ElementType::DateTimeMilliseconds),
            (PEN_REVERSE, 6, "reverseTcpControlBits", ElementType::Unsigned),
            (PEN_PROCESS, 169, "sourceProcessName", ElementType::String),
            (PEN_V9_SCOPE, 2, "scopeInterface", ElementType::Unsigned),
        ] {
            assert_eq!(display_name(enterprise, id), name);
            assert_eq!(element_type(enterprise, id), expected);
        }
        assert_eq!(element_type(0, 65_000), ElementType::OctetArray);
    }
}
