//! Where packets come from: kernel programs that count flows, or libpcap.

use super::Hook;
use super::ledger::Ledgers;
use super::status::Hooks;
use crate::app::clock;
use crate::flow::Meter;
use crate::model::FlowRecord;
use crate::probe::{
    Attachment, CapturedPacket, Datapath, DatapathConfig, Harvest, HookChoice, Link, LiveCapture,
    LiveHandle,
};
use crate::telemetry::Throttle;
use anyhow::{Context, Result};
use flowd_common::{DropReason, LedgerEntry};
use std::time::{Duration, Instant};
use tracing::warn;

/// libpcap's buffers are emptied this often: they hold the packets of so long at some 800,000
/// packets a second.
const LIVE_INTERVAL: Duration = Duration::from_millis(50);
/// How often capturing that was interrupted is told of.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Where packets come from.
pub(super) enum Source {
    /// Programs in the kernel.
    Kernel { datapath: Box<Datapath>, hook: HookChoice },
    /// libpcap.
    Live { capture: LiveCapture, throttle: Throttle },
}

impl Source {
    pub(super) fn open(hook: Hook, config: &DatapathConfig) -> Result<Self> {
        let hook = match hook {
            Hook::Auto => HookChoice::Auto,
            Hook::Xdp => HookChoice::Xdp,
            Hook::Tc => HookChoice::Tc,
            Hook::Pcap => {
                let capture = LiveCapture::new();
                return Ok(Self::Live { capture, throttle: Throttle::new(WARN_INTERVAL) });
            }
        };
        let datapath = Datapath::load(config)?;
        Ok(Self::Kernel { datapath: Box::new(datapath), hook })
    }

    /// Must an interface be up to be attached?
    pub(super) const fn needs_up(&self) -> bool {
        matches!(self, Self::Live { .. })
    }

    pub(super) fn attach(&mut self, link: &Link) -> Result<Hooks> {
        match self {
            Self::Kernel { datapath, hook } => {
                let Attachment { ingress, egress } = datapath.attach(link, *hook)?;
                Ok(Hooks { ingress: ingress.to_owned(), egress: egress.to_owned() })
            }
            Self::Live { capture, .. } => {
                capture.attach(link)?;
                Ok(Hooks { ingress: "pcap".to_owned(), egress: "pcap".to_owned() })
            }
        }
    }

    /// What was counted until now stays for the next [`Source::drain`].
    pub(super) fn detach(&mut self, interface: u32) {
        match self {
            Self::Kernel { datapath, .. } => datapath.detach(interface),
            Self::Live { capture, .. } => capture.detach(interface),
        }
    }

    /// As [`Source::detach`], from all.
    pub(super) fn detach_all(&mut self) {
        match self {
            Self::Kernel { datapath, .. } => datapath.detach_all(),
            Self::Live { capture, .. } => capture.detach_all(),
        }
    }

    /// What helps where there is no room for packets.
    pub(super) const fn remedy(&self) -> &'static str {
        match self {
            Self::Kernel { .. } => "raise --kernel-flows",
            Self::Live { .. } => "leave out interfaces, or use --hook tc",
        }
    }

    /// Waits until it is time to drain.
    pub(super) fn wait(&self, timeout: Duration) -> Result<()> {
        match self {
            Self::Kernel { datapath, .. } => datapath.wait(timeout).context("wait for flows"),
            Self::Live { .. } => {
                std::thread::sleep(timeout.min(LIVE_INTERVAL));
                Ok(())
            }
        }
    }

    /// Accounts what came since the last call; returns the time up to which everything is in.
    pub(super) fn drain(
        &mut self,
        meter: &mut Meter,
        ledgers: &mut Ledgers,
        records: &mut Vec<FlowRecord>,
    ) -> Result<i64> {
        match self {
            Self::Kernel { datapath, .. } => {
                let Harvest { deltas, until_nanos, ledger } = datapath.drain()?;
                for delta in &deltas {
                    meter.account(delta, records);
                }
                for (point, increment) in &ledger {
                    ledgers.add(*point, increment);
                }
                Ok(until_nanos)
            }
            Self::Live { capture, throttle } => {
                let until_nanos = clock::now_nanos();
                for handle in capture.handles() {
                    let read = read_handle(handle, until_nanos, meter, ledgers, records);
                    if let Err(words) = read
                        && let Some(suppressed) = throttle.pass(Instant::now())
                    {
                        let interface = handle.point().interface;
                        warn!(interface, reason = words, suppressed, "capture is interrupted");
                    }
                }
                capture.forget_detached();
                Ok(until_nanos)
            }
        }
    }
}

/// Meters what a handle captured, and enters what the meter made of it.
fn read_handle(
    handle: &mut LiveHandle,
    until_nanos: i64,
    meter: &mut Meter,
    ledgers: &mut Ledgers,
    records: &mut Vec<FlowRecord>,
) -> Result<(), String> {
    let before = Answers::of(meter);
    let mut observe = |packet: &CapturedPacket<'_>| meter.observe(packet, records);
    let read = handle.read(until_nanos, &mut observe);
    let mut increment = Answers::of(meter).since(&before);
    let dropped = handle.dropped();
    increment.seen_packets = increment.seen_packets.saturating_add(dropped);
    increment.unaccounted_packets = dropped;
    ledgers.add(handle.point(), &increment);
    read
}

/// What a meter has answered so far.
struct Answers(LedgerEntry);

impl Answers {
    fn of(meter: &Meter) -> Self {
        let books = meter.books();
        let mut refused = [0; DropReason::COUNT];
        for (reason, count) in books.refusals() {
            refused[reason.index()] = count;
        }
        Self(LedgerEntry {
            seen_packets: books.packets_seen,
            seen_octets: books.accounted.octets,
            unaccounted_packets: 0,
            unaccounted_octets: 0,
            not_selected_packets: 0,
            fragments_stitched: books.fragments_stitched,
            fragments_unstitched: books.fragments_unstitched,
            refused,
        })
    }

    /// What it answered since `before`: the sums only grow.
    fn since(self, before: &Self) -> LedgerEntry {
        let mut increment = self.0;
        let Self(before) = before;
        increment.seen_packets -= before.seen_packets;
        increment.seen_octets = increment.seen_octets.wrapping_sub(before.seen_octets);
        increment.fragments_stitched -= before.fragments_stitched;
        increment.fragments_unstitched -= before.fragments_unstitched;
        for (count, before) in increment.refused.iter_mut().zip(before.refused) {
            *count -= before;
        }
        increment
    }
}
