//! `flowd store send`: records of a store -> NetFlow v9 to another collector.

use super::around::records_around_damage;
use super::query::StoreSource;
use super::{clock, shutdown};
use crate::export::{CollectorStatistics, Exporter, ExporterConfig, Pace};
use crate::model::{FlowRecord, ObservationDomainId};
use crate::query::{Coverage, Outcome, Plan as QueryPlan, QueryError, run_records};
use crate::telemetry::Flag;
use anyhow::Result;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records that are handed to the exporter together.
const RECORDS_AT_ONCE: usize = 1_024;
/// Messages a second to a collector on another machine, where no rate is asked for.
const REMOTE_RATE: NonZeroU32 = NonZeroU32::new(20_000).expect("not zero");

/// What to send, and where to.
pub struct Plan {
    /// The store's directory.
    pub store: PathBuf,
    /// Which records: the filter and the time range.
    pub query: QueryPlan,
    /// Where the collector listens.
    pub collector: SocketAddr,
    /// Source ID of what is sent.
    pub source_id: u32,
    /// Records a second; none is as fast as the collector takes them.
    pub rate: Option<NonZeroU32>,
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// Records that matched.
    pub matched: u64,
    /// What became of them; none if there was no record.
    pub sent: Option<CollectorStatistics>,
    /// Parts of the store that cannot be read, in words.
    pub damage: Vec<String>,
    /// Records in those of these parts that were left out, whether they match or not.
    pub left_out: u64,
    /// A signal, or what could not be read, ended it before the last record.
    pub is_cut_short: bool,
}

/// Sends the records, the oldest part of the store first and within it as they are stored.
///
/// # Errors
/// If the store cannot be read or there is no way to the collector.
pub fn run(plan: &Plan) -> Result<Report> {
    let stop = shutdown::on_signal()?;
    let source = StoreSource::open_for(&plan.store, plan.query.time_range(), &plan.query.probes())?
        .oldest_first();
    let config = ExporterConfig {
        source_id: ObservationDomainId(plan.source_id),
        pace: Pace::AsTaken { remote_rate: REMOTE_RATE },
        has_old_records: true,
        stop: Arc::clone(&stop),
        ..ExporterConfig::new(
            vec![plan.collector],
            ExporterConfig::boot_for_old_records(clock::now()),
        )
    };
    let mut sender = Sender {
        exporter: Exporter::new(&config)?,
        records: Vec::with_capacity(RECORDS_AT_ONCE),
        matched: 0,
        schedule: plan.rate.map(Schedule::new),
        stop: Arc::clone(&stop),
    };
    let outcome = records_around_damage(&source, &mut |record| sender.add(record), |each| {
        run_records(&plan.query, &source, &stop, each)
    });
    let (damage, is_cut_short) = match outcome {
        Ok(Outcome { coverage, .. }) => (damage(coverage), stop.is_raised()),
        Err(QueryError::Cancelled) => (Vec::new(), true),
        // What was sent is told all the same.
        Err(error) if sender.matched > 0 => (vec![error.to_string()], true),
        Err(error) => return Err(error.into()),
    };
    let left_out = source.records_left_out();
    sender.hand_on();
    sender.exporter.flush(clock::now());
    let sent = sender.exporter.statistics().pop();
    Ok(Report { matched: sender.matched, sent, damage, left_out, is_cut_short })
}

/// What cannot be read, and why.
fn damage(mut coverage: Coverage) -> Vec<String> {
    if let Some(unreachable) = coverage.unreachable {
        coverage.damage.retain(|damage| !unreachable.starts_with(damage));
        coverage.damage.push(unreachable);
    }
    coverage.damage
}

struct Sender {
    exporter: Exporter,
    records: Vec<FlowRecord>,
    matched: u64,
    schedule: Option<Schedule>,
    stop: Arc<Flag>,
}

impl Sender {
    fn add(&mut self, record: &FlowRecord) {
        self.matched += 1;
        self.records.push(record.clone());
        let at_once = self.schedule.as_ref().map_or(RECORDS_AT_ONCE, |it| it.records_at_once);
        if self.records.len() >= at_once {
            self.hand_on();
        }
    }

    fn hand_on(&mut self) {
        if let Some(schedule) = &mut self.schedule {
            schedule.wait(self.records.len(), &self.stop);
        }
        let now = clock::now();
        self.exporter.export(&self.records, now);
        if self.schedule.is_some() {
            // What is slow enough to be watched arrives as it is sent.
            self.exporter.flush(now);
        }
        self.records.clear();
    }
}

/// When records are due.
struct Schedule {
    rate: NonZeroU32,
    records_at_once: usize,
    began: Instant,
    records: u64,
}

impl Schedule {
    /// Looks at the flag this often while it waits.
    const LOOK: Duration = Duration::from_millis(100);

    /// So many records a second, some twenty times a second.
    fn new(rate: NonZeroU32) -> Self {
        let records_at_once = usize::try_from(rate.get() / 20).unwrap_or(RECORDS_AT_ONCE);
        Self {
            rate,
            records_at_once: records_at_once.clamp(1, RECORDS_AT_ONCE),
            began: Instant::now(),
            records: 0,
        }
    }

    /// Waits until so many more records are due, or somebody wants to stop.
    fn wait(&mut self, records: usize, stop: &Flag) {
        let nanos = u128::from(self.records) * 1_000_000_000 / u128::from(self.rate.get());
        let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        while !stop.is_raised() && self.began.elapsed() < due {
            std::thread::sleep(due.saturating_sub(self.began.elapsed()).min(Self::LOOK));
        }
        self.records += records as u64;
    }
}
