//! System calls that std has no name for.

use crate::namespace::Namespace;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Turns an offload of an interface of this thread's namespace on or off, as `ethtool -K` does.
pub(crate) fn set_offload(interface: &str, command: u32, data: u32) -> io::Result<()> {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value { command, data };
    // SAFETY: all its members are numbers, pointers or arrays of them, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: for these commands the kernel reads the request and the value that it points to;
    // both outlive the call.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) })
}

/// A socket that sends whole frames by one interface.
pub(crate) struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens it in this thread's namespace.
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: the name ends in a zero and outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        // Protocol 0 receives nothing.
        // SAFETY: no memory is involved.
        let descriptor =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        done(descriptor)?;
        // SAFETY: the kernel made this descriptor just now, and nobody else has it.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(descriptor) });
        // SAFETY: all its members are numbers or arrays of them, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the kernel reads an address of the size that it is told.
        done(unsafe {
            libc::bind(
                socket.0.as_raw_fd(),
                (&raw const address).cast(),
                socket_size(size_of::<libc::sockaddr_ll>()),
            )
        })?;
        Ok(socket)
    }

    /// Sends a frame from its destination address to its last octet.
    pub(crate) fn send(&self, frame: &[u8]) {
        // SAFETY: the kernel reads as many octets as the slice has.
        let size = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(usize::try_from(size).ok(), Some(frame.len()), "{}", io::Error::last_os_error());
    }
}

/// A raw socket of ICMP or ICMPv6 in this thread's namespace, which sends and receives as a
/// datagram socket does.
pub(crate) fn icmp_socket(is_ipv6: bool) -> io::Result<UdpSocket> {
    let (family, protocol) = if is_ipv6 {
        (libc::AF_INET6, libc::IPPROTO_ICMPV6)
    } else {
        (libc::AF_INET, libc::IPPROTO_ICMP)
    };
    // SAFETY: no memory is involved.
    let descriptor = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    done(descriptor)?;
    // SAFETY: the kernel made this descriptor just now, and nobody else has it.
    Ok(unsafe { UdpSocket::from_raw_fd(descriptor) })
}

/// What TCP says of a connection's one end: the beginning of `struct tcp_info` of linux/tcp.h, as
/// much as this kernel has of it.
pub(crate) fn tcp_info(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; 232];
    let mut size = socket_size(octets.len());
    // SAFETY: the kernel writes at most as many octets as the size says.
    done(unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            octets.as_mut_ptr().cast(),
            &raw mut size,
        )
    })?;
    octets.truncate(usize::try_from(size).unwrap());
    Ok(octets)
}

/// Sets a socket's receive buffer for good; a listener's is that of its connections. Only root may
/// have any size.
pub(crate) fn set_receive_buffer(socket: &impl AsRawFd, size: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads a number of the size that it is told.
    done(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            socket_size(size_of_val(&size)),
        )
    })
}

/// Keeps this thread on the CPU that it is on: frames of a veth that are sent on several CPUs may
/// come in another order.
pub(crate) fn stay_on_this_cpu() {
    // SAFETY: all its members are numbers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set has a place for every number that the system gives; the second call reads a
    // set of the size that it is told.
    done(unsafe {
        libc::CPU_SET(usize::try_from(libc::sched_getcpu()).unwrap(), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    })
    .unwrap();
}

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

fn socket_size(size: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(size).unwrap()
}

fn done(outcome: libc::c_int) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
