//! A place in a frame.

use super::PacketBytes;

/// A place in a frame, from which loads are made.
#[derive(Debug)]
pub(super) struct Cursor<'a, P: ?Sized> {
    bytes: &'a P,
    offset: usize,
}

impl<'a, P: PacketBytes + ?Sized> Cursor<'a, P> {
    /// The start of the frame.
    pub(super) const fn new(bytes: &'a P) -> Self {
        Self { bytes, offset: 0 }
    }

    /// The `N` octets that begin `ahead` of here.
    #[inline]
    pub(super) fn peek<const N: usize>(&self, ahead: usize) -> Option<[u8; N]> {
        self.bytes.load(self.offset.checked_add(ahead)?)
    }

    /// The `N` octets that begin `ahead` of here, if all of them lie before `end`, which is
    /// counted from here too. What follows the end is padding or another packet's.
    #[inline]
    pub(super) fn peek_before<const N: usize>(&self, ahead: usize, end: usize) -> Option<[u8; N]> {
        if ahead.checked_add(N)? > end {
            return None;
        }
        self.peek(ahead)
    }

    /// The next `N` octets, and moves behind them.
    #[inline]
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let octets = self.bytes.load(self.offset)?;
        self.advance(N);
        Some(octets)
    }

    /// Moves ahead, over octets that were loaded or will be asked for.
    #[inline]
    pub(super) fn advance(&mut self, count: usize) {
        // Saturated, the next load fails: a frame does not reach there.
        self.offset = self.offset.saturating_add(count);
    }

    /// The place that lies `ahead` of here, from the start of the frame.
    #[inline]
    pub(super) const fn offset(&self, ahead: usize) -> usize {
        self.offset.saturating_add(ahead)
    }

    /// Stays here, with an offset that the kernel's verifier does not know.
    #[inline]
    pub(super) fn forget(&mut self) {
        self.offset = self.bytes.forget(self.offset);
    }

    /// VLAN tags that were taken off the frame.
    #[inline]
    pub(super) fn tags_taken(&self) -> usize {
        self.bytes.tags_taken()
    }

    /// The same number, which the kernel's verifier does not know.
    #[inline]
    pub(super) fn forget_number(&self, number: usize) -> usize {
        self.bytes.forget(number)
    }

    /// Octets that the frame had on the wire from here on.
    #[inline]
    pub(super) fn wire_left(&self) -> usize {
        self.bytes.wire_size().saturating_sub(self.offset)
    }
}
