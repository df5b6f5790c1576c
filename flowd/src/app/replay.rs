//! `flowd replay`: captures -> flow records -> export, store or print.

use super::writer::StoreWriter;
use super::{clock, shutdown};
use crate::export::{CollectorStatistics, Exporter, ExporterConfig, Pace as ExportPace};
use crate::flow::{Books, Meter};
use crate::model::time::UnixMillis;
use crate::model::{FlowRecord, ObservationDomainId};
use crate::probe::{CaptureError, CaptureFile, CapturedPacket};
use crate::telemetry::Flag;
use anyhow::{Context, Result};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crate::flow::MeterConfig;

/// Records that are handed on together.
const RECORDS_HANDED_ON: usize = 1_024;
/// In replay an exporter has been up for an hour when its first packet comes.
const UPTIME_AT_START_MILLIS: i64 = 3_600_000;
/// Messages a second to a collector on another machine, whose buffer cannot be looked at: about
/// 300,000 records, a tenth of what nfcapd takes without loss.
const REMOTE_RATE: NonZeroU32 = NonZeroU32::new(20_000).expect("not zero");

/// What to replay, and where to.
pub struct Plan {
    /// Captures, one after another.
    pub files: Vec<PathBuf>,
    /// How flows end.
    pub meter: MeterConfig,
    /// This multiple of the capture's own speed; none means as fast as possible.
    pub speed: Option<f64>,
}

/// Where records go.
pub enum Target<'a> {
    /// To collectors, as NetFlow v9.
    Export {
        /// Where they are.
        collectors: Vec<SocketAddr>,
        /// Source ID.
        source_id: u32,
    },
    /// Into a store.
    Store(PathBuf),
    /// To whoever prints them.
    Print(&'a mut dyn FnMut(&FlowRecord) -> io::Result<()>),
}

/// What was done, for the words on stderr.
#[derive(Debug)]
pub struct Report {
    /// What became of each packet.
    pub meter: Books,
    /// What was exported to each collector.
    pub exported: Vec<CollectorStatistics>,
    /// Records stored.
    pub stored: Option<u64>,
    /// What is wrong with a capture: the records up to there were handed on.
    pub damage: Option<anyhow::Error>,
    /// A signal ended it before the captures were.
    pub is_cut_short: bool,
}

enum Sink<'a> {
    /// The exporter is made when the first packet tells the time.
    Export {
        config: ExporterConfig,
        exporter: Option<Box<Exporter>>,
    },
    Store(Box<StoreWriter>),
    Print(&'a mut dyn FnMut(&FlowRecord) -> io::Result<()>),
}

/// Replays the captures.
///
/// # Errors
/// If a capture cannot be opened or records cannot be handed on. A damaged capture is no error
/// here but stands in the report.
pub fn run(plan: &Plan, target: Target<'_>) -> Result<Report> {
    let captures = plan.files.iter().map(|file| Ok((file, CaptureFile::open(file)?)));
    let captures = captures.collect::<Result<Vec<_>>>()?;
    let stop = shutdown::on_signal()?;
    let mut sink = Sink::open(target, plan.speed.is_some(), &stop)?;
    let mut meter = Meter::new(&plan.meter);
    let mut pace = plan.speed.map(|speed| Pace { speed, began: None });
    let mut records = Vec::with_capacity(RECORDS_HANDED_ON);
    let mut damage = None;
    for (file, capture) in &captures {
        let metered = capture.packets().map_err(anyhow::Error::new).and_then(|packets| {
            for packet in packets.take_while(|_| !stop.is_raised()) {
                let packet = packet?;
                if let Some(pace) = &mut pace {
                    pace.wait(packet.time_nanos, &stop);
                }
                observe(&mut meter, &packet, &mut records, &mut sink, pace.is_some())?;
            }
            Ok(())
        });
        if let Err(error) = metered {
            if !error.is::<CaptureError>() {
                return Err(error);
            }
            damage = Some(error.context(file.display().to_string()));
            break;
        }
    }
    meter.finish(&mut records);
    sink.hand_on(&records, meter.clock())?;
    let (exported, stored) = sink.finish(meter.clock())?;
    Ok(Report {
        meter: meter.books().clone(),
        exported,
        stored,
        damage,
        is_cut_short: stop.is_raised(),
    })
}

fn observe(
    meter: &mut Meter,
    packet: &CapturedPacket<'_>,
    records: &mut Vec<FlowRecord>,
    sink: &mut Sink<'_>,
    at_once: bool,
) -> Result<()> {
    sink.begin(UnixMillis::from_nanos(packet.time_nanos))?;
    meter.observe(packet, records);
    if records.len() >= RECORDS_HANDED_ON || (at_once && !records.is_empty()) {
        sink.hand_on(records, meter.clock())?;
        records.clear();
    }
    Ok(())
}

impl<'a> Sink<'a> {
    fn open(target: Target<'a>, paced: bool, stop: &Arc<Flag>) -> Result<Self> {
        Ok(match target {
            Target::Export { collectors, source_id } => {
                let pace = ExportPace::AsTaken { remote_rate: REMOTE_RATE };
                let config = ExporterConfig {
                    source_id: ObservationDomainId(source_id),
                    pace: if paced { ExportPace::AsMade } else { pace },
                    stop: Arc::clone(stop),
                    ..ExporterConfig::new(collectors, UnixMillis::default())
                };
                Self::Export { config, exporter: None }
            }
            Target::Store(path) => Self::Store(Box::new(StoreWriter::open(&path)?)),
            Target::Print(each) => Self::Print(each),
        })
    }

    /// Learns the time of the first packet.
    fn begin(&mut self, first: UnixMillis) -> Result<()> {
        if let Self::Export { config, exporter } = self
            && exporter.is_none()
        {
            config.boot = UnixMillis(first.0.saturating_sub(UPTIME_AT_START_MILLIS));
            *exporter = Some(Box::new(Exporter::new(config)?));
        }
        Ok(())
    }

    fn hand_on(&mut self, records: &[FlowRecord], now: UnixMillis) -> Result<()> {
        match self {
            Self::Export { exporter, .. } => {
                if let Some(exporter) = exporter {
                    exporter.export(records, now);
                }
            }
            Self::Store(writer) => writer.write(records, clock::now())?,
            Self::Print(each) => records.iter().try_for_each(each).context("print records")?,
        }
        Ok(())
    }

    fn finish(self, now: UnixMillis) -> Result<(Vec<CollectorStatistics>, Option<u64>)> {
        match self {
            Self::Export { exporter, .. } => {
                let statistics = exporter.map(|mut exporter| {
                    exporter.flush(now);
                    exporter.statistics()
                });
                Ok((statistics.unwrap_or_default(), None))
            }
            Self::Store(writer) => Ok((Vec::new(), Some(writer.finish()?))),
            Self::Print(_) => Ok((Vec::new(), None)),
        }
    }
}

/// Waits as long as the capture did, divided by the speed.
struct Pace {
    speed: f64,
    began: Option<(Instant, i64)>,
}

impl Pace {
    /// Looks at the flag this often while it waits.
    const LOOK: Duration = Duration::from_millis(100);

    fn wait(&mut self, time_nanos: i64, stop: &Flag) {
        let (start, first_nanos) = *self.began.get_or_insert_with(|| (Instant::now(), time_nanos));
        let nanos = u64::try_from(time_nanos.saturating_sub(first_nanos)).unwrap_or(0);
        let due = Duration::from_nanos(nanos).div_f64(self.speed);
        while !stop.is_raised() && start.elapsed() < due {
            std::thread::sleep(due.saturating_sub(start.elapsed()).min(Self::LOOK));
        }
    }
}
