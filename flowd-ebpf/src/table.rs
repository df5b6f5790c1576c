//! table: an entry is added to the flow table of its generation, else to the ring buffer, else
//! to the packets that are counted as unaccounted.

use crate::atomic;
use crate::maps::{self, FlowTable};
use aya_ebpf::bindings::{
    BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE,
};
use aya_ebpf::helpers::generated::bpf_ringbuf_query;
use flowd_common::{
    FirstPacket, FlowCounters, FlowEntry, FlowKeyV4, FlowKeyV6, RingRecordV4, RingRecordV6,
};

/// FIN and RST.
const TCP_END: u16 = 0x001 | 0x004;

/// Attempts at a word that another CPU changes too. The other CPU has made progress each time;
/// where even the last fails, a time is a packet's of the same instant, or a flag comes with the
/// flow's next packet.
const ATTEMPTS_MAX: usize = 8;

/// A key, and the record by which its entry goes through the ring buffer.
pub(crate) trait Key: Copy + 'static {
    type Record: 'static;

    /// Fills a record in place.
    ///
    /// # Safety
    /// The record can be written.
    unsafe fn fill(&self, record: *mut Self::Record, epoch: u32, entry: &FlowEntry);
}

impl Key for FlowKeyV4 {
    type Record = RingRecordV4;

    #[inline(always)]
    unsafe fn fill(&self, record: *mut RingRecordV4, epoch: u32, entry: &FlowEntry) {
        // SAFETY: the caller vouches for the record.
        unsafe { record.write(RingRecordV4 { epoch, key: *self, entry: *entry }) }
    }
}

impl Key for FlowKeyV6 {
    type Record = RingRecordV6;

    #[inline(always)]
    unsafe fn fill(&self, record: *mut RingRecordV6, epoch: u32, entry: &FlowEntry) {
        // SAFETY: the caller vouches for the record.
        unsafe { record.write(RingRecordV6 { epoch, key: *self, entry: *entry }) }
    }
}

/// Adds an entry to a table or the ring buffer; false if neither has room.
#[inline(always)]
pub(crate) fn add<K: Key>(table: &FlowTable<K>, epoch: u32, key: &K, entry: &FlowEntry) -> bool {
    if let Some(found) = table.get_ptr_mut(key) {
        return add_to(found, epoch, key, entry);
    }
    if table.insert(key, entry, u64::from(BPF_NOEXIST)).is_ok() {
        return true;
    }
    // Another CPU has begun the flow meanwhile, or the table is full.
    match table.get_ptr_mut(key) {
        Some(found) => merge(found, entry),
        None => return to_ring(epoch, key, entry),
    }
    true
}

/// A SYN without ACK onto a flow whose end was seen opens another connection: it goes by itself,
/// so that user space can tell the two apart.
#[inline(always)]
fn add_to<K: Key>(found: *mut FlowEntry, epoch: u32, key: &K, entry: &FlowEntry) -> bool {
    if entry.first.has(FirstPacket::OPENS_CONNECTION) {
        // SAFETY: entries of preallocated tables stay valid; a flag that is set meanwhile is
        // seen or not, as if the packets had come in the other order.
        let flags = unsafe { (&raw const (*found).counters.tcp_control_bits).read_volatile() };
        if flags & TCP_END != 0 && to_ring(epoch, key, entry) {
            return true;
        }
    }
    merge(found, entry);
    true
}

#[inline(always)]
fn to_ring<K: Key>(epoch: u32, key: &K, entry: &FlowEntry) -> bool {
    match maps::RING.reserve_untyped::<K::Record>(0) {
        Some(mut slot) => {
            // SAFETY: the slot has the record's size and alignment.
            unsafe { key.fill(slot.as_mut_ptr(), epoch, entry) };
            slot.submit(wake_up());
            true
        }
        None => false,
    }
}

/// The reader comes by itself every second; it is woken when the ring buffer is a quarter full,
/// and not for each record.
#[inline(always)]
fn wake_up() -> u64 {
    let ring = (&raw const maps::RING).cast_mut().cast();
    // SAFETY: the map is a ring buffer, and both flags are questions to one.
    let (filled, size) = unsafe {
        (
            bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA)),
            bpf_ringbuf_query(ring, u64::from(BPF_RB_RING_SIZE)),
        )
    };
    u64::from(if filled >= size / 4 { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}

/// Adds to an entry that other CPUs add to as well.
#[inline(always)]
fn merge(found: *mut FlowEntry, entry: &FlowEntry) {
    let FlowCounters {
        octets,
        packets,
        first_seen_nanos: _,
        last_seen_nanos,
        tcp_control_bits: _,
        minimum_ttl: _,
        maximum_ttl: _,
        padding: _,
    } = entry.counters;
    // SAFETY: `found` is a value of a preallocated table: it stays valid for the program's run, is
    // aligned to eight, and is written by atomic instructions only once it is in there.
    unsafe {
        atomic::add(&raw mut (*found).counters.octets, octets);
        atomic::add(&raw mut (*found).counters.packets, packets);
        let last = &raw mut (*found).counters.last_seen_nanos;
        extend(last.cast(), last_seen_nanos, |new, old| new > old);
        // Only where two CPUs have begun the flow at once, and the later one came first.
        let first = &raw mut (*found).counters.first_seen_nanos;
        extend(first.cast(), last_seen_nanos, |new, old| new < old);
        merge_bits((&raw mut (*found).counters.tcp_control_bits).cast(), &entry.counters);
    }
}

/// Moves a time on to a packet's, where that is beyond it.
///
/// # Safety
/// As [`atomic::compare_exchange`].
#[inline(always)]
unsafe fn extend(time: *mut u64, packet: i64, is_beyond: impl Fn(i64, i64) -> bool) {
    // SAFETY: the caller vouches for the word.
    let mut seen = unsafe { time.read_volatile() };
    for _ in 0..ATTEMPTS_MAX {
        if !is_beyond(packet, seen.cast_signed()) {
            return;
        }
        // SAFETY: as above.
        let found = unsafe { atomic::compare_exchange(time, seen, packet.cast_unsigned()) };
        if found == seen {
            return;
        }
        seen = found;
    }
}

/// Flags, least and greatest TTL, in one word of eight octets.
///
/// # Safety
/// As [`atomic::compare_exchange`].
#[inline(always)]
unsafe fn merge_bits(word: *mut u64, counters: &FlowCounters) {
    // SAFETY: the caller vouches for the word.
    let mut seen = unsafe { word.read_volatile() };
    for _ in 0..ATTEMPTS_MAX {
        let flags = seen as u16 | counters.tcp_control_bits;
        let minimum_ttl = ((seen >> 16) as u8).min(counters.minimum_ttl);
        let maximum_ttl = ((seen >> 24) as u8).max(counters.maximum_ttl);
        let merged = u64::from(flags) | u64::from(minimum_ttl) << 16 | u64::from(maximum_ttl) << 24;
        if merged == seen {
            return;
        }
        // SAFETY: as above.
        let found = unsafe { atomic::compare_exchange(word, seen, merged) };
        if found == seen {
            return;
        }
        seen = found;
    }
}
