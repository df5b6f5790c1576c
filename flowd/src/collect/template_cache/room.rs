//! Who has how much of the store: looked at only by the writer of the moment.

use super::domain::Footprint;
use super::limits::{Refusal, TemplateLimits};
use crate::model::Origin;
use std::collections::HashMap;
use std::net::IpAddr;

/// How much there is in all, and of whom.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) domain_count: usize,
    total: Footprint,
    exporters: HashMap<IpAddr, Share>,
}

/// What one exporter address has.
#[derive(Debug, Default)]
struct Share {
    origins: Vec<Origin>,
    footprint: Footprint,
}

impl Room {
    /// The domains of an exporter address.
    pub(super) fn origins(&self, address: IpAddr) -> Vec<Origin> {
        self.exporters.get(&address).map(|share| share.origins.clone()).unwrap_or_default()
    }

    /// Octets of all templates.
    pub(super) const fn size(&self) -> usize {
        self.total.size
    }

    /// May the exporter have one more domain?
    pub(super) fn admit_domain(
        &self,
        address: IpAddr,
        limits: &TemplateLimits,
    ) -> Result<(), Refusal> {
        let count = self.exporters.get(&address).map_or(0, |share| share.origins.len());
        if count < limits.exporter_domain_count_max { Ok(()) } else { Err(Refusal::OverShare) }
    }

    /// May what an exporter has grow by so much?
    pub(super) fn admit(
        &self,
        address: IpAddr,
        growth: Footprint,
        limits: &TemplateLimits,
    ) -> Result<(), Refusal> {
        let share = self.exporters.get(&address).map(|share| share.footprint);
        let Footprint { template_count, size } = share.unwrap_or_default().plus(growth);
        if template_count > limits.exporter_template_count_max || size > limits.exporter_size_max {
            return Err(Refusal::OverShare);
        }
        if self.total.plus(growth).size > limits.size_max {
            return Err(Refusal::OverLimit);
        }
        Ok(())
    }

    pub(super) fn add_domain(&mut self, origin: &Origin) {
        self.domain_count = self.domain_count.saturating_add(1);
        self.exporters.entry(origin.address).or_default().origins.push(origin.clone());
    }

    pub(super) fn remove_domain(&mut self, origin: &Origin, footprint: Footprint) {
        self.domain_count = self.domain_count.saturating_sub(1);
        self.total = self.total.minus(footprint);
        let Some(share) = self.exporters.get_mut(&origin.address) else {
            return;
        };
        share.footprint = share.footprint.minus(footprint);
        share.origins.retain(|other| other != origin);
        if share.origins.is_empty() {
            self.exporters.remove(&origin.address);
        }
    }

    /// A domain has changed from one footprint to another.
    pub(super) fn resize(&mut self, address: IpAddr, before: Footprint, after: Footprint) {
        self.total = self.total.minus(before).plus(after);
        if let Some(share) = self.exporters.get_mut(&address) {
            share.footprint = share.footprint.minus(before).plus(after);
        }
    }
}
