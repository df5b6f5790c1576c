//! One exporter an interface and network namespace: an abstract socket that the kernel lets only
//! one process hold, and takes back when that process ends, however it does.
//!
//! Abstract names are free to everybody: one that a stranger holds, neither root nor of our user,
//! is no exporter's and keeps nobody from metering.

#![expect(unsafe_code, reason = "std has no names for peers' credentials and connects that block")]

use anyhow::{Context, Result, bail};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use tracing::warn;

/// The right to meter an interface, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    /// None if a stranger has taken the name.
    listener: Option<UnixListener>,
}

impl Claim {
    /// Claims an interface. Abstract names are apart in each network namespace, as the numbers
    /// of interfaces are.
    pub(super) fn new(index: u32, name: &str) -> Result<Self> {
        // SAFETY: it takes nothing, changes nothing and cannot fail.
        let own = unsafe { libc::geteuid() };
        Self::among(&[0, own], index, name)
    }

    /// Claims an interface among exporters of these users.
    fn among(users: &[u32], index: u32, name: &str) -> Result<Self> {
        let abstract_name = format!("flowd-export-{index}");
        let address = SocketAddr::from_abstract_name(&abstract_name)?;
        match UnixListener::bind_addr(&address) {
            Ok(listener) => {
                listener.set_nonblocking(true).context("claim an interface")?;
                return Ok(Self { listener: Some(listener) });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).with_context(|| format!("claim {name}")),
        }
        match holder(&abstract_name) {
            Ok(libc::ucred { uid, pid, .. }) if users.contains(&uid) => {
                // A process that cannot be seen from this process namespace has the id 0.
                let holder =
                    if pid > 0 { format!("process {pid}") } else { "another process".into() };
                bail!(
                    "{name} is metered by {holder} already; end that one, or choose another \
                     interface"
                )
            }
            Ok(libc::ucred { uid, pid, .. }) => warn!(
                interface = name,
                process = pid,
                user = uid,
                "a process of another user holds {abstract_name}, by which exporters keep off each \
                 other; metering goes on without it"
            ),
            Err(error) => warn!(
                interface = name,
                reason = %error,
                "whoever holds {abstract_name}, by which exporters keep off each other, does not \
                 answer as they do; metering goes on without it"
            ),
        }
        Ok(Self { listener: None })
    }

    /// Lets go of those who asked who holds it: a queue of them that is full would turn the next
    /// one away.
    pub(super) fn tend(&self) {
        while self.listener.as_ref().is_some_and(|it| it.accept().is_ok()) {}
    }
}

/// The process that listens at an abstract name, and its user, as it began to listen. It does not
/// wait: a stranger may leave its queue full for ever.
fn holder(abstract_name: &str) -> io::Result<libc::ucred> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: it takes no memory of ours.
    let number = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this number to us, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or(0);
    let mut address = libc::sockaddr_un { sun_family: family, sun_path: [0; 108] };
    // An abstract name begins with NUL, and ends where the address does.
    for (place, octet) in address.sun_path.iter_mut().skip(1).zip(abstract_name.bytes()) {
        *place = libc::c_char::from_ne_bytes([octet]);
    }
    let size = offset_of!(libc::sockaddr_un, sun_path) + 1 + abstract_name.len();
    let size = size_of::<libc::sockaddr_un>().min(size);
    // SAFETY: `address` has at least `size` octets, and the kernel copies them.
    let outcome =
        unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length(size)) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = length(size_of::<libc::ucred>());
    // SAFETY: the kernel writes at most `size` octets, which is what `credentials` has.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut size,
        )
    };
    if outcome == 0 { Ok(credentials) } else { Err(io::Error::last_os_error()) }
}

fn length(size: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No interface has this number.
    fn index(place: u32) -> u32 {
        u32::MAX - std::process::id() * 4 - place
    }

    #[test]
    fn an_interface_is_claimed_once_and_free_again_afterwards() {
        let index = index(0);
        let claim = Claim::new(index, "eth7").unwrap();
        for _ in 0..300 {
            let error = Claim::new(index, "eth7").unwrap_err().to_string();
            assert!(error.contains("eth7"), "{error}");
            assert!(error.contains(&std::process::id().to_string()), "{error}");
            claim.tend();
        }
        drop(claim);
        Claim::new(index, "eth7").unwrap();
    }

    #[test]
    fn what_a_stranger_holds_keeps_nobody_off() {
        let index = index(1);
        let holder = Claim::new(index, "eth7").unwrap();
        // To exporters of another user, this process is a stranger.
        let others = [u32::MAX - 1];
        let claim = Claim::among(&others, index, "eth7").unwrap();
        assert!(claim.listener.is_none());
        claim.tend();
        drop(holder);
        assert!(Claim::among(&others, index, "eth7").unwrap().listener.is_some());
    }

    #[test]
    fn a_stranger_who_answers_nobody_is_not_waited_for() {
        let index = index(2);
        let _stranger = Claim::new(index, "eth7").unwrap();
        // Those who asked stay in the queue although they are gone.
        let is_full = |_| holder(&format!("flowd-export-{index}")).is_err();
        assert!((0..100_000).any(is_full));
        assert!(Claim::new(index, "eth7").unwrap().listener.is_none());
    }
}
