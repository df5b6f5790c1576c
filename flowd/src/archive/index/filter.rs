//! Filter: a set of 64-bit numbers that forgets which ones are in it, and never denies one.
//!
//! Up to [`LISTED_MAX`] numbers are a sorted list of their upper halves. More are a binary fuse
//! filter (Graf and Lemire, 2022): each number has three places in an array of octets, in three
//! segments that follow one another, and the octets there, xor-ed, are its fingerprint. A number
//! that is not in the set has that fingerprint once in 256. Which octets do this is found by
//! taking out, again and again, a number that has a place for itself; where that gets stuck,
//! another seed is tried.

use super::bytes::{Reader, put_u32, put_u64};
use super::key::mix;
use super::radix::sort_spread;

/// Up to so many numbers are listed.
pub const LISTED_MAX: usize = 64;
/// So many seeds are tried. One in a few hundred fails for sets of some hundred, hardly any for
/// greater sets; when all fail, the filter denies nothing.
const SEEDS_MAX: u64 = 64;
/// At most so many octets has a filter: [`Filter::decode`] takes no more for true.
pub const FILTER_SIZE_MAX: usize = 1 << 30;
const SEGMENT_BITS_MAX: u32 = 18;

const LIST: u32 = 1;
const FUSE: u32 = 2;
const EVERYTHING: u32 = 3;

/// A set of numbers that may hold some that were never put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter<'a> {
    /// The upper halves, sorted, four octets each.
    List(&'a [u8]),
    /// Fingerprints.
    Fuse(Fuse<'a>),
    /// Denies nothing.
    Everything,
}

/// A binary fuse filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fuse<'a> {
    seed: u64,
    layout: Layout,
    fingerprints: &'a [u8],
}

/// How many segments of which size a filter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    segment_bits: u32,
    /// In how many segments a number's first place may lie; its others are in the next two.
    first_segments: u32,
}

impl Layout {
    /// For so many numbers: the segments grow with the set, the share of spare places falls.
    fn for_count(count: usize) -> Self {
        let bits = count.max(2).ilog2();
        // A number of segments that keeps them long enough to peel and short enough to cache:
        // log to the base 3.33, plus 2.25, in steps of a power of two.
        let segment_bits = ((bits * 100 + 50) / 174 + 2).min(SEGMENT_BITS_MAX);
        // Places a thousand numbers: 1.125 for great sets, more for small ones.
        let permille = (875 + 4_984 / bits as usize).max(1_125);
        let places = count.saturating_mul(permille).div_ceil(1_000);
        let segments = places.div_ceil(1 << segment_bits).max(3);
        let first_segments = u32::try_from(segments - 2).unwrap_or(u32::MAX);
        Self { segment_bits, first_segments }
    }

    const fn size(self) -> usize {
        (self.first_segments as usize + 2) << self.segment_bits
    }

    /// The three places of a number.
    fn places(self, hash: u64) -> [usize; 3] {
        let span = u64::from(self.first_segments) << self.segment_bits;
        let first = ((u128::from(hash) * u128::from(span)) >> 64) as usize;
        let size = 1_usize << self.segment_bits;
        let mask = size - 1;
        [
            first,
            (first + size) ^ ((hash >> 18) as usize & mask),
            (first + 2 * size) ^ (hash as usize & mask),
        ]
    }
}

const fn fingerprint(hash: u64) -> u8 {
    (hash ^ hash >> 32) as u8
}

/// What a seed makes of a number. The first seed leaves it as it is: sorted numbers then have
/// their places in order, which is what makes building fast.
const fn seeded(number: u64, seed: u64) -> u64 {
    if seed == 0 { number } else { mix(number ^ seed) }
}

/// Appends the filter of a set to some octets. The numbers must be spread over all 64 bits.
pub(super) fn encode(mut numbers: Vec<u64>, out: &mut Vec<u8>) {
    sort_spread(&mut numbers);
    if numbers.len() <= LISTED_MAX {
        let mut halves: Vec<u32> = numbers.iter().map(|number| (number >> 32) as u32).collect();
        halves.dedup();
        put_u32(out, LIST);
        put_u32(out, u32::try_from(halves.len()).unwrap_or(u32::MAX));
        halves.iter().for_each(|&half| put_u32(out, half));
        return;
    }
    match build(&numbers) {
        Some((seed, layout, fingerprints)) => {
            put_u32(out, FUSE);
            put_u32(out, layout.segment_bits);
            put_u32(out, layout.first_segments);
            put_u64(out, seed);
            out.extend_from_slice(&fingerprints);
        }
        None => put_u32(out, EVERYTHING),
    }
}

fn build(numbers: &[u64]) -> Option<(u64, Layout, Vec<u8>)> {
    let layout = Layout::for_count(numbers.len());
    if layout.size() > FILTER_SIZE_MAX {
        return None;
    }
    let mut peeling = Peeling::new(layout, numbers.len());
    (0..SEEDS_MAX).map(mix).find_map(|seed| {
        peeling.peel(numbers, seed).then(|| (seed, layout, peeling.fingerprints()))
    })
}

/// One place: how many numbers have it, and all of them xor-ed.
#[derive(Clone, Copy, Default)]
struct Place {
    numbers: u64,
    count: u32,
}

/// The search for an order in which each number, when it is taken out, has a place alone.
struct Peeling {
    layout: Layout,
    places: Vec<Place>,
    alone: Vec<u32>,
    /// Numbers in the order in which they were taken out, each with its place.
    order: Vec<(u64, u32)>,
}

impl Peeling {
    fn new(layout: Layout, count: usize) -> Self {
        Self {
            layout,
            places: vec![Place::default(); layout.size()],
            alone: Vec::with_capacity(layout.size()),
            order: Vec::with_capacity(count),
        }
    }

    /// Does the seed give an order?
    fn peel(&mut self, numbers: &[u64], seed: u64) -> bool {
        self.places.fill(Place::default());
        self.alone.clear();
        self.order.clear();
        for &number in numbers {
            let hash = seeded(number, seed);
            for place in self.layout.places(hash) {
                let place = &mut self.places[place];
                place.numbers ^= hash;
                place.count += 1;
            }
        }
        let alone = (0_u32..).zip(&self.places).filter(|(_, place)| place.count == 1);
        self.alone.extend(alone.map(|(index, _)| index));
        while let Some(index) = self.alone.pop() {
            let Place { numbers: hash, count: 1 } = self.places[index as usize] else {
                continue;
            };
            self.order.push((hash, index));
            for place in self.layout.places(hash) {
                let at = &mut self.places[place];
                at.numbers ^= hash;
                at.count -= 1;
                if at.count == 1 {
                    self.alone.push(place as u32);
                }
            }
        }
        self.order.len() == numbers.len()
    }

    /// Each number sets the place that it had alone, the last taken out first: what is set later
    /// changes none of those before.
    fn fingerprints(&self) -> Vec<u8> {
        let mut octets = vec![0; self.layout.size()];
        for &(hash, index) in self.order.iter().rev() {
            let others = self.layout.places(hash).map(|place| octets[place]);
            // The place itself is still zero.
            octets[index as usize] = others.iter().fold(fingerprint(hash), |all, it| all ^ it);
        }
        octets
    }
}

impl<'a> Filter<'a> {
    /// Reads what `encode` wrote; none if these octets are none.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        match reader.u32()? {
            LIST => {
                let count = reader.u32()? as usize;
                let halves = reader.rest();
                (count <= LISTED_MAX && halves.len() == 4 * count).then_some(Self::List(halves))
            }
            FUSE => {
                let layout = Layout { segment_bits: reader.u32()?, first_segments: reader.u32()? };
                let seed = reader.u64()?;
                let fingerprints = reader.rest();
                let is_whole = layout.segment_bits <= SEGMENT_BITS_MAX
                    && layout.first_segments >= 1
                    && fingerprints.len() <= FILTER_SIZE_MAX
                    && fingerprints.len() == layout.size();
                is_whole.then_some(Self::Fuse(Fuse { seed, layout, fingerprints }))
            }
            EVERYTHING => reader.rest().is_empty().then_some(Self::Everything),
            _ => None,
        }
    }

    /// May the number be in the set? No is certain.
    #[must_use]
    pub fn may_hold(&self, number: u64) -> bool {
        match self {
            Self::List(halves) => {
                let (halves, _) = halves.as_chunks::<4>();
                let half = (number >> 32) as u32;
                halves.binary_search_by_key(&half, |octets| u32::from_le_bytes(*octets)).is_ok()
            }
            Self::Fuse(fuse) => {
                let hash = seeded(number, fuse.seed);
                let octets = fuse.layout.places(hash).map(|place| fuse.fingerprints[place]);
                octets.iter().fold(fingerprint(hash), |all, octet| all ^ octet) == 0
            }
            Self::Everything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn spread(count: u64, salt: u64) -> Vec<u64> {
        (0..count).map(|number| mix(number ^ salt << 40)).collect()
    }

    fn encoded(numbers: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(numbers.to_vec(), &mut bytes);
        bytes
    }

    #[test]
    fn no_number_of_the_set_is_denied_whatever_its_size() {
        for count in (0..300).chain([1_000, 4_095, 4_096, 20_000, 131_072, 700_000]) {
            let numbers = spread(count, 1);
            let bytes = encoded(&numbers);
            let filter = Filter::decode(&bytes).unwrap();
            assert!(filter != Filter::Everything, "{count}");
            assert!(numbers.iter().all(|&number| filter.may_hold(number)), "{count}");
        }
    }

    #[test]
    fn strangers_pass_once_in_256_and_a_number_takes_nine_bits() {
        for (count, bits_max) in [(1_000, 16.5), (20_000, 11.0), (300_000, 9.7)] {
            let numbers = spread(count, 2);
            let bytes = encoded(&numbers);
            let filter = Filter::decode(&bytes).unwrap();
            let strangers = spread(200_000, 3);
            let passed = strangers.iter().filter(|&&number| filter.may_hold(number)).count();
            assert!((600..1_000).contains(&passed), "{passed} of 200,000 passed");
            let bits = bytes.len() as f64 * 8.0 / count as f64;
            assert!(bits <= bits_max, "{bits} bits a number of {count}");
        }
        let listed = encoded(&spread(LISTED_MAX as u64, 2));
        let filter = Filter::decode(&listed).unwrap();
        assert!(!spread(200_000, 3).into_iter().any(|number| filter.may_hold(number)));
    }

    #[test]
    fn the_same_set_gives_the_same_octets_in_whatever_order_it_came() {
        let mut numbers = spread(5_000, 4);
        let bytes = encoded(&numbers);
        numbers.reverse();
        numbers.extend_from_within(..100);
        assert_eq!(encoded(&numbers), bytes);
    }

    #[test]
    fn numbers_that_cannot_be_told_apart_end_the_search() {
        // In the first seed all share their places; the next ones part them.
        let numbers: Vec<u64> = (0..1_000).map(|number| number << 36).collect();
        let bytes = encoded(&numbers);
        let filter = Filter::decode(&bytes).unwrap();
        assert!(numbers.iter().all(|&number| filter.may_hold(number)));
    }

    proptest! {
        #[test]
        fn octets_from_anywhere_are_no_filter_or_one_that_answers(
            bytes in vec(any::<u8>(), 0..200), cut in 0_usize..400, flip in 0_usize..400,
            count in 0_u64..200, kind in 0_u32..5,
        ) {
            let mut whole = encoded(&spread(count, 5));
            let flip = flip % whole.len();
            whole[flip] ^= 0x41;
            whole.truncate(cut.max(1));
            let tagged = [&kind.to_le_bytes()[..], &bytes].concat();
            for bytes in [&bytes, &whole, &tagged] {
                if let Some(filter) = Filter::decode(bytes) {
                    for number in spread(50, 6) {
                        std::hint::black_box(filter.may_hold(number));
                    }
                }
            }
        }
    }
}
