//! The books: the same packets, counted at every place that they pass.

use anyhow::{Result, ensure};
use std::ops::AddAssign;

/// Packets and octets of layer 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) packets: u64,
    pub(super) octets: u64,
}

impl AddAssign for Volume {
    fn add_assign(&mut self, more: Self) {
        self.packets += more.packets;
        self.octets += more.octets;
    }
}

/// Prints the books; an error if they differ.
pub(super) fn settle(books: &[(&str, Volume)]) -> Result<()> {
    println!("\nbooks          packets       octets");
    for (name, volume) in books {
        println!("{name:<11} {:>10} {:>12}", volume.packets, volume.octets);
    }
    let are_equal = books.windows(2).all(|pair| pair[0].1 == pair[1].1);
    ensure!(are_equal, "the books differ");
    println!("equal");
    Ok(())
}

/// The packet in an Ethernet frame: IPv4 total length, or IPv6 payload length and its 40 octets
/// of header; none if the frame holds no IP.
pub(super) fn packet_in(frame: &[u8]) -> Option<Volume> {
    let mut at = 12;
    while matches!(frame.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
        at += 4;
    }
    let field = |offset: usize| {
        let pair = frame.get(at + 2 + offset..at + 4 + offset)?;
        Some(u64::from(pair[0]) << 8 | u64::from(pair[1]))
    };
    let octets = match frame.get(at..at + 2)? {
        [0x08, 0x00] => field(2),
        [0x86, 0xdd] => field(4).map(|payload| payload + 40),
        _ => None,
    };
    octets.map(|octets| Volume { packets: 1, octets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_measured_by_their_own_headers() {
        let frame = |parts: &[&[u8]]| parts.concat();
        let ethernet = [0_u8; 12];
        let ipv4 = frame(&[&ethernet, &[0x08, 0, 0x45, 0, 0x01, 0x02]]);
        assert_eq!(packet_in(&ipv4), Some(Volume { packets: 1, octets: 258 }));
        let tagged = frame(&[&ethernet, &[0x81, 0, 0, 7, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8]]);
        assert_eq!(packet_in(&tagged), Some(Volume { packets: 1, octets: 48 }));
        let arp = frame(&[&ethernet, &[0x08, 0x06, 0, 1, 8, 0, 6, 4]]);
        assert_eq!(packet_in(&arp), None);
    }

    #[test]
    fn books_that_differ_are_an_error() {
        let one = Volume { packets: 1, octets: 60 };
        assert!(settle(&[("a", one), ("b", one)]).is_ok());
        assert!(settle(&[("a", one), ("b", one), ("c", Volume::default())]).is_err());
    }
}
