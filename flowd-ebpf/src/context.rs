//! The packet that a program was called for: the octets between two pointers, and those beyond.

use flowd_common::packet::PacketBytes;

/// No header that is parsed begins further into a frame. The verifier takes an offset into a
/// packet only if it knows a bound that is well below 64 KiB.
const OFFSET_MAX: usize = 0x3fff;

/// What the kernel holds of a packet outside its linear part, and what it knows of its size.
pub(crate) trait Rest {
    /// Copies `N` octets from `offset` on, wherever they lie, and says whether there are as many.
    ///
    /// Octets come in either case: of a value that is only there in one case, the compiler makes
    /// registers that the verifier finds were never written.
    fn copy<const N: usize>(&self, offset: usize) -> ([u8; N], bool);

    /// Octets of the whole frame.
    fn wire_size(&self) -> usize;

    /// The same number, by way of memory that the verifier does not follow.
    fn forget(&self, number: usize) -> usize;

    /// VLAN tags that the kernel has taken off the frame.
    fn tags_taken(&self) -> usize;
}

/// A packet: its linear part by direct access, the rest by the kernel's helpers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PacketContext<R> {
    data: *const u8,
    data_end: *const u8,
    rest: R,
}

impl<R: Rest> PacketContext<R> {
    /// The packet whose linear part reaches from `data` up to, not including, `data_end`.
    ///
    /// # Safety
    /// All octets from `data` to `data_end` can be read for as long as this value is used.
    #[inline(always)]
    pub(crate) const unsafe fn new(data: *const u8, data_end: *const u8, rest: R) -> Self {
        Self { data, data_end, rest }
    }
}

impl<R: Rest> PacketBytes for PacketContext<R> {
    /// One comparison of pointers before each load, both formed from the packet's start by
    /// adding, is the form in which the verifier recognises a bounds check.
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > OFFSET_MAX {
            return None;
        }
        let start = add(self.data, offset);
        let (octets, is_held) = if start.wrapping_add(N) > self.data_end {
            self.rest.copy(offset)
        } else {
            // SAFETY: `start` lies at or behind `data`, because `offset` is small and packets do
            // not lie at the end of the address space, and N octets from it end at or before
            // `data_end`; `new`'s caller has vouched for all between the two.
            (unsafe { read(start) }, true)
        };
        is_held.then_some(octets)
    }

    #[inline(always)]
    fn wire_size(&self) -> usize {
        self.rest.wire_size()
    }

    #[inline(always)]
    fn forget(&self, number: usize) -> usize {
        self.rest.forget(number)
    }

    #[inline(always)]
    fn tags_taken(&self) -> usize {
        self.rest.tags_taken()
    }
}

/// The pointer `offset` behind `data`; `offset` is at most [`OFFSET_MAX`].
///
/// In the kernel it is one instruction that the compiler does not look into: what LLVM makes of
/// the sum otherwise, shifts and differences of pointers, the verifier refuses.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn add(data: *const u8, offset: usize) -> *const u8 {
    let mut start = data;
    // SAFETY: the instructions change the two registers that are named, and nothing else. The
    // mask repeats for the verifier the bound that the caller has checked.
    unsafe {
        core::arch::asm!(
            "{offset} &= 0x3fff",
            "{start} += {offset}",
            start = inout(reg) start,
            offset = inout(reg) offset => _,
            options(pure, nomem, nostack),
        );
    }
    start
}

#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
fn add(data: *const u8, offset: usize) -> *const u8 {
    data.wrapping_add(offset)
}

/// The `N` octets that begin at `start`.
///
/// The kernel's machines load words that lie anywhere, and the verifier lets them; the compiler
/// knows nothing of it and would load octet by octet.
///
/// # Safety
/// They can be read.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn read<const N: usize>(start: *const u8) -> [u8; N] {
    let mut octets = [0; N];
    let mut at = 0;
    macro_rules! words {
        ($word:ty, $load:literal) => {
            while N - at >= size_of::<$word>() {
                let word: u64;
                // SAFETY: the caller vouches for the octets; nothing is written.
                unsafe {
                    core::arch::asm!(
                        $load,
                        word = out(reg) word,
                        from = in(reg) start.wrapping_add(at),
                        options(pure, readonly, nostack),
                    );
                }
                let (_, rest) = octets.split_at_mut(at);
                if let Some(part) = rest.first_chunk_mut() {
                    *part = (word as $word).to_ne_bytes();
                }
                at += size_of::<$word>();
            }
        };
    }
    words!(u64, "{word} = *(u64 *)({from} + 0)");
    words!(u32, "{word} = *(u32 *)({from} + 0)");
    words!(u16, "{word} = *(u16 *)({from} + 0)");
    words!(u8, "{word} = *(u8 *)({from} + 0)");
    octets
}

#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
unsafe fn read<const N: usize>(start: *const u8) -> [u8; N] {
    // SAFETY: the caller vouches for the octets; an array of them needs no alignment.
    unsafe { start.cast::<[u8; N]>().read() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowd_common::packet::{LinkType, parse};
    use proptest::prelude::*;

    /// A whole frame, of which the context's linear part is the beginning.
    impl Rest for &[u8] {
        fn copy<const N: usize>(&self, offset: usize) -> ([u8; N], bool) {
            let octets = self.load(offset);
            (octets.unwrap_or([0; N]), octets.is_some())
        }

        fn wire_size(&self) -> usize {
            self.len()
        }

        fn forget(&self, number: usize) -> usize {
            number
        }

        fn tags_taken(&self) -> usize {
            0
        }
    }

    fn with_context<T>(
        frame: &[u8],
        linear_size: usize,
        read: impl FnOnce(&PacketContext<&[u8]>) -> T,
    ) -> T {
        let linear = frame[..linear_size.min(frame.len())].as_ptr_range();
        // SAFETY: the slice outlives the call, and the context does not leave it.
        let context = unsafe { PacketContext::new(linear.start, linear.end, frame) };
        read(&context)
    }

    /// Frames that get past the first header, and some that do not.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let starts: [&[u8]; 5] = [
            &[],
            &[8, 0, 0x45],
            &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 60, 0],
            &[0x81, 0, 0, 1, 8, 0, 0x46],
            &[0x88, 0x47, 0, 0, 1, 1, 0x45],
        ];
        let rest = prop::collection::vec(any::<u8>(), 0..120);
        (prop::sample::select(starts.to_vec()), rest)
            .prop_map(|(start, rest)| [&[2; 12], start, &rest].concat())
    }

    proptest! {
        #[test]
        fn loads_what_a_slice_loads(octets: Vec<u8>, linear in 0_usize..200, offset in 0_usize..200) {
            with_context(&octets, linear, |context| {
                prop_assert_eq!(context.load::<1>(offset), octets[..].load::<1>(offset));
                prop_assert_eq!(context.load::<4>(offset), octets[..].load::<4>(offset));
                prop_assert_eq!(context.load::<20>(offset), octets[..].load::<20>(offset));
                Ok(())
            })?;
        }

        #[test]
        fn parses_as_a_slice_parses(frame in frame(), linear in 0_usize..140) {
            let from_slice = parse(LinkType::Ethernet, &frame[..]);
            let from_context =
                with_context(&frame, linear, |context| parse(LinkType::Ethernet, context));
            prop_assert_eq!(from_context, from_slice);
        }
    }

    #[test]
    fn an_offset_beyond_every_header_is_refused() {
        let octets = vec![7; OFFSET_MAX + 8];
        with_context(&octets, octets.len(), |context| {
            assert_eq!(context.load::<4>(OFFSET_MAX), Some([7; 4]));
            assert_eq!(context.load::<4>(OFFSET_MAX + 1), None);
            assert_eq!(context.load::<4>(usize::MAX), None);
        });
    }
}
