//! A message that is being written, in either protocol that has templates.

use super::set::{Dialect, SET_HEADER_SIZE};
use super::{LengthSlot, OptionsTemplateRecord, TemplateId, TemplateRecord, Writer};
use std::marker::PhantomData;

/// A message that is being written. Records that follow one another and have the same template
/// share a set; every set is padded to a multiple of 4 octets.
#[derive(Debug)]
pub struct MessageEncoder<D> {
    writer: Writer,
    size_max: usize,
    count: u16,
    open: Option<OpenSet>,
    dialect: PhantomData<D>,
}

/// The set that the next record may join.
#[derive(Debug)]
struct OpenSet {
    id: u16,
    start: usize,
    length: LengthSlot,
    /// Least octets of a record: padding must stay below it, else it reads as a record.
    record_size: usize,
}

impl<D: Dialect> MessageEncoder<D> {
    /// An empty message that will have at most `size_max` octets.
    #[must_use]
    pub fn new(size_max: usize) -> Self {
        let size_max = size_max.clamp(D::HEADER_SIZE, usize::from(u16::MAX));
        let mut encoder = Self {
            writer: Writer::with_capacity(size_max),
            // A multiple of 4, so that padding never leads past it.
            size_max: size_max & !3,
            count: 0,
            open: None,
            dialect: PhantomData,
        };
        encoder.clear();
        encoder
    }

    /// Forgets all records.
    pub fn clear(&mut self) {
        self.writer.clear();
        self.writer.zeros(D::HEADER_SIZE);
        self.count = 0;
        self.open = None;
    }

    /// Has it no record yet?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records in it, of all kinds.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Octets so far, without the padding of the last set.
    #[must_use]
    pub fn size(&self) -> usize {
        self.writer.len()
    }

    /// Adds a template; false if there is no room for it.
    pub fn template(&mut self, record: &TemplateRecord) -> bool {
        self.record(D::TEMPLATE_SET_ID, record.size_in::<D>(), |writer| record.encode::<D>(writer))
    }

    /// Adds an options template; false if there is no room for it. Each has a set of its own:
    /// nfcapd reads only the first of a set.
    pub fn options_template(&mut self, record: &OptionsTemplateRecord) -> bool {
        self.close_set();
        self.record(D::OPTIONS_TEMPLATE_SET_ID, record.size_in::<D>(), |writer| {
            record.encode::<D>(writer);
        })
    }

    /// Adds a data record of `size` octets that `write` writes; false if there is no room.
    pub fn data(
        &mut self,
        template_id: TemplateId,
        size: usize,
        write: impl FnOnce(&mut Writer),
    ) -> bool {
        self.record(template_id.get(), size, write)
    }

    /// Is there room for a record of `size` octets in the set `id`?
    fn has_room(&self, id: u16, size: usize) -> bool {
        let set_overhead = match &self.open {
            Some(open) if open.id == id => 0,
            open => open
                .as_ref()
                .map_or(0, |open| padding(self.writer.len(), open))
                .saturating_add(SET_HEADER_SIZE),
        };
        let size_after = self.writer.len().saturating_add(set_overhead).saturating_add(size);
        size_after <= self.size_max && self.count < u16::MAX
    }

    fn record(&mut self, id: u16, size: usize, write: impl FnOnce(&mut Writer)) -> bool {
        if !self.has_room(id, size) {
            return false;
        }
        if self.open.as_ref().is_none_or(|open| open.id != id) {
            self.close_set();
            let start = self.writer.len();
            self.writer.u16(id);
            let length = self.writer.length_slot();
            self.open = Some(OpenSet { id, start, length, record_size: size });
        }
        let before = self.writer.len();
        write(&mut self.writer);
        assert_eq!(
            self.writer.len().saturating_sub(before),
            size,
            "a record has the size that was announced"
        );
        self.count = self.count.saturating_add(1);
        true
    }

    fn close_set(&mut self) {
        if let Some(open) = self.open.take() {
            self.writer.zeros(padding(self.writer.len(), &open));
            self.writer.fix(open.length, open.start);
        }
    }

    /// The message's octets, under a header whose count or length is put right.
    pub fn finish(&mut self, header: D::Header) -> &[u8] {
        self.close_set();
        let mut octets = Writer::with_capacity(D::HEADER_SIZE);
        D::encode_header(header, self.count, self.writer.len(), &mut octets);
        self.writer.overwrite(0, octets.as_bytes());
        self.writer.as_bytes()
    }
}

/// Octets that fill a set up to a multiple of 4 (RFC 3954 section 5.3), if they cannot be
/// taken for a record.
fn padding(size: usize, open: &OpenSet) -> usize {
    let padding = size.wrapping_neg() & 3;
    if padding < open.record_size { padding } else { 0 }
}
