//! Records with an element table, which layout 2 has: nfdump 1.7 calls them its third version.

use super::builder::{Builder, Generic, router_v4, router_v6};
use super::file::NotImported;
use super::reader::Octets;

/// What a record says of itself before its elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) exporter: u16,
    flags: u8,
}

/// The counters are those of the sampled packets times the sampling rate.
const FLAG_SAMPLED: u8 = 2;

/// Reads a record behind its type and size into `builder`; none if it is damaged.
pub(super) fn read(
    mut body: Octets<'_>,
    builder: &mut Builder,
    left: &mut NotImported,
) -> Option<Head> {
    let count = body.u16()?;
    let (engine_type, engine_id) = (body.u8()?, body.u8()?);
    let head = Head { exporter: body.u16()?, flags: body.u8()? };
    body.u8()?;
    for _ in 0..count {
        let id = body.u16()?;
        let size = usize::from(body.u16()?).checked_sub(4)?;
        element(Element { id, body: Octets::new(body.take(size)?) }, builder, left)?;
    }
    builder.flag_element(38, engine_type);
    builder.flag_element(39, engine_id);
    if head.flags & FLAG_SAMPLED != 0 {
        left.scaled = left.scaled.saturating_add(1);
    }
    Some(head)
}

/// An element of a record, as it lies behind its number and length.
struct Element<'a> {
    id: u16,
    body: Octets<'a>,
}

fn element(it: Element<'_>, builder: &mut Builder, left: &mut NotImported) -> Option<()> {
    let Element { id, mut body } = it;
    match id {
        0 => {}
        1 => generic(body, builder)?,
        2 => builder.addresses_v4(body.u32()?, body.u32()?),
        3 => builder.addresses_v6(body.ipv6()?, body.ipv6()?),
        4 => misc(body, builder)?,
        5 => {
            builder.flows(body.u64()?);
            builder.outgoing_packets(body.u64()?);
            builder.outgoing_octets(body.u64()?);
        }
        6 => builder.vlans(body.u32()?, body.u32()?),
        7 => builder.autonomous_systems(body.u32()?, body.u32()?),
        8 => builder.element(18, &body.u32()?.to_be_bytes()),
        9 => builder.element(63, &body.ipv6()?),
        10 => builder.next_hop_v4(body.u32()?),
        11 => builder.next_hop_v6(body.ipv6()?),
        12 => builder.exporter = router_v4(body.u32()?),
        13 => builder.exporter = router_v6(body.ipv6()?),
        14 => {
            for index in 0..10 {
                builder.mpls(index, body.u32()?);
            }
        }
        15 => {
            builder.macs_in_source_out_destination(body.u64()?, body.u64()?);
            builder.macs_in_destination_out_source(body.u64()?, body.u64()?);
        }
        16 => {
            builder.element(128, &body.u32()?.to_be_bytes());
            builder.element(129, &body.u32()?.to_be_bytes());
        }
        17 => {
            for first_id in [82, 84, 86] {
                builder.latency(first_id, body.u64()?);
            }
        }
        18 => builder.sampler(body.u64()?),
        _ => event_element(Element { id, body }, builder, left)?,
    }
    Some(())
}

/// An element of those that firewalls, translators and probes fill, or that has no place here.
fn event_element(it: Element<'_>, builder: &mut Builder, left: &mut NotImported) -> Option<()> {
    let Element { id, mut body } = it;
    match id {
        19 => {
            let (time, connection) = (body.u64()?, body.u32()?);
            builder.firewall(time, connection, body.u16()?, body.u8()?);
        }
        20 => {
            builder.element(225, &body.u32()?.to_be_bytes());
            builder.element(226, &body.u32()?.to_be_bytes());
        }
        21 => {
            builder.element(281, &body.ipv6()?);
            builder.element(282, &body.ipv6()?);
        }
        22 => {
            builder.element(227, &body.u16()?.to_be_bytes());
            builder.element(228, &body.u16()?.to_be_bytes());
        }
        23 => access_lists(&mut body, builder)?,
        24 => builder.v9_type(40_000, body.take(body.len().min(66))?),
        25 => nat(body, builder)?,
        26 => {
            for id in 361..=364 {
                builder.element(id, &body.u16()?.to_be_bytes());
            }
        }
        27 => builder.element(95, body.rest()),
        28 => left.count("label"),
        29 => left.count("payload of the source"),
        30 => left.count("payload of the destination"),
        31 | 32 => left.count("tunnel addresses"),
        33 => {
            builder.element(138, &body.u64()?.to_be_bytes());
            builder.element(149, &body.u32()?.to_be_bytes());
        }
        34 => left.count("interface name"),
        35 => left.count("VRF name"),
        36 => {
            builder.element(235, &body.u32()?.to_be_bytes());
            builder.element(234, &body.u32()?.to_be_bytes());
        }
        37 => left.count("packet filter's log"),
        other => left.count_number("extension", other),
    }
    Some(())
}

fn generic(mut body: Octets<'_>, builder: &mut Builder) -> Option<()> {
    let (first, last) = (body.u64()?, body.u64()?);
    builder.received(body.u64()?);
    builder.incoming(body.u64()?, body.u64()?);
    builder.generic(&Generic {
        first,
        last,
        source_port: body.u16()?,
        destination_port: body.u16()?,
        protocol: body.u8()?,
        tcp_flags: body.u8()?,
        forwarding_status: body.u8()?,
        tos: body.u8()?,
    });
    Some(())
}

/// Interfaces and more. The last fields came with later releases.
fn misc(mut body: Octets<'_>, builder: &mut Builder) -> Option<()> {
    builder.interfaces(body.u32()?, body.u32()?);
    builder.masks(body.u8()?, body.u8()?);
    builder.direction(body.u8()?);
    builder.flag_element(55, body.u8()?);
    if !body.is_empty() {
        builder.flag_element(239, body.u8()?);
        builder.end_reason(body.u8()?);
    }
    Some(())
}

/// Three numbers make the one of an access list's entry.
pub(super) fn access_lists(body: &mut Octets<'_>, builder: &mut Builder) -> Option<()> {
    for field_type in [33_000, 33_001] {
        let numbers = [body.u32()?, body.u32()?, body.u32()?].map(u32::to_be_bytes);
        builder.v9_type(field_type, numbers.as_flattened());
    }
    Some(())
}

/// What a translator logged. An earlier form has the routing instances too.
fn nat(mut body: Octets<'_>, builder: &mut Builder) -> Option<()> {
    const WITH_INSTANCES: usize = 24;
    let has_instances = body.len() >= WITH_INSTANCES;
    builder.event_time(body.u64()?);
    if has_instances {
        builder.element(235, &body.u32()?.to_be_bytes());
        builder.element(234, &body.u32()?.to_be_bytes());
    }
    builder.element(283, &body.u32()?.to_be_bytes());
    builder.nat_event(body.u8()?);
    Some(())
}
