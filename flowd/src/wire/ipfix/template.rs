//! Template and Options Template Records (RFC 7011 section 3.4), and their withdrawals
//! (section 8.1).

use super::Ipfix;
use crate::model::ie;
use crate::wire::template::{check_count, check_record_size, has_enterprise, number};
use crate::wire::{
    Dialect, FieldSpecifier, OptionsTemplateRecord, Reader, TemplateChange, TemplateId,
    TemplateRecord, WireError, Withdrawal, Writer,
};

/// Set in an element number that an enterprise number follows.
const ENTERPRISE_BIT: u16 = 0x8000;

pub(super) fn decode_template(
    raw_id: u16,
    reader: &mut Reader<'_>,
) -> Result<TemplateChange, WireError> {
    let count = usize::from(reader.u16()?);
    // A withdrawal of all is numbered as the set is.
    if raw_id == Ipfix::TEMPLATE_SET_ID && count == 0 {
        return Ok(TemplateChange::Withdrawal(Withdrawal::AllData));
    }
    let id = TemplateId::new(raw_id).ok_or(WireError::ReservedTemplateId(raw_id))?;
    if count == 0 {
        return Ok(TemplateChange::Withdrawal(Withdrawal::One(id)));
    }
    let fields = decode_fields(count, reader)?;
    check_count(id, count)?;
    check_record_size(id, &fields)?;
    Ok(TemplateChange::Data(TemplateRecord { id, fields }))
}

pub(super) fn decode_options_template(
    raw_id: u16,
    reader: &mut Reader<'_>,
) -> Result<TemplateChange, WireError> {
    let count = usize::from(reader.u16()?);
    if raw_id == Ipfix::OPTIONS_TEMPLATE_SET_ID && count == 0 {
        return Ok(TemplateChange::Withdrawal(Withdrawal::AllOptions));
    }
    let id = TemplateId::new(raw_id).ok_or(WireError::ReservedTemplateId(raw_id))?;
    if count == 0 {
        return Ok(TemplateChange::Withdrawal(Withdrawal::One(id)));
    }
    let scope_count = usize::from(reader.u16()?);
    let mut scopes = decode_fields(count, reader)?;
    // RFC 7011 section 3.4.2.2 forbids a scope of no fields; some exporters send it all the same.
    if scope_count > count {
        return Err(WireError::ScopeCount { id, scopes: scope_count, fields: count });
    }
    check_count(id, count)?;
    let options = scopes.split_off(scope_count);
    check_record_size(id, scopes.iter().chain(&options))?;
    Ok(TemplateChange::Options(OptionsTemplateRecord { id, scopes, options }))
}

pub(super) fn encode_option_counts(record: &OptionsTemplateRecord, writer: &mut Writer) {
    let OptionsTemplateRecord { id: _, scopes, options } = record;
    writer.u16(number(scopes.len().saturating_add(options.len())));
    writer.u16(number(scopes.len()));
}

/// Reads `count` specifiers, all of them even where they are too many: the next record begins
/// after the last. A set is no longer than 65,535 octets, which bounds the memory.
fn decode_fields(count: usize, reader: &mut Reader<'_>) -> Result<Vec<FieldSpecifier>, WireError> {
    let mut fields = Vec::with_capacity(count.min(reader.left() / 4));
    for _ in 0..count {
        let (id, length) = (reader.u16()?, reader.u16()?);
        let enterprise = if id & ENTERPRISE_BIT == 0 { 0 } else { reader.u32()? };
        let id = ie::foreign_number(enterprise, id & !ENTERPRISE_BIT);
        fields.push(FieldSpecifier { enterprise, id, length });
    }
    Ok(fields)
}

pub(super) fn encode_specifier(field: FieldSpecifier, writer: &mut Writer) {
    if has_enterprise(field) {
        writer.u16(field.id | ENTERPRISE_BIT);
        writer.u16(field.length);
        writer.u32(field.enterprise);
    } else {
        writer.u16(field.id);
        writer.u16(field.length);
    }
}
