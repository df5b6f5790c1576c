//! Seeded draws.

/// A SplitMix64 stream: small, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Draws(pub u64);

impl Draws {
    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        // The high half of a 128-bit product is uniform enough for traffic.
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// A rank below `bound`, low ranks far likelier: the product of two uniform draws.
    pub const fn popular(&mut self, bound: u64) -> u64 {
        let first = self.below(bound);
        self.below(first + 1)
    }

    /// A size with a heavy tail: each doubling is half as likely, up to `doublings_max`.
    pub fn heavy(&mut self, doublings_max: u32) -> u32 {
        let doublings = self.next().trailing_zeros().min(doublings_max);
        let low = 1_u32 << doublings;
        low + self.below(u64::from(low)) as u32
    }
}
