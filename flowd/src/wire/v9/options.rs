//! Options Template FlowSet (RFC 3954 section 6.1).

use super::template::{
    check_count, check_record_size, decode_fields, encode_fields, ends_the_set, next_id,
};
use crate::model::ie::PEN_V9_SCOPE;
use crate::wire::{FieldSpecifier, Reader, TemplateId, WireError, Writer};

/// The layout of records about the exporter itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OptionsTemplateRecord {
    /// Its number.
    pub id: TemplateId,
    /// What the record is about: scope types, of enterprise [`PEN_V9_SCOPE`].
    pub scopes: Vec<FieldSpecifier>,
    /// What it says of that.
    pub options: Vec<FieldSpecifier>,
}

impl OptionsTemplateRecord {
    /// Octets on the wire, without padding.
    #[must_use]
    pub fn size(&self) -> usize {
        self.scopes.len().saturating_add(self.options.len()).saturating_mul(4).saturating_add(6)
    }

    /// Scopes, then options, as they stand in a record.
    pub fn fields(&self) -> impl Iterator<Item = FieldSpecifier> {
        self.scopes.iter().chain(&self.options).copied()
    }

    /// Appends the record.
    pub fn encode(&self, writer: &mut Writer) {
        let Self { id, scopes, options } = self;
        writer.u16(id.get());
        for fields in [scopes, options] {
            let length = u16::try_from(fields.len().saturating_mul(4));
            writer.u16(length.expect("limited by FIELD_COUNT_MAX"));
        }
        encode_fields(scopes, writer);
        encode_fields(options, writer);
    }
}

/// The records of an Options Template FlowSet, as
/// [`TemplateRecords`](super::TemplateRecords) reads those of a Template FlowSet.
#[derive(Clone, Debug)]
pub struct OptionsTemplateRecords<'a> {
    reader: Reader<'a>,
}

impl<'a> OptionsTemplateRecords<'a> {
    pub(super) const fn new(reader: Reader<'a>) -> Self {
        Self { reader }
    }

    fn record(&mut self, raw_id: u16) -> Result<OptionsTemplateRecord, WireError> {
        let id = TemplateId::new(raw_id).ok_or(WireError::ReservedTemplateId(raw_id))?;
        let scope_size = usize::from(self.reader.u16()?);
        let option_size = usize::from(self.reader.u16()?);
        let mut specifiers = self.reader.sub(scope_size.saturating_add(option_size))?;
        if !scope_size.is_multiple_of(4) || !option_size.is_multiple_of(4) {
            return Err(WireError::OptionLengths(id));
        }
        check_count(id, specifiers.left() / 4)?;
        let scopes = decode_fields(&mut specifiers.sub(scope_size)?, PEN_V9_SCOPE)?;
        let options = decode_fields(&mut specifiers, 0)?;
        if scopes.iter().all(|scope| scope.length == 0) {
            check_record_size(id, &options)?;
        }
        Ok(OptionsTemplateRecord { id, scopes, options })
    }
}

impl Iterator for OptionsTemplateRecords<'_> {
    type Item = Result<OptionsTemplateRecord, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let raw_id = next_id(&mut self.reader, 6)?;
        let record = self.record(raw_id);
        if record.as_ref().is_err_and(|error| ends_the_set(*error)) {
            self.reader = Reader::new(&[]);
        }
        Some(record)
    }
}
