//! What one Message is read as, and that what is written is read back.

use super::*;
use crate::model::{ObservationDomainId, VARIABLE_LENGTH, ie};
use crate::wire::testing::{self, Record};
use crate::wire::{
    FIELD_COUNT_MAX, FieldSpecifier, MESSAGE_SIZE_MAX, TemplateId, TemplateRecord, Withdrawal,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn id(raw: u16) -> TemplateId {
    TemplateId::new(raw).unwrap()
}

fn field(enterprise: u32, id: u16, length: u16) -> FieldSpecifier {
    FieldSpecifier { enterprise, id, length }
}

fn header() -> Header {
    Header {
        length: 0,
        export_seconds: 1_700_000_000,
        sequence_number: 7,
        domain: ObservationDomainId(42),
    }
}

/// A Message of these octets behind a header.
fn message(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(Header::SIZE + body.len()).unwrap();
    [&Header { length, ..header() }.encode()[..], body].concat()
}

fn read(octets: &[u8]) -> (Vec<Record>, Vec<WireError>) {
    testing::read(Message::decode(octets).unwrap().sets)
}

#[test]
fn reads_enterprise_elements_and_variable_lengths() {
    let body = [
        0, 2, 0, 24, // a set of one template
        1, 0, 0, 3, 0, 8, 0, 4, 0x80, 1, 0, 2, 0, 0, 0, 9, 0, 82, 255, 255, // three fields
    ];
    let fields = vec![field(0, 8, 4), field(9, 1, 2), field(0, 82, VARIABLE_LENGTH)];
    let change = TemplateChange::Data(TemplateRecord { id: id(256), fields });
    assert_eq!(read(&message(&body)), (vec![Record::Change(change)], vec![]));
}

#[test]
fn reads_withdrawals_of_one_and_of_all() {
    let body = [
        0, 2, 0, 12, 1, 0, 0, 0, 0, 2, 0, 0, // template 256, and all templates
        0, 3, 0, 12, 1, 1, 0, 0, 0, 3, 0, 0, // options template 257, and all of those
    ];
    let withdrawal = |which| Record::Change(TemplateChange::Withdrawal(which));
    assert_eq!(
        read(&message(&body)),
        (
            vec![
                withdrawal(Withdrawal::One(id(256))),
                withdrawal(Withdrawal::AllData),
                withdrawal(Withdrawal::One(id(257))),
                withdrawal(Withdrawal::AllOptions),
            ],
            vec![]
        )
    );
}

#[test]
fn scopes_beyond_the_fields_are_refused_and_what_follows_is_read() {
    let body = [
        0, 3, 0, 24, // a set of options templates
        1, 0, 0, 1, 0, 2, 0, 34, 0, 4, // two scopes of one field
        1, 1, 0, 1, 0, 1, 0, 34, 0, 4, // one of one
    ];
    let (records, errors) = read(&message(&body));
    assert_eq!(errors, [WireError::ScopeCount { id: id(256), scopes: 2, fields: 1 }]);
    let good =
        OptionsTemplateRecord { id: id(257), scopes: vec![field(0, 34, 4)], options: Vec::new() };
    assert_eq!(records, [Record::Change(TemplateChange::Options(good))]);
}

#[test]
fn a_length_that_lies_bounds_the_message_or_is_bounded_by_it() {
    let body = [1, 0, 0, 8, 1, 2, 3, 4];
    let mut long = message(&body);
    long.extend([9, 9, 9]);
    assert_eq!(Message::decode(&long).unwrap().after, [9, 9, 9]);
    assert_eq!(read(&long).0, [Record::Data(id(256), vec![1, 2, 3, 4])]);
    let short = &message(&body)[..20];
    assert_eq!(read(short).1, [WireError::SetLength { length: 8, left: 4 }]);
    let mut tiny = message(&body);
    tiny[3] = 15;
    assert_eq!(Message::decode(&tiny).unwrap_err(), WireError::MessageLength(15));
}

#[test]
fn templates_of_too_many_fields_are_refused() {
    let mut body = vec![0, 2];
    let count = u16::try_from(FIELD_COUNT_MAX + 1).unwrap();
    body.extend((8 + 4 * count).to_be_bytes());
    body.extend([1, 0]);
    body.extend(count.to_be_bytes());
    for _ in 0..count {
        body.extend([0, 1, 0, 4]);
    }
    let (records, errors) = read(&message(&body));
    assert!(records.is_empty());
    assert!(matches!(errors[..], [WireError::FieldCount { .. }]), "{errors:?}");
}

fn fields() -> impl Strategy<Value = Vec<FieldSpecifier>> {
    let enterprise =
        prop_oneof![2 => Just(0), 1 => Just(9), 1 => Just(29_305u32), 1 => Just(u32::MAX)];
    let specifier = (enterprise, 1u16..0x8000, prop_oneof![1u16..20, Just(VARIABLE_LENGTH)]);
    vec(
        specifier.prop_map(|(enterprise, id, length)| {
            field(enterprise, ie::foreign_number(enterprise, id), length)
        }),
        1..12,
    )
}

fn record() -> impl Strategy<Value = Record> {
    let data = |(raw_id, body)| Record::Data(id(raw_id), body);
    prop_oneof![
        (256u16..300, fields()).prop_map(|(raw_id, fields)| Record::Change(TemplateChange::Data(
            TemplateRecord { id: id(raw_id), fields }
        ))),
        (256u16..300, fields(), fields()).prop_map(|(raw_id, scopes, options)| Record::Change(
            TemplateChange::Options(OptionsTemplateRecord { id: id(raw_id), scopes, options })
        )),
        (256u16..300, vec(1u8..255, 4..40)).prop_map(data),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(records in vec(record(), 0..20)) {
        let mut encoder = MessageEncoder::new(MESSAGE_SIZE_MAX);
        let mut written = Vec::new();
        for record in records {
            let fits = match &record {
                Record::Change(TemplateChange::Data(template)) => encoder.template(template),
                Record::Change(TemplateChange::Options(template)) => {
                    encoder.options_template(template)
                }
                Record::Change(other) => panic!("no test writes {other:?}"),
                Record::Data(id, body) => {
                    encoder.data(*id, body.len(), |writer| writer.bytes(body))
                }
            };
            if fits {
                written.push(record);
            }
        }
        let octets = encoder.finish(header()).to_vec();
        let message = Message::decode(&octets).unwrap();
        prop_assert_eq!(usize::from(message.header.length), octets.len());
        let (read, errors) = read(&octets);
        prop_assert_eq!(errors, vec![]);
        // Data sets of one template that follow one another were joined, and padded.
        let flat = |records: &[Record]| {
            let mut changes = Vec::new();
            let mut data: Vec<(TemplateId, Vec<u8>)> = Vec::new();
            for record in records {
                match record {
                    Record::Change(change) => changes.push(change.clone()),
                    Record::Data(id, body) => match data.last_mut() {
                        Some((last, octets)) if last == id => octets.extend(body),
                        _ => data.push((*id, body.clone())),
                    },
                }
            }
            for (_, body) in &mut data {
                while body.last() == Some(&0) {
                    body.pop();
                }
            }
            (changes, data)
        };
        prop_assert_eq!(flat(&read).0, flat(&written).0);
        let joined: Vec<u8> = flat(&read).1.into_iter().flat_map(|(_, body)| body).collect();
        let sent: Vec<u8> = flat(&written).1.into_iter().flat_map(|(_, body)| body).collect();
        // Padding between sets is zeros, of which the bodies have none.
        let strip = |octets: Vec<u8>| octets.into_iter().filter(|&o| o != 0).collect::<Vec<_>>();
        prop_assert_eq!(strip(joined), strip(sent));
    }

    #[test]
    fn any_octets_are_read_to_an_end(body in vec(any::<u8>(), 0..600)) {
        let mut octets = vec![0, 10];
        octets.extend(body);
        if let Ok(message) = Message::decode(&octets) {
            for set in message.sets {
                if let Ok(Set::Templates(templates)) = set {
                    prop_assert!(templates.count() <= octets.len());
                }
            }
        }
    }
}
