//! Templates, whichever protocol carries them, and what their records may be.

use super::{Dialect, FieldSpecifier, TemplateId, WireError, Writer};
use crate::model::ie;

/// Fields that a template may have here. The formats allow 16,000 in a full datagram; the
/// richest exporters known send about a hundred.
pub const FIELD_COUNT_MAX: usize = 1_024;

/// The layout of data records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TemplateRecord {
    /// Its number.
    pub id: TemplateId,
    /// Its fields in the order of the record.
    pub fields: Vec<FieldSpecifier>,
}

impl TemplateRecord {
    /// Octets on the wire of a protocol.
    #[must_use]
    pub fn size_in<D: Dialect>(&self) -> usize {
        fields_size::<D>(&self.fields).saturating_add(4)
    }

    pub(super) fn encode<D: Dialect>(&self, writer: &mut Writer) {
        writer.u16(self.id.get());
        writer.u16(number(self.fields.len()));
        for field in &self.fields {
            D::encode_specifier(*field, writer);
        }
    }
}

/// The layout of records about the exporter itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OptionsTemplateRecord {
    /// Its number.
    pub id: TemplateId,
    /// What the record is about: Information Elements, or in NetFlow v9 scope types of
    /// enterprise [`PEN_V9_SCOPE`](ie::PEN_V9_SCOPE).
    pub scopes: Vec<FieldSpecifier>,
    /// What it says of that.
    pub options: Vec<FieldSpecifier>,
}

impl OptionsTemplateRecord {
    /// Octets on the wire of a protocol, without padding.
    #[must_use]
    pub fn size_in<D: Dialect>(&self) -> usize {
        fields_size::<D>(&self.scopes)
            .saturating_add(fields_size::<D>(&self.options))
            .saturating_add(6)
    }

    pub(super) fn encode<D: Dialect>(&self, writer: &mut Writer) {
        writer.u16(self.id.get());
        D::encode_option_counts(self, writer);
        for field in self.fields() {
            D::encode_specifier(field, writer);
        }
    }

    /// Scopes, then options, as they stand in a record.
    pub fn fields(&self) -> impl Iterator<Item = FieldSpecifier> {
        self.scopes.iter().chain(&self.options).copied()
    }
}

/// What a Template Set says of one template, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateChange {
    /// The layout of data records.
    Data(TemplateRecord),
    /// The layout of records about the exporter.
    Options(OptionsTemplateRecord),
    /// Templates that are no longer in use (RFC 7011 section 8.1).
    Withdrawal(Withdrawal),
}

/// Which templates are no longer in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// The one with this number.
    One(TemplateId),
    /// All of data records.
    AllData,
    /// All of options.
    AllOptions,
}

fn fields_size<D: Dialect>(fields: &[FieldSpecifier]) -> usize {
    fields.iter().fold(0, |size: usize, field| size.saturating_add(D::specifier_size(*field)))
}

/// A count of fields, or of the octets of their specifiers, as it is sent.
pub(super) fn number(count: usize) -> u16 {
    u16::try_from(count).expect("limited by FIELD_COUNT_MAX")
}

/// Does the specifier bear an enterprise number on the wire?
pub(super) const fn has_enterprise(field: FieldSpecifier) -> bool {
    field.enterprise != 0 && !ie::is_own_element(field.enterprise, field.id)
}

/// Does the error hide where the next record begins?
pub(super) const fn ends_the_set(error: WireError) -> bool {
    matches!(error, WireError::Truncated { .. } | WireError::ReservedTemplateId(_))
}

pub(super) const fn check_count(id: TemplateId, count: usize) -> Result<(), WireError> {
    if count > FIELD_COUNT_MAX {
        return Err(WireError::FieldCount { id, count, max: FIELD_COUNT_MAX });
    }
    Ok(())
}

/// Records must have octets: else any set held endlessly many.
pub(super) fn check_record_size<'a>(
    id: TemplateId,
    fields: impl IntoIterator<Item = &'a FieldSpecifier>,
) -> Result<(), WireError> {
    if fields.into_iter().all(|field| field.length == 0) {
        return Err(WireError::EmptyRecord(id));
    }
    Ok(())
}
