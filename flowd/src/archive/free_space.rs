//! FreeSpace: how much room a file system has left.

#![expect(unsafe_code, reason = "std has no name for statvfs")]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The room on a file system, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FreeSpace {
    /// What this user may still fill.
    pub(super) free: u64,
    /// All of it.
    pub(super) total: u64,
}

impl FreeSpace {
    /// The room on the file system that a path lies on.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: all its members are numbers or arrays of them, for which zero is a value.
        let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path ends in a zero, the kernel writes one structure of this type, and both
        // outlive the call.
        if unsafe { libc::statvfs(path.as_ptr(), &raw mut found) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_no_more_free_than_in_all() {
        let FreeSpace { free, total } = FreeSpace::at(Path::new("/")).unwrap();
        assert!(free <= total && total > 0);
        let missing = FreeSpace::at(Path::new("/no/such/directory")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
