//! Lists in records (RFC 6313): the templates that a list refers to are kept beside it, since
//! they may be others, or forgotten, when the record is read.

use super::plan::Plan;
use super::template_cache::{DomainTemplates, Source};
use crate::model::{ElementType, FlowBatch, List, VARIABLE_LENGTH};
use crate::wire::ipfix::list::{sub_template_ids, write_sub_templates};

/// Octets of templates that one record keeps: a handful of some dozen fields. A sender could
/// otherwise make a few octets of a list cost 64 KiB each.
const SUB_TEMPLATES_SIZE_MAX: usize = 4_096;

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

/// Appends the definitions of the templates that the lists of a record refer to, as the last of
/// its extras; false if there were too many, and none is kept.
pub(super) fn append_sub_templates(
    plan: &Plan,
    record: &[u8],
    offsets: &[usize],
    templates: Option<ListTemplates<'_>>,
    batch: &mut FlowBatch,
) -> bool {
    let mut definitions = Vec::new();
    if let Some(ListTemplates { domain, source }) = templates {
        domain.with_fields(source, |lookup| {
            let mut ids = Vec::new();
            for list in plan.lists() {
                if let Some(octets) = value(record, offsets, list.field) {
                    let list = List { element_type: list.element_type, octets, templates: &[] };
                    sub_template_ids(list, lookup, &mut ids);
                }
            }
            write_sub_templates(&ids, lookup, &mut definitions);
        });
    }
    let fits = definitions.len() <= SUB_TEMPLATES_SIZE_MAX;
    let kept = if fits { definitions.as_slice() } else { &[] };
    let [high, low] = u16::try_from(kept.len()).unwrap_or(0).to_be_bytes();
    batch.extend_extras(&[255, high, low]);
    batch.extend_extras(kept);
    fits
}

/// The value of a field of variable length.
fn value<'a>(record: &'a [u8], offsets: &[usize], field: usize) -> Option<&'a [u8]> {
    let octets = record.get(*offsets.get(field)?..*offsets.get(field.saturating_add(1))?)?;
    match octets {
        [255, _, _, value @ ..] | [_, value @ ..] => Some(value),
        [] => None,
    }
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
    fn templates_beyond_the_limit_are_not_kept() {
        let collector = receive(600);
        assert!(collector.records[0].extras[1].value.is_empty());
        assert_eq!(collector.statistics().lists_over_limit, 1);
    }
}
