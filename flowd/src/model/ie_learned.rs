//! Elements that exporters told of (RFC 5610): a dictionary that only grows, within a bound.
//!
//! It is the one state that `model` keeps, one for the process: whoever names an element, to
//! print or to search, asks it after the table. An entry never changes and never leaves, so that
//! its name can be lent for as long as the process lives.

use super::column::Column;
use super::ie::{
    Element, ElementType, PEN_REVERSE, PEN_SUB_TEMPLATES, PEN_V9_SCOPE, Semantics, Units,
    find_registered, number_of_name,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Elements that are learned at most. Each takes some 300 octets and its name.
pub const LEARNED_COUNT_MAX: usize = 4_096;
/// Of these from one exporter address: what lies cannot take all the room for ever.
pub const LEARNED_COUNT_PER_EXPORTER_MAX: usize = 1_024;
/// Letters and digits of a learned name at most.
pub const LEARNED_NAME_SIZE_MAX: usize = 128;
/// Keys of the output that are no elements' names.
const RESERVED_NAMES: [&str; 3] = ["recordType", "exportProtocol", "elements"];

static LEARNED: RwLock<Learned> = RwLock::new(Learned::EMPTY);

struct Learned {
    by_number: BTreeMap<(u32, u16), Told>,
    /// How many each exporter told of.
    by_exporter: BTreeMap<IpAddr, usize>,
    /// By their names in lower case.
    by_name: BTreeMap<String, &'static Element>,
}

/// An element that was learned.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The element.
    pub element: &'static Element,
    /// Who told of it, where that is known.
    pub exporter: Option<IpAddr>,
}

/// What an exporter tells of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of an Element")]
pub struct Description<'a> {
    pub enterprise: u32,
    pub id: u16,
    pub name: &'a str,
    pub element_type: ElementType,
    pub semantics: Semantics,
    pub units: Units,
    pub range: Option<(u64, u64)>,
    pub exporter: Option<IpAddr>,
}

/// What became of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// The element has its name from now on.
    Learned,
    /// It was known so.
    Known,
    /// The element is known by another name or type, which stays.
    Contradicts,
    /// The name is no name, or is another element's.
    NameRefused,
    /// It is no enterprise's element.
    NumberRefused,
    /// As many as are learned at most are known.
    Full,
    /// As many as are learned at most of one exporter are known of this one.
    OverShare,
}

/// Learns an element. The table and what was told first stand; what says otherwise is refused.
pub fn learn(told: &Description<'_>) -> Lesson {
    let number = (told.enterprise, told.id);
    if !is_learnable(number) {
        return Lesson::NumberRefused;
    }
    if !is_name(told.name) {
        return Lesson::NameRefused;
    }
    if let Some(known) =
        find_registered(told.enterprise, told.id).or_else(|| find(number.0, number.1))
    {
        let is_same =
            known.name.eq_ignore_ascii_case(told.name) && known.element_type == told.element_type;
        return if is_same { Lesson::Known } else { Lesson::Contradicts };
    }
    if number_of_name(told.name).is_some() || is_reserved(told.name) {
        return Lesson::NameRefused;
    }
    let maxima = (LEARNED_COUNT_MAX, LEARNED_COUNT_PER_EXPORTER_MAX);
    // Only what has room takes the lock that readers wait for.
    if let Some(refusal) = read().refusal(told, maxima) {
        return refusal;
    }
    LEARNED.write().unwrap_or_else(PoisonError::into_inner).insert(told, maxima)
}

impl Learned {
    const EMPTY: Self =
        Self { by_number: BTreeMap::new(), by_exporter: BTreeMap::new(), by_name: BTreeMap::new() };

    /// Why there is no room for one more of an exporter, if there is none.
    fn refusal(
        &self,
        told: &Description<'_>,
        (count_max, share_max): (usize, usize),
    ) -> Option<Lesson> {
        let share = told.exporter.and_then(|exporter| self.by_exporter.get(&exporter));
        if self.by_number.len() >= count_max {
            Some(Lesson::Full)
        } else {
            share.is_some_and(|&share| share >= share_max).then_some(Lesson::OverShare)
        }
    }

    fn insert(&mut self, told: &Description<'_>, maxima: (usize, usize)) -> Lesson {
        let &Description { enterprise, id, name, element_type, semantics, units, range, exporter } =
            told;
        let key = name.to_ascii_lowercase();
        // Another worker may have learned since this one looked.
        if self.by_number.contains_key(&(enterprise, id)) || self.by_name.contains_key(&key) {
            return Lesson::Known;
        }
        if let Some(refusal) = self.refusal(told, maxima) {
            return refusal;
        }
        let name = Box::leak(name.into());
        let element: &'static Element = Box::leak(Box::new(Element {
            enterprise,
            id,
            name,
            element_type,
            semantics,
            units,
            range,
        }));
        self.by_number.insert((enterprise, id), Told { element, exporter });
        if let Some(exporter) = exporter {
            let share = self.by_exporter.entry(exporter).or_default();
            *share = share.saturating_add(1);
        }
        self.by_name.insert(key, element);
        Lesson::Learned
    }
}

/// All elements that were learned, by enterprise and number.
#[must_use]
pub fn all() -> Vec<&'static Element> {
    read().by_number.values().map(|told| told.element).collect()
}

/// All elements that were learned, with who told of them.
#[must_use]
pub fn all_told() -> Vec<Told> {
    read().by_number.values().copied().collect()
}

/// How many elements were learned. It only grows: names that were looked up at the same count
/// are still right.
#[must_use]
pub fn count() -> usize {
    read().by_number.len()
}

/// The learned element with this number.
pub(super) fn find(enterprise: u32, id: u16) -> Option<&'static Element> {
    if !is_learnable((enterprise, id)) {
        return None;
    }
    read().by_number.get(&(enterprise, id)).map(|told| told.element)
}

/// The learned element with this name in any case.
pub(super) fn find_by_name(name: &str) -> Option<&'static Element> {
    let learned = read();
    if learned.by_name.is_empty() {
        return None;
    }
    learned.by_name.get(&name.to_ascii_lowercase()).copied()
}

fn read() -> RwLockReadGuard<'static, Learned> {
    LEARNED.read().unwrap_or_else(PoisonError::into_inner)
}

/// RFC 5610 describes elements of enterprises, whose numbers have 15 bits (RFC 7011 section 3.2).
/// IANA's own, reverse ones and flowd's are spoken for.
const fn is_learnable((enterprise, id): (u32, u16)) -> bool {
    !matches!(enterprise, 0 | PEN_REVERSE | PEN_V9_SCOPE | PEN_SUB_TEMPLATES)
        && matches!(id, 1..=0x7fff)
}

fn is_name(name: &str) -> bool {
    name.len() <= LEARNED_NAME_SIZE_MAX
        && name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric())
}

fn is_reserved(name: &str) -> bool {
    let columns = Column::ALL.iter().map(|column| column.name());
    columns.chain(RESERVED_NAMES).any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ie::{display_name, element_type, find_by_name, stored_name};

    /// The dictionary is one for all tests: each has an enterprise of its own.
    const fn told(enterprise: u32, id: u16, name: &str) -> Description<'_> {
        Description {
            enterprise,
            id,
            name,
            element_type: ElementType::String,
            semantics: Semantics::Default,
            units: Units::None,
            range: None,
            exporter: None,
        }
    }

    #[test]
    fn a_learned_element_is_named_typed_and_found() {
        assert_eq!(display_name(500_001, 1), "500001:1");
        let before = count();
        assert_eq!(learn(&told(500_001, 1, "frobCount")), Lesson::Learned);
        assert!(count() > before);
        assert_eq!(display_name(500_001, 1), "frobCount");
        assert_eq!(stored_name(500_001, 1), "500001:1");
        assert_eq!(element_type(500_001, 1), ElementType::String);
        let found = find_by_name("FROBcount").unwrap();
        assert_eq!((found.enterprise, found.id), (500_001, 1));
        assert!(all().contains(&found));
        assert_eq!(learn(&told(500_001, 1, "frobCount")), Lesson::Known);
    }

    #[test]
    fn what_was_known_first_stands() {
        assert_eq!(learn(&told(500_002, 1, "grobCount")), Lesson::Learned);
        assert_eq!(learn(&told(500_002, 1, "otherCount")), Lesson::Contradicts);
        let number =
            Description { element_type: ElementType::Unsigned, ..told(500_002, 1, "grobCount") };
        assert_eq!(learn(&number), Lesson::Contradicts);
        assert_eq!(learn(&told(500_002, 2, "GROBCOUNT")), Lesson::NameRefused);
        assert_eq!(display_name(500_002, 2), "500002:2");
        assert_eq!(learn(&told(9, 12_235, "somethingElse")), Lesson::Contradicts);
        assert_eq!(learn(&told(9, 12_235, "ciscoApplicationHttpHost")), Lesson::Known);
    }

    #[test]
    fn names_of_the_table_of_columns_and_of_the_output_are_taken() {
        for name in [
            "octetDeltaCount",
            "OCTETDELTACOUNT",
            "reverseOctetDeltaCount",
            "reverseTcpWindowSize",
            "flowStartMilliseconds",
            "recordType",
            "exportProtocol",
            "subTemplates",
            "",
            "9lives",
            "with space",
            "with\"quote",
            "naïve",
            "a#2",
            "424242:7",
        ] {
            assert_eq!(learn(&told(500_003, 7, name)), Lesson::NameRefused, "{name}");
        }
        let long = "a".repeat(LEARNED_NAME_SIZE_MAX + 1);
        assert_eq!(learn(&told(500_003, 7, &long)), Lesson::NameRefused);
        assert_eq!(learn(&told(500_003, 7, &long[1..])), Lesson::Learned);
    }

    #[test]
    fn no_more_are_learned_than_the_limit() {
        let mut learned = Learned::EMPTY;
        let names: Vec<String> = (1..=4).map(|id| format!("element{id}")).collect();
        let lessons: Vec<Lesson> = names
            .iter()
            .zip(1..)
            .map(|(name, id)| learned.insert(&told(500_005, id, name), (3, 3)))
            .collect();
        assert_eq!(lessons, [Lesson::Learned, Lesson::Learned, Lesson::Learned, Lesson::Full]);
        assert_eq!(learned.insert(&told(500_005, 1, &names[0]), (3, 3)), Lesson::Known);
        assert_eq!((learned.by_number.len(), learned.by_name.len()), (3, 3));
    }

    #[test]
    fn an_exporter_has_its_share_and_leaves_room_to_others() {
        let mut learned = Learned::EMPTY;
        let names: Vec<String> = (0..8).map(|id| format!("share{id}")).collect();
        let mut tell = |last: u8, id: u16| {
            let exporter = Some(IpAddr::from([192, 0, 2, last]));
            let told = Description { exporter, ..told(500_006, id, &names[usize::from(id)]) };
            // What looks under the readers' lock says the same of what has no room.
            let refusal = learned.refusal(&told, (4, 2));
            let lesson = learned.insert(&told, (4, 2));
            assert_eq!(refusal, (lesson != Lesson::Learned).then_some(lesson));
            lesson
        };
        assert_eq!(
            [1, 2, 3].map(|id| tell(1, id)),
            [Lesson::Learned, Lesson::Learned, Lesson::OverShare]
        );
        assert_eq!([3, 4].map(|id| tell(2, id)), [Lesson::Learned; 2]);
        assert_eq!([tell(1, 5), tell(3, 6)], [Lesson::Full; 2]);
    }

    #[test]
    fn only_elements_of_enterprises_are_learned() {
        for (enterprise, id) in [
            (0, 65_000),
            (PEN_REVERSE, 20_000),
            (PEN_V9_SCOPE, 9),
            (PEN_SUB_TEMPLATES, 1),
            (500_004, 0),
            (500_004, 0x8000),
        ] {
            assert_eq!(learn(&told(enterprise, id, "anyName")), Lesson::NumberRefused);
        }
    }
}
