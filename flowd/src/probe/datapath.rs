//! datapath: the kernel programs' side in user space.

use super::Link;
use flowd_common::{FlowDelta, LedgerEntry, ObservationPoint};
use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

/// What was counted in one generation.
#[derive(Debug, Default)]
pub struct Harvest {
    /// What is to be added to flows.
    pub deltas: Vec<FlowDelta>,
    /// All packets before this time are in it.
    pub until_nanos: i64,
    /// Increments.
    pub ledger: Vec<(ObservationPoint, LedgerEntry)>,
}

/// Where to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookChoice {
    /// What suits the interface.
    Auto,
    /// XDP.
    Xdp,
    /// TC.
    Tc,
}

/// How to count.
#[derive(Clone, Copy, Debug)]
pub struct DatapathConfig {
    /// One packet in so many.
    pub sampling_interval: NonZeroU32,
    /// Entries of each table.
    pub flow_count_max: u32,
}

/// What was used.
#[derive(Clone, Copy, Debug)]
pub struct Attachment {
    /// For packets received.
    pub ingress: &'static str,
    /// For packets sent.
    pub egress: &'static str,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It is not built.
    #[error("this build has no kernel programs; use --hook pcap")]
    NotBuilt,
}

/// The kernel programs.
#[derive(Debug)]
pub struct Datapath;

impl Datapath {
    /// Loads.
    pub fn load(_config: &DatapathConfig) -> Result<Self, ProbeError> {
        Err(ProbeError::NotBuilt)
    }
    /// Attaches.
    pub fn attach(&mut self, _link: &Link, _hook: HookChoice) -> Result<Attachment, ProbeError> {
        Err(ProbeError::NotBuilt)
    }
    /// Detaches.
    pub fn detach(&mut self, _interface: u32) {}
    /// Waits.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        std::thread::sleep(timeout);
        Ok(())
    }
    /// Drains.
    pub fn drain(&mut self) -> Result<Harvest, ProbeError> {
        Ok(Harvest::default())
    }
}
