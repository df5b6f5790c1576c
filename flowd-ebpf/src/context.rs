//! The packet that a program was called for: the octets between two pointers.

use flowd_common::packet::PacketBytes;

/// No header that is parsed begins further into a frame. The verifier takes an offset into a
/// packet only if it knows a bound that is well below 64 KiB.
const OFFSET_MAX: usize = 0x3fff;

/// The linear part of a packet: direct packet access of XDP and TC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PacketContext {
    data: *const u8,
    data_end: *const u8,
    wire_size: usize,
}

impl PacketContext {
    /// The packet from `data` up to, not including, `data_end`, of `wire_size` octets in all:
    /// what lies beyond the linear part is not read but counts.
    ///
    /// # Safety
    /// All octets from `data` to `data_end` can be read for as long as this value is used.
    pub(crate) const unsafe fn new(data: *const u8, data_end: *const u8, wire_size: usize) -> Self {
        Self { data, data_end, wire_size }
    }
}

impl PacketBytes for PacketContext {
    /// One comparison of pointers before each load, both formed from the packet's start by
    /// adding, is the form in which the verifier recognises a bounds check.
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > OFFSET_MAX {
            return None;
        }
        let start = self.data.wrapping_add(offset);
        if start.wrapping_add(N) > self.data_end {
            return None;
        }
        // SAFETY: `start` lies at or behind `data`, because `offset` is small and packets do not
        // lie at the end of the address space, and N octets from it end at or before `data_end`;
        // `new`'s caller has vouched for all between the two. An array of octets needs no
        // alignment.
        Some(unsafe { start.cast::<[u8; N]>().read() })
    }

    #[inline(always)]
    fn wire_size(&self) -> usize {
        self.wire_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowd_common::packet::{LinkType, parse};
    use proptest::prelude::*;

    fn with_context<T>(octets: &[u8], read: impl FnOnce(&PacketContext) -> T) -> T {
        let range = octets.as_ptr_range();
        // SAFETY: the slice outlives the call, and the context does not leave it.
        let context = unsafe { PacketContext::new(range.start, range.end, octets.len()) };
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
        fn loads_what_a_slice_loads(octets: Vec<u8>, offset in 0_usize..200) {
            with_context(&octets, |context| {
                prop_assert_eq!(context.load::<1>(offset), octets[..].load::<1>(offset));
                prop_assert_eq!(context.load::<4>(offset), octets[..].load::<4>(offset));
                prop_assert_eq!(context.load::<20>(offset), octets[..].load::<20>(offset));
                Ok(())
            })?;
        }

        #[test]
        fn parses_as_a_slice_parses(frame in frame()) {
            let from_slice = parse(LinkType::Ethernet, &frame[..]);
            let from_context = with_context(&frame, |context| parse(LinkType::Ethernet, context));
            prop_assert_eq!(from_context, from_slice);
        }
    }

    #[test]
    fn an_offset_beyond_every_header_is_refused() {
        let octets = vec![7; OFFSET_MAX + 8];
        with_context(&octets, |context| {
            assert_eq!(context.load::<4>(OFFSET_MAX), Some([7; 4]));
            assert_eq!(context.load::<4>(OFFSET_MAX + 1), None);
            assert_eq!(context.load::<4>(usize::MAX), None);
        });
    }
}
