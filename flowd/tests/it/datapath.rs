//! The kernel programs: the flows of every test capture, as replay has them. As root; elsewhere
//! skipped with a word why.

use flowd::flow::{Meter, MeterConfig};
use flowd::model::FlowRecord;
use flowd::probe::{
    CaptureFile, CapturedPacket, Datapath, DatapathConfig, LinkType, ProbeError, Program,
};
use flowd_common::packet::{self, Captured};
use flowd_common::{Direction, ObservationPoint};
use std::path::{Path, PathBuf};

/// The kernel takes no longer packet in a test run: a page, less what it needs itself.
const PACKET_SIZE_MAX: usize = 3_500;
/// The shortest packet that the kernel takes.
const PACKET_SIZE_MIN: usize = 14;

/// Loads the programs; none, with a word why, where that is not allowed.
fn load(config: &DatapathConfig) -> Option<Datapath> {
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
fn captures() -> Vec<PathBuf> {
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

/// Meters each capture twice: packets as replay does, and as deltas that a program makes of each.
fn compare(program: Program, direction: Direction) {
    let Some(mut datapath) = load(&DatapathConfig::default()) else {
        return;
    };
    let (mut run_count, mut record_count) = (0, 0);
    for path in captures() {
        // The clock of one capture's fragments is not the next one's.
        let capture = CaptureFile::open(&path).unwrap();
        let (mut replay, mut kernel) =
            (Meter::new(&MeterConfig::default()), Meter::new(&MeterConfig::default()));
        let (mut from_replay, mut from_kernel) = (Vec::new(), Vec::new());
        let Ok(packets) = capture.packets() else { continue };
        for packet in packets.map_while(Result::ok) {
            let Some((link_type, data)) = for_kernel(&packet) else { continue };
            // Loopback is interface 1 in every network namespace.
            let point = ObservationPoint::new(1, direction);
            let wire_size = u32::try_from(data.len()).unwrap();
            replay.observe(
                &CapturedPacket { link_type, data, wire_size, point, ..packet },
                &mut from_replay,
            );
            datapath.run(program, link_type, data, 1).unwrap();
            let harvest = datapath.drain().unwrap();
            assert!(harvest.deltas.len() <= 1, "{}: {:?}", path.display(), harvest.deltas);
            let seen: u64 = harvest.ledger.iter().map(|(_, entry)| entry.seen_packets).sum();
            assert_eq!(seen, 1, "{}", path.display());
            kernel.advance(packet.time_nanos, &mut from_kernel);
            for mut delta in harvest.deltas {
                delta.counters.first_seen_nanos = packet.time_nanos;
                delta.counters.last_seen_nanos = packet.time_nanos;
                kernel.account(&delta, &mut from_kernel);
            }
            run_count += 1;
        }
        replay.finish(&mut from_replay);
        kernel.finish(&mut from_kernel);
        assert_same(&path, &from_replay, &from_kernel);
        record_count += from_replay.len();
    }
    println!("{run_count} packets, {record_count} records");
    assert!(run_count > 1_500 && record_count > 1_000);
}

fn assert_same(path: &Path, replay: &[FlowRecord], kernel: &[FlowRecord]) {
    for (index, (replay, kernel)) in replay.iter().zip(kernel).enumerate() {
        assert_eq!(kernel, replay, "{}: record {index}", path.display());
    }
    assert_eq!(kernel.len(), replay.len(), "{}", path.display());
}

#[test]
fn tc_ingress_gives_the_flows_of_replay() {
    compare(Program::TcIngress, Direction::INGRESS);
}

#[test]
fn tc_egress_gives_the_flows_of_replay() {
    compare(Program::TcEgress, Direction::EGRESS);
}

#[test]
fn xdp_gives_the_flows_of_replay() {
    compare(Program::Xdp, Direction::INGRESS);
}
