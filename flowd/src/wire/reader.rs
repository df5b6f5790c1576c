//! Reader: takes octets off the front of a slice, and never reads past its end.

use super::WireError;

/// Octets that are yet to be read.
///
/// ```
/// use flowd::wire::Reader;
/// let mut reader = Reader::new(&[0, 9, 7]);
/// assert_eq!(reader.u16(), Ok(9));
/// assert_eq!(reader.u8(), Ok(7));
/// assert!(reader.u8().is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first octet.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many octets are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.bytes.len()
    }

    /// Is nothing left?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All octets that are left, without taking them.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Takes `size` octets.
    ///
    /// # Errors
    /// If fewer are left; nothing is taken then.
    pub fn take(&mut self, size: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) =
            self.bytes.split_at_checked(size).ok_or_else(|| self.truncated(size))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// Takes `N` octets as an array.
    ///
    /// # Errors
    /// If fewer are left; nothing is taken then.
    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or_else(|| self.truncated(N))?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// Takes `size` octets as a reader of their own.
    ///
    /// # Errors
    /// If fewer are left; nothing is taken then.
    pub fn sub(&mut self, size: usize) -> Result<Self, WireError> {
        self.take(size).map(Self::new)
    }

    /// Takes an octet.
    ///
    /// # Errors
    /// If none is left.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.take_array().map(u8::from_be_bytes)
    }

    /// Takes a number of two octets.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.take_array().map(u16::from_be_bytes)
    }

    /// Takes a number of four octets.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.take_array().map(u32::from_be_bytes)
    }

    /// Takes a number of eight octets.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.take_array().map(u64::from_be_bytes)
    }

    const fn truncated(&self, needed: usize) -> WireError {
        WireError::Truncated { needed, left: self.bytes.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_of_every_width() {
        let bytes: Vec<u8> = (1..=15).collect();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u8(), Ok(0x01));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u32(), Ok(0x0405_0607));
        assert_eq!(reader.u64(), Ok(0x0809_0a0b_0c0d_0e0f));
        assert!(reader.is_empty());
    }

    #[test]
    fn takes_nothing_when_too_little_is_left() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32(), Err(WireError::Truncated { needed: 4, left: 3 }));
        assert!(reader.sub(4).is_err());
        assert_eq!(reader.rest(), [1, 2, 3]);
        let mut sub = reader.sub(2).unwrap();
        assert_eq!(sub.u16(), Ok(0x0102));
        assert!(sub.u8().is_err());
        assert_eq!(reader.left(), 1);
    }
}
