//! `flowd collect`: messages -> ring -> archive, a thread a worker, until told to stop.

#[cfg(feature = "http")]
mod http;
mod objects;
mod unsaved;
mod workers;

use super::collect_memory::Memory;
use super::refusals::Refusals;
use super::ring_use::RingMeter;
use super::statistics::{REQUEST, StoreStatistics};
use super::{clock, control, priority, shutdown, statistics};
use crate::archive::{ArchiveConfig, Archiver, OpenStore, open_store};
use crate::collect::{Books, Statistics};
use crate::model::time::UnixMillis;
use crate::ring::{Recovery, StoreLock};
use crate::telemetry::{Flag, Throttle};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tracing::error;

pub use super::collect_memory::Restored;
pub use super::ring_use::RingUse;
pub use crate::archive::Retention;
pub use crate::collect::{ForwardStatistics, ListenAddress, Prefix, Transport};
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
    pub listen: Vec<ListenAddress>,
    /// Who may send; everyone if it is empty.
    pub allow: Vec<Prefix>,
    /// Datagrams a second that a worker takes from one address; none: as many as come.
    pub exporter_rate_max: Option<u32>,
    /// Who gets the datagrams too, as they are.
    pub forward: Vec<SocketAddr>,
    /// Where to answer for metrics and health.
    pub http: Option<SocketAddr>,
    /// The store's directory.
    pub store: PathBuf,
    /// Where the ring lies from now on; none: where it was, at first in the store.
    pub ring_dir: Option<PathBuf>,
    /// Workers a UDP address; a TCP address has one.
    pub worker_count: usize,
    /// Limits of the ring.
    pub ring: RingConfig,
    /// The object store that segments move to from now on; none: where they moved before, if
    /// anywhere.
    pub archive: Option<String>,
    /// How long after the end of its hour a segment moves; 0: at once.
    pub archive_after_millis: i64,
    /// How much of the archive is kept.
    pub retention: Retention,
    /// Socket receive buffer, octets.
    pub receive_buffer_size: usize,
}

/// What a collector says while it runs.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    /// It listens.
    Ready(&'a Ready),
    /// The rate of the first minute, in which something came.
    RingUse(RingUse),
}

/// What a collector says once it listens.
#[derive(Debug)]
pub struct Ready {
    /// Where it listens.
    pub addresses: Vec<ListenAddress>,
    /// Where it answers for metrics and health.
    pub http: Option<SocketAddr>,
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
pub fn run(plan: &Plan, tell: &mut dyn FnMut(News<'_>)) -> Result<Report> {
    let stop = shutdown::on_signal()?;
    let books = Arc::new(Books::default());
    let mut memory = Memory::new(&plan.store, &books);
    let receivers = workers::open(plan, &memory)?;
    #[cfg(feature = "http")]
    let mut server = plan.http.map(crate::http::Server::bind).transpose()?;
    let OpenStore { ring, mut archiver, recovery } = open(plan)?;
    // The store is locked now: nobody else writes its files.
    let restored = memory.restore()?;
    let mut earlier = StoreStatistics::read(&plan.store);
    if earlier.at > 0 {
        books.take_up(&unsaved::in_ring(&ring, UnixMillis(earlier.at)));
    }
    earlier.begin(clock::now());
    // What the last collector lost and could not write down before it was killed.
    archiver.tell(std::mem::take(&mut earlier.untold))?;
    let refusals = Refusals::after(std::mem::take(&mut earlier.refused), clock::now());
    let refusals = Arc::new(Mutex::new(refusals));
    // Raised once the workers have sealed their last blocks.
    let sealed = Arc::new(Flag::default());
    #[cfg(feature = "http")]
    let archived = archiver.counters();
    let uploading = objects::start(plan, &archiver)?;
    #[cfg(feature = "http")]
    let uploaded = uploading.as_ref().map(|uploading| Arc::clone(&uploading.counters));
    let archiver = spawn_archiver(archiver, &sealed)?;

    let addresses = workers::addresses(&receivers);
    let worker_count = receivers.len();
    let mut threads = Vec::with_capacity(worker_count);
    for (shard, receiver) in receivers.into_iter().enumerate() {
        threads.push(workers::spawn(shard, receiver, &ring, &stop)?);
    }
    let statistics = {
        let (books, ring) = (Arc::clone(&books), Arc::clone(&ring));
        let meter = Arc::new(RingMeter::new(clock::now()));
        move || StoreStatistics::now(&earlier, clock::now(), &books, &ring, &refusals, &meter)
    };
    serve_statistics(plan, statistics.clone())?;
    #[cfg(feature = "http")]
    if let Some(server) = &mut server {
        let (books, ring, stop) = (Arc::clone(&books), Arc::clone(&ring), Arc::clone(&stop));
        server.start(Arc::new(http::Running {
            started: clock::now(),
            books,
            ring,
            archived,
            uploaded,
            stop,
        }))?;
    }
    #[cfg(feature = "http")]
    let http = server.as_ref().map(crate::http::Server::address);
    #[cfg(not(feature = "http"))]
    let http = None;
    tell(News::Ready(&Ready { addresses, http, worker_count, recovery, restored }));

    let are_well = || !archiver.is_finished() && !threads.iter().any(JoinHandle::is_finished);
    watch(plan, &stop, &are_well, &statistics, &mut memory, tell);
    let mut ended: Vec<Result<()>> = threads.into_iter().map(join).collect();
    let heard_until = clock::now();
    sealed.raise();
    ended.push(join(archiver));
    uploading.into_iter().for_each(objects::Uploading::end);
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

/// Opens the store, its ring and its objects where they were asked for.
fn open(plan: &Plan) -> Result<OpenStore> {
    place_ring(plan)?;
    objects::bind(plan)?;
    let archive =
        ArchiveConfig { retention: plan.retention, ..ArchiveConfig::for_ring(&plan.ring) };
    Ok(open_store(&plan.store, plan.ring, archive)?)
}

/// Lets the store's ring be where it was asked for.
fn place_ring(plan: &Plan) -> Result<()> {
    if let Some(directory) = &plan.ring_dir {
        StoreLock::acquire(&plan.store)?.with_ring_dir(directory)?;
    }
    Ok(())
}

/// The thread that moves sealed blocks into the archive.
fn spawn_archiver(mut archiver: Archiver, sealed: &Arc<Flag>) -> Result<JoinHandle<Result<()>>> {
    let sealed = Arc::clone(sealed);
    let work = move || {
        priority::stand_back();
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
    memory: &mut Memory,
    tell: &mut dyn FnMut(News<'_>),
) {
    let mut is_rate_told = false;
    let mut throttle = Throttle::new(Duration::from_secs(60));
    let mut written = Instant::now();
    while !stop.is_raised() {
        thread::sleep(LOOK_INTERVAL);
        if !are_well() {
            stop.raise();
        }
        if written.elapsed() >= STATISTICS_INTERVAL {
            written = Instant::now();
            // In this order: after a kill, what was counted as held is held. What could not be
            // saved counts as lost then, so that the counters are written in any case.
            let saved = memory.save();
            let statistics = statistics();
            if !is_rate_told && statistics.ring.minutes().is_some() {
                tell(News::RingUse(statistics.ring));
                is_rate_told = true;
            }
            let written_down = statistics.write(&plan.store);
            if let Err(error) = saved.and(written_down)
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
