//! Every packet of an interface is in the records to the octet, or counted as one that is not. As
//! root; elsewhere skipped with a word why.

use crate::datapath::load;
use crate::host::{Host, end};
use crate::live_captures::attach;
use crate::live_traffic::{Known, make, probe_frame, raw_frames, send_raw};
use crate::namespace::Namespace;
use crate::support::wait_until;
use crate::veth::{Counted, ETHERNET_SIZE, End, Offloads, join};
use flowd::probe::{DatapathConfig, HookChoice};
use flowd_common::{Direction, ObservationPoint};
use serde_json::Value;
use std::net::UdpSocket;
use std::time::Duration;

/// Flows that a kernel table has room for, and flows that there are.
const FLOW_COUNT_MAX: u32 = 64;
const FLOW_COUNT: u16 = 5_000;
/// Packets of each of them.
const PACKET_COUNT: u16 = 2;
/// Datagrams on their way at a time: fewer than a socket's buffer holds.
const DATAGRAM_COUNT_MAX: usize = 40;

/// A number of a status.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// Octets of an Ethernet header that an interface counts with each frame, received and sent. In
/// front of XDP the kernel has taken it off what a veth receives before it is counted, so that it
/// has to be found out.
fn header_sizes(near: End<'_>, far: End<'_>) -> [u64; 2] {
    let frame = probe_frame();
    let before = near.counted();
    far.frames().send(&frame);
    near.frames().send(&frame);
    wait_until("both frames are counted", || {
        let now = near.counted();
        (0..2).all(|at| now[at].frames > before[at].frames)
    });
    let now = near.counted();
    [0, 1].map(|at| {
        assert_eq!(now[at].frames - before[at].frames, 1, "the link is quiet");
        now[at].octets - before[at].octets + ETHERNET_SIZE - frame.len() as u64
    })
}

/// Waits until nothing passes any more.
fn rest(near: End<'_>) -> [Counted; 2] {
    let mut before = near.counted();
    wait_until("the link is quiet", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = near.counted();
        let is_quiet = now == before;
        before = now;
        is_quiet
    });
    before
}

/// What passed an interface in one direction while it was metered, and what of it is known.
struct Passed {
    name: &'static str,
    /// By the interface's own counters.
    frames: u64,
    octets: u64,
    header_size: u64,
    raw: Known,
}

impl Passed {
    /// Packets and octets of layer 3.
    fn ip(&self) -> (u64, u64) {
        let Self { frames, octets, header_size, raw, .. } = self;
        let packets = frames - raw.non_ip.values().sum::<u64>();
        (packets, octets - header_size * frames - raw.octets_beside)
    }

    /// Holds an exporter's ledger and what is stored against it.
    fn check(&self, ledger: &Value, stored: (u64, u64)) {
        let Self { name, frames, octets, header_size, raw } = self;
        let (packets, ip_octets) = self.ip();
        println!(
            "{name}: {frames} frames of {octets} octets, {header_size} of each are a header; \
             {packets} packets of {ip_octets} octets are IP"
        );
        let unparsed =
            raw.non_ip.iter().map(|(reason, &count)| ((*reason).to_owned(), count.into()));
        assert_eq!(ledger["unparsed"], Value::Object(unparsed.collect()), "{name}");
        assert_eq!(number(&ledger["seen"]["packets"]), *frames, "{name}");
        assert_eq!(number(&ledger["seen"]["octets"]), ip_octets, "{name}");
        assert_eq!(ledger["discrepancy"], serde_json::json!({"packets": 0, "octets": 0}));
        assert_eq!(stored, (packets, ip_octets), "{name}");
    }
}

/// Sends all kinds of traffic both ways, and waits until it is over.
fn pass(near: End<'_>, far: End<'_>, at_first: [Counted; 2]) -> [Passed; 2] {
    let header_sizes = header_sizes(near, far);
    let raw = [raw_frames(1), raw_frames(0)];
    send_raw(far, &raw[0]);
    send_raw(near, &raw[1]);
    make(near, far);
    for end in [near, far] {
        end.silence();
    }
    let at_last = rest(near);
    // Received ones may be: the kernel has no use for frames that are not IP.
    assert_eq!(at_last[1].dropped, 0, "frames that were metered have left");
    [0, 1].map(|at| Passed {
        name: ["ingress", "egress"][at],
        frames: at_last[at].frames - at_first[at].frames,
        octets: at_last[at].octets - at_first[at].octets,
        header_size: header_sizes[at],
        // The frame by which the header's size was found is one of them.
        raw: Known::of(&raw[at]).and(&Known::of(&[(probe_frame(), None)])),
    })
}

/// Everything that passes the interface is metered, exported and stored.
fn every_packet_is_stored(hook: &str) {
    if load(&DatapathConfig::default()).is_none() {
        return;
    }
    let Some(near) = Namespace::new(&format!("all-{hook}-a")) else { return };
    let Some(far) = Namespace::new(&format!("all-{hook}-b")) else { return };
    let host = Host::new(&near);
    let near = End { namespace: &near, name: "near" };
    let far = End { namespace: &far, name: "far" };
    join(near, far, Offloads::Off, 1_500);
    // What passed before flowd was attached is in its ledger, but not in what it has seen.
    for from in [near, far] {
        from.frames().send(&probe_frame());
    }
    let at_first = rest(near);
    let collector = host.collect();
    let exporter = host.export(&["-i", "near", "--hook", hook]);
    let passed = pass(near, far, at_first);
    let status = || host.status().unwrap()["interfaces"][0].clone();
    wait_until("all is metered", || {
        let status = status();
        passed.iter().all(|it| number(&status[it.name]["seen"]["packets"]) >= it.frames)
    });
    let status = status();
    let ended = end(exporter);
    assert!(ended.stderr.contains("exported") && !ended.stderr.contains("not sent"), "{ended:?}");
    collector.terminate().ok();

    for ((passed, way), first) in passed.iter().zip(["in", "out"]).zip(at_first) {
        let ledger = &status[passed.name];
        let before = serde_json::json!({"packets": first.frames, "octets": first.octets});
        assert_eq!((&ledger["beforeAttach"], first.frames), (&before, 1));
        let filter = format!("{way} if {}", status["index"]);
        passed.check(ledger, host.stored(&filter));
        for kind in ["proto tcp", "proto udp", "proto icmp", "proto icmp6"] {
            assert!(host.stored(&format!("{filter} and {kind}")).0 > 100, "{kind}");
        }
    }
    assert!(passed.iter().map(|it| it.frames).sum::<u64>() >= 10_000);
}

#[test]
fn every_packet_of_an_interface_is_stored_by_tc() {
    every_packet_is_stored("tc");
}

#[test]
fn every_packet_of_an_interface_is_stored_by_xdp() {
    every_packet_is_stored("xdp");
}

/// Sends datagrams of many flows, in their order, each of which is received as it was sent. Returns
/// packets and octets of layer 3.
fn send_flows(from: End<'_>, to: End<'_>) -> (u64, u64) {
    let receiver = to.namespace.udp("192.0.2.1:7000");
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let sockets = |ports: &[u16]| -> Vec<UdpSocket> {
        from.namespace.inside(|| {
            ports.iter().map(|port| UdpSocket::bind(("192.0.2.2", *port)).unwrap()).collect()
        })
    };
    let ports: Vec<u16> = (20_000..20_000 + FLOW_COUNT).collect();
    let (mut packets, mut octets) = (0, 0);
    for _ in 0..PACKET_COUNT {
        for ports in ports.chunks(DATAGRAM_COUNT_MAX) {
            let sockets = sockets(ports);
            for (socket, port) in sockets.iter().zip(ports) {
                let payload = vec![0x5a; usize::from(port % 900)];
                socket.send_to(&payload, "192.0.2.1:7000").unwrap();
            }
            for port in ports {
                let mut room = [0; 1_000];
                let (size, sender) = receiver.recv_from(&mut room).unwrap();
                assert_eq!((size, sender.port()), (usize::from(port % 900), *port));
                assert!(room[..size].iter().all(|&octet| octet == 0x5a));
                packets += 1;
                octets += size as u64 + 28;
            }
        }
    }
    (packets, octets)
}

/// Both ends with IPv4 addresses, and no packet of the kernels' own on the link.
fn join_with_ipv4(near: End<'_>, far: End<'_>) {
    join(near, far, Offloads::Off, 1_500);
    near.give_ipv4_address(1);
    far.give_ipv4_address(2);
}

/// More flows than a table and the ring buffer have room for.
fn full_tables(hook: HookChoice, label: &str) {
    let Some(near) = Namespace::new(&format!("{label}-a")) else { return };
    let Some(far) = Namespace::new(&format!("{label}-b")) else { return };
    let near = End { namespace: &near, name: "near" };
    let far = End { namespace: &far, name: "far" };
    join_with_ipv4(near, far);
    let config = DatapathConfig {
        flow_count_max: FLOW_COUNT_MAX,
        ring_size: 4_096,
        ..DatapathConfig::default()
    };
    let Some((mut datapath, link)) = attach(near, &config, hook) else { return };
    let sent = send_flows(far, near);
    let harvest = datapath.drain().unwrap();
    let [(point, ledger)] = harvest.ledger[..] else { panic!("{:?}", harvest.ledger) };
    assert_eq!(point, ObservationPoint::new(link.index, Direction::INGRESS));
    let accounted = harvest
        .deltas
        .iter()
        .fold((0, 0), |sum, delta| (sum.0 + delta.counters.packets, sum.1 + delta.counters.octets));
    println!(
        "{label}: {sent:?} sent, {accounted:?} accounted in {} deltas, {:?} unaccounted",
        harvest.deltas.len(),
        (ledger.unaccounted_packets, ledger.unaccounted_octets),
    );
    assert_eq!((ledger.seen_packets, ledger.seen_octets), sent);
    assert_eq!(accounted.0 + ledger.unaccounted_packets, sent.0);
    assert_eq!(accounted.1 + ledger.unaccounted_octets, sent.1);
    assert!(ledger.unaccounted_packets > 0);
    assert!(harvest.deltas.len() >= usize::try_from(FLOW_COUNT_MAX).unwrap());
    // What was full is empty again.
    let sent = send_flows(far, near);
    let harvest = datapath.drain().unwrap();
    let [(_, ledger)] = harvest.ledger[..] else { panic!("{:?}", harvest.ledger) };
    let accounted: u64 = harvest.deltas.iter().map(|delta| delta.counters.packets).sum();
    assert!(accounted > u64::from(FLOW_COUNT_MAX));
    assert_eq!(accounted + ledger.unaccounted_packets, sent.0);
}

#[test]
fn what_full_tables_have_no_room_for_is_counted_by_tc() {
    full_tables(HookChoice::Tc, "full-tc");
}

#[test]
fn what_full_tables_have_no_room_for_is_counted_by_xdp() {
    full_tables(HookChoice::Xdp, "full-xdp");
}

#[test]
fn an_exporter_with_small_tables_exports_or_counts_every_packet() {
    if load(&DatapathConfig::default()).is_none() {
        return;
    }
    let Some(near) = Namespace::new("small-a") else { return };
    let Some(far) = Namespace::new("small-b") else { return };
    let host = Host::new(&near);
    let near = End { namespace: &near, name: "near" };
    let far = End { namespace: &far, name: "far" };
    join_with_ipv4(near, far);
    let collector = host.collect();
    let exporter = host.export(&["-i", "near", "--hook", "tc", "--kernel-flows", "64"]);
    let sent = send_flows(far, near);
    wait_until("all is metered", || {
        let status = host.status().unwrap();
        number(&status["interfaces"][0]["ingress"]["seen"]["packets"]) >= sent.0
    });
    let status = host.status().unwrap();
    end(exporter);
    collector.terminate().ok();
    let ledger = &status["interfaces"][0]["ingress"];
    let unaccounted = &ledger["unaccounted"];
    let stored = host.stored("proto udp and dst port 7000");
    println!("{sent:?} sent, {stored:?} stored, {unaccounted} unaccounted");
    assert_eq!(stored.0 + number(&unaccounted["packets"]), sent.0);
    assert_eq!(stored.1 + number(&unaccounted["octets"]), sent.1);
    assert_eq!(ledger["discrepancy"], serde_json::json!({"packets": 0, "octets": 0}));
}
