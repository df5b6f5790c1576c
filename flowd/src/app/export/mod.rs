//! `flowd export`: packets of live interfaces -> flow records -> collectors, until told to stop.
//!
//! ```text
//! LinkMonitor --[select, claim]--> attach, detach
//! Datapath | LiveCapture --[source]--> Meter --> FlowRecord --> Exporter
//!              '--> ledger <--------------'----------'             |
//!                     '--> options data, status <------------------'
//! ```

mod claim;
mod ledger;
mod select;
mod session;
mod source;
mod status;

pub use crate::export::CollectorStatistics;
pub use crate::flow::MeterConfig;
pub use ledger::{Discrepancy, Ledger};
pub use select::Selection;
pub use status::{CollectorStatus, ExporterStatus, Hooks, InterfaceStatus, ask_all};

use super::{clock, shutdown};
use crate::export::{Exporter, ExporterConfig, Sampling};
use crate::model::ObservationDomainId;
use crate::probe::{DatapathConfig, LinkMonitor};
use anyhow::Result;
use session::Session;
use source::Source;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

/// How packets are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Kernel programs, where they suit each interface best.
    Auto,
    /// XDP for what is received, TC for what is sent.
    Xdp,
    /// TC both ways.
    Tc,
    /// libpcap.
    Pcap,
}

/// What to export, and where to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which interfaces.
    pub selection: Selection,
    /// Where the collectors listen.
    pub collectors: Vec<SocketAddr>,
    /// How packets are seen.
    pub hook: Hook,
    /// How flows end.
    pub meter: MeterConfig,
    /// NetFlow v9 Source ID.
    pub source_id: u32,
    /// One packet in so many is metered.
    pub sampling_interval: NonZeroU32,
    /// Entries of each kernel table.
    pub kernel_flow_count_max: u32,
    /// Where the status is asked for.
    pub runtime_directory: PathBuf,
}

/// What an exporter says while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It meters these interfaces: name and hooks.
    Ready(Vec<(String, Hooks)>),
    /// An interface appeared and is metered.
    Attached(String, Hooks),
    /// An interface vanished, or is not selected any more.
    Detached(String),
    /// Something does not work, in words; the rest goes on.
    Trouble(String),
    /// It has ended, with these books, whatever ended it.
    Ended(Box<ExporterStatus>),
}

/// Exports until SIGTERM or SIGINT.
///
/// # Errors
/// If an interface that was named is not there or cannot be attached, if none of those selected
/// can, or if the kernel cannot be asked any more.
pub fn run(plan: &Plan, notify: &mut dyn FnMut(&Notice)) -> Result<()> {
    let stop = shutdown::on_signal()?;
    let monitor = LinkMonitor::new()?;
    plan.selection.check(&monitor.links().collect::<Vec<_>>())?;
    let source = Source::open(
        plan.hook,
        &DatapathConfig {
            sampling_interval: plan.sampling_interval,
            flow_count_max: plan.kernel_flow_count_max,
            ..DatapathConfig::default()
        },
    )?;
    let interval = plan.sampling_interval;
    let exporter = Exporter::new(&ExporterConfig {
        source_id: ObservationDomainId(plan.source_id),
        sampling: (interval.get() > 1).then_some(Sampling { interval }),
        stop: Arc::clone(&stop),
        is_patient: true,
        ..ExporterConfig::new(plan.collectors.clone(), clock::boot())
    })?;
    let mut session = Session::new(plan, monitor, source, exporter);
    session.begin(notify, &stop)?;
    let mut outcome = Ok(());
    while outcome.is_ok() && !stop.is_raised() {
        outcome = session.round(notify);
    }
    // Whatever ended it, what was metered is sent, and the books are told.
    let (end, finished) = session.finish();
    notify(&Notice::Ended(Box::new(end)));
    outcome.and(finished)
}
