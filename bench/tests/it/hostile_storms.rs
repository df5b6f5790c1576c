//! Datagrams that are small and ask for much: each octet of them may cost so much and no more.
//! What the decoder keeps and allocates for them is counted.

use crate::reading::{HEADER, OCTETS_MAX, Reading};
use bench::alloc::measure;
use bench::message::{
    Field, IPFIX_OPTIONS, IPFIX_TEMPLATES, VARIABLE, field, ipfix, ipfix_options_template, set,
    template, variable, words,
};
use flowd::collect::Peer;
use std::net::{Ipv4Addr, SocketAddr};

/// Octets of templates that records of a datagram keep beside their lists: some times its own.
const fn kept_max(datagram: &[u8]) -> u64 {
    4 * datagram.len() as u64 + (16 << 10)
}

/// Decodes a list's templates, and then so many records with it: octets kept beyond the records'
/// own, and how many records keep no templates for want of room.
fn amplify(sub_template: &[Field], element: u16, list: &[u8], count: usize) -> (u64, u64) {
    let layouts = [template(257, sub_template), template(256, &[field(element, VARIABLE)])];
    let data = variable(list).repeat(count);
    let datagram = ipfix(HEADER, &[set(256, &data)]);
    let mut reading = Reading::new();
    reading.datagram(1, &ipfix(HEADER, &[set(IPFIX_TEMPLATES, &layouts.concat())]));
    let first = reading.datagram(1, &datagram);
    assert!(first.octets < OCTETS_MAX, "{first:?}");
    let extras = reading.extras;
    let again = reading.datagram(1, &datagram);
    assert_eq!(again.allocations, 0, "the memory is there: {again:?}");
    assert_eq!(reading.extras, 2 * extras, "one datagram leaves nothing to the next");
    let counted = reading.counted();
    assert_eq!((counted.records, counted.sets_decoded), (2 * count as u64, 2));
    // The list, and the length before its templates.
    let own = data.len() as u64 + 3 * count as u64;
    let kept = extras - own;
    assert!(kept <= kept_max(&datagram), "{kept} octets of {}", datagram.len());
    (kept, counted.lists_over_limit / 2)
}

#[test]
fn lists_without_records_keep_no_templates() {
    let fields = vec![field(4, 1); 511];
    // A list of four octets, its length included, of a template whose definition has 4,092.
    assert_eq!(amplify(&fields, 292, &[3, 1, 1], 16_000), (0, 0));
    // A list of 16,000 times no records, of as many fields as a template may have.
    let fields = vec![field(292, VARIABLE); 1_024];
    let blocks = [&[3][..], &words(&[257, 4]).repeat(16_000)].concat();
    assert_eq!(amplify(&fields, 293, &blocks, 1), (0, 0));
}

#[test]
fn lists_of_one_octet_keep_templates_within_the_room_of_a_message() {
    // Records of the list have one octet, whatever its definition has.
    let mut fields = vec![field(4, 0); 510];
    fields.push(field(4, 1));
    let (kept, over_limit) = amplify(&fields, 292, &[3, 1, 1, 9], 12_000);
    let definition = 4 + 8 * 511;
    assert_eq!(kept % definition, 0);
    assert_eq!(kept / definition + over_limit, 12_000, "each keeps all or is counted");
    assert!(over_limit > 11_000);
    // The same where each record has a list of its own to be looked into.
    fields[0] = field(292, VARIABLE);
    let (_, over_limit) = amplify(&fields, 292, &[3, 1, 1, 0, 9], 10_000);
    assert!(over_limit > 9_000);
}

#[test]
fn a_datagram_of_many_messages_has_the_room_of_one() {
    let layouts = [template(257, &vec![field(4, 1); 511]), template(256, &[field(292, VARIABLE)])];
    let mut reading = Reading::new();
    reading.datagram(1, &ipfix(HEADER, &[set(IPFIX_TEMPLATES, &layouts.concat())]));
    let list = variable(&[&[3, 1, 1][..], &[9; 511]].concat());
    let empty = ipfix(HEADER, &[]);
    let message = ipfix(HEADER, &[set(256, &list)]);
    let datagram = [empty.repeat(1_000), message.repeat(80)].concat();
    reading.datagram(1, &datagram);
    let counted = reading.counted();
    assert_eq!(counted.records, 80);
    assert!(reading.extras <= 80 * (list.len() as u64 + 3) + kept_max(&datagram));
    assert!(counted.lists_over_limit > 0, "{counted:?}");
}

/// What decoding such data allocates the first time, its template known: the memory of measuring
/// a record among it.
fn first_data(layout: &[u8], id: u16, data: &[u8], records: u64) -> u64 {
    let mut reading = Reading::new();
    reading.datagram(1, &ipfix(HEADER, &[set(id, layout)]));
    let counts = reading.datagram(1, &ipfix(HEADER, &[set(256, data)]));
    assert_eq!(reading.counted().records, records);
    counts.octets
}

#[test]
fn fields_of_no_octets_cost_records_nothing() {
    // Two octets a record, and a thousand fields that have none.
    let data = [1, b'x'].repeat(30_000);
    let honest = [field(82, VARIABLE)];
    let mut hostile = vec![field(4, 0); 1_023];
    hostile.insert(500, honest[0]);
    for (is_options, id) in [(false, IPFIX_TEMPLATES), (true, IPFIX_OPTIONS)] {
        let layout = |fields: &[Field]| match is_options {
            false => template(256, fields),
            true => ipfix_options_template(256, 1, fields),
        };
        let octets = [&honest[..], &hostile[..1_024]]
            .map(|fields| first_data(&layout(fields), id, &data, 30_000));
        assert_eq!(octets[0], octets[1], "options: {is_options}");
    }
}

/// Records that differ in all that records of one template can: which family of each of three
/// addresses is not zero, numbers that are too large, ICMP. Each kind has a layout of its own.
#[test]
fn records_of_all_kinds_there_are_take_bounded_memory() {
    let mut fields = vec![field(8, 4), field(27, 16), field(12, 4), field(28, 16), field(15, 4)];
    fields.extend([field(62, 16), field(4, 1), field(7, 2), field(11, 2), field(10, 8)]);
    fields.extend([field(22, 4), field(21, 4)]);
    // None of these has a column, and every second one stands apart from the others.
    fields.extend((0..400).flat_map(|number| [field(5_000 + number, 1), field(210, 1)]));
    let mut kinds = Vec::new();
    for kind in 0..3_u32.pow(4) * 2 {
        let digit = |place| kind / 3_u32.pow(place) % 3;
        let mut record = Vec::new();
        for address in 0..3 {
            let (ipv4, ipv6) = match digit(address) {
                0 => (1, 0),
                1 => (0, 1),
                _ => (1, 1),
            };
            record.extend([&[ipv4; 4][..], &[ipv6; 16]].concat());
        }
        record.push([6, 1, 58][digit(3) as usize]);
        record.extend([0, 0, 8, 0]);
        record.extend([(kind / 81) as u8; 8]);
        record.extend([0; 808]);
        kinds.push(record);
    }
    let mut reading = Reading::new();
    reading.datagram(1, &ipfix(HEADER, &[set(IPFIX_TEMPLATES, &template(256, &fields))]));
    let datagrams: Vec<_> =
        kinds.chunks(60).map(|records| ipfix(HEADER, &[set(256, &records.concat())])).collect();
    let ((), counts) = measure(|| {
        for datagram in &datagrams {
            reading.datagram(1, datagram);
        }
    });
    println!("{counts:?}");
    assert_eq!(reading.counted().records, kinds.len() as u64);
    assert!(counts.held_max < OCTETS_MAX as i64, "{counts:?}");
    for datagram in &datagrams {
        assert_eq!(reading.datagram(1, datagram).allocations, 0, "all kinds are known");
    }
}

#[test]
fn a_storm_of_withdrawals_takes_bounded_memory_and_ends_what_it_names() {
    let peer = Peer::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 2_055)));
    let mut reading = Reading::new();
    let layouts: Vec<u8> = (256..1_280).flat_map(|id| template(id, &[field(8, 4)])).collect();
    reading.message(peer, &ipfix(HEADER, &[set(IPFIX_TEMPLATES, &layouts)]));
    let withdrawals: Vec<u8> = (2_000..18_000).flat_map(|id| words(&[id, 0])).collect();
    let unknown = ipfix(HEADER, &[set(IPFIX_TEMPLATES, &withdrawals)]);
    let counts = reading.message(peer, &unknown);
    assert!(counts.octets < OCTETS_MAX, "of templates that nobody knows: {counts:?}");
    let withdrawals: Vec<u8> = (256..1_280).flat_map(|id| words(&[id, 0])).collect();
    let known = ipfix(HEADER, &[set(IPFIX_TEMPLATES, &withdrawals)]);
    let counts = reading.message(peer, &known);
    println!("{counts:?}");
    assert!(counts.held_max < OCTETS_MAX as i64, "{counts:?}");
    // Whatever the message was allowed to withdraw, the first of them is gone.
    reading.message(peer, &ipfix(HEADER, &[set(256, &[10, 0, 0, 1])]));
    assert_eq!((reading.records, reading.counted().sets_held), (0, 1));
}
