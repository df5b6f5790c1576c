//! Mistakes: each costs one line that names what was wrong and the remedy, and exit code 2.

use crate::support::{Collector, Ended, free_port, run, test_pcap};
use std::fs;
use std::net::{TcpListener, UdpSocket};

/// Asserts one line on stderr with all of these words, and exit code 2.
fn assert_one_line(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code(), Some(2), "{ended:?}");
    assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.starts_with("flowd: "), "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is missing: {ended:?}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let listen = format!("udp://127.0.0.1:{port}");
    let store = folder.path().join("store");
    let ended = run(&["collect", "--listen", &listen, "--store", store.to_str().unwrap()]);
    assert_one_line(&ended, &[&port, "in use"]);
}

#[test]
fn a_second_collector_on_a_port_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Collector::start(&folder.path().join("first"));
    let second = folder.path().join("second");
    let ended = run(&["collect", "--listen", &first.url(), "--store", second.to_str().unwrap()]);
    assert_one_line(&ended, &[&first.port.to_string(), "in use"]);
    first.stop();
}

#[test]
fn a_tcp_port_in_use_is_named_whoever_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let collect = |options: &[&str]| {
        run(&[&["collect", "--store", store.to_str().unwrap()], options].concat())
    };
    let ended = collect(&["--listen", &format!("udp://127.0.0.1:0,tcp://{address}")]);
    assert_one_line(&ended, &[&format!("tcp://{address} is in use"), "ss -tlpn"]);
    let ended = collect(&["--listen", "udp://127.0.0.1:0", "--http", &address]);
    assert_one_line(&ended, &[&format!("http://{address} is in use"), "ss -tlpn"]);
    assert!(!store.exists(), "nothing is made for a collector that cannot listen");
}

#[test]
fn what_collect_cannot_take_is_told_with_what_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    for (options, words) in [
        (&["--listen", "sctp://127.0.0.1:4739"][..], &["sctp", "tcp://ADDR:PORT"][..]),
        (&["--listen", "tcp://127.0.0.1"], &["tcp://127.0.0.1", "udp://0.0.0.0:2055"]),
        (&["--listen", "udp://[::]:7,udp://[::]:7"], &["named twice"]),
        (&["--listen", "udp://[::]:0", "--allow", "10.0.0.1/8"], &["--allow", "write 10.0.0.0/8"]),
        (&["--listen", "udp://[::]:0", "--allow", "10.0.0.0/8,x"], &["--allow", "`x`"]),
        (&["--listen", "udp://[::]:0", "--http", "9100"], &["--http", "127.0.0.1:9100"]),
        (&["--listen", "udp://[::]:0", "--exporter-rate-max", "0"], &["--exporter-rate-max"]),
    ] {
        let ended = run(&[&["collect", "--store", store.to_str().unwrap()], options].concat());
        assert_one_line(&ended, words);
    }
}

#[test]
fn a_second_writer_on_a_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let first = Collector::start(&store);
    let listen = format!("udp://127.0.0.1:{}", free_port());
    let ended = run(&["collect", "--listen", &listen, "--store", store.to_str().unwrap()]);
    assert_one_line(&ended, &["in use", &first.id().to_string()]);
    let replay = test_pcap("demo-traffic.pcap");
    let ended = run(&["replay", &replay, "--store", store.to_str().unwrap()]);
    assert_one_line(&ended, &["in use", &first.id().to_string()]);
    first.stop();
}

#[test]
fn what_is_no_store_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let path = missing.to_str().unwrap();
    for command in [
        &["query", "--store", path][..],
        &["top", "srcip/bytes", "--store", path],
        &["store", "info", "--store", path],
    ] {
        assert_one_line(&run(command), &[path]);
    }
    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "dear reader").unwrap();
    let listen = format!("udp://127.0.0.1:{}", free_port());
    let path = foreign.to_str().unwrap();
    assert_one_line(&run(&["collect", "--listen", &listen, "--store", path]), &[path]);
    assert_one_line(&run(&["query", "--store", path]), &[path]);
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_one_line(&run(&["query", "--store", file.to_str().unwrap()]), &["file"]);
}

#[test]
fn an_archive_without_its_manifest_is_no_empty_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let store_path = store.to_str().unwrap();
    run(&["replay", &test_pcap("demo-traffic.pcap"), "--store", store_path]).ok();
    for name in ["manifest.jsonl", "manifest.copy.jsonl"] {
        fs::remove_file(store.join("archive").join(name)).unwrap();
    }
    let listen = format!("udp://127.0.0.1:{}", free_port());
    for command in [
        &["query", "--store", store_path][..],
        &["store", "info", "--store", store_path],
        &["collect", "--listen", &listen, "--store", store_path],
    ] {
        assert_one_line(&run(command), &["manifest.jsonl"]);
    }
}

#[test]
fn a_bad_filter_shows_the_place_and_the_nearest_word() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    run(&["replay", &test_pcap("demo-traffic.pcap"), "--store", store.to_str().unwrap()]).ok();
    let ended = run(&["query", "--store", store.to_str().unwrap(), "prot tcp"]);
    assert_one_line(&ended, &["prot", "did you mean `proto`", "column 1"]);
    let ended = run(&["query", "--store", store.to_str().unwrap(), "tcp and "]);
    assert_one_line(&ended, &["missing here (column ", "after `and`)"]);
    assert!(ended.stdout.is_empty());
}

#[test]
fn a_cut_capture_gives_its_flows_and_then_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(test_pcap("demo-traffic.pcap")).unwrap();
    let cut = folder.path().join("cut.pcap");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let ended = run(&["replay", cut.to_str().unwrap(), "-o", "json"]);
    assert!(!ended.json().is_empty());
    assert_one_line(&ended, &["cut.pcap", "at byte"]);
}

#[test]
fn what_would_do_nothing_is_refused_and_makes_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let path = store.to_str().unwrap();
    let missing = folder.path().join("nfcapd.1");
    let missing = missing.to_str().unwrap();
    assert_one_line(&run(&["store", "import", "--store", path, missing]), &[missing]);
    let listen = ["collect", "--listen", "udp://127.0.0.1:0", "--store", path];
    for (options, words) in [
        (&["--keep-size", "0"][..], &["--keep-size", "leave it out"][..]),
        (&["--ring-size", "1"], &["--ring-size", "64MiB"]),
        (&["--archive-after", "1d"], &["--archive-after", "add --archive"]),
        (&["--archive", "gopher://x/y"], &["--archive", "write s3://BUCKET/PREFIX"]),
        (&["--workers", "100000"], &["--workers", "1 to 1024"]),
        (&["--workers", "0"], &["--workers", "1 to 1024"]),
    ] {
        assert_one_line(&run(&[&listen[..], options].concat()), words);
        assert!(!store.exists(), "{options:?}");
    }
}

#[test]
fn a_capture_without_export_datagrams_is_an_empty_answer() {
    let capture = test_pcap("demo-traffic.pcap");
    let ended = run(&["decode", &capture]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert_eq!(ended.stderr, format!("flowd: no export datagrams in {capture}\n"));
}

#[test]
fn what_is_no_capture_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letter.txt");
    fs::write(&file, "dear reader, this is no capture at all").unwrap();
    let path = file.to_str().unwrap();
    assert_one_line(&run(&["replay", path, "-o", "json"]), &[path, "pcap"]);
    assert_one_line(&run(&["decode", path]), &[path, "pcap"]);
    assert_one_line(&run(&["replay", "missing.pcap", "-o", "json"]), &["missing.pcap"]);
}

#[test]
fn mistyped_arguments_are_told_in_one_line() {
    assert_one_line(&run(&["qery"]), &["qery", "query"]);
    assert_one_line(&run(&["query", "--store", "x", "proto", "tcp"]), &["quotes"]);
    assert_one_line(&run(&["query", "--stor", "x"]), &["--stor", "--store", "flowd query --help"]);
    assert_one_line(&run(&["collect"]), &["--listen", "flowd collect --help"]);
    let replay = test_pcap("demo-traffic.pcap");
    assert_one_line(&run(&["replay", &replay, "-o", "jsn"]), &["jsn", "json"]);
    assert_one_line(&run(&["replay", &replay]), &["--collector", "--store", "-o"]);
    assert_one_line(&run(&["replay", &replay, "--collector", "here:1"]), &["here:1", "udp://"]);
    let no_port = run(&["replay", &replay, "--collector", "udp://127.0.0.1"]);
    assert_one_line(&no_port, &["no port"]);
    assert_one_line(&run(&["replay", &replay, "-o", "json", "--active-timeout", "x"]), &["`x`"]);
}

#[test]
fn a_mistyped_time_or_key_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let store = store.to_str().unwrap();
    run(&["replay", &test_pcap("demo-traffic.pcap"), "--store", store]).ok();
    assert_one_line(&run(&["query", "--store", store, "--last", "soon"]), &["soon"]);
    assert_one_line(&run(&["query", "--store", store, "--since", "yester"]), &["yester"]);
    assert_one_line(&run(&["query", "--store", store, "-a", "srcipp"]), &["srcipp", "srcip"]);
    assert_one_line(&run(&["query", "--store", store, "--last", "-1h"]), &["--last", "`-1h`"]);
    for limit in ["-3", "abc"] {
        let ended = run(&["query", "--store", store, "-n", limit]);
        assert_one_line(&ended, &[limit, "--limit", "0 for all"]);
    }
    let ended = run(&["query", "--store", store, "-s", "bytes:up"]);
    assert_one_line(&ended, &["`up`", "bytes:asc", "bytes:desc"]);
    assert_one_line(&run(&["top", "--store", store, "srcip"]), &["srcip"]);
}
