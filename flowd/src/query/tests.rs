//! The engine against the naive reading of the same records, and what users are told.

use super::field::{Field, Measure};
use super::filter::{self, Expr};
use super::memory::{MemorySource, Stored, origin, record_of, records, times};
use super::naive;
use super::{
    Keys, Limits, Outcome, Plan, QueryError, QueryRequest, Sort, Top, time_range::TimeRange,
};
use crate::model::time::UnixMillis;
use crate::model::{Column, ColumnKind, FlowRecord, Value};
use crate::telemetry::Flag;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

const NOW: UnixMillis = UnixMillis(10_000);

/// A row as text, so that rows can be compared and kept.
fn shown(row: &[(&str, Value<'_>)]) -> String {
    let fields: Vec<String> = row.iter().map(|(name, value)| format!("{name}={value}")).collect();
    fields.join(" ")
}

fn run_plan(plan: &Plan, source: &MemorySource) -> Result<(Vec<String>, Outcome), QueryError> {
    let mut rows = Vec::new();
    let mut sink = |row: &[(&str, Value<'_>)]| {
        rows.push(shown(row));
        io::Result::Ok(())
    };
    let outcome = super::run(plan, source, &Flag::default(), &mut sink)?;
    Ok((rows, outcome))
}

fn run_request(request: &QueryRequest, stored: &[Stored]) -> Result<Vec<String>, QueryError> {
    let plan = Plan::new(request, NOW)?;
    run_plan(&plan, &MemorySource::new(stored, 7)).map(|(rows, _)| rows)
}

/// A record as the engine shows it.
fn expected(stored: &Stored) -> String {
    let mut row: Vec<(String, Value<'_>)> = Vec::new();
    for &column in Column::ALL {
        for value in naive::values(Field::Column(column), stored) {
            row.push((column.name().to_owned(), value));
        }
    }
    for provenance in super::field::Provenance::ALL {
        for value in naive::values(Field::Provenance(provenance), stored) {
            row.push((provenance.name().to_owned(), value));
        }
    }
    for extra in &stored.record.extras {
        let name = crate::model::ie::display_name(extra.spec.enterprise, extra.spec.id);
        row.push((name, Value::Octets(&extra.value)));
    }
    let fields: Vec<String> = row.iter().map(|(name, value)| format!("{name}={value}")).collect();
    fields.join(" ")
}

fn ranges() -> impl Strategy<Value = TimeRange> {
    let time = || proptest::option::of((0_i64..5_200).prop_map(UnixMillis));
    (time(), time()).prop_map(|(since, until)| TimeRange { since, until })
}

fn in_range(range: TimeRange, stored: &Stored) -> bool {
    range.is_all()
        || times(&stored.record).is_some_and(|(start, end)| {
            range.since.is_none_or(|since| end >= since.0)
                && range.until.is_none_or(|until| start < until.0)
        })
}

fn selected<'a>(stored: &'a [Stored], expr: &Expr, range: TimeRange) -> Vec<&'a Stored> {
    let is_in = |it: &&Stored| naive::matches(expr, it) && in_range(range, it);
    stored.iter().filter(is_in).collect()
}

fn keys_texts() -> Vec<&'static str> {
    vec![
        "srcip",
        "dstip",
        "srcip/24",
        "srcip/30/48",
        "dstip/126",
        "proto",
        "dstport",
        "srcip,dstip",
        "srcip,dstip,srcport,dstport,proto",
        "srcip/24,dstport,proto",
        "srcmac",
        "start",
        "router",
        "router,domain",
        "via",
        "via,proto",
        "424242:9",
        "424242:9,srcip",
        "flags",
        "srcmask",
        "icmp-type,icmp-code",
        "srcmac,dstmac,start,end",
        "nexthop",
        "srcip4",
        "srcip6",
        "tos,flowdir,reason",
        "octetDeltaCount",
        "ip",
        "ip/24",
        "port",
        "port,proto",
        "as",
        "vlan,srcip",
        "mac",
        "if,via",
    ]
}

/// The groups that a record belongs to, as text: of a key that means either side, one of each.
fn naive_groups(keys: &Keys, stored: &Stored) -> Vec<String> {
    let value = |key: &super::plan::Key, field: Field| {
        naive::values(field, stored).first().map(|&value| match value {
            Value::Address(IpAddr::V4(address)) => {
                let shift = 32 - u32::from(key.ipv4_length);
                let bits = (u64::from(address.to_bits()) >> shift) << shift;
                Value::Address(IpAddr::V4(u32::try_from(bits).unwrap().into()))
            }
            Value::Address(IpAddr::V6(address)) => {
                let mut octets = address.octets();
                for bit in usize::from(key.ipv6_length)..128 {
                    octets[bit / 8] &= !(0x80 >> (bit % 8));
                }
                Value::Address(IpAddr::from(octets))
            }
            other => other,
        })
    };
    let side = |side: usize| {
        let mut is_either_absent = false;
        let mut parts = Vec::new();
        for key in keys.as_slice() {
            let fields = key.fields();
            let value = value(key, fields[side.min(fields.len() - 1)]);
            is_either_absent |= fields.len() == 2 && value.is_none();
            let names = key.names();
            let name = match value {
                Some(Value::Address(IpAddr::V6(_))) => names.last(),
                _ => names.first(),
            };
            parts.extend(value.map(|value| format!("{}={value}", name.unwrap())));
        }
        (parts.join(" "), is_either_absent)
    };
    if keys.as_slice().iter().all(|key| key.fields().len() == 1) {
        return vec![side(0).0];
    }
    let ((first, first_absent), (second, second_absent)) = (side(0), side(1));
    match (first_absent, second_absent) {
        _ if first == second => vec![first],
        (true, false) => vec![second],
        (false, true) => vec![first],
        _ => vec![first, second],
    }
}

/// Sums of a group: flows, packets, octets, start, end.
type Sums = (u64, u64, u64, Option<i64>, Option<i64>);

fn add(sums: &mut Sums, stored: &Stored) {
    let time = |column| match stored.record.value(column) {
        Some(Value::Millis(millis)) => Some(millis),
        _ => None,
    };
    sums.0 += 1;
    sums.1 += naive::measured(Measure::Packets, stored).unwrap_or(0);
    sums.2 += naive::measured(Measure::Bytes, stored).unwrap_or(0);
    let start = time(Column::FlowStartMilliseconds);
    sums.3 = [sums.3, start].into_iter().flatten().min();
    sums.4 = [sums.4, time(Column::FlowEndMilliseconds)].into_iter().flatten().max();
}

fn shown_sums(key: &str, (flows, packets, octets, start, end): &Sums) -> String {
    let mut text = String::new();
    if !key.is_empty() {
        text = format!("{key} ");
    }
    text += &format!("deltaFlowCount={flows} packetDeltaCount={packets} octetDeltaCount={octets}");
    if let Some(start) = start {
        text += &format!(" flowStartMilliseconds={}", UnixMillis(*start));
    }
    if let Some(end) = end {
        text += &format!(" flowEndMilliseconds={}", UnixMillis(*end));
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_filter_selects_what_the_naive_reading_selects(
        stored in vec(records(), 0..80),
        expr in filter::exprs(),
        range in ranges(),
        part_rows in 1_usize..90,
    ) {
        let request = QueryRequest {
            filter: Some(expr.to_string()),
            time_range: range,
            ..QueryRequest::default()
        };
        let plan = Plan::new(&request, NOW).unwrap();
        let (rows, outcome) = run_plan(&plan, &MemorySource::new(&stored, part_rows)).unwrap();
        let expected: Vec<String> =
            selected(&stored, &expr, range).into_iter().map(expected).collect();
        prop_assert_eq!(outcome.rows, expected.len() as u64);
        prop_assert_eq!(outcome.matched, outcome.rows);
        prop_assert_eq!(rows, expected, "{}", expr);
    }

    #[test]
    fn groups_are_those_of_the_naive_reading(
        stored in vec(records(), 0..80),
        keys in select(keys_texts()),
        expr in filter::exprs(),
        part_rows in 1_usize..90,
        workers in 1_usize..4,
    ) {
        let keys: Keys = keys.parse().unwrap();
        let request = QueryRequest {
            filter: Some(expr.to_string()),
            aggregate: Some(keys.clone()),
            sort: Some("flows".parse().unwrap()),
            ..QueryRequest::default()
        };
        let limits = Limits { workers, ..Limits::default() };
        let plan = Plan::new(&request, NOW).unwrap().with_limits(limits);
        let (rows, outcome) = run_plan(&plan, &MemorySource::new(&stored, part_rows)).unwrap();
        let mut groups: BTreeMap<String, Sums> = BTreeMap::new();
        let matching = selected(&stored, &expr, TimeRange::ALL);
        for it in &matching {
            for key in naive_groups(&keys, it) {
                add(groups.entry(key).or_default(), it);
            }
        }
        let mut expected: Vec<String> = groups.iter().map(|(key, sums)| shown_sums(key, sums)).collect();
        let mut sorted = rows.clone();
        expected.sort();
        sorted.sort();
        prop_assert_eq!(sorted, expected);
        prop_assert_eq!(outcome.matched, matching.len() as u64);
        let flows = |row: &String| -> u64 {
            let (_, rest) = row.split_once("deltaFlowCount=").unwrap();
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        prop_assert!(rows.iter().map(flows).is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn a_summary_sums_what_matches(
        stored in vec(records(), 0..60),
        expr in filter::exprs(),
        range in ranges(),
    ) {
        let request = QueryRequest {
            filter: Some(expr.to_string()),
            time_range: range,
            summary: true,
            ..QueryRequest::default()
        };
        let mut sums = Sums::default();
        for it in selected(&stored, &expr, range) {
            add(&mut sums, it);
        }
        prop_assert_eq!(run_request(&request, &stored).unwrap(), [shown_sums("", &sums)]);
    }

    #[test]
    fn sorted_records_are_those_of_a_full_sort(
        stored in vec(records(), 0..80),
        field in select(vec!["bytes", "start", "srcip", "dstport:desc", "duration:asc", "srcmac", "via", "424242:9", "router:desc", "srcmask"]),
        limit in proptest::option::of(0_usize..30),
    ) {
        let request = QueryRequest {
            sort: Some(field.parse().unwrap()),
            limit,
            ..QueryRequest::default()
        };
        let rows = run_request(&request, &stored).unwrap();
        let (word, order) = field.split_once(':').filter(|(_, it)| *it != "9").unwrap_or((field, ""));
        let field = match super::field::find(word) {
            Some(super::field::Name::Field(field)) => field,
            other => panic!("{other:?}"),
        };
        let descending = order == "desc" || (order.is_empty() && word == "bytes");
        let mut all: Vec<&Stored> = stored.iter().collect();
        all.sort_by(|left, right| {
            let value = |it| naive::values(field, it).first().map(|&value| naive_order(value));
            match (value(left), value(right)) {
                (Some(left), Some(right)) if descending => right.cmp(&left),
                (Some(left), Some(right)) => left.cmp(&right),
                (left, right) => right.is_some().cmp(&left.is_some()),
            }
        });
        let expected: Vec<String> =
            all.into_iter().take(limit.unwrap_or(usize::MAX)).map(expected).collect();
        prop_assert_eq!(rows, expected);
    }
}

/// Something that sorts as the value does.
fn naive_order(value: Value<'_>) -> (u8, Vec<u8>) {
    match value {
        Value::Unsigned(number) => (0, number.to_be_bytes().to_vec()),
        Value::Millis(millis) => (0, millis.cast_unsigned().to_be_bytes().to_vec()),
        Value::Address(IpAddr::V4(address)) => (4, address.octets().to_vec()),
        Value::Address(IpAddr::V6(address)) => (6, address.octets().to_vec()),
        Value::Mac(mac) => (0, mac.to_vec()),
        Value::Text(text) => (0, text.as_bytes().to_vec()),
        Value::Octets(octets) => (0, octets.to_vec()),
        other => panic!("{other}"),
    }
}

fn flow(octets: u64, start: u64, end: u64, source: &str) -> Stored {
    let mut record = record_of(&[
        (Column::OctetDeltaCount, octets),
        (Column::PacketDeltaCount, 1),
        (Column::FlowStartMilliseconds, start),
        (Column::FlowEndMilliseconds, end),
    ]);
    record.set_source_address(source.parse().unwrap());
    Stored { record, origin: origin() }
}

fn filtered(text: &str, stored: &[Stored]) -> usize {
    let request = QueryRequest { filter: Some(text.to_owned()), ..QueryRequest::default() };
    run_request(&request, stored).unwrap().len()
}

#[test]
fn what_is_absent_makes_a_condition_false_and_its_opposite_true() {
    let stored = [Stored { record: FlowRecord::default(), origin: origin() }];
    for (filter, found) in [
        ("port 80", 0),
        ("not port 80", 1),
        ("port != 80", 0),
        ("not port != 80", 1),
        ("src ip not in [10/8]", 0),
        ("bytes < 5", 0),
        ("bytes >= 0", 0),
        ("duration 0", 0),
        ("flags /S", 0),
        ("not flags S", 1),
        ("ipv4 or ipv6", 0),
        ("via 'netflow-v9' and router ip 192.0.2.9 and domain 7", 1),
    ] {
        assert_eq!(filtered(filter, &stored), found, "{filter}");
    }
}

#[test]
fn bytes_and_packets_count_both_directions() {
    let both = [
        (Column::OctetDeltaCount, 100),
        (Column::ReverseOctetDeltaCount, 50),
        (Column::PacketDeltaCount, 3),
        (Column::ReversePacketDeltaCount, 2),
    ];
    let stored = [Stored { record: record_of(&both), origin: origin() }];
    for (filter, found) in [
        ("bytes 150", 1),
        ("in bytes 100", 1),
        ("out bytes 50", 1),
        ("packets 5", 1),
        ("in packets 3 and out packets 2", 1),
        ("bpp 30", 1),
        ("bytes 100", 0),
    ] {
        assert_eq!(filtered(filter, &stored), found, "{filter}");
    }
    let request = QueryRequest { summary: true, ..QueryRequest::default() };
    let rows = run_request(&request, &stored).unwrap();
    assert_eq!(rows, ["deltaFlowCount=1 packetDeltaCount=5 octetDeltaCount=150"]);
}

#[test]
fn a_volume_is_the_first_pair_of_counters_that_a_record_has() {
    let of = |columns: &[(Column, u64)]| Stored { record: record_of(columns), origin: origin() };
    let stored = [
        of(&[(Column::InitiatorOctets, 20), (Column::ResponderOctets, 5)]),
        of(&[(Column::OctetTotalCount, 7), (Column::ReverseOctetTotalCount, 3)]),
        of(&[(Column::OctetDeltaCount, 1), (Column::OctetTotalCount, 900)]),
        of(&[(Column::FirewallEvent, 1)]),
    ];
    for (filter, found) in [("bytes 25", 1), ("bytes 10", 1), ("bytes 1", 1), ("bytes > 0", 3)] {
        assert_eq!(filtered(filter, &stored), found, "{filter}");
    }
    let request = QueryRequest { summary: true, ..QueryRequest::default() };
    let rows = run_request(&request, &stored).unwrap();
    assert_eq!(rows, ["deltaFlowCount=4 packetDeltaCount=0 octetDeltaCount=36"]);
}

#[test]
fn icmp_types_are_those_of_icmp_records_only() {
    let record = |protocol, ipv4, ipv6| {
        let columns = [
            (Column::ProtocolIdentifier, protocol),
            (Column::IcmpTypeCodeIpv4, ipv4),
            (Column::IcmpTypeCodeIpv6, ipv6),
        ];
        Stored { record: record_of(&columns), origin: origin() }
    };
    let stored = [record(1, 0x0301, 0), record(58, 0, 0x8000), record(6, 0x0301, 0x8000)];
    for (filter, found) in [
        ("icmp-type 3", 1),
        ("icmp type 3 and icmp code 1", 1),
        ("icmp-type 128", 1),
        ("icmp-type 0", 0),
        ("icmp-code 0", 1),
    ] {
        assert_eq!(filtered(filter, &stored), found, "{filter}");
    }
}

#[test]
fn a_time_range_takes_what_overlaps_it_and_falls_back_to_the_time_of_receipt() {
    let only = |column, millis| Stored { record: record_of(&[(column, millis)]), origin: origin() };
    let stored = [
        flow(1, 100, 200, "10.0.0.1"),
        flow(2, 300, 400, "10.0.0.1"),
        only(Column::CollectionTimeMilliseconds, 350),
        only(Column::FlowEndMilliseconds, 150),
        Stored { record: FlowRecord::default(), origin: origin() },
    ];
    for (since, until, found) in [
        (None, None, 5),
        (Some(200), Some(300), 1),
        (Some(201), Some(300), 0),
        (Some(400), None, 1),
        (Some(350), None, 2),
        (None, Some(151), 2),
        (None, Some(150), 1),
        (None, Some(100), 0),
    ] {
        let request = QueryRequest {
            time_range: TimeRange { since: since.map(UnixMillis), until: until.map(UnixMillis) },
            ..QueryRequest::default()
        };
        let rows = run_request(&request, &stored).unwrap();
        assert_eq!(rows.len(), found, "{since:?}..{until:?}");
    }
}

#[test]
fn top_talkers_come_with_the_most_first() {
    let stored: Vec<Stored> = (0..100)
        .map(|index| flow(index, index, index + 10, &format!("10.0.0.{}", index % 5)))
        .collect();
    let Top { keys, sort } = "srcip/bytes".parse().unwrap();
    let request = QueryRequest {
        aggregate: Some(keys),
        sort: Some(sort),
        limit: Some(2),
        ..QueryRequest::default()
    };
    assert_eq!(
        run_request(&request, &stored).unwrap(),
        [
            "sourceIPv4Address=10.0.0.4 deltaFlowCount=20 packetDeltaCount=20 octetDeltaCount=1030 \
             flowStartMilliseconds=1970-01-01T00:00:00.004Z flowEndMilliseconds=1970-01-01T00:00:00.109Z",
            "sourceIPv4Address=10.0.0.3 deltaFlowCount=20 packetDeltaCount=20 octetDeltaCount=1010 \
             flowStartMilliseconds=1970-01-01T00:00:00.003Z flowEndMilliseconds=1970-01-01T00:00:00.108Z",
        ]
    );
}

#[test]
fn of_addresses_sent_in_both_families_the_one_that_is_not_zero_counts() {
    let mut mapped = flow(1, 0, 0, "0.0.0.0");
    mapped.record.set_source_address("2001:db8::1".parse().unwrap());
    let mut plain = flow(2, 0, 0, "192.0.2.1");
    plain.record.set_source_address("::".parse().unwrap());
    let mut zero = flow(3, 0, 0, "0.0.0.0");
    zero.record.set_source_address("::".parse().unwrap());
    let request = |aggregate: Option<&str>| QueryRequest {
        aggregate: aggregate.map(|keys| keys.parse().unwrap()),
        ..QueryRequest::default()
    };
    let stored = [zero, plain, mapped];
    for rows in [
        run_request(&request(Some("srcip")), &stored).unwrap(),
        run_request(&request(None), &stored).unwrap(),
    ] {
        let starts: Vec<_> = rows.iter().map(|row| row.split(' ').next().unwrap()).collect();
        assert_eq!(
            starts,
            [
                "sourceIPv4Address=0.0.0.0",
                "sourceIPv4Address=192.0.2.1",
                "sourceIPv6Address=2001:db8::1",
            ]
        );
        assert!(rows.iter().all(|row| row.matches("source").count() == 1));
    }
}

#[test]
fn groups_of_equal_rank_come_by_their_keys() {
    let stored: Vec<Stored> = ["10.0.0.3", "2001:db8::1", "10.0.0.1", "10.0.0.2", "2001:db8::"]
        .iter()
        .map(|source| flow(5, 0, 0, source))
        .collect();
    let request =
        QueryRequest { aggregate: Some("srcip".parse().unwrap()), ..QueryRequest::default() };
    let rows = run_request(&request, &stored).unwrap();
    let keys: Vec<_> = rows.iter().map(|row| row.split(' ').next().unwrap()).collect();
    assert_eq!(
        keys,
        [
            "sourceIPv4Address=10.0.0.1",
            "sourceIPv4Address=10.0.0.2",
            "sourceIPv4Address=10.0.0.3",
            "sourceIPv6Address=2001:db8::",
            "sourceIPv6Address=2001:db8::1",
        ]
    );
}

#[test]
fn a_limit_ends_the_scan_and_keeps_the_stored_order() {
    let stored: Vec<Stored> = (0..40).map(|index| flow(index, 0, 0, "10.0.0.1")).collect();
    let request = QueryRequest {
        filter: Some("bytes >= 3".to_owned()),
        limit: Some(9),
        ..QueryRequest::default()
    };
    let rows = run_request(&request, &stored).unwrap();
    let octets: Vec<_> = rows
        .iter()
        .map(|row| row.split("octetDeltaCount=").nth(1).unwrap().split(' ').next().unwrap())
        .collect();
    assert_eq!(octets, ["3", "4", "5", "6", "7", "8", "9", "10", "11"]);
}

#[test]
fn more_than_a_limit_is_one_clear_error() {
    let stored: Vec<Stored> =
        (0..40).map(|index| flow(1, 0, 0, &format!("10.0.0.{index}"))).collect();
    let limits = Limits { groups_max: 39, sorted_records_max: 39, workers: 2 };
    let fails = |request: &QueryRequest| {
        let plan = Plan::new(request, NOW).unwrap().with_limits(limits);
        run_plan(&plan, &MemorySource::new(&stored, 7)).unwrap_err().to_string()
    };
    let sorted = QueryRequest { sort: Some("bytes".parse().unwrap()), ..QueryRequest::default() };
    let grouped =
        QueryRequest { aggregate: Some("srcip".parse().unwrap()), ..QueryRequest::default() };
    insta::assert_snapshot!([fails(&sorted), fails(&grouped)].join("\n"));
    let first = QueryRequest { limit: Some(3), ..sorted };
    let plan = Plan::new(&first, NOW).unwrap().with_limits(limits);
    assert_eq!(run_plan(&plan, &MemorySource::new(&stored, 7)).unwrap().0.len(), 3);
}

#[test]
fn a_raised_flag_and_a_closed_pipe_end_the_query() {
    let stored: Vec<Stored> = (0..40).map(|index| flow(index, 0, 0, "10.0.0.1")).collect();
    let source = MemorySource::new(&stored, 7);
    let plan = Plan::new(&QueryRequest::default(), NOW).unwrap();
    let cancel = Flag::default();
    cancel.raise();
    let mut ignore = |_: &[(&str, Value<'_>)]| io::Result::Ok(());
    let error = super::run(&plan, &source, &cancel, &mut ignore).unwrap_err();
    assert!(matches!(error, QueryError::Cancelled));
    let mut closed = |_: &[(&str, Value<'_>)]| io::Result::Err(io::ErrorKind::BrokenPipe.into());
    let error = super::run(&plan, &source, &Flag::default(), &mut closed).unwrap_err();
    assert!(error.is_broken_pipe());
}

#[test]
fn bad_requests_are_told_what_to_write() {
    let mut errors = Vec::new();
    for text in ["", "srcipp", "srcip,", "bytes", "srcip/33/24", "proto/8", "srcip/x", "ip,port"] {
        errors.push(text.parse::<Keys>().unwrap_err().to_string());
    }
    errors.push(vec!["proto"; 17].join(",").parse::<Keys>().unwrap_err().to_string());
    for text in ["", "bytse", "bytes:up"] {
        errors.push(text.parse::<Sort>().unwrap_err().to_string());
    }
    for text in ["srcip", "srcip/24", "srcip/dstport", "bytes/srcip", "srcipp/bytes", "/bytes"] {
        errors.push(text.parse::<Top>().unwrap_err().to_string());
    }
    let request = |aggregate: Option<&str>, sort: Option<&str>, summary| QueryRequest {
        aggregate: aggregate.map(|keys| keys.parse().unwrap()),
        sort: sort.map(|sort| sort.parse().unwrap()),
        summary,
        ..QueryRequest::default()
    };
    for request in [
        request(Some("srcip"), None, true),
        request(None, Some("bytes"), true),
        request(None, Some("flows"), false),
        request(None, Some("port"), false),
        request(Some("srcip"), Some("dstport"), false),
    ] {
        errors.push(Plan::new(&request, NOW).unwrap_err().to_string());
    }
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn headings_name_what_the_rows_can_hold() {
    let request = QueryRequest {
        aggregate: Some("srcip/24,dstport,ip".parse().unwrap()),
        ..QueryRequest::default()
    };
    let headings = Plan::new(&request, NOW).unwrap().headings().unwrap();
    let shown: Vec<String> = headings
        .iter()
        .map(|heading| format!("{}: {}", heading.label, heading.names.join(" ")))
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
    assert_eq!(Plan::new(&QueryRequest::default(), NOW).unwrap().headings(), None);
}

#[test]
fn every_column_s_kind_has_a_place_in_the_schema() {
    for &column in Column::ALL {
        let known = crate::archive::schema::schema().index_of(column.name());
        assert_eq!(known.ok(), Some(column.index()));
    }
    assert_eq!(ColumnKind::Ipv4.width(), 4);
}
