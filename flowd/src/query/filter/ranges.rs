//! Ranges: a set of numbers, times or addresses as sorted ranges that do not touch.

use super::super::columns::bits;
use arrow_buffer::BooleanBuffer;

/// A set of values as sorted ranges, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges<T>(Vec<(T, T)>);

impl<T: Copy + Ord> Ranges<T> {
    /// The union of ranges in any order.
    pub(super) fn new(mut ranges: Vec<(T, T)>) -> Self {
        ranges.retain(|(first, last)| first <= last);
        ranges.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, before)) if first <= *before => *before = last.max(*before),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, value: T) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= value);
        after
            .checked_sub(1)
            .and_then(|before| self.0.get(before))
            .is_some_and(|&(_, last)| value <= last)
    }

    /// Those ranges, or parts of them, that lie in a narrower type.
    pub(super) fn narrowed<N: Copy + Ord + TryFrom<T>>(&self, least: N, most: N) -> Ranges<N>
    where
        T: From<N>,
    {
        let (low, high) = (T::from(least), T::from(most));
        let parts = self.0.iter().filter(|(first, last)| *first <= high && *last >= low);
        let part = |(first, last): &(T, T)| {
            let first = N::try_from((*first).max(low)).unwrap_or(least);
            let last = N::try_from((*last).min(high)).unwrap_or(most);
            (first, last)
        };
        Ranges(parts.map(part).collect())
    }

    /// A bit a value: is it in the set?
    pub(super) fn select(&self, values: &[T]) -> BooleanBuffer {
        match self.0.as_slice() {
            [] => BooleanBuffer::new_unset(values.len()),
            &[(first, last)] if first == last => bits(values, |value| value == first),
            &[(first, last)] => bits(values, |value| value >= first && value <= last),
            &[(a, b), (c, d)] => {
                bits(values, |value| value >= a && value <= b || value >= c && value <= d)
            }
            _ => bits(values, |value| self.contains(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_and_searched() {
        let ranges = Ranges::new(vec![(50_u64, 60), (1, 5), (4, 9), (70, 65), (55, 55)]);
        assert_eq!(ranges.0, [(1, 9), (50, 60)]);
        for value in 0..80 {
            let expected = (1..=9).contains(&value) || (50..=60).contains(&value);
            assert_eq!(ranges.contains(value), expected, "{value}");
        }
    }

    #[test]
    fn selecting_agrees_with_searching() {
        let values: Vec<u64> = (0..200).collect();
        for set in [
            vec![],
            vec![(3, 3)],
            vec![(3, 130)],
            vec![(0, 3), (190, 1_000)],
            vec![(1, 2), (4, 5), (64, 128)],
        ] {
            let ranges = Ranges::new(set);
            let selected = ranges.select(&values);
            for &value in &values {
                let row = usize::try_from(value).unwrap();
                assert_eq!(selected.value(row), ranges.contains(value), "{ranges:?} {value}");
            }
        }
    }

    #[test]
    fn narrowing_cuts_what_does_not_fit() {
        let ranges = Ranges::new(vec![(10_u64, 20), (250, 300), (1_000, 2_000)]);
        assert_eq!(ranges.narrowed(0, u8::MAX).0, [(10, 20), (250, 255)]);
        assert_eq!(ranges.narrowed(0, u16::MAX).0, [(10, 20), (250, 300), (1_000, 2_000)]);
    }
}
