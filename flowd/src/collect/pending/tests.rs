//! What is given back, what gives way, and what comes back from disk.

use super::queue::{ADDRESS_OVERHEAD, KEY_OVERHEAD, SET_OVERHEAD};
use super::*;
use crate::collect::peer::Transport;
use crate::model::time::SysUptime;
use crate::model::{ObservationDomainId, Protocol};
use proptest::prelude::*;
use std::fs;

const BODY_SIZE: usize = 40;
const FILE: &str = "pending.log";

fn key(domain: u32) -> PendingKey {
    key_of(1, domain)
}

fn key_of(address: u32, domain: u32) -> PendingKey {
    PendingKey {
        origin: Arc::new(Origin {
            address: std::net::Ipv4Addr::from(0x0a00_0000 | address).into(),
            domain: ObservationDomainId(domain),
            protocol: Protocol::NetflowV9,
        }),
        template_id: TemplateId::FIRST,
    }
}

fn held(received: i64) -> Held {
    Held {
        source: Source { port: 1, transport: Transport::Udp },
        clocks: Clocks::default(),
        sequence_number: 0,
        received: UnixMillis(received),
        record_index: 0,
        exporter: None,
        body: Box::new([7; BODY_SIZE]),
    }
}

/// Room for so many sets of two templates of one exporter, which live for 100 ms.
fn limits(sets: usize) -> PendingLimits {
    let size_max = 2 * KEY_OVERHEAD + ADDRESS_OVERHEAD + sets * (SET_OVERHEAD + BODY_SIZE);
    PendingLimits { size_max, exporter_size_max: size_max, age_max_millis: 100 }
}

fn hold(store: &PendingStore, key: PendingKey, received: i64) {
    store.hold(key, held(received), &mut |_, _| panic!("room for all"));
}

fn take(store: &PendingStore, key: &PendingKey) -> Vec<i64> {
    let taken = store.take(key, &mut |_| Some(()));
    taken.iter().map(|(held, ())| held.received.0).collect()
}

fn size(store: &PendingStore) -> (usize, usize) {
    let queue = store.queue();
    (queue.len(), queue.size())
}

#[test]
fn gives_back_in_order_by_template() {
    let store = PendingStore::in_memory(limits(3));
    for (domain, received) in [(1, 10), (2, 11), (1, 12)] {
        hold(&store, key(domain), received);
    }
    assert_eq!(take(&store, &key(1)), [10, 12]);
    assert!(take(&store, &key(1)).is_empty());
    assert_eq!(take(&store, &key(2)), [11]);
    assert!(store.is_empty());
    assert_eq!(size(&store), (0, 0));
}

#[test]
fn what_cannot_be_decoded_yet_waits_on() {
    let store = PendingStore::in_memory(limits(3));
    for received in [1, 2, 3] {
        hold(&store, key(1), received);
    }
    let taken = store.take(&key(1), &mut |held| (held.received.0 == 2).then_some('x'));
    assert_eq!((taken.len(), taken[0].1), (1, 'x'));
    assert_eq!(take(&store, &key(1)), [1, 3]);
}

#[test]
fn the_oldest_give_way() {
    let store = PendingStore::in_memory(limits(3));
    let mut dropped = Vec::new();
    for received in 0..5 {
        let domain = u32::try_from(received % 2).unwrap();
        store.hold(key(domain), held(received), &mut |_, held| dropped.push(held.received.0));
    }
    assert_eq!(dropped, [0, 1]);
    assert_eq!(take(&store, &key(0)), [2, 4]);
}

#[test]
fn one_exporter_displaces_itself_and_no_other() {
    let limits = PendingLimits { size_max: 200_000, exporter_size_max: 100_000, age_max_millis: 1 };
    let store = PendingStore::in_memory(limits);
    for received in 0..10 {
        hold(&store, key_of(2, 1), received);
    }
    let mut dropped = 0;
    for received in 0..5_000 {
        store.hold(key_of(3, 1), held(received), &mut |key, _| {
            assert_eq!(key.origin, key_of(3, 1).origin);
            dropped += 1;
        });
        assert!(size(&store).1 <= 100_000 + 20_000);
    }
    assert_eq!(take(&store, &key_of(2, 1)), (0..10).collect::<Vec<_>>());
    let kept = take(&store, &key_of(3, 1));
    assert_eq!((kept.len() + dropped, kept.last()), (5_000, Some(&4_999)));
    assert!(kept.len() > 100);
}

#[test]
fn where_many_have_too_much_the_one_with_most_gives_way() {
    let limits = PendingLimits { size_max: 100_000, exporter_size_max: 60_000, age_max_millis: 1 };
    let store = PendingStore::in_memory(limits);
    let mut dropped = std::collections::BTreeMap::<_, usize>::new();
    for number in 0..2_000_u32 {
        // One sends half of all.
        let address = if number % 2 == 0 { 0 } else { 1 + number % 20 };
        store.hold(key_of(address, 1), held(1), &mut |key, _| {
            *dropped.entry(key.origin.address).or_default() += 1;
        });
        assert!(size(&store).1 <= limits.size_max);
    }
    let counts: Vec<usize> =
        [0, 2, 4, 20].map(|address| take(&store, &key_of(address, 1)).len()).to_vec();
    assert!(counts.iter().all(|count| count.abs_diff(counts[0]) <= 2), "fair: {counts:?}");
    let (left, _) = size(&store);
    let total = left + counts.iter().sum::<usize>() + dropped.values().sum::<usize>();
    assert_eq!(total, 2_000);
}

#[test]
fn what_waited_too_long_is_given_up() {
    let store = PendingStore::in_memory(limits(3));
    for received in [10, 20, 30] {
        hold(&store, key(1), received);
    }
    let mut dropped = Vec::new();
    store.expire(UnixMillis(125), &mut |_, held| dropped.push(held.received.0));
    assert_eq!(dropped, [10, 20]);
    assert_eq!(take(&store, &key(1)), [30]);
    assert_eq!(size(&store), (0, 0));
}

#[test]
fn a_flood_of_templates_that_never_come_is_bounded() {
    let limits = PendingLimits { size_max: 200_000, exporter_size_max: 200_000, age_max_millis: 1 };
    for addresses in [1, 100, 5_000] {
        let store = PendingStore::in_memory(limits);
        let mut dropped = 0;
        for number in 0..5_000 {
            store.hold(key_of(number % addresses, number), held(1), &mut |_, _| dropped += 1);
            assert!(size(&store).1 <= limits.size_max);
        }
        let (count, _) = size(&store);
        assert_eq!(count + dropped, 5_000);
        assert!(count > 50, "the room is used: {count}");
    }
}

#[test]
fn a_set_beyond_all_room_is_dropped() {
    let limits = PendingLimits { size_max: 100, exporter_size_max: 100, age_max_millis: 100 };
    let store = PendingStore::in_memory(limits);
    let mut dropped = 0;
    store.hold(key(1), held(1), &mut |_, _| dropped += 1);
    assert_eq!((dropped, size(&store)), (1, (0, 0)));
}

#[test]
fn those_that_wait_look_once_for_each_change_and_not_too_often() {
    let store = PendingStore::in_memory(limits(3));
    assert!(store.due(5, UnixMillis(0)).is_empty(), "nothing waits");
    hold(&store, key(1), 1);
    assert_eq!(store.due(5, UnixMillis(10_000)), [key(1)]);
    assert!(store.due(5, UnixMillis(60_000)).is_empty());
    assert!(store.due(6, UnixMillis(10_500)).is_empty());
    assert_eq!(store.due(6, UnixMillis(11_000)), [key(1)]);
    assert_eq!(store.due(7, UnixMillis(0)), [key(1)], "the clock was set back");
}

#[test]
fn what_waits_comes_back_from_disk_in_order_and_once() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = PendingStore::open(dir.path(), limits(10)).unwrap();
        for received in 1..=3 {
            hold(&store, key(1), received);
        }
        store.save().unwrap();
        hold(&store, key(2), 4);
        let taken = store.take(&key(1), &mut |held| (held.received.0 == 2).then_some(()));
        assert_eq!(taken.len(), 1);
        store.finish().unwrap();
    }
    for _ in 0..2 {
        let store = PendingStore::open(dir.path(), limits(10)).unwrap();
        assert_eq!((store.restored(), store.count()), (3, 3));
    }
    let store = PendingStore::open(dir.path(), limits(10)).unwrap();
    assert_eq!(take(&store, &key(1)), [1, 3]);
    assert_eq!(take(&store, &key(2)), [4]);
    // As after a kill: what was taken has left the disk before it was given back.
    let store = PendingStore::open(dir.path(), limits(10)).unwrap();
    assert_eq!(store.restored(), 0);
}

#[test]
fn all_of_a_set_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    for sys_uptime in [Some(SysUptime(u32::MAX)), None] {
        let given = Held {
            source: Source { port: 65_535, transport: Transport::Udp },
            clocks: Clocks { export_time: UnixMillis(-5), sys_uptime },
            sequence_number: 9,
            received: UnixMillis(77),
            record_index: 12,
            exporter: None,
            body: (0..200).collect(),
        };
        let text = format!("{given:?}");
        let store = PendingStore::open(dir.path(), PendingLimits::default()).unwrap();
        store.hold(key(3), given, &mut |_, _| {});
        store.finish().unwrap();
        let store = PendingStore::open(dir.path(), PendingLimits::default()).unwrap();
        let taken = store.take(&key(3), &mut |_| Some(()));
        assert_eq!(format!("{:?}", taken[0].0), text);
    }
}

#[test]
fn what_a_connection_sent_does_not_outlive_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = PendingStore::open(dir.path(), PendingLimits::default()).unwrap();
    let tcp = |port| Source { port, transport: Transport::Tcp };
    store.hold(key(3), Held { source: tcp(1), ..held(10) }, &mut |_, _| {});
    store.hold(key(3), Held { source: tcp(2), ..held(11) }, &mut |_, _| {});
    hold(&store, key(3), 12);
    let mut dropped = Vec::new();
    let peer = Peer::tcp(std::net::SocketAddr::new(key(3).origin.address, 1));
    store.disconnect(peer, &mut |_, held| dropped.push(held.received.0));
    assert_eq!((dropped, store.count()), (vec![10], 2));
    // The other connection ends with the process.
    store.finish().unwrap();
    let store = PendingStore::open(dir.path(), PendingLimits::default()).unwrap();
    assert_eq!(take(&store, &key(3)), [12]);
}

#[test]
fn what_was_given_up_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = PendingStore::open(dir.path(), limits(3)).unwrap();
    for received in [10, 20, 30] {
        hold(&store, key(1), received);
    }
    store.save().unwrap();
    store.expire(UnixMillis(125), &mut |_, _| {});
    store.save().unwrap();
    let store = PendingStore::open(dir.path(), limits(3)).unwrap();
    assert_eq!(take(&store, &key(1)), [30]);
}

#[test]
fn the_file_is_bounded_and_cut_when_nothing_waits() {
    let dir = tempfile::tempdir().unwrap();
    let limits = PendingLimits { size_max: 50_000, exporter_size_max: 50_000, age_max_millis: 1 };
    let store = PendingStore::open(dir.path(), limits).unwrap();
    let file_size = || fs::metadata(dir.path().join(FILE)).unwrap().len();
    for round in 0..500 {
        for number in 0..10 {
            store.hold(key(1), held(round * 10 + number), &mut |_, _| {});
        }
        store.save().unwrap();
        assert!(file_size() <= 2 * 50_000 + 50_000, "{}", file_size());
    }
    let kept = take(&store, &key(1));
    assert!(kept.len() > 20);
    store.save().unwrap();
    assert_eq!(file_size(), 8);
    assert_eq!(PendingStore::open(dir.path(), limits).unwrap().restored(), 0);
}

#[test]
fn a_damaged_file_gives_what_precedes_the_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let store = PendingStore::open(dir.path(), limits(9)).unwrap();
    for received in 1..=3 {
        hold(&store, key(1), received);
    }
    store.finish().unwrap();
    let whole = fs::read(&path).unwrap();
    let entry_size = (whole.len() - 8) / 3;
    for cut in 0..=whole.len() {
        for damage in [false, true] {
            let mut octets = whole.clone();
            if damage {
                let Some(octet) = octets.get_mut(cut) else { continue };
                *octet ^= 0x10;
            } else {
                octets.truncate(cut);
            }
            fs::write(&path, &octets).unwrap();
            let store = PendingStore::open(dir.path(), limits(9)).unwrap();
            let sound = cut.saturating_sub(8) / entry_size;
            assert_eq!(take(&store, &key(1)).len(), sound, "at {cut}");
        }
    }
}

proptest! {
    /// A store that is closed and opened, saved and not, is one that is not.
    #[test]
    fn a_store_on_disk_is_as_one_in_memory(
        steps in proptest::collection::vec((0..6_u8, 0..4_u32, 0..3_u32), 0..80)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let room = 2_500;
        let limits =
            PendingLimits { size_max: 3 * room, exporter_size_max: 2 * room, age_max_millis: 10 };
        let memory = PendingStore::in_memory(limits);
        let mut disk = PendingStore::open(dir.path(), limits).unwrap();
        let mut dropped = [Vec::new(), Vec::new()];
        for (now, &(step, address, domain)) in (0..).zip(&steps) {
            let key = key_of(address, domain);
            for (store, dropped) in [&memory, &disk].into_iter().zip(&mut dropped) {
                let mut note = |_: &PendingKey, held: &Held| dropped.push(held.received.0);
                match step {
                    0..=2 => store.hold(key.clone(), held(now), &mut note),
                    3 => store.expire(UnixMillis(now), &mut note),
                    4 => store.save().unwrap(),
                    _ => {}
                }
            }
            if step == 5 {
                if domain == 0 {
                    disk.finish().unwrap();
                    disk = PendingStore::open(dir.path(), limits).unwrap();
                }
                prop_assert_eq!(take(&memory, &key), take(&disk, &key));
            }
            prop_assert_eq!(size(&memory), size(&disk));
        }
        prop_assert_eq!(&dropped[0], &dropped[1]);
    }
}

#[test]
fn datagrams_pass_by_what_waits_without_a_lock_until_a_look_is_due() {
    let store = PendingStore::in_memory(limits(3));
    hold(&store, key(1), 10);
    let locked = |epoch, now| {
        let before = store.locked.value();
        let due = store.due(epoch, UnixMillis(now)).len();
        (due, store.locked.value() - before)
    };
    let start = 1_000_000;
    assert_eq!(locked(0, start), (0, 0), "no template was learned");
    assert_eq!(locked(1, start), (1, 1));
    for epoch in 1..1_000 {
        assert_eq!(locked(epoch, start + RETRY_INTERVAL_MILLIS - 1), (0, 0), "looked just now");
    }
    assert_eq!(locked(1, start + RETRY_INTERVAL_MILLIS), (0, 0), "no template since");
    assert_eq!(locked(2, start + RETRY_INTERVAL_MILLIS), (1, 1));
    assert_eq!(locked(3, start), (1, 1), "the clock was set back");
}
