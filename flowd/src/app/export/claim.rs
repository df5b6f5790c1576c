//! One exporter an interface and network namespace: an abstract socket that the kernel lets only
//! one process hold, and takes back when that process ends, however it does.

#![expect(unsafe_code, reason = "std has no stable name for a peer's credentials")]

use anyhow::{Context, Result, bail};
use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// The right to meter an interface, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    listener: UnixListener,
}

impl Claim {
    /// Claims an interface. Abstract names are apart in each network namespace, as the numbers
    /// of interfaces are.
    pub(super) fn new(index: u32, name: &str) -> Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("flowd-export-{index}"))?;
        match UnixListener::bind_addr(&address) {
            Ok(listener) => {
                listener.set_nonblocking(true).context("claim an interface")?;
                Ok(Self { listener })
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let holder = UnixStream::connect_addr(&address).and_then(|it| peer_id(&it));
                let holder =
                    holder.map_or_else(|_| "another process".into(), |id| format!("process {id}"));
                bail!(
                    "{name} is metered by {holder} already; end that one, or choose another interface"
                )
            }
            Err(error) => Err(error).with_context(|| format!("claim {name}")),
        }
    }

    /// Lets go of those who asked who holds it: a queue of them that is full would make the next
    /// one wait.
    pub(super) fn tend(&self) {
        while self.listener.accept().is_ok() {}
    }
}

/// The id of the process at the other end.
fn peer_id(stream: &UnixStream) -> io::Result<i32> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` octets, which is what `credentials` has.
    let outcome = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut size,
        )
    };
    match (outcome, credentials.pid) {
        (0, 1..) => Ok(credentials.pid),
        // A process that cannot be seen from this process namespace has the id 0.
        (0, _) => Err(io::ErrorKind::NotFound.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_claimed_once_and_free_again_afterwards() {
        // No interface has this number.
        let index = u32::MAX - std::process::id();
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
}
