//! What std has no name for: interfaces of programs, raw sockets, buffers of any size.

use crate::namespace::Namespace;
use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd};

/// A `tun` interface in a namespace, gone when it is closed; none where there are none.
pub(crate) fn tun(namespace: &Namespace, name: &str) -> Option<File> {
    // The device belongs to the namespace that it is opened in.
    let device = namespace.inside(|| {
        let device = File::options().read(true).write(true).open("/dev/net/tun")?;
        // SAFETY: a structure of numbers and pointers, of which all zeros is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap();
        // SAFETY: the request outlives the call, and is what this number takes.
        match unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } {
            0 => Ok(device),
            _ => Err(io::Error::last_os_error()),
        }
    });
    device.map_err(|error| println!("skipped: no tun interface: {error}")).ok()
}

/// A socket for messages of ICMP, which sends and receives as one of UDP does.
pub(crate) fn icmp_socket(namespace: &Namespace, is_v6: bool) -> UdpSocket {
    let (family, protocol) = if is_v6 {
        (libc::AF_INET6, libc::IPPROTO_ICMPV6)
    } else {
        (libc::AF_INET, libc::IPPROTO_ICMP)
    };
    namespace.inside(|| {
        // SAFETY: the call takes numbers only.
        let number = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        assert!(number >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the call has made this descriptor for us.
        unsafe { UdpSocket::from_raw_fd(number) }
    })
}

/// Makes room for so many octets, as only root may.
pub(crate) fn set_receive_buffer(socket: &UdpSocket, octets: i32) {
    // SAFETY: the descriptor is open, and the number, of four octets, outlives the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const octets).cast(),
            4,
        )
    };
    assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
}
