//! How to listen, and the loop that a UDP worker runs: datagrams from the kernel to the decoder.

use super::Transport;
use super::access::Access;
use super::address::{ListenAddress, ListenError};
use super::arena::{Arena, SLOT_SIZE, Wait};
use super::books::{Books, CollectDrop};
use super::budget::Budgets;
use super::complaints::Complaints;
use super::connections::ConnectionLimits;
use super::decode::{Decoder, DecoderConfig};
use super::forward::{ForwardTargets, Forwarder};
use super::pending::PendingStore;
use super::rounds::lock;
use super::socket::{kernel_drops, open, set_receive_buffer, share_port};
use super::template_cache::TemplateStore;
use crate::model::FlowBatch;
use crate::model::time::UnixMillis;
use crate::telemetry::Flag;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::warn;

/// How long a worker waits for traffic before it looks at the wish to stop.
pub(super) const WAIT: Duration = Duration::from_millis(100);
/// Datagrams that are taken out of a socket at its start, so that no flood keeps it from its end.
const EARLY_COUNT_MAX: usize = 4_096;
/// How long after the wish to stop a worker goes on taking what has arrived already.
pub(super) const DRAIN_MILLIS_MAX: i64 = 1_000;

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Address and port. `[::]` takes IPv4 too; port 0 is any that is free.
    pub address: SocketAddr,
    /// Workers, each with a socket of its own; TCP has one.
    pub worker_count: usize,
    /// Octets that the kernel holds for each UDP socket.
    pub receive_buffer_size: usize,
    /// Who may send.
    pub access: Arc<Access>,
    /// Datagrams a second that a worker takes from one address; none: as many as come.
    pub exporter_rate_max: Option<u32>,
    /// Who gets the datagrams too.
    pub forward: ForwardTargets,
    /// Limits of TCP.
    pub connections: ConnectionLimits,
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
            access: Arc::new(Access::everyone()),
            exporter_rate_max: None,
            forward: ForwardTargets::default(),
            connections: ConnectionLimits::default(),
            clock,
            decoder: DecoderConfig::default(),
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
    pending: &Arc<PendingStore>,
    books: &Arc<Books>,
) -> Result<Vec<Worker>, ListenError> {
    let listen = ListenAddress { transport: Transport::Udp, address: config.address };
    let fail = |source| ListenError::new(listen, source);
    let first = open(config.address, false).map_err(fail)?;
    share_port(&first).map_err(fail)?;
    let address = first.local_addr().map_err(fail)?;
    let mut sockets = vec![first];
    while sockets.len() < config.worker_count {
        sockets.push(open(address, true).map_err(fail)?);
    }
    for socket in sockets.iter().filter(|_| config.worker_count > 1) {
        discard_early(socket).map_err(fail)?;
    }
    let mut workers = Vec::with_capacity(sockets.len());
    for socket in sockets {
        socket.set_read_timeout(Some(WAIT)).map_err(fail)?;
        let size = set_receive_buffer(&socket, config.receive_buffer_size).map_err(fail)?;
        let (store, pending) = (Arc::clone(store), Arc::clone(pending));
        workers.push(Worker {
            address,
            receive_buffer_size: size,
            arena: Arena::new(),
            decoder: books.share(Decoder::new(&config.decoder, store, pending, Arc::clone(books))),
            batch: FlowBatch::new(),
            books: Arc::clone(books),
            access: Arc::clone(&config.access),
            forwarder: Forwarder::open(&config.forward).map_err(fail)?,
            budgets: config.exporter_rate_max.map(Budgets::new),
            complaints: Complaints::default(),
            clock: config.clock,
            kernel_drops_seen: 0,
            socket,
        });
    }
    if let Some(worker) = workers.first() {
        let (asked, got) = (config.receive_buffer_size, worker.receive_buffer_size);
        if got < asked {
            warn!(asked, got, "the receive buffer is smaller than asked: raise net.core.rmem_max");
        }
    }
    Ok(workers)
}

/// Takes out what came before all sockets shared the port. What follows it of its sender may lie in
/// another, and two workers that took up one sequence would see a gap where there is none. It is
/// what was sent before anybody listened, and counts as lost.
fn discard_early(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let is_there = || socket.recv(&mut [0]).is_ok();
    (0..EARLY_COUNT_MAX).take_while(|_| is_there()).for_each(drop);
    socket.set_nonblocking(false)
}

/// One socket with its decoder: everything that a thread needs.
#[derive(Debug)]
pub struct Worker {
    address: SocketAddr,
    receive_buffer_size: usize,
    socket: UdpSocket,
    arena: Arena,
    decoder: Arc<Mutex<Decoder>>,
    batch: FlowBatch,
    books: Arc<Books>,
    access: Arc<Access>,
    forwarder: Forwarder,
    budgets: Option<Budgets>,
    complaints: Complaints,
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
            let count = self.arena.receive(&self.socket, Wait::ForOne)?;
            let now = self.decode(count, sink);
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
            let count = self.arena.receive(&self.socket, Wait::No)?;
            let now = self.decode(count, sink);
            if count == 0 || now.0 > end {
                return self.housekeep(now, sink);
            }
        }
    }

    /// Decodes a round's datagrams; all of them were received at the time that is returned.
    fn decode(&mut self, count: usize, sink: &mut dyn FnMut(&FlowBatch)) -> UnixMillis {
        let Self { arena, decoder, batch, books, budgets, .. } = self;
        let _round = books.round();
        let now = (self.clock)();
        let mut decoder = lock(decoder);
        for datagram in arena.datagrams(count) {
            let Some((octets, peer)) = datagram else {
                books.received(SLOT_SIZE);
                books.datagram_drops.count(CollectDrop::Truncated, 1);
                continue;
            };
            let refused = if !self.access.allows(peer.ip()) {
                Some((CollectDrop::NotAllowed, "--allow does not name the sender"))
            } else if budgets.as_mut().is_some_and(|budgets| !budgets.spend(peer.ip(), now)) {
                Some((CollectDrop::RateLimited, "it sends more than --exporter-rate-max"))
            } else {
                None
            };
            let Some((reason, words)) = refused else {
                self.forwarder.forward(octets);
                decoder.decode(octets, peer.into(), now, batch, sink);
                continue;
            };
            books.received(octets.len());
            books.datagram_drops.count(reason, 1);
            if let Some(suppressed) = self.complaints.pass(peer.ip(), now) {
                let from = peer.ip().to_canonical();
                warn!(%from, reason = words, suppressed, "datagrams dropped");
            }
        }
        hand_on(batch, sink);
        now
    }

    fn housekeep(&mut self, now: UnixMillis, sink: &mut dyn FnMut(&FlowBatch)) -> io::Result<()> {
        let Self { decoder, batch, books, .. } = self;
        let _round = books.round();
        lock(decoder).idle(now, batch, sink);
        hand_on(batch, sink);
        let drops = kernel_drops(&self.socket)?;
        let more = drops.wrapping_sub(self.kernel_drops_seen);
        self.kernel_drops_seen = drops;
        books.kernel_drops.add(u64::from(more));
        Ok(())
    }
}

/// Hands on what a round has decoded, before it ends.
pub(super) fn hand_on(batch: &mut FlowBatch, sink: &mut dyn FnMut(&FlowBatch)) {
    if !batch.is_empty() {
        sink(batch);
        batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Statistics;
    use crate::telemetry::Counter;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    fn clock() -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UnixMillis(i64::try_from(since.as_millis()).unwrap())
    }

    fn pending() -> Arc<PendingStore> {
        Arc::new(PendingStore::in_memory(DecoderConfig::default().pending))
    }

    fn workers(config: &ListenConfig) -> (Vec<Worker>, Arc<Books>) {
        let books = Arc::new(Books::default());
        let store = Arc::new(TemplateStore::new(&config.decoder));
        (listen(config, &store, &pending(), &books).unwrap(), books)
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
        let error = listen(&taken, &store, &pending(), &books).unwrap_err();
        assert!(matches!(error, ListenError::InUse(_)), "{error}");
        assert!(error.to_string().contains("ss -ulpn"), "{error}");
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let config = config("192.0.2.77:9995", 1);
        let store = Arc::new(TemplateStore::new(&config.decoder));
        let error = listen(&config, &store, &pending(), &Arc::default()).unwrap_err();
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
        wait_until(|| idles.value() >= 2);
        stop.raise();
        wait_until(|| thread.is_finished());
        thread.join().unwrap();
    }

    /// Looks again and again; far longer than anything here takes, it gives up.
    fn wait_until(mut is_so: impl FnMut() -> bool) {
        let asked = Instant::now();
        while !is_so() {
            assert!(asked.elapsed() < Duration::from_secs(60), "waited in vain");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
