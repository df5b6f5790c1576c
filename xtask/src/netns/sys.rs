//! System calls that std has no name for.

#![expect(unsafe_code, reason = "namespaces, packet sockets and ioctls are reached through libc")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Puts this thread into a network namespace.
pub(super) fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed; no memory is involved.
    done(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// May this process make a network namespace? Tries it in a thread that ends at once.
pub(crate) fn new_namespace_is_permitted() -> io::Result<()> {
    let thread = std::thread::spawn(|| {
        // SAFETY: it changes what this thread is in, and no memory.
        done(unsafe { libc::unshare(libc::CLONE_NEWNET) })
    });
    thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

/// Does the kernel take eBPF programs of this process? Gives it the smallest there is.
pub(crate) fn bpf_is_permitted() -> io::Result<()> {
    const PROG_LOAD: libc::c_int = 5;
    const SCHED_CLS: u32 = 3;
    // `r0 = 0; exit`: eight octets an instruction, the operation in the first.
    let program = [0xb7_u64.to_le(), 0x95_u64.to_le()];
    /// The first members of `union bpf_attr` for this command; the rest counts as zero.
    #[repr(C)]
    struct Attributes {
        program_type: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
    }
    let attributes = Attributes {
        program_type: SCHED_CLS,
        instruction_count: 2,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: the kernel reads the attributes, of the size that it is told, and what they point
    // to, which outlives the call.
    let descriptor = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, size_of::<Attributes>())
    };
    let descriptor = i32::try_from(descriptor).unwrap_or(-1);
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made this descriptor just now, and nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(())
}

/// Work on segments that an interface takes over from the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Offload {
    TcpSegmentation,
    GenericSegmentation,
    GenericReceive,
}

/// Turns an offload of an interface off, as `ethtool -K` does.
pub(super) fn turn_off(interface: &str, offload: Offload) -> io::Result<()> {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    // ETHTOOL_STSO, ETHTOOL_SGSO and ETHTOOL_SGRO of linux/ethtool.h.
    let command = match offload {
        Offload::TcpSegmentation => 0x1f,
        Offload::GenericSegmentation => 0x24,
        Offload::GenericReceive => 0x2c,
    };
    let mut value = Value { command, data: 0 };
    // SAFETY: all its members are numbers, pointers or arrays of them, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: for this command the kernel reads the request and the value that it points to; both
    // outlive the call.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) })
}

/// A raw socket of ICMP or ICMPv6 in this thread's namespace. std has no such type, but what it
/// does with a datagram socket is the same for one that sends and receives whole ICMP messages.
pub(crate) fn icmp_socket(is_ipv6: bool) -> io::Result<UdpSocket> {
    let (family, protocol) = if is_ipv6 {
        (libc::AF_INET6, libc::IPPROTO_ICMPV6)
    } else {
        (libc::AF_INET, libc::IPPROTO_ICMP)
    };
    Ok(socket(family, protocol)?.into())
}

/// A socket that receives every frame of one interface, in both directions.
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens it in this thread's namespace.
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: the name ends in a zero and outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // Protocol 0 receives nothing yet: bound to no interface, it would receive of all.
        let opened = Self(socket(libc::AF_PACKET, 0)?);
        opened.set_option(libc::SO_RCVBUFFORCE, &(64_i32 << 20))?;
        // So that a wait ends even if nothing comes.
        let wait = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
        opened.set_option(libc::SO_RCVTIMEO, &wait)?;
        // SAFETY: all its members are numbers or arrays of them, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET.unsigned_abs() as u16;
        address.sll_protocol = (libc::ETH_P_ALL.unsigned_abs() as u16).to_be();
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the kernel reads an address of the size that it is told.
        done(unsafe {
            libc::bind(
                opened.0.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        Ok(opened)
    }

    fn set_option<T>(&self, name: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: the kernel reads a value of the size that it is told.
        done(unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                name,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        })
    }

    /// Receives the beginning of a frame and says how long the whole of it is; none if nothing
    /// came for a while.
    pub(crate) fn receive(&self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: the kernel writes at most as many octets as the slice has.
        let size = unsafe {
            libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_TRUNC)
        };
        if let Ok(size) = usize::try_from(size) {
            return Ok(Some(size));
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            error => Err(error),
        }
    }

    /// Frames that found no room in the socket's buffer since this was asked last.
    pub(crate) fn dropped(&self) -> io::Result<u32> {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut size = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the kernel writes at most as many octets as the size says.
        done(unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut size,
            )
        })?;
        Ok(statistics.tp_drops)
    }
}

fn socket(family: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let descriptor = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    done(descriptor)?;
    // SAFETY: the kernel made this descriptor just now, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn done(outcome: libc::c_int) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
