//! Which templates the lists of a record refer to, and their definitions as a record keeps them.
//! In: values, and the templates of whoever sent them. Out: numbers, octets.
//!
//! A few octets can name a template of a thousand fields, so what is not paid for by octets of
//! the message is paid for from a room that the caller sets: definitions that are written, and
//! fields that are looked through. All else takes at least an octet a step.

use super::list::{Block, LIST_DEPTH_MAX, Parts, SUB_TEMPLATE_COUNT_MAX, next_block, next_value};
use super::list::{element_list, parts};
use crate::model::{ElementType, List, VARIABLE_LENGTH};
use crate::wire::{FieldSpecifier, Reader};
use std::collections::HashMap;
use std::ops::Range;

/// Finds the templates that lists refer to; its memory is used again.
#[derive(Debug, Default)]
pub struct SubTemplateFinder {
    /// Octets of definitions that may still be looked through or written.
    room: usize,
    /// Where the steps of a template stand; none if no field of it is a list.
    layouts: HashMap<u16, Range<usize>>,
    steps: Vec<Step>,
    /// The templates that the lists of a record refer to.
    ids: Vec<u16>,
    is_cut: bool,
}

/// Fields of a record that are taken at once, an octet at least.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Octets without a list.
    Skip(usize),
    /// A value of variable length that is no list.
    SkipVariable,
    List(ElementType, u16),
}

impl SubTemplateFinder {
    /// Sets how many octets of definitions may be looked through or written from now on.
    pub const fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    /// Adds to that.
    pub const fn add_room(&mut self, room: usize) {
        self.room = self.room.saturating_add(room);
    }

    /// Forgets what templates look like: they may be others from now on.
    pub fn forget_layouts(&mut self) {
        self.layouts.clear();
        self.steps.clear();
    }

    /// Appends the definitions of the templates that the lists of a record refer to, those of
    /// the lists in them included, as far as `lookup` knows them: each its number, the count of
    /// its fields, and of each field enterprise, element and length, all big-endian. A template
    /// without a record in the lists is not needed to read them, and is left out.
    ///
    /// False if some were left out because there are more than [`SUB_TEMPLATE_COUNT_MAX`], more
    /// octets of them than `size_max`, or no room.
    pub fn append_definitions<'a, 't>(
        &mut self,
        lists: impl IntoIterator<Item = List<'a>>,
        lookup: &dyn Fn(u16) -> Option<&'t [FieldSpecifier]>,
        size_max: usize,
        definitions: &mut Vec<u8>,
    ) -> bool {
        self.ids.clear();
        self.is_cut = false;
        let mut walk = Walk { finder: self, lookup };
        for list in lists {
            // A list that ends too early, or is none, is not read later either; what was found
            // until then does no harm.
            walk.list(list, 1);
        }
        let mut left = size_max.min(self.room);
        for &id in &self.ids {
            let Some(fields) = lookup(id) else { continue };
            let size = definition_size(fields);
            match (left.checked_sub(size), u16::try_from(fields.len())) {
                (Some(after), Ok(count)) => {
                    left = after;
                    self.room = self.room.saturating_sub(size);
                    write_definition(id, count, fields, definitions);
                }
                _ => self.is_cut = true,
            }
        }
        !self.is_cut
    }

    /// Notes a template of the record. None if it has too many.
    fn note(&mut self, id: u16) -> Option<()> {
        if self.ids.contains(&id) {
            return Some(());
        }
        if self.ids.len() >= SUB_TEMPLATE_COUNT_MAX {
            self.is_cut = true;
            return None;
        }
        self.ids.push(id);
        Some(())
    }

    /// The steps of a template's records, empty if there is no list in them. None if there is no
    /// room to look through it.
    fn layout(&mut self, id: u16, fields: &[FieldSpecifier]) -> Option<Range<usize>> {
        if let Some(layout) = self.layouts.get(&id) {
            return Some(layout.clone());
        }
        let Some(room) = self.room.checked_sub(definition_size(fields)) else {
            self.is_cut = true;
            return None;
        };
        self.room = room;
        let start = self.steps.len();
        let mut has_list = false;
        for field in fields.iter().filter(|field| field.length > 0) {
            let step = match (element_list(field), field.length) {
                (Some(element_type), length) => Step::List(element_type, length),
                (None, VARIABLE_LENGTH) => Step::SkipVariable,
                (None, length) => Step::Skip(length.into()),
            };
            has_list |= matches!(step, Step::List(..));
            match (self.steps.get_mut(start..).and_then(<[Step]>::last_mut), step) {
                (Some(Step::Skip(size)), Step::Skip(more)) => *size = size.saturating_add(more),
                _ => self.steps.push(step),
            }
        }
        if !has_list {
            self.steps.truncate(start);
        }
        let layout = start..self.steps.len();
        self.layouts.insert(id, layout.clone());
        Some(layout)
    }
}

/// Octets of a template's definition.
const fn definition_size(fields: &[FieldSpecifier]) -> usize {
    fields.len().saturating_mul(8).saturating_add(4)
}

fn write_definition(id: u16, count: u16, fields: &[FieldSpecifier], definitions: &mut Vec<u8>) {
    definitions.extend(id.to_be_bytes());
    definitions.extend(count.to_be_bytes());
    for &FieldSpecifier { enterprise, id, length } in fields {
        definitions.extend(enterprise.to_be_bytes());
        definitions.extend(id.to_be_bytes());
        definitions.extend(length.to_be_bytes());
    }
}

/// A walk through the lists of a record.
struct Walk<'f, 't> {
    finder: &'f mut SubTemplateFinder,
    lookup: &'f dyn Fn(u16) -> Option<&'t [FieldSpecifier]>,
}

/// What returns None ends early: its octets are no list, or a limit was reached.
impl Walk<'_, '_> {
    fn list(&mut self, list: List<'_>, depth: usize) -> Option<()> {
        let (_, parts) = parts(list)?;
        match parts {
            Parts::Values { element, content } => self.values(element, content, depth),
            Parts::Block(block) => self.block(&block, depth),
            Parts::Blocks(mut reader) => {
                while !reader.is_empty() {
                    let block = next_block(&mut reader)?;
                    self.block(&block, depth);
                }
                Some(())
            }
        }
    }

    fn values(&mut self, element: FieldSpecifier, content: &[u8], depth: usize) -> Option<()> {
        if content.is_empty() || element.length == 0 || depth >= LIST_DEPTH_MAX {
            return Some(());
        }
        let Some(element_type) = element_list(&element) else { return Some(()) };
        let mut reader = Reader::new(content);
        while !reader.is_empty() {
            let octets = next_value(&mut reader, element.length)?;
            self.inner(element_type, octets, depth);
        }
        Some(())
    }

    fn block(&mut self, block: &Block<'_>, depth: usize) -> Option<()> {
        if block.records.is_empty() {
            return Some(());
        }
        let fields = (self.lookup)(block.template_id)?;
        self.finder.note(block.template_id)?;
        if depth >= LIST_DEPTH_MAX {
            return Some(());
        }
        let layout = self.finder.layout(block.template_id, fields)?;
        let mut reader = Reader::new(block.records);
        while !layout.is_empty() && !reader.is_empty() {
            for index in layout.clone() {
                match *self.finder.steps.get(index)? {
                    Step::Skip(size) => {
                        reader.take(size).ok()?;
                    }
                    Step::SkipVariable => {
                        next_value(&mut reader, VARIABLE_LENGTH)?;
                    }
                    Step::List(element_type, length) => {
                        let octets = next_value(&mut reader, length)?;
                        self.inner(element_type, octets, depth);
                    }
                }
            }
        }
        Some(())
    }

    fn inner(&mut self, element_type: ElementType, octets: &[u8], depth: usize) {
        let list = List { element_type, octets, templates: &[] };
        self.list(list, depth.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const fn field(id: u16, length: u16) -> FieldSpecifier {
        FieldSpecifier { enterprise: 0, id, length }
    }

    /// What is kept for lists of one kind, how often a template was asked for, and whether all
    /// was kept.
    fn find(
        finder: &mut SubTemplateFinder,
        templates: &[(u16, &[FieldSpecifier])],
        (element_type, octets): (ElementType, &[u8]),
        size_max: usize,
    ) -> (Vec<u8>, usize, bool) {
        let asked = Cell::new(0);
        let lookup = |id| {
            asked.set(asked.get() + 1);
            templates.iter().find(|(known, _)| *known == id).map(|(_, fields)| *fields)
        };
        let mut definitions = Vec::new();
        let list = List { element_type, octets, templates: &[] };
        let is_whole = finder.append_definitions([list], &lookup, size_max, &mut definitions);
        (definitions, asked.get(), is_whole)
    }

    fn finder(room: usize) -> SubTemplateFinder {
        SubTemplateFinder { room, ..SubTemplateFinder::default() }
    }

    #[test]
    fn templates_without_a_record_are_neither_kept_nor_looked_at() {
        let large = [field(292, VARIABLE_LENGTH); 1_024];
        let templates = [(257, &large[..])];
        let mut finder = finder(1 << 20);
        let blocks = [&[3][..], &[1, 1, 0, 4].repeat(16_000)].concat();
        for list in [
            (ElementType::SubTemplateList, &[3, 1, 1][..]),
            (ElementType::SubTemplateMultiList, &blocks),
        ] {
            assert_eq!(find(&mut finder, &templates, list, 65_535), (Vec::new(), 0, true));
        }
        assert_eq!((finder.room, finder.steps.len()), (1 << 20, 0));
    }

    #[test]
    fn a_template_is_looked_through_once_until_it_may_be_another() {
        let fields = [field(292, VARIABLE_LENGTH), field(4, 1)];
        let templates = [(257, &fields[..])];
        let mut finder = finder(100);
        // Two records with an empty list; the definition has 20 octets.
        let list = (ElementType::SubTemplateList, &[3, 1, 1, 0, 7, 0, 7][..]);
        for room in [60, 40, 20] {
            assert!(find(&mut finder, &templates, list, 65_535).2);
            assert_eq!(finder.room, room);
        }
        finder.forget_layouts();
        let (kept, _, is_whole) = find(&mut finder, &templates, list, 65_535);
        assert_eq!((finder.room, kept.len(), is_whole), (0, 0, false), "no room to write it");
        finder.forget_layouts();
        assert!(!find(&mut finder, &templates, list, 65_535).2, "no room to look");
    }

    #[test]
    fn fields_without_octets_or_lists_take_no_step() {
        let mut fields = vec![field(82, 0); 1_000];
        fields.extend([field(1, 4), field(2, 4), field(82, VARIABLE_LENGTH)]);
        fields.extend([field(291, VARIABLE_LENGTH), field(4, 1), field(292, 0), field(5, 1)]);
        let mut finder = finder(1 << 20);
        let layout = finder.layout(256, &fields).unwrap();
        let steps = &finder.steps[layout];
        assert!(
            matches!(
                steps,
                [
                    Step::Skip(8),
                    Step::SkipVariable,
                    Step::List(ElementType::BasicList, VARIABLE_LENGTH),
                    Step::Skip(2)
                ]
            ),
            "{steps:?}"
        );
        let layout = finder.layout(257, &[field(1, 4), field(82, VARIABLE_LENGTH)]).unwrap();
        assert!(layout.is_empty(), "nothing to look for");
    }

    #[test]
    fn what_fits_is_kept_and_what_does_not_is_said() {
        let (large, small) = ([field(4, 1); 600], [field(4, 1); 2]);
        let templates = [(256, &large[..]), (257, &small[..])];
        let octets = [&[3, 1, 0, 2, 92][..], &[1; 600], &[1, 1, 0, 6, 1, 1]].concat();
        let list = (ElementType::SubTemplateMultiList, &octets[..]);
        let (kept, _, is_whole) = find(&mut finder(1 << 20), &templates, list, 4_096);
        let field = [0, 0, 0, 0, 0, 4, 0, 1];
        assert_eq!(kept, [&[1, 1, 0, 2][..], &field, &field].concat());
        assert!(!is_whole);
        let (kept, _, is_whole) = find(&mut finder(1 << 20), &templates, list, 65_535);
        assert_eq!((kept.len(), is_whole), (4_804 + 20, true));
    }

    #[test]
    fn more_templates_than_the_limit_are_said() {
        let fields = [field(4, 1)];
        let templates: Vec<_> = (256..330).map(|id| (id, &fields[..])).collect();
        for (count, is_whole) in [(SUB_TEMPLATE_COUNT_MAX, true), (70, false)] {
            let mut octets = vec![3];
            for id in (256..330_u16).take(count) {
                octets.extend(id.to_be_bytes());
                octets.extend([0, 5, 7]);
            }
            let list = (ElementType::SubTemplateMultiList, &octets[..]);
            let found = find(&mut finder(1 << 20), &templates, list, 65_535);
            assert_eq!((found.0.len(), found.2), (SUB_TEMPLATE_COUNT_MAX * 12, is_whole));
        }
    }
}
