//! `flowd resend`: the export datagrams of a capture -> the same octets, sent again in their time.
//!
//! ```text
//! capture --[Datagrams]--> datagram --[Schedule, Clock]--> when it is due --[Sockets]--> collector
//! ```

mod mtu;
mod sockets;
#[cfg(test)]
mod tests;

use super::datagrams::{Carried, Datagrams};
use super::shutdown;
use crate::export::{Pace, Pacer};
use crate::probe::CaptureFile;
use crate::telemetry::{Drops, Flag, Reason};
use anyhow::{Context, Result};
use sockets::Sockets;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Datagrams a second to a collector on another machine, when they are to go as fast as possible.
const REMOTE_RATE: NonZeroU32 = NonZeroU32::new(20_000).expect("not zero");

/// What to send, and where to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The capture.
    pub file: PathBuf,
    /// Where to.
    pub collector: SocketAddr,
    /// This multiple of the capture's speed; none means as fast as the collector takes it.
    pub speed: Option<f64>,
}

/// What was sent and what was not.
#[derive(Debug, Default)]
pub struct Report {
    /// Datagrams sent.
    pub datagrams: u64,
    /// Their octets of payload.
    pub octets: u64,
    /// Exporters that they were captured from.
    pub exporters: usize,
    /// How long it took.
    pub taken: Duration,
    /// Datagrams that were not sent, in words, with their count.
    pub not_sent: BTreeMap<&'static str, u64>,
    /// What the last error of the network was.
    pub last_error: Option<io::Error>,
    /// Datagrams that were larger than the path's MTU, and that MTU: they went in fragments.
    pub fragmented: Option<(u64, usize)>,
    /// IPFIX messages of TCP connections, which are no datagrams and were not sent.
    pub tcp_messages: u64,
    /// What did not become a whole datagram, in words, with its count.
    pub not_whole: BTreeMap<&'static str, u64>,
    /// What is wrong with the capture: the datagrams up to there were sent.
    pub damage: Option<anyhow::Error>,
    /// A signal ended it before the capture was.
    pub is_cut_short: bool,
}

/// Why a datagram of the capture was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotSent {
    /// The capture has its beginning only.
    Cut,
    /// The collector's host answered that nobody listens.
    Refused,
    /// There is no way to the collector.
    Unreachable,
    /// It is larger than any datagram of the collector's address family.
    TooLarge,
    /// Its exporter is one too many.
    ExporterOverLimit,
    /// The system would not send it for another reason.
    Failed,
}

impl Reason for NotSent {
    const ALL: &'static [Self] = &[
        Self::Cut,
        Self::Refused,
        Self::Unreachable,
        Self::TooLarge,
        Self::ExporterOverLimit,
        Self::Failed,
    ];

    fn index(self) -> usize {
        match self {
            Self::Cut => 0,
            Self::Refused => 1,
            Self::Unreachable => 2,
            Self::TooLarge => 3,
            Self::ExporterOverLimit => 4,
            Self::Failed => 5,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut short by the capture (tcpdump -s 0 takes whole packets)",
            Self::Refused => "refused: nobody listens there",
            Self::Unreachable => "without a way to the collector",
            Self::TooLarge => "too large for a datagram",
            Self::ExporterOverLimit => "of exporters beyond the 900 that are told apart",
            Self::Failed => "that the system would not send",
        }
    }
}

/// Sends the datagrams of a capture until its end or a signal.
///
/// # Errors
/// If the file cannot be opened or is no capture. A damaged capture, and datagrams that could not
/// be sent, stand in the report.
pub fn run(plan: &Plan) -> Result<Report> {
    let capture = CaptureFile::open(&plan.file)?;
    let stop = shutdown::on_signal()?;
    let mut sockets = Sockets::new(plan.collector);
    let clock = WallClock { start: Instant::now() };
    let pace = match plan.speed {
        Some(_) => Pace::AsMade,
        None => Pace::AsTaken { remote_rate: REMOTE_RATE },
    };
    let mut pacer = Pacer::new(pace, plan.collector, Arc::clone(&stop));
    let mut send = |from: SocketAddr, payload: &[u8]| {
        // Whether a queue was full for too long shows in what the collector misses.
        pacer.wait();
        sockets.send(from, payload)
    };
    let mut work = Work::new(plan.speed, &clock, &stop, &mut send);
    work.capture(&capture, &plan.file)?;
    let mut report = work.finish();
    report.taken = clock.elapsed();
    sockets.tell(&mut report);
    Ok(report)
}

/// Sends a datagram of an exporter.
type Send<'a> = &'a mut dyn FnMut(SocketAddr, &[u8]) -> Result<(), NotSent>;

/// Reads a capture and sends what it finds.
struct Work<'a> {
    schedule: Option<Schedule>,
    clock: &'a dyn Clock,
    stop: &'a Flag,
    send: Send<'a>,
    drops: Drops<NotSent>,
    report: Report,
}

impl<'a> Work<'a> {
    fn new(speed: Option<f64>, clock: &'a dyn Clock, stop: &'a Flag, send: Send<'a>) -> Self {
        let schedule = speed.map(Schedule::new);
        Self { schedule, clock, stop, send, drops: Drops::default(), report: Report::default() }
    }

    fn capture(&mut self, capture: &CaptureFile, file: &Path) -> Result<()> {
        let named = || file.display().to_string();
        let mut datagrams = Datagrams::default();
        for packet in capture.packets().with_context(named)? {
            if self.stop.is_raised() {
                self.report.is_cut_short = true;
                break;
            }
            let packet = match packet {
                Ok(packet) => packet,
                Err(error) => {
                    self.report.damage = Some(anyhow::Error::new(error).context(named()));
                    break;
                }
            };
            datagrams.packet(&packet, &mut |carried| self.take(packet.time_nanos, carried));
        }
        datagrams.finish(&mut |carried| {
            if let Carried::Message { .. } = carried {
                self.report.tcp_messages += 1;
            }
        });
        self.report.not_whole = datagrams.drops();
        Ok(())
    }

    fn take(&mut self, time_nanos: i64, carried: Carried<'_>) {
        let (from, payload) = match carried {
            Carried::Datagram { is_whole: false, .. } => {
                self.drops.count(NotSent::Cut, 1);
                return;
            }
            Carried::Datagram { from, payload, is_whole: true } => (from, payload),
            Carried::Message { .. } => {
                self.report.tcp_messages += 1;
                return;
            }
            Carried::Closed { .. } => return,
        };
        if let Some(schedule) = &mut self.schedule {
            self.clock.wait_until(schedule.due(time_nanos), self.stop);
        }
        if self.stop.is_raised() {
            self.report.is_cut_short = true;
            return;
        }
        match (self.send)(from, payload) {
            Ok(()) => {
                self.report.datagrams += 1;
                self.report.octets += u64::try_from(payload.len()).unwrap_or(u64::MAX);
            }
            Err(reason) => self.drops.count(reason, 1),
        }
    }

    fn finish(self) -> Report {
        let drops = self.drops.iter().filter(|&(_, count)| count > 0);
        let not_sent = drops.map(|(reason, count)| (reason.name(), count)).collect();
        Report { not_sent, ..self.report }
    }
}

/// Time since sending began.
trait Clock {
    /// How long ago that was.
    fn elapsed(&self) -> Duration;

    /// Waits until so long after it, or until the wish to stop.
    fn wait_until(&self, due: Duration, stop: &Flag);
}

/// The host's clock.
struct WallClock {
    start: Instant,
}

impl WallClock {
    /// Looks at the flag this often while it waits.
    const LOOK: Duration = Duration::from_millis(100);
}

impl Clock for WallClock {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn wait_until(&self, due: Duration, stop: &Flag) {
        while !stop.is_raised() {
            let left = due.saturating_sub(self.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Self::LOOK));
        }
    }
}

/// When each datagram is due: as long after the first as in the capture, divided by the speed.
#[derive(Debug)]
struct Schedule {
    speed: f64,
    first_nanos: Option<i64>,
}

impl Schedule {
    const fn new(speed: f64) -> Self {
        Self { speed, first_nanos: None }
    }

    fn due(&mut self, time_nanos: i64) -> Duration {
        let first_nanos = *self.first_nanos.get_or_insert(time_nanos);
        // What was captured before the first, by a clock that was set back, is due at once.
        let nanos = u64::try_from(time_nanos.saturating_sub(first_nanos)).unwrap_or(0);
        let seconds = Duration::from_nanos(nanos).as_secs_f64() / self.speed;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}
