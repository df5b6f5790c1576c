//! What the collector knows of its exporters beyond its own life: small files in the store's
//! directory, each replaced as a whole, with a version and a checksum.
//!
//! Files are not synced: they survive the process being killed. After a power cut one may be
//! damaged, which its checksum tells; then it is put aside and what it held is learned anew.

use crate::model::{ObservationDomainId, Origin, Protocol};
use crate::wire::{Reader, Writer};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Octets of a file that are read at most: more than any store writes.
const FILE_SIZE_MAX: u64 = 1 << 30;
/// Octets of the mark and the checksum before the body.
const HEADER_SIZE: usize = 16;

/// Eight octets that a file begins with: what it is, and the version of its format.
pub(super) type Mark = [u8; 8];

/// Writes a file beside the one of that name and renames it to it, so that whoever opens the
/// name finds the old file or the new one, whole, at any time. What `write` gives is handed on.
///
/// Nothing is synced: the file survives the process being killed, and not every power cut.
///
/// # Errors
/// If the new file cannot be written; the old one stays then.
pub fn replace_file<T>(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<T>,
) -> io::Result<T> {
    let new = beside(path, "new");
    let written = write(&mut File::create(&new)?)?;
    fs::rename(&new, path)?;
    Ok(written)
}

/// Replaces a file by one with this mark and body.
pub(super) fn replace(path: &Path, mark: Mark, body: &[u8]) -> io::Result<()> {
    replace_file(path, |file| {
        file.write_all(&mark)?;
        file.write_all(&xxh3_64(body).to_be_bytes())?;
        file.write_all(body)
    })
}

/// The body of a file; none if there is no file, or if it cannot be used, which is said.
pub(super) fn read(path: &Path, mark: Mark) -> Option<Vec<u8>> {
    let octets = read_octets(path)?;
    let mut reader = Reader::new(&octets);
    let found = reader.take_array::<8>().ok();
    if found != Some(mark) {
        put_aside(path, "it is of another version, or no such file at all");
        return None;
    }
    if reader.u64() != Ok(xxh3_64(reader.rest())) {
        put_aside(path, "its checksum does not hold");
        return None;
    }
    octets.get(HEADER_SIZE..).map(<[u8]>::to_vec)
}

/// All octets of a file; none if there is none, or if it cannot be read, which is said.
pub(super) fn read_octets(path: &Path) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let outcome = File::open(path)
        .and_then(|file| file.take(FILE_SIZE_MAX.saturating_add(1)).read_to_end(&mut octets));
    match outcome {
        Ok(_) if u64::try_from(octets.len()).is_ok_and(|size| size <= FILE_SIZE_MAX) => {
            Some(octets)
        }
        Ok(_) => {
            put_aside(path, "it is larger than any that is written");
            None
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            put_aside(path, &error.to_string());
            None
        }
    }
}

/// Says why a file cannot be used, and keeps it under another name.
pub(super) fn put_aside(path: &Path, why: &str) {
    let aside = beside(path, "damaged");
    let file = path.display();
    match fs::rename(path, &aside) {
        Ok(()) => {
            let aside = aside.display();
            tracing::warn!(%file, why, kept = %aside, "a file cannot be used: going on without it");
        }
        Err(error) => {
            tracing::warn!(
                %file, why, %error,
                "a file cannot be used, nor be put aside: going on without it, and replacing it; \
                 let this user read and write the store's directory"
            );
        }
    }
}

/// The path with one more extension.
pub(super) fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

pub(super) fn write_origin(writer: &mut Writer, origin: &Origin) {
    let Origin { address, domain: ObservationDomainId(domain), protocol } = *origin;
    write_address(writer, address);
    writer.u32(domain);
    writer.u8(number(protocol));
}

pub(super) fn read_origin(reader: &mut Reader<'_>) -> Option<Origin> {
    let address = read_address(reader)?;
    let domain = ObservationDomainId(reader.u32().ok()?);
    let protocol = Protocol::from_number(reader.u8().ok()?)?;
    Some(Origin { address, domain, protocol })
}

/// An IPv4 address in its IPv6-mapped form, which no exporter's address has otherwise.
fn write_address(writer: &mut Writer, address: IpAddr) {
    let octets = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    writer.bytes(&octets);
}

fn read_address(reader: &mut Reader<'_>) -> Option<IpAddr> {
    let octets = reader.take_array::<16>().ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
}

#[expect(clippy::as_conversions, reason = "the number is the variant's own")]
const fn number(protocol: Protocol) -> u8 {
    protocol as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = *b"testing1";

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert_eq!(read(&path, MARK), None);
        for body in [&b"first"[..], b"", b"third"] {
            replace(&path, MARK, body).unwrap();
            assert_eq!(read(&path, MARK).as_deref(), Some(body));
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, MARK, b"old").unwrap();
        let half = replace_file(&path, |file| {
            file.write_all(b"half")?;
            Err::<(), _>(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(half.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(read(&path, MARK).as_deref(), Some(&b"old"[..]));
        replace(&path, MARK, b"new").unwrap();
        assert_eq!(read(&path, MARK).as_deref(), Some(&b"new"[..]));
    }

    #[test]
    fn a_damaged_or_unknown_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, MARK, b"some octets").unwrap();
        let whole = fs::read(&path).unwrap();
        for (at, _) in whole.iter().enumerate() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(read(&path, MARK), None, "octet {at}");
            assert!(!path.exists());
            assert_eq!(fs::read(beside(&path, "damaged")).unwrap(), damaged);
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(read(&path, MARK), None, "cut at {at}");
        }
        replace(&path, *b"testing2", b"some octets").unwrap();
        assert_eq!(read(&path, MARK), None);
    }

    #[test]
    fn origins_of_both_families_come_back() {
        for address in ["192.0.2.1", "2001:db8::1", "::", "0.0.0.0"] {
            let origin = Origin {
                address: address.parse().unwrap(),
                domain: ObservationDomainId(u32::MAX),
                protocol: Protocol::Ipfix,
            };
            let mut writer = Writer::default();
            write_origin(&mut writer, &origin);
            let mut reader = Reader::new(writer.as_bytes());
            assert_eq!(read_origin(&mut reader), Some(origin));
            assert!(reader.is_empty());
        }
    }
}
