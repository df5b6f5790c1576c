//! JSON: one object a line, keys in the order of the row.

use super::escape::is_unsafe;
use super::list::write_list;
use crate::model::Value;
use crate::model::time::UnixMillis;
use std::io::{self, Write};

/// Writes a row and ends the line.
pub(super) fn write_row(row: &[(&str, Value<'_>)], writer: &mut impl Write) -> io::Result<()> {
    write_object(row, writer)?;
    writer.write_all(b"\n")
}

/// Writes a row as an object.
pub(super) fn write_object(row: &[(&str, Value<'_>)], writer: &mut impl Write) -> io::Result<()> {
    let mut joint: &[u8] = b"{";
    for (name, value) in row {
        writer.write_all(joint)?;
        write_string(name, writer)?;
        writer.write_all(b":")?;
        write_value(*value, writer)?;
        joint = b",";
    }
    writer.write_all(if row.is_empty() { b"{}" } else { b"}" })
}

pub(super) fn write_value(value: Value<'_>, writer: &mut impl Write) -> io::Result<()> {
    match value {
        // JSON has no word for what is not a number, nor for the infinite.
        Value::Float(number) if !number.is_finite() => writer.write_all(b"null"),
        Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) | Value::Boolean(_) => {
            write!(writer, "{value}")
        }
        Value::Millis(millis) if !UnixMillis(millis).is_writable() => write!(writer, "{millis}"),
        Value::Text(text) => write_string(text, writer),
        Value::BrokenText(octets) => write_string(&String::from_utf8_lossy(octets), writer),
        Value::List(list) => write_list(list, writer),
        Value::Address(_) | Value::Mac(_) | Value::Octets(_) | Value::Millis(_) => {
            write!(writer, "\"{value}\"")
        }
    }
}

/// Writes a string. Beyond what RFC 8259 section 7 asks for, whatever a terminal would act on is
/// escaped too.
pub(super) fn write_string(text: &str, writer: &mut impl Write) -> io::Result<()> {
    writer.write_all(b"\"")?;
    let mut rest = text;
    while let Some(at) = rest.find(|letter| matches!(letter, '"' | '\\') || is_unsafe(letter)) {
        let (plain, from) = rest.split_at(at);
        writer.write_all(plain.as_bytes())?;
        let mut letters = from.chars();
        match letters.next() {
            Some('"') => writer.write_all(b"\\\"")?,
            Some('\\') => writer.write_all(b"\\\\")?,
            Some('\n') => writer.write_all(b"\\n")?,
            Some('\r') => writer.write_all(b"\\r")?,
            Some('\t') => writer.write_all(b"\\t")?,
            // All of these lie below U+10000, so that one escape is enough.
            Some(letter) => write!(writer, "\\u{:04x}", u32::from(letter))?,
            None => {}
        }
        rest = letters.as_str();
    }
    writer.write_all(rest.as_bytes())?;
    writer.write_all(b"\"")
}
