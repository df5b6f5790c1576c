//! Options data as collectors receive it.

use super::options::{Options, Round};
use super::tests::{Collector, Data, NOW, Received, plain};
use super::*;
use crate::model::time::UnixMillis;
use crate::model::{FlowRecord, PointTotals, Volume};
use crate::wire::v9::MessageEncoder;
use flowd_common::{Direction, ObservationPoint};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU32;

const SAMPLING_ID: u16 = 256;
const NAMES_ID: u16 = 257;
const LEDGER_ID: u16 = 258;
const NAMES_SIZE: usize = 88;
const LEDGER_SIZE: usize = 69;

fn interface(number: u32) -> InterfaceOptions {
    let base = u64::from(number) * 1_000;
    let ledger = |direction, base| PointLedger {
        direction,
        seen: Volume { packets: base + 1, octets: base + 2 },
        flows: base + 3,
        ignored: Volume { packets: base + 4, octets: base + 5 },
    };
    InterfaceOptions {
        interface: number,
        name: format!("eth{number}"),
        description: format!("uplink {number}"),
        ledgers: vec![ledger(Direction::EGRESS, base + 500), ledger(Direction::INGRESS, base)],
    }
}

/// An address that nobody else is given while nobody listens there: of this process alone, and its
/// port is none that the system chooses.
fn own_address(port: u16) -> SocketAddr {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, a, b, c], port))
}

fn listen(address: SocketAddr) -> Collector {
    Collector::on(UdpSocket::bind(address).unwrap())
}

fn at(seconds: i64) -> UnixMillis {
    UnixMillis(NOW.0 + seconds * 1_000)
}

fn seen_at(interface: u32, direction: Direction) -> FlowRecord {
    let mut record = plain();
    record.set_point(ObservationPoint::new(interface, direction));
    record
}

/// The records of one template, without padding.
fn records_of(messages: &[Received], template_id: u16, size: usize) -> Vec<Vec<u8>> {
    let sets = messages.iter().flat_map(|message| &message.data);
    sets.filter(|data| data.template_id == template_id)
        .flat_map(|data| data.body.chunks_exact(size).map(<[u8]>::to_vec))
        .collect()
}

/// Interface -> name and description.
fn names(messages: &[Received]) -> BTreeMap<u32, (String, String)> {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let records = records_of(messages, NAMES_ID, NAMES_SIZE);
    let count = records.len();
    let names: BTreeMap<_, _> = records
        .iter()
        .map(|record| {
            let interface = u32::from_be_bytes(record[..4].try_into().unwrap());
            assert_eq!(record[4..8], record[..4]);
            (interface, (text(&record[8..24]), text(&record[24..])))
        })
        .collect();
    assert_eq!(names.len(), count, "each interface once");
    names
}

/// Interface and direction -> the eight counters.
fn ledgers(messages: &[Received]) -> Vec<((u32, u8), Vec<u64>)> {
    let records = records_of(messages, LEDGER_ID, LEDGER_SIZE);
    let ledger = |record: &Vec<u8>| {
        let interface = u32::from_be_bytes(record[..4].try_into().unwrap());
        let counters = record[5..].chunks_exact(8);
        let counters = counters.map(|octets| u64::from_be_bytes(octets.try_into().unwrap()));
        ((interface, record[4]), counters.collect())
    };
    records.iter().map(ledger).collect()
}

#[test]
fn names_and_ledgers_go_out_with_the_first_templates() {
    let collector = Collector::new();
    let config = ExporterConfig {
        sampling: Some(Sampling { interval: NonZeroU32::new(10).unwrap() }),
        ..collector.config()
    };
    let mut exporter = Exporter::new(&config).unwrap();
    exporter.describe(vec![interface(3), interface(2)]);
    exporter.export(&[plain()], NOW);
    exporter.flush(NOW);
    let messages = collector.messages();
    let [message] = &messages[..] else { panic!("one message: {messages:?}") };
    let fields = |id: u16| -> Vec<(u16, u16)> {
        let mut templates = message.options_templates.iter();
        let template = templates.find(|template| template.id.get() == id).unwrap();
        template.fields().map(|field| (field.id, field.length)).collect()
    };
    assert_eq!(fields(SAMPLING_ID), [(1, 4), (34, 4), (35, 1)]);
    assert_eq!(fields(NAMES_ID), [(2, 4), (10, 4), (82, 16), (83, 64)]);
    let counters = [85, 86, 163, 164, 165, 166, 167, 168].map(|id| (id, 8));
    assert_eq!(fields(LEDGER_ID), [&[(2, 4), (61, 1)][..], &counters].concat());
    let names = names(&messages);
    assert_eq!(names.len(), 2);
    assert_eq!(names[&2].0.trim_end_matches('\0'), "eth2");
    assert_eq!(names[&3].1.trim_end_matches('\0'), "uplink 3");
    let ledgers = ledgers(&messages);
    assert_eq!(ledgers.len(), 4);
    assert_eq!(ledgers[0], ((2, 0), vec![2_002, 2_001, 2_003, 2_004, 2_005, 0, 0, 0]));
    assert_eq!(ledgers[3], ((3, 1), vec![3_502, 3_501, 3_503, 3_504, 3_505, 0, 0, 0]));
    // Sampling, two names, four ledgers; four templates and the flow besides.
    let statistics = exporter.statistics().remove(0);
    assert_eq!((statistics.options_records, statistics.exported.records), (7, 1));
    assert_eq!(message.header.count, 7 + 4 + 1);
}

#[test]
fn options_data_comes_again_with_every_twentieth_message_and_each_30_s() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    exporter.describe(vec![interface(1)]);
    let mut told = Vec::new();
    for second in 0..75 {
        // Nothing new for 31 seconds, then a message each second.
        if second > 31 {
            exporter.export(&[plain()], at(second));
        }
        exporter.flush(at(second));
        let messages = collector.messages();
        assert_eq!(messages.len(), usize::from(second > 31 || matches!(second, 0 | 30)));
        assert!(messages.iter().all(|message| message.header.count > 0));
        if !names(&messages).is_empty() {
            assert_eq!(ledgers(&messages).len(), 2);
            assert_eq!(messages[0].options_templates.len(), 2);
            told.push(second);
        }
    }
    // The keep-alive at 30 s is the first of twenty messages.
    assert_eq!(told, [0, 30, 51, 71]);
}

#[test]
fn an_exporter_with_nothing_to_tell_keeps_silent() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    for second in 0..100 {
        exporter.flush(at(second));
    }
    exporter.finish(at(100));
    assert_eq!(collector.messages().len(), 0);
    // What it is told late goes out at once.
    exporter.describe(vec![interface(1)]);
    exporter.flush(at(101));
    assert_eq!(names(&collector.messages()).len(), 1);
}

#[test]
fn being_told_of_no_interface_again_and_again_sends_nothing() {
    let collector = Collector::new();
    let config = ExporterConfig {
        sampling: Some(Sampling { interval: NonZeroU32::new(10).unwrap() }),
        ..collector.config()
    };
    let mut exporter = Exporter::new(&config).unwrap();
    for second in 0..29 {
        exporter.describe(Vec::new());
        exporter.flush(at(second));
    }
    assert_eq!(collector.messages().len(), 1, "the first tells of sampling");
    exporter.describe(vec![interface(1)]);
    exporter.flush(at(29));
    assert_eq!(names(&collector.messages()).len(), 1);
}

#[test]
fn a_clock_that_is_set_back_begins_anew() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    exporter.describe(vec![interface(1)]);
    let mut told_at = |second| {
        exporter.export(&[plain()], at(second));
        exporter.flush(at(second));
        let messages = collector.messages();
        let [message] = &messages[..] else { panic!("one message: {messages:?}") };
        (i64::from(message.header.unix_seconds) - NOW.0 / 1_000, names(&messages).len())
    };
    assert_eq!(told_at(0), (0, 1));
    assert_eq!(told_at(-2), (0, 0), "a small step is passed over");
    assert_eq!(told_at(-100), (-100, 1), "the new time, with all templates and options data");
    assert_eq!(told_at(-99), (-99, 0));
    assert_eq!(told_at(-70), (-70, 1), "30 s later by the new time");
}

#[test]
fn a_pause_ends_when_the_clock_is_set_back() {
    // No datagram is so large: each one is refused by the system, and a pause begins.
    let collector = Collector::new();
    let config = ExporterConfig { message_size_max: 70_000, ..collector.config() };
    let mut exporter = Exporter::new(&config).unwrap();
    exporter.export(&vec![plain(); 2_400], at(0));
    exporter.flush(at(0));
    assert!(exporter.statistics()[0].not_sent.contains_key("sendFailed"));
    exporter.export(&[plain()], at(0));
    exporter.flush(at(0));
    assert!(exporter.statistics()[0].not_sent.contains_key("paused"));
    assert_eq!(exporter.statistics()[0].exported.records, 0);
    exporter.export(&[plain()], at(-1_000));
    exporter.flush(at(-1_000));
    assert_eq!(exporter.statistics()[0].exported.records, 1);
}

#[test]
fn what_was_not_sent_of_a_forgotten_interface_is_told_with_all_such() {
    let address = own_address(20_553);
    let config = ExporterConfig::new(vec![address], at(-60));
    let mut exporter = Exporter::new(&config).unwrap();
    for number in 1..=50 {
        exporter.export(&[seen_at(number, Direction::INGRESS)], NOW);
        exporter.flush(NOW);
        exporter.forget(number);
    }
    exporter.export(&[seen_at(51, Direction::EGRESS)], NOW);
    // It is in the open message while its interface is forgotten.
    exporter.forget(51);
    exporter.export(&[seen_at(52, Direction::EGRESS)], NOW);
    exporter.flush(NOW);
    let statistics = exporter.statistics().remove(0);
    assert_eq!(statistics.not_sent["refused"].records, 52);
    let totals = |records| Totals { records, packets: 10 * records, octets: 1_000 * records };
    let here = NotSentAt { interface: Some(52), flow_direction: Some(1), totals: totals(1) };
    let beyond = NotSentAt { interface: None, flow_direction: None, totals: totals(51) };
    assert_eq!(statistics.not_sent_at, [here, beyond]);
}

#[test]
fn ledgers_tell_what_this_collector_was_not_sent() {
    let address = own_address(20_551);
    let collector = listen(address);
    let other = Collector::new();
    let mut config = collector.config();
    config.collectors.push(other.0.local_addr().unwrap());
    let mut exporter = Exporter::new(&config).unwrap();
    exporter.describe(vec![interface(1), interface(2)]);
    let records = [
        seen_at(1, Direction::INGRESS),
        seen_at(2, Direction::EGRESS),
        seen_at(2, Direction::EGRESS),
        plain(),
    ];
    collector.close();
    exporter.export(&records, NOW);
    exporter.flush(NOW);
    let collector = listen(address);
    exporter.export(&records[..1], NOW);
    exporter.flush(NOW);
    let messages = collector.messages();
    let not_sent: Vec<_> = ledgers(&messages)
        .into_iter()
        .map(|(point, counters)| (point, counters[5..].to_vec()))
        .collect();
    let none = vec![0; 3];
    let one = vec![1, 10, 1_000];
    let two = vec![2, 20, 2_000];
    assert_eq!(not_sent, [((1, 0), one), ((1, 1), none.clone()), ((2, 0), none), ((2, 1), two)]);
    assert!(ledgers(&other.messages()).iter().all(|(_, counters)| counters[5..] == [0; 3]));

    let [refused, sent] = &exporter.statistics()[..] else { panic!("two collectors") };
    assert_eq!(refused.not_sent["refused"].records, 4);
    let at = |interface, direction, records| NotSentAt {
        interface: Some(interface),
        flow_direction: Some(direction),
        totals: Totals { records, packets: 10 * records, octets: 1_000 * records },
    };
    assert_eq!(refused.not_sent_at, [at(1, 0, 1), at(2, 1, 2)]);
    assert_eq!((refused.exported.records, refused.options_records), (1, 6));
    assert_eq!((sent.exported.records, sent.not_sent_at.len()), (5, 0));
    let text = serde_json::to_string(refused).unwrap();
    assert!(text.contains(r#"{"interface":2,"flowDirection":1,"records":2,"#), "{text}");
    assert_eq!(&serde_json::from_str::<CollectorStatistics>(&text).unwrap(), refused);
}

#[test]
fn records_of_no_message_are_counted_by_point_too() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    exporter.describe(vec![interface(1)]);
    let mut options = seen_at(1, Direction::INGRESS);
    options.record_type = crate::model::RecordType::Options;
    exporter.export(&[options], NOW);
    exporter.flush(NOW);
    let ledgers = ledgers(&collector.messages());
    assert_eq!(ledgers[0].1[5..], [1, 10, 1_000]);
    assert_eq!(exporter.statistics()[0].not_sent_at[0].totals.records, 1);
}

#[test]
fn thousands_of_interfaces_are_told_beside_the_flows() {
    const COUNT: u32 = 3_000;
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    exporter.describe((0..COUNT).map(interface).collect());
    let (mut messages, mut given) = (Vec::new(), 0);
    for _ in 0..1_200 {
        exporter.export(&vec![plain(); 50], NOW);
        given += 50;
        let received = collector.messages();
        for message in &received {
            let size_of = |is_flow: bool| -> usize {
                let of_kind = |data: &&Data| (data.template_id > LEDGER_ID) == is_flow;
                message.data.iter().filter(of_kind).map(|data| data.size).sum()
            };
            assert!(message.size <= 1_432);
            // The first one has the templates besides.
            let is_first = message.header.sequence_number == 0;
            assert!(is_first || size_of(true) + 100 >= message.size / 2, "{message:?}");
            assert!(size_of(false) <= 1_432 / 2 + NAMES_SIZE);
        }
        messages.extend(received);
    }
    exporter.flush(NOW);
    messages.extend(collector.messages());
    assert_eq!(names(&messages).len(), COUNT as usize);
    let points: BTreeSet<_> = ledgers(&messages).iter().map(|&(point, _)| point).collect();
    assert_eq!(points.len(), 2 * COUNT as usize);
    assert_eq!(ledgers(&messages).len(), points.len(), "each point once");
    let sequence: Vec<u32> = messages.iter().map(|m| m.header.sequence_number).collect();
    assert_eq!(sequence, (0..u32::try_from(sequence.len()).unwrap()).collect::<Vec<_>>());
    let statistics = exporter.statistics().remove(0);
    assert_eq!(statistics.exported.records, given);
    assert_eq!(statistics.options_records, 3 * u64::from(COUNT));
}

#[test]
fn thousands_of_interfaces_are_told_without_any_flow() {
    const COUNT: u32 = 2_000;
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    let all: Vec<_> = (0..COUNT).map(interface).collect();
    let mut messages = Vec::new();
    for second in 0..29 {
        exporter.describe(all.clone());
        exporter.flush(at(second));
        let received = collector.messages();
        assert!(received.len() <= 32);
        messages.extend(received);
    }
    assert_eq!(names(&messages).len(), COUNT as usize);
    assert_eq!(ledgers(&messages).len(), 2 * COUNT as usize);
}

#[test]
fn the_last_word_tells_all_interfaces_once_more() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(&collector.config()).unwrap();
    exporter.describe((0..30).map(interface).collect());
    exporter.flush(at(0));
    collector.messages();
    exporter.export(&[plain()], at(1));
    exporter.finish(at(1));
    let messages = collector.messages();
    assert_eq!(names(&messages).len(), 30);
    assert_eq!(ledgers(&messages).len(), 60);
    assert_eq!(exporter.statistics()[0].exported.records, 1);
}

#[test]
fn a_round_goes_on_although_interfaces_come_and_go() {
    let mut options = Options::new(crate::model::ObservationDomainId(0), None);
    let mut encoder = MessageEncoder::new(20 + 4 + 2 * NAMES_SIZE);
    let not_sent = PointTotals::default();
    let mut count = 0;
    let mut tell = |options: &Options, round| {
        encoder.clear();
        let (round, told) = options.tell(round, &mut encoder, usize::MAX, &not_sent);
        count += told;
        round
    };
    options.describe([1, 2, 3, 4].map(interface).to_vec());
    let round = tell(&options, Round::Names(None)).unwrap();
    assert!(matches!(round, Round::Names(Some(2))));
    // 2 vanishes, 1 stays told, 5 is new.
    options.describe([1, 3, 5].map(interface).to_vec());
    let mut round = tell(&options, round);
    assert!(matches!(round, Some(Round::Ledgers(None))));
    while let Some(unfinished) = round {
        round = tell(&options, unfinished);
    }
    assert_eq!(count, 4 + 6);
    // A message too small for any of it does not hold up the rest.
    let mut small = MessageEncoder::new(60);
    let (round, told) = options.tell(Round::Names(None), &mut small, 60, &not_sent);
    assert!(round.is_none());
    assert_eq!(told, 0);
}

proptest! {
    /// Whatever becomes of the messages, the books balance in all and by point, and the last word
    /// that is sent tells the same.
    #[test]
    fn books_and_ledgers_balance_while_a_collector_comes_and_goes(
        steps in proptest::collection::vec((any::<bool>(), 0_usize..60, 1_u32..4), 1..25),
    ) {
        let address = own_address(20_552);
        let mut collector = Some(listen(address));
        let config = ExporterConfig::new(vec![address], at(-60));
        let config = ExporterConfig { message_size_max: 300, ..config };
        let mut exporter = Exporter::new(&config).unwrap();
        exporter.describe((1..4).map(interface).collect());
        let mut given = 0;
        for (second, (listens, count, number)) in (0..).zip(steps) {
            if listens != collector.is_some() {
                match collector.take() {
                    Some(collector) => collector.close(),
                    None => collector = Some(listen(address)),
                }
            }
            let direction = if count % 2 == 0 { Direction::INGRESS } else { Direction::EGRESS };
            exporter.export(&vec![seen_at(number, direction); count], at(second));
            given += u64::try_from(count).unwrap();
            exporter.flush(at(second));
            // What it has received leaves its buffer.
            collector.as_ref().map(Collector::messages);
        }
        let collector = collector.unwrap_or_else(|| listen(address));
        exporter.finish(at(100));
        exporter.finish(at(101));
        let statistics = exporter.statistics().remove(0);
        let sum = |totals: &mut dyn Iterator<Item = Totals>| {
            totals.fold(Totals::default(), |mut sum, more| {
                sum.add(more);
                sum
            })
        };
        let not_sent = sum(&mut statistics.not_sent.values().copied());
        let not_sent_at = sum(&mut statistics.not_sent_at.iter().map(|at| at.totals));
        prop_assert_eq!(not_sent, not_sent_at);
        prop_assert_eq!(statistics.exported.records + not_sent.records, given);
        let told: BTreeMap<_, _> = ledgers(&collector.messages()).into_iter().collect();
        collector.close();
        prop_assert_eq!(told.len(), 6);
        let counters = told.values().map(|counters| Totals {
            records: counters[5],
            packets: counters[6],
            octets: counters[7],
        });
        prop_assert_eq!(sum(&mut counters.into_iter()), not_sent);
    }
}
