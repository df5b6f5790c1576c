//! Common records, which layout 1 has: nfdump 1.6 keeps beside them maps of what follows in each.

use super::builder::{Builder, Generic, router_v4, router_v6};
use super::file::NotImported;
use super::reader::Octets;
use super::v3::access_lists;
use std::collections::HashMap;

/// Extensions that a map may name: there are some forty.
const MAP_SIZE_MAX: usize = 64;

const FLAG_IPV6: u16 = 1;
const FLAG_PACKETS_64: u16 = 2;
const FLAG_OCTETS_64: u16 = 4;
const FLAG_SAMPLED: u16 = 128;

/// What follows the common part of a record, by the number of the map that says so.
#[derive(Debug, Default)]
pub(super) struct Maps(HashMap<u16, Vec<u16>>);

impl Maps {
    /// Reads a map behind its type and size: its number, the size of all extensions, their
    /// numbers up to a zero.
    pub(super) fn read(&mut self, mut body: Octets<'_>) -> Option<()> {
        let number = body.u16()?;
        body.u16()?;
        let mut extensions = Vec::new();
        while let Some(extension) = body.u16().filter(|&it| it != 0) {
            if extensions.len() >= MAP_SIZE_MAX {
                return None;
            }
            extensions.push(extension);
        }
        self.0.insert(number, extensions);
        Some(())
    }
}

/// Which of the two forms a common record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The first: flags and the exporter's number have an octet each.
    Narrow,
    /// The second, since 1.6.16: both have two.
    Wide,
}

/// Reads a record behind its type and size into `builder` and returns its exporter's number;
/// none if it is damaged or its map is missing.
pub(super) fn read(
    mut body: Octets<'_>,
    form: Form,
    maps: &Maps,
    builder: &mut Builder,
    left: &mut NotImported,
) -> Option<u16> {
    let (flags, narrow_exporter) = match form {
        Form::Narrow => (u16::from(body.u8()?), u16::from(body.u8()?)),
        Form::Wide => (body.u16()?, 0),
    };
    let map = body.u16()?;
    let (first_millis, last_millis) = (body.u16()?, body.u16()?);
    let time = |seconds: u32, millis: u16| {
        u64::from(seconds).saturating_mul(1_000).saturating_add(u64::from(millis))
    };
    let first = time(body.u32()?, first_millis);
    let last = time(body.u32()?, last_millis);
    let (forwarding_status, tcp_flags, protocol, tos) =
        (body.u8()?, body.u8()?, body.u8()?, body.u8()?);
    let (source_port, destination_port) = (body.u16()?, body.u16()?);
    let exporter = match form {
        Form::Narrow => narrow_exporter,
        Form::Wide => {
            let exporter = body.u16()?;
            body.u16()?;
            exporter
        }
    };
    builder.generic(&Generic {
        first,
        last,
        source_port,
        destination_port,
        protocol,
        tcp_flags,
        forwarding_status,
        tos,
    });
    if flags & FLAG_IPV6 != 0 {
        builder.addresses_v6(body.ipv6()?, body.ipv6()?);
    } else {
        builder.addresses_v4(body.u32()?, body.u32()?);
    }
    let packets = counter(&mut body, flags & FLAG_PACKETS_64 != 0)?;
    let octets = counter(&mut body, flags & FLAG_OCTETS_64 != 0)?;
    builder.incoming(packets, octets);
    if flags & FLAG_SAMPLED != 0 {
        left.scaled = left.scaled.saturating_add(1);
    }
    let extensions = maps.0.get(&map)?;
    for (at, &extension) in extensions.iter().enumerate() {
        // The size of one that is not known is not known either: it hides those behind it.
        if !self::extension(extension, &mut body, builder)? {
            let hidden = extensions.get(at..).unwrap_or_default();
            hidden.iter().for_each(|&it| left.count_number("extension", it));
            break;
        }
    }
    Some(exporter)
}

fn counter(body: &mut Octets<'_>, is_wide: bool) -> Option<u64> {
    if is_wide { body.u64() } else { body.u32().map(u64::from) }
}

/// Reads an extension; false if it is not known.
fn extension(id: u16, body: &mut Octets<'_>, builder: &mut Builder) -> Option<bool> {
    match id {
        // These three are required and stand in no map, or change nothing there.
        1..=3 => {}
        4 => builder.interfaces(body.u16()?.into(), body.u16()?.into()),
        5 => builder.interfaces(body.u32()?, body.u32()?),
        6 => builder.autonomous_systems(body.u16()?.into(), body.u16()?.into()),
        7 => builder.autonomous_systems(body.u32()?, body.u32()?),
        8 => {
            builder.flag_element(55, body.u8()?);
            builder.direction(body.u8()?);
            builder.masks(body.u8()?, body.u8()?);
        }
        9 => builder.next_hop_v4(body.u32()?),
        10 => builder.next_hop_v6(body.ipv6()?),
        11 => builder.element(18, &body.u32()?.to_be_bytes()),
        12 => builder.element(63, &body.ipv6()?),
        13 => builder.vlans(body.u16()?.into(), body.u16()?.into()),
        14 => builder.outgoing_packets(body.u32()?.into()),
        15 => builder.outgoing_packets(body.u64()?),
        16 => builder.outgoing_octets(body.u32()?.into()),
        17 => builder.outgoing_octets(body.u64()?),
        18 => builder.flows(body.u32()?.into()),
        19 => builder.flows(body.u64()?),
        20 => builder.macs_in_source_out_destination(body.u64()?, body.u64()?),
        21 => builder.macs_in_destination_out_source(body.u64()?, body.u64()?),
        22 => {
            for index in 0..10 {
                builder.mpls(index, body.u32()?);
            }
        }
        23 => builder.exporter = router_v4(body.u32()?),
        24 => builder.exporter = router_v6(body.ipv6()?),
        25 => {
            body.u16()?;
            builder.flag_element(38, body.u8()?);
            builder.flag_element(39, body.u8()?);
        }
        26 => {
            builder.element(128, &body.u32()?.to_be_bytes());
            builder.element(129, &body.u32()?.to_be_bytes());
        }
        27 => builder.received(body.u64()?),
        _ => return event_extension(id, body, builder),
    }
    Some(true)
}

/// Reads an extension of those that firewalls, translators and probes fill.
fn event_extension(id: u16, body: &mut Octets<'_>, builder: &mut Builder) -> Option<bool> {
    match id {
        37 => {
            let (time, connection) = (body.u64()?, body.u32()?);
            // ICMP's type and code, which the ports have too.
            body.u16()?;
            let event = body.u8()?;
            body.u8()?;
            builder.firewall(time, connection, body.u16()?, event);
            body.u16()?;
        }
        38 => {
            builder.element(227, &body.u16()?.to_be_bytes());
            builder.element(228, &body.u16()?.to_be_bytes());
        }
        // The second is the first by an older name.
        39 | 47 => {
            builder.element(225, &body.u32()?.to_be_bytes());
            builder.element(226, &body.u32()?.to_be_bytes());
        }
        40 => {
            builder.element(281, &body.ipv6()?);
            builder.element(282, &body.ipv6()?);
        }
        41 => access_lists(body, builder)?,
        42 => builder.v9_type(40_000, body.take(24)?),
        43 => builder.v9_type(40_000, body.take(72)?),
        45 => {
            for first_id in [82, 84, 86] {
                builder.latency(first_id, body.u64()?);
            }
        }
        46 => {
            builder.nat_event(body.u8()?);
            body.take(3)?;
            builder.element(235, &body.u32()?.to_be_bytes());
            builder.element(234, &body.u32()?.to_be_bytes());
        }
        48 => {
            for id in 361..=364 {
                builder.element(id, &body.u16()?.to_be_bytes());
            }
        }
        _ => return Some(false),
    }
    Some(true)
}
