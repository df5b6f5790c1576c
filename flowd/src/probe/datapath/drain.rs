//! drain: what one generation has counted -> a harvest.

use super::bpf::{self, Walk, walk};
use super::programs::Programs;
use super::{Harvest, ProbeError};
use flowd_common::{
    Direction, FlowDelta, FlowEntry, FlowKey, FlowKeyV4, FlowKeyV6, LedgerEntry, ObservationPoint,
    RingRecordV4, RingRecordV6,
};
use std::io;
use std::os::fd::AsFd;

/// Adds to the harvest what the frozen generation holds, and empties it.
pub(super) fn harvest(
    programs: &mut Programs,
    offset_nanos: i64,
    harvest: &mut Harvest,
) -> Result<(), ProbeError> {
    // What came by the ring buffer while the generation before was drained belongs to this one.
    for delta in programs.held.drain(..) {
        harvest.deltas.push(by_unix_time(delta, offset_nanos));
    }
    let ledger_size = programs.ledger_size();
    let frozen = programs.frozen();
    let read = |source: io::Error| ProbeError::maps("read a flow table", source);
    let (deltas, entry_size) = (&mut harvest.deltas, size_of::<FlowEntry>());
    walk(frozen.flows_v4.fd().as_fd(), Walk::Take, entry_size, &mut |key, entry| {
        deltas.extend(delta(FlowKey::V4(key), entry, offset_nanos));
    })
    .map_err(read)?;
    walk(frozen.flows_v6.fd().as_fd(), Walk::Take, entry_size, &mut |key, entry| {
        deltas.extend(delta(FlowKey::V6(key), entry, offset_nanos));
    })
    .map_err(read)?;
    let (ledger, before) = (&mut harvest.ledger, &mut frozen.ledger_before);
    walk(frozen.ledger.fd().as_fd(), Walk::Read, ledger_size, &mut |point, entries| {
        let now = bpf::ledger(entries);
        let mut since = now;
        since.subtract(&before.insert(point, now).unwrap_or(LedgerEntry::ZERO));
        if since.seen_packets != 0 {
            ledger.push((point, since));
        }
    })
    .map_err(|source| ProbeError::maps("read the ledger", source))?;
    take_ring(programs, offset_nanos, &mut harvest.deltas);
    take_spare(programs, &mut harvest.ledger)?;
    programs.remove_left()
}

fn delta(key: FlowKey, entry: &[u8], offset_nanos: i64) -> Option<FlowDelta> {
    let FlowEntry { counters, first, padding: _ } = bpf::value(entry)?;
    Some(by_unix_time(FlowDelta { key, counters, first }, offset_nanos))
}

fn by_unix_time(mut delta: FlowDelta, offset_nanos: i64) -> FlowDelta {
    let counters = &mut delta.counters;
    counters.first_seen_nanos = counters.first_seen_nanos.saturating_add(offset_nanos);
    counters.last_seen_nanos = counters.last_seen_nanos.saturating_add(offset_nanos);
    delta
}

/// Reads the ring buffer to its present end. Records of the generation that is being filled are
/// kept for the harvest that has its ledger.
fn take_ring(programs: &mut Programs, offset_nanos: i64, deltas: &mut Vec<FlowDelta>) {
    let filling = programs.epoch();
    // Programs may write as fast as this reads: the buffer's own size bounds the work.
    let mut left = programs.ring_size;
    while let Some(item) = programs.ring.next() {
        if let Some((epoch, delta)) = ring_record(&item) {
            if epoch == filling {
                programs.held.push(delta);
            } else {
                deltas.push(by_unix_time(delta, offset_nanos));
            }
        }
        left = left.saturating_sub(u32::try_from(item.len()).unwrap_or(u32::MAX));
        if left == 0 {
            break;
        }
    }
}

/// A record and its epoch; the two kinds differ in size.
fn ring_record(octets: &[u8]) -> Option<(u32, FlowDelta)> {
    const V4_SIZE: usize = size_of::<RingRecordV4>();
    const V6_SIZE: usize = size_of::<RingRecordV6>();
    let (epoch, key, entry) = match octets.len() {
        V4_SIZE => {
            let RingRecordV4 { epoch, key, entry } = bpf::value(octets)?;
            (epoch, FlowKey::V4(key), entry)
        }
        V6_SIZE => {
            let RingRecordV6 { epoch, key, entry } = bpf::value(octets)?;
            (epoch, FlowKey::V6(key), entry)
        }
        _ => return None,
    };
    let FlowEntry { counters, first, padding: _ } = entry;
    Some((epoch, FlowDelta { key, counters, first }))
}

/// The spare ledger has no generations: what it has counted since the last time is taken.
fn take_spare(
    programs: &mut Programs,
    ledger: &mut Vec<(ObservationPoint, LedgerEntry)>,
) -> Result<(), ProbeError> {
    let now = programs.spare()?;
    let mut since = now;
    since.subtract(&programs.spare_before);
    programs.spare_before = now;
    if since.seen_packets != 0 {
        ledger.push((ObservationPoint::new(0, Direction::NONE), since));
    }
    Ok(())
}

// Keys are read by the types that the programs write them with.
const _: () = assert!(size_of::<FlowKeyV4>() == 20 && size_of::<FlowKeyV6>() == 44);
