//! The kernel programs: the flows of every test capture, as replay has them. As root; elsewhere
//! skipped with a word why.

use flowd::flow::{Meter, MeterConfig};
use flowd::model::FlowRecord;
use flowd::probe::{
    CaptureFile, CapturedPacket, Datapath, DatapathConfig, Harvest, LinkType, ProbeError, Program,
};
use flowd_common::limits::FRAGMENT_TIMEOUT_NANOS;
use flowd_common::packet::{self, Captured};
use flowd_common::{Direction, FirstPacket, FlowCounters, FlowDelta, FlowKey, ObservationPoint};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The kernel takes no longer packet in a test run: a page, less what it needs itself.
const PACKET_SIZE_MAX: usize = 3_500;
/// The shortest packet that the kernel takes.
const PACKET_SIZE_MIN: usize = 14;

/// Captures of more packets are compared by their totals: a drain after each packet takes long.
const PACKET_COUNT_MAX: usize = 1_000;

/// Tables that are soon drained.
fn small() -> DatapathConfig {
    DatapathConfig { flow_count_max: 64, ..DatapathConfig::default() }
}

/// Loads the programs; none, with a word why, where that is not allowed.
pub(crate) fn load(config: &DatapathConfig) -> Option<Datapath> {
    match Datapath::load(config) {
        Ok(datapath) => Some(datapath),
        Err(error @ (ProbeError::Rights { .. } | ProbeError::OldKernel { .. })) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The captures of `test-pcaps` that are whole.
pub(crate) fn captures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-pcaps");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| matches!(path.extension(), Some(e) if e == "pcap" || e == "pcapng"))
        .collect();
    paths.sort();
    assert!(paths.len() > 40);
    paths
}

/// What the kernel can be handed of a captured packet: an Ethernet frame as it is; of a packet
/// under another link header the IP packet, as an interface without link header has it.
fn for_kernel<'a>(packet: &CapturedPacket<'a>) -> Option<(LinkType, &'a [u8])> {
    let (link_type, data) = match packet.link_type {
        LinkType::Ethernet => (LinkType::Ethernet, packet.data),
        other => {
            let captured = Captured { data: packet.data, wire_size: packet.data.len() };
            let parsed = packet::parse(other, &captured).ok()?;
            (LinkType::RawIp, packet.data.get(parsed.network_offset..)?)
        }
    };
    (PACKET_SIZE_MIN..=PACKET_SIZE_MAX).contains(&data.len()).then_some((link_type, data))
}

/// Is it a later fragment of a packet so old that its ports are forgotten? The programs have the
/// system's clock, which does not run as a capture's does.
fn is_late_fragment(link_type: LinkType, data: &[u8], nanos_since_start: i64) -> bool {
    let fragment = packet::parse(link_type, data).ok().and_then(|packet| packet.fragment);
    fragment.is_some_and(|f| f.offset > 0) && nanos_since_start >= FRAGMENT_TIMEOUT_NANOS
}

/// Both ways to meter a capture, and what they have metered.
struct Comparison {
    replay: Meter,
    kernel: Meter,
    from_replay: Vec<FlowRecord>,
    from_kernel: Vec<FlowRecord>,
}

impl Comparison {
    fn new() -> Self {
        // Where packets come all at once, their flows must not end meanwhile.
        let meter = || Meter::new(&MeterConfig::default());
        let (replay, kernel) = (meter(), meter());
        Self { replay, kernel, from_replay: Vec::new(), from_kernel: Vec::new() }
    }

    /// Hands what the kernel counted of one packet to the meter, with that packet's time.
    fn account(&mut self, harvest: Harvest, time_nanos: i64) {
        let Self { kernel, from_kernel, .. } = self;
        kernel.advance(time_nanos, from_kernel);
        assert!(harvest.deltas.len() <= 1, "one packet: {:?}", harvest.deltas);
        let seen: u64 = harvest.ledger.iter().map(|(_, entry)| entry.seen_packets).sum();
        assert_eq!(seen, 1);
        for mut delta in harvest.deltas {
            delta.counters.first_seen_nanos = time_nanos;
            delta.counters.last_seen_nanos = time_nanos;
            kernel.account(&delta, from_kernel);
        }
    }

    fn finish(mut self, path: &Path) -> usize {
        self.replay.finish(&mut self.from_replay);
        self.kernel.finish(&mut self.from_kernel);
        for (index, (replay, kernel)) in self.from_replay.iter().zip(&self.from_kernel).enumerate()
        {
            assert_eq!(kernel, replay, "{}: record {index}", path.display());
        }
        assert_eq!(self.from_kernel.len(), self.from_replay.len(), "{}", path.display());
        self.from_replay.len()
    }
}

/// Meters each capture twice: packets as replay does, and as deltas that a program makes of each.
fn compare(program: Program, direction: Direction) {
    let Some(mut datapath) = load(&small()) else {
        return;
    };
    // Loopback, which test runs pass for, is interface 1 in every network namespace.
    let point = ObservationPoint::new(1, direction);
    let (mut run_count, mut record_count, mut refused_count) = (0, 0, 0);
    for path in captures() {
        let capture = CaptureFile::open(&path).unwrap();
        let Ok(packets) = capture.packets() else { continue };
        let packets: Vec<_> = packets.map_while(Result::ok).collect();
        if packets.len() > PACKET_COUNT_MAX {
            continue;
        }
        let mut comparison = Comparison::new();
        for packet in &packets {
            let Some((link_type, data)) = for_kernel(packet) else { continue };
            if is_late_fragment(link_type, data, packet.time_nanos - packets[0].time_nanos) {
                continue;
            }
            let wire_size = u32::try_from(data.len()).unwrap();
            let seen = CapturedPacket { link_type, data, wire_size, point, ..*packet };
            match datapath.run(program, link_type, data, 1) {
                Ok(run) => assert_eq!(run.verdict, verdict(program), "{}", path.display()),
                Err(error) => {
                    // The kernel looks at the IP header itself before it runs a program of TC.
                    assert!(packet::parse(link_type, data).is_err(), "{}: {error}", path.display());
                    refused_count += 1;
                    continue;
                }
            }
            comparison.replay.observe(&seen, &mut comparison.from_replay);
            comparison.account(datapath.drain().unwrap(), packet.time_nanos);
            run_count += 1;
        }
        record_count += comparison.finish(&path);
    }
    println!("{run_count} packets, {record_count} records, {refused_count} refused by the kernel");
    assert!(run_count > 300 && record_count > 100 && refused_count < 10);
}

/// What a program says of every packet: that others decide.
const fn verdict(program: Program) -> i32 {
    const XDP_PASS: i32 = 2;
    const TC_ACT_UNSPEC: i32 = -1;
    match program {
        Program::Xdp => XDP_PASS,
        Program::TcIngress | Program::TcEgress => TC_ACT_UNSPEC,
    }
}

/// What flows hold in all, by what tells them apart and what their first packets fix.
fn totals(deltas: impl Iterator<Item = FlowDelta>) -> BTreeMap<String, [u64; 3]> {
    let mut totals = BTreeMap::new();
    for FlowDelta { key, counters, first } in deltas {
        let sum: &mut [u64; 3] =
            totals.entry(format!("{key:?} {:?}", first.source_mac)).or_default();
        sum[0] += counters.packets;
        sum[1] += counters.octets;
        sum[2] |= u64::from(counters.tcp_control_bits);
    }
    totals
}

/// A capture of 20,000 packets, all of them in one generation.
fn compare_many(program: Program, direction: Direction) {
    let Some(mut datapath) = load(&DatapathConfig::default()) else {
        return;
    };
    let point = ObservationPoint::new(1, direction);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-pcaps/demo-traffic.pcap");
    let capture = CaptureFile::open(&path).unwrap();
    let mut expected = Vec::new();
    let mut run_count = 0;
    for packet in capture.packets().unwrap().map_while(Result::ok) {
        let Some((link_type, data)) = for_kernel(&packet) else { continue };
        datapath.run(program, link_type, data, 1).unwrap();
        run_count += 1;
        let Ok(parsed) = packet::parse(link_type, data) else { continue };
        expected.push(FlowDelta {
            key: FlowKey::new(point, parsed.addresses, parsed.protocol, parsed.transport),
            counters: FlowCounters::of_packet(&parsed, 0),
            first: FirstPacket::of_packet(&parsed),
        });
    }
    let harvest = datapath.drain().unwrap();
    let [(at, ledger)] = harvest.ledger[..] else { panic!("{:?}", harvest.ledger) };
    assert_eq!((at, ledger.seen_packets), (point, run_count));
    assert_eq!(ledger.refused_packets(), run_count - expected.len() as u64);
    assert_eq!(totals(harvest.deltas.into_iter()), totals(expected.into_iter()));
    assert!(run_count > 19_000);
}

#[test]
fn tc_ingress_gives_the_flows_of_replay() {
    compare(Program::TcIngress, Direction::INGRESS);
    compare_many(Program::TcIngress, Direction::INGRESS);
}

#[test]
fn tc_egress_gives_the_flows_of_replay() {
    compare(Program::TcEgress, Direction::EGRESS);
    compare_many(Program::TcEgress, Direction::EGRESS);
}

#[test]
fn xdp_gives_the_flows_of_replay() {
    compare(Program::Xdp, Direction::INGRESS);
    compare_many(Program::Xdp, Direction::INGRESS);
}

/// UDP datagrams of as many flows.
fn datagram(flow: u16) -> [u8; 42] {
    let [high, low] = flow.to_be_bytes();
    let mut frame = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, //
        192, 0, 2, 1, 192, 0, 2, 2, 0, 0, 0, 53, 0, 8, 0, 0,
    ];
    frame[34] = high;
    frame[35] = low;
    frame
}

#[test]
fn a_ring_buffer_that_fills_wakes_the_reader() {
    /// Far longer than a wake-up takes: only a reader that is not woken waits for so long.
    const PATIENCE: Duration = Duration::from_secs(60);
    let Some(mut datapath) = load(&DatapathConfig { ring_size: 1 << 14, ..small() }) else {
        return;
    };
    for flow in 0..64 + 100 {
        datapath.run(Program::TcIngress, LinkType::Ethernet, &datagram(flow), 1).unwrap();
    }
    let start = Instant::now();
    datapath.wait(PATIENCE).unwrap();
    assert!(start.elapsed() < PATIENCE / 2, "nobody woke the reader");
    assert_eq!(datapath.drain().unwrap().deltas.len(), 164);
}

#[test]
fn each_harvest_tells_what_came_since_the_last_one() {
    let Some(mut datapath) = load(&small()) else {
        return;
    };
    for round in 1..=5_u16 {
        for flow in 0..round {
            datapath.run(Program::TcEgress, LinkType::Ethernet, &datagram(flow), 1).unwrap();
        }
        let harvest = datapath.drain().unwrap();
        let [(point, ledger)] = harvest.ledger[..] else { panic!("{:?}", harvest.ledger) };
        assert_eq!(point, ObservationPoint::new(1, Direction::EGRESS));
        assert_eq!(
            (ledger.seen_packets, ledger.seen_octets),
            (round.into(), u64::from(round) * 28)
        );
        assert_eq!(harvest.deltas.len(), usize::from(round));
    }
    let nothing = datapath.drain().unwrap();
    assert!(nothing.ledger.is_empty() && nothing.deltas.is_empty());
}
