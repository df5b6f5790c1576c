//! Every test capture live: its frames sent over a veth, and metered where they come in. The flows
//! are those of replay. As root; elsewhere skipped with a word why.

use crate::datapath::{captures, load};
use crate::namespace::Namespace;
use crate::support::wait_until;
use crate::system::{FrameSocket, stay_on_this_cpu};
use crate::veth::{End, MACS, Offloads, join};
use flowd::flow::{Meter, MeterConfig};
use flowd::model::FlowRecord;
use flowd::probe::{
    CaptureFile, CapturedPacket, Datapath, DatapathConfig, HookChoice, Link, LinkMonitor, LinkType,
};
use flowd_common::packet::{self, Captured};
use flowd_common::{Direction, FlowDelta, ObservationPoint};
use std::collections::BTreeMap;
use std::time::Duration;

/// The greatest that a veth has.
const MTU: u32 = 65_535;

/// The shortest frame that an interface sends: an Ethernet header.
const FRAME_SIZE_MIN: usize = 14;

/// Frames on their way at a time: fewer than a veth's queue holds.
const FRAME_COUNT_MAX: usize = 100;

/// The instant at which all packets come, by both ways: no flow ends before the capture does.
const INSTANT_NANOS: i64 = 1_700_000_000_000_000_000;

/// A datapath on an interface; none, with a word why, where the kernel does not let us.
pub(crate) fn attach(
    end: End<'_>,
    config: &DatapathConfig,
    hook: HookChoice,
) -> Option<(Datapath, Link)> {
    end.namespace.inside(|| {
        let mut datapath = load(config)?;
        let link = link(end);
        datapath.attach(&link, hook).unwrap();
        Some((datapath, link))
    })
}

/// An interface, looked up in its namespace.
fn link(end: End<'_>) -> Link {
    let monitor = LinkMonitor::new().unwrap();
    monitor.links().find(|link| link.name == end.name).unwrap().clone()
}

/// A captured packet as an Ethernet frame of the octets that were captured: as it is, or what is
/// IP in it behind a header of our own. None for what is neither.
fn frame(packet: &CapturedPacket<'_>) -> Option<Vec<u8>> {
    if packet.link_type == LinkType::Ethernet {
        return Some(packet.data.to_vec());
    }
    let captured = Captured { data: packet.data, wire_size: packet.data.len() };
    let parsed = packet::parse(packet.link_type, &captured).ok()?;
    let data = &packet.data[parsed.network_offset..];
    let ethertype: [u8; 2] = if data[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    Some([&MACS[0], &MACS[1], &ethertype[..], data].concat())
}

/// Does the frame come to where it is metered as it was sent? An interface sends no less than an
/// Ethernet header. Where packets are metered behind the driver, the kernel has taken off the
/// outermost tag of 802.1Q or 802.1ad, and drops a frame that has not the whole of the tag and the
/// ethertype behind it.
fn is_carried(frame: &[u8], hook: HookChoice) -> bool {
    const TAKEN_OFF: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
    let ethertype = frame.get(12..14).and_then(|it| it.first_chunk());
    let is_taken_off = ethertype.is_some_and(|it| TAKEN_OFF.contains(it));
    let is_dropped = is_taken_off && frame.len() < FRAME_SIZE_MIN + 6;
    frame.len() >= FRAME_SIZE_MIN && !(hook == HookChoice::Tc && is_dropped)
}

/// Sends frames, and takes what was counted of them.
fn send(
    socket: &FrameSocket,
    frames: &[Vec<u8>],
    point: ObservationPoint,
    datapath: &mut Datapath,
) -> Vec<FlowDelta> {
    let (mut sent, mut seen) = (0, 0);
    let mut deltas = Vec::new();
    for some in frames.chunks(FRAME_COUNT_MAX) {
        some.iter().for_each(|frame| socket.send(frame));
        sent += some.len() as u64;
        wait_until("the frames have come", || {
            datapath.wait(Duration::from_millis(1)).unwrap();
            let harvest = datapath.drain().unwrap();
            for (at, entry) in harvest.ledger {
                assert_eq!((at, entry.unaccounted_packets), (point, 0));
                seen += entry.seen_packets;
            }
            deltas.extend(harvest.deltas);
            seen >= sent
        });
    }
    assert_eq!(seen, sent);
    deltas
}

/// The flows of a meter that has seen all: records of the same key in one, with what the first of
/// them has of its first packet. A flow's end that comes in a later delta than it came by the wire
/// divides it elsewhere.
fn flows(mut meter: Meter, mut records: Vec<FlowRecord>) -> BTreeMap<String, FlowRecord> {
    meter.finish(&mut records);
    let mut flows = BTreeMap::<String, FlowRecord>::new();
    for mut record in records {
        record.flow_end_reason = 0;
        let key = format!(
            "{:?} {:?} {} {} {} {} {} {:?}",
            record.source_address(),
            record.destination_address(),
            record.protocol_identifier,
            record.source_transport_port,
            record.destination_transport_port,
            record.icmp_type_code_ipv4,
            record.icmp_type_code_ipv6,
            record.point(),
        );
        if let Some(flow) = flows.get_mut(&key) {
            flow.packet_delta_count += record.packet_delta_count;
            flow.octet_delta_count += record.octet_delta_count;
            flow.tcp_control_bits |= record.tcp_control_bits;
            flow.minimum_ttl = flow.minimum_ttl.min(record.minimum_ttl);
            flow.maximum_ttl = flow.maximum_ttl.max(record.maximum_ttl);
        } else {
            flows.insert(key, record);
        }
    }
    flows
}

fn flows_of_replay(frames: &[Vec<u8>], point: ObservationPoint) -> BTreeMap<String, FlowRecord> {
    let (mut meter, mut records) = (Meter::new(&MeterConfig::default()), Vec::new());
    for frame in frames {
        let packet = CapturedPacket {
            time_nanos: INSTANT_NANOS,
            link_type: LinkType::Ethernet,
            point,
            wire_size: u32::try_from(frame.len()).unwrap(),
            data: frame,
        };
        meter.observe(&packet, &mut records);
    }
    flows(meter, records)
}

fn flows_of_deltas(deltas: Vec<FlowDelta>) -> BTreeMap<String, FlowRecord> {
    let (mut meter, mut records) = (Meter::new(&MeterConfig::default()), Vec::new());
    for mut delta in deltas {
        delta.counters.first_seen_nanos = INSTANT_NANOS;
        delta.counters.last_seen_nanos = INSTANT_NANOS;
        meter.account(&delta, &mut records);
    }
    flows(meter, records)
}

/// Sends every capture over a veth of its own, so that no fragment is one of another capture's.
fn compare(hook: HookChoice, label: &str) {
    let Some(near) = Namespace::new(&format!("{label}-a")) else { return };
    let Some(far) = Namespace::new(&format!("{label}-b")) else { return };
    let near = End { namespace: &near, name: "near" };
    let far = End { namespace: &far, name: "far" };
    let config = DatapathConfig { flow_count_max: 4_096, ..DatapathConfig::default() };
    join(near, far, Offloads::Off, MTU);
    let Some((mut datapath, first_link)) = attach(near, &config, hook) else { return };
    stay_on_this_cpu();
    let mut link = first_link;
    let (mut frame_count, mut flow_count, mut left_out) = (0, 0, 0);
    for path in captures() {
        let capture = CaptureFile::open(&path).unwrap();
        let packets = capture.packets().unwrap().map_while(Result::ok);
        let (frames, others): (Vec<_>, Vec<_>) =
            packets.filter_map(|it| frame(&it)).partition(|it| is_carried(it, hook));
        let point = ObservationPoint::new(link.index, Direction::INGRESS);
        let deltas = send(&far.frames(), &frames, point, &mut datapath);
        let (live, replay) = (flows_of_deltas(deltas), flows_of_replay(&frames, point));
        for (key, flow) in &replay {
            assert_eq!(live.get(key), Some(flow), "{}: {key}", path.display());
        }
        let surplus: Vec<_> = live.keys().filter(|key| !replay.contains_key(*key)).collect();
        assert!(surplus.is_empty(), "{}: {surplus:?}", path.display());
        frame_count += frames.len();
        flow_count += replay.len();
        left_out += others.len();

        datapath.detach(link.index);
        near.namespace.ip("link del near");
        join(near, far, Offloads::Off, MTU);
        link = near.namespace.inside(|| {
            let link = self::link(near);
            datapath.attach(&link, hook).unwrap();
            link
        });
    }
    println!("{label}: {frame_count} frames, {flow_count} flows, {left_out} frames left out");
    assert!(frame_count > 20_000 && flow_count > 1_000 && left_out < 10);
}

#[test]
fn every_capture_over_a_veth_by_tc_gives_the_flows_of_replay() {
    compare(HookChoice::Tc, "live-tc");
}

#[test]
fn every_capture_over_a_veth_by_xdp_gives_the_flows_of_replay() {
    compare(HookChoice::Xdp, "live-xdp");
}
