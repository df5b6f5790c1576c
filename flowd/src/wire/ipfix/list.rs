//! list: octets of a list's value <-> its values or records (RFC 6313). In: the value, and the
//! templates that it refers to. Out: a tree of bounded depth and size.
//!
//! ```text
//! collect: value --[list_templates: SubTemplateFinder]--> what is kept beside the record
//! cli:     value + what was kept --[SubTemplates, read]--> ListContent
//! ```
//!
//! A value that is no list, or one of more items than the limit, is not read at all: whoever
//! shows it shows its octets. So it is with a list in a list, and with one that lies too deep.

use super::super::{FieldSpecifier, Reader};
use crate::model::{ElementType, List, VARIABLE_LENGTH, ie, split_variable};
use std::fmt;

/// Lists within lists, the outermost included.
pub const LIST_DEPTH_MAX: usize = 8;
/// Values and records of one outermost list, those of the lists in it included.
pub const LIST_ITEM_COUNT_MAX: usize = 65_536;
/// Templates that the lists of one record may refer to.
pub const SUB_TEMPLATE_COUNT_MAX: usize = 64;

/// The bit of an element number that says that an enterprise number follows (RFC 7011
/// section 3.2).
const ENTERPRISE_BIT: u16 = 0x8000;

/// How the items of a list belong together (RFC 6313 section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are RFC 6313's names")]
pub enum ListSemantic {
    NoneOf,
    ExactlyOneOf,
    OneOrMoreOf,
    AllOf,
    Ordered,
    Undefined,
    Unknown(u8),
}

impl From<u8> for ListSemantic {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::NoneOf,
            1 => Self::ExactlyOneOf,
            2 => Self::OneOrMoreOf,
            3 => Self::AllOf,
            4 => Self::Ordered,
            255 => Self::Undefined,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for ListSemantic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoneOf => "noneOf",
            Self::ExactlyOneOf => "exactlyOneOf",
            Self::OneOrMoreOf => "oneOrMoreOf",
            Self::AllOf => "allOf",
            Self::Ordered => "ordered",
            Self::Undefined => "undefined",
            Self::Unknown(number) => return number.fmt(f),
        })
    }
}

/// A list that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListContent<'a> {
    /// How its items belong together.
    pub semantic: ListSemantic,
    /// What is in it.
    pub items: Items<'a>,
}

/// What is in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Items<'a> {
    /// Values of one element: a basicList.
    Values {
        /// The element.
        element: FieldSpecifier,
        /// Its values.
        values: Vec<Item<'a>>,
    },
    /// Records: a subTemplateList or subTemplateMultiList.
    Records(Vec<Entry<'a>>),
}

/// A value in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The octets of a value; of a list where that could not be read.
    Octets(&'a [u8]),
    /// A list in the list.
    List(ListContent<'a>),
}

/// A record in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Its fields.
    Record(Vec<(FieldSpecifier, Item<'a>)>),
    /// Records of a template that is not known, or that do not fit it: their octets.
    Octets(&'a [u8]),
}

/// Reads a list. None if its octets are no list, if the template of a subTemplateList is not
/// known, or if there are more items in it than the limit.
#[must_use]
pub fn read<'a>(list: List<'a>, templates: &SubTemplates) -> Option<ListContent<'a>> {
    let lookup = |id| templates.fields(id);
    let mut budget = Budget { left: LIST_ITEM_COUNT_MAX };
    let content = read_at(list, &lookup, &mut budget, 1);
    content.ok().flatten()
}

/// The templates that a record keeps for its lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubTemplates {
    templates: Vec<(u16, Vec<FieldSpecifier>)>,
}

impl SubTemplates {
    /// Reads what [`SubTemplateFinder`](super::list_templates::SubTemplateFinder) wrote; what
    /// does not look so is left out.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let mut reader = Reader::new(bytes);
        let mut templates = Vec::new();
        while templates.len() < SUB_TEMPLATE_COUNT_MAX {
            let Some(template) = Self::template(&mut reader) else { break };
            templates.push(template);
        }
        Self { templates }
    }

    fn template(reader: &mut Reader<'_>) -> Option<(u16, Vec<FieldSpecifier>)> {
        let (id, count) = (reader.u16().ok()?, reader.u16().ok()?);
        let mut fields = reader.sub(usize::from(count).checked_mul(8)?).ok()?;
        let mut specifiers = Vec::with_capacity(usize::from(count));
        while let Ok(enterprise) = fields.u32() {
            let (id, length) = (fields.u16().ok()?, fields.u16().ok()?);
            specifiers.push(FieldSpecifier { enterprise, id, length });
        }
        Some((id, specifiers))
    }

    /// The fields of a template.
    #[must_use]
    pub fn fields(&self, id: u16) -> Option<&[FieldSpecifier]> {
        let found = self.templates.iter().find(|(known, _)| *known == id);
        found.map(|(_, fields)| fields.as_slice())
    }
}

/// More items than the limit.
struct OverLimit;

/// Items that may still come.
struct Budget {
    left: usize,
}

impl Budget {
    fn spend(&mut self) -> Result<(), OverLimit> {
        self.left = self.left.checked_sub(1).ok_or(OverLimit)?;
        Ok(())
    }
}

/// Records of one template in a list.
pub(super) struct Block<'a> {
    pub(super) template_id: u16,
    pub(super) records: &'a [u8],
}

/// The parts of a list, its items yet unread.
pub(super) enum Parts<'a> {
    Values { element: FieldSpecifier, content: &'a [u8] },
    Block(Block<'a>),
    Blocks(Reader<'a>),
}

/// Takes a list apart. None if it is shorter than its header.
pub(super) fn parts(list: List<'_>) -> Option<(ListSemantic, Parts<'_>)> {
    let mut reader = Reader::new(list.octets);
    let semantic = ListSemantic::from(reader.u8().ok()?);
    let parts = match list.element_type {
        ElementType::BasicList => {
            let (id, length) = (reader.u16().ok()?, reader.u16().ok()?);
            let enterprise = if id & ENTERPRISE_BIT == 0 { 0 } else { reader.u32().ok()? };
            let id = ie::foreign_number(enterprise, id & !ENTERPRISE_BIT);
            let element = FieldSpecifier { enterprise, id, length };
            Parts::Values { element, content: reader.rest() }
        }
        ElementType::SubTemplateList => {
            let template_id = reader.u16().ok()?;
            Parts::Block(Block { template_id, records: reader.rest() })
        }
        ElementType::SubTemplateMultiList => Parts::Blocks(reader),
        _ => return None,
    };
    Some((semantic, parts))
}

/// Takes the next records of one template. RFC 6313 section 4.5.3: their length counts the
/// template's number and itself.
pub(super) fn next_block<'a>(reader: &mut Reader<'a>) -> Option<Block<'a>> {
    let (template_id, length) = (reader.u16().ok()?, reader.u16().ok()?);
    let records = reader.take(usize::from(length).checked_sub(4)?).ok()?;
    Some(Block { template_id, records })
}

/// Takes a field's value, after its length where that varies.
pub(super) fn next_value<'a>(reader: &mut Reader<'a>, length: u16) -> Option<&'a [u8]> {
    if length != VARIABLE_LENGTH {
        return reader.take(usize::from(length)).ok();
    }
    let (value, after) = split_variable(reader.rest())?;
    *reader = Reader::new(after);
    Some(value)
}

/// May values or records of that size at least be counted by their octets?
fn has_octets(fields: &[FieldSpecifier]) -> bool {
    fields.iter().any(|field| field.size_min() > 0)
}

/// The list that an element is, if it is one.
pub(super) fn element_list(field: &FieldSpecifier) -> Option<ElementType> {
    let element_type = ie::element_type(field.enterprise, field.id);
    element_type.is_list().then_some(element_type)
}

fn as_list<'a>(field: &FieldSpecifier, octets: &'a [u8]) -> Option<List<'a>> {
    element_list(field).map(|element_type| List { element_type, octets, templates: &[] })
}

/// `Ok(None)`: these octets are no list.
fn read_at<'a, 't>(
    list: List<'a>,
    lookup: &dyn Fn(u16) -> Option<&'t [FieldSpecifier]>,
    budget: &mut Budget,
    depth: usize,
) -> Result<Option<ListContent<'a>>, OverLimit> {
    let Some((semantic, parts)) = parts(list) else { return Ok(None) };
    let items = match parts {
        Parts::Values { element, content } => read_values(element, content, lookup, budget, depth)?
            .map(|values| Items::Values { element, values }),
        Parts::Block(block) => read_block(&block, lookup, budget, depth)?.map(Items::Records),
        Parts::Blocks(mut reader) => {
            let mut entries = Vec::new();
            while !reader.is_empty() {
                let Some(block) = next_block(&mut reader) else { return Ok(None) };
                budget.spend()?;
                match read_block(&block, lookup, budget, depth)? {
                    Some(mut records) => entries.append(&mut records),
                    None => entries.push(Entry::Octets(block.records)),
                }
            }
            Some(Items::Records(entries))
        }
    };
    Ok(items.map(|items| ListContent { semantic, items }))
}

fn read_values<'a, 't>(
    element: FieldSpecifier,
    content: &'a [u8],
    lookup: &dyn Fn(u16) -> Option<&'t [FieldSpecifier]>,
    budget: &mut Budget,
    depth: usize,
) -> Result<Option<Vec<Item<'a>>>, OverLimit> {
    let mut reader = Reader::new(content);
    let mut values = Vec::new();
    if !reader.is_empty() && !has_octets(&[element]) {
        return Ok(None);
    }
    while !reader.is_empty() {
        let Some(octets) = next_value(&mut reader, element.length) else { return Ok(None) };
        values.push(read_item(&element, octets, lookup, budget, depth)?);
    }
    Ok(Some(values))
}

fn read_block<'a, 't>(
    block: &Block<'a>,
    lookup: &dyn Fn(u16) -> Option<&'t [FieldSpecifier]>,
    budget: &mut Budget,
    depth: usize,
) -> Result<Option<Vec<Entry<'a>>>, OverLimit> {
    let mut reader = Reader::new(block.records);
    let mut entries = Vec::new();
    if reader.is_empty() {
        return Ok(Some(entries));
    }
    let Some(fields) = lookup(block.template_id).filter(|fields| has_octets(fields)) else {
        return Ok(None);
    };
    while !reader.is_empty() {
        budget.spend()?;
        let mut record = Vec::with_capacity(fields.len());
        for field in fields {
            let Some(octets) = next_value(&mut reader, field.length) else { return Ok(None) };
            record.push((*field, read_item(field, octets, lookup, budget, depth)?));
        }
        entries.push(Entry::Record(record));
    }
    Ok(Some(entries))
}

fn read_item<'a, 't>(
    field: &FieldSpecifier,
    octets: &'a [u8],
    lookup: &dyn Fn(u16) -> Option<&'t [FieldSpecifier]>,
    budget: &mut Budget,
    depth: usize,
) -> Result<Item<'a>, OverLimit> {
    budget.spend()?;
    if depth >= LIST_DEPTH_MAX {
        return Ok(Item::Octets(octets));
    }
    let Some(list) = as_list(field, octets) else { return Ok(Item::Octets(octets)) };
    let content = read_at(list, lookup, budget, depth.saturating_add(1))?;
    Ok(content.map_or(Item::Octets(octets), Item::List))
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
