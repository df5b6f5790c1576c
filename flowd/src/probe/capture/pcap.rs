//! pcap: a file header, then packets, each behind its own header
//! (draft-ietf-opsawg-pcap; "modified" is Kuznetzov's, with a longer packet header).

use super::byte_order::{ByteOrder, array_at, size};
use super::error::{CaptureError, Damage};
use super::{CapturedPacket, PACKET_SIZE_MAX, interface};
use flowd_common::packet::LinkType;

/// Octets of the file header.
const FILE_HEADER_SIZE: usize = 24;

/// Octets of a packet header: seconds, fraction, captured, on the wire.
const PACKET_HEADER_SIZE: usize = 16;

/// Octets of a modified packet header: interface, protocol and packet type follow.
const MODIFIED_HEADER_SIZE: usize = 24;

/// The magic numbers, in the writer's byte order.
const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
const MAGIC_MODIFIED: u32 = 0xa1b2_cd34;

/// The link type is the low part of its word; above it stands how long frame checks are.
const LINK_TYPE_MASK: u32 = 0x03ff_ffff;

/// Reads packets one after another.
#[derive(Debug)]
pub(super) struct PcapReader<'a> {
    bytes: &'a [u8],
    /// Where the next packet header begins.
    offset: usize,
    order: ByteOrder,
    nanos_per_fraction: i64,
    header_size: usize,
    link_type: LinkType,
    packet_size_max: u32,
    lengths: Lengths,
}

/// The order of a packet's two lengths changed with version 2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    /// Version 2.3 itself was written either way; a packet is never captured longer than it was.
    ShorterIsCaptured,
    WireFirst,
}

impl<'a> PcapReader<'a> {
    /// Reads the file header; none if the file is no pcap.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Option<Self>, CaptureError> {
        let Some(magic) = array_at(bytes, 0) else {
            return Ok(None);
        };
        let Some((order, nanos_per_fraction, header_size)) = magic_meaning(magic) else {
            return Ok(None);
        };
        let Some([_, _, _, _, a0, a1, i0, i1, _, _, _, _, _, _, _, _, rest @ ..]) =
            bytes.first_chunk::<FILE_HEADER_SIZE>()
        else {
            let damage = Damage::HeaderCut { size: FILE_HEADER_SIZE, left: bytes.len() };
            return Err(CaptureError::damaged(0, damage));
        };
        let (major, minor) = (order.u16([*a0, *a1]), order.u16([*i0, *i1]));
        if major != 2 {
            return Err(CaptureError::Version { major, minor });
        }
        let [s0, s1, s2, s3, l0, l1, l2, l3] = *rest;
        let snaplen = order.u32([s0, s1, s2, s3]);
        let link_type = order.u32([l0, l1, l2, l3]) & LINK_TYPE_MASK;
        Ok(Some(Self {
            bytes,
            offset: FILE_HEADER_SIZE,
            order,
            nanos_per_fraction,
            header_size,
            link_type: LinkType::from_number(link_type),
            packet_size_max: snaplen.max(PACKET_SIZE_MAX),
            lengths: match minor {
                ..3 => Lengths::WireFirst,
                3 => Lengths::ShorterIsCaptured,
                4.. => Lengths::CapturedFirst,
            },
        }))
    }

    /// The next packet; none at the end.
    #[inline]
    pub(super) fn next_packet(&mut self) -> Result<Option<CapturedPacket<'a>>, CaptureError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let damaged = |damage| Err(CaptureError::damaged(self.offset, damage));
        let (Some(header), Some(body)) =
            (rest.first_chunk::<PACKET_HEADER_SIZE>(), rest.get(self.header_size..))
        else {
            return damaged(Damage::HeaderCut { size: self.header_size, left: rest.len() });
        };
        let [s0, s1, s2, s3, f0, f1, f2, f3, c0, c1, c2, c3, w0, w1, w2, w3] = *header;
        let seconds = i64::from(self.order.u32([s0, s1, s2, s3]));
        let fraction = i64::from(self.order.u32([f0, f1, f2, f3]));
        let (captured, on_wire) =
            self.lengths.sorted(self.order.u32([c0, c1, c2, c3]), self.order.u32([w0, w1, w2, w3]));
        if captured > self.packet_size_max {
            return damaged(Damage::PacketTooLong {
                size: captured,
                size_max: self.packet_size_max,
            });
        }
        let Some(data) = body.get(..size(captured)) else {
            return damaged(Damage::PacketCut { size: size(captured), left: body.len() });
        };
        self.offset += self.header_size + data.len();
        Ok(Some(CapturedPacket {
            // Two 32-bit numbers: neither product nor sum can leave 63 bits.
            time_nanos: seconds * 1_000_000_000 + fraction * self.nanos_per_fraction,
            link_type: self.link_type,
            point: interface(0),
            wire_size: on_wire,
            data,
        }))
    }
}

impl Lengths {
    const fn sorted(self, first: u32, second: u32) -> (u32, u32) {
        match self {
            Self::ShorterIsCaptured if first > second => (second, first),
            Self::CapturedFirst | Self::ShorterIsCaptured => (first, second),
            Self::WireFirst => (second, first),
        }
    }
}

/// Byte order, nanoseconds a fraction, and octets of a packet header.
fn magic_meaning(magic: [u8; 4]) -> Option<(ByteOrder, i64, usize)> {
    [ByteOrder::Little, ByteOrder::Big].into_iter().find_map(|order| match order.u32(magic) {
        MAGIC_MICROS => Some((order, 1_000, PACKET_HEADER_SIZE)),
        MAGIC_NANOS => Some((order, 1, PACKET_HEADER_SIZE)),
        MAGIC_MODIFIED => Some((order, 1_000, MODIFIED_HEADER_SIZE)),
        _ => None,
    })
}
