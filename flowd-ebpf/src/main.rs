//! flowd's XDP and TC programs: what the kernel runs for every packet.
//!
//! ```text
//! main.rs       entry points: flowd_xdp, flowd_tc_ingress, flowd_tc_egress; each one call
//! program.rs    what all of them do: find the generation, meter, keep the ledger
//! context.rs    the packet between two pointers and beyond, as the parser reads it
//! account.rs    parsed packet -> key and entry, or the reason why not
//! fragments.rs  ports of later fragments
//! table.rs      into the flow table, else the ring buffer, else counted
//! atomic.rs     the instructions by which CPUs share an entry
//! maps.rs       every map, how large it is, and what it costs
//! ```
//!
//! A packet of a known flow takes about 200 ns in each program, the clock's 32 among them
//! (journal 2026-11-23-probe).
//!
//! Parsing itself is `flowd_common::packet`, the same that replays captures. Built for the host,
//! the crate has no entry points: it is here so that its parts are compiled, checked and tested
//! with stable Rust on every machine.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![cfg_attr(
    not(any(test, target_arch = "bpf")),
    expect(
        dead_code,
        reason = "on the host only the tests call what the entry points call in the kernel"
    )
)]

mod account;
mod context;
mod maps;

#[cfg(target_arch = "bpf")]
mod atomic;
#[cfg(target_arch = "bpf")]
mod fragments;
#[cfg(target_arch = "bpf")]
mod program;
#[cfg(target_arch = "bpf")]
mod table;

#[cfg(target_arch = "bpf")]
mod entry {
    use crate::account::Segments;
    use crate::context::PacketContext;
    use crate::maps::{self, Scratch};
    use crate::program::{Copied, Parts, Seen, Skb, Xdp, meter};
    use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action};
    use aya_ebpf::macros::{classifier, xdp};
    use aya_ebpf::programs::{TcContext, XdpContext};
    use flowd_common::{Direction, ObservationPoint};

    /// Of linux/if_packet.h.
    const PACKET_LOOPBACK: u32 = 5;

    /// Packets that the driver received, before the stack sees them.
    #[xdp(frags)]
    pub(crate) fn flowd_xdp(context: XdpContext) -> u32 {
        let Some(scratch) = scratch() else {
            return xdp_action::XDP_PASS;
        };
        let (data, data_end) = (context.data() as *const u8, context.data_end() as *const u8);
        let Scratch { parsed, work, fragment_key, octets } = scratch;
        let mut parts = Parts { parsed, work, fragment_key };
        let rest = Xdp(context.ctx, Copied(octets));
        // SAFETY: the kernel gives the packet to the program for this call.
        let packet = unsafe { PacketContext::new(data, data_end, rest) };
        let seen = || Seen {
            // SAFETY: the kernel gives the context to the program for this call.
            point: ObservationPoint::new(
                unsafe { (&raw const (*context.ctx).ingress_ifindex).read_volatile() },
                Direction::INGRESS,
            ),
            segments: Segments { count: 0, size: 0 },
            vlan_id: None,
        };
        meter(&packet, seen, &mut parts);
        xdp_action::XDP_PASS
    }

    /// Packets that come in, on their way up.
    ///
    /// What the host has sent to a group that it belongs to itself comes this way too
    /// (`dev_loopback_xmit` in net/core/dev.c): without a link header, and never on the wire. The
    /// interface does not count it, and neither does this program.
    #[classifier]
    pub(crate) fn flowd_tc_ingress(context: TcContext) -> i32 {
        // SAFETY: the kernel gives the context to the program for this call.
        let kind = unsafe { (&raw const (*context.skb.skb).pkt_type).read_volatile() };
        if kind != PACKET_LOOPBACK {
            meter_skb(&context, Direction::INGRESS);
        }
        TC_ACT_UNSPEC
    }

    /// Packets that go out, on their way down.
    #[classifier]
    pub(crate) fn flowd_tc_egress(context: TcContext) -> i32 {
        meter_skb(&context, Direction::EGRESS);
        TC_ACT_UNSPEC
    }

    /// The verdict of both is none: whatever else is attached decides, as if they were not there.
    /// `TC_ACT_UNSPEC` and `TCX_NEXT` are the same number.
    #[inline(always)]
    fn meter_skb(context: &TcContext, direction: Direction) {
        let Some(scratch) = scratch() else {
            return;
        };
        let skb = context.skb.skb;
        let (data, data_end) = (context.data() as *const u8, context.data_end() as *const u8);
        let Scratch { parsed, work, fragment_key, octets } = scratch;
        let mut parts = Parts { parsed, work, fragment_key };
        let rest = Skb(skb, Copied(octets));
        // SAFETY: the kernel gives the packet to the program for this call.
        let packet = unsafe { PacketContext::new(data, data_end, rest) };
        // SAFETY: as above; all are plain fields of the context. Volatile, so that they are read
        // after the packet is parsed: what is known of them before that multiplies the paths.
        let seen = || unsafe {
            let has_vlan = (&raw const (*skb).vlan_present).read_volatile();
            let vlan_tci = (&raw const (*skb).vlan_tci).read_volatile();
            let interface = (&raw const (*skb).ifindex).read_volatile();
            Seen {
                point: ObservationPoint::new(interface, direction),
                segments: Segments {
                    count: (&raw const (*skb).gso_segs).read_volatile(),
                    size: (&raw const (*skb).gso_size).read_volatile(),
                },
                // The upper four bits are priority and drop eligibility.
                vlan_id: (has_vlan != 0).then_some((vlan_tci & 0x0fff) as u16),
            }
        };
        meter(&packet, seen, &mut parts);
    }

    /// This CPU's place to work in.
    #[inline(always)]
    fn scratch() -> Option<&'static mut Scratch> {
        // SAFETY: the value is this CPU's own, programs on one CPU do not interrupt each other,
        // and each asks once.
        maps::SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
    }

    /// The verifier has proved that no path leads here.
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
