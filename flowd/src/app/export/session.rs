//! One run of an exporter: interfaces followed, flows metered and sent, books kept.

use super::claim::Claim;
use super::ledger::Ledgers;
use super::source::Source;
use super::status::{CollectorStatus, ExporterStatus, Hooks, InterfaceStatus, StatusSocket};
use super::{Notice, Plan, Selection};
use crate::app::clock;
use crate::export::{Exporter, InterfaceOptions, PointLedger};
use crate::flow::Meter;
use crate::model::{FlowRecord, PointTotals};
use crate::probe::{Link, LinkError, LinkEvent, LinkMonitor};
use crate::telemetry::{Flag, Throttle};
use anyhow::{Context, Result, bail};
use flowd_common::{Direction, ObservationPoint};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{error, warn};

/// How often the kernel's tables are drained and the books written up.
const INTERVAL: Duration = Duration::from_secs(1);
/// A wall clock that was set back by more than this makes flows end at once: their timeouts
/// would wait for it to come by again.
const STEP_BACK_NANOS: i64 = 2_000_000_000;

/// How often packets that there was no room for are told of.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// An interface that is or was metered.
struct Interface {
    name: String,
    description: String,
    hooks: Hooks,
    /// None once it has vanished.
    claim: Option<Claim>,
}

/// As what an interface was when it was tried: its name, and whether it was up.
type Tried = (String, bool);

fn tried(link: &Link) -> Tried {
    (link.name.clone(), link.is_up)
}

/// One run.
pub(super) struct Session {
    selection: Selection,
    config: crate::flow::MeterConfig,
    source: Source,
    monitor: LinkMonitor,
    interfaces: BTreeMap<u32, Interface>,
    /// Interfaces that could not be attached: not tried again while they are as they were.
    failed: BTreeMap<u32, Tried>,
    meter: Meter,
    exporter: Exporter,
    ledgers: Ledgers,
    records: Vec<FlowRecord>,
    /// When the books were written up last.
    written: Option<Instant>,
    status: Arc<Mutex<ExporterStatus>>,
    socket: Option<StatusSocket>,
    runtime_directory: std::path::PathBuf,
    is_unbalanced: bool,
    /// Warnings of packets that there was no room for.
    full: Throttle,
}

impl Session {
    pub(super) fn new(
        plan: &Plan,
        monitor: LinkMonitor,
        source: Source,
        exporter: Exporter,
    ) -> Self {
        let status = ExporterStatus {
            process_id: std::process::id(),
            since: clock::now().to_string(),
            source_id: plan.source_id,
            sampling_interval: plan.sampling_interval.get(),
            ..ExporterStatus::default()
        };
        Self {
            selection: plan.selection.clone(),
            config: plan.meter.clone(),
            source,
            monitor,
            interfaces: BTreeMap::new(),
            failed: BTreeMap::new(),
            meter: Meter::new(&plan.meter),
            exporter,
            ledgers: Ledgers::default(),
            records: Vec::new(),
            written: None,
            status: Arc::new(Mutex::new(status)),
            socket: None,
            runtime_directory: plan.runtime_directory.clone(),
            is_unbalanced: false,
            full: Throttle::new(WARN_INTERVAL),
        }
    }

    /// Attaches to what is there, until somebody wants to stop: each takes some 15 ms.
    pub(super) fn begin(&mut self, notify: &mut dyn FnMut(&Notice), stop: &Flag) -> Result<()> {
        let is_named = matches!(self.selection, Selection::Named(_));
        let wanted = self.monitor.links().filter(|link| self.selection.wants(link));
        let wanted: Vec<Link> = wanted.cloned().collect();
        let mut troubles = Vec::new();
        for link in wanted.iter().take_while(|_| !stop.is_raised()) {
            if self.is_to_wait(link) && !is_named {
                continue;
            }
            match self.attach(link) {
                Ok(Some(_)) => {}
                Ok(None) if is_named => bail!("{} has another name now; start again", link.name),
                Ok(None) => {}
                Err(error) if is_named => return Err(error),
                Err(error) => troubles.push(error),
            }
        }
        if self.interfaces.is_empty()
            && let Some(error) = troubles.pop()
        {
            return Err(error.context("no interface can be metered"));
        }
        for error in troubles {
            notify(&Notice::Trouble(format!("{error:#}")));
        }
        let status = Arc::clone(&self.status);
        let answer = move || status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match StatusSocket::open(&self.runtime_directory, answer) {
            Ok(socket) => self.socket = Some(socket),
            Err(error) => {
                notify(&Notice::Trouble(format!("no status can be asked for: {error:#}")))
            }
        }
        self.write_up();
        let ready = self.interfaces.values().map(|it| (it.name.clone(), it.hooks.clone()));
        notify(&Notice::Ready(ready.collect()));
        Ok(())
    }

    /// Follows the interfaces, meters what came, sends what ended.
    pub(super) fn round(&mut self, notify: &mut dyn FnMut(&Notice)) -> Result<()> {
        let is_due = |written: Option<Instant>| written.is_none_or(|it| it.elapsed() >= INTERVAL);
        self.source.wait(INTERVAL)?;
        for event in self.monitor.events()? {
            self.follow(&event, notify);
        }
        self.drain()?;
        self.hand_on();
        if is_due(self.written) {
            self.write_up();
        }
        for claim in self.interfaces.values().filter_map(|it| it.claim.as_ref()) {
            claim.tend();
        }
        Ok(())
    }

    /// Detaches, ends all flows and sends what is left.
    ///
    /// The books at the end are there also if the kernel could not be asked for the last of it.
    pub(super) fn finish(mut self) -> (ExporterStatus, Result<()>) {
        self.source.detach_all();
        let drained = self.drain();
        self.meter.finish(&mut self.records);
        self.hand_on();
        // The books at the end are told too, and what telling them took is in the last status.
        self.write_up();
        self.exporter.finish(clock::now());
        self.write_up();
        drop(self.socket.take());
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (status, drained)
    }

    /// Nothing passes an interface that is down, and libpcap cannot capture on it: it is attached
    /// when it is up.
    fn is_to_wait(&self, link: &Link) -> bool {
        self.source.needs_up() && !link.is_up
    }

    /// Attaches to an interface as it is now, which may not be what was told of it. None if it is
    /// not wanted any more.
    fn attach(&mut self, told: &Link) -> Result<Option<Notice>> {
        let index = told.index;
        // The mark is set before it can fail, and taken back when it did not.
        self.failed.insert(index, tried(told));
        let link = self.monitor.look(index).with_context(|| told.name.clone())?;
        if !self.selection.wants(&link) {
            self.failed.remove(&index);
            return Ok(None);
        }
        self.failed.insert(index, tried(&link));
        let claim = Claim::new(index, &link.name)?;
        let hooks = self.source.attach(&link)?;
        self.failed.remove(&index);
        let Link { name, description, received, sent, .. } = link;
        for (direction, counters) in [(Direction::INGRESS, received), (Direction::EGRESS, sent)] {
            self.ledgers.before_attach(ObservationPoint::new(index, direction), counters);
        }
        let attached = Notice::Attached(name.clone(), hooks.clone());
        let interface = Interface { name, description, hooks, claim: Some(claim) };
        self.interfaces.insert(index, interface);
        Ok(Some(attached))
    }

    fn is_attached(&self, index: u32) -> bool {
        self.interfaces.get(&index).is_some_and(|it| it.claim.is_some())
    }

    fn follow(&mut self, event: &LinkEvent, notify: &mut dyn FnMut(&Notice)) {
        let link = match event {
            LinkEvent::Vanished(link) => {
                self.failed.remove(&link.index);
                self.detach(link.index, notify);
                return;
            }
            LinkEvent::Appeared(link) | LinkEvent::Changed(link) => link,
        };
        if self.is_attached(link.index) {
            let is_excluded =
                matches!(self.selection, Selection::All { .. }) && !self.selection.wants(link);
            if is_excluded {
                self.detach(link.index, notify);
            } else if let Some(interface) = self.interfaces.get_mut(&link.index) {
                interface.name.clone_from(&link.name);
                interface.description.clone_from(&link.description);
            }
            return;
        }
        let is_tried = self.failed.get(&link.index) == Some(&tried(link));
        if !is_tried {
            self.failed.remove(&link.index);
        }
        if !self.selection.wants(link) || is_tried || self.is_to_wait(link) {
            return;
        }
        match self.attach(link) {
            Ok(attached) => attached.iter().for_each(notify),
            // It may have gone again meanwhile, as what is made for a container goes there.
            Err(_) if matches!(self.monitor.look(link.index), Err(LinkError::Gone { .. })) => {}
            Err(error) => notify(&Notice::Trouble(format!("{error:#}"))),
        }
    }

    fn detach(&mut self, index: u32, notify: &mut dyn FnMut(&Notice)) {
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        if interface.claim.take().is_some() {
            notify(&Notice::Detached(interface.name.clone()));
            self.source.detach(index);
        }
    }

    fn drain(&mut self) -> Result<()> {
        let until_nanos = self
            .source
            .drain(&mut self.meter, &mut self.ledgers, &mut self.records)
            .context("read what was counted")?;
        let unaccounted = self.ledgers.take_unaccounted();
        if unaccounted > 0
            && let Some(suppressed) = self.full.pass(Instant::now())
        {
            let remedy = self.source.remedy();
            warn!(packets = unaccounted, suppressed, remedy, "packets are counted, but in no flow");
        }
        let clock_nanos = self.meter.advance(until_nanos, &mut self.records);
        if clock_nanos.saturating_sub(until_nanos) > STEP_BACK_NANOS {
            self.meter.finish(&mut self.records);
            self.meter = Meter::new(&self.config);
        }
        Ok(())
    }

    /// Sends what ended.
    fn hand_on(&mut self) {
        let now = clock::now();
        self.ledgers.record(&self.records);
        self.exporter.export(&self.records, now);
        self.records.clear();
        self.exporter.flush(now);
    }

    /// Writes up the books: for the options data, for whoever asks, and whether they balance.
    fn write_up(&mut self) {
        self.written = Some(Instant::now());
        let cached = self.meter.cached_at();
        let gone = self.interfaces.iter().filter(|(_, it)| it.claim.is_none());
        let gone: Vec<u32> = gone.map(|(&index, _)| index).collect();
        for index in gone {
            if self.ledgers.lay_aside(index, &cached) {
                self.interfaces.remove(&index);
                self.exporter.forget(index);
            }
        }
        let interfaces: Vec<InterfaceStatus> =
            self.interfaces.iter().map(|(&index, it)| self.look(index, it, &cached)).collect();
        self.exporter.describe(interfaces.iter().map(options).collect());
        let recorded = self.ledgers.recorded().records;
        let collectors = self.exporter.statistics().into_iter().map(|statistics| {
            let not_sent: u64 = statistics.not_sent.values().map(|totals| totals.records).sum();
            let told = statistics.exported.records.wrapping_add(not_sent);
            CollectorStatus { discrepancy: recorded.wrapping_sub(told).cast_signed(), statistics }
        });
        let collectors = collectors.collect();
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.at = clock::now().to_string();
        status.interfaces = interfaces;
        status.vanished = self.ledgers.vanished();
        status.collectors = collectors;
        let is_balanced = status.is_balanced();
        if !is_balanced && !self.is_unbalanced {
            self.is_unbalanced = true;
            error!("the books do not balance, see flowd export --status; please report this");
        }
    }

    fn look(&self, index: u32, interface: &Interface, cached: &PointTotals) -> InterfaceStatus {
        let Interface { name, description, hooks, claim } = interface;
        let of = |direction| self.ledgers.of(ObservationPoint::new(index, direction), cached);
        InterfaceStatus {
            index,
            name: name.clone(),
            description: description.clone(),
            is_attached: claim.is_some(),
            hooks: hooks.clone(),
            ingress: of(Direction::INGRESS),
            egress: of(Direction::EGRESS),
        }
    }
}

/// What collectors are told of an interface.
fn options(interface: &InterfaceStatus) -> InterfaceOptions {
    let ledgers =
        [(Direction::INGRESS, &interface.ingress), (Direction::EGRESS, &interface.egress)];
    InterfaceOptions {
        interface: interface.index,
        name: interface.name.clone(),
        description: interface.description.clone(),
        ledgers: ledgers
            .map(|(direction, ledger)| PointLedger {
                direction,
                seen: ledger.seen,
                flows: ledger.recorded.records,
                ignored: ledger.ignored(),
            })
            .to_vec(),
    }
}
