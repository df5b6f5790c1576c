//! Memory that a round of datagrams is received into with one call.

#![expect(unsafe_code, reason = "recvmmsg is beyond std's UdpSocket")]

use super::socket::{from_sockaddr, size_of_sockaddr};
use libc::c_int;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Datagrams that one call takes from the kernel.
const ROUND_DATAGRAMS_MAX: usize = 64;
/// Octets a datagram has room for: more than UDP can carry.
pub(super) const SLOT_SIZE: usize = 65_536;

/// Whether a round waits for its first datagram.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// Until the socket's timeout.
    ForOne,
    No,
}

impl Wait {
    const fn flags(self) -> c_int {
        match self {
            Self::ForOne => libc::MSG_WAITFORONE,
            Self::No => libc::MSG_DONTWAIT,
        }
    }
}

/// Memory that datagrams are received into, reused in every round.
pub(super) struct Arena {
    slots: Box<[u8]>,
    senders: Box<[libc::sockaddr_storage]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: the pointers in `headers` lead into `slots` and `senders` of the same arena, and to
// I/O vectors that live no longer than one call; they are set anew in every round.
unsafe impl Send for Arena {}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena").finish_non_exhaustive()
    }
}

impl Arena {
    pub(super) fn new() -> Self {
        // SAFETY: both are plain structures of numbers and pointers, for which zero is a value.
        let (sender, header) = unsafe {
            (std::mem::zeroed::<libc::sockaddr_storage>(), std::mem::zeroed::<libc::mmsghdr>())
        };
        Self {
            slots: vec![0; ROUND_DATAGRAMS_MAX.saturating_mul(SLOT_SIZE)].into(),
            senders: vec![sender; ROUND_DATAGRAMS_MAX].into(),
            headers: vec![header; ROUND_DATAGRAMS_MAX].into(),
        }
    }

    /// Receives a round of datagrams; 0 if none came in time.
    pub(super) fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<usize> {
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: SLOT_SIZE };
            ROUND_DATAGRAMS_MAX];
        let slots = self.slots.chunks_exact_mut(SLOT_SIZE);
        let places = slots.zip(&mut self.senders).zip(&mut vectors);
        for (header, ((slot, sender), vector)) in self.headers.iter_mut().zip(places) {
            vector.iov_base = slot.as_mut_ptr().cast();
            header.msg_len = 0;
            header.msg_hdr.msg_flags = 0;
            header.msg_hdr.msg_name = std::ptr::from_mut(sender).cast();
            header.msg_hdr.msg_namelen = size_of_sockaddr::<libc::sockaddr_storage>();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        let count = libc::c_uint::try_from(self.headers.len()).unwrap_or(0);
        // SAFETY: `headers` holds `count` headers. Each names a sender's place of the length that
        // it says, and one I/O vector over a slot of SLOT_SIZE octets; all of them outlive the
        // call, and nothing else refers to them meanwhile.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                wait.flags(),
                std::ptr::null_mut(),
            )
        };
        match usize::try_from(received) {
            Ok(received) => Ok(received),
            Err(_) => match io::Error::last_os_error() {
                error
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    Ok(0)
                }
                error => Err(error),
            },
        }
    }

    /// The datagrams of a round with their senders; none for one that was cut short.
    pub(super) fn datagrams(
        &self,
        count: usize,
    ) -> impl Iterator<Item = Option<(&[u8], SocketAddr)>> {
        let slots = self.slots.chunks_exact(SLOT_SIZE);
        let places = slots.zip(&self.senders).zip(&self.headers);
        places.take(count).map(|((slot, sender), header)| {
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                return None;
            }
            let octets = slot.get(..usize::try_from(header.msg_len).ok()?)?;
            Some((octets, from_sockaddr(sender)?))
        })
    }
}
