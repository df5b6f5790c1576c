//! IPv6: RFC 8200, its extension headers, and the jumbo payload of RFC 2675.

use super::transport::{self, Transport, protocol};
use super::{Addresses, Cursor, Fragment, Malformed, Packet, PacketBytes};
use crate::limits::EXTENSION_HEADER_COUNT_MAX;

/// Octets of the fixed header.
const HEADER_SIZE: usize = 40;

/// The longest payload that the header's own field can say.
const PAYLOAD_LENGTH_MAX: usize = 0xffff;

/// Option type of the jumbo payload, RFC 2675 section 2.
const JUMBO_PAYLOAD: u8 = 0xc2;

/// Reads the IPv6 packet that begins at the cursor.
#[inline]
pub(super) fn parse<P: PacketBytes + ?Sized>(
    cursor: &Cursor<'_, P>,
    packet: &mut Packet,
) -> Result<(), Malformed> {
    let Some([v0, v1, v2, v3, p0, p1, next_header, hop_limit]) = cursor.peek(0) else {
        return Err(Malformed::Ipv6HeaderCut);
    };
    if v0 >> 4 != 6 {
        return Err(Malformed::Ipv6Version(v0 >> 4));
    }
    let source = cursor.peek(8).ok_or(Malformed::Ipv6HeaderCut)?;
    let destination = cursor.peek(24).ok_or(Malformed::Ipv6HeaderCut)?;
    let payload_length = usize::from(u16::from_be_bytes([p0, p1]));
    let octets = HEADER_SIZE.saturating_add(match payload_length {
        0 => long_payload_size(cursor, next_header),
        _ => payload_length,
    });
    let walk = walk_extensions(cursor, next_header, octets);
    let (transport, tcp_control_bits) = if walk.has_transport {
        transport::parse(cursor, walk.ahead, octets, walk.protocol, protocol::ICMPV6)
    } else {
        (Transport::None, 0)
    };
    packet.addresses = Addresses::V6 { source, destination };
    packet.protocol = walk.protocol;
    packet.transport = transport;
    packet.network_offset = cursor.offset(0);
    packet.transport_offset = cursor.offset(walk.ahead);
    packet.fragment = walk.fragment;
    packet.octets = u64::try_from(octets).unwrap_or(u64::MAX);
    packet.tcp_control_bits = tcp_control_bits;
    packet.class_of_service = v0 << 4 | v1 >> 4;
    packet.ttl = hop_limit;
    packet.flow_label = u32::from_be_bytes([0, v1 & 0xf, v2, v3]);
    Ok(())
}

/// The payload's size where the header's field is 0: nothing, or more than the field can say.
#[inline]
fn long_payload_size<P: PacketBytes + ?Sized>(cursor: &Cursor<'_, P>, next_header: u8) -> usize {
    if next_header == protocol::HOP_BY_HOP
        && let Some([_, _, JUMBO_PAYLOAD, 4, length @ ..]) = cursor.peek::<8>(HEADER_SIZE)
        && let Ok(size) = usize::try_from(u32::from_be_bytes(length))
        && size > PAYLOAD_LENGTH_MAX
    {
        return size;
    }
    // A sending host hands frames above 64 KiB to its card with no jumbo option at all. A small
    // remainder is the padding of a short frame.
    let left = cursor.wire_left().saturating_sub(HEADER_SIZE);
    if next_header != protocol::NO_NEXT_HEADER && left > PAYLOAD_LENGTH_MAX { left } else { 0 }
}

/// Where walking the extension headers ended.
struct Walk {
    protocol: u8,
    /// From the start of the IPv6 header.
    ahead: usize,
    /// The protocol's own header begins here; false for later fragments, and where the chain
    /// is cut or too long.
    has_transport: bool,
    fragment: Option<Fragment>,
}

/// Walks hop-by-hop, routing, destination and fragment headers (RFC 8200 section 4).
#[inline]
fn walk_extensions<P: PacketBytes + ?Sized>(
    cursor: &Cursor<'_, P>,
    next_header: u8,
    end: usize,
) -> Walk {
    let mut walk =
        Walk { protocol: next_header, ahead: HEADER_SIZE, has_transport: false, fragment: None };
    for walked in 0..=EXTENSION_HEADER_COUNT_MAX {
        walk.ahead = cursor.forget_number(walk.ahead);
        match walk.protocol {
            protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION_OPTIONS
            | protocol::FRAGMENT
                if walked == EXTENSION_HEADER_COUNT_MAX =>
            {
                return walk;
            }
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                let Some([next, size]) = cursor.peek_before(walk.ahead, end) else {
                    return walk;
                };
                // In units of eight octets, the first eight not counted.
                let size = usize::from(size).saturating_add(1).saturating_mul(8);
                walk.protocol = next;
                walk.ahead = walk.ahead.saturating_add(size);
            }
            protocol::FRAGMENT => {
                let Some([next, _, o0, o1, id @ ..]) = cursor.peek_before::<8>(walk.ahead, end)
                else {
                    return walk;
                };
                let offset_more = u16::from_be_bytes([o0, o1]);
                let fragment = Fragment {
                    id: u32::from_be_bytes(id),
                    offset: offset_more & !7,
                    more: offset_more & 1 != 0,
                    protocol: next,
                };
                walk.protocol = next;
                walk.ahead = walk.ahead.saturating_add(8);
                // RFC 6946: offset 0 and no more is a whole packet, not a part of one.
                if fragment.offset != 0 || fragment.more {
                    walk.fragment = Some(fragment);
                }
                if fragment.offset != 0 {
                    return walk;
                }
            }
            _ => {
                walk.has_transport = true;
                return walk;
            }
        }
    }
    walk
}

/// Could an IPv6 packet begin here? Asked where nothing announces one.
#[inline]
pub(super) fn is_plausible<P: PacketBytes + ?Sized>(cursor: &Cursor<'_, P>) -> bool {
    let Some([version, _, _, _, p0, p1]) = cursor.peek(0) else {
        return false;
    };
    let octets = usize::from(u16::from_be_bytes([p0, p1])).saturating_add(HEADER_SIZE);
    version >> 4 == 6 && octets <= cursor.wire_left()
}
