//! Seeded flows: flow `index` of a seed is always the same, whatever was made before it.

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
}

/// Services with their protocol, port and share in thousandths.
const SERVICES: &[(u8, u16, u32)] = &[
    (6, 443, 480),
    (17, 443, 120),
    (17, 53, 200),
    (6, 80, 60),
    (6, 22, 20),
    (17, 123, 30),
    (6, 25, 15),
    (6, 3389, 10),
    (6, 445, 25),
    (1, 0, 40),
];

/// Client hosts, in 10.0.0.0/16 by popularity.
const CLIENTS: u64 = 50_000;
/// Servers, spread over the address space.
const SERVERS: u64 = 200_000;
/// Networks that servers stand in.
const SERVER_NETWORKS: u32 = 4_000;

/// Flow number `index` of a seed.
#[must_use]
pub fn flow(seed: u64, index: u64) -> Flow {
    let mut draws = Draws(seed ^ index.wrapping_mul(0xd134_2543_de82_ef95));
    let (protocol, service_port) = service(draws.below(1000) as u32);
    let client = 0x0a00_0000 + draws.popular(CLIENTS) as u32;
    let server_rank = draws.popular(SERVERS) as u32;
    let network = server_rank % SERVER_NETWORKS;
    let server = (0x1700_0000 + network * 0x0001_1300) | (server_rank / SERVER_NETWORKS + 1);
    let client_port = 32_768 + draws.below(28_000) as u16;
    let packets = draws.heavy(16);
    let octets = packets.saturating_mul(40 + draws.below(1_400) as u32);
    let upstream = draws.below(2) == 0;
    let (client_port, service_port) =
        if protocol == 1 { (0, 0x0800) } else { (client_port, service_port) };
    let network_as = 64_496 + network % 900;
    let (source, destination) = if upstream {
        ((client, client_port), (server, service_port))
    } else {
        ((server, service_port), (client, client_port))
    };
    Flow {
        source_address: source.0,
        destination_address: destination.0,
        next_hop: 0x0a00_0001,
        source_port: source.1,
        destination_port: destination.1,
        protocol,
        tcp_control_bits: if protocol == 6 { 0x1b } else { 0 },
        class_of_service: if draws.below(10) == 0 { 0xb8 } else { 0 },
        ingress_interface: if upstream { 10 } else { 20 },
        egress_interface: if upstream { 20 } else { 10 },
        source_as: if upstream { 0 } else { network_as },
        destination_as: if upstream { network_as } else { 0 },
        source_prefix_length: if upstream { 16 } else { 24 },
        destination_prefix_length: if upstream { 24 } else { 16 },
        packets,
        octets,
        duration_millis: draws.below(u64::from(packets.min(60)) * 1000) as u32,
    }
}

fn service(mut draw: u32) -> (u8, u16) {
    for &(protocol, port, share) in SERVICES {
        if draw < share {
            return (protocol, port);
        }
        draw -= share;
    }
    (6, 443)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        assert_eq!(SERVICES.iter().map(|(_, _, share)| share).sum::<u32>(), 1000);
    }

    #[test]
    fn a_flow_depends_on_seed_and_index_only() {
        assert_eq!(flow(7, 1_000), flow(7, 1_000));
        assert_ne!(flow(7, 1_000), flow(7, 1_001));
        assert_ne!(flow(7, 1_000), flow(8, 1_000));
    }

    #[test]
    fn volumes_are_heavy_tailed_and_whole() {
        let packets: Vec<u64> = (0..100_000).map(|i| u64::from(flow(1, i).packets)).collect();
        let ones = packets.iter().filter(|&&p| p == 1).count();
        assert!((40_000..60_000).contains(&ones), "{ones}");
        assert!(packets.iter().any(|&p| p > 10_000));
    }
}
