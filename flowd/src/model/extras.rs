//! A record's extras: the values, one after another, of the elements that have no column.

use super::shape::{ExtraSpec, VARIABLE_LENGTH, split_variable};

/// Walks the extras of one record: pairs of what the element is and its value.
///
/// Ends early if the bytes are shorter than the specs ask for.
#[derive(Clone, Debug)]
pub struct ExtraFields<'a> {
    specs: std::slice::Iter<'a, ExtraSpec>,
    bytes: &'a [u8],
}

impl<'a> ExtraFields<'a> {
    /// Starts at the record's first extra.
    #[must_use]
    pub fn new(specs: &'a [ExtraSpec], bytes: &'a [u8]) -> Self {
        Self { specs: specs.iter(), bytes }
    }
}

impl<'a> Iterator for ExtraFields<'a> {
    type Item = (&'a ExtraSpec, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let spec = self.specs.next()?;
        let (value, rest) = match spec.length {
            VARIABLE_LENGTH => split_variable(self.bytes)?,
            size => self.bytes.split_at_checked(usize::from(size))?,
        };
        self.bytes = rest;
        Some((spec, value))
    }
}

/// Octets that the extras of one record take of `bytes`, where the next record's begin.
/// None if `bytes` is too short for them.
#[must_use]
pub fn extras_size(specs: &[ExtraSpec], bytes: &[u8]) -> Option<usize> {
    let mut fields = ExtraFields::new(specs, bytes);
    for _ in specs {
        fields.next()?;
    }
    bytes.len().checked_sub(fields.bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(length: u16) -> ExtraSpec {
        ExtraSpec { enterprise: 9, id: 1, length }
    }

    #[test]
    fn reads_fixed_and_variable_values() {
        let specs = [spec(2), spec(VARIABLE_LENGTH), spec(VARIABLE_LENGTH)];
        let bytes = [1, 2, 1, 7, 255, 0, 3, 4, 5, 6, 99];
        let values: Vec<_> = ExtraFields::new(&specs, &bytes).map(|(_, value)| value).collect();
        assert_eq!(values, [&[1, 2][..], &[7], &[4, 5, 6]]);
        assert_eq!(extras_size(&specs, &bytes), Some(10));
    }

    #[test]
    fn stops_where_the_bytes_end() {
        assert_eq!(extras_size(&[spec(4)], &[1, 2, 3]), None);
        assert_eq!(extras_size(&[spec(VARIABLE_LENGTH)], &[255, 0]), None);
        assert_eq!(ExtraFields::new(&[spec(4)], &[1]).count(), 0);
    }
}
