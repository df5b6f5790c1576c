//! Sorting of many numbers by their bits, without comparing them.

/// Sorts numbers by some of their bits, a digit at a time from the lowest one; what is alike in
/// these bits stays in the order in which it came. `spare` is used for copies.
pub(super) fn sort_by_bits<T: Copy + Default>(
    numbers: &mut Vec<T>,
    spare: &mut Vec<T>,
    digits: u32,
    bits: impl Fn(T) -> u64,
) {
    spare.clear();
    spare.resize(numbers.len(), T::default());
    for digit in 0..digits {
        let shift = digit * DIGIT_BITS;
        let place = |number| (bits(number) >> shift) as usize % DIGITS;
        let mut ends = [0_usize; DIGITS];
        numbers.iter().for_each(|&number| ends[place(number)] += 1);
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        for &number in &*numbers {
            let at = &mut ends[place(number)];
            spare[*at] = number;
            *at += 1;
        }
        std::mem::swap(numbers, spare);
    }
}

/// Bits of a digit: so many that a line of cache for each value of it fits the first cache.
pub(super) const DIGIT_BITS: u32 = 11;
const DIGITS: usize = 1 << DIGIT_BITS;

/// Sorts numbers that are spread over all 64 bits, and leaves one of each.
pub(super) fn sort_spread(numbers: &mut Vec<u64>) {
    const SORTED_AT_ONCE_MAX: usize = 1 << 12;
    if numbers.len() <= SORTED_AT_ONCE_MAX {
        numbers.sort_unstable();
    } else {
        // By the upper bits, that hardly two have in common; then those few.
        const UPPER: u32 = 64 - 2 * DIGIT_BITS;
        sort_by_bits(numbers, &mut Vec::new(), 2, |number| number >> UPPER);
        let alike = numbers.chunk_by_mut(|one, other| one >> UPPER == other >> UPPER);
        alike.filter(|numbers| numbers.len() > 1).for_each(<[u64]>::sort_unstable);
    }
    numbers.dedup();
}

#[cfg(test)]
mod tests {
    use super::super::key::mix;
    use super::*;

    #[test]
    fn numbers_are_sorted_once_each_whether_they_are_spread_or_not() {
        for (count, shift) in [(0, 0), (100, 0), (5_000, 0), (60_000, 0), (60_000, 50)] {
            let mut numbers: Vec<u64> = (0..count).map(|n| mix(n / 2) >> shift).collect();
            let mut expected = numbers.clone();
            expected.sort_unstable();
            expected.dedup();
            sort_spread(&mut numbers);
            assert_eq!(numbers, expected, "{count} numbers of {} bits", 64 - shift);
        }
    }

    #[test]
    fn what_is_alike_in_the_bits_keeps_its_order() {
        let mut pairs: Vec<(u32, u32)> = (0..50_000).map(|n| (mix(n) as u32, n as u32)).collect();
        pairs.extend_from_within(..10_000);
        (0..).zip(&mut pairs).for_each(|(place, pair)| pair.1 = place);
        let mut expected = pairs.clone();
        expected.sort_by_key(|pair| pair.0);
        sort_by_bits(&mut pairs, &mut Vec::new(), 3, |pair| pair.0.into());
        assert_eq!(pairs, expected);
    }
}
