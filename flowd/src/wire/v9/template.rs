//! Template FlowSet (RFC 3954 section 5.2).

use super::FIELD_COUNT_MAX;
use crate::wire::{FieldSpecifier, Reader, TemplateId, WireError, Writer};

/// The layout of data records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TemplateRecord {
    /// Its number.
    pub id: TemplateId,
    /// Its fields in the order of the record.
    pub fields: Vec<FieldSpecifier>,
}

impl TemplateRecord {
    /// Octets on the wire.
    #[must_use]
    pub fn size(&self) -> usize {
        self.fields.len().saturating_mul(4).saturating_add(4)
    }

    /// Appends the record.
    pub fn encode(&self, writer: &mut Writer) {
        let Self { id, fields } = self;
        writer.u16(id.get());
        writer.u16(u16::try_from(fields.len()).expect("limited by FIELD_COUNT_MAX"));
        encode_fields(fields, writer);
    }
}

/// The records of a Template FlowSet. After damage that hides where the next record begins it
/// ends; a record that is only not acceptable is passed over.
#[derive(Clone, Debug)]
pub struct TemplateRecords<'a> {
    reader: Reader<'a>,
}

impl<'a> TemplateRecords<'a> {
    pub(super) const fn new(reader: Reader<'a>) -> Self {
        Self { reader }
    }

    fn record(&mut self, raw_id: u16) -> Result<TemplateRecord, WireError> {
        let id = TemplateId::new(raw_id).ok_or(WireError::ReservedTemplateId(raw_id))?;
        let count = usize::from(self.reader.u16()?);
        let mut specifiers = self.reader.sub(count.saturating_mul(4))?;
        check_count(id, count)?;
        let fields = decode_fields(&mut specifiers, 0)?;
        check_record_size(id, &fields)?;
        Ok(TemplateRecord { id, fields })
    }
}

impl Iterator for TemplateRecords<'_> {
    type Item = Result<TemplateRecord, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let raw_id = next_id(&mut self.reader, 4)?;
        let record = self.record(raw_id);
        if record.as_ref().is_err_and(|error| ends_the_set(*error)) {
            self.reader = Reader::new(&[]);
        }
        Some(record)
    }
}

/// The number that the next record begins with; none at the set's end. Fewer octets than a
/// record needs, or a number 0, are padding.
pub(super) fn next_id(reader: &mut Reader<'_>, record_size_min: usize) -> Option<u16> {
    if reader.left() < record_size_min {
        return None;
    }
    reader.u16().ok().filter(|&raw_id| raw_id != 0)
}

/// Does the error hide where the next record begins?
pub(super) const fn ends_the_set(error: WireError) -> bool {
    matches!(error, WireError::Truncated { .. } | WireError::ReservedTemplateId(_))
}

pub(super) fn decode_fields(
    reader: &mut Reader<'_>,
    enterprise: u32,
) -> Result<Vec<FieldSpecifier>, WireError> {
    let mut fields = Vec::with_capacity(reader.left() / 4);
    while !reader.is_empty() {
        fields.push(FieldSpecifier { enterprise, id: reader.u16()?, length: reader.u16()? });
    }
    Ok(fields)
}

pub(super) fn encode_fields(fields: &[FieldSpecifier], writer: &mut Writer) {
    for field in fields {
        // The number alone: NetFlow v9 has no place for an enterprise.
        writer.u16(field.id);
        writer.u16(field.length);
    }
}

pub(super) const fn check_count(id: TemplateId, count: usize) -> Result<(), WireError> {
    if count > FIELD_COUNT_MAX {
        return Err(WireError::FieldCount { id, count, max: FIELD_COUNT_MAX });
    }
    Ok(())
}

pub(super) fn check_record_size(
    id: TemplateId,
    fields: &[FieldSpecifier],
) -> Result<(), WireError> {
    if fields.iter().all(|field| field.length == 0) {
        return Err(WireError::EmptyRecord(id));
    }
    Ok(())
}
