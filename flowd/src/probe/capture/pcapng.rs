//! pcapng: blocks, each with its length before and behind it (draft-ietf-opsawg-pcapng).
//! A section header sets the byte order and begins a new numbering of interfaces.

use super::byte_order::{ByteOrder, array_at, size};
use super::error::{CaptureError, Damage};
use super::{CapturedPacket, PACKET_SIZE_MAX, interface};
use flowd_common::packet::LinkType;

/// Type of a section header block: reads the same in both byte orders.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
/// The packet block that the enhanced one replaced.
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// What a section header's magic reads as in the right byte order.
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// Type and length.
const BLOCK_HEADER_SIZE: usize = 8;

/// Type, length, and length again.
const BLOCK_SIZE_MIN: u32 = 12;

/// Options of an interface description.
const OPTION_END: u16 = 0;
const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;

/// Interfaces that a file may describe: as many as an obsolete packet block can number.
const INTERFACE_COUNT_MAX: u32 = 65_536;

/// Does the file begin with a section header block?
pub(super) fn is_section_header(bytes: &[u8]) -> bool {
    array_at(bytes, 0).map(u32::from_be_bytes) == Some(SECTION_HEADER)
}

/// Reads packets one after another.
#[derive(Debug)]
pub(super) struct PcapngReader<'a> {
    bytes: &'a [u8],
    /// Where the next block begins.
    offset: usize,
    order: ByteOrder,
    /// Interfaces of this section.
    interfaces: Vec<Interface>,
    /// Interfaces of the sections before it.
    interface_base: u32,
    /// Simple packets carry no time: they take that of the packet before them.
    last_time_nanos: i64,
}

#[derive(Debug)]
struct Interface {
    link_type: LinkType,
    /// 0 is no limit.
    snaplen: u32,
    clock: Clock,
}

/// What an interface's time stamps count.
#[derive(Clone, Copy, Debug)]
struct Clock {
    unit: TimeUnit,
    /// Added to every time stamp.
    offset_nanos: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeUnit {
    /// Each is so many nanoseconds.
    Nanos(u64),
    /// So many are a nanosecond.
    PerNano(u128),
    /// 2 to this power are a second.
    PowerOfTwo(u32),
}

/// A block's body and where it stands.
struct Block<'a> {
    offset: usize,
    block_type: u32,
    body: &'a [u8],
}

impl<'a> PcapngReader<'a> {
    /// Starts at the file's first section header.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            offset: 0,
            order: ByteOrder::Little,
            interfaces: Vec::new(),
            interface_base: 0,
            last_time_nanos: 0,
        }
    }

    /// The next packet; none at the end. Blocks without packets are stepped over.
    #[inline]
    pub(super) fn next_packet(&mut self) -> Result<Option<CapturedPacket<'a>>, CaptureError> {
        while let Some(block) = self.next_block()? {
            let packet = match block.block_type {
                ENHANCED_PACKET => self.enhanced_packet(&block),
                OBSOLETE_PACKET => self.obsolete_packet(&block),
                SIMPLE_PACKET => self.simple_packet(&block),
                SECTION_HEADER => self.begin_section(&block).map(|()| None),
                INTERFACE_DESCRIPTION => self.describe_interface(&block).map(|()| None),
                // Names, statistics, secrets, logs, custom blocks.
                _ => Ok(None),
            };
            match packet {
                Ok(Some(packet)) => {
                    self.last_time_nanos = packet.time_nanos;
                    return Ok(Some(packet));
                }
                Ok(None) => {}
                Err(damage) => return Err(CaptureError::damaged(block.offset, damage)),
            }
        }
        Ok(None)
    }

    /// The next block, checked for its length only.
    #[inline]
    fn next_block(&mut self) -> Result<Option<Block<'a>>, CaptureError> {
        let offset = self.offset;
        let rest = self.bytes.get(offset..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let (block_type, body) =
            self.split_block(rest).map_err(|damage| CaptureError::damaged(offset, damage))?;
        self.offset += body.len() + size(BLOCK_SIZE_MIN);
        Ok(Some(Block { offset, block_type, body }))
    }

    fn split_block(&mut self, rest: &'a [u8]) -> Result<(u32, &'a [u8]), Damage> {
        let Some([t0, t1, t2, t3, l0, l1, l2, l3]) = rest.first_chunk::<BLOCK_HEADER_SIZE>() else {
            return Err(Damage::HeaderCut { size: BLOCK_HEADER_SIZE, left: rest.len() });
        };
        let block_type = self.order.u32([*t0, *t1, *t2, *t3]);
        if block_type == SECTION_HEADER {
            // Its own length is in the byte order that its magic tells.
            self.order = section_byte_order(rest)?;
        }
        let leading = self.order.u32([*l0, *l1, *l2, *l3]);
        if leading < BLOCK_SIZE_MIN || !leading.is_multiple_of(4) {
            return Err(Damage::BlockSize { block_type, size: leading });
        }
        let Some(block) = rest.get(..size(leading)) else {
            return Err(Damage::BlockCut { size: size(leading), left: rest.len() });
        };
        // At least 12 octets, of which 8 are before the body and 4 behind it.
        let (body, trailer) = block
            .get(BLOCK_HEADER_SIZE..)
            .and_then(<[u8]>::split_last_chunk::<4>)
            .unwrap_or((&[], &[0; 4]));
        let trailing = self.order.u32(*trailer);
        if leading != trailing {
            return Err(Damage::BlockSizesDiffer { leading, trailing });
        }
        Ok((block_type, body))
    }

    /// Magic, version, length of the section, options.
    fn begin_section(&mut self, block: &Block<'_>) -> Result<(), Damage> {
        let [a0, a1, i0, i1] = array_at(block.body, 4).ok_or_else(|| block.too_short())?;
        let (major, minor) = (self.order.u16([a0, a1]), self.order.u16([i0, i1]));
        if major != 1 {
            return Err(Damage::SectionVersion { major, minor });
        }
        let count = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        self.interface_base = self.interface_base.saturating_add(count);
        self.interfaces.clear();
        Ok(())
    }

    /// Link type, reserved, snaplen, options.
    fn describe_interface(&mut self, block: &Block<'_>) -> Result<(), Damage> {
        let count = size(self.interface_base).saturating_add(self.interfaces.len());
        if count >= size(INTERFACE_COUNT_MAX) {
            return Err(Damage::TooManyInterfaces { count_max: INTERFACE_COUNT_MAX });
        }
        let [l0, l1, _, _, s0, s1, s2, s3] =
            array_at(block.body, 0).ok_or_else(|| block.too_short())?;
        let options = block.body.get(8..).unwrap_or_default();
        self.interfaces.push(Interface {
            link_type: LinkType::from_number(u32::from(self.order.u16([l0, l1]))),
            snaplen: self.order.u32([s0, s1, s2, s3]),
            clock: Clock::from_options(options, self.order),
        });
        Ok(())
    }

    /// Interface, time, captured, on the wire, data, options.
    #[inline]
    fn enhanced_packet(&self, block: &Block<'a>) -> Result<Option<CapturedPacket<'a>>, Damage> {
        let word = |at| array_at(block.body, at).map(|octets| self.order.u32(octets));
        let (Some(interface), Some(rest)) = (word(0), block.body.get(4..)) else {
            return Err(block.too_short());
        };
        self.timed_packet(interface, rest, block)
    }

    /// As the enhanced packet, but for a count of drops beside a shorter interface number.
    fn obsolete_packet(&self, block: &Block<'a>) -> Result<Option<CapturedPacket<'a>>, Damage> {
        let number = array_at(block.body, 0).map(|octets| self.order.u16(octets));
        let (Some(interface), Some(rest)) = (number, block.body.get(4..)) else {
            return Err(block.too_short());
        };
        self.timed_packet(u32::from(interface), rest, block)
    }

    /// What both kinds of packets with a time share, behind the interface.
    #[inline]
    fn timed_packet(
        &self,
        number: u32,
        rest: &'a [u8],
        block: &Block<'a>,
    ) -> Result<Option<CapturedPacket<'a>>, Damage> {
        let Some((header, data)) = rest.split_first_chunk::<16>() else {
            return Err(block.too_short());
        };
        let [h0, h1, h2, h3, l0, l1, l2, l3, c0, c1, c2, c3, w0, w1, w2, w3] = *header;
        let high = u64::from(self.order.u32([h0, h1, h2, h3]));
        let low = u64::from(self.order.u32([l0, l1, l2, l3]));
        let described = self.interface(number)?;
        let captured = self.order.u32([c0, c1, c2, c3]);
        Ok(Some(CapturedPacket {
            time_nanos: described.clock.nanos(high << 32 | low),
            link_type: described.link_type,
            point: interface(self.interface_base.saturating_add(number)),
            wire_size: self.order.u32([w0, w1, w2, w3]),
            data: packet_data(data, captured, described.snaplen)?,
        }))
    }

    /// Octets on the wire, data. Always of the section's first interface, cut to its snaplen.
    fn simple_packet(&self, block: &Block<'a>) -> Result<Option<CapturedPacket<'a>>, Damage> {
        let Some((on_wire, data)) = block.body.split_first_chunk::<4>() else {
            return Err(block.too_short());
        };
        let on_wire = self.order.u32(*on_wire);
        let described = self.interface(0)?;
        let captured = match described.snaplen {
            0 => on_wire,
            snaplen => on_wire.min(snaplen),
        };
        Ok(Some(CapturedPacket {
            time_nanos: self.last_time_nanos,
            link_type: described.link_type,
            point: interface(self.interface_base),
            wire_size: on_wire,
            data: packet_data(data, captured, described.snaplen)?,
        }))
    }

    #[inline]
    fn interface(&self, number: u32) -> Result<&Interface, Damage> {
        self.interfaces
            .get(size(number))
            .ok_or(Damage::UnknownInterface { interface: number, count: self.interfaces.len() })
    }
}

impl Block<'_> {
    /// The block is too short for what its type says is in it.
    fn too_short(&self) -> Damage {
        let body_size = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        Damage::BlockSize {
            block_type: self.block_type,
            size: body_size.saturating_add(BLOCK_SIZE_MIN),
        }
    }
}

/// A packet's octets at the start of what its block has left.
#[inline]
fn packet_data(data: &[u8], captured: u32, snaplen: u32) -> Result<&[u8], Damage> {
    let size_max = snaplen.max(PACKET_SIZE_MAX);
    if captured > size_max {
        return Err(Damage::PacketTooLong { size: captured, size_max });
    }
    data.get(..size(captured))
        .ok_or_else(|| Damage::PacketBeyondBlock { size: size(captured), left: data.len() })
}

/// The byte order of a section by its magic.
fn section_byte_order(block: &[u8]) -> Result<ByteOrder, Damage> {
    let Some(magic) = array_at(block, BLOCK_HEADER_SIZE) else {
        return Err(Damage::HeaderCut { size: BLOCK_HEADER_SIZE + 4, left: block.len() });
    };
    [ByteOrder::Little, ByteOrder::Big]
        .into_iter()
        .find(|order| order.u32(magic) == BYTE_ORDER_MAGIC)
        .ok_or_else(|| Damage::ByteOrderMagic { magic: u32::from_be_bytes(magic) })
}

impl Clock {
    /// Reads if_tsresol and if_tsoffset; without them a time stamp counts microseconds.
    fn from_options(mut options: &[u8], order: ByteOrder) -> Self {
        let mut clock = Self { unit: TimeUnit::from_resolution(6), offset_nanos: 0 };
        while let Some((&[c0, c1, l0, l1], rest)) = options.split_first_chunk() {
            let (code, length) = (order.u16([c0, c1]), order.u16([l0, l1]));
            let Some(value) = rest.get(..usize::from(length)) else {
                break;
            };
            match (code, value) {
                (OPTION_END, _) => break,
                (OPTION_TIME_RESOLUTION, &[resolution]) => {
                    clock.unit = TimeUnit::from_resolution(resolution);
                }
                (OPTION_TIME_OFFSET, _) => {
                    if let Ok(octets) = value.try_into() {
                        clock.offset_nanos = order.i64(octets).saturating_mul(1_000_000_000);
                    }
                }
                _ => {}
            }
            // Values are padded to four octets.
            let padded = usize::from(length).next_multiple_of(4);
            options = rest.get(padded..).unwrap_or_default();
        }
        clock
    }

    /// A time stamp as nanoseconds since 1970; a time beyond 2262 stays there.
    #[inline]
    fn nanos(self, ticks: u64) -> i64 {
        let nanos = match self.unit {
            TimeUnit::Nanos(nanos) => ticks.saturating_mul(nanos),
            TimeUnit::PerNano(ticks_per_nano) => saturated(u128::from(ticks) / ticks_per_nano),
            TimeUnit::PowerOfTwo(power) => saturated((u128::from(ticks) * 1_000_000_000) >> power),
        };
        i64::try_from(nanos).unwrap_or(i64::MAX).saturating_add(self.offset_nanos)
    }
}

fn saturated(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

impl TimeUnit {
    /// The value of if_tsresol: a negative power of 2 if the top bit is set, else of 10.
    fn from_resolution(resolution: u8) -> Self {
        let power = u32::from(resolution & 0x7f);
        if resolution & 0x80 != 0 {
            return Self::PowerOfTwo(power);
        }
        match power {
            0..=9 => Self::Nanos(10_u64.pow(9 - power)),
            // Beyond 38 digits every time stamp is less than a nanosecond.
            _ => Self::PerNano(10_u128.checked_pow(power - 9).unwrap_or(u128::MAX)),
        }
    }
}
