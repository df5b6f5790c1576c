//! Counters after kills: what was received, decoded and stored stays the same number, whatever a
//! collector is killed in.

use crate::numbered::message;
use crate::support::{Background, flowd, free_port, info, summary, wait_until};
use serde_json::Value;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Records of a message.
const RECORDS: u64 = 20;
/// Records that are stored between one kill and the next: many blocks, so that some are archived
/// and gone from the ring while the collector is killed.
const RECORDS_A_LIFE: u64 = 400_000;
const KILLS: u64 = 4;

/// A collector with a small ring.
fn start(store: &Path, port: u16) -> Background {
    // What a killed one left behind is no sign of life.
    drop(std::fs::remove_file(store.join("control.sock")));
    let listen = format!("udp://127.0.0.1:{port}");
    let mut collector = Background::start(flowd().args(["collect", "--listen", &listen]).args([
        "--store",
        store.to_str().unwrap(),
        "--workers",
        "2",
        "--ring-size",
        "64MiB",
    ]));
    wait_until("the collector listens", || {
        assert!(!collector.has_ended(), "it ended: {:?}", collector.left());
        store.join("control.sock").exists()
    });
    collector
}

/// Sends without a pause until `stop`, whether anybody listens or not; how many messages that was.
fn send(port: u16, exporter: u64, stop: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind(format!("127.0.0.{}:0", exporter + 1)).unwrap();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let first = sent * RECORDS % (1 << 20);
        let octets = message(u32::try_from(sent).unwrap(), first..first + RECORDS);
        // While nobody listens it is lost.
        drop(socket.send_to(&octets, ("127.0.0.1", port)));
        sent += 1;
        if sent.is_multiple_of(8) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    sent
}

fn count(info: &Value, name: &str) -> u64 {
    info[name].as_u64().unwrap_or_else(|| panic!("{name} in {info}"))
}

/// Asserts that what is counted is what is stored, and what was sent what came or was lost.
fn check(store: &Path, sent: &[u64], what: &str) {
    let found = summary(store);
    let info = info(store);
    let stored = count(&info, "flowRecords");
    assert_eq!(found["deltaFlowCount"], stored, "{what}");
    assert_eq!(count(&info, "recordsDecoded"), stored, "{what}: {info}");
    let dropped: u64 =
        info["drops"].as_object().unwrap().values().map(|it| it.as_u64().unwrap()).sum();
    assert_eq!(dropped, count(&info["drops"], "kernelDatagrams"), "{what}: {info}");
    assert_eq!(count(&info, "datagrams"), count(&info, "datagramsDecoded"), "{what}: {info}");
    let exporters = info["exporters"].as_array().unwrap();
    let sum = |name: &str| exporters.iter().map(|it| count(it, name)).sum::<u64>();
    assert_eq!(sum("records"), stored, "{what}: {info}");
    assert_eq!(sum("messages"), count(&info, "datagrams"), "{what}: {info}");
    let came = sum("messages") + sum("messagesLost");
    assert_eq!(came, sent.iter().sum::<u64>(), "{what}: {info}");
}

#[test]
fn counters_are_exact_after_kills_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let port = free_port();
    let mut collector = start(&store, port);
    let stop = AtomicBool::new(false);
    let sent: Vec<u64> = thread::scope(|scope| {
        let exporters: Vec<_> = (0..3)
            .map(|exporter| {
                scope.spawn({
                    let stop = &stop;
                    move || send(port, exporter, stop)
                })
            })
            .collect();
        for life in 0..KILLS {
            let end = (life + 1) * RECORDS_A_LIFE;
            wait_until("records are stored", || count(&info(&store), "recordsDecoded") >= end);
            thread::sleep(Duration::from_millis(life * 53));
            collector.signal("KILL");
            // Started again while the killed one may still be dying.
            collector = start(&store, port);
        }
        wait_until("all are heard", || info(&store)["exporters"].as_array().unwrap().len() == 3);
        stop.store(true, Ordering::Relaxed);
        exporters.into_iter().map(|exporter| exporter.join().unwrap()).collect()
    });
    // What is on the way yet arrives; what does not is told by the check.
    let came = || {
        let info = info(&store);
        let exporters = info["exporters"].as_array().unwrap().iter();
        exporters.map(|it| count(it, "messages") + count(it, "messagesLost")).sum::<u64>()
    };
    for _ in 0..200 {
        if came() == sent.iter().sum::<u64>() {
            break;
        }
        thread::sleep(Duration::from_millis(30));
    }
    check(&store, &sent, "at work");
    collector.terminate().ok();
    check(&store, &sent, "at the end");
}
