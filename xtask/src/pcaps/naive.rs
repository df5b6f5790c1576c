//! The flow records that a capture should give, by the rules of the guide and without haste:
//! a list of flows that is searched from end to end for every packet.

use super::capture::{Capture, Meaning, START_SECONDS};
use super::packet::{ACK, FIN, Packet, RST, SYN, Transport};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

const NANOS: i64 = 1_000_000_000;
const ACTIVE_TIMEOUT_NANOS: i64 = 60 * NANOS;
const INACTIVE_TIMEOUT_NANOS: i64 = 15 * NANOS;
const LINGER_NANOS: i64 = 2 * NANOS;

/// Numbers of flowEndReason.
const IDLE_TIMEOUT: u8 = 1;
const ACTIVE_TIMEOUT: u8 = 2;
const END_OF_FLOW: u8 = 3;
const FORCED_END: u8 = 4;

/// A flow under way. `first_packet` fixes all that is not counted.
struct Flow {
    interface: u32,
    first_packet: Packet,
    began_nanos: i64,
    touched_nanos: i64,
    over_nanos: Option<i64>,
    octets: usize,
    packets: u64,
    first_nanos: i64,
    last_nanos: i64,
    tcp_control_bits: u16,
    minimum_ttl: u8,
    maximum_ttl: u8,
}

impl Flow {
    fn is_of(&self, interface: u32, packet: &Packet) -> bool {
        let first = &self.first_packet;
        self.interface == interface
            && first.source == packet.source
            && first.destination == packet.destination
            && first.protocol == packet.protocol
            && first.transport == packet.transport
    }

    fn end(&self) -> (i64, u8) {
        if let Some(over_nanos) = self.over_nanos {
            return (over_nanos, END_OF_FLOW);
        }
        let idle = self.touched_nanos + INACTIVE_TIMEOUT_NANOS;
        let active = self.began_nanos + ACTIVE_TIMEOUT_NANOS;
        if idle <= active { (idle, IDLE_TIMEOUT) } else { (active, ACTIVE_TIMEOUT) }
    }
}

/// One JSON object a line: the records of a capture in the order in which they end.
pub(super) fn records(capture: &Capture) -> String {
    let mut clock = i64::MIN;
    // In the order of their beginnings.
    let mut flows: Vec<Flow> = Vec::new();
    let mut lines = String::new();
    for entry in &capture.entries {
        clock = clock.max(entry.time_nanos);
        let mut due: Vec<usize> =
            (0..flows.len()).filter(|&place| flows[place].end().0 <= clock).collect();
        due.sort_by_key(|&place| (flows[place].end().0, place));
        for &place in &due {
            write_record(&mut lines, &flows[place], flows[place].end().1);
        }
        due.sort_unstable();
        for place in due.into_iter().rev() {
            flows.remove(place);
        }
        let Meaning::Accounted(packet) = &entry.frame.meaning else {
            continue;
        };
        let is_of = |flow: &Flow| flow.is_of(entry.interface, packet);
        if let Some(place) = flows.iter().position(is_of)
            && packet.protocol == 6
            && packet.tcp_control_bits & (SYN | ACK) == SYN
            && flows[place].over_nanos.is_some()
        {
            write_record(&mut lines, &flows.remove(place), END_OF_FLOW);
        }
        account(&mut flows, entry.interface, packet, entry.time_nanos, clock);
    }
    for flow in &flows {
        write_record(&mut lines, flow, FORCED_END);
    }
    lines
}

fn account(flows: &mut Vec<Flow>, interface: u32, packet: &Packet, time_nanos: i64, clock: i64) {
    let place = flows.iter().position(|flow| flow.is_of(interface, packet));
    let place = place.unwrap_or_else(|| {
        flows.push(Flow {
            interface,
            first_packet: packet.clone(),
            began_nanos: clock,
            touched_nanos: clock,
            over_nanos: None,
            octets: 0,
            packets: 0,
            first_nanos: time_nanos,
            last_nanos: time_nanos,
            tcp_control_bits: 0,
            minimum_ttl: packet.ttl,
            maximum_ttl: packet.ttl,
        });
        flows.len() - 1
    });
    let flow = &mut flows[place];
    flow.touched_nanos = clock;
    flow.octets += packet.octets;
    flow.packets += 1;
    flow.first_nanos = flow.first_nanos.min(time_nanos);
    flow.last_nanos = flow.last_nanos.max(time_nanos);
    flow.tcp_control_bits |= packet.tcp_control_bits;
    flow.minimum_ttl = flow.minimum_ttl.min(packet.ttl);
    flow.maximum_ttl = flow.maximum_ttl.max(packet.ttl);
    if packet.tcp_control_bits & (FIN | RST) != 0 && flow.over_nanos.is_none() {
        flow.over_nanos = Some(clock + LINGER_NANOS);
    }
}

/// Adds a name and a value that is written as it is.
struct Object<'a>(&'a mut String);

impl Object<'_> {
    fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        let separator = if self.0.ends_with('{') { "" } else { "," };
        write!(self.0, "{separator}\"{name}\":{value}").expect("a String takes all");
    }

    fn quoted(&mut self, name: &str, value: impl std::fmt::Display) {
        self.plain(name, format_args!("\"{value}\""));
    }
}

fn write_record(lines: &mut String, flow: &Flow, reason: u8) {
    let packet = &flow.first_packet;
    lines.push('{');
    let mut object = Object(lines);
    let is_v4 = packet.source.is_ipv4();
    let family = if is_v4 { "IPv4" } else { "IPv6" };
    object.quoted(&format!("source{family}Address"), packet.source);
    object.quoted(&format!("destination{family}Address"), packet.destination);
    if let Transport::Ports(source, destination) = packet.transport {
        object.plain("sourceTransportPort", source);
        object.plain("destinationTransportPort", destination);
    }
    object.plain("protocolIdentifier", packet.protocol);
    if let Transport::Icmp(type_code) = packet.transport {
        object.plain(&format!("icmpTypeCode{family}"), type_code);
    }
    object.plain("octetDeltaCount", flow.octets);
    object.plain("packetDeltaCount", flow.packets);
    object.quoted("flowStartMilliseconds", time(flow.first_nanos));
    object.quoted("flowEndMilliseconds", time(flow.last_nanos));
    if packet.protocol == 6 {
        object.plain("tcpControlBits", flow.tcp_control_bits);
    }
    object.plain("ipClassOfService", packet.class_of_service);
    object.plain("flowEndReason", reason);
    if let Some(vlan_id) = packet.link.vlan_id {
        object.plain("vlanId", vlan_id);
    }
    object.plain("minimumTTL", flow.minimum_ttl);
    object.plain("maximumTTL", flow.maximum_ttl);
    if let Some(mac) = packet.link.source_mac {
        object.quoted("sourceMacAddress", mac_text(mac));
    }
    if let Some(mac) = packet.link.destination_mac {
        object.quoted("destinationMacAddress", mac_text(mac));
    }
    if matches!(packet.source, IpAddr::V6(_)) {
        object.plain("flowLabelIPv6", packet.flow_label);
    }
    lines.push_str("}\n");
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// All captures lie within the first day of 2024.
fn time(nanos: i64) -> String {
    let millis = nanos.div_euclid(1_000_000) - START_SECONDS * 1000;
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, millis) = (millis / 1000 % 60, millis % 1000);
    assert!((0..24).contains(&hours), "a capture leaves its day");
    format!("2024-01-01T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// One JSON object: what becomes of the capture's packets.
pub(super) fn books(capture: &Capture) -> String {
    let mut refused = BTreeMap::<&str, u64>::new();
    let (mut packets, mut octets) = (0, 0);
    for entry in &capture.entries {
        match &entry.frame.meaning {
            Meaning::Accounted(packet) => {
                packets += 1;
                octets += packet.octets;
            }
            Meaning::Refused(reason) => *refused.entry(reason).or_default() += 1,
        }
    }
    let refused: Vec<String> =
        refused.iter().map(|(reason, count)| format!("\"{reason}\":{count}")).collect();
    let mut line = "{".to_owned();
    let mut object = Object(&mut line);
    object.plain("packetsSeen", capture.entries.len());
    object.plain("accountedPackets", packets);
    object.plain("accountedOctets", octets);
    object.plain("refused", format_args!("{{{}}}", refused.join(",")));
    if let Some(offset) = capture.damaged_at {
        object.plain("damagedAt", offset);
    }
    line.push_str("}\n");
    line
}
