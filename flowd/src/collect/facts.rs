//! What an exporter says of itself in options data, or in passing in a record, and what other
//! records are read by: when it booted, and what it samples by.

use super::assign::SYSTEM_INIT_TIME;
use super::plan::Plan;
use crate::model::time::UnixMillis;
use crate::model::{ExtraSpec, unsigned};

/// `samplingInterval` and `samplerRandomInterval`: one packet of so many.
const INTERVALS: [u16; 2] = [34, 50];
/// `samplerId` and `selectorId`.
const SAMPLER_IDS: [u16; 2] = [48, 302];
/// `samplingPacketInterval` packets are taken, then `samplingPacketSpace` are not.
const PACKET_INTERVAL: u16 = 305;
const PACKET_SPACE: u16 = 306;
/// `samplingSize` packets are taken of `samplingPopulation`.
const SIZE: u16 = 309;
const POPULATION: u16 = 310;
/// `samplingProbability`, a float.
const PROBABILITY: u16 = 311;

/// How an exporter samples, as it told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sampling {
    /// Which of its samplers; 0 where it names none.
    pub(super) sampler: u64,
    /// One packet of so many, rounded.
    pub(super) interval: u64,
}

/// Where the fields are that tell something of the exporter.
#[derive(Debug, Default)]
pub(super) struct FactFields {
    init: Option<usize>,
    sampler: Option<usize>,
    rule: Option<Rule>,
}

/// The fields that a sampling interval is told by.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Interval(usize),
    Packets { taken: usize, passed: Option<usize> },
    Population { taken: usize, population: usize },
    Probability(usize),
}

/// What one record tells of the exporter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) booted: Option<UnixMillis>,
    pub(super) sampling: Option<Sampling>,
}

impl FactFields {
    /// Finds them in a template.
    pub(super) fn find<'a>(specs: impl Iterator<Item = &'a ExtraSpec> + Clone) -> Self {
        let find = |id: u16| {
            let is_it =
                |s: &ExtraSpec| s.enterprise == 0 && s.id == id && (1..=8).contains(&s.length);
            specs.clone().position(is_it)
        };
        let any = |ids: [u16; 2]| ids.into_iter().find_map(find);
        let packets = || {
            find(PACKET_INTERVAL).map(|taken| Rule::Packets { taken, passed: find(PACKET_SPACE) })
        };
        let population =
            || Some(Rule::Population { taken: find(SIZE)?, population: find(POPULATION)? });
        let rule = any(INTERVALS)
            .map(Rule::Interval)
            .or_else(packets)
            .or_else(population)
            .or_else(|| find(PROBABILITY).map(Rule::Probability));
        Self { init: find(SYSTEM_INIT_TIME), sampler: any(SAMPLER_IDS), rule }
    }

    /// Is there nothing to be learned?
    pub(super) const fn is_empty(&self) -> bool {
        self.init.is_none() && self.rule.is_none()
    }

    /// What a record tells. Intervals of 0 tell nothing.
    pub(super) fn read(&self, record: &[u8], offsets: &[usize]) -> Facts {
        let octets =
            |field: usize| record.get(*offsets.get(field)?..*offsets.get(field.saturating_add(1))?);
        let number = |field: usize| octets(field).and_then(unsigned);
        let interval = match self.rule {
            None => None,
            Some(Rule::Interval(field)) => number(field),
            Some(Rule::Packets { taken, passed }) => {
                let passed = passed.map_or(Some(0), number).unwrap_or(0);
                ratio(number(taken), |taken| taken.saturating_add(passed))
            }
            Some(Rule::Population { taken, population }) => {
                let population = number(population).unwrap_or(0);
                ratio(number(taken), |_| population)
            }
            Some(Rule::Probability(field)) => octets(field).and_then(inverse),
        };
        let sampler = self.sampler.and_then(number).unwrap_or(0);
        let sampling = interval.filter(|&interval| interval > 0);
        Facts {
            booted: self
                .init
                .and_then(number)
                .filter(|&millis| millis > 0)
                .map(|millis| UnixMillis(millis.cast_signed())),
            sampling: sampling.map(|interval| Sampling { sampler, interval }),
        }
    }
}

/// `all` of the packets for each one `taken`, rounded.
fn ratio(taken: Option<u64>, all: impl Fn(u64) -> u64) -> Option<u64> {
    let taken = taken.filter(|&taken| taken > 0)?;
    all(taken).saturating_add(taken / 2).checked_div(taken)
}

/// One over a probability, rounded.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "a float becomes a number by `as` alone, which keeps to the number's bounds"
)]
fn inverse(octets: &[u8]) -> Option<u64> {
    let probability = match *octets {
        [a, b, c, d] => f64::from(f32::from_be_bytes([a, b, c, d])),
        _ => f64::from_be_bytes(octets.try_into().ok()?),
    };
    (probability > 0.0 && probability <= 1.0).then(|| (1.0 / probability).round() as u64)
}

impl Plan {
    /// What the records of a set tell of the exporter. Records whose size varies are each
    /// measured again; there are few such.
    pub(super) fn facts(&self, body: &[u8], scratch: &mut Vec<usize>, mut take: impl FnMut(Facts)) {
        let fields = self.fact_fields();
        if fields.is_empty() {
            return;
        }
        // Of flows one record tells as much as all.
        let count = if self.is_options() { usize::MAX } else { 1 };
        if !self.is_variable() {
            for record in body.chunks_exact(self.record_size_min().get()).take(count) {
                take(fields.read(record, self.offsets()));
            }
            return;
        }
        let mut rest = body;
        for _ in 0..body.len().min(count) {
            if rest.len() < self.record_size_min().get() {
                return;
            }
            let Some(size) = self.measure(rest, scratch) else { return };
            let Some((record, after)) = rest.split_at_checked(size.get()) else { return };
            take(fields.read(record, scratch));
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ColumnSet, Protocol, RecordType};
    use crate::wire::FieldSpecifier;

    /// What records of these fields tell.
    fn facts(fields: &[(u16, u16)], body: &[u8]) -> Vec<Facts> {
        let specifiers: Vec<_> = fields
            .iter()
            .map(|&(id, length)| FieldSpecifier { enterprise: 0, id, length })
            .collect();
        let plan =
            Plan::compile(RecordType::Options, &specifiers, Protocol::Ipfix, ColumnSet::EMPTY);
        let mut found = Vec::new();
        plan.unwrap().facts(body, &mut Vec::new(), |facts| found.push(facts));
        found
    }

    fn sampling(sampler: u64, interval: u64) -> Facts {
        Facts { booted: None, sampling: Some(Sampling { sampler, interval }) }
    }

    #[test]
    fn every_way_to_tell_an_interval_is_understood() {
        assert_eq!(facts(&[(34, 2)], &[0, 100]), [sampling(0, 100)]);
        assert_eq!(
            facts(&[(48, 1), (49, 1), (50, 2)], &[7, 2, 0, 10, 8, 2, 0, 20]),
            [sampling(7, 10), sampling(8, 20)]
        );
        assert_eq!(
            facts(
                &[(302, 8), (305, 4), (306, 4)],
                &[0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 3, 231,]
            ),
            [sampling(9, 1_000)]
        );
        assert_eq!(facts(&[(305, 1)], &[4]), [sampling(0, 1)]);
        assert_eq!(facts(&[(309, 1), (310, 2)], &[2, 0, 129]), [sampling(0, 65)]);
        assert_eq!(facts(&[(311, 8)], &0.01f64.to_be_bytes()), [sampling(0, 100)]);
        assert_eq!(facts(&[(311, 4)], &0.5f32.to_be_bytes()), [sampling(0, 2)]);
    }

    #[test]
    fn what_tells_nothing_is_no_fact() {
        for (fields, body) in [
            (&[(34, 2)][..], &[0, 0][..]),
            (&[(305, 1), (306, 1)], &[0, 5]),
            (&[(309, 1), (310, 1)], &[0, 0]),
            (&[(311, 4)], &[0x7f, 0xc0, 0, 0]),
            (&[(160, 8)], &[0; 8]),
        ] {
            assert_eq!(facts(fields, body), [Facts::default()], "{fields:?}");
        }
        assert!(facts(&[(1, 4)], &[0; 8]).is_empty());
    }

    #[test]
    fn records_whose_size_varies_are_measured() {
        let body = [2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 6];
        let found = facts(&[(82, u16::MAX), (160, 8)], &body);
        let booted: Vec<_> = found.iter().filter_map(|facts| facts.booted).collect();
        assert_eq!(booted, [UnixMillis(5), UnixMillis(6)]);
    }
}
