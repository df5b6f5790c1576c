//! Everything that the load generator sent is stored, or known not to have arrived.

use crate::support::{Collector, free_port, info, json_of, loadgen, rows_of, summary, wait_until};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

#[test]
fn two_million_flows_at_200_k_a_second_are_all_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let port = free_port();
    let collector = Collector::start(&store, port);
    let sent =
        json_of(loadgen(port).args(["--rate", "200k", "--duration", "10s", "--exporters", "4"]));
    assert_eq!(sent["flows"], 2_000_000);
    wait_until("all flows are stored", || summary(&store)["deltaFlowCount"] == sent["flows"]);
    assert_books(&store, &sent);
    collector.terminate();
    assert_books(&store, &sent);
    println!("sent {sent}");
}

fn assert_books(store: &Path, sent: &Value) {
    let stored = summary(store);
    assert_eq!(stored["deltaFlowCount"], sent["flows"]);
    assert_eq!(stored["packetDeltaCount"], sent["packets"]);
    assert_eq!(stored["octetDeltaCount"], sent["octets"]);
    let info = info(store);
    assert_eq!(info["flowRecords"], sent["flows"], "{info}");
    for exporter in info["exporters"].as_array().unwrap() {
        assert_eq!(exporter["sequenceGaps"], 0, "{info}");
    }
}

/// A run of export sequence numbers without a gap.
#[derive(Debug, PartialEq)]
struct Stretch {
    first: u64,
    last: u64,
}

/// The stretches of datagrams that are stored. Each datagram must be there whole and once.
fn stretches(store: &Path) -> Vec<Stretch> {
    let rows = rows_of(store, &["-a", "exportSequenceNumber", "-s", "exportSequenceNumber:asc"]);
    let mut stretches: Vec<Stretch> = Vec::new();
    for row in &rows {
        let sequence = row["exportSequenceNumber"].as_u64().unwrap();
        match stretches.last_mut() {
            Some(stretch) if stretch.last + 1 == sequence => stretch.last = sequence,
            _ => stretches.push(Stretch { first: sequence, last: sequence }),
        }
    }
    // One record a place in its datagram: nothing is there twice.
    let places =
        rows_of(store, &["-a", "exportSequenceNumber,exportRecordIndex", "-s", "flows", "-n", "1"]);
    assert_eq!(places[0]["deltaFlowCount"], 1, "a record is stored twice");
    stretches
}

#[test]
fn after_kill_nine_a_restart_finds_every_record_that_was_received() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let port = free_port();
    let collector = Collector::start(&store, port);
    let load = loadgen(port)
        .args(["--rate", "200k", "--duration", "10s", "--template-interval", "20"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("loadgen starts");
    let mut before = 0;
    wait_until("the load is well under way", || {
        before = summary(&store)["deltaFlowCount"].as_u64().unwrap_or_default();
        before > 500_000
    });
    drop(collector);
    let after = summary(&store)["deltaFlowCount"].as_u64().unwrap();
    assert!(after >= before, "{after} of {before} records are left");

    let collector = Collector::start(&store, port);
    let output = load.wait_with_output().unwrap();
    let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
    let last = sent["datagrams"].as_u64().unwrap() - 1;
    wait_until("the last datagram is stored", || {
        let newest = rows_of(
            &store,
            &["-a", "exportSequenceNumber", "-s", "exportSequenceNumber:desc", "-n", "1"],
        );
        newest.first().is_some_and(|row| row["exportSequenceNumber"] == last)
    });
    collector.terminate();

    let stretches = stretches(&store);
    println!("sent {sent}, stored {stretches:?}, {before} before the kill, {after} after it");
    assert_eq!(stretches.len(), 2, "one gap, where nobody listened: {stretches:?}");
    assert_eq!((stretches[0].first, stretches[1].last), (0, last));
    // What lies before the gap are whole datagrams, but for the one that was being stored.
    let stored = summary(&store)["deltaFlowCount"].as_u64().unwrap();
    assert!(stored >= after && stored <= sent["flows"].as_u64().unwrap());
}
