//! The threads that receive, each with its own socket and ring shard.

use super::Plan;
use super::patience::Patience;
use crate::app::clock;
use crate::app::collect_memory::Memory;
use crate::collect::{
    Access, ForwardTargets, ListenAddress, ListenConfig, TcpWorker, Transport, Worker, listen,
    listen_tcp,
};
use crate::model::FlowBatch;
use crate::ring::{Ring, ShardWriter};
use crate::telemetry::{Flag, Throttle};
use anyhow::{Context, Result, bail};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tracing::warn;

/// A worker of either transport.
pub(super) enum Receiver {
    Udp(Box<Worker>),
    Tcp(Box<TcpWorker>),
}

impl Receiver {
    fn listens_at(&self) -> ListenAddress {
        match self {
            Self::Udp(worker) => {
                ListenAddress { transport: Transport::Udp, address: worker.address() }
            }
            Self::Tcp(worker) => {
                ListenAddress { transport: Transport::Tcp, address: worker.address() }
            }
        }
    }

    fn run(
        &mut self,
        stop: &Flag,
        sink: &mut dyn FnMut(&FlowBatch),
        idle: &mut dyn FnMut(),
    ) -> io::Result<()> {
        match self {
            Self::Udp(worker) => worker.run(stop, sink, idle),
            Self::Tcp(worker) => worker.run(stop, sink, idle),
        }
    }
}

/// Opens the sockets of all addresses, in their order.
pub(super) fn open(plan: &Plan, memory: &Memory, patience: &Patience) -> Result<Vec<Receiver>> {
    let Memory { templates, pending, books, .. } = memory;
    let access = Arc::new(match plan.allow.as_slice() {
        [] => Access::everyone(),
        prefixes => Access::only(prefixes),
    });
    let forward = ForwardTargets::new(&plan.forward);
    books.forward_to(&forward);
    let mut receivers = Vec::new();
    for &ListenAddress { transport, address } in &plan.listen {
        let config = ListenConfig {
            worker_count: plan.worker_count,
            receive_buffer_size: plan.receive_buffer_size,
            access: Arc::clone(&access),
            exporter_rate_max: plan.exporter_rate_max,
            forward: forward.clone(),
            ..ListenConfig::new(address, clock::now)
        };
        match transport {
            Transport::Udp => {
                let workers = patience.with(|| Ok(listen(&config, templates, pending, books)?))?;
                receivers.extend(workers.into_iter().map(|worker| Receiver::Udp(worker.into())));
            }
            Transport::Tcp => {
                let worker =
                    patience.with(|| Ok(listen_tcp(&config, templates, pending, books)?))?;
                receivers.push(Receiver::Tcp(worker.into()));
            }
        }
    }
    refuse_loops(plan, &receivers)?;
    Ok(receivers)
}

/// A datagram that is repeated to where it came in would go round for ever.
fn refuse_loops(plan: &Plan, receivers: &[Receiver]) -> Result<()> {
    for target in &plan.forward {
        for ListenAddress { transport, address } in addresses(receivers) {
            if transport == Transport::Udp && reaches(*target, address) {
                bail!(
                    "--forward: udp://{target} is where this collector listens itself; name \
                     another receiver"
                );
            }
        }
    }
    Ok(())
}

/// Does what is sent to `target` come in at `listening`?
fn reaches(target: SocketAddr, listening: SocketAddr) -> bool {
    if target.port() != listening.port() {
        return false;
    }
    let (to, at) = (target.ip().to_canonical(), listening.ip().to_canonical());
    // What is sent to no address in particular goes to this machine, and only an address of this
    // machine can be bound.
    let is_ours = || to.is_unspecified() || UdpSocket::bind(SocketAddr::new(to, 0)).is_ok();
    match at {
        at if at == to => true,
        at if at.is_unspecified() => (at.is_ipv6() || to.is_ipv4()) && is_ours(),
        at => to.is_unspecified() && at.is_loopback(),
    }
}

/// Where they listen, each address once.
pub(super) fn addresses(receivers: &[Receiver]) -> Vec<ListenAddress> {
    let mut addresses: Vec<ListenAddress> = receivers.iter().map(Receiver::listens_at).collect();
    addresses.dedup();
    addresses
}

/// A receiver at work, and what it appends with.
pub(super) struct Working {
    pub(super) thread: JoinHandle<Result<()>>,
    pub(super) appender: Arc<Mutex<Appender>>,
}

/// Starts a receiver on a thread of its own, which fills a shard of the ring until `stop` is
/// raised.
pub(super) fn spawn(
    shard: usize,
    mut receiver: Receiver,
    ring: &Arc<Ring>,
    stop: &Arc<Flag>,
) -> Result<Working> {
    let number = u16::try_from(shard).context("too many workers; use fewer")?;
    let appender = Arc::new(Mutex::new(Appender::new(ring.writer(number, clock::now())?)));
    let (stop, own) = (Arc::clone(stop), Arc::clone(&appender));
    let work = move || {
        let mut sink = |batch: &FlowBatch| lock(&own).append(batch);
        let mut idle = || lock(&own).tick();
        let received = receiver.run(&stop, &mut sink, &mut idle);
        if received.is_err() {
            stop.raise();
        }
        lock(&own).writer.seal_all().context("seal the last blocks")?;
        received.with_context(|| format!("receive on {}", receiver.listens_at()))
    };
    let thread = thread::Builder::new().name(format!("worker-{shard}")).spawn(work);
    Ok(Working { thread: thread.context("start a worker")?, appender })
}

/// A worker that panicked ends the collector; what it appended is in the ring.
pub(super) fn lock(appender: &Mutex<Appender>) -> MutexGuard<'_, Appender> {
    appender.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A shard's writer, with its complaints at a bearable rate. Its worker has it but for the moments
/// in which is looked where it stands.
pub(super) struct Appender {
    writer: ShardWriter,
    throttle: Throttle,
}

impl Appender {
    pub(super) fn new(writer: ShardWriter) -> Self {
        Self { writer, throttle: Throttle::new(Duration::from_secs(10)) }
    }

    pub(super) const fn writer(&self) -> &ShardWriter {
        &self.writer
    }

    pub(super) fn append(&mut self, batch: &FlowBatch) {
        let outcome = self.writer.append(batch);
        if outcome.dropped > 0
            && let Some(suppressed) = self.throttle.pass(Instant::now())
        {
            let reason = outcome.error.map_or_else(|| "the ring is full".into(), |e| e.to_string());
            warn!(records = outcome.dropped, reason, suppressed, "records dropped");
        }
    }

    fn tick(&mut self) {
        if let Err(error) = self.writer.tick(clock::now())
            && let Some(suppressed) = self.throttle.pass(Instant::now())
        {
            warn!(%error, suppressed, "a block cannot be sealed");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_would_come_back_is_seen() {
        let reaches =
            |target: &str, at: &str| super::reaches(target.parse().unwrap(), at.parse().unwrap());
        assert!(reaches("127.0.0.1:2055", "127.0.0.1:2055"));
        assert!(reaches("127.0.0.1:2055", "0.0.0.0:2055"));
        assert!(reaches("127.0.0.1:2055", "[::]:2055"));
        assert!(reaches("[::ffff:127.0.0.1]:2055", "127.0.0.1:2055"));
        assert!(reaches("0.0.0.0:2055", "127.0.0.1:2055"));
        assert!(!reaches("127.0.0.1:2056", "0.0.0.0:2055"));
        assert!(!reaches("127.0.0.2:2055", "127.0.0.1:2055"));
        assert!(!reaches("192.0.2.1:2055", "0.0.0.0:2055"), "another machine's");
    }
}
