//! How many templates are kept, for how long, and how often they may change.

use crate::model::time::UnixMillis;

/// How many templates are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct TemplateLimits {
    /// Exporters and domains in all; the ones that announced least often give way.
    pub domain_count_max: usize,
    /// Domains of one exporter address. A chassis has one a line card, and many exporters may
    /// stand behind one translated address.
    pub exporter_domain_count_max: usize,
    /// Source ports of an exporter and domain that have templates of their own; the ones that
    /// announced least recently give way.
    pub port_count_max: usize,
    /// Templates of an exporter and domain.
    pub template_count_max: usize,
    /// Templates of one exporter address.
    pub exporter_template_count_max: usize,
    /// Octets that all templates take, about and at most.
    pub size_max: usize,
    /// Octets that the templates of one exporter address take, likewise.
    pub exporter_size_max: usize,
    /// How long a template that came in a datagram is good for after it was announced last (RFC
    /// 7011 section 8.4). The RFC asks for at least three times the interval at which templates
    /// are sent again. Exporters of IPFIX do so every 10 minutes by default, those of NetFlow v9
    /// every 30 at the least often: three times 30 minutes serve both.
    pub lifetime_millis: i64,
    /// New and changed templates of an exporter and domain that are taken at once: all that it
    /// may have, and all of them changed.
    pub change_burst_max: u32,
    /// How many more are taken each second after that.
    pub changes_per_second: u32,
}

impl Default for TemplateLimits {
    fn default() -> Self {
        Self {
            domain_count_max: 65_536,
            exporter_domain_count_max: 1_024,
            port_count_max: 64,
            template_count_max: 1_024,
            exporter_template_count_max: 8_192,
            size_max: 256 << 20,
            exporter_size_max: 32 << 20,
            lifetime_millis: 3 * 30 * 60_000,
            change_burst_max: 2_048,
            changes_per_second: 64,
        }
    }
}

/// What came of announcements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::collect) struct Learned {
    /// New or changed.
    pub(in crate::collect) changed: usize,
    /// Of these, such as took the place of another of their port and number.
    pub(in crate::collect) redefined: usize,
    /// Refused because there is no room for more.
    pub(in crate::collect) over_limit: usize,
    /// Refused because the exporter has its share.
    pub(in crate::collect) over_share: usize,
    /// Refused because the exporter changes its templates all the time.
    pub(in crate::collect) too_often: usize,
}

impl Learned {
    /// Counts `count` that were refused.
    pub(super) const fn refuse(&mut self, refusal: Refusal, count: usize) {
        let refused = match refusal {
            Refusal::OverLimit => &mut self.over_limit,
            Refusal::OverShare => &mut self.over_share,
            Refusal::TooOften => &mut self.too_often,
        };
        *refused = refused.saturating_add(count);
    }
}

/// Why a template was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    OverLimit,
    OverShare,
    TooOften,
}

/// Tokens for changes: there are some at first, and more come with time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// In thousandths.
    tokens: i64,
    filled: UnixMillis,
}

impl Bucket {
    pub(super) fn full(limits: &TemplateLimits, now: UnixMillis) -> Self {
        Self { tokens: i64::from(limits.change_burst_max).saturating_mul(1_000), filled: now }
    }

    /// Takes a token if there is one. A clock that was set back brings none.
    pub(super) fn take(&mut self, limits: &TemplateLimits, now: UnixMillis) -> bool {
        let millis = now.0.saturating_sub(self.filled.0).max(0);
        let more = millis.saturating_mul(i64::from(limits.changes_per_second));
        let capacity = i64::from(limits.change_burst_max).saturating_mul(1_000);
        self.tokens = self.tokens.saturating_add(more).min(capacity);
        self.filled = now;
        let has_one = self.tokens >= 1_000;
        if has_one {
            self.tokens = self.tokens.saturating_sub(1_000);
        }
        has_one
    }
}
