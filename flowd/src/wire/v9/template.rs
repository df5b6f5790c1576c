//! Template and Options Template FlowSets (RFC 3954 sections 5.2 and 6.1).

use crate::model::ie::PEN_V9_SCOPE;
use crate::wire::template::{check_count, check_record_size, number};
use crate::wire::{
    FieldSpecifier, OptionsTemplateRecord, Reader, TemplateChange, TemplateId, TemplateRecord,
    WireError, Writer,
};

pub(super) fn decode_template(
    raw_id: u16,
    reader: &mut Reader<'_>,
) -> Result<TemplateChange, WireError> {
    let id = TemplateId::new(raw_id).ok_or(WireError::ReservedTemplateId(raw_id))?;
    let count = usize::from(reader.u16()?);
    let mut specifiers = reader.sub(count.saturating_mul(4))?;
    check_count(id, count)?;
    let fields = decode_fields(&mut specifiers, 0)?;
    check_record_size(id, &fields)?;
    Ok(TemplateChange::Data(TemplateRecord { id, fields }))
}

pub(super) fn decode_options_template(
    raw_id: u16,
    reader: &mut Reader<'_>,
) -> Result<TemplateChange, WireError> {
    let id = TemplateId::new(raw_id).ok_or(WireError::ReservedTemplateId(raw_id))?;
    let scope_size = usize::from(reader.u16()?);
    let option_size = usize::from(reader.u16()?);
    let mut specifiers = reader.sub(scope_size.saturating_add(option_size))?;
    if !scope_size.is_multiple_of(4) || !option_size.is_multiple_of(4) {
        return Err(WireError::OptionLengths(id));
    }
    check_count(id, specifiers.left() / 4)?;
    let scopes = decode_fields(&mut specifiers.sub(scope_size)?, PEN_V9_SCOPE)?;
    let options = decode_fields(&mut specifiers, 0)?;
    check_record_size(id, scopes.iter().chain(&options))?;
    Ok(TemplateChange::Options(OptionsTemplateRecord { id, scopes, options }))
}

/// In octets, not fields (RFC 3954 section 6.1).
pub(super) fn encode_option_counts(record: &OptionsTemplateRecord, writer: &mut Writer) {
    let OptionsTemplateRecord { id: _, scopes, options } = record;
    for fields in [scopes, options] {
        writer.u16(number(fields.len().saturating_mul(4)));
    }
}

fn decode_fields(
    reader: &mut Reader<'_>,
    enterprise: u32,
) -> Result<Vec<FieldSpecifier>, WireError> {
    let mut fields = Vec::with_capacity(reader.left() / 4);
    while !reader.is_empty() {
        fields.push(FieldSpecifier { enterprise, id: reader.u16()?, length: reader.u16()? });
    }
    Ok(fields)
}

/// The number alone: NetFlow v9 has no place for an enterprise.
pub(super) fn encode_specifier(field: FieldSpecifier, writer: &mut Writer) {
    writer.u16(field.id);
    writer.u16(field.length);
}
