//! The page against its format, and what it says of many exporters.

use super::*;
use crate::collect::{Books, Decoder, DecoderConfig, Peer, TemplateStore};
use crate::model::FlowBatch;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a collector counts of one exporter, of the domain `number`, that sent so many messages.
fn exporter(number: u32, messages: u64) -> ExporterStatistics {
    let config = DecoderConfig::default();
    let books = Arc::new(Books::default());
    let store = Arc::new(TemplateStore::new(&config));
    let mut decoder = Decoder::new(&config, store, Arc::default(), Arc::clone(&books));
    // An IPFIX Message without sets: version, length, time, sequence, domain.
    let mut message = vec![0, 10, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend(number.to_be_bytes());
    let peer = Peer::tcp(([192, 0, 2, 1], 4739).into());
    decoder.decode(&message, peer, UnixMillis(0), &mut FlowBatch::new(), &mut |_| {});
    let one = books.statistics().exporters.remove(0);
    assert_eq!(one.messages, 1);
    ExporterStatistics { messages, ..one }
}

fn figures(exporters: Vec<ExporterStatistics>) -> Figures {
    Figures {
        started: UnixMillis(1_700_000_000_123),
        collect: Statistics {
            datagrams: 12,
            drops: BTreeMap::from([("notAllowed".to_owned(), 3)]),
            exporters,
            ..Statistics::default()
        },
        ..Figures::default()
    }
}

/// The samples of a page, after its lines were held against the format: a family's help, its
/// type, then its samples; each name once, each sample once.
fn samples(page: &str) -> BTreeMap<String, u64> {
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let (mut families, mut samples) = (BTreeSet::new(), BTreeMap::new());
    let mut family = ("", "");
    assert!(page.ends_with('\n'));
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect(line);
            assert!(is_name(name) && !words.is_empty(), "{line}");
            assert!(families.insert(name), "{line}");
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
            let (named, kind) = kind.and_then(|kind| kind.split_once(' ')).expect(line);
            assert_eq!(named, name);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(matches!(kind, "counter" | "gauge"), "{line}");
            family = (name, kind);
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect(line);
        let name = sample.split('{').next().unwrap();
        assert_eq!(name, family.0, "{line}");
        for label in
            sample.strip_prefix(name).unwrap().split([',', '{', '}']).filter(|l| !l.is_empty())
        {
            let (label, text) = label.split_once('=').expect(line);
            assert!(is_name(label) && text.starts_with('"') && text.ends_with('"'), "{line}");
        }
        assert!(samples.insert(sample.to_owned(), value.parse().expect(line)).is_none(), "{line}");
    }
    samples
}

#[test]
fn the_page_is_of_the_format_and_every_name_of_the_rule() {
    let mut one = exporter(7, 5);
    one.set_drops.insert("malformed".to_owned(), 2);
    let page = Page::default().write(&figures(vec![one]));
    let samples = samples(&page);
    for (sample, value) in [
        ("flowd_start_time_seconds", 1_700_000_000),
        ("flowd_collect_received_messages_total", 12),
        (r#"flowd_collect_dropped_messages_total{reason="notAllowed"}"#, 3),
        (r#"flowd_collect_dropped_messages_total{reason="malformed"}"#, 0),
        (r#"flowd_collect_ended_connections_total{reason="idle"}"#, 0),
        (
            r#"flowd_collect_exporter_messages_total{exporter="192.0.2.1",domain="7",protocol="ipfix"}"#,
            5,
        ),
        (
            r#"flowd_collect_exporter_dropped_sets_total{exporter="192.0.2.1",domain="7",protocol="ipfix",reason="malformed"}"#,
            2,
        ),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample} in\n{page}");
    }
    let of_a_stage =
        ["flowd_collect_", "flowd_ring_", "flowd_archive_", "flowd_build_info", "flowd_start_"];
    for sample in samples.keys() {
        assert!(of_a_stage.iter().any(|stage| sample.starts_with(stage)), "{sample}");
    }
}

#[test]
fn many_exporters_are_some_with_numbers_and_one_sum() {
    const SHOWN: usize = 20;
    let count = u32::try_from(SHOWN).unwrap() + 10;
    let exporters: Vec<_> = (0..count).map(|number| exporter(number, u64::from(number))).collect();
    let total: u64 = exporters.iter().map(|exporter| exporter.messages).sum();
    let mut page = Page { count_max: SHOWN, ..Page::default() };
    let of = |text: &str| -> BTreeMap<String, u64> {
        samples(text)
            .into_iter()
            .filter(|(name, _)| name.starts_with("flowd_collect_exporter_messages_total"))
            .collect()
    };
    let mut with_others = figures(exporters);
    with_others.collect.other_exporters = Some(exporter(0, 1_000));
    let first = of(&page.write(&with_others));
    assert_eq!(first.len(), SHOWN + 1);
    assert_eq!(first.values().sum::<u64>(), total + 1_000);
    let others = r#"flowd_collect_exporter_messages_total{exporter="other",domain="",protocol=""}"#;
    // The ten that sent least, and those that had no row any more.
    assert_eq!(first[others], 45 + 1_000);
    // One of them is loud now: the others keep their places.
    with_others.collect.exporters[3].messages += 1_000_000;
    let second = of(&page.write(&with_others));
    assert!(first.keys().eq(second.keys()));
    assert_eq!(second[others], 1_000_045 + 1_000);
}

#[test]
fn what_comes_late_lets_no_counter_fall() {
    let config = DecoderConfig::default();
    let books = Arc::new(Books::default());
    let store = Arc::new(TemplateStore::new(&config));
    let mut decoder = Decoder::new(&config, store, Arc::default(), Arc::clone(&books));
    let mut page = Page::default();
    let mut receive = |octets: &[u8]| {
        let peer = Peer::from(std::net::SocketAddr::from(([192, 0, 2, 1], 4739)));
        decoder.decode(octets, peer, UnixMillis(0), &mut FlowBatch::new(), &mut |_| {});
        let mut figures = figures(Vec::new());
        figures.collect = books.statistics();
        samples(&page.write(&figures))
    };
    // IPFIX counts records, NetFlow v9 messages: each 0, then 5, then 3.
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    for sequence in [0, 5, 3] {
        receive(&[0, 10, 0, 16, 0, 0, 0, 0, 0, 0, 0, sequence, 0, 0, 0, 7]);
        let mut v9 = [0; 20];
        v9[1] = 9;
        (v9[15], v9[19]) = (sequence, 7);
        before = std::mem::replace(&mut after, receive(&v9));
        for (sample, value) in before.iter().filter(|(sample, _)| sample.contains("_total")) {
            assert!(after[sample] >= *value, "{sample} fell");
        }
    }
    let of = |samples: &BTreeMap<String, u64>, what: &str, protocol: &str| {
        let labels = format!(r#"{{exporter="192.0.2.1",domain="7",protocol="{protocol}"}}"#);
        samples[&format!("flowd_collect_exporter_{what}_total{labels}")]
    };
    assert_eq!(of(&before, "missing_records", "ipfix"), 5);
    assert_eq!(of(&before, "late_records", "ipfix"), 0);
    assert_eq!(of(&after, "missing_records", "ipfix"), 5);
    assert_eq!(of(&after, "late_records", "ipfix"), 1);
    assert_eq!(of(&after, "missing_messages", "ipfix"), 0);
    assert_eq!(of(&after, "missing_messages", "netflow-v9"), 4);
    assert_eq!(of(&after, "late_messages", "netflow-v9"), 1);
    assert_eq!(of(&after, "missing_records", "netflow-v9"), 0);
}

#[test]
fn what_an_exporter_told_of_its_samples_and_sets_is_on_the_page() {
    let mut one = exporter(7, 5);
    one.sets_late = 3;
    one.samples.samples_lost = 11;
    one.samples.flow_drops = 12;
    (one.samples.malformed, one.samples.unknown) = (2, 5);
    let mut figures = figures(vec![one]);
    let collect = &mut figures.collect;
    (collect.sets_waited, collect.sets_late, collect.redefinitions) = (21, 22, 23);
    (collect.elements_refused, collect.lists_over_limit) = (24, 25);
    let page = Page::default().write(&figures);
    let samples = samples(&page);
    let labels = r#"{exporter="192.0.2.1",domain="7",protocol="ipfix"}"#;
    for (name, labels, value) in [
        ("exporter_late_sets", labels, 3),
        ("exporter_missing_samples", labels, 11),
        ("exporter_unsampled_packets", labels, 12),
        ("exporter_dropped_samples", labels, 7),
        ("waited_sets", "", 21),
        ("late_sets", "", 22),
        ("redefined_templates", "", 23),
        ("refused_elements", "", 24),
        ("refused_list_records", "", 25),
    ] {
        let name = format!("flowd_collect_{name}_total{labels}");
        assert_eq!(samples.get(&name), Some(&value), "{name} in\n{page}");
    }
}
