//! FlowSets of a packet, and the data ones among them (RFC 3954 section 5.3).

use super::{OptionsTemplateRecords, TemplateRecords};
use crate::wire::{Reader, TemplateId, WireError};

const TEMPLATE_SET_ID: u16 = 0;
const OPTIONS_TEMPLATE_SET_ID: u16 = 1;
/// Octets of a FlowSet's id and length.
pub(super) const SET_HEADER_SIZE: usize = 4;

/// Octets that only a template explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSet<'a> {
    /// Which template.
    pub template_id: TemplateId,
    /// Its records one after another, and less than a record of padding.
    pub body: &'a [u8],
}

/// One FlowSet.
#[derive(Clone, Debug)]
pub enum Set<'a> {
    /// Layouts of data records.
    Templates(TemplateRecords<'a>),
    /// Layouts of records about the exporter.
    OptionsTemplates(OptionsTemplateRecords<'a>),
    /// Records.
    Data(DataSet<'a>),
    /// An id between 2 and 255, which RFC 3954 gives no meaning.
    Unknown(u16),
}

/// The FlowSets of a packet, up to its end, to zero fill, or to damage.
#[derive(Clone, Debug)]
pub struct Sets<'a> {
    reader: Reader<'a>,
}

impl<'a> Sets<'a> {
    pub(super) const fn new(reader: Reader<'a>) -> Self {
        Self { reader }
    }

    fn set(&mut self) -> Result<Option<Set<'a>>, WireError> {
        let left = self.reader.left();
        let (id, length) = (self.reader.u16()?, self.reader.u16()?);
        // Some exporters fill the packet up with zeros.
        if (id, length) == (0, 0) {
            return Ok(None);
        }
        let body = usize::from(length)
            .checked_sub(SET_HEADER_SIZE)
            .and_then(|size| self.reader.sub(size).ok())
            .ok_or(WireError::SetLength { length, left })?;
        Ok(Some(match id {
            TEMPLATE_SET_ID => Set::Templates(TemplateRecords::new(body)),
            OPTIONS_TEMPLATE_SET_ID => Set::OptionsTemplates(OptionsTemplateRecords::new(body)),
            _ => match TemplateId::new(id) {
                Some(template_id) => Set::Data(DataSet { template_id, body: body.rest() }),
                None => Set::Unknown(id),
            },
        }))
    }
}

impl<'a> Iterator for Sets<'a> {
    type Item = Result<Set<'a>, WireError>;

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
