//! IPv4: RFC 791 section 3.1.

use super::transport::{self, Transport, protocol};
use super::{Addresses, Cursor, Fragment, Malformed, Packet, PacketBytes};

/// Octets of a header without options.
const HEADER_SIZE_MIN: usize = 20;

/// The flag that more fragments follow.
const MORE_FRAGMENTS: u16 = 0x2000;

/// The fragment's offset, in units of eight octets.
const FRAGMENT_OFFSET_MASK: u16 = 0x1fff;

/// Reads the IPv4 packet that begins at the cursor.
#[inline]
pub(super) fn parse<P: PacketBytes + ?Sized>(
    cursor: &Cursor<'_, P>,
    packet: &mut Packet,
) -> Result<(), Malformed> {
    // The order of the fields on the wire; the checksum is between protocol and addresses.
    let Some(
        [version_size, class_of_service, t0, t1, i0, i1, f0, f1, ttl, number, _, _, addresses @ ..],
    ) = cursor.peek::<HEADER_SIZE_MIN>(0)
    else {
        return Err(Malformed::Ipv4HeaderCut);
    };
    if version_size >> 4 != 4 {
        return Err(Malformed::Ipv4Version(version_size >> 4));
    }
    let header_size = usize::from(version_size & 0xf).saturating_mul(4);
    if header_size < HEADER_SIZE_MIN {
        return Err(Malformed::Ipv4HeaderLength(version_size & 0xf));
    }
    let total_length = u16::from_be_bytes([t0, t1]);
    // A sending host hands frames to its card before the card has cut them into segments; when
    // such a frame is captured, its total length may be 0 (always above 64 KiB). No packet on a
    // wire can say so: the header alone is 20. What the frame holds is the truth then.
    let octets = if total_length == 0 { cursor.wire_left() } else { usize::from(total_length) };
    if octets < header_size {
        return Err(Malformed::Ipv4TotalLength(total_length));
    }
    let fragment = fragment(u16::from_be_bytes([i0, i1]), u16::from_be_bytes([f0, f1]), number);
    let (transport, tcp_control_bits) = match fragment {
        Some(Fragment { offset: 1.., .. }) => (Transport::None, 0),
        _ => transport::parse(cursor, header_size, octets, number, protocol::ICMP),
    };
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    packet.addresses = Addresses::V4 { source: [s0, s1, s2, s3], destination: [d0, d1, d2, d3] };
    packet.protocol = number;
    packet.transport = transport;
    packet.network_offset = cursor.offset(0);
    packet.transport_offset = cursor.offset(header_size);
    packet.fragment = fragment;
    packet.octets = u64::try_from(octets).unwrap_or(u64::MAX);
    packet.tcp_control_bits = tcp_control_bits;
    packet.class_of_service = class_of_service;
    packet.ttl = ttl;
    packet.flow_label = 0;
    Ok(())
}

#[inline]
fn fragment(id: u16, flags_offset: u16, protocol: u8) -> Option<Fragment> {
    if flags_offset & (MORE_FRAGMENTS | FRAGMENT_OFFSET_MASK) == 0 {
        return None;
    }
    Some(Fragment {
        id: u32::from(id),
        offset: (flags_offset & FRAGMENT_OFFSET_MASK) << 3,
        more: flags_offset & MORE_FRAGMENTS != 0,
        protocol,
    })
}

/// Could an IPv4 packet begin here? Asked where nothing announces one.
#[inline]
pub(super) fn is_plausible<P: PacketBytes + ?Sized>(cursor: &Cursor<'_, P>) -> bool {
    let Some([version_size, _, t0, t1]) = cursor.peek(0) else {
        return false;
    };
    let header_size = usize::from(version_size & 0xf).saturating_mul(4);
    let total_length = usize::from(u16::from_be_bytes([t0, t1]));
    version_size >> 4 == 4
        && header_size >= HEADER_SIZE_MIN
        && total_length >= header_size
        && total_length <= cursor.wire_left()
}
