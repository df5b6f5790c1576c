//! `flowd collect`: datagrams -> ring -> archive, a thread a worker, until told to stop.

use super::collect_memory::Memory;
use super::statistics::{REQUEST, StoreStatistics};
use super::{clock, control, shutdown, statistics};
use crate::archive::{ArchiveConfig, Archiver, OpenStore, open_store};
use crate::collect::{Books, ListenConfig, Statistics, Worker, listen};
use crate::model::FlowBatch;
use crate::model::time::UnixMillis;
use crate::ring::{Recovery, Ring, ShardWriter};
use crate::telemetry::{Flag, Throttle};
use anyhow::{Context, Result};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tracing::{error, warn};

pub use super::collect_memory::Restored;
pub use crate::ring::{RingConfig, WhenFull};

/// How often the counters are written to disk: what a kill can take of them.
const STATISTICS_INTERVAL: Duration = Duration::from_millis(200);
/// How often the main thread looks at the wish to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// What archiving may take at the end; what is left then stays in the ring for the next start.
const ARCHIVE_MILLIS_MAX: i64 = 15_000;

/// What to collect, and where to.
#[derive(Debug)]
pub struct Plan {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// The store's directory.
    pub store: PathBuf,
    /// Workers an address.
    pub worker_count: usize,
    /// Limits of the ring.
    pub ring: RingConfig,
    /// Socket receive buffer, octets.
    pub receive_buffer_size: usize,
}

/// What a collector says once it listens.
#[derive(Debug)]
pub struct Ready {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Workers in all.
    pub worker_count: usize,
    /// What an earlier run had left in the ring.
    pub recovery: Recovery,
    /// What an earlier run knew of its exporters.
    pub restored: Restored,
}

/// What a collector says at its end, of this run.
#[derive(Debug)]
pub struct Report {
    /// What was received, decoded and dropped before the ring.
    pub collected: Statistics,
    /// Records stored.
    pub stored: u64,
    /// Records that the ring refused or lost.
    pub records_dropped: u64,
    /// Blocks that the deadline left in the ring.
    pub blocks_left: usize,
}

/// Collects until SIGTERM or SIGINT.
///
/// # Errors
/// If an address cannot be listened on, the store cannot be written, or a worker fails.
pub fn run(plan: &Plan, ready: &mut dyn FnMut(&Ready)) -> Result<Report> {
    let stop = shutdown::on_signal()?;
    let books = Arc::new(Books::default());
    let memory = Memory::new(&plan.store, &books);
    let workers = open_sockets(plan, &memory)?;
    let OpenStore { ring, archiver, recovery } =
        open_store(&plan.store, plan.ring, ArchiveConfig::for_ring(&plan.ring))?;
    // The store is locked now: nobody else writes its files.
    let restored = memory.restore()?;
    let mut earlier = StoreStatistics::read(&plan.store);
    earlier.begin(clock::now());
    // Raised once the workers have sealed their last blocks.
    let sealed = Arc::new(Flag::default());
    let archiver = spawn_archiver(archiver, &sealed)?;

    let addresses = addresses_of(&workers);
    let worker_count = workers.len();
    let mut threads = Vec::with_capacity(worker_count);
    for (shard, worker) in workers.into_iter().enumerate() {
        threads.push(spawn_worker(shard, worker, &ring, &stop)?);
    }
    let statistics = {
        let (books, ring) = (Arc::clone(&books), Arc::clone(&ring));
        move || StoreStatistics::now(&earlier, clock::now(), &books, &ring)
    };
    serve_statistics(plan, statistics.clone())?;
    ready(&Ready { addresses, worker_count, recovery, restored });

    let are_well = || !archiver.is_finished() && !threads.iter().any(JoinHandle::is_finished);
    watch(plan, &stop, &are_well, &statistics, &memory);
    let mut ended: Vec<Result<()>> = threads.into_iter().map(join).collect();
    let heard_until = clock::now();
    sealed.raise();
    ended.push(join(archiver));
    control::remove(&statistics::socket(&plan.store));
    let last = StoreStatistics { at: heard_until.0, ..statistics() };
    ended.push(last.write(&plan.store));
    ended.push(memory.save_all());
    ended.into_iter().collect::<Result<()>>()?;
    Ok(Report {
        collected: books.statistics(),
        stored: ring.appended().value(),
        records_dropped: ring.drops().total(),
        blocks_left: ring.sealed_blocks().len(),
    })
}

fn open_sockets(plan: &Plan, memory: &Memory) -> Result<Vec<Worker>> {
    let Memory { store: _, templates, pending, books } = memory;
    let mut workers = Vec::new();
    for &address in &plan.listen {
        let config = ListenConfig {
            worker_count: plan.worker_count,
            receive_buffer_size: plan.receive_buffer_size,
            ..ListenConfig::new(address, clock::now)
        };
        workers.append(&mut listen(&config, templates, pending, books)?);
    }
    Ok(workers)
}

fn addresses_of(workers: &[Worker]) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = workers.iter().map(Worker::address).collect();
    addresses.dedup();
    addresses
}

fn spawn_worker(
    shard: usize,
    mut worker: Worker,
    ring: &Arc<Ring>,
    stop: &Arc<Flag>,
) -> Result<JoinHandle<Result<()>>> {
    let number = u16::try_from(shard).context("too many workers; use fewer")?;
    let writer = RefCell::new(Appender {
        writer: ring.writer(number, clock::now())?,
        throttle: Throttle::new(Duration::from_secs(10)),
    });
    let stop = Arc::clone(stop);
    let work = move || {
        let mut sink = |batch: &FlowBatch| writer.borrow_mut().append(batch);
        let mut idle = || writer.borrow_mut().tick();
        let received = worker.run(&stop, &mut sink, &mut idle);
        if received.is_err() {
            stop.raise();
        }
        writer.borrow_mut().writer.seal_all().context("seal the last blocks")?;
        received.with_context(|| format!("receive on udp://{}", worker.address()))
    };
    thread::Builder::new().name(format!("worker-{shard}")).spawn(work).context("start a worker")
}

/// A shard's writer, with its complaints at a bearable rate.
struct Appender {
    writer: ShardWriter,
    throttle: Throttle,
}

impl Appender {
    fn append(&mut self, batch: &FlowBatch) {
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

/// The thread that moves sealed blocks into the archive.
fn spawn_archiver(mut archiver: Archiver, sealed: &Arc<Flag>) -> Result<JoinHandle<Result<()>>> {
    let sealed = Arc::clone(sealed);
    let work = move || {
        archiver.run(&sealed, clock::now);
        let deadline = clock::now().0.saturating_add(ARCHIVE_MILLIS_MAX);
        archiver.finish(clock::now, UnixMillis(deadline)).context("archive the last blocks")
    };
    thread::Builder::new().name("archiver".into()).spawn(work).context("start the archiver")
}

fn serve_statistics(
    plan: &Plan,
    statistics: impl Fn() -> StoreStatistics + Send + 'static,
) -> Result<()> {
    control::serve(&statistics::socket(&plan.store), move |request| match request {
        REQUEST => serde_json::to_string(&statistics()).ok(),
        _ => None,
    })
}

/// Writes the counters to disk every so often until it is time to stop or a thread has ended.
fn watch(
    plan: &Plan,
    stop: &Flag,
    are_well: &dyn Fn() -> bool,
    statistics: &dyn Fn() -> StoreStatistics,
    memory: &Memory,
) {
    let mut throttle = Throttle::new(Duration::from_secs(60));
    let mut written = Instant::now();
    while !stop.is_raised() {
        thread::sleep(LOOK_INTERVAL);
        if !are_well() {
            stop.raise();
        }
        if written.elapsed() >= STATISTICS_INTERVAL {
            written = Instant::now();
            // In this order: after a kill, what was counted as held is held.
            let outcome = memory.save().and_then(|()| statistics().write(&plan.store));
            if let Err(error) = outcome
                && throttle.pass(written).is_some()
            {
                error!(
                    error = format!("{error:#}"),
                    "what the next start should know cannot be written"
                );
            }
        }
    }
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    let name = thread.thread().name().unwrap_or("a").to_owned();
    match thread.join() {
        Ok(result) => result,
        Err(_) => anyhow::bail!("thread {name} panicked; please report this"),
    }
}
