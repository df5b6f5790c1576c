//! The collector from outside: both transports, who may send, what it tells of itself.

use crate::support::{Background, flowd, info, run, summary, wait_until};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;

/// An IPFIX message of a domain: a template of a few fields and one record of it.
fn message(domain: u32, sequence: u32) -> Vec<u8> {
    let template = [0, 2, 0, 24, 1, 0, 0, 4, 0, 8, 0, 4, 0, 7, 0, 2, 0, 4, 0, 1, 0, 2, 0, 8];
    let mut body = template.to_vec();
    body.extend([1, 0, 0, 19, 192, 0, 2, 1, 0, 53, 17, 0, 0, 0, 0, 0, 0, 0, 3]);
    let mut message = vec![0, 10];
    message.extend(u16::try_from(16 + body.len()).unwrap().to_be_bytes());
    message.extend(1_700_000_000u32.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(domain.to_be_bytes());
    message.extend(body);
    message
}

/// A collector with these options and a store, and the addresses it says it has.
fn start(store: &Path, options: &[&str]) -> (Background, BTreeMap<String, SocketAddr>) {
    let store = ["--store", store.to_str().unwrap()];
    let mut collector =
        Background::start(flowd().args(["collect", "--workers", "2"]).args(store).args(options));
    let listening = collector.says("listening on");
    let mut said: Vec<String> = vec![listening];
    if options.contains(&"--http") {
        said.push(collector.says("metrics at"));
    }
    let words = said.iter().flat_map(|line| line.split([' ', ',']));
    let addresses = words
        .filter_map(|word| word.split_once("://"))
        .map(|(scheme, rest)| {
            let address = rest.split('/').next().unwrap();
            (scheme.to_owned(), address.parse().expect("an address with its port"))
        })
        .collect();
    (collector, addresses)
}

/// Asks over HTTP: the head and the body.
fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: flowd\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

/// The samples of a page by name and labels; every line of it is a comment or a sample.
fn samples(address: SocketAddr) -> BTreeMap<String, f64> {
    let (head, body) = get(address, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    let mut samples = BTreeMap::new();
    for line in body.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').expect(line);
        assert!(samples.insert(name.to_owned(), value.parse().expect(line)).is_none(), "{line}");
    }
    samples
}

#[test]
fn both_transports_are_stored_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let listen = "udp://127.0.0.1:0,tcp://127.0.0.1:0";
    let options = ["--listen", listen, "--http", "127.0.0.1:0"];
    let (collector, at) = start(&store, &options);
    assert_eq!(at.keys().collect::<Vec<_>>(), ["http", "tcp", "udp"]);

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(&message(1, 0), at["udp"]).unwrap();
    udp.send_to(b"no flow", at["udp"]).unwrap();
    let mut tcp = TcpStream::connect(at["tcp"]).unwrap();
    let stream = [message(2, 0), message(2, 1)].concat();
    tcp.write_all(&stream[..50]).unwrap();
    tcp.write_all(&stream[50..]).unwrap();
    let mut garbage = TcpStream::connect(at["tcp"]).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    wait_until("the records are stored", || summary(&store)["deltaFlowCount"] == 3);
    assert_eq!(summary(&store)["packetDeltaCount"], 9);
    wait_until("the garbage is told of", || info(&store)["connectionsOpen"] == 1);

    let samples = samples(at["http"]);
    let of = |name: &str| samples.get(name).copied().unwrap_or(f64::NAN);
    for (name, value) in [
        ("flowd_collect_received_messages_total", 5.0),
        ("flowd_collect_decoded_messages_total", 3.0),
        (r#"flowd_collect_dropped_messages_total{reason="unsupportedVersion"}"#, 2.0),
        (r#"flowd_collect_dropped_messages_total{reason="notAllowed"}"#, 0.0),
        ("flowd_collect_decoded_records_total", 3.0),
        ("flowd_collect_received_connections_total", 2.0),
        ("flowd_collect_open_connections", 1.0),
        (r#"flowd_collect_ended_connections_total{reason="unsupportedVersion"}"#, 1.0),
        (
            r#"flowd_collect_exporter_records_total{exporter="127.0.0.1",domain="2",protocol="ipfix"}"#,
            2.0,
        ),
        ("flowd_ring_appended_records_total", 3.0),
        (r#"flowd_ring_dropped_records_total{reason="ringFull"}"#, 0.0),
        ("flowd_archive_failed_segments_total", 0.0),
    ] {
        assert_eq!(of(name), value, "{name} in {samples:#?}");
    }
    assert!(of("flowd_ring_size_bytes") > 0.0);
    assert_eq!(get(at["http"], "/healthz").1, "ok\n");
    assert!(get(at["http"], "/elsewhere").0.starts_with("HTTP/1.1 404"));

    // What is in the kernel when the end is wished is stored before it.
    tcp.write_all(&message(2, 2)).unwrap();
    let ended = collector.terminate().ok();
    assert!(ended.stderr.contains("received 6 messages, stored 4 records"), "{ended:?}");
    let info = info(&store);
    assert_eq!(info["flowRecords"], 4, "{info}");
    assert_eq!(info["connectionEnds"], json!({"stopped": 1, "unsupportedVersion": 1}), "{info}");
    let exporters = info["exporters"].as_array().unwrap();
    let told: Vec<_> =
        exporters.iter().map(|e| (&e["domain"], &e["messages"], &e["sequenceGaps"])).collect();
    assert_eq!(json!(told), json!([[1, 1, 0], [2, 3, 0]]), "{info}");
    let table = run(&["store", "info", "--store", store.to_str().unwrap()]).ok().stdout;
    assert!(
        table.contains("2 came, 0 are open; ended: stopped 1, unsupportedVersion 1"),
        "{table}"
    );
}

#[test]
fn whoever_is_not_allowed_is_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let listen = "udp://[::]:0,tcp://[::]:0";
    let allow = "127.0.0.2,::ffff:127.0.1.0/120,2001:db8::/32";
    let options = ["--listen", listen, "--allow", allow, "--http", "[::1]:0"];
    let (collector, at) = start(&store, &options);
    for (sender, domain) in [("127.0.0.1:0", 1), ("127.0.0.2:0", 2), ("127.0.1.9:0", 3)] {
        let udp = UdpSocket::bind(sender).unwrap();
        udp.send_to(&message(domain, 0), ("127.0.0.1", at["udp"].port())).unwrap();
    }
    for address in ["127.0.0.1", "::1"] {
        let mut refused = TcpStream::connect((address, at["tcp"].port())).unwrap();
        // An end, or a reset.
        assert!(!matches!(refused.read(&mut [0; 1]), Ok(1)));
    }
    wait_until("the others are stored", || summary(&store)["deltaFlowCount"] == 2);
    wait_until("the drop is told", || info(&store)["drops"]["notAllowedDatagrams"] == 1);
    let info = info(&store);
    assert_eq!(info["drops"]["notAllowedConnections"], 2, "{info}");
    let heard: Vec<_> =
        info["exporters"].as_array().unwrap().iter().map(|e| &e["domain"]).collect();
    assert_eq!(json!(heard), json!([2, 3]), "{info}");
    let refused =
        samples(at["http"])[r#"flowd_collect_dropped_messages_total{reason="notAllowed"}"#];
    assert_eq!(refused, 1.0);
    let ended = collector.terminate().ok();
    let warnings: Vec<&str> =
        ended.stderr.lines().filter(|line| line.contains("--allow")).collect();
    // One for the datagram of 127.0.0.1, one for its connection, one for that of ::1.
    assert_eq!(warnings.len(), 3, "{ended:?}");
    assert!(warnings.iter().any(|line| line.contains("127.0.0.1")), "{ended:?}");
}
