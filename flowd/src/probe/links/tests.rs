//! Interfaces made and unmade in a network namespace of the test's own.

use super::*;
use crate::probe::test_namespace::in_namespace;

fn named<'a>(monitor: &'a LinkMonitor, name: &str) -> Option<&'a Link> {
    monitor.links().find(|link| link.name == name)
}

/// Events until `count` have come.
fn events(monitor: &mut LinkMonitor, count: usize) -> Vec<LinkEvent> {
    let mut events = Vec::new();
    for _ in 0..2_000 {
        events.append(&mut monitor.events().unwrap());
        if events.len() >= count {
            return events;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{count} events were to come: {events:?}");
}

#[test]
fn interfaces_are_followed_from_appearing_to_vanishing() {
    in_namespace(|ip| {
        let mut monitor = LinkMonitor::new().unwrap();
        let loopback = named(&monitor, "lo").expect("every namespace has one");
        assert!(loopback.is_loopback && !loopback.is_physical && !loopback.is_up);
        assert_eq!(loopback.link_type, LinkType::Ethernet);

        ip("link add one type veth peer name two");
        let appeared = events(&mut monitor, 2);
        assert!(appeared.iter().all(|it| matches!(it, LinkEvent::Appeared(_))), "{appeared:?}");
        let one = named(&monitor, "one").unwrap().clone();
        assert!(!one.is_physical && !one.is_up);
        assert_eq!(monitor.events().unwrap(), [], "nothing more");

        ip("link set one alias uplink");
        ip("link set one name three");
        // Of the alias of an interface that is down the kernel tells with the next change.
        let changed = events(&mut monitor, 1);
        let Some(LinkEvent::Changed(three)) = changed.last() else { panic!("{changed:?}") };
        assert_eq!((three.index, three.name.as_str()), (one.index, "three"));
        assert_eq!(three.description, "uplink");

        ip("link set three up");
        assert!(matches!(&events(&mut monitor, 1)[0], LinkEvent::Changed(link) if link.is_up));

        ip("link del three");
        let vanished = events(&mut monitor, 2);
        let gone = |it: &LinkEvent| matches!(it, LinkEvent::Vanished(link) if link.name == "three");
        assert!(vanished.iter().any(gone), "{vanished:?}");
        assert!(matches!(monitor.look(one.index), Err(LinkError::Gone { .. })));
        assert_eq!(monitor.links().count(), 1);
    });
}

#[test]
fn a_port_that_leaves_its_bridge_stays_an_interface() {
    in_namespace(|ip| {
        ip("link add br0 type bridge");
        ip("link add one type veth peer name two");
        let mut monitor = LinkMonitor::new().unwrap();
        ip("link set one master br0");
        ip("link set one nomaster");
        ip("link add last type bridge");
        let mut seen = Vec::new();
        while named(&monitor, "last").is_none() {
            seen.append(&mut monitor.events().unwrap());
        }
        assert!(!seen.iter().any(|it| matches!(it, LinkEvent::Vanished(_))), "{seen:?}");
        assert!(named(&monitor, "one").is_some());
    });
}

#[test]
fn the_kinds_of_links_are_told_apart() {
    in_namespace(|ip| {
        ip("link add eth type bridge");
        ip("tuntap add raw mode tun");
        ip("tuntap add framed mode tap");
        let monitor = LinkMonitor::new().unwrap();
        for (name, link_type) in
            [("eth", LinkType::Ethernet), ("raw", LinkType::RawIp), ("framed", LinkType::Ethernet)]
        {
            let link = named(&monitor, name).unwrap();
            assert_eq!((link.link_type, link.is_physical), (link_type, false), "{name}");
        }
    });
}

#[test]
fn counters_are_as_of_now() {
    in_namespace(|ip| {
        ip("link set lo up");
        let mut monitor = LinkMonitor::new().unwrap();
        let index = named(&monitor, "lo").unwrap().index;
        let before = monitor.look(index).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..5 {
            socket.send_to(&[0; 100], socket.local_addr().unwrap()).unwrap();
        }
        let now = monitor.look(index).unwrap();
        assert_eq!(now.sent.packets - before.sent.packets, 5);
        assert_eq!(
            now.sent.octets - before.sent.octets,
            5 * (20 + 8 + 100),
            "loopback has no octets of layer 2"
        );
        assert_eq!(now.received, now.sent);
    });
}

#[test]
fn what_the_kernel_could_not_keep_is_read_anew() {
    in_namespace(|ip| {
        ip("link add old type bridge");
        let mut monitor = LinkMonitor::new().unwrap();
        // The least that the kernel grants: a handful of messages.
        monitor.events.set_rx_buf_sz(1_u32).unwrap();
        for number in 0..30 {
            ip(&format!("link add new{number} type bridge"));
        }
        ip("link del old");
        let events = monitor.events().unwrap();
        let appeared = events.iter().filter(|it| matches!(it, LinkEvent::Appeared(_))).count();
        let vanished = events.iter().filter(|it| matches!(it, LinkEvent::Vanished(_))).count();
        assert_eq!((appeared, vanished), (30, 1));
        assert_eq!(monitor.links().count(), 31);
    });
}

#[test]
fn a_broken_message_is_no_interface() {
    for size in 0..HEADER_SIZE + 6 {
        let mut payload = vec![0; size];
        if let Some(attribute) = payload.get_mut(HEADER_SIZE..HEADER_SIZE + 2) {
            attribute.copy_from_slice(&200_u16.to_ne_bytes());
        }
        assert_eq!(read_link(&payload), None, "{size}");
    }
    assert_eq!(messages(&[9; 15]).count(), 0);
    assert_eq!(messages(&[0; 64]).count(), 0, "a message of no size ends the datagram");
    assert_eq!(text(b"eth0\0rest"), "eth0");
}
