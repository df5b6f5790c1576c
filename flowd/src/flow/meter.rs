//! Meter: packets in, flow records out.

use super::books::{Books, Volume};
use super::cache::{FlowCache, Sink};
use super::fragments::{FRAGMENT_COUNT_MAX, Fragments};

use crate::model::{FlowRecord, time::UnixMillis};
use crate::probe::CapturedPacket;
use flowd_common::packet::{self, Captured, Fragment, Packet, Transport};
use flowd_common::{Direction, FirstPacket, FlowCounters, FlowKey, ObservationPoint};

/// How a [`Meter`] ends flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterConfig {
    /// A flow that has lasted so long is recorded; what follows is another record.
    pub active_timeout_millis: u64,
    /// A flow without a packet for so long is over.
    pub inactive_timeout_millis: u64,
    /// Flows kept at a time; beyond it the one that is nearest to its end goes early.
    pub flow_count_max: usize,
}

impl Default for MeterConfig {
    fn default() -> Self {
        Self {
            active_timeout_millis: 60_000,
            inactive_timeout_millis: 15_000,
            flow_count_max: 1 << 20,
        }
    }
}

/// The Metering Process over one stream of packets.
///
/// Its clock is the latest time that any packet had. Packets may come out of order; they never
/// turn the clock back.
///
/// ```
/// use flowd::flow::{Meter, MeterConfig};
/// use flowd::probe::{CapturedPacket, LinkType};
///
/// let udp = [
///     0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, // IPv4
///     0x30, 0x39, 0, 53, 0, 8, 0, 0, // UDP
/// ];
/// let packet = CapturedPacket {
///     time_nanos: 1_000_000_000,
///     link_type: LinkType::RawIp,
///     interface: 0,
///     wire_size: 28,
///     data: &udp,
/// };
/// let mut meter = Meter::new(&MeterConfig::default());
/// let mut records = Vec::new();
/// meter.observe(&packet, &mut records);
/// meter.finish(&mut records);
/// assert_eq!(records[0].destination_transport_port, 53);
/// assert_eq!(records[0].octet_delta_count, 28);
/// assert_eq!(meter.books().accounted.packets, 1);
/// ```
#[derive(Debug)]
pub struct Meter {
    cache: FlowCache,
    fragments: Fragments,
    books: Books,
    clock_nanos: Option<i64>,
}

impl Meter {
    /// A meter that has seen nothing.
    #[must_use]
    pub fn new(config: &MeterConfig) -> Self {
        Self {
            cache: FlowCache::new(config),
            fragments: Fragments::new(FRAGMENT_COUNT_MAX),
            books: Books::default(),
            clock_nanos: None,
        }
    }

    /// Accounts one packet, and adds to `out` the records of flows that ended by then.
    #[inline]
    pub fn observe(&mut self, packet: &CapturedPacket<'_>, out: &mut Vec<FlowRecord>) {
        let now_nanos = self.advance(packet.time_nanos, out);
        self.books.packets_seen += 1;
        let captured = Captured {
            data: packet.data,
            wire_size: usize::try_from(packet.wire_size).unwrap_or(usize::MAX),
        };
        let parsed = match packet::parse(packet.link_type, &captured) {
            Ok(parsed) => parsed,
            Err(refusal) => {
                self.books.count_refused(refusal.drop_reason());
                return;
            }
        };
        let (protocol, transport) = match parsed.fragment {
            Some(fragment) => self.resolve(packet.interface, &parsed, fragment, now_nanos),
            None => (parsed.protocol, parsed.transport),
        };
        let point = ObservationPoint::new(packet.interface, Direction::NONE);
        let key = FlowKey::new(point, parsed.addresses, protocol, transport);
        let delta = FlowCounters::of_packet(&parsed, packet.time_nanos);
        self.books.accounted.add(Volume { packets: delta.packets, octets: delta.octets });
        let mut sink = Sink { records: out, books: &mut self.books };
        self.cache.account(&key, &delta, || FirstPacket::of_packet(&parsed), now_nanos, &mut sink);
    }

    /// Moves the clock on to this time, unless it is there already, and adds to `out` the
    /// records of flows that ended by then. Returns the clock.
    #[inline]
    pub fn advance(&mut self, time_nanos: i64, out: &mut Vec<FlowRecord>) -> i64 {
        let now_nanos =
            self.clock_nanos.map_or(time_nanos, |clock_nanos| clock_nanos.max(time_nanos));
        self.clock_nanos = Some(now_nanos);
        let mut sink = Sink { records: out, books: &mut self.books };
        self.cache.expire(now_nanos, &mut sink);
        now_nanos
    }

    /// Ends all flows and adds their records to `out`.
    pub fn finish(&mut self, out: &mut Vec<FlowRecord>) {
        let mut sink = Sink { records: out, books: &mut self.books };
        self.cache.finish(&mut sink);
    }

    /// The latest time that any packet had; 1970 before the first.
    #[must_use]
    pub fn clock(&self) -> UnixMillis {
        UnixMillis::from_nanos(self.clock_nanos.unwrap_or(0))
    }

    /// What became of every packet.
    #[must_use]
    pub const fn books(&self) -> &Books {
        &self.books
    }

    /// Flows under way.
    #[must_use]
    pub fn flow_count(&self) -> usize {
        self.cache.flow_count()
    }

    /// What the flows under way hold. It walks all of them.
    #[must_use]
    pub fn cached(&self) -> Volume {
        self.cache.volume()
    }

    /// The protocol and transport of a fragment: a first one tells, a later one asks.
    fn resolve(
        &mut self,
        interface: u32,
        packet: &Packet,
        fragment: Fragment,
        now_nanos: i64,
    ) -> (u8, Transport) {
        if fragment.offset == 0 {
            self.fragments.remember(interface, packet, fragment, now_nanos);
            return (packet.protocol, packet.transport);
        }
        let first = self.fragments.first_of(interface, packet, fragment, now_nanos);
        match first {
            Some(first) => {
                self.books.fragments_stitched += 1;
                first
            }
            None => {
                self.books.fragments_unstitched += 1;
                (packet.protocol, packet.transport)
            }
        }
    }
}
