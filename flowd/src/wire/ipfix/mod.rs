//! wire::ipfix: IP Flow Information Export (RFC 7011), protocol version 10.
//!
//! ```text
//! Message = Header, Set..
//! Set     = Template.. (id 2) | OptionsTemplate.. (id 3) | data (id = template's)
//! ```

mod header;
pub mod list;
pub mod list_templates;
mod template;
#[cfg(test)]
mod tests;

pub use header::Header;

use super::template::has_enterprise;
use super::{
    Dialect, FieldSpecifier, OptionsTemplateRecord, Reader, TemplateChange, WireError, Writer,
};

/// The version word.
pub const VERSION: u16 = 10;

/// IPFIX.
#[derive(Clone, Copy, Debug)]
pub struct Ipfix;

/// One Set.
pub type Set<'a> = super::Set<'a, Ipfix>;
/// The Sets of a Message.
pub type Sets<'a> = super::Sets<'a, Ipfix>;
/// A Message that is being written.
pub type MessageEncoder = super::MessageEncoder<Ipfix>;

/// A Message that was received.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// What it says of itself.
    pub header: Header,
    /// What it carries.
    pub sets: Sets<'a>,
    /// What stands behind it: nothing, unless more than one Message shares a datagram.
    pub after: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the header; the sets are read as they are asked for. Of a Message that says it is
    /// longer than the octets that are there, those are read; its last set then shows the damage.
    ///
    /// # Errors
    /// If the header is cut short, of another version, or its length does not cover itself.
    pub fn decode(octets: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(octets);
        let header = Header::decode(&mut reader)?;
        let size = usize::from(header.length).checked_sub(Header::SIZE);
        let size = size.ok_or(WireError::MessageLength(header.length))?;
        let body = reader.sub(size.min(reader.left()))?;
        Ok(Self { header, sets: Sets::new(body), after: reader.rest() })
    }
}

impl Dialect for Ipfix {
    type Header = Header;
    const HEADER_SIZE: usize = Header::SIZE;
    const TEMPLATE_SET_ID: u16 = 2;
    const OPTIONS_TEMPLATE_SET_ID: u16 = 3;
    // A withdrawal has no more than its number and a count of 0 (RFC 7011 section 8.1).
    const OPTIONS_TEMPLATE_SIZE_MIN: usize = 4;

    fn decode_template(raw_id: u16, reader: &mut Reader<'_>) -> Result<TemplateChange, WireError> {
        template::decode_template(raw_id, reader)
    }

    fn decode_options_template(
        raw_id: u16,
        reader: &mut Reader<'_>,
    ) -> Result<TemplateChange, WireError> {
        template::decode_options_template(raw_id, reader)
    }

    /// Those of an enterprise take 4 octets more (RFC 7011 section 3.2).
    fn specifier_size(field: FieldSpecifier) -> usize {
        if has_enterprise(field) { 8 } else { 4 }
    }

    fn encode_specifier(field: FieldSpecifier, writer: &mut Writer) {
        template::encode_specifier(field, writer);
    }

    fn encode_option_counts(record: &OptionsTemplateRecord, writer: &mut Writer) {
        template::encode_option_counts(record, writer);
    }

    fn encode_header(header: Header, _count: u16, size: usize, writer: &mut Writer) {
        let length = u16::try_from(size).expect("a message is bounded by its encoder");
        writer.bytes(&Header { length, ..header }.encode());
    }
}
