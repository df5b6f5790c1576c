//! Meter: packets in, flow records out.

use super::books::Books;
use super::cache::{FlowCache, Sink};
use super::fragments::{FRAGMENT_COUNT_MAX, Fragments};
use crate::model::{FlowRecord, PointTotals, Volume, time::UnixMillis};
use crate::probe::CapturedPacket;
use flowd_common::packet::{self, Captured, Fragment, Packet, Transport};
use flowd_common::{FirstPacket, FlowCounters, FlowDelta, FlowKey, ObservationPoint};

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

/// The Metering Process over one stream of packets, or of deltas of their flows.
///
/// Its clock is the latest time that any packet had, that any delta began at, or that it was
/// moved on to. Packets and deltas may come out of order; they never turn the clock back.
///
/// ```
/// use flowd::flow::{Meter, MeterConfig};
/// use flowd::probe::{CapturedPacket, LinkType};
/// use flowd_common::{Direction, ObservationPoint};
///
/// let udp = [
///     0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, // IPv4
///     0x30, 0x39, 0, 53, 0, 8, 0, 0, // UDP
/// ];
/// let packet = CapturedPacket {
///     time_nanos: 1_000_000_000,
///     link_type: LinkType::RawIp,
///     point: ObservationPoint::new(0, Direction::NONE),
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
            Some(fragment) => self.resolve(packet.point, &parsed, fragment, now_nanos),
            None => (parsed.protocol, parsed.transport),
        };
        let key = FlowKey::new(packet.point, parsed.addresses, protocol, transport);
        let counters = FlowCounters::of_packet(&parsed, packet.time_nanos);
        self.add(&key, &counters, || FirstPacket::of_packet(&parsed), now_nanos, out);
    }

    /// Accounts what was counted of one flow elsewhere, its times in Unix nanoseconds. The clock
    /// moves on to the delta's first packet, and the records of flows that ended by then are
    /// added to `out`; then the delta joins its flow or begins one. What it tells of counts as
    /// seen and as accounted. A delta of one packet does what [`Meter::observe`] does.
    ///
    /// ```
    /// use flowd::flow::{Meter, MeterConfig};
    /// use flowd_common::packet::{Addresses, Transport};
    /// use flowd_common::{
    ///     Direction, FirstPacket, FlowCounters, FlowDelta, FlowKey, ObservationPoint,
    /// };
    ///
    /// let point = ObservationPoint::new(2, Direction::EGRESS);
    /// let addresses = Addresses::V4 { source: [192, 0, 2, 1], destination: [192, 0, 2, 2] };
    /// let transport = Transport::Ports { source: 12_345, destination: 53 };
    /// let delta = FlowDelta {
    ///     key: FlowKey::new(point, addresses, 17, transport),
    ///     counters: FlowCounters {
    ///         octets: 280,
    ///         packets: 10,
    ///         first_seen_nanos: 1_000_000_000,
    ///         last_seen_nanos: 1_900_000_000,
    ///         tcp_control_bits: 0,
    ///         minimum_ttl: 64,
    ///         maximum_ttl: 64,
    ///         padding: [0; 4],
    ///     },
    ///     first: FirstPacket::default(),
    /// };
    /// let mut meter = Meter::new(&MeterConfig::default());
    /// let mut records = Vec::new();
    /// meter.account(&delta, &mut records);
    /// assert_eq!(meter.cached_at().of(point).packets, 10);
    /// meter.finish(&mut records);
    /// assert_eq!((records[0].ingress_interface, records[0].egress_interface), (0, 2));
    /// assert_eq!(meter.books().recorded.octets, 280);
    /// ```
    pub fn account(&mut self, delta: &FlowDelta, out: &mut Vec<FlowRecord>) {
        let FlowDelta { key, counters, first } = delta;
        let now_nanos = self.advance(counters.first_seen_nanos, out);
        self.books.packets_seen = self.books.packets_seen.saturating_add(counters.packets);
        self.add(key, counters, || *first, now_nanos, out);
    }

    #[inline]
    fn add(
        &mut self,
        key: &FlowKey,
        counters: &FlowCounters,
        first: impl Fn() -> FirstPacket,
        now_nanos: i64,
        out: &mut Vec<FlowRecord>,
    ) {
        let FlowCounters { packets, octets, .. } = *counters;
        self.books.accounted.add(Volume { packets, octets });
        let mut sink = Sink { records: out, books: &mut self.books };
        self.cache.account(key, counters, first, now_nanos, &mut sink);
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

    /// The time that it has come to; 1970 before the first packet.
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

    /// The flows under way and what they hold, by where they were seen; each of them will make a
    /// record. It walks all of them.
    #[must_use]
    pub fn cached_at(&self) -> PointTotals {
        self.cache.totals_at()
    }

    /// The protocol and transport of a fragment: a first one tells, a later one asks.
    fn resolve(
        &mut self,
        point: ObservationPoint,
        packet: &Packet,
        fragment: Fragment,
        now_nanos: i64,
    ) -> (u8, Transport) {
        if fragment.offset == 0 {
            self.fragments.remember(point, packet, fragment, now_nanos);
            return (packet.protocol, packet.transport);
        }
        let first = self.fragments.first_of(point, packet, fragment, now_nanos);
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
