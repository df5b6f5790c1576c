//! `flowd export` with sampling, and on interfaces without Ethernet headers. As root, in
//! namespaces of the tests' own; elsewhere skipped with a word why.

use crate::foreign_bpf::has_bpf;
use crate::host::{Host, end, send};
use crate::namespace::Namespace;
use crate::support::wait_until;
use crate::system::tun;
use flowd::collect::{Books, Decoder, DecoderConfig, PendingStore, TemplateStore};
use flowd::model::time::UnixMillis;
use flowd::model::{Column, Extra, FlowBatch, RecordType};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

/// `samplingInterval` and `samplingAlgorithm` of the options data in these datagrams.
fn told_sampling(listener: &UdpSocket) -> Option<(u32, Vec<u8>)> {
    let config = DecoderConfig::default();
    let templates = Arc::new(TemplateStore::new(&config));
    let pending = Arc::new(PendingStore::in_memory(config.pending));
    let mut decoder = Decoder::new(&config, templates, pending, Arc::new(Books::default()));
    let mut batch = FlowBatch::new();
    listener.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = vec![0; 65_536];
    while let Ok((size, peer)) = listener.recv_from(&mut buffer) {
        let now = UnixMillis(0);
        decoder.decode(&buffer[..size], peer.into(), now, &mut batch, &mut |_| {
            panic!("there is room")
        });
    }
    let records = (0..batch.len()).filter_map(|row| batch.record(row));
    let mut options = records.filter(|record| record.record_type == RecordType::Options);
    options.find_map(|record| {
        let is_algorithm = |it: &&Extra| (it.spec.enterprise, it.spec.id) == (0, 35);
        let algorithm = record.extras.iter().find(is_algorithm)?.value.clone();
        let has_interval = record.present.contains(Column::SamplingInterval);
        has_interval.then_some((record.sampling_interval, algorithm))
    })
}

#[test]
fn of_sampled_packets_all_are_seen_and_the_interval_is_told() {
    if !has_bpf() {
        return;
    }
    let Some(near) = Namespace::new("sampled-a") else { return };
    let Some(far) = Namespace::new("sampled-b") else { return };
    near.join("near", &far, "far");
    let host = Host::new(&near);
    let listener = near.udp("127.0.0.1:2056");
    let (here, there) = (near.udp("192.0.2.1:4000"), far.udp("192.0.2.2:5000"));
    let exporter = host.export(&[
        "-i",
        "near",
        "--hook",
        "tc",
        "--sampling",
        "4",
        "--collector",
        "udp://127.0.0.1:2056",
    ]);
    let sent = send(&here, "192.0.2.2:5000", 4_000).0;
    let received = send(&there, "192.0.2.1:4000", 4_000).0;
    let number = |value: &Value| value.as_u64().unwrap();
    let mut status = Value::Null;
    wait_until("all packets are seen", || {
        status = host.status().unwrap();
        let interface = &status["interfaces"][0];
        number(&interface["egress"]["seen"]["packets"]) >= sent
            && number(&interface["ingress"]["seen"]["packets"]) >= received
    });
    assert_eq!(status["samplingInterval"], 4);
    for direction in ["egress", "ingress"] {
        let ledger = &status["interfaces"][0][direction];
        let unparsed = ledger["unparsed"].as_object().unwrap().values().map(number).sum::<u64>();
        let metered =
            number(&ledger["recorded"]["packets"]) + number(&ledger["inCache"]["packets"]);
        let not_selected = number(&ledger["notSelectedPackets"]);
        let seen = number(&ledger["seen"]["packets"]);
        println!("{direction}: {seen} seen, {metered} metered, {not_selected} not selected");
        assert_eq!(seen, metered + not_selected + unparsed, "{ledger}");
        assert_eq!(number(&ledger["unaccounted"]["packets"]), 0);
        assert_eq!(ledger["discrepancy"], serde_json::json!({"packets": 0, "octets": 0}));
        // A quarter, give or take ten standard deviations.
        assert!((730..=1_290).contains(&metered), "{metered} of {seen}");
    }
    end(exporter);
    let told = told_sampling(&listener).expect("options data of sampling");
    assert_eq!(told, (4, vec![2]));
}

/// The sum of RFC 1071 over 16-bit words.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!u16::try_from(folded).unwrap()).to_be_bytes()
}

/// A UDP datagram with its IP header, from port 6000 to port 4000 of the namespace.
fn packet(is_v6: bool, payload_size: usize) -> Vec<u8> {
    let udp_size = u16::try_from(8 + payload_size).unwrap();
    let mut udp = [&6_000_u16.to_be_bytes()[..], &4_000_u16.to_be_bytes()].concat();
    udp.extend(udp_size.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(vec![7; payload_size]);
    let mut header = if is_v6 {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(udp_size.to_be_bytes());
        header.extend([17, 64]);
        for last in [2, 1] {
            header.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        header
    } else {
        let mut header = vec![0x45, 0];
        header.extend((20 + udp_size).to_be_bytes());
        header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        header.extend([198, 51, 100, 2, 198, 51, 100, 1]);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum);
        header
    };
    // UDP over IPv6 has a checksum always.
    let addresses = if is_v6 { header[8..].to_vec() } else { header[12..].to_vec() };
    let pseudo = [&addresses[..], &[0, 17], &udp_size.to_be_bytes()].concat();
    let sum = checksum(&[&pseudo, &udp]);
    udp[6..8].copy_from_slice(&sum);
    header.extend(udp);
    header
}

/// Reads the packets that the namespace sends, until as many as these of UDP came. Returns their
/// octets.
fn read_udp(device: &mut File, count: usize) -> u64 {
    let (mut seen, mut octets) = (0, 0);
    let mut buffer = [0; 2_048];
    while seen < count {
        let size = device.read(&mut buffer).unwrap();
        let protocol = if buffer[0] >> 4 == 6 { buffer[6] } else { buffer[9] };
        if protocol == 17 {
            seen += 1;
            octets += size as u64;
        }
    }
    octets
}

#[test]
fn packets_without_link_header_are_counted_to_the_octet() {
    if !has_bpf() {
        return;
    }
    let Some(namespace) = Namespace::new("tun") else { return };
    let Some(mut device) = tun(&namespace, "tun7") else { return };
    namespace.ip("addr add 198.51.100.1/24 dev tun7");
    namespace.ip("addr add 2001:db8::1/64 dev tun7 nodad");
    namespace.ip("link set tun7 up");
    let host = Host::new(&namespace);
    let collector = host.collect();
    let exporter = host.export(&["-i", "tun7"]);
    let hooks = host.status().unwrap()["interfaces"][0]["hooks"].clone();
    assert_eq!(hooks, serde_json::json!({"ingress": "tcx", "egress": "tcx"}));
    let here = namespace.udp("[::]:4000");
    let (mut received, mut sent) = ([0_u64; 2], [0_u64; 2]);
    for number in 0..200_usize {
        for is_v6 in [false, true] {
            let octets = packet(is_v6, number);
            device.write_all(&octets).unwrap();
            received[usize::from(is_v6)] += octets.len() as u64;
            here.recv(&mut [0; 2_048]).expect("the stack takes it");
            let to = if is_v6 { "[2001:db8::2]:6001" } else { "[::ffff:198.51.100.2]:6001" };
            here.send_to(&vec![8; number], to).unwrap();
            sent[usize::from(is_v6)] += read_udp(&mut device, 1);
        }
    }
    host.wait_for("tun7", "ingress", 400);
    host.wait_for("tun7", "egress", 400);
    end(exporter);
    wait_until("all is stored", || host.stored("proto udp and port 4000").0 >= 800);
    collector.terminate().ok();
    for (family, place) in [("4", 0), ("6", 1)] {
        let stored = |ports: &str| host.stored(&format!("ipv{family} and proto udp and {ports}"));
        assert_eq!(stored("src port 6000 and dst port 4000"), (200, received[place]));
        assert_eq!(stored("src port 4000 and dst port 6001"), (200, sent[place]));
    }
}

/// What a host sends to a group that it has joined comes back to it, but not by the wire.
#[test]
fn multicast_that_comes_back_from_the_host_itself_is_not_counted_as_received() {
    const COUNT: u64 = 50;
    if !has_bpf() {
        return;
    }
    let Some(near) = Namespace::new("group-a") else { return };
    let Some(far) = Namespace::new("group-b") else { return };
    near.join("near", &far, "far");
    near.ip("route add 239.0.0.0/8 dev near");
    let host = Host::new(&near);
    let collector = host.collect();
    let exporter = host.export(&["-i", "near", "--hook", "tc"]);
    let socket = near.udp("0.0.0.0:4000");
    let group = std::net::Ipv4Addr::new(239, 1, 1, 1);
    near.inside(|| socket.join_multicast_v4(&group, &[192, 0, 2, 1].into()).unwrap());
    for _ in 0..COUNT {
        socket.send_to(&[0x45; 100], "239.1.1.1:4000").unwrap();
    }
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for _ in 0..COUNT {
        socket.recv(&mut [0; 200]).unwrap();
    }
    end(exporter);
    collector.terminate().ok();
    assert_eq!(host.stored("port 4000"), (COUNT, COUNT * 128));
    assert_eq!(host.stored("port 4000 and flowdir egress"), (COUNT, COUNT * 128));
    assert_eq!(host.stored("net 239.0.0.0/8 and not proto igmp and not port 4000").0, 0);
}
