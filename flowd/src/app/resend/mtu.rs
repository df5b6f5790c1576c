//! The MTU of the path to a socket's peer, as the kernel knows it.

#![expect(unsafe_code, reason = "std has no name for the option")]

use libc::{c_int, socklen_t};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Octets of the largest packet that goes to the peer in one piece; none if that is not known.
pub(super) fn of_path(socket: &UdpSocket, peer: SocketAddr) -> Option<usize> {
    let (level, option) = match peer {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut mtu: c_int = 0;
    let mut size = socklen_t::try_from(size_of::<c_int>()).ok()?;
    // SAFETY: both pointers are to live variables of ours, and `size` is that of the first.
    let outcome = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut mtu).cast(), &raw mut size)
    };
    (outcome == 0).then(|| usize::try_from(mtu).ok()).flatten()
}
