//! Sockets: opened, bound, and asked what std does not ask.

#![expect(unsafe_code, reason = "sockets that share a port are beyond std's UdpSocket")]

use libc::{c_int, socklen_t};
use std::io;
use std::net::{
    Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, UdpSocket,
};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Place of the drop count in what `SO_MEMINFO` tells (`SK_MEMINFO_DROPS`).
const MEMINFO_DROPS: usize = 8;
/// Connections that the kernel completes before they are taken; net.core.somaxconn caps it.
const CONNECTION_BACKLOG_MAX: c_int = 4_096;

/// A socket that is bound to the address; if it `is_shared`, to one of a sibling that shares it.
pub(super) fn open(address: SocketAddr, is_shared: bool) -> io::Result<UdpSocket> {
    let socket = UdpSocket::from(socket(address, libc::SOCK_DGRAM)?);
    if is_shared {
        share_port(&socket)?;
    }
    bind(&socket, address)?;
    Ok(socket)
}

/// A socket that takes connections to the address and never waits.
pub(super) fn open_stream(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::from(socket(address, libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?);
    // Connections of an earlier run that the kernel still remembers are no obstacle (tcp(7));
    // another listener is.
    set_option(&listener, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    bind(&listener, address)?;
    // SAFETY: listen() takes no pointers.
    checked(unsafe { libc::listen(listener.as_raw_fd(), CONNECTION_BACKLOG_MAX) })?;
    Ok(listener)
}

fn socket(address: SocketAddr, kind: c_int) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    // SAFETY: socket() takes no pointers.
    let descriptor = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) };
    checked(descriptor.min(0))?;
    // SAFETY: the descriptor is open and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    if family == libc::AF_INET6 {
        // `[::]` takes IPv4 too, whatever net.ipv6.bindv6only says.
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    Ok(socket)
}

/// Raises what this process may have open as far as the system lets it; how much that is.
pub(super) fn raise_open_files() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a limit to write into.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: `wanted` is a limit to read.
        if checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) }).is_ok() {
            limit = wanted;
        }
    }
    Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// Opens the socket's port to siblings of the same user.
pub(super) fn share_port(socket: &UdpSocket) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
}

fn bind(socket: &impl AsRawFd, address: SocketAddr) -> io::Result<()> {
    let descriptor = socket.as_raw_fd();
    let outcome = match address {
        SocketAddr::V4(address) => {
            let name = sockaddr_v4(address);
            let size = size_of_sockaddr::<libc::sockaddr_in>();
            // SAFETY: `name` is an IPv4 socket address of `size` octets.
            unsafe { libc::bind(descriptor, std::ptr::from_ref(&name).cast(), size) }
        }
        SocketAddr::V6(address) => {
            let name = sockaddr_v6(address);
            let size = size_of_sockaddr::<libc::sockaddr_in6>();
            // SAFETY: `name` is an IPv6 socket address of `size` octets.
            unsafe { libc::bind(descriptor, std::ptr::from_ref(&name).cast(), size) }
        }
    };
    checked(outcome)
}

fn sockaddr_v4(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: family(libc::AF_INET),
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

fn sockaddr_v6(address: SocketAddrV6) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: family(libc::AF_INET6),
        sin6_port: address.port().to_be(),
        sin6_flowinfo: address.flowinfo(),
        sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
        sin6_scope_id: address.scope_id(),
    }
}

/// An address as the kernel wrote it; none of another family.
pub(super) fn from_sockaddr(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let found = c_int::from(storage.ss_family);
    if found == libc::AF_INET {
        // SAFETY: the kernel wrote an IPv4 socket address, as the family says, and the storage
        // is large enough and aligned for it.
        let name = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
        let address = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
        return Some((address, u16::from_be(name.sin_port)).into());
    }
    if found == libc::AF_INET6 {
        // SAFETY: as above, of IPv6.
        let name = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
        let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
        return Some((address, u16::from_be(name.sin6_port)).into());
    }
    None
}

fn family(number: c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).expect("address families are small numbers")
}

/// Octets of a type of socket address, as the kernel wants them.
pub(super) fn size_of_sockaddr<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).expect("socket addresses are small")
}

/// Asks for a receive buffer of `size` octets, beyond the system's limit where that is allowed;
/// what was got.
pub(super) fn set_receive_buffer(socket: &UdpSocket, size: usize) -> io::Result<usize> {
    let asked = c_int::try_from(size).unwrap_or(c_int::MAX / 2);
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, asked).is_err() {
        set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, asked)?;
    }
    let mut got: [c_int; 1] = [0];
    option(socket, libc::SO_RCVBUF, &mut got)?;
    // The kernel doubles what is asked, for its own bookkeeping (socket(7)).
    Ok(usize::try_from(got[0] / 2).unwrap_or(0))
}

/// Datagrams that found the socket's buffer full, in all: what `SO_RXQ_OVFL` puts beside the
/// next datagram, told without waiting for one.
pub(super) fn kernel_drops(socket: &UdpSocket) -> io::Result<u32> {
    let mut memory = [0u32; MEMINFO_DROPS + 1];
    option(socket, libc::SO_MEMINFO, &mut memory)?;
    Ok(memory[MEMINFO_DROPS])
}

fn set_option(socket: &impl AsRawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let size = size_of_sockaddr::<c_int>();
    // SAFETY: `value` is a number of `size` octets, which is what these options take.
    checked(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(&value).cast(), size)
    })
}

/// Reads a socket option that consists of 32-bit numbers.
fn option<T: Copy32>(socket: &UdpSocket, name: c_int, values: &mut [T]) -> io::Result<()> {
    let mut size = socklen_t::try_from(size_of_val(values)).unwrap_or(0);
    // SAFETY: `values` has room for `size` octets, and any octets are a value of its type.
    checked(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            values.as_mut_ptr().cast(),
            &raw mut size,
        )
    })
}

/// Numbers of 32 bits, as socket options have them.
trait Copy32: Copy {}
impl Copy32 for u32 {}
impl Copy32 for c_int {}

fn checked(outcome: c_int) -> io::Result<()> {
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
