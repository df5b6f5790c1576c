//! A decoder whose work is counted: what it allocates, what comes out, and what its books say.

use bench::alloc::{Counts, measure};
use bench::layout::Header;
use flowd::collect::{Books, Decoder, DecoderConfig, Peer, Statistics, TemplateStore};
use flowd::model::FlowBatch;
use flowd::model::time::UnixMillis;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Octets that one datagram may make the decoder allocate, whatever it says: the room for its
/// templates and what it shares with others, far below what a length of four octets can claim.
pub(crate) const OCTETS_MAX: u64 = 4 << 20;

pub(crate) const HEADER: Header =
    Header { unix_seconds: 1_700_000_000, uptime_millis: 3_600_000, sequence: 0, domain: 7 };
const NOW: i64 = 1_700_000_000_000;

/// A decoder, and how many records came out of it.
pub(crate) struct Reading {
    decoder: Decoder,
    pub(crate) books: Arc<Books>,
    batch: FlowBatch,
    pub(crate) records: u64,
    /// Octets that were kept verbatim.
    pub(crate) extras: u64,
    pub(crate) now: i64,
}

impl Reading {
    pub(crate) fn new() -> Self {
        let config = DecoderConfig::default();
        let books = Arc::new(Books::default());
        let templates = Arc::new(TemplateStore::new(&config));
        let decoder = Decoder::new(&config, templates, Arc::default(), Arc::clone(&books));
        Self { decoder, books, batch: FlowBatch::new(), records: 0, extras: 0, now: NOW }
    }

    /// Decodes a datagram of an exporter; what that allocated.
    pub(crate) fn datagram(&mut self, exporter: u32, octets: &[u8]) -> Counts {
        self.message(Peer::udp(SocketAddr::from((Ipv4Addr::from(exporter), 2_055))), octets)
    }

    pub(crate) fn message(&mut self, peer: Peer, octets: &[u8]) -> Counts {
        let Self { decoder, batch, records, extras, now, .. } = self;
        let mut take = |batch: &FlowBatch| {
            *records += batch.len() as u64;
            *extras += batch.extras_from(0).len() as u64;
        };
        let ((), counts) = measure(|| {
            decoder.decode(octets, peer, UnixMillis(*now), batch, &mut take);
        });
        take(batch);
        batch.clear();
        counts
    }

    /// The counters, which add up.
    pub(crate) fn counted(&self) -> Statistics {
        let counted = self.books.statistics();
        let drops: u64 = counted.drops.values().sum();
        assert_eq!(counted.datagrams, counted.datagrams_decoded + drops, "{counted:?}");
        let drops: u64 = counted.set_drops.values().sum();
        let known = counted.sets_decoded + counted.sets_held + drops;
        assert_eq!(counted.sets, known, "{counted:?}");
        assert_eq!(counted.records, self.records, "{counted:?}");
        counted
    }
}
