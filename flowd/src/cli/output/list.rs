//! Lists in JSON (RFC 6313): an object with the list's semantic and its values or records.
//! What cannot be read is shown as its octets, in its place.

use super::json::{write_string, write_value};
use crate::model::{List, TcpControlBits, Value, element_value, ie};
use crate::wire::FieldSpecifier;
use crate::wire::ipfix::list::{Entry, Item, Items, ListContent, SubTemplates, read};
use hashbrown::HashMap;
use std::io::{self, Write};

/// Writes a list: `{"semantic":"allOf","NAME":[..]}` of values,
/// `{"semantic":"allOf","records":[{..},..]}` of records.
pub(super) fn write_list(list: List<'_>, writer: &mut impl Write) -> io::Result<()> {
    match read(list, &SubTemplates::read(list.templates)) {
        Some(content) => write_content(&content, writer),
        None => write_value(Value::Octets(list.octets), writer),
    }
}

fn write_content(content: &ListContent<'_>, writer: &mut impl Write) -> io::Result<()> {
    write!(writer, "{{\"semantic\":\"{}\",", content.semantic)?;
    match &content.items {
        Items::Values { element, values } => {
            write_string(&ie::display_name(element.enterprise, element.id), writer)?;
            writer.write_all(b":")?;
            write_array(values, writer, |value, writer| write_item(element, value, writer))?;
        }
        Items::Records(entries) => {
            writer.write_all(b"\"records\":")?;
            write_array(entries, writer, |entry, writer| match entry {
                Entry::Record(fields) => write_record(fields, writer),
                Entry::Octets(octets) => write_value(Value::Octets(octets), writer),
            })?;
        }
    }
    writer.write_all(b"}")
}

fn write_array<T, W: Write>(
    items: &[T],
    writer: &mut W,
    write: impl Fn(&T, &mut W) -> io::Result<()>,
) -> io::Result<()> {
    let mut joint: &[u8] = b"[";
    for item in items {
        writer.write_all(joint)?;
        write(item, writer)?;
        joint = b",";
    }
    writer.write_all(if items.is_empty() { b"[]" } else { b"]" })
}

/// The first element of a name comes under it, the next as `name#2`, and so on.
fn write_record(fields: &[(FieldSpecifier, Item<'_>)], writer: &mut impl Write) -> io::Result<()> {
    let mut counts: HashMap<(u32, u16), usize> = HashMap::with_capacity(fields.len());
    let mut joint: &[u8] = b"{";
    for (field, value) in fields {
        writer.write_all(joint)?;
        let count = counts.entry((field.enterprise, field.id)).or_insert(0);
        *count += 1;
        let mut name = ie::display_name(field.enterprise, field.id);
        if *count > 1 {
            name = format!("{name}#{count}");
        }
        write_string(&name, writer)?;
        writer.write_all(b":")?;
        write_item(field, value, writer)?;
        joint = b",";
    }
    writer.write_all(if fields.is_empty() { b"{}" } else { b"}" })
}

fn write_item(field: &FieldSpecifier, item: &Item<'_>, writer: &mut impl Write) -> io::Result<()> {
    match item {
        Item::List(content) => write_content(content, writer),
        Item::Octets(octets) => {
            let element_type = ie::element_type(field.enterprise, field.id);
            let value = match element_value(element_type, octets) {
                // It could not be read as a list, or lies too deep.
                Value::List(List { octets, .. }) => Value::Octets(octets),
                Value::Unsigned(flags)
                    if matches!((field.enterprise, field.id), (0 | ie::PEN_REVERSE, 6)) =>
                {
                    Value::Unsigned(flags & u64::from(TcpControlBits::MASK))
                }
                other => other,
            };
            write_value(value, writer)
        }
    }
}
