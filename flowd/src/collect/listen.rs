//! Sockets, and the loop that a worker runs: datagrams from the kernel to the decoder.

#![expect(
    unsafe_code,
    reason = "recvmmsg, and sockets that share a port, are beyond std's UdpSocket"
)]

use super::books::{Books, CollectDrop};
use super::decode::{Decoder, DecoderConfig};
use super::template_cache::TemplateStore;
use crate::model::FlowBatch;
use crate::model::time::UnixMillis;
use crate::telemetry::Flag;
use libc::{c_int, socklen_t};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;
use std::time::Duration;

/// Datagrams that one call takes from the kernel.
const ROUND_DATAGRAMS_MAX: usize = 64;
/// Octets a datagram has room for: more than UDP can carry.
const SLOT_SIZE: usize = 65_536;
/// How long a worker waits for a datagram before it looks at the wish to stop.
const WAIT: Duration = Duration::from_millis(100);
/// How long after the wish to stop a worker goes on taking what has arrived already.
const DRAIN_MILLIS_MAX: i64 = 1_000;
/// Place of the drop count in what `SO_MEMINFO` tells (`SK_MEMINFO_DROPS`).
const MEMINFO_DROPS: usize = 8;

/// Where and how to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenConfig {
    /// Address and port. `[::]` takes IPv4 too; port 0 is any that is free.
    pub address: SocketAddr,
    /// Workers, each with a socket of its own.
    pub worker_count: usize,
    /// Octets that the kernel holds for each socket.
    pub receive_buffer_size: usize,
    /// What tells the time.
    pub clock: fn() -> UnixMillis,
    /// How datagrams are decoded.
    pub decoder: DecoderConfig,
}

impl ListenConfig {
    /// The default for an address: one worker, 64 MiB of kernel memory.
    #[must_use]
    pub fn new(address: SocketAddr, clock: fn() -> UnixMillis) -> Self {
        Self {
            address,
            worker_count: 1,
            receive_buffer_size: 64 << 20,
            clock,
            decoder: DecoderConfig::default(),
        }
    }
}

/// Why an address cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process has the port.
    #[error(
        "udp://{0} is in use: stop the process that has it \
         (`ss -ulpn 'sport = :{port}'` names it) or listen at another port",
        port = .0.port()
    )]
    InUse(SocketAddr),
    /// No network of this machine has the address.
    #[error("udp://{0} is no address of this machine: `ip address` lists those it has")]
    NoSuchAddress(SocketAddr),
    /// The port is one that only root may have.
    #[error("udp://{0} may not be listened at by this user: choose a port from 1024 on")]
    NotAllowed(SocketAddr),
    /// The system refused something else.
    #[error("udp://{address}: {source}")]
    System {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl ListenError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress(address),
            io::ErrorKind::PermissionDenied => Self::NotAllowed(address),
            _ => Self::System { address, source },
        }
    }
}

/// Opens the sockets of all workers. Nobody else's socket can share the port: the first is bound
/// without `SO_REUSEPORT`, which fails if the port is in use even by a process that would share
/// it, and is opened to its siblings only then.
///
/// # Errors
/// If the address cannot be listened at.
pub fn listen(
    config: &ListenConfig,
    store: &Arc<TemplateStore>,
    books: &Arc<Books>,
) -> Result<Vec<Worker>, ListenError> {
    let fail = |source| ListenError::new(config.address, source);
    let first = open(config.address, false).map_err(fail)?;
    set_option(&first, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1).map_err(fail)?;
    let address = first.local_addr().map_err(fail)?;
    let mut sockets = vec![first];
    while sockets.len() < config.worker_count {
        sockets.push(open(address, true).map_err(fail)?);
    }
    let mut workers = Vec::with_capacity(sockets.len());
    for socket in sockets {
        socket.set_read_timeout(Some(WAIT)).map_err(fail)?;
        let size = set_receive_buffer(&socket, config.receive_buffer_size).map_err(fail)?;
        workers.push(Worker {
            address,
            receive_buffer_size: size,
            arena: Arena::new(),
            decoder: Decoder::new(&config.decoder, Arc::clone(store), Arc::clone(books)),
            batch: FlowBatch::new(),
            books: Arc::clone(books),
            clock: config.clock,
            kernel_drops_seen: 0,
            socket,
        });
    }
    if let Some(worker) = workers.first() {
        let (asked, got) = (config.receive_buffer_size, worker.receive_buffer_size);
        if got < asked {
            tracing::warn!(
                asked,
                got,
                "the receive buffer is smaller than asked: raise net.core.rmem_max"
            );
        }
    }
    Ok(workers)
}

/// One socket with its decoder: everything that a thread needs.
#[derive(Debug)]
pub struct Worker {
    address: SocketAddr,
    receive_buffer_size: usize,
    socket: UdpSocket,
    arena: Arena,
    decoder: Decoder,
    batch: FlowBatch,
    books: Arc<Books>,
    clock: fn() -> UnixMillis,
    /// The socket's drop count when it was looked at last.
    kernel_drops_seen: u32,
}

impl Worker {
    /// Where it listens; the port is the one that it got.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Octets that the kernel holds for it, which may be fewer than asked for.
    #[must_use]
    pub const fn receive_buffer_size(&self) -> usize {
        self.receive_buffer_size
    }

    /// Receives and decodes until `stop` is raised, then takes what has arrived already. Batches
    /// go to `sink`, one at the end of each round or when it is full; `idle` is called about ten
    /// times a second, whether there is traffic or not.
    ///
    /// # Errors
    /// If the socket fails.
    pub fn run(
        &mut self,
        stop: &Flag,
        sink: &mut dyn FnMut(&FlowBatch),
        idle: &mut dyn FnMut(),
    ) -> io::Result<()> {
        let wait_millis = i64::try_from(WAIT.as_millis()).unwrap_or(i64::MAX);
        let mut idle_at = (self.clock)();
        while !stop.is_raised() {
            let count = self.arena.receive(&self.socket, libc::MSG_WAITFORONE)?;
            let now = (self.clock)();
            self.decode(count, now, sink);
            // A clock that was set back counts as due.
            let since_idle = now.0.saturating_sub(idle_at.0);
            if !(0..wait_millis).contains(&since_idle) {
                idle_at = now;
                self.housekeep(now, sink)?;
                idle();
            }
        }
        let end = (self.clock)().0.saturating_add(DRAIN_MILLIS_MAX);
        loop {
            let count = self.arena.receive(&self.socket, libc::MSG_DONTWAIT)?;
            let now = (self.clock)();
            self.decode(count, now, sink);
            if count == 0 || now.0 > end {
                return self.housekeep(now, sink);
            }
        }
    }

    /// Decodes a round's datagrams; its end is the receive time of all of them.
    fn decode(&mut self, count: usize, now: UnixMillis, sink: &mut dyn FnMut(&FlowBatch)) {
        for datagram in self.arena.datagrams(count) {
            match datagram {
                Some((octets, peer)) => {
                    self.decoder.decode(octets, peer, now, &mut self.batch, sink);
                }
                None => {
                    self.books.received(SLOT_SIZE);
                    self.books.datagram_drops.count(CollectDrop::Truncated, 1);
                }
            }
        }
        self.hand_on(sink);
    }

    fn housekeep(&mut self, now: UnixMillis, sink: &mut dyn FnMut(&FlowBatch)) -> io::Result<()> {
        self.decoder.idle(now, &mut self.batch, sink);
        self.hand_on(sink);
        let drops = kernel_drops(&self.socket)?;
        let more = drops.wrapping_sub(self.kernel_drops_seen);
        self.kernel_drops_seen = drops;
        self.books.kernel_drops.add(u64::from(more));
        Ok(())
    }

    fn hand_on(&mut self, sink: &mut dyn FnMut(&FlowBatch)) {
        if !self.batch.is_empty() {
            sink(&self.batch);
            self.batch.clear();
        }
    }
}

/// Memory that datagrams are received into, reused in every round.
struct Arena {
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
    fn new() -> Self {
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
    fn receive(&mut self, socket: &UdpSocket, flags: c_int) -> io::Result<usize> {
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
                flags,
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
    fn datagrams(&self, count: usize) -> impl Iterator<Item = Option<(&[u8], SocketAddr)>> {
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

fn open(address: SocketAddr, is_shared: bool) -> io::Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    // SAFETY: socket() takes no pointers.
    let descriptor = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open and nobody else's.
    let socket = unsafe { UdpSocket::from_raw_fd(descriptor) };
    if is_shared {
        set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if family == libc::AF_INET6 {
        // `[::]` takes IPv4 too, whatever net.ipv6.bindv6only says.
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    bind(&socket, address)?;
    Ok(socket)
}

fn bind(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
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

fn from_sockaddr(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
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

fn size_of_sockaddr<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).expect("socket addresses are small")
}

/// Asks for a receive buffer of `size` octets, beyond the system's limit where that is allowed;
/// what was got.
fn set_receive_buffer(socket: &UdpSocket, size: usize) -> io::Result<usize> {
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
fn kernel_drops(socket: &UdpSocket) -> io::Result<u32> {
    let mut memory = [0u32; MEMINFO_DROPS + 1];
    option(socket, libc::SO_MEMINFO, &mut memory)?;
    Ok(memory[MEMINFO_DROPS])
}

fn set_option(socket: &UdpSocket, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Statistics;
    use crate::telemetry::Counter;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    fn clock() -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UnixMillis(i64::try_from(since.as_millis()).unwrap())
    }

    fn workers(config: &ListenConfig) -> (Vec<Worker>, Arc<Books>) {
        let books = Arc::new(Books::default());
        let store = Arc::new(TemplateStore::new(&config.decoder));
        (listen(config, &store, &books).unwrap(), books)
    }

    fn config(address: &str, worker_count: usize) -> ListenConfig {
        ListenConfig {
            worker_count,
            receive_buffer_size: 1 << 20,
            ..ListenConfig::new(address.parse().unwrap(), clock)
        }
    }

    /// Runs the workers while `work` does something, then stops them.
    fn run(workers: Vec<Worker>, work: impl FnOnce()) {
        let stop = Arc::new(Flag::default());
        let threads: Vec<_> = workers
            .into_iter()
            .map(|mut worker| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || worker.run(&stop, &mut |_| {}, &mut || {}).unwrap())
            })
            .collect();
        work();
        stop.raise();
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn every_datagram_that_was_sent_is_counted_by_some_worker() {
        let (workers, books) = workers(&config("[::]:0", 3));
        let port = workers[0].address().port();
        run(workers, || {
            for source in 0..20u8 {
                let (address, local) = if source % 2 == 0 {
                    (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "127.0.0.1:0")
                } else {
                    (SocketAddr::from((Ipv6Addr::LOCALHOST, port)), "[::1]:0")
                };
                let socket = UdpSocket::bind(local).unwrap();
                for _ in 0..10 {
                    socket.send_to(&[0, 9, 1], address).unwrap();
                }
            }
        });
        let Statistics { datagrams, octets, drops, kernel_drops, .. } = books.statistics();
        assert_eq!((datagrams, octets, kernel_drops), (200, 600, 0));
        assert_eq!(drops["malformed"], 200);
    }

    #[test]
    fn a_port_in_use_is_refused_even_where_it_would_be_shared() {
        let (first, _) = workers(&config("127.0.0.1:0", 2));
        let taken = config(&first[0].address().to_string(), 2);
        let books = Arc::default();
        let store = Arc::new(TemplateStore::new(&taken.decoder));
        let error = listen(&taken, &store, &books).unwrap_err();
        assert!(matches!(error, ListenError::InUse(_)), "{error}");
        assert!(error.to_string().contains("ss -ulpn"), "{error}");
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let config = config("192.0.2.77:9995", 1);
        let store = Arc::new(TemplateStore::new(&config.decoder));
        let error = listen(&config, &store, &Arc::default()).unwrap_err();
        assert!(matches!(error, ListenError::NoSuchAddress(_)), "{error}");
    }

    #[test]
    fn what_the_kernel_dropped_is_counted() {
        let config = ListenConfig { receive_buffer_size: 4_096, ..config("127.0.0.1:0", 1) };
        let (workers, books) = workers(&config);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..500 {
            socket.send_to(&[0; 1_000], workers[0].address()).unwrap();
        }
        run(workers, || {});
        let statistics = books.statistics();
        assert!(statistics.kernel_drops > 0);
        assert_eq!(statistics.datagrams + statistics.kernel_drops, 500);
    }

    #[test]
    fn a_worker_stops_soon_and_is_idle_meanwhile() {
        let (mut workers, _) = workers(&config("127.0.0.1:0", 1));
        let stop = Arc::new(Flag::default());
        let idles = Arc::new(Counter::new());
        let thread = {
            let (stop, idles) = (Arc::clone(&stop), Arc::clone(&idles));
            let mut worker = workers.remove(0);
            std::thread::spawn(move || {
                worker.run(&stop, &mut |_| {}, &mut || idles.add(1)).unwrap();
            })
        };
        std::thread::sleep(Duration::from_millis(350));
        let asked = Instant::now();
        stop.raise();
        thread.join().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1));
        assert!(idles.value() >= 1);
    }
}
