//! Sets of a message (RFC 3954 section 5, RFC 7011 section 3.3): templates, and the data that
//! only a template explains.

use super::template::ends_the_set;
use super::{Reader, TemplateChange, TemplateId, WireError, Writer};
use crate::wire::{FieldSpecifier, OptionsTemplateRecord};
use std::fmt::Debug;
use std::marker::PhantomData;

/// Octets of a set's id and length.
pub(super) const SET_HEADER_SIZE: usize = 4;

/// What the protocols that have templates do each in its own way.
pub trait Dialect: Debug + Clone + Copy {
    /// What stands before the sets.
    type Header: Debug + Clone + Copy;
    /// Octets of the header.
    const HEADER_SIZE: usize;
    /// Id of a set of templates.
    const TEMPLATE_SET_ID: u16;
    /// Id of a set of options templates.
    const OPTIONS_TEMPLATE_SET_ID: u16;
    /// Least octets of an options template: fewer at a set's end are padding.
    const OPTIONS_TEMPLATE_SIZE_MIN: usize;

    /// Reads what follows a template's number in a set of templates.
    ///
    /// # Errors
    /// If it breaks the format or a limit.
    fn decode_template(raw_id: u16, reader: &mut Reader<'_>) -> Result<TemplateChange, WireError>;

    /// Reads what follows a template's number in a set of options templates.
    ///
    /// # Errors
    /// If it breaks the format or a limit.
    fn decode_options_template(
        raw_id: u16,
        reader: &mut Reader<'_>,
    ) -> Result<TemplateChange, WireError>;

    /// Octets of a field specifier.
    fn specifier_size(field: FieldSpecifier) -> usize;

    /// Appends a field specifier.
    fn encode_specifier(field: FieldSpecifier, writer: &mut Writer);

    /// Appends the two numbers by which an options template tells its scopes from its options.
    fn encode_option_counts(record: &OptionsTemplateRecord, writer: &mut Writer);

    /// Puts the header before the sets: `size` octets in all, with `count` records.
    fn encode_header(header: Self::Header, count: u16, size: usize, writer: &mut Writer);
}

/// Octets that only a template explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSet<'a> {
    /// Which template.
    pub template_id: TemplateId,
    /// Its records one after another, and less than a record of padding.
    pub body: &'a [u8],
}

/// One set.
#[derive(Clone, Debug)]
pub enum Set<'a, D> {
    /// Layouts of records.
    Templates(TemplateSet<'a, D>),
    /// Records.
    Data(DataSet<'a>),
    /// An id below 256 that has no meaning.
    Unknown(u16),
}

/// The sets of a message, up to its end, to zero fill, or to damage.
#[derive(Clone, Debug)]
pub struct Sets<'a, D> {
    reader: Reader<'a>,
    dialect: PhantomData<D>,
}

impl<'a, D: Dialect> Sets<'a, D> {
    pub(super) const fn new(reader: Reader<'a>) -> Self {
        Self { reader, dialect: PhantomData }
    }

    fn set(&mut self) -> Result<Option<Set<'a, D>>, WireError> {
        let left = self.reader.left();
        let (id, length) = (self.reader.u16()?, self.reader.u16()?);
        // Some exporters fill the message up with zeros.
        if (id, length) == (0, 0) {
            return Ok(None);
        }
        let body = usize::from(length)
            .checked_sub(SET_HEADER_SIZE)
            .and_then(|size| self.reader.sub(size).ok())
            .ok_or(WireError::SetLength { length, left })?;
        Ok(Some(if id == D::TEMPLATE_SET_ID || id == D::OPTIONS_TEMPLATE_SET_ID {
            let is_options = id == D::OPTIONS_TEMPLATE_SET_ID;
            Set::Templates(TemplateSet { reader: body, is_options, dialect: PhantomData })
        } else {
            match TemplateId::new(id) {
                Some(template_id) => Set::Data(DataSet { template_id, body: body.rest() }),
                None => Set::Unknown(id),
            }
        }))
    }
}

impl<'a, D: Dialect> Iterator for Sets<'a, D> {
    type Item = Result<Set<'a, D>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.reader.rest();
        if rest.len() < SET_HEADER_SIZE && rest.iter().all(|&octet| octet == 0) {
            return None;
        }
        let set = self.set().transpose();
        if !matches!(set, Some(Ok(_))) {
            self.reader = Reader::new(&[]);
        }
        set
    }
}

/// The records of a set of templates. After damage that hides where the next record begins it
/// ends; a record that is only not acceptable is passed over.
#[derive(Clone, Debug)]
pub struct TemplateSet<'a, D> {
    reader: Reader<'a>,
    is_options: bool,
    dialect: PhantomData<D>,
}

impl<D: Dialect> TemplateSet<'_, D> {
    /// The set's id.
    #[must_use]
    pub const fn id(&self) -> u16 {
        if self.is_options { D::OPTIONS_TEMPLATE_SET_ID } else { D::TEMPLATE_SET_ID }
    }
}

impl<D: Dialect> Iterator for TemplateSet<'_, D> {
    type Item = Result<TemplateChange, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let size_min = if self.is_options { D::OPTIONS_TEMPLATE_SIZE_MIN } else { 4 };
        // Fewer octets than a record needs, or a number 0, are padding.
        if self.reader.left() < size_min {
            return None;
        }
        let raw_id = self.reader.u16().ok().filter(|&raw_id| raw_id != 0)?;
        let record = if self.is_options {
            D::decode_options_template(raw_id, &mut self.reader)
        } else {
            D::decode_template(raw_id, &mut self.reader)
        };
        if record.as_ref().is_err_and(|error| ends_the_set(*error)) {
            self.reader = Reader::new(&[]);
        }
        Some(record)
    }
}
