//! What a store keeps, as its users see it: what is let go and refused is told, and kills at any
//! moment neither lose nor double what could be read.

use crate::numbered::{message, numbers};
use crate::support::{Background, Collector, flowd, free_port, info, run, test_pcap, wait_until};
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

/// How often a collector is killed; `cargo xtask kill --times` sets it.
const KILLS: &str = "FLOWD_KILLS";

#[test]
fn what_was_let_go_is_told_by_info_and_by_answers_that_reach_into_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let path = store.to_str().unwrap();
    run(&["replay", &test_pcap("demo-traffic.pcap"), "--store", path]).ok();
    let before = info(&store);
    let held = before["archiveRecords"].as_u64().unwrap();
    assert!(held > 0 && before["expired"].is_null());
    let expire = ["store", "expire", "--store", path, "--keep-size", "1"];
    let dry = run(&[&expire[..], &["--dry-run"]].concat()).ok();
    assert!(dry.stderr.contains("would go"), "{dry:?}");
    assert_eq!(info(&store)["archiveRecords"], held);
    run(&expire).ok();
    let after = info(&store);
    assert_eq!(
        (&after["archiveRecords"], &after["expired"]["flowRecords"]),
        (&0.into(), &held.into())
    );
    let query = |range: &[&str]| {
        run(&[&["query", "--store", path, "--summary"][..], range].concat()).stderr
    };
    assert!(query(&["--last", "1h"]).contains("(expired)"));
    assert!(query(&[]).contains("(expired)"));
    let nothing = run(&["store", "expire", "--store", path]);
    assert_eq!(nothing.code(), Some(2));
    assert!(nothing.stderr.contains("--keep-for"), "{nothing:?}");
}

#[test]
fn records_that_were_refused_are_a_gap_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let path = store.to_str().unwrap();
    // No block fits into such a ring.
    let port = free_port();
    let listen = format!("udp://127.0.0.1:{port}");
    let collector = Background::start(flowd().args([
        "collect",
        "--listen",
        &listen,
        "--store",
        path,
        "--workers",
        "1",
        "--ring-size",
        "64KiB",
        "--backlog-max",
        "0",
        "--when-full",
        "drop-new",
    ]));
    wait_until("the collector listens", || store.join("control.sock").exists());
    let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
    exporter.send_to(&message(1, 0..20), ("127.0.0.1", port)).unwrap();
    wait_until("the records are refused", || info(&store)["drops"]["ringFullRecords"] == 20);
    let gap = || run(&["query", "--store", path, "--last", "1h", "-o", "json"]).stderr;
    wait_until("the answer tells the gap", || {
        gap().contains(r#""records":20,"reason":"ringFull""#)
    });
    let ended = collector.terminate().ok();
    assert_eq!(ended.stderr.matches("records dropped").count(), 1, "{}", ended.stderr);
    assert!(gap().contains(r#""records":20,"reason":"ringFull""#));
}

#[test]
fn kills_at_any_moment_neither_lose_nor_double_what_could_be_read() {
    let kills: u32 = std::env::var(KILLS).ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut next, mut held) = (0, BTreeSet::new());
    for kill in 0..kills {
        // What a killed one left behind is no sign of life.
        drop(std::fs::remove_file(store.join("control.sock")));
        let mut collector = Background::start(flowd().args([
            "collect",
            "--listen",
            "udp://127.0.0.1:0",
            "--store",
            store.to_str().unwrap(),
            "--workers",
            "1",
            "--keep-for",
            "400d",
        ]));
        let line = collector.says("listening on");
        let url = line.split([' ', ',']).find(|word| word.starts_with("udp://")).unwrap();
        let port = url.rsplit_once(':').unwrap().1;
        let port: u16 = port.parse().unwrap();
        for step in 0..20 {
            exporter
                .send_to(&message(kill * 20 + step, next..next + 20), ("127.0.0.1", port))
                .unwrap();
            next += 20;
        }
        // Moments spread over start, receipt, archiving what the last one left, and its end.
        std::thread::sleep(Duration::from_millis(u64::from(kill * 37 % 90)));
        if kill % 3 == 0 {
            collector.signal("TERM");
            std::thread::sleep(Duration::from_millis(u64::from(kill * 13 % 40)));
        }
        drop(collector);
        let found = numbers(&store);
        assert!(held.is_subset(&found), "kill {kill}: what could be read is gone");
        assert!(found.iter().all(|&number| number < next));
        held = found;
        if kill % 5 == 4 {
            run(&["store", "compact", "--store", store.to_str().unwrap()]).ok();
            assert_eq!(numbers(&store), held, "kill {kill}: merging changed what is held");
        }
    }
    drop(std::fs::remove_file(store.join("control.sock")));
    Collector::start(&store).stop();
    assert_eq!(numbers(&store), held);
    assert_eq!(info(&store)["ringRecords"], 0);
}
