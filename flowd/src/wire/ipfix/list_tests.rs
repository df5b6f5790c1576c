//! Lists as RFC 6313 has them, and lists that lie.

use super::super::list_templates::SubTemplateFinder;
use super::*;
use proptest::prelude::*;

const fn field(enterprise: u32, id: u16, length: u16) -> FieldSpecifier {
    FieldSpecifier { enterprise, id, length }
}

const fn list(element_type: ElementType, octets: &[u8]) -> List<'_> {
    List { element_type, octets, templates: &[] }
}

/// Templates as a collector holds them.
struct Templates(Vec<(u16, Vec<FieldSpecifier>)>);

impl Templates {
    fn lookup(&self, id: u16) -> Option<&[FieldSpecifier]> {
        self.0.iter().find(|(known, _)| *known == id).map(|(_, fields)| fields.as_slice())
    }

    /// What a record keeps for this list.
    fn kept(&self, list: List<'_>) -> SubTemplates {
        let lookup = |id| self.lookup(id);
        let (mut finder, mut bytes) = (SubTemplateFinder::default(), Vec::new());
        finder.set_room(usize::MAX);
        finder.append_definitions([list], &lookup, usize::from(u16::MAX), &mut bytes);
        SubTemplates::read(&bytes)
    }

    fn read<'a>(&self, list: List<'a>) -> Option<ListContent<'a>> {
        read(list, &self.kept(list))
    }
}

/// 256: an interface and a name; 257: a list of 256; 258: a list of anything.
fn templates() -> Templates {
    Templates(vec![
        (256, vec![field(0, 10, 4), field(0, 82, VARIABLE_LENGTH)]),
        (257, vec![field(0, 1, 2), field(0, 292, VARIABLE_LENGTH)]),
        (258, vec![field(0, 291, VARIABLE_LENGTH)]),
    ])
}

/// The value as a field of variable length.
fn variable(value: &[u8]) -> Vec<u8> {
    let mut field = match u8::try_from(value.len()) {
        Ok(size) if size < 255 => vec![size],
        _ => {
            let [high, low] = u16::try_from(value.len()).unwrap().to_be_bytes();
            vec![255, high, low]
        }
    };
    field.extend(value);
    field
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn reads_values_of_fixed_length() {
    // Section 4.5.1: semantic, element, its length, values.
    let octets = [3, 0, 10, 0, 2, 0, 7, 0, 9];
    let content = templates().read(list(ElementType::BasicList, &octets)).unwrap();
    assert_eq!(content.semantic, ListSemantic::AllOf);
    let values = vec![Item::Octets(&octets[5..7]), Item::Octets(&octets[7..9])];
    assert_eq!(content.items, Items::Values { element: field(0, 10, 2), values });
}

#[test]
fn reads_values_of_an_enterprise_s_element_of_variable_length() {
    let octets = joined(&[&[1, 0x80, 110, 255, 255, 0, 0, 0x1a, 0xd7], &[2, b'h', b'i', 0]]);
    let content = templates().read(list(ElementType::BasicList, &octets)).unwrap();
    assert_eq!(content.semantic, ListSemantic::ExactlyOneOf);
    let values = vec![Item::Octets(b"hi"), Item::Octets(b"")];
    assert_eq!(content.items, Items::Values { element: field(6_871, 110, 65_535), values });
}

#[test]
fn reads_records_of_one_template() {
    let octets = joined(&[&[4, 1, 0], &[0, 0, 0, 1, 2, b'e', b'0'], &[0, 0, 0, 2, 0]]);
    let content = templates().read(list(ElementType::SubTemplateList, &octets)).unwrap();
    assert_eq!(content.semantic, ListSemantic::Ordered);
    let record = |number: &'static [u8], name: &'static [u8]| {
        Entry::Record(vec![
            (field(0, 10, 4), Item::Octets(number)),
            (field(0, 82, VARIABLE_LENGTH), Item::Octets(name)),
        ])
    };
    let records = vec![record(&[0, 0, 0, 1], b"e0"), record(&[0, 0, 0, 2], b"")];
    assert_eq!(content.items, Items::Records(records));
}

#[test]
fn reads_records_of_many_templates_and_keeps_the_octets_of_unknown_ones() {
    let octets = joined(&[
        &[255],
        &[1, 0, 0, 9, 0, 0, 0, 1, 0],
        &[3, 231, 0, 6, 0xab, 0xcd],
        &[1, 0, 0, 4],
        &[1, 0, 0, 9, 0, 0, 0, 2, 0],
    ]);
    let content = templates().read(list(ElementType::SubTemplateMultiList, &octets)).unwrap();
    assert_eq!(content.semantic, ListSemantic::Undefined);
    let Items::Records(entries) = content.items else { panic!("records") };
    assert_eq!(entries.len(), 3);
    assert!(matches!(&entries[0], Entry::Record(fields) if fields.len() == 2));
    assert_eq!(entries[1], Entry::Octets(&[0xab, 0xcd]));
    assert!(matches!(&entries[2], Entry::Record(_)));
}

#[test]
fn lists_in_lists_bring_their_templates() {
    let inner = joined(&[&[3, 1, 0], &[0, 0, 0, 1, 1, b'a']]);
    let outer = joined(&[&[0, 1, 1], &[0, 5], &variable(&inner)]);
    let outer = list(ElementType::SubTemplateList, &outer);
    let kept = templates().kept(outer);
    assert!(kept.fields(256).is_some() && kept.fields(257).is_some());
    assert_eq!(kept.fields(258), None, "nothing refers to it");
    let content = read(outer, &kept).unwrap();
    let Items::Records(entries) = content.items else { panic!("records") };
    let [Entry::Record(fields)] = entries.as_slice() else { panic!("one record") };
    assert!(matches!(&fields[1].1, Item::List(ListContent { semantic: ListSemantic::AllOf, .. })));
}

#[test]
fn a_list_in_a_list_that_is_none_stays_octets() {
    let outer = joined(&[&[0, 1, 1], &[0, 5], &variable(&[3, 1, 0, 0, 0])]);
    let content = templates().read(list(ElementType::SubTemplateList, &outer)).unwrap();
    let Items::Records(entries) = content.items else { panic!("records") };
    let [Entry::Record(fields)] = entries.as_slice() else { panic!("one record") };
    assert_eq!(fields[1].1, Item::Octets(&[3, 1, 0, 0, 0]));
}

#[test]
fn empty_lists_are_lists() {
    for (element_type, octets) in [
        (ElementType::BasicList, &[3, 0, 10, 0, 4][..]),
        (ElementType::BasicList, &[3, 0, 10, 0, 0]),
        (ElementType::SubTemplateList, &[3, 1, 0]),
        (ElementType::SubTemplateList, &[3, 3, 231]),
        (ElementType::SubTemplateMultiList, &[3]),
        (ElementType::SubTemplateMultiList, &[3, 3, 231, 0, 4]),
    ] {
        let content = templates().read(list(element_type, octets)).unwrap();
        match content.items {
            Items::Values { values, .. } => assert!(values.is_empty()),
            Items::Records(entries) => assert!(entries.is_empty()),
        }
    }
}

#[test]
fn lengths_that_lie_make_no_list() {
    use ElementType::{BasicList, SubTemplateList, SubTemplateMultiList};
    for (element_type, octets) in [
        (BasicList, &[][..]),
        (BasicList, &[3, 0, 10, 0]),
        (BasicList, &[3, 0x80, 10, 0, 4, 0, 0, 0]),
        // Values that end in the middle, and values of no octets where there are some.
        (BasicList, &[3, 0, 10, 0, 4, 1, 2, 3]),
        (BasicList, &[3, 0, 10, 0, 0, 1]),
        (BasicList, &[3, 0, 82, 255, 255, 9, b'a']),
        (BasicList, &[3, 0, 82, 255, 255, 255, 1]),
        (BasicList, &[3, 0, 82, 255, 255, 255, 255, 255, b'a']),
        (SubTemplateList, &[3, 1]),
        (SubTemplateList, &[3, 1, 0, 0, 0, 0, 1]),
        (SubTemplateList, &[3, 1, 0, 0, 0, 0, 1, 9, b'a']),
        (SubTemplateList, &[3, 3, 231, 1]),
        (SubTemplateMultiList, &[3, 1, 0, 0]),
        (SubTemplateMultiList, &[3, 1, 0, 0, 0]),
        (SubTemplateMultiList, &[3, 1, 0, 0, 3, 0]),
        (SubTemplateMultiList, &[3, 1, 0, 0, 99, 0, 0, 0, 0, 0]),
        (ElementType::OctetArray, &[3, 1, 0]),
    ] {
        assert_eq!(templates().read(list(element_type, octets)), None, "{octets:?}");
    }
}

#[test]
fn every_truncation_ends() {
    let inner = joined(&[&[3, 1, 0], &[0, 0, 0, 1, 1, b'a']]);
    let whole = joined(&[&[0, 1, 1], &[0, 5], &variable(&inner), &[0, 6], &variable(&inner)]);
    for size in 0..whole.len() {
        let content = templates().read(list(ElementType::SubTemplateList, &whole[..size]));
        // Only where a record ends is there a list.
        let ends = [3, 3 + 2 + 1 + inner.len()];
        assert_eq!(content.is_some(), ends.contains(&size), "{size}");
    }
}

/// A basicList in a basicList in a basicList..
fn nested(depth: usize) -> Vec<u8> {
    (1..depth).fold(vec![3, 0, 1, 0, 1, 9], |inner, _| {
        joined(&[&[3, 1, 35, 255, 255], &variable(&inner)])
    })
}

#[test]
fn nesting_is_followed_as_deep_as_the_limit() {
    for depth in [1, 2, LIST_DEPTH_MAX - 1, LIST_DEPTH_MAX, LIST_DEPTH_MAX + 1, 100, 1_000] {
        let octets = nested(depth);
        let mut content = templates().read(list(ElementType::BasicList, &octets)).unwrap();
        let mut found = 1;
        loop {
            let Items::Values { values, .. } = content.items else { panic!("values") };
            assert_eq!(values.len(), 1);
            match values.into_iter().next().unwrap() {
                Item::List(inner) => content = inner,
                Item::Octets(_) => break,
            }
            found += 1;
        }
        assert_eq!(found, depth.min(LIST_DEPTH_MAX));
    }
}

#[test]
fn more_items_than_the_limit_are_not_read() {
    let values = |count: usize| {
        let mut octets = vec![3, 0, 4, 0, 1];
        octets.resize(5 + count, 7);
        octets
    };
    let at_limit = values(LIST_ITEM_COUNT_MAX);
    assert!(templates().read(list(ElementType::BasicList, &at_limit)).is_some());
    let beyond = values(LIST_ITEM_COUNT_MAX + 1);
    assert_eq!(templates().read(list(ElementType::BasicList, &beyond)), None);
}

#[test]
fn fields_of_no_octets_are_counted_and_records_of_none_refused() {
    let many = |ones: usize| {
        let mut fields = vec![field(0, 4, 1); ones];
        fields.extend(vec![field(0, 82, 0); 4_000]);
        Templates(vec![(256, fields)])
    };
    let mut octets = vec![3, 1, 0];
    octets.resize(3 + 10, 7);
    let short = list(ElementType::SubTemplateList, &octets);
    assert!(many(1).read(short).is_some());
    let mut octets = vec![3, 1, 0];
    octets.resize(3 + 1_000, 7);
    let long = list(ElementType::SubTemplateList, &octets);
    assert_eq!(many(1).read(long), None, "four million values");
    assert_eq!(many(0).read(short), None, "endlessly many");
}

#[test]
fn no_more_templates_are_kept_than_the_limit() {
    let count = u16::try_from(SUB_TEMPLATE_COUNT_MAX).unwrap() + 9;
    let ids = 256..256 + count;
    let templates = Templates(ids.clone().map(|id| (id, vec![field(0, 4, 1)])).collect());
    let mut octets = vec![3];
    for id in ids {
        octets.extend(id.to_be_bytes());
        octets.extend([0, 5, 7]);
    }
    let octets = list(ElementType::SubTemplateMultiList, &octets);
    let content = templates.read(octets).unwrap();
    let Items::Records(entries) = content.items else { panic!("records") };
    let read = entries.iter().filter(|entry| matches!(entry, Entry::Record(_))).count();
    assert_eq!((read, entries.len()), (SUB_TEMPLATE_COUNT_MAX, usize::from(count)));
}

#[test]
fn kept_templates_that_lie_are_left_out() {
    for bytes in [&[1][..], &[1, 0, 0], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0], &[1, 0, 255, 255, 0]] {
        assert_eq!(SubTemplates::read(bytes), SubTemplates::default(), "{bytes:?}");
    }
}

#[test]
fn semantics_have_their_names() {
    let names = [0, 1, 2, 3, 4, 255, 7].map(|number| ListSemantic::from(number).to_string());
    let expected = ["noneOf", "exactlyOneOf", "oneOrMoreOf", "allOf", "ordered", "undefined", "7"];
    assert_eq!(names, expected);
}

proptest! {
    #[test]
    fn any_octets_end(
        kind in prop::sample::select(vec![
            ElementType::BasicList,
            ElementType::SubTemplateList,
            ElementType::SubTemplateMultiList,
        ]),
        octets in prop::collection::vec(prop_oneof![Just(1_u8), Just(0), Just(35), Just(36), any::<u8>()], 0..600),
        kept in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let list = list(kind, &octets);
        let held = templates().read(list);
        // With templates that are none, no more can be read.
        let without = read(list, &SubTemplates::read(&kept));
        prop_assert!(kind != ElementType::SubTemplateMultiList || held.is_some() == without.is_some());
    }
}

/// A capture of a meter that sends a subTemplateMultiList with each record; it is no part of the
/// project.
#[test]
fn lists_of_a_real_meter_are_read() {
    use crate::wire::ipfix::Message;
    use crate::wire::{Set, TemplateChange};
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let Ok(folder) = std::fs::read_dir(root.join("collector/dat/ls_ipfix_yaf")) else {
        println!("skipped: no corpus beside the project");
        return;
    };
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let messages: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let (mut held, mut found) = (Templates(Vec::new()), Vec::new());
    for message in &messages {
        for set in Message::decode(message).unwrap().sets.map(Result::unwrap) {
            match set {
                Set::Templates(templates) => {
                    for template in templates {
                        let TemplateChange::Data(template) = template.unwrap() else { continue };
                        held.0.insert(0, (template.id.get(), template.fields));
                    }
                }
                Set::Data(set) => {
                    let Some(fields) = held.lookup(set.template_id.get()) else { continue };
                    let mut reader = Reader::new(set.body);
                    for field in fields {
                        let octets = next_value(&mut reader, field.length).unwrap();
                        let Some(list) = as_list(field, octets) else { continue };
                        found.push(held.read(list).unwrap());
                    }
                }
                Set::Unknown(_) => {}
            }
        }
    }
    let mac = |id| field(0, id, 6);
    let record = |source: &'static [u8], destination: &'static [u8]| {
        let fields = vec![(mac(56), Item::Octets(source)), (mac(80), Item::Octets(destination))];
        let items = Items::Records(vec![Entry::Record(fields)]);
        ListContent { semantic: ListSemantic::AllOf, items }
    };
    let (first, second) = (&[0, 12, 41, 112, 134, 9], &[0, 12, 41, 141, 175, 195]);
    assert_eq!(found, [record(first, second), record(second, &[0, 12, 41, 168, 110, 47])]);
}
