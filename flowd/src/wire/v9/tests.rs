//! What one packet is read as, and that what is written is read back.

use super::*;
use crate::model::ObservationDomainId;
use crate::model::ie::PEN_V9_SCOPE;
use crate::model::time::SysUptime;
use crate::wire::testing::{self, Record};
use crate::wire::{
    FIELD_COUNT_MAX, FieldSpecifier, MESSAGE_SIZE_MAX, TemplateId, TemplateRecord, WireErrorKind,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn id(raw: u16) -> TemplateId {
    TemplateId::new(raw).unwrap()
}

fn field(id: u16, length: u16) -> FieldSpecifier {
    FieldSpecifier { enterprise: 0, id, length }
}

fn scope(id: u16, length: u16) -> FieldSpecifier {
    FieldSpecifier { enterprise: PEN_V9_SCOPE, id, length }
}

fn template(record: TemplateRecord) -> Record {
    Record::Change(TemplateChange::Data(record))
}

fn options_template(record: OptionsTemplateRecord) -> Record {
    Record::Change(TemplateChange::Options(record))
}

fn header() -> Header {
    Header {
        count: 0,
        sys_uptime: SysUptime(3_600_000),
        unix_seconds: 1_700_000_000,
        sequence_number: 7,
        source_id: ObservationDomainId(42),
    }
}

/// A packet of these octets behind a header.
fn packet(body: &[u8]) -> Vec<u8> {
    [&header().encode()[..], body].concat()
}

fn read(datagram: &[u8]) -> (Vec<Record>, Vec<WireError>) {
    testing::read(Message::decode(datagram).unwrap().sets)
}

#[test]
fn reads_several_templates_of_a_set() {
    let body = [
        0, 0, 0, 24, // a set of two templates
        1, 0, 0, 2, 0, 8, 0, 4, 0, 1, 0, 8, // 256: address, octets
        1, 1, 0, 1, 0, 2, 0, 4, // 257: packets
        1, 0, 0, 8, 9, 9, 9, 9, // data
    ];
    let expected = vec![
        template(TemplateRecord { id: id(256), fields: vec![field(8, 4), field(1, 8)] }),
        template(TemplateRecord { id: id(257), fields: vec![field(2, 4)] }),
        Record::Data(id(256), vec![9; 4]),
    ];
    assert_eq!(read(&packet(&body)), (expected, vec![]));
}

#[test]
fn reads_an_options_template_with_and_without_scope() {
    let body = [
        0, 1, 0, 30, // a set of two options templates and two octets of padding
        1, 2, 0, 4, 0, 4, 0, 2, 0, 4, 0, 34, 0, 4, // scope interface; sampling interval
        1, 3, 0, 0, 0, 4, 0, 36, 0, 2, // no scope
        0, 0,
    ];
    let expected = vec![
        options_template(OptionsTemplateRecord {
            id: id(258),
            scopes: vec![scope(2, 4)],
            options: vec![field(34, 4)],
        }),
        options_template(OptionsTemplateRecord {
            id: id(259),
            scopes: vec![],
            options: vec![field(36, 2)],
        }),
    ];
    assert_eq!(read(&packet(&body)), (expected, vec![]));
}

#[test]
fn zero_fill_ends_the_packet() {
    let mut body = vec![1, 0, 0, 8, 1, 2, 3, 4];
    body.extend([0; 1_300]);
    let expected = vec![Record::Data(id(256), vec![1, 2, 3, 4])];
    assert_eq!(read(&packet(&body)), (expected, vec![]));
}

#[test]
fn refuses_a_set_that_leads_past_the_packet_or_into_its_own_header() {
    for (body, error) in [
        (&[1, 0, 0, 9, 1, 2, 3, 4][..], WireError::SetLength { length: 9, left: 8 }),
        (&[1, 0, 0, 3], WireError::SetLength { length: 3, left: 4 }),
        (&[1, 0, 0], WireError::Truncated { needed: 2, left: 1 }),
    ] {
        assert_eq!(read(&packet(body)), (vec![], vec![error]));
        assert_eq!(error.kind(), WireErrorKind::Malformed);
    }
}

#[test]
fn passes_over_a_template_that_cannot_be_used() {
    let body = [
        0, 0, 0, 32, // a set of three templates
        1, 0, 0, 2, 0, 8, 0, 0, 0, 1, 0, 0, // 256: fields of no octets
        1, 1, 0, 0, // 257: no fields
        1, 2, 0, 1, 0, 2, 0, 4, // 258
        0, 5, 0, 0, // a reserved number
    ];
    let expected = vec![template(TemplateRecord { id: id(258), fields: vec![field(2, 4)] })];
    let errors = vec![
        WireError::EmptyRecord(id(256)),
        WireError::EmptyRecord(id(257)),
        WireError::ReservedTemplateId(5),
    ];
    assert_eq!(read(&packet(&body)), (expected, errors));
}

#[test]
fn refuses_templates_that_are_cut_short_or_too_long() {
    let cut = [0, 0, 0, 12, 1, 0, 0, 2, 0, 8, 0, 4];
    let error = WireError::Truncated { needed: 8, left: 4 };
    assert_eq!(read(&packet(&cut)), (vec![], vec![error]));

    let count = u16::try_from(FIELD_COUNT_MAX + 1).unwrap();
    let mut long = vec![0, 0];
    long.extend((8 + 4 * count).to_be_bytes());
    long.extend([1, 0]);
    long.extend(count.to_be_bytes());
    long.extend([0, 1, 0, 4].repeat(usize::from(count)));
    let (records, errors) = read(&packet(&long));
    assert!(records.is_empty());
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].kind(), WireErrorKind::OverLimit);
}

#[test]
fn refuses_odd_option_lengths() {
    let body = [0, 1, 0, 16, 1, 2, 0, 3, 0, 3, 0, 2, 0, 4, 0, 34];
    let error = WireError::OptionLengths(id(258));
    assert_eq!(read(&packet(&body)), (vec![], vec![error]));
}

#[test]
fn refuses_other_versions_and_short_headers() {
    let mut other = packet(&[]);
    other[1] = 5;
    assert_eq!(Message::decode(&other).unwrap_err().kind(), WireErrorKind::Unsupported);
    let short = &packet(&[])[..19];
    assert!(matches!(Message::decode(short).unwrap_err(), WireError::Truncated { .. }));
}

#[test]
fn a_full_packet_takes_no_more_and_padding_is_never_a_record() {
    let mut encoder = MessageEncoder::new(MESSAGE_SIZE_MAX);
    while encoder.data(id(256), 7, |writer| writer.bytes(&[1; 7])) {}
    let datagram = encoder.finish(header());
    assert_eq!(datagram.len(), MESSAGE_SIZE_MAX);
    let records = u16::try_from((MESSAGE_SIZE_MAX - 24) / 7).unwrap();
    assert_eq!(&datagram[2..4], records.to_be_bytes());

    // Records of one octet: three octets of padding would read as three records.
    let mut encoder = MessageEncoder::new(MESSAGE_SIZE_MAX);
    assert!(encoder.data(id(256), 1, |writer| writer.u8(5)));
    assert_eq!(read(encoder.finish(header())).0, [Record::Data(id(256), vec![5])]);
}

fn specifiers(enterprise: u32) -> impl Strategy<Value = Vec<FieldSpecifier>> {
    let field = (any::<u16>(), 1u16..).prop_map(move |(id, length)| FieldSpecifier {
        enterprise,
        id,
        length,
    });
    vec(field, 1..6)
}

fn record() -> impl Strategy<Value = Record> {
    let ids = (256u16..).prop_map(id);
    prop_oneof![
        (ids.clone(), specifiers(0))
            .prop_map(|(id, fields)| template(TemplateRecord { id, fields })),
        (ids.clone(), specifiers(PEN_V9_SCOPE), specifiers(0)).prop_map(|(id, scopes, options)| {
            options_template(OptionsTemplateRecord { id, scopes, options })
        }),
        (ids, vec(any::<u8>(), 4..40)).prop_map(|(id, bytes)| Record::Data(id, bytes)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(records in vec(record(), 0..20), sequence_number: u32) {
        let mut encoder = MessageEncoder::new(MESSAGE_SIZE_MAX);
        let mut written: Vec<Record> = Vec::new();
        for record in records {
            let added = match &record {
                Record::Change(TemplateChange::Data(template)) => encoder.template(template),
                Record::Change(TemplateChange::Options(template)) => encoder.options_template(template),
                // Each in a set of its own, to be told apart without a template.
                Record::Data(id, _) if matches!(written.last(), Some(Record::Data(last, _)) if last == id) => false,
                Record::Data(id, bytes) => encoder.data(*id, bytes.len(), |w| w.bytes(bytes)),
                Record::Change(other) => panic!("NetFlow v9 has no {other:?}"),
            };
            if added {
                written.push(record);
            }
        }
        let sent = Header { sequence_number, ..header() };
        let datagram = encoder.finish(sent).to_vec();
        prop_assert!(datagram.len() <= MESSAGE_SIZE_MAX && datagram.len().is_multiple_of(4));
        let count = u16::try_from(written.len()).unwrap();
        prop_assert_eq!(Message::decode(&datagram).unwrap().header, Header { count, ..sent });
        let (mut read, errors) = read(&datagram);
        prop_assert_eq!(errors, vec![]);
        for (read, written) in read.iter_mut().zip(&written) {
            if let (Record::Data(_, read), Record::Data(_, written)) = (read, written) {
                prop_assert!(read.len() - written.len() < 4);
                read.truncate(written.len());
            }
        }
        prop_assert_eq!(read, written);
    }

    #[test]
    fn any_octets_end_without_panic(body in vec(any::<u8>(), 0..2_000)) {
        let (records, _) = read(&packet(&body));
        prop_assert!(records.len() <= body.len() / 4);
    }
}
