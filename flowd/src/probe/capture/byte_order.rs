//! Numbers in the byte order of the host that wrote the file.

/// Which octet of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// The greatest.
    Big,
    /// The least.
    Little,
}

impl ByteOrder {
    /// Two octets as a number.
    pub(super) const fn u16(self, octets: [u8; 2]) -> u16 {
        match self {
            Self::Big => u16::from_be_bytes(octets),
            Self::Little => u16::from_le_bytes(octets),
        }
    }

    /// Four octets as a number.
    pub(super) const fn u32(self, octets: [u8; 4]) -> u32 {
        match self {
            Self::Big => u32::from_be_bytes(octets),
            Self::Little => u32::from_le_bytes(octets),
        }
    }

    /// Eight octets as a signed number.
    pub(super) const fn i64(self, octets: [u8; 8]) -> i64 {
        match self {
            Self::Big => i64::from_be_bytes(octets),
            Self::Little => i64::from_le_bytes(octets),
        }
    }
}

/// `N` octets of a file from `offset` on.
#[inline]
pub(super) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// A size in a file as a size in memory.
pub(super) fn size(octets: u32) -> usize {
    usize::try_from(octets).unwrap_or(usize::MAX)
}
