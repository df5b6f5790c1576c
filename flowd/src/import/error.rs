//! Why a file, or the rest of it, cannot be imported.

use std::io;

/// Why a file, or the rest of it, cannot be imported. None names the file: the caller knows it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The system cannot read it.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is of another kind.
    #[error("is no file of nfdump")]
    NotNfdump,
    /// A machine of the other byte order wrote it.
    #[error(
        "was written by a machine of the other byte order; read it there with `nfdump -o json`"
    )]
    ByteOrder,
    /// A layout that is not read.
    #[error("has layout {0}; layouts 1 (nfdump 1.6) and 2 (nfdump 1.7) are read")]
    Layout(u16),
    /// It is encrypted.
    #[error("is encrypted; decrypt it first")]
    Encrypted,
    /// It is compressed in a way that is not read.
    #[error("is compressed in an unknown way ({0})")]
    Compression(u8),
    /// What follows is damaged or missing.
    #[error("is damaged at offset {offset}: {what}")]
    Damaged {
        /// Where in the file: the block that the damage is in, or its own place.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
}
