//! What can be wrong with a capture file.

use std::path::PathBuf;

/// Why a capture could not be read, or not further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The file could not be opened or mapped.
    #[error("cannot read {}: {source}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A pipe, a device or a directory.
    #[error("{} is not a regular file: save the capture to a file first", path.display())]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// There is nothing in it.
    #[error("the file is empty: not even a capture's header was written")]
    Empty,
    /// A compressed file.
    #[error("the file is compressed with {with}: decompress it first ({remedy})")]
    Compressed {
        /// With what.
        with: &'static str,
        /// The command that undoes it.
        remedy: &'static str,
    },
    /// Another format.
    #[error(
        "neither pcap nor pcapng (it begins with {magic:08x}): \
         convert it with `editcap -F pcapng IN OUT`"
    )]
    UnknownFormat {
        /// Its first four octets.
        magic: u32,
    },
    /// A pcap of a version that nobody writes.
    #[error("pcap version {major}.{minor} is not read: 2.x is")]
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// The file is cut or damaged.
    #[error("damaged at byte {offset}: {damage}; what precedes it was read")]
    Damaged {
        /// Where the record or block begins that could not be read.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
}

/// What is wrong at one place of a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file ends within a header.
    #[error("a header of {size} octets is cut, {left} are left")]
    HeaderCut {
        /// What the header takes.
        size: usize,
        /// What is there.
        left: usize,
    },
    /// The file ends within a packet.
    #[error("a packet of {size} octets is cut, {left} are left")]
    PacketCut {
        /// What the packet claims.
        size: usize,
        /// What is there.
        left: usize,
    },
    /// The file ends within a block.
    #[error("a block of {size} octets is cut, {left} are left")]
    BlockCut {
        /// What the block claims.
        size: usize,
        /// What is there.
        left: usize,
    },
    /// A packet longer than any is.
    #[error("a packet claims {size} octets, more than the limit of {size_max}")]
    PacketTooLong {
        /// What it claims.
        size: u32,
        /// The limit.
        size_max: u32,
    },
    /// A block length that no block of its type can have.
    #[error("a block of type {block_type:#x} claims {size} octets, which none can have")]
    BlockSize {
        /// Its type.
        block_type: u32,
        /// What it claims.
        size: u32,
    },
    /// The length before a block differs from the one behind it.
    #[error("a block's length is {leading} before it and {trailing} behind it")]
    BlockSizesDiffer {
        /// The first.
        leading: u32,
        /// The second.
        trailing: u32,
    },
    /// A packet longer than the block that holds it.
    #[error("a packet claims {size} octets, its block holds {left}")]
    PacketBeyondBlock {
        /// What the packet claims.
        size: usize,
        /// What the block has room for.
        left: usize,
    },
    /// A section header whose byte-order magic is neither way round.
    #[error("a section's byte-order magic is {magic:08x}")]
    ByteOrderMagic {
        /// What stands there.
        magic: u32,
    },
    /// A section of a version that does not exist.
    #[error("a section has version {major}.{minor}, 1.x is read")]
    SectionVersion {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// A packet of an interface that the section did not describe.
    #[error(
        "a packet was captured on interface {interface}, of {count} that the section describes"
    )]
    UnknownInterface {
        /// Its number.
        interface: u32,
        /// How many there are.
        count: usize,
    },
    /// More interfaces than are kept.
    #[error("more than {count_max} interfaces")]
    TooManyInterfaces {
        /// The limit.
        count_max: u32,
    },
}

impl CaptureError {
    /// What a file is that is neither pcap nor pcapng.
    pub(super) fn unknown_format(bytes: &[u8]) -> Self {
        let compressed = |with, remedy| Self::Compressed { with, remedy };
        match bytes {
            [] => Self::Empty,
            [0x1f, 0x8b, ..] => compressed("gzip", "gunzip -k FILE"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => compressed("zstd", "unzstd FILE"),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => compressed("xz", "unxz -k FILE"),
            [b'B', b'Z', b'h', ..] => compressed("bzip2", "bunzip2 -k FILE"),
            [0x04, 0x22, 0x4d, 0x18, ..] => compressed("lz4", "unlz4 FILE"),
            &[a, b, c, d, ..] => Self::UnknownFormat { magic: u32::from_be_bytes([a, b, c, d]) },
            short => Self::damaged(0, Damage::HeaderCut { size: 4, left: short.len() }),
        }
    }

    /// Damage at a place.
    pub(super) fn damaged(offset: usize, damage: Damage) -> Self {
        Self::Damaged { offset: u64::try_from(offset).unwrap_or(u64::MAX), damage }
    }
}
