//! `flowd resend`: the datagrams of a capture reach collectors as they were.

use crate::interop::{
    NFCAPD, NFDUMP, assert_no_fault, nfdump, received, start_nfcapd, wait_until_read, write_capture,
};
use crate::support::{
    Background, Collector, flowd, free_port, has_program, run, summary, test_pcap,
};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A capture of what `flowd replay` exports of the demo's traffic, and its datagrams.
fn captured_export(folder: &Path) -> (PathBuf, Vec<Vec<u8>>) {
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let url = format!("udp://{}", listener.local_addr().unwrap());
    let receiver = std::thread::spawn(move || received(&listener));
    run(&["replay", &test_pcap("demo-traffic.pcap"), "--collector", &url]).ok();
    let datagrams = receiver.join().unwrap();
    let path = folder.join("exports.pcap");
    write_capture(&path, &datagrams);
    (path, datagrams)
}

#[test]
fn a_collector_stores_from_resent_datagrams_what_decode_finds_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let (capture, datagrams) = captured_export(folder.path());
    let capture = capture.to_str().unwrap();
    let decoded = run(&["decode", capture, "-o", "json"]).ok().json();
    let sum = |name: &str| decoded.iter().filter_map(|record| record[name].as_u64()).sum::<u64>();
    let flows = decoded.iter().filter(|record| record["recordType"].is_null()).count() as u64;
    assert!(flows > 1_000);

    let collector = Collector::start(&folder.path().join("store"));
    let resent = run(&["resend", capture, "--collector", &collector.url(), "--speed", "max"]).ok();
    let octets: usize = datagrams.iter().map(Vec::len).sum();
    let said = format!("sent {} datagrams ({octets} octets) of 1 exporters", datagrams.len());
    assert!(resent.stderr.contains(&said), "{}", resent.stderr);
    assert!(resent.stdout.is_empty());
    collector.wait_for_flows(flows);
    let sums = summary(&collector.store);
    assert_eq!(sums["octetDeltaCount"], sum("octetDeltaCount"));
    assert_eq!(sums["packetDeltaCount"], sum("packetDeltaCount"));
    collector.stop();
}

#[test]
fn nfcapd_reads_resent_datagrams_without_a_fault() {
    if !(has_program(NFCAPD) && has_program(NFDUMP)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (capture, _) = captured_export(folder.path());
    let capture = capture.to_str().unwrap();
    let flows = run(&["decode", capture, "-o", "json"]).ok().json().len();
    let (nfcapd, port) = start_nfcapd(&folder.path().join("nfcapd"));
    // The numbers of the capture's seconds are those of its datagrams: half a minute at once.
    let url = format!("udp://127.0.0.1:{port}");
    run(&["resend", capture, "--collector", &url, "--speed", "1000"]).ok();
    wait_until_read(port);
    assert_no_fault(&nfcapd.terminate());
    assert_eq!(nfdump(&folder.path().join("nfcapd")).len(), flows);
}

#[test]
fn datagrams_arrive_octet_for_octet_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exports.pcap");
    let wanted: Vec<Vec<u8>> = [(5, 100), (9, 30), (10, 9_000), (1, 3), (7, 400)]
        .map(|(version, size)| [&[0, version][..], &vec![version; size]].concat())
        .to_vec();
    let mut all = wanted.clone();
    all.insert(2, b"something else".to_vec());
    write_capture(&path, &all);
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let url = format!("udp://{}", listener.local_addr().unwrap());
    let receiver = std::thread::spawn(move || received(&listener));
    run(&["resend", path.to_str().unwrap(), "--collector", &url, "--speed", "1000"]).ok();
    assert_eq!(receiver.join().unwrap(), wanted);
}

#[test]
fn a_signal_ends_it_with_what_was_sent_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exports.pcap");
    // A second between two datagrams, at a hundredth of the speed.
    write_capture(&path, &[vec![0, 9, 1], vec![0, 9, 2]]);
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", listener.local_addr().unwrap());
    let arguments = ["resend", path.to_str().unwrap(), "--collector", &url, "--speed", "0.01"];
    let process = Background::start(flowd().args(arguments));
    let mut octets = [0; 10];
    assert_eq!(listener.recv(&mut octets).unwrap(), 3);
    let ended = process.terminate().ok();
    assert!(ended.stderr.contains("sent 1 datagrams (3 octets)"), "{}", ended.stderr);
    assert!(ended.stderr.contains("stopped before the end"), "{}", ended.stderr);
}

#[test]
fn what_cannot_be_sent_is_told_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exports.pcap");
    let capture = path.to_str().unwrap();
    let nobody = format!("udp://127.0.0.1:{}", free_port());
    let fails = |capture: &str, url: &str, speed: &str, wanted: &str| {
        let ended = run(&["resend", capture, "--collector", url, "--speed", speed]);
        assert_eq!(ended.code(), Some(2), "{ended:?}");
        assert!(ended.stderr.contains(wanted), "{wanted}: {}", ended.stderr);
    };
    write_capture(&path, &vec![vec![0, 9, 1]; 3]);
    fails(capture, &nobody, "max", "not sent: 3 refused: nobody listens there");
    fails(capture, &nobody, "0", "`0` is not a speed; write 1, 2, 0.5, or max");
    fails(capture, "127.0.0.1:1", "1", "write udp://HOST:PORT");
    fails("/nowhere.pcap", &nobody, "1", "/nowhere.pcap");
    write_capture(&path, &[b"no export".to_vec()]);
    fails(capture, &nobody, "1", "no export datagrams in");
    let empty = test_pcap("empty.pcap");
    fails(&empty, &nobody, "1", "no export datagrams in");
}
