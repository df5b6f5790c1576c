//! The decoder under octets that were made to hurt it: what it holds and what it allocates for a
//! datagram stay bounded, and its counters stay exact. Nothing here is timed: work is counted by
//! what is allocated and by how many records come out.

use crate::reading::{HEADER, OCTETS_MAX, Reading};
use bench::alloc::measure;
use bench::layout::Header;
use bench::message::{
    Field, IPFIX_OPTIONS, IPFIX_TEMPLATES, V9_OPTIONS, V9_TEMPLATES, VARIABLE, enterprise_field,
    field, fixed, ipfix, ipfix_options_template, set, template, v9, v9_options_template, variable,
    words,
};
use bench::random::Draws;
use bench::seeds;

/// The messages of all seeds, each apart.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let mut messages = Vec::new();
    for (name, input) in seeds::all() {
        let mut rest = input.as_slice();
        while let Some((&[_, high, low], after)) = rest.split_first_chunk::<3>() {
            let (octets, after) = after.split_at(usize::from(u16::from_be_bytes([high, low])));
            messages.push((name, octets.to_vec()));
            rest = after;
        }
    }
    messages
}

#[test]
fn every_message_cut_at_every_octet_is_counted() {
    for (name, message) in messages() {
        let mut reading = Reading::new();
        for size in 0..message.len() {
            let counts = reading.datagram(1, &message[..size]);
            assert!(counts.octets < OCTETS_MAX, "{name} cut at {size}: {counts:?}");
        }
        let counted = reading.counted();
        assert_eq!(counted.datagrams, message.len() as u64, "{name}");
        assert!(counted.drops.values().sum::<u64>() > 0, "{name}: some of it is damage");
    }
}

#[test]
fn every_octet_that_lies_is_counted() {
    for (name, message) in messages() {
        let mut reading = Reading::new();
        for at in 0..message.len() {
            for lie in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bent = message.clone();
                bent[at] = lie;
                let before = reading.records;
                let counts = reading.datagram(1, &bent);
                assert!(counts.octets < OCTETS_MAX, "{name}, {lie} at {at}: {counts:?}");
                let records = reading.records - before;
                let held = reading.books.statistics().sets_held;
                let bound = (message.len() as u64) * (held + 2);
                assert!(records <= bound, "{name}, {lie} at {at}: {records} records");
            }
        }
        assert_eq!(reading.counted().datagrams, 5 * message.len() as u64, "{name}");
    }
}

#[test]
fn lengths_of_two_octets_that_lie_are_counted() {
    for (name, message) in messages() {
        let mut reading = Reading::new();
        for at in 0..message.len().saturating_sub(1) {
            for lie in [0_u16, 1, 3, 4, 5, 255, 0x7fff, 0xfffe, 0xffff] {
                let mut bent = message.clone();
                bent[at..at + 2].copy_from_slice(&lie.to_be_bytes());
                let counts = reading.datagram(1, &bent);
                assert!(counts.octets < OCTETS_MAX, "{name}, {lie} at {at}: {counts:?}");
            }
        }
        reading.counted();
    }
}

/// A datagram of either protocol with one set.
fn both(v9_id: u16, ipfix_id: u16, body: &[u8]) -> [Vec<u8>; 2] {
    [v9(HEADER, 1, &[set(v9_id, body)]), ipfix(HEADER, &[set(ipfix_id, body)])]
}

#[test]
fn templates_that_say_they_have_no_field_or_all_of_them_are_refused_and_counted() {
    for (count, body) in [
        // In IPFIX a template without fields is a withdrawal, which means nothing in a datagram.
        (0, words(&[256, 0])),
        (65_535, [words(&[256, 65_535]), [0, 8, 0, 4].repeat(10)].concat()),
        (65_535, [words(&[256, 65_535]), [0, 8, 0, 4].repeat(16_000)].concat()),
    ] {
        for octets in both(V9_TEMPLATES, IPFIX_TEMPLATES, &body) {
            let mut reading = Reading::new();
            let counts = reading.datagram(1, &octets);
            assert!(counts.octets < OCTETS_MAX, "{counts:?}");
            let is_withdrawal = count == 0 && octets[1] == 10;
            let counted = reading.counted();
            let refused: u64 = counted.template_drops.values().sum();
            assert_eq!((counted.templates, refused), (0, u64::from(!is_withdrawal)), "{counted:?}");
        }
    }
}

#[test]
fn a_template_of_as_many_fields_as_are_accepted_decodes_and_one_more_does_not() {
    use flowd::wire::FIELD_COUNT_MAX;
    for (count, accepted) in [(FIELD_COUNT_MAX, 1), (FIELD_COUNT_MAX + 1, 0)] {
        let fields = vec![field(8, 4); count];
        let layout = template(256, &fields);
        let data = vec![10; 4 * count];
        for sets in [
            v9(HEADER, 2, &[set(V9_TEMPLATES, &layout), set(256, &data)]),
            ipfix(HEADER, &[set(IPFIX_TEMPLATES, &layout), set(256, &data)]),
        ] {
            let mut reading = Reading::new();
            let counts = reading.datagram(1, &sets);
            assert!(counts.octets < OCTETS_MAX, "{counts:?}");
            let counted = reading.counted();
            assert_eq!((counted.templates, counted.records), (accepted, accepted), "{counted:?}");
        }
    }
}

#[test]
fn records_of_no_octets_are_no_endless_loop() {
    let nothing = [field(8, 0), field(1, 0)];
    let cases = [
        v9(HEADER, 2, &[set(V9_TEMPLATES, &template(256, &nothing)), set(256, &[0; 1_000])]),
        ipfix(HEADER, &[set(IPFIX_TEMPLATES, &template(256, &nothing)), set(256, &[1; 1_000])]),
        v9(
            HEADER,
            2,
            &[
                set(V9_OPTIONS, &v9_options_template(256, &nothing[..1], &nothing[1..])),
                set(256, &[1; 1_000]),
            ],
        ),
        ipfix(
            HEADER,
            &[set(IPFIX_OPTIONS, &ipfix_options_template(256, 1, &nothing)), set(256, &[1; 1_000])],
        ),
    ];
    for octets in cases {
        let mut reading = Reading::new();
        reading.datagram(1, &octets);
        let counted = reading.counted();
        assert_eq!((counted.templates, counted.records), (0, 0), "{counted:?}");
        assert_eq!((counted.sets, counted.sets_held), (1, 1), "it waits for its template");
    }
}

/// Records whose fields of variable length are all empty: an octet each, as many as fit.
#[test]
fn the_smallest_records_there_are_come_out_one_by_one() {
    let layout = template(256, &[field(82, VARIABLE)]);
    let mut data = vec![0; 60_000];
    data.push(1);
    data.push(b'x');
    let sets = [set(IPFIX_TEMPLATES, &layout), set(256, &data)];
    let mut reading = Reading::new();
    reading.datagram(1, &ipfix(HEADER, &sets));
    let counts = reading.datagram(1, &ipfix(HEADER, &sets[1..]));
    assert!(counts.octets < OCTETS_MAX, "{counts:?}");
    assert_eq!(reading.counted().records, 2 * 60_001);
}

/// Lists in lists (RFC 6313): a basicList (291) that holds one basicList, and so on.
fn nested_lists(depth: usize) -> Vec<u8> {
    let mut list = [&[3][..], &words(&[4, 1]), &[6]].concat();
    for _ in 0..depth {
        list = [&[3][..], &words(&[291, VARIABLE]), &variable(&list)].concat();
    }
    list
}

/// The same with subTemplateLists (292) of a template that has one of its own.
fn nested_sub_templates(depth: usize) -> Vec<u8> {
    let mut list = [&[3][..], &words(&[256]), &variable(&[])].concat();
    for _ in 0..depth {
        list = [&[3][..], &words(&[256]), &variable(&list)].concat();
    }
    list
}

#[test]
fn lists_in_lists_a_hundred_deep_cost_no_more_than_their_octets() {
    for (id, list) in [(291, nested_lists(100)), (292, nested_sub_templates(100))] {
        let layout = template(256, &[field(id, VARIABLE)]);
        let data = variable(&list);
        let sets = [set(IPFIX_TEMPLATES, &layout), set(256, &data)];
        let mut reading = Reading::new();
        reading.datagram(1, &ipfix(HEADER, &sets));
        let counts = reading.datagram(1, &ipfix(HEADER, &sets[1..]));
        assert!(counts.octets < 64 << 10, "{counts:?}");
        assert_eq!(reading.counted().records, 2);
        // The same, cut and bent in every place.
        let whole = ipfix(HEADER, &sets);
        for at in 50..whole.len() {
            let mut bent = whole.clone();
            bent[at] = 0xff;
            let counts = reading.datagram(1, &bent);
            assert!(counts.octets < OCTETS_MAX, "{at}: {counts:?}");
        }
        reading.counted();
    }
}

/// A template of 18 fields, as routers send it.
fn common_fields() -> Vec<Field> {
    [8, 12, 15, 10, 14, 2, 1, 22, 21].map(|id| field(id, 4)).to_vec()
}

#[test]
fn a_million_spoofed_exporters_take_bounded_memory_and_are_all_counted() {
    const EXPORTERS: u32 = 1_000_000;
    let fields = common_fields();
    let sets = [set(V9_TEMPLATES, &template(256, &fields)), set(256, &[1; 36])];
    let mut draws = Draws(7);
    let mut reading = Reading::new();
    let ((), counts) = measure(|| {
        for number in 0..EXPORTERS {
            // Each in a domain of its own, and in time that goes on.
            let header = Header { domain: draws.next() as u32, ..HEADER };
            reading.now += 1;
            let datagram = v9(header, 2, &sets);
            reading.datagram(0x0b00_0000 + number, &datagram);
        }
    });
    println!("{counts:?}");
    let counted = reading.counted();
    assert_eq!((counted.datagrams, counted.templates), (1_000_000, 1_000_000));
    assert_eq!(counted.sets, 1_000_000);
    // Who came first keeps what they have; the others are told apart no more, and counted.
    let refused: u64 = counted.template_drops.values().sum();
    assert_eq!(counted.sets_decoded + refused, 1_000_000, "{:?}", counted.template_drops);
    assert!(counts.held_max < 512 << 20, "{counts:?}");
    // Tables double when they are full, so that one datagram may cost much; all of them do not.
    assert!(counts.octets / u64::from(EXPORTERS) < 16 << 10, "{counts:?}");
}

#[test]
fn templates_that_are_defined_anew_all_the_time_take_bounded_memory() {
    const DATAGRAMS: u32 = 20_000;
    let mut reading = Reading::new();
    let mut octets_max = 0;
    let ((), counts) = measure(|| {
        for number in 0..DATAGRAMS {
            let length = (number % 200 + 1) as u16;
            let fields = [field(8, 4), enterprise_field(9, number as u16 & 0x7fff, length)];
            let sets = [set(IPFIX_TEMPLATES, &template(256, &fields)), set(256, &[7; 220])];
            reading.now += 1;
            octets_max = octets_max.max(reading.datagram(1, &ipfix(HEADER, &sets)).octets);
        }
    });
    println!("{counts:?}, at most {octets_max} octets allocated for one datagram");
    let counted = reading.counted();
    // Changes beyond the exporter's share are refused, and data that they would explain waits.
    assert_eq!((counted.templates, counted.sets), (20_000, 20_000), "{counted:?}");
    assert_eq!(counted.sets_decoded + counted.sets_held, counted.sets, "{counted:?}");
    assert!(counted.template_drops["changedTooOften"] >= counted.sets_held, "{counted:?}");
    assert!(counts.held_max < 64 << 20, "{counts:?}");
    assert!(octets_max < OCTETS_MAX);
}

/// One datagram that changes a template as often as it has room for, with data between.
#[test]
fn a_datagram_that_defines_a_template_anew_all_the_time_is_stopped() {
    let mut sets = Vec::new();
    let mut templates = 0;
    while sets.len() < 6_000 {
        let length = templates % 2 + 1;
        sets.extend(set(IPFIX_TEMPLATES, &template(256, &[field(8, 4), field(4, length)])));
        sets.extend(set(256, &[9; 6]));
        templates += 1;
    }
    let mut reading = Reading::new();
    let counts = reading.datagram(1, &ipfix(HEADER, &[sets]));
    assert!(counts.octets < OCTETS_MAX, "{counts:?}");
    let counted = reading.counted();
    assert_eq!(counted.templates, u64::from(templates));
    assert_eq!(counted.sets, u64::from(templates));
    let refused: u64 = counted.template_drops.values().sum();
    assert!(refused > u64::from(templates) / 2, "{counted:?}");
}

/// A flood of templates from one exporter: thrice as many numbers as are kept, in many domains.
#[test]
fn one_exporter_with_all_numbers_of_all_domains_takes_bounded_memory() {
    let mut reading = Reading::new();
    let fields = common_fields();
    let ((), counts) = measure(|| {
        for domain in 0..220 {
            for first in [256, 5_000, 60_000_u16] {
                let last = first.saturating_add(1_023);
                let templates: Vec<u8> =
                    (first..=last).flat_map(|id| template(id, &fields)).collect();
                let header = Header { domain, ..HEADER };
                let octets = ipfix(header, &[set(IPFIX_TEMPLATES, &templates)]);
                reading.now += 1;
                reading.datagram(1, &octets);
            }
        }
    });
    println!("{counts:?}");
    let counted = reading.counted();
    assert_eq!(counted.templates, 220 * 3 * 1_024);
    let refused: u64 = counted.template_drops.values().sum();
    assert!(refused >= 220 * 2 * 1_024, "{refused}");
    assert!(counts.held_max < 400 << 20, "{counts:?}");
}

/// Data whose templates never come waits, within bounds, and all of it is counted.
#[test]
fn data_that_waits_for_nothing_takes_bounded_memory() {
    let mut reading = Reading::new();
    let mut draws = Draws(3);
    let ((), counts) = measure(|| {
        for number in 0..200_000_u32 {
            let id = 256 + (draws.next() % 60_000) as u16;
            let header = Header { domain: number % 5, ..HEADER };
            let data = vec![1; (draws.next() % 1_400) as usize];
            reading.datagram(number % 5_000, &ipfix(header, &[set(id, &data)]));
        }
    });
    println!("{counts:?}");
    let counted = reading.counted();
    assert_eq!((counted.sets, counted.records), (200_000, 0));
    assert!(counted.set_drops.values().sum::<u64>() > 100_000, "{counted:?}");
    assert!(counts.held_max < 128 << 20, "{counts:?}");
}

#[test]
fn fixed_formats_that_lie_about_their_count_give_what_is_there() {
    for version in [1, 5, 7] {
        let flows: Vec<_> = (0..20).map(|index| bench::traffic::flow(1, index)).collect();
        let whole = fixed(version, HEADER, &flows);
        for count in [0_u16, 1, 19, 20, 21, 30, 31, 1_000, 65_535] {
            let mut reading = Reading::new();
            let mut bent = whole.clone();
            bent[2..4].copy_from_slice(&count.to_be_bytes());
            let counts = reading.datagram(1, &bent);
            assert!(counts.octets < OCTETS_MAX, "{counts:?}");
            let counted = reading.counted();
            assert_eq!(counted.datagrams, 1);
            assert!(counted.records <= 20, "v{version} count {count}: {counted:?}");
        }
    }
}
