//! program: what every entry point does with its packet.

use crate::account::{Family, Observation, Ports, Segments, Work, account};
use crate::context::{PacketContext, Rest};
use crate::fragments::{self, FragmentKey, Stitch};
use crate::maps;
use crate::table;
use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_ktime_get_boot_ns, bpf_skb_load_bytes, bpf_xdp_get_buff_len,
    bpf_xdp_load_bytes,
};
use flowd_common::packet::{LinkType, Packet, parse_into};
use flowd_common::{DropReason, FlowCounters, FlowEntry, LedgerEntry, ObservationPoint};

/// One packet in so many is metered, at random; user space sets it before loading.
#[unsafe(no_mangle)]
static SAMPLING_INTERVAL: u32 = 1;

/// What frames begin with: 0 is Ethernet, 1 is IP itself; user space sets it before loading.
#[unsafe(no_mangle)]
static LINK_TYPE: u32 = 0;

/// What is counted of an interface before its first packet in this generation.
static NOTHING_SEEN: LedgerEntry = LedgerEntry::ZERO;

/// What an entry point knows of its packet, besides its octets.
pub(crate) struct Seen {
    pub(crate) point: ObservationPoint,
    pub(crate) segments: Segments,
    pub(crate) vlan_id: Option<u16>,
}

/// Where a packet is worked on, outside the stack.
pub(crate) struct Parts<'a> {
    pub(crate) parsed: &'a mut Packet,
    pub(crate) work: &'a mut Work,
    pub(crate) fragment_key: &'a mut FragmentKey,
}

/// Meters one packet.
#[inline(always)]
pub(crate) fn meter<R: Rest>(
    packet: &PacketContext<R>,
    seen: impl FnOnce() -> Seen,
    scratch: &mut Parts<'_>,
) {
    // First of all, while there is one path only: the verifier walks through the parser once for
    // each way that leads there.
    let Parts { parsed, work, fragment_key } = scratch;
    let is_selected = is_selected();
    let outcome = if is_selected { parse_packet(packet, parsed) } else { Ok(()) };
    let Some(control) = maps::CONTROL.get_ptr(0) else {
        return;
    };
    // SAFETY: the array has this entry; user space stores whole words.
    let epoch = unsafe { control.read_volatile() };
    let Seen { point, segments, vlan_id } = seen();
    let Some(ledger) = ledger(epoch, &point) else {
        return count_unlisted(segments);
    };
    // SAFETY: the value is this CPU's own, and programs on one CPU do not interrupt each other:
    // all run with bottom halves off.
    let ledger = unsafe { &mut *ledger };
    if !is_selected {
        let packets = u64::from(segments.count.max(1));
        ledger.seen_packets = ledger.seen_packets.wrapping_add(packets);
        ledger.not_selected_packets = ledger.not_selected_packets.wrapping_add(packets);
        return;
    }
    if let Err(reason) = outcome {
        return refuse(ledger, reason, segments);
    }
    // SAFETY: the helper has no conditions.
    let time_nanos = unsafe { bpf_ktime_get_boot_ns() }.cast_signed();
    let observation = Observation { point, time_nanos, segments, vlan_id };
    let (ports, stitch) = match parsed.fragment {
        Some(fragment) => fragments::resolve(point, time_nanos, parsed, fragment, fragment_key),
        None => (Ports::of_packet(parsed), Stitch::First),
    };
    match stitch {
        Stitch::First => {}
        Stitch::Stitched => ledger.fragments_stitched = ledger.fragments_stitched.wrapping_add(1),
        Stitch::Unstitched => {
            ledger.fragments_unstitched = ledger.fragments_unstitched.wrapping_add(1);
        }
    }
    let family = account(parsed, ports, packet, &observation, work);
    let entry = &work.entry;
    match family {
        Family::V4 => {
            let table = if epoch & 1 == 0 { &maps::FLOWS_V4_0 } else { &maps::FLOWS_V4_1 };
            count(ledger, entry, table::add(table, epoch, &work.key_v4, entry));
        }
        Family::V6 => {
            let table = if epoch & 1 == 0 { &maps::FLOWS_V6_0 } else { &maps::FLOWS_V6_1 };
            count(ledger, entry, table::add(table, epoch, &work.key_v6, entry));
        }
    }
}

/// Parses a packet in a function of its own: what the parser holds meanwhile is gone from the
/// stack when the tables are looked up.
#[inline(never)]
fn parse_packet<R: Rest>(packet: &PacketContext<R>, parsed: &mut Packet) -> Result<(), DropReason> {
    parse_into(link_type(), packet, parsed).map_err(|refusal| refusal.drop_reason())
}

#[inline(always)]
fn refuse(ledger: &mut LedgerEntry, reason: DropReason, segments: Segments) {
    let packets = u64::from(segments.count.max(1));
    ledger.seen_packets = ledger.seen_packets.wrapping_add(packets);
    if let Some(refused) = ledger.refused.get_mut(unknown(reason.index())) {
        *refused = refused.wrapping_add(packets);
    }
}

#[inline(always)]
fn count(ledger: &mut LedgerEntry, entry: &FlowEntry, is_added: bool) {
    let FlowCounters { packets, octets, .. } = entry.counters;
    ledger.seen_packets = ledger.seen_packets.wrapping_add(packets);
    ledger.seen_octets = ledger.seen_octets.wrapping_add(octets);
    if !is_added {
        ledger.unaccounted_packets = ledger.unaccounted_packets.wrapping_add(packets);
        ledger.unaccounted_octets = ledger.unaccounted_octets.wrapping_add(octets);
    }
}

/// The same number, below 256, of which the compiler knows nothing any more: it leaves out checks
/// that it can prove, and the verifier wants to see them.
#[inline(always)]
fn unknown(mut number: usize) -> usize {
    // SAFETY: the instruction changes the register that is named, and nothing else.
    unsafe {
        core::arch::asm!(
            "{number} &= 0xff",
            number = inout(reg) number,
            options(pure, nomem, nostack),
        );
    }
    number
}

/// The ledger of an observation point; none if there is no room for it.
#[inline(always)]
fn ledger(epoch: u32, point: &ObservationPoint) -> Option<*mut LedgerEntry> {
    let ledger = if epoch & 1 == 0 { &maps::LEDGER_0 } else { &maps::LEDGER_1 };
    if let Some(entry) = ledger.get_ptr_mut(point) {
        return Some(entry);
    }
    // User space makes the entry before it attaches a program; this is for programs that were
    // loaded by somebody else. Another CPU may be quicker; then its entry is found.
    let _ = ledger.insert(point, &NOTHING_SEEN, u64::from(BPF_NOEXIST));
    ledger.get_ptr_mut(point)
}

/// A packet of an observation point without ledger is in no flow: it is counted as unaccounted,
/// so that books balance where they are kept.
#[inline(always)]
fn count_unlisted(segments: Segments) {
    if let Some(ledger) = maps::LEDGER_SPARE.get_ptr_mut(0) {
        // SAFETY: as with the other ledgers.
        let ledger = unsafe { &mut *ledger };
        let packets = u64::from(segments.count.max(1));
        ledger.seen_packets = ledger.seen_packets.wrapping_add(packets);
        ledger.unaccounted_packets = ledger.unaccounted_packets.wrapping_add(packets);
    }
}

#[inline(always)]
fn is_selected() -> bool {
    // SAFETY: a word of read-only data. Volatile, because user space may have set it.
    let interval = unsafe { (&raw const SAMPLING_INTERVAL).read_volatile() };
    // SAFETY: the helper has no conditions.
    interval <= 1 || unsafe { bpf_get_prandom_u32() } % interval == 0
}

#[inline(always)]
fn link_type() -> LinkType {
    // SAFETY: as above.
    match unsafe { (&raw const LINK_TYPE).read_volatile() } {
        0 => LinkType::Ethernet,
        _ => LinkType::RawIp,
    }
}

/// Where octets are copied to that do not lie in a packet's linear part.
#[derive(Clone, Copy)]
pub(crate) struct Copied(pub(crate) *mut [u8; 64]);

impl Copied {
    /// The first `N` octets.
    ///
    /// # Safety
    /// Nothing else uses them.
    #[inline(always)]
    unsafe fn first<const N: usize>(self) -> [u8; N] {
        const { assert!(N <= 64) };
        // SAFETY: the caller vouches for them.
        unsafe { self.0.cast::<[u8; N]>().read() }
    }

    /// Stores a number there and loads it again.
    #[inline(always)]
    fn pass(self, number: usize) -> usize {
        let place = self.0.cast::<usize>();
        // SAFETY: the place is this program's, has room for a number, and is aligned for it, as
        // `maps.rs` asserts.
        unsafe {
            place.write_volatile(number);
            place.read_volatile()
        }
    }
}

/// A packet on its way through the stack.
pub(crate) struct Skb(pub(crate) *mut __sk_buff, pub(crate) Copied);

impl Rest for Skb {
    #[inline(always)]
    fn copy<const N: usize>(&self, offset: usize) -> ([u8; N], bool) {
        let Self(skb, to) = *self;
        // SAFETY: there is room for 64 octets, and the helper writes N.
        let done = unsafe { bpf_skb_load_bytes(skb.cast(), offset as u32, to.0.cast(), N as u32) };
        // SAFETY: the octets are this program's, whatever the helper has left there.
        (unsafe { to.first() }, done == 0)
    }

    #[inline(always)]
    fn wire_size(&self) -> usize {
        // SAFETY: the kernel handed the context over.
        unsafe { (*self.0).len as usize }
    }

    #[inline(always)]
    fn forget(&self, number: usize) -> usize {
        self.1.pass(number)
    }

    #[inline(always)]
    fn tags_taken(&self) -> usize {
        // SAFETY: as above. A number from memory that the verifier does not follow makes one path
        // of both cases.
        self.1.pass(unsafe { (&raw const (*self.0).vlan_present).read_volatile() as usize })
    }
}

/// A packet in the driver's hands.
pub(crate) struct Xdp(pub(crate) *mut xdp_md, pub(crate) Copied);

impl Rest for Xdp {
    #[inline(always)]
    fn copy<const N: usize>(&self, offset: usize) -> ([u8; N], bool) {
        let Self(frame, to) = *self;
        // SAFETY: there is room for 64 octets, and the helper writes N.
        let done = unsafe { bpf_xdp_load_bytes(frame, offset as u32, to.0.cast(), N as u32) };
        // SAFETY: the octets are this program's, whatever the helper has left there.
        (unsafe { to.first() }, done == 0)
    }

    #[inline(always)]
    fn wire_size(&self) -> usize {
        // SAFETY: the kernel handed the context over.
        unsafe { bpf_xdp_get_buff_len(self.0) as usize }
    }

    #[inline(always)]
    fn forget(&self, number: usize) -> usize {
        self.1.pass(number)
    }

    #[inline(always)]
    fn tags_taken(&self) -> usize {
        0
    }
}
