//! What is found, what is refused, what changes cost, and what comes back from disk.

use super::*;
use crate::model::{ObservationDomainId, Protocol, RecordType};
use crate::wire::{FieldSpecifier, TemplateId};
use proptest::prelude::*;
use std::net::SocketAddr;

fn store(limits: TemplateLimits) -> TemplateStore {
    TemplateStore::with_own_columns(limits, ColumnSet::EMPTY)
}

fn origin(domain: u32) -> Origin {
    origin_of("192.0.2.1", domain)
}

fn origin_of(address: &str, domain: u32) -> Origin {
    Origin {
        address: address.parse().unwrap(),
        domain: ObservationDomainId(domain),
        protocol: Protocol::NetflowV9,
    }
}

/// One of a million exporters.
fn forged(number: u32) -> Origin {
    Origin { address: std::net::Ipv4Addr::from(0x0a00_0000 | number).into(), ..origin(0) }
}

fn id(raw: u16) -> TemplateId {
    TemplateId::new(raw).unwrap()
}

fn announcement(raw_id: u16, length: u16) -> Announcement {
    Announcement {
        id: id(raw_id),
        record_type: RecordType::Flow,
        fields: vec![FieldSpecifier { enterprise: 0, id: 1, length }],
    }
}

fn udp(port: u16) -> Source {
    Source { port, transport: Transport::Udp }
}

fn tcp(port: u16) -> Source {
    Source { port, transport: Transport::Tcp }
}

fn learn_from(
    store: &TemplateStore,
    origin: &Origin,
    source: Source,
    template: Announcement,
    now: i64,
) -> Learned {
    store.learn(origin, source, &mut vec![template], UnixMillis(now))
}

fn learn(
    store: &TemplateStore,
    domain: u32,
    port: u16,
    template: Announcement,
    now: i64,
) -> Learned {
    learn_from(store, &origin(domain), udp(port), template, now)
}

fn length_at(
    store: &TemplateStore,
    origin: &Origin,
    source: Source,
    raw_id: u16,
    now: i64,
) -> Option<usize> {
    let template = store.domain(origin)?.find(source, id(raw_id), UnixMillis(now))?;
    Some(template.plan.record_size_min().get())
}

fn length(store: &TemplateStore, domain: u32, port: u16, raw_id: u16) -> Option<usize> {
    length_at(store, &origin(domain), udp(port), raw_id, 0)
}

const NONE: Learned =
    Learned { changed: 0, redefined: 0, over_limit: 0, over_share: 0, too_often: 0 };
const CHANGED: Learned = Learned { changed: 1, ..NONE };
const REDEFINED: Learned = Learned { changed: 1, redefined: 1, ..NONE };
const OVER_SHARE: Learned = Learned { over_share: 1, ..NONE };
const OVER_LIMIT: Learned = Learned { over_limit: 1, ..NONE };
const TOO_OFTEN: Learned = Learned { too_often: 1, ..NONE };

#[test]
fn a_port_s_own_template_comes_before_the_newest() {
    let store = store(TemplateLimits::default());
    assert_eq!(learn(&store, 7, 1000, announcement(256, 4), 1), CHANGED);
    assert_eq!(learn(&store, 7, 2000, announcement(256, 8), 2), CHANGED);
    assert_eq!(length(&store, 7, 1000, 256), Some(4));
    assert_eq!(length(&store, 7, 2000, 256), Some(8));
    assert_eq!(length(&store, 7, 3000, 256), Some(8));
    assert_eq!(length(&store, 7, 1000, 257), None);
    assert_eq!(length(&store, 8, 1000, 256), None);
}

#[test]
fn a_repeat_is_no_change_and_twins_share_a_plan() {
    let store = store(TemplateLimits::default());
    assert_eq!(learn(&store, 7, 1000, announcement(256, 4), 1), CHANGED);
    let epoch = store.epoch();
    assert_eq!(learn(&store, 7, 1000, announcement(256, 4), 2), NONE);
    assert_eq!(store.epoch(), epoch);
    assert_eq!(learn(&store, 7, 2000, announcement(256, 4), 3), CHANGED);
    assert!(store.epoch() > epoch);
    let domain = store.domain(&origin(7)).unwrap();
    let [first, second] =
        [1000, 2000].map(|port| domain.find(udp(port), id(256), UnixMillis(3)).unwrap());
    assert!(Arc::ptr_eq(&first, &second));
}

#[test]
fn a_template_that_changes_is_replaced() {
    let store = store(TemplateLimits::default());
    learn(&store, 7, 1000, announcement(256, 4), 1);
    assert_eq!(learn(&store, 7, 1000, announcement(256, 2), 2), REDEFINED);
    assert_eq!(length(&store, 7, 1000, 256), Some(2));
    // By a port that has none of its own, the newest is used, whoever announced it.
    assert_eq!(learn(&store, 7, 2000, announcement(256, 8), 3), CHANGED);
    assert_eq!(length(&store, 7, 3000, 256), Some(8));
}

#[test]
fn a_template_of_datagrams_that_is_not_announced_again_is_used_no_longer() {
    let store = store(TemplateLimits { lifetime_millis: 100, ..TemplateLimits::default() });
    let at = |port, now| length_at(&store, &origin(7), udp(port), 256, now);
    learn(&store, 7, 1, announcement(256, 4), 1_000);
    assert_eq!((at(1, 1_100), at(2, 1_100)), (Some(4), Some(4)));
    assert_eq!((at(1, 1_101), at(2, 1_101)), (None, None));
    let epoch = store.epoch();
    assert_eq!(learn(&store, 7, 1, announcement(256, 4), 2_000), NONE);
    assert!(store.epoch() > epoch, "what waits is told");
    assert_eq!(at(1, 2_100), Some(4));
    // A clock that was set back makes nothing old.
    assert_eq!(at(1, -50_000), Some(4));
    // A port's own that is too old gives way to the newest of the others.
    learn(&store, 7, 2, announcement(256, 8), 2_090);
    assert_eq!((at(1, 2_100), at(1, 2_150)), (Some(4), Some(8)));
    // A connection's lives as long as the connection.
    learn_from(&store, &origin(8), tcp(1), announcement(256, 2), 1_000);
    assert_eq!(length_at(&store, &origin(8), tcp(1), 256, 1_000_000), Some(2));
}

#[test]
fn a_connection_withdraws_its_own_templates_by_number_and_by_kind() {
    let store = store(TemplateLimits::default());
    let options =
        |raw_id| Announcement { record_type: RecordType::Options, ..announcement(raw_id, 1) };
    let announce = || {
        learn(&store, 7, 9, announcement(256, 8), 1);
        for (template, now) in [
            (announcement(256, 4), 2),
            (announcement(257, 4), 3),
            (options(258), 4),
            (options(259), 5),
        ] {
            learn_from(&store, &origin(7), tcp(1), template, now);
        }
    };
    let found =
        || [256, 257, 258, 259].map(|raw_id| length_at(&store, &origin(7), tcp(1), raw_id, 5));
    for (withdrawal, left) in [
        // Another port has a template of this number: it is none of the connection's.
        (Withdrawal::One(id(256)), [None, Some(4), Some(1), Some(1)]),
        (Withdrawal::One(id(259)), [Some(4), Some(4), Some(1), None]),
        (Withdrawal::AllData, [None, None, Some(1), Some(1)]),
        (Withdrawal::AllOptions, [Some(4), Some(4), None, None]),
    ] {
        announce();
        assert_eq!(found(), [Some(4), Some(4), Some(1), Some(1)]);
        store.withdraw(&origin(7), tcp(1), &[withdrawal]);
        assert_eq!(found(), left, "{withdrawal:?}");
        assert_eq!(length(&store, 7, 9, 256), Some(8), "another's stays");
    }
    let copied = store.copied.value();
    for _ in 0..1_000 {
        store.withdraw(&origin(7), tcp(1), &[Withdrawal::One(id(1_000))]);
    }
    assert_eq!(store.copied.value(), copied, "what was never announced costs nothing");
}

#[test]
fn a_twin_stays_when_the_other_is_withdrawn() {
    let store = store(TemplateLimits::default());
    for port in [1, 2] {
        learn_from(&store, &origin(7), tcp(port), announcement(256, 4), 1);
    }
    store.withdraw(&origin(7), tcp(2), &[Withdrawal::One(id(256))]);
    assert_eq!(length(&store, 7, 3, 256), Some(4));
}

#[test]
fn templates_go_with_their_connection() {
    let store = store(TemplateLimits::default());
    let peer = |port| Peer::tcp(SocketAddr::from(([192, 0, 2, 1], port)));
    for domain in [1, 2] {
        learn_from(&store, &origin(domain), tcp(5), announcement(256, 4), 1);
    }
    learn_from(&store, &origin(1), udp(5), announcement(257, 4), 1);
    let kept = store.domain(&origin(2)).unwrap();
    store.disconnect(peer(6));
    assert_eq!(length(&store, 2, 1, 256), Some(4));
    store.disconnect(peer(5));
    assert_eq!(length(&store, 1, 5, 256), None);
    assert_eq!(length(&store, 1, 5, 257), Some(4), "datagrams of the same port are no connection");
    assert!(store.domain(&origin(2)).is_none() && kept.is_forgotten());
    assert_eq!(store.room().domain_count, 1);
}

#[test]
fn limits_of_a_domain_hold() {
    let limits =
        TemplateLimits { port_count_max: 2, template_count_max: 3, ..TemplateLimits::default() };
    let store = store(limits);
    for raw_id in 256..259 {
        assert_eq!(learn(&store, 1, 1, announcement(raw_id, 4), 1), CHANGED);
    }
    assert_eq!(learn(&store, 1, 1, announcement(300, 4), 2), OVER_SHARE);
    // A template that is known may still change.
    assert_eq!(learn(&store, 1, 1, announcement(256, 8), 2), REDEFINED);
}

#[test]
fn ports_that_announced_long_ago_give_way_and_read_by_the_newest() {
    let store = store(TemplateLimits { port_count_max: 2, ..TemplateLimits::default() });
    for (port, length) in [(1, 1), (2, 2), (3, 4)] {
        learn(&store, 1, port, announcement(256, length), i64::from(port));
    }
    let lengths = [1, 2, 3].map(|port| length(&store, 1, port, 256));
    assert_eq!(lengths, [Some(4), Some(2), Some(4)]);
}

#[test]
fn an_exporter_with_forged_domains_fills_its_share_and_no_more() {
    let store = store(TemplateLimits {
        exporter_domain_count_max: 10,
        exporter_template_count_max: 25,
        ..TemplateLimits::default()
    });
    let mut learned = Learned::default();
    for domain in 0..1_000 {
        learned.over_share += learn(&store, domain, 1, announcement(256, 4), 1).over_share;
    }
    assert_eq!((learned.over_share, store.room().domain_count), (990, 10));
    for (number, raw_id) in (257..300).enumerate() {
        let outcome = learn(&store, 3, 1, announcement(raw_id, 4), 1);
        assert_eq!(outcome, if number < 15 { CHANGED } else { OVER_SHARE });
    }
    assert_eq!(learn(&store, 3, 1, announcement(257, 8), 1), REDEFINED, "its own may change");
    assert_eq!(learn_from(&store, &forged(1), udp(1), announcement(256, 4), 1), CHANGED);
}

#[test]
fn a_flood_of_forged_exporters_displaces_itself_and_stays_cheap() {
    let store = store(TemplateLimits { domain_count_max: 4_096, ..TemplateLimits::default() });
    for now in 1..=4 {
        learn(&store, 7, 1, announcement(256, 4), now);
    }
    let kept = store.domain(&origin(7)).unwrap();
    let count = 100_000;
    for number in 0..count {
        let now = 10 + i64::from(number);
        assert_eq!(learn_from(&store, &forged(number), udp(1), announcement(256, 4), now), CHANGED);
        assert!(store.room().domain_count <= 4_096);
    }
    assert!(!kept.is_forgotten(), "who announces again and again stays");
    assert!(store.domain(&forged(count - 1)).is_some());
    assert!(store.domain(&forged(0)).is_none());
    let each = store.copied.value() / u64::from(count);
    assert!(each <= 8, "{each} entries were copied for each");
    // After a day of silence it goes like all others.
    for number in 0..5_000 {
        let now = 2 * STALE_MILLIS + i64::from(number);
        learn_from(&store, &forged(count + number), udp(1), announcement(256, 4), now);
    }
    assert!(kept.is_forgotten());
}

#[test]
fn templates_take_no_more_memory_than_allowed() {
    let limits = TemplateLimits {
        exporter_size_max: 40_000,
        size_max: 100_000,
        ..TemplateLimits::default()
    };
    let store = store(limits);
    let refused: usize =
        (256..400).map(|raw_id| learn(&store, 1, 1, announcement(raw_id, 4), 1).over_share).sum();
    assert!((60..130).contains(&refused), "{refused} refused");
    // Exporters with their full share give way to others, but none takes more than there is.
    for number in 0..10 {
        for raw_id in 256..270 {
            learn_from(&store, &forged(number), udp(1), announcement(raw_id, 4), 2);
            assert!(store.room().size() <= limits.size_max);
        }
    }
    assert_eq!(length_at(&store, &forged(9), udp(1), 269, 2), Some(4));
}

#[test]
fn what_fits_nowhere_is_refused() {
    let store = store(TemplateLimits { size_max: 100, ..TemplateLimits::default() });
    assert_eq!(learn(&store, 1, 1, announcement(256, 4), 1), OVER_LIMIT);
    assert!(store.domain(&origin(1)).is_none());
}

#[test]
fn a_storm_of_redefinitions_is_bounded_and_misreads_nothing() {
    let store = store(TemplateLimits {
        change_burst_max: 10,
        changes_per_second: 2,
        ..TemplateLimits::default()
    });
    learn(&store, 8, 1, announcement(256, 4), 0);
    let mut outcomes = Vec::new();
    for round in 0..1_000_u16 {
        // Lengths that all differ from the one before.
        outcomes.push(learn(&store, 7, 1, announcement(256, 1 + round % 7), 0));
        let found = length(&store, 7, 1, 256);
        if outcomes.last() == Some(&TOO_OFTEN) {
            assert_eq!(found, None, "no template rather than a wrong one");
        } else {
            assert_eq!(found, Some(usize::from(1 + round % 7)));
        }
    }
    assert_eq!(outcomes.iter().filter(|outcome| outcome.changed == 1).count(), 10);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == TOO_OFTEN).count(), 990);
    let copied = store.copied.value();
    learn(&store, 7, 1, announcement(256, 1), 0);
    assert_eq!(store.copied.value(), copied, "a refused change copies nothing");
    // Others are not concerned, and with time there are changes to be had again.
    assert_eq!(learn(&store, 8, 1, announcement(256, 8), 0), REDEFINED);
    assert_eq!(learn(&store, 7, 1, announcement(256, 2), 499), TOO_OFTEN);
    assert_eq!(learn(&store, 7, 1, announcement(256, 2), 500), CHANGED);
    assert_eq!(length(&store, 7, 1, 256), Some(2));
}

#[test]
fn what_is_taken_and_withdrawn_without_end_is_a_storm_too() {
    let store = store(TemplateLimits { change_burst_max: 10, ..TemplateLimits::default() });
    let mut learned = 0;
    for _ in 0..1_000 {
        learned += learn_from(&store, &origin(7), tcp(1), announcement(256, 4), 0).changed;
        store.withdraw(&origin(7), tcp(1), &[Withdrawal::AllData]);
    }
    assert_eq!(learned, 10);
}

#[test]
fn templates_come_back_from_disk_with_their_age() {
    let dir = tempfile::tempdir().unwrap();
    let limits = TemplateLimits { lifetime_millis: 100, ..TemplateLimits::default() };
    let first = store(limits);
    assert_eq!(first.restore(dir.path()), 0);
    learn(&first, 7, 1, announcement(256, 4), 1_000);
    learn(&first, 7, 2, announcement(256, 8), 1_050);
    learn_from(&first, &origin(7), tcp(3), announcement(300, 8), 1_060);
    first.save(dir.path(), UnixMillis(0)).unwrap();
    let second = store(limits);
    assert_eq!(second.restore(dir.path()), 2);
    let at = |port, raw_id, now| length_at(&second, &origin(7), udp(port), raw_id, now);
    assert_eq!(
        [at(1, 256, 1_100), at(2, 256, 1_100), at(9, 256, 1_100)],
        [Some(4), Some(8), Some(8)]
    );
    assert_eq!([at(1, 256, 1_101), at(1, 256, 1_151)], [Some(8), None]);
    assert_eq!(at(3, 300, 1_060), None, "the connection is gone");
    assert!(second.epoch() > 0, "what waits looks for them");
}

#[test]
fn templates_are_saved_when_they_change_and_now_and_then_when_they_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(TemplateLimits::default());
    let file = dir.path().join("templates.bin");
    let is_saved_at = |now| {
        drop(std::fs::remove_file(&file));
        store.save_if_due(dir.path(), UnixMillis(now)).unwrap();
        file.exists()
    };
    assert!(!is_saved_at(1_000_000));
    learn(&store, 7, 1, announcement(256, 4), 1);
    assert!(is_saved_at(1_000_000) && !is_saved_at(1_000_500));
    learn(&store, 7, 1, announcement(256, 8), 2);
    assert!(!is_saved_at(1_001_999), "not so soon");
    assert!(is_saved_at(1_002_000));
    learn(&store, 7, 1, announcement(256, 8), 3);
    assert!(!is_saved_at(1_061_999), "a mere repeat");
    assert!(is_saved_at(1_062_000) && !is_saved_at(2_000_000));
    learn(&store, 7, 1, announcement(256, 4), 4);
    assert!(is_saved_at(5_000), "the clock was set back");
}

/// An announcement of some exporter, port, number and layout.
fn any_announcement() -> impl Strategy<Value = (u32, u16, bool, u16, u16, bool)> {
    (0..3_u32, 0..4_u16, any::<bool>(), 256..260_u16, 1..8_u16, any::<bool>())
}

proptest! {
    #[test]
    fn whatever_was_announced_is_found_alike_after_a_restart(
        all in proptest::collection::vec(any_announcement(), 0..60)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let limits = TemplateLimits { port_count_max: 3, ..TemplateLimits::default() };
        let first = store(limits);
        for (now, &(number, port, is_v6, raw_id, length, is_options)) in (0..).zip(&all) {
            let address = if is_v6 { "2001:db8::1" } else { "192.0.2.1" };
            let mut template = announcement(raw_id, length);
            if is_options {
                template.record_type = RecordType::Options;
            }
            learn_from(&first, &origin_of(address, number), udp(port), template, now);
        }
        first.save(dir.path(), UnixMillis(0)).unwrap();
        let second = store(limits);
        second.restore(dir.path());
        let end = limits.lifetime_millis;
        for address in ["192.0.2.1", "2001:db8::1"] {
            for number in 0..3 {
                let origin = origin_of(address, number);
                for (port, raw_id) in (0..5).flat_map(|p| (256..260).map(move |i| (p, i))) {
                    // At a time when the earlier ones are too old.
                    for now in [0, end + 10, end + 30] {
                        let find = |store: &TemplateStore| {
                            let domain = store.domain(&origin)?;
                            let found = domain.find(udp(port), id(raw_id), UnixMillis(now))?;
                            Some((found.announcement.clone(), found.announced()))
                        };
                        prop_assert_eq!(find(&first), find(&second));
                    }
                }
            }
        }
        let (first, second) = (first.room(), second.room());
        prop_assert_eq!((first.domain_count, first.size()), (second.domain_count, second.size()));
    }
}
