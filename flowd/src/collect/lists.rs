//! Lists in records (RFC 6313): the templates that a list refers to are kept beside it, since
//! they may be others, or forgotten, when the record is read.

use super::plan::Plan;
use super::template_cache::{DomainTemplates, Source};
use crate::model::{ElementType, FlowBatch, List, VARIABLE_LENGTH, split_variable};
use crate::wire::FieldSpecifier;
use crate::wire::ipfix::list_templates::SubTemplateFinder;

/// Octets of templates that one record keeps: a handful of some dozen fields. A sender could
/// otherwise make a few octets of a list cost 64 KiB each.
const SUB_TEMPLATES_SIZE_MAX: usize = 4_096;
/// Octets of templates that the records of one message keep, or that are looked through for
/// them: so many times its own octets, which leaves room for records a quarter as large as the
/// templates of their lists, and some more, for a message may have but one small record.
const MESSAGE_FACTOR: usize = 4;
const MESSAGE_SIZE_MIN: usize = 4 * SUB_TEMPLATES_SIZE_MAX;

/// Whose templates lists are read by.
#[derive(Clone, Copy)]
pub(super) struct ListTemplates<'a> {
    pub(super) domain: &'a DomainTemplates,
    pub(super) source: Source,
}

/// A list that was sent in a field of variable length.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListField {
    pub(super) field: usize,
    pub(super) element_type: ElementType,
}

/// What a worker reads lists with: memory that is used again, and what a message may still cost.
#[derive(Debug, Default)]
pub(super) struct ListMemory {
    finder: SubTemplateFinder,
    definitions: Vec<u8>,
}

impl ListMemory {
    /// A message of so many octets begins.
    pub(super) const fn begin(&mut self, size: usize) {
        self.finder.set_room(MESSAGE_SIZE_MIN);
        self.add(size);
    }

    /// More octets are decoded than the message has: a set that waited. It brings room by its
    /// size alone, since a message can make very many small ones come.
    pub(super) const fn add(&mut self, size: usize) {
        self.finder.add_room(size.saturating_mul(MESSAGE_FACTOR));
    }
}

/// Reads the lists of one set.
pub(super) struct ListReader<'a, 't> {
    memory: &'a mut ListMemory,
    lookup: &'a dyn Fn(u16) -> Option<&'t [FieldSpecifier]>,
}

impl<'a, 't> ListReader<'a, 't> {
    /// Begins a set: its templates are the ones of `lookup`.
    pub(super) fn new(
        memory: &'a mut ListMemory,
        lookup: &'a dyn Fn(u16) -> Option<&'t [FieldSpecifier]>,
    ) -> Self {
        memory.finder.forget_layouts();
        Self { memory, lookup }
    }

    /// Appends the definitions of the templates that the lists of a record refer to, as the last
    /// of its extras; false if there were too many, and not all are kept.
    pub(super) fn append_sub_templates(
        &mut self,
        plan: &Plan,
        record: &[u8],
        offsets: &[usize],
        batch: &mut FlowBatch,
    ) -> bool {
        let ListMemory { finder, definitions } = &mut *self.memory;
        definitions.clear();
        let lists = plan.lists().iter().filter_map(|&ListField { field, element_type }| {
            let octets = value(record, offsets, field)?;
            Some(List { element_type, octets, templates: &[] })
        });
        let is_whole =
            finder.append_definitions(lists, self.lookup, SUB_TEMPLATES_SIZE_MAX, definitions);
        let size = u16::try_from(definitions.len()).expect("SUB_TEMPLATES_SIZE_MAX bounds them");
        let [high, low] = size.to_be_bytes();
        batch.extend_extras(&[255, high, low]);
        batch.extend_extras(definitions);
        is_whole
    }
}

/// The value of a field of variable length.
fn value<'a>(record: &'a [u8], offsets: &[usize], field: usize) -> Option<&'a [u8]> {
    let octets = record.get(*offsets.get(field)?..*offsets.get(field.saturating_add(1))?)?;
    split_variable(octets).map(|(value, _)| value)
}

impl ListField {
    /// The list that a field is, if it is one.
    pub(super) fn of(field: usize, element_type: ElementType, length: u16) -> Option<Self> {
        let is_list = matches!(
            element_type,
            ElementType::BasicList
                | ElementType::SubTemplateList
                | ElementType::SubTemplateMultiList
        );
        (is_list && length == VARIABLE_LENGTH).then_some(Self { field, element_type })
    }
}

#[cfg(test)]
mod tests {
    use crate::collect::tests::Collector;
    use crate::model::ie::PEN_SUB_TEMPLATES;
    use crate::model::{ObservationDomainId, VARIABLE_LENGTH};
    use crate::wire::ipfix::{Header, MessageEncoder};
    use crate::wire::{FieldSpecifier, TemplateId, TemplateRecord};

    fn template(id: u16, fields: &[(u16, u16)]) -> TemplateRecord {
        let field = |&(id, length)| FieldSpecifier { enterprise: 0, id, length };
        TemplateRecord {
            id: TemplateId::new(id).unwrap(),
            fields: fields.iter().map(field).collect(),
        }
    }

    /// Sends a record with a list of template 300, which has so many fields of one octet.
    fn receive(field_count: usize) -> Collector {
        let header = Header {
            length: 0,
            export_seconds: 1_700_000_000,
            sequence_number: 0,
            domain: ObservationDomainId(0),
        };
        let mut encoder = MessageEncoder::new(65_000);
        assert!(encoder.template(&template(300, &vec![(4, 1); field_count])));
        assert!(encoder.template(&template(256, &[(7, 2), (292, VARIABLE_LENGTH)])));
        // allOf, template 300, one record of ones.
        let mut body = vec![0, 80, 255];
        body.extend(u16::try_from(3 + field_count).unwrap().to_be_bytes());
        body.extend([3, 1, 44]);
        body.extend(vec![1; field_count]);
        let id = TemplateId::new(256).unwrap();
        assert!(encoder.data(id, body.len(), |writer| writer.bytes(&body)));
        let mut collector = Collector::new();
        collector.receive(encoder.finish(header));
        collector
    }

    #[test]
    fn the_templates_of_a_list_are_kept_with_its_record() {
        let collector = receive(2);
        let [list, kept] = &collector.records[0].extras[..] else {
            panic!("{:?}", collector.records);
        };
        assert_eq!((list.spec.id, list.value.as_slice()), (292, &[3, 1, 44, 1, 1][..]));
        assert_eq!(kept.spec.enterprise, PEN_SUB_TEMPLATES);
        let field = [0, 0, 0, 0, 0, 4, 0, 1];
        assert_eq!(kept.value, [&[1, 44, 0, 2][..], &field, &field].concat());
        assert_eq!(collector.statistics().lists_over_limit, 0);
    }

    #[test]
    fn templates_beyond_the_limit_of_a_record_are_not_kept() {
        let collector = receive(600);
        assert!(collector.records[0].extras[1].value.is_empty());
        assert_eq!(collector.statistics().lists_over_limit, 1);
    }

    /// Records of four octets, each with a list of one record of a template of half a thousand
    /// fields: what they keep is bounded by what was sent.
    #[test]
    fn a_message_keeps_no_more_templates_than_it_pays_for() {
        let mut fields = vec![(4, 0); 499];
        fields.push((4, 1));
        let mut encoder = MessageEncoder::new(65_000);
        assert!(encoder.template(&template(300, &fields)));
        assert!(encoder.template(&template(256, &[(292, VARIABLE_LENGTH)])));
        let body = [4, 3, 1, 44, 9].repeat(10_000);
        let id = TemplateId::new(256).unwrap();
        assert!(encoder.data(id, body.len(), |writer| writer.bytes(&body)));
        let header = Header {
            length: 0,
            export_seconds: 1_700_000_000,
            sequence_number: 0,
            domain: ObservationDomainId(0),
        };
        let message = encoder.finish(header);
        let room = message.len() * super::MESSAGE_FACTOR + super::MESSAGE_SIZE_MIN;
        let mut collector = Collector::new();
        for _ in 0..2 {
            let before = collector.records.len();
            collector.receive(message);
            let sizes: Vec<_> = collector.records[before..]
                .iter()
                .map(|record| record.extras[1].value.len())
                .collect();
            // One of them goes for the look at its fields.
            let definition = 4 + 500 * 8;
            assert_eq!(sizes.iter().sum::<usize>(), (room / definition - 1) * definition);
            assert!(sizes.starts_with(&[definition]) && sizes.ends_with(&[0]));
        }
        let kept = room / 4_004 - 1;
        let over_limit = u64::try_from(2 * (10_000 - kept)).unwrap();
        assert_eq!(collector.statistics().lists_over_limit, over_limit);
    }
}
