//! `flowd collect`: messages -> ring -> archive, a thread a worker, until told to stop.

#[cfg(feature = "http")]
mod http;
mod objects;
mod patience;
mod saver;
mod unsaved;
mod workers;

use super::collect_memory::Memory;
use super::marks::Marks;
use super::statistics::{REQUEST, StoreStatistics};
use super::{clock, control, priority, shutdown, statistics};
use crate::archive::{ArchiveConfig, Archiver, OpenStore, open_store};
use crate::collect::{Books, Statistics};
use crate::model::time::UnixMillis;
use crate::ring::{Recovery, Ring, StoreLock};
use crate::telemetry::{Flag, Throttle};
use anyhow::{Context, Result};
use patience::Patience;
use saver::{Counting, Saver};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tracing::error;
use workers::Working;

pub use super::collect_memory::Restored;
pub use super::ring_use::RingUse;
pub use crate::archive::Retention;
pub use crate::collect::{ForwardStatistics, ListenAddress, Prefix, TakenUp, Transport};
pub use crate::ring::{RingConfig, WhenFull};

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
    /// How long after the end of its hour a segment moves; 0: at once; none: as is usual.
    pub archive_after_millis: Option<i64>,
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
    /// Messages received.
    pub messages: u64,
    /// What was counted at the start that an earlier run had stored before it was killed.
    pub taken_up: TakenUp,
    /// All that was counted: of messages and records those that were taken up, too.
    pub collected: Statistics,
    /// Records stored.
    pub stored: u64,
    /// Records that the ring refused or lost.
    pub records_dropped: u64,
    /// Blocks that the deadline left in the ring.
    pub blocks_left: usize,
}

impl Report {
    fn new(books: &Books, ring: &Ring, taken_up: TakenUp) -> Self {
        let collected = books.statistics();
        Self {
            messages: collected.datagrams.saturating_sub(taken_up.messages),
            taken_up,
            collected,
            stored: ring.appended().value(),
            records_dropped: ring.drops().total(),
            blocks_left: ring.sealed_blocks().len(),
        }
    }
}

/// Collects until SIGTERM or SIGINT.
///
/// # Errors
/// If an address cannot be listened on, the store cannot be written, or a worker fails.
pub fn run(plan: &Plan, tell: &mut dyn FnMut(News<'_>)) -> Result<Report> {
    let stop = shutdown::on_signal()?;
    let books = Arc::new(Books::default());
    let memory = Memory::new(&plan.store, &books);
    let patience = Patience::new();
    let receivers = workers::open(plan, &memory, &patience)?;
    #[cfg(feature = "http")]
    let mut server = http::bind(plan, &patience)?;
    let opened = patience.with(|| open(plan))?;
    let Start { ring, archiver, recovery, memory, restored, taken_up, counting } =
        take_over(opened, memory, &books)?;

    // Raised once the workers have sealed their last blocks.
    let sealed = Arc::new(Flag::default());
    #[cfg(feature = "http")]
    let archived = archiver.counters();
    let clearance = archiver.clearance();
    let uploading = objects::start(plan, &archiver)?;
    let archiver = spawn_archiver(archiver, &sealed)?;
    let addresses = workers::addresses(&receivers);
    let worker_count = receivers.len();
    let mut threads = Vec::with_capacity(worker_count);
    let mut appenders = Vec::with_capacity(worker_count);
    for (shard, receiver) in receivers.into_iter().enumerate() {
        let Working { thread, appender } = workers::spawn(shard, receiver, &ring, &stop)?;
        threads.push(thread);
        appenders.push(appender);
    }
    serve_statistics(plan, &counting)?;
    let mut saver = Saver::new(memory, counting, appenders, clearance);
    #[cfg(feature = "http")]
    let http = http::start(&mut server, &books, &ring, archived, uploading.as_ref(), &stop)?;
    #[cfg(not(feature = "http"))]
    let http = None;
    tell(News::Ready(&Ready { addresses, http, worker_count, recovery, restored }));

    let are_well = || !archiver.is_finished() && !threads.iter().any(JoinHandle::is_finished);
    watch(&stop, &are_well, &mut saver, tell);
    let mut ended: Vec<Result<()>> = threads.into_iter().map(join).collect();
    let heard_until = clock::now();
    // All that they appended is counted, and may go. What cannot be written is told below.
    drop(saver.save());
    sealed.raise();
    ended.push(join(archiver));
    uploading.into_iter().for_each(objects::Uploading::end);
    control::remove(&statistics::socket(&plan.store));
    ended.push(saver.finish(heard_until));
    ended.into_iter().collect::<Result<()>>()?;
    Ok(Report::new(&books, &ring, taken_up))
}

/// A store that this collector has taken over from the last one.
struct Start {
    ring: Arc<Ring>,
    archiver: Archiver,
    recovery: Recovery,
    memory: Memory,
    restored: Restored,
    taken_up: TakenUp,
    counting: Arc<Counting>,
}

/// Takes over what the last collector of the store knew and counted, and counts what it stored and
/// had not counted when it was killed.
fn take_over(opened: OpenStore, mut memory: Memory, books: &Arc<Books>) -> Result<Start> {
    let OpenStore { ring, mut archiver, recovery } = opened;
    // The store is locked now: nobody else writes its files.
    let mut earlier = StoreStatistics::read(&memory.store);
    let restored = memory.restore(earlier.saves)?;
    let marks = match earlier.counted.take() {
        // A collector that was killed before it counted has counted nothing.
        None if earlier.at == 0 => Some(Marks::default()),
        marks => marks,
    };
    archiver.clearance().only_below(marks.as_ref().map(Marks::numbers).unwrap_or_default());
    let taken_up = marks.map_or_else(TakenUp::default, |marks| {
        books.take_up(&unsaved::in_ring(&ring, &marks, UnixMillis(earlier.at)))
    });
    earlier.appended += taken_up.records;
    earlier.begin(clock::now());
    // What the last collector lost and could not write down before it was killed.
    archiver.tell(std::mem::take(&mut earlier.untold))?;
    let counting = Arc::new(Counting::new(earlier, Arc::clone(books), Arc::clone(&ring)));
    Ok(Start { ring, archiver, recovery, memory, restored, taken_up, counting })
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

fn serve_statistics(plan: &Plan, counting: &Arc<Counting>) -> Result<()> {
    let counting = Arc::clone(counting);
    control::serve(&statistics::socket(&plan.store), move |request| match request {
        REQUEST => serde_json::to_string(&counting.now()).ok(),
        _ => None,
    })
}

/// Writes the counters to disk every so often until it is time to stop or a thread has ended.
fn watch(
    stop: &Flag,
    are_well: &dyn Fn() -> bool,
    saver: &mut Saver,
    tell: &mut dyn FnMut(News<'_>),
) {
    let mut is_rate_told = false;
    let mut throttle = Throttle::new(Duration::from_secs(60));
    while !stop.is_raised() {
        thread::sleep(LOOK_INTERVAL);
        if !are_well() {
            stop.raise();
        }
        if saver.is_time() {
            let (statistics, saved) = saver.save();
            if !is_rate_told && statistics.ring.minutes().is_some() {
                tell(News::RingUse(statistics.ring));
                is_rate_told = true;
            }
            if let Err(error) = saved
                && throttle.pass(Instant::now()).is_some()
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
