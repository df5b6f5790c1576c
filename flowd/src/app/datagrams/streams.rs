//! TCP segments -> the streams that they are of, one a way of each connection.

use super::stream::Stream;
use super::{Body, CaptureDrop, Carried, Take};
use crate::telemetry::Drops;
use flowd_common::packet::Addresses;
use hashbrown::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Ways of connections that are followed at once.
const STREAM_COUNT_MAX: usize = 1_024;
const HEADER_SIZE_MIN: usize = 20;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Way {
    from: SocketAddr,
    to: SocketAddr,
}

impl Way {
    const fn reversed(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// A TCP segment (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    way: Way,
    sequence: u32,
    flags: u8,
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads what an IP packet holds.
    pub(super) fn parse(addresses: Addresses, body: Body<'a>) -> Option<Self> {
        let (source, destination): (IpAddr, IpAddr) = match addresses {
            Addresses::V4 { source, destination } => (source.into(), destination.into()),
            Addresses::V6 { source, destination } => (source.into(), destination.into()),
        };
        let header = body.octets.first_chunk::<HEADER_SIZE_MIN>()?;
        let [s0, s1, d0, d1, q0, q1, q2, q3, _, _, _, _, offset, flags, ..] = *header;
        let header_size = usize::from(offset >> 4).saturating_mul(4).max(HEADER_SIZE_MIN);
        Some(Self {
            way: Way {
                from: SocketAddr::new(source, u16::from_be_bytes([s0, s1])),
                to: SocketAddr::new(destination, u16::from_be_bytes([d0, d1])),
            },
            sequence: u32::from_be_bytes([q0, q1, q2, q3]),
            flags,
            payload: body.octets.get(header_size..).unwrap_or_default(),
        })
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The streams that are followed.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: HashMap<Way, Followed>,
    /// Numbers segments, to find the streams that were quiet the longest.
    count: u64,
}

#[derive(Debug)]
struct Followed {
    stream: Stream,
    /// The number that the stream's first octet has, where its SYN was seen.
    first: Option<u32>,
    last_heard: u64,
    /// It has ended: what comes again of it is no new stream.
    is_closed: bool,
}

impl Streams {
    /// Takes a segment, and hands on what it makes whole.
    pub(super) fn segment(
        &mut self,
        segment: &Segment<'_>,
        drops: &Drops<CaptureDrop>,
        take: Take<'_>,
    ) {
        if segment.has(RST) {
            // Either side's reset ends both ways.
            self.close(segment.way, drops, take);
            self.close(segment.way.reversed(), drops, take);
            return;
        }
        // A SYN has a number of its own, before that of the first octet.
        let first = segment.sequence.wrapping_add(1);
        let sequence = if segment.has(SYN) { first } else { segment.sequence };
        let known = self.streams.get(&segment.way);
        let is_new = known.is_none_or(|known| segment.has(SYN) && known.first != Some(first));
        if is_new {
            if !segment.has(SYN) && segment.payload.is_empty() {
                return;
            }
            self.close(segment.way, drops, take);
            self.make_room(drops, take);
            let followed = Followed {
                stream: Stream::new(sequence, segment.has(SYN)),
                first: segment.has(SYN).then_some(first),
                last_heard: 0,
                is_closed: false,
            };
            self.streams.insert(segment.way, followed);
        }
        self.count = self.count.saturating_add(1);
        let Some(followed) = self.streams.get_mut(&segment.way) else { return };
        followed.last_heard = self.count;
        if followed.is_closed {
            return;
        }
        let from = segment.way.from;
        let is_last = segment.has(FIN);
        followed.stream.segment(sequence, segment.payload, is_last, drops, &mut |octets| {
            take(Carried::Message { from, octets });
        });
        if followed.stream.is_over() {
            self.close(segment.way, drops, take);
        }
    }

    /// The capture is over. Connections are not.
    pub(super) fn finish(&mut self, drops: &Drops<CaptureDrop>, take: Take<'_>) {
        let mut ways: Vec<(u64, Way)> =
            self.streams.iter().map(|(&way, followed)| (followed.last_heard, way)).collect();
        ways.sort_unstable_by_key(|&(last_heard, _)| last_heard);
        for (_, way) in ways {
            self.close(way, drops, take);
        }
    }

    fn close(&mut self, way: Way, drops: &Drops<CaptureDrop>, take: Take<'_>) {
        if let Some(followed) = self.streams.get_mut(&way) {
            followed.close(way.from, drops, take);
        }
    }

    /// The half of the streams that were quiet the longest give way when there are too many.
    fn make_room(&mut self, drops: &Drops<CaptureDrop>, take: Take<'_>) {
        if self.streams.len() < STREAM_COUNT_MAX {
            return;
        }
        let mut heard: Vec<u64> = self.streams.values().map(|known| known.last_heard).collect();
        let (_, &mut median, _) = heard.select_nth_unstable(STREAM_COUNT_MAX / 2);
        self.streams.retain(|way, followed| {
            let stays = followed.last_heard > median;
            if !stays {
                if followed.stream.is_ipfix() && !followed.is_closed {
                    drops.count(CaptureDrop::ConnectionsOverLimit, 1);
                }
                followed.close(way.from, drops, take);
            }
            stays
        });
    }
}

impl Followed {
    fn close(&mut self, from: SocketAddr, drops: &Drops<CaptureDrop>, take: Take<'_>) {
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        self.stream.finish(drops, &mut |octets| take(Carried::Message { from, octets }));
        if self.stream.is_ipfix() {
            take(Carried::Closed { from });
        }
        // What it held is of no more use; that it ended is.
        self.stream = Stream::new(0, false);
    }
}
