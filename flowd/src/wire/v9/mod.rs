//! wire::v9: NetFlow version 9 (RFC 3954). Decoding and encoding of each part stand in one file.
//!
//! ```text
//! Message = Header, Set..
//! Set     = Template.. (id 0) | OptionsTemplate.. (id 1) | data (id = template's)
//! ```
//!
//! The header's count is written right and never trusted: exporters count records, FlowSets or
//! nothing. A set's length is what bounds it.

mod header;
mod template;
#[cfg(test)]
mod tests;

pub use header::Header;

use super::{
    Dialect, FieldSpecifier, OptionsTemplateRecord, Reader, TemplateChange, WireError, Writer,
};

/// The version word.
pub const VERSION: u16 = 9;

/// NetFlow version 9.
#[derive(Clone, Copy, Debug)]
pub struct V9;

/// One FlowSet.
pub type Set<'a> = super::Set<'a, V9>;
/// The FlowSets of a packet.
pub type Sets<'a> = super::Sets<'a, V9>;
/// A packet that is being written.
pub type MessageEncoder = super::MessageEncoder<V9>;

/// A packet that was received.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// What it says of itself.
    pub header: Header,
    /// What it carries.
    pub sets: Sets<'a>,
}

impl<'a> Message<'a> {
    /// Reads the header; the sets are read as they are asked for.
    ///
    /// # Errors
    /// If the header is cut short or of another version.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(datagram);
        Ok(Self { header: Header::decode(&mut reader)?, sets: Sets::new(reader) })
    }
}

impl Dialect for V9 {
    type Header = Header;
    const HEADER_SIZE: usize = Header::SIZE;
    const TEMPLATE_SET_ID: u16 = 0;
    const OPTIONS_TEMPLATE_SET_ID: u16 = 1;
    const OPTIONS_TEMPLATE_SIZE_MIN: usize = 6;

    fn decode_template(raw_id: u16, reader: &mut Reader<'_>) -> Result<TemplateChange, WireError> {
        template::decode_template(raw_id, reader)
    }

    fn decode_options_template(
        raw_id: u16,
        reader: &mut Reader<'_>,
    ) -> Result<TemplateChange, WireError> {
        template::decode_options_template(raw_id, reader)
    }

    fn specifier_size(_field: FieldSpecifier) -> usize {
        4
    }

    fn encode_specifier(field: FieldSpecifier, writer: &mut Writer) {
        template::encode_specifier(field, writer);
    }

    fn encode_option_counts(record: &OptionsTemplateRecord, writer: &mut Writer) {
        template::encode_option_counts(record, writer);
    }

    fn encode_header(header: Header, count: u16, _size: usize, writer: &mut Writer) {
        writer.bytes(&Header { count, ..header }.encode());
    }
}
