//! Seeded flows as the border router of a company sees them: flow `index` of a seed is always the
//! same, whatever was made before it.
//!
//! Two indices make a conversation, one for each direction, some hundred flows apart, as a router
//! exports them. Few servers have most of the flows, and most flows are small.

use crate::random::Draws;

/// A flow as a router would have seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the Information Elements of their names")]
pub struct Flow {
    pub source_address: u32,
    pub destination_address: u32,
    pub next_hop: u32,
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u8,
    pub tcp_control_bits: u8,
    pub class_of_service: u8,
    pub ingress_interface: u32,
    pub egress_interface: u32,
    pub source_as: u32,
    pub destination_as: u32,
    pub source_prefix_length: u8,
    pub destination_prefix_length: u8,
    pub packets: u32,
    pub octets: u32,
    pub duration_millis: u32,
    /// How long before its export it ended: the router waits for more of it.
    pub age_millis: u32,
}

/// How a service's flows look.
#[derive(Clone, Copy, Debug)]
struct Service {
    protocol: u8,
    port: u16,
    /// Of a thousand conversations.
    share: u32,
    /// Octets of a packet to the server, and of one from it: the least, and how many more.
    request: (u32, u32),
    answer: (u32, u32),
    /// The fewest packets of a conversation that is not cut short.
    packets_min: u32,
    /// How often the number of packets may double from there.
    doublings_max: u32,
}

const fn service(
    (protocol, port, share): (u8, u16, u32),
    request: (u32, u32),
    answer: (u32, u32),
    (packets_min, doublings_max): (u32, u32),
) -> Service {
    Service { protocol, port, share, request, answer, packets_min, doublings_max }
}

const SERVICES: &[Service] = &[
    service((6, 443, 450), (52, 260), (300, 1_150), (4, 14)),
    service((17, 443, 120), (80, 400), (400, 880), (2, 14)),
    service((17, 53, 210), (55, 30), (70, 300), (1, 0)),
    service((6, 80, 60), (52, 400), (200, 1_200), (4, 12)),
    service((6, 22, 20), (52, 100), (60, 300), (10, 12)),
    service((17, 123, 30), (76, 0), (76, 0), (1, 0)),
    service((6, 25, 15), (200, 1_200), (52, 60), (8, 8)),
    service((6, 3389, 10), (60, 100), (200, 800), (20, 12)),
    service((6, 445, 25), (80, 600), (100, 900), (5, 12)),
    service((1, 0x0800, 30), (84, 0), (84, 0), (1, 4)),
    SCAN,
];

/// Somebody who tries all addresses; nobody answers.
const SCAN: Service = service((6, 0, 30), (40, 4), (40, 0), (1, 0));
/// Ports that are tried.
const SCANNED_PORTS: [u16; 8] = [22, 23, 80, 445, 3_389, 5_900, 8_080, 8_443];
/// Those who try.
const SCANNERS: u64 = 300;

/// Client hosts, in 10.0.0.0/16 by popularity.
const CLIENTS: u64 = 50_000;
/// Servers, spread over the address space. Those whose rank has a bit more have half the flows
/// each.
const SERVERS: u64 = 200_000;
const SERVER_RANK_BITS: u64 = 17;
/// Networks that servers stand in.
const SERVER_NETWORKS: u32 = 4_000;

/// Conversations that are under way at once.
const CONVERSATIONS: u64 = 1_024;
/// Odd, so that the answers to so many conversations are theirs in another order.
const ANSWER_STEP: u64 = 517;

/// A flow that goes on is cut after this time.
const ACTIVE_TIMEOUT_MILLIS: u32 = 60_000;
/// A flow that is quiet for this time has ended.
const INACTIVE_TIMEOUT_MILLIS: u32 = 15_000;

/// Flow number `index` of a seed.
#[must_use]
pub fn flow(seed: u64, index: u64) -> Flow {
    let (batch, place) = (index / (2 * CONVERSATIONS), index % (2 * CONVERSATIONS));
    let slot = place / 2;
    let is_answer = place % 2 == 1;
    let slot = if is_answer { (slot * ANSWER_STEP + 101) % CONVERSATIONS } else { slot };
    let number = batch * CONVERSATIONS + slot;
    let mut own = Draws(!seed ^ index.wrapping_mul(0x9fb2_1c65_1e98_df25));
    let conversation = Conversation::new(seed, number);
    if is_answer && conversation.is_scan() {
        // Instead of an answer, the next try.
        return conversation.next_scan(&mut own).flow(false, &mut own);
    }
    conversation.flow(is_answer, &mut own)
}

/// What both directions have in common.
#[derive(Clone, Copy, Debug)]
struct Conversation {
    service: Service,
    /// In and out of the company's network.
    inside: u32,
    outside: u32,
    network: u32,
    inside_port: u16,
    outside_port: u16,
    /// Did the host inside begin?
    is_outbound: bool,
    packets: u32,
    duration_millis: u32,
    class_of_service: u8,
}

impl Conversation {
    fn new(seed: u64, number: u64) -> Self {
        let mut draws = Draws(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        let service = chosen(draws.below(1_000) as u32);
        let is_scan = service.protocol == SCAN.protocol && service.port == SCAN.port;
        let rank = if is_scan {
            SERVERS + draws.below(SCANNERS)
        } else if draws.below(4) == 0 {
            draws.popular(SERVERS)
        } else {
            let bits = draws.below(SERVER_RANK_BITS + 1);
            (1 << bits) - 1 + draws.below(1 << bits)
        } as u32;
        let network = rank % SERVER_NETWORKS;
        let inside = if is_scan { draws.below(1 << 16) } else { draws.popular(CLIENTS) } as u32;
        let ephemeral = 32_768 + draws.below(28_000) as u16;
        let (inside_port, outside_port) = match service.protocol {
            1 => (0, service.port),
            _ if is_scan => (SCANNED_PORTS[draws.below(8) as usize], ephemeral),
            _ => (ephemeral, service.port),
        };
        let packets = match service.doublings_max {
            0 => 1,
            doublings => service.packets_min - 1 + draws.heavy(doublings),
        };
        let magnitude = draws.below(17);
        let duration = ((1 << magnitude) + draws.below(1 << magnitude)) as u32;
        Self {
            service,
            inside: 0x0a00_0000 + inside,
            outside: (0x1700_0000 + network * 0x0001_1300) | (rank / SERVER_NETWORKS + 1),
            network,
            inside_port,
            outside_port,
            is_outbound: !is_scan,
            packets,
            duration_millis: duration.min(ACTIVE_TIMEOUT_MILLIS),
            class_of_service: if draws.below(10) == 0 { 0xb8 } else { 0 },
        }
    }

    const fn is_scan(&self) -> bool {
        !self.is_outbound
    }

    /// The same scanner's try at another host.
    fn next_scan(self, own: &mut Draws) -> Self {
        Self { inside: 0x0a00_0000 + own.below(1 << 16) as u32, ..self }
    }

    fn flow(self, is_answer: bool, own: &mut Draws) -> Flow {
        let upstream = self.is_outbound != is_answer;
        let (inside, outside) =
            ((self.inside, self.inside_port), (self.outside, self.outside_port));
        let (source, destination) = if upstream { (inside, outside) } else { (outside, inside) };
        let size = if is_answer { self.service.answer } else { self.service.request };
        let packets = match self.packets {
            1 => 1,
            packets if is_answer => packets + own.below(u64::from(packets / 2 + 1)) as u32,
            packets => packets,
        };
        let is_tcp = self.service.protocol == 6;
        let has_ended = is_tcp && own.below(10) < 8;
        let quiet = if has_ended { 0 } else { INACTIVE_TIMEOUT_MILLIS };
        let within_network = 10 + (self.inside >> 14 & 3);
        let beyond = 20 + (self.network & 1);
        let interfaces = if upstream { (within_network, beyond) } else { (beyond, within_network) };
        let network_as = 64_496 + self.network % 900;
        let systems = if upstream { (0, network_as) } else { (network_as, 0) };
        let prefixes = if upstream { (16, 24) } else { (24, 16) };
        Flow {
            source_address: source.0,
            destination_address: destination.0,
            next_hop: 0x0a00_0001 + interfaces.1,
            source_port: source.1,
            destination_port: destination.1,
            protocol: self.service.protocol,
            tcp_control_bits: match (is_tcp, packets) {
                (false, _) => 0,
                (true, 1) => 0x02,
                (true, _) if has_ended => 0x1b,
                (true, _) => 0x18,
            },
            class_of_service: self.class_of_service,
            ingress_interface: interfaces.0,
            egress_interface: interfaces.1,
            source_as: systems.0,
            destination_as: systems.1,
            source_prefix_length: prefixes.0,
            destination_prefix_length: prefixes.1,
            packets,
            octets: packets.saturating_mul(size.0 + own.below(u64::from(size.1) + 1) as u32),
            duration_millis: if packets == 1 { 0 } else { self.duration_millis },
            age_millis: quiet + own.below(1_000) as u32,
        }
    }
}

fn chosen(mut draw: u32) -> Service {
    for service in SERVICES {
        if draw < service.share {
            return *service;
        }
        draw -= service.share;
    }
    SCAN
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn flows(count: u64) -> Vec<Flow> {
        (0..count).map(|index| flow(1, index)).collect()
    }

    #[test]
    fn shares_add_up() {
        assert_eq!(SERVICES.iter().map(|service| service.share).sum::<u32>(), 1000);
    }

    #[test]
    fn a_flow_depends_on_seed_and_index_only() {
        assert_eq!(flow(7, 1_000), flow(7, 1_000));
        assert_ne!(flow(7, 1_000), flow(7, 1_001));
        assert_ne!(flow(7, 1_000), flow(8, 1_000));
    }

    #[test]
    fn volumes_are_heavy_tailed_and_whole() {
        let packets: Vec<u32> = flows(100_000).iter().map(|flow| flow.packets).collect();
        let ones = packets.iter().filter(|&&p| p == 1).count();
        assert!((25_000..50_000).contains(&ones), "{ones}");
        assert!(packets.iter().any(|&p| p > 10_000));
    }

    #[test]
    fn conversations_have_two_directions_and_scans_one() {
        let flows = flows(2 * CONVERSATIONS);
        let ends = |flow: &Flow| {
            [
                (flow.source_address, flow.source_port),
                (flow.destination_address, flow.destination_port),
            ]
        };
        let mut seen: HashMap<_, u32> = HashMap::new();
        flows.iter().for_each(|flow| *seen.entry(ends(flow)).or_default() += 1);
        let answered = flows.iter().filter(|flow| {
            let [source, destination] = ends(flow);
            seen.contains_key(&[destination, source])
        });
        let share = answered.count() as f64 / flows.len() as f64;
        assert!((0.95..0.99).contains(&share), "{share}");
    }

    #[test]
    fn few_servers_have_most_of_the_flows_and_many_have_a_few() {
        let mut servers: HashMap<u32, u32> = HashMap::new();
        for flow in flows(100_000) {
            let ends = [flow.source_address, flow.destination_address];
            let outside = ends.into_iter().find(|address| address >> 16 != 0x0a00);
            *servers.entry(outside.expect("one end is outside")).or_default() += 1;
        }
        let mut counts: Vec<u32> = servers.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        assert!(counts.len() > 10_000, "{}", counts.len());
        let top: u32 = counts.iter().take(100).sum();
        assert!((20_000..50_000).contains(&top), "{top}");
    }

    #[test]
    fn a_flow_of_one_packet_takes_no_time() {
        assert!(flows(10_000).iter().all(|flow| flow.packets > 1 || flow.duration_millis == 0));
    }
}
