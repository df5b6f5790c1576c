//! Coverage: what an answer could not know, said after every answer.

use crate::model::ObservationDomainId;
use crate::model::time::UnixMillis;
use std::net::IpAddr;

/// What the store holds for the time that was asked for, and what it knows to be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// First and last receipt of what is held; none if nothing is.
    pub span: Option<(UnixMillis, UnixMillis)>,
    /// Times from which records are missing because this store lost or dropped them.
    pub gaps: Vec<Gap>,
    /// What exporters sent that never arrived.
    pub losses: Vec<ExporterLoss>,
    /// Parts of the store that cannot be read or are not there, in words: the records in them
    /// are missing from the answer.
    pub damage: Vec<String>,
    /// What of it cannot be reached where it lies, and why, in a line.
    pub unreachable: Option<String>,
    /// Exporters that saw only a sample of the packets; counters stay unscaled.
    pub sampling: Vec<SampledExporter>,
}

/// A time from which records are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When it began.
    pub since: UnixMillis,
    /// When it ended.
    pub until: UnixMillis,
    /// How many records are missing, if that is known.
    pub records: Option<u64>,
    /// Why, as in the drop counters: `backlogFull`.
    pub reason: String,
}

/// What an exporter sent that never arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExporterLoss {
    /// Its address.
    pub address: IpAddr,
    /// Its Observation Domain.
    pub domain: ObservationDomainId,
    /// Messages or records, whichever its protocol counts, that its sequence numbers miss.
    pub sequence_missing: u64,
    /// Records that arrived and were dropped here.
    pub dropped: u64,
}

/// An exporter that saw one packet in so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampledExporter {
    /// Its address.
    pub address: IpAddr,
    /// Its Observation Domain.
    pub domain: ObservationDomainId,
    /// One packet in this many.
    pub interval: u64,
}

impl Coverage {
    /// Is nothing known to be missing?
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty()
            && self.losses.is_empty()
            && self.damage.is_empty()
            && self.sampling.is_empty()
    }
}
