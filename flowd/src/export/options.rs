//! Options data: what the exporter tells of itself. Sampling, the names of the interfaces, and
//! what became of the packets that were seen at each.
//!
//! A round tells it all once. Hosts may have thousands of interfaces: a round is spread over as
//! many messages as it takes, and knows where it goes on although the interfaces may change
//! meanwhile.

use crate::model::ie::PEN_V9_SCOPE;
use crate::model::{ObservationDomainId, PointTotals, Totals, Volume};
use crate::wire::v9::MessageEncoder;
use crate::wire::{FieldSpecifier, OptionsTemplateRecord, TemplateId};
use flowd_common::{Direction, ObservationPoint};
use std::num::NonZeroU32;

/// Octets of an `interfaceName`, as the kernel has them (`IFNAMSIZ`).
const NAME_SIZE: usize = 16;
/// Octets of an `interfaceDescription`.
const DESCRIPTION_SIZE: usize = 64;
/// Octets of a scope, the interface's number and its texts.
const NAMES_SIZE: usize = 4 + 4 + NAME_SIZE + DESCRIPTION_SIZE;
/// Octets of a scope, a direction and eight counters.
const LEDGER_SIZE: usize = 4 + 1 + 8 * 8;
/// Octets of a scope, an interval and an algorithm.
const SAMPLING_SIZE: usize = 4 + 4 + 1;
/// `samplingAlgorithm` 2: random.
const SAMPLING_RANDOM: u8 = 2;
/// Scope types of NetFlow v9 (RFC 3954 section 6.1).
const SCOPE_SYSTEM: u16 = 1;
const SCOPE_INTERFACE: u16 = 2;

/// How packets were sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// One packet in so many was metered, at random.
    pub interval: NonZeroU32,
}

/// What is told of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceOptions {
    /// Its number, as in the records' elements 10 and 14.
    pub interface: u32,
    /// Its name; the first 16 octets are sent.
    pub name: String,
    /// What its owner says of it; the first 64 octets are sent.
    pub description: String,
    /// What became of the packets that passed it, in each direction.
    pub ledgers: Vec<PointLedger>,
}

/// What became of the packets at an observation point, since the metering began. The exporter
/// adds what it could not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointLedger {
    /// Which way they passed.
    pub direction: Direction,
    /// Packets that came by.
    pub seen: Volume,
    /// Records that were made.
    pub flows: u64,
    /// Packets in no record: not accounted, not selected, not understood.
    pub ignored: Volume,
}

/// All options data, and the templates of it.
#[derive(Debug)]
pub(super) struct Options {
    source_id: ObservationDomainId,
    sampling: Option<Sampling>,
    sampling_template: OptionsTemplateRecord,
    names_template: OptionsTemplateRecord,
    ledger_template: OptionsTemplateRecord,
    /// In the order of their numbers, each once.
    names: Vec<Names>,
    /// In the order of their points, each once.
    ledgers: Vec<(ObservationPoint, PointLedger)>,
}

/// The texts of an interface, as they are sent.
#[derive(Debug)]
struct Names {
    interface: u32,
    name: [u8; NAME_SIZE],
    description: [u8; DESCRIPTION_SIZE],
}

/// How far a round has come: what was told last.
#[derive(Clone, Copy, Debug)]
pub(super) enum Round {
    Names(Option<u32>),
    Ledgers(Option<ObservationPoint>),
}

impl Options {
    pub(super) fn new(source_id: ObservationDomainId, sampling: Option<Sampling>) -> Self {
        let [sampling_template, names_template, ledger_template] = templates();
        Self {
            source_id,
            sampling,
            sampling_template,
            names_template,
            ledger_template,
            names: Vec::new(),
            ledgers: Vec::new(),
        }
    }

    /// The first number that its templates leave free.
    pub(super) fn next_id(&self) -> TemplateId {
        self.ledger_template.id.next().expect("the first three numbers are taken")
    }

    /// Replaces what is told of interfaces.
    pub(super) fn describe(&mut self, interfaces: Vec<InterfaceOptions>) {
        self.names.clear();
        self.ledgers.clear();
        for InterfaceOptions { interface, name, description, ledgers } in interfaces {
            self.names.push(Names {
                interface,
                name: fixed(&name),
                description: fixed(&description),
            });
            let at = |ledger: PointLedger| ObservationPoint::new(interface, ledger.direction);
            self.ledgers.extend(ledgers.into_iter().map(|ledger| (at(ledger), ledger)));
        }
        self.names.sort_by_key(|names| names.interface);
        self.names.dedup_by_key(|names| names.interface);
        self.ledgers.sort_by_key(|&(point, _)| point);
        self.ledgers.dedup_by_key(|&mut (point, _)| point);
    }

    /// Is nothing told of interfaces?
    pub(super) const fn has_no_interfaces(&self) -> bool {
        self.names.is_empty()
    }

    /// Octets of what a round tells, about.
    pub(super) const fn round_size(&self) -> usize {
        let names = self.names.len().saturating_mul(NAMES_SIZE);
        names.saturating_add(self.ledgers.len().saturating_mul(LEDGER_SIZE))
    }

    /// Puts the templates into a message that is empty yet, and what is told of sampling. Returns
    /// how many records of data that was.
    pub(super) fn announce(&self, encoder: &mut MessageEncoder) -> u64 {
        if !self.has_no_interfaces() {
            encoder.options_template(&self.names_template);
            encoder.options_template(&self.ledger_template);
        }
        let Some(Sampling { interval }) = self.sampling else {
            return 0;
        };
        encoder.options_template(&self.sampling_template);
        u64::from(encoder.data(self.sampling_template.id, SAMPLING_SIZE, |writer| {
            writer.u32(self.source_id.0);
            writer.u32(interval.get());
            writer.u8(SAMPLING_RANDOM);
        }))
    }

    /// Goes on with a round as long as the message has fewer than `size_max` octets. Returns
    /// where the round stands then, none if it is through, and how many records it was.
    pub(super) fn tell(
        &self,
        mut round: Round,
        encoder: &mut MessageEncoder,
        size_max: usize,
        not_sent: &PointTotals,
    ) -> (Option<Round>, u64) {
        let mut count = 0u64;
        while encoder.size() < size_max {
            let next = match round {
                Round::Names(told) => {
                    let Some(names) = self.names_after(told) else {
                        round = Round::Ledgers(None);
                        continue;
                    };
                    let fits = names.put(self.names_template.id, encoder);
                    fits.then_some(Round::Names(Some(names.interface)))
                }
                Round::Ledgers(told) => {
                    let Some((point, ledger)) = self.ledger_after(told) else {
                        return (None, count);
                    };
                    let id = self.ledger_template.id;
                    let fits = ledger.put(point.interface, not_sent.of(point), id, encoder);
                    fits.then_some(Round::Ledgers(Some(point)))
                }
            };
            match next {
                Some(next) => round = next,
                // What does not fit an empty message fits none.
                None if encoder.is_empty() => return (None, count),
                None => break,
            }
            count = count.saturating_add(1);
        }
        (Some(round), count)
    }

    fn names_after(&self, told: Option<u32>) -> Option<&Names> {
        let place = self.names.partition_point(|names| Some(names.interface) <= told);
        self.names.get(place)
    }

    fn ledger_after(
        &self,
        told: Option<ObservationPoint>,
    ) -> Option<(ObservationPoint, PointLedger)> {
        let place = self.ledgers.partition_point(|&(point, _)| Some(point) <= told);
        self.ledgers.get(place).copied()
    }
}

impl Names {
    fn put(&self, id: TemplateId, encoder: &mut MessageEncoder) -> bool {
        let Self { interface, name, description } = self;
        encoder.data(id, NAMES_SIZE, |writer| {
            writer.u32(*interface);
            writer.u32(*interface);
            writer.bytes(name);
            writer.bytes(description);
        })
    }
}

impl PointLedger {
    fn put(
        self,
        interface: u32,
        not_sent: Totals,
        id: TemplateId,
        encoder: &mut MessageEncoder,
    ) -> bool {
        let Self { direction, seen, flows, ignored } = self;
        encoder.data(id, LEDGER_SIZE, |writer| {
            writer.u32(interface);
            writer.u8(direction.0);
            writer.u64(seen.octets);
            writer.u64(seen.packets);
            writer.u64(flows);
            writer.u64(ignored.packets);
            writer.u64(ignored.octets);
            writer.u64(not_sent.records);
            writer.u64(not_sent.packets);
            writer.u64(not_sent.octets);
        })
    }
}

/// The templates of sampling, names and ledger, the first three of the exporter.
fn templates() -> [OptionsTemplateRecord; 3] {
    let field = |enterprise, id, length| FieldSpecifier { enterprise, id, length };
    let scope = |id| vec![field(PEN_V9_SCOPE, id, 4)];
    let width = |size| u16::try_from(size).expect("texts are short");
    let mut id = TemplateId::FIRST;
    let mut template = |scopes, options| {
        let template = OptionsTemplateRecord { id, scopes, options };
        id = id.next().expect("there are more than three numbers");
        template
    };
    let counters = [85, 86, 163, 164, 165, 166, 167, 168];
    let counters = counters.map(|id| field(0, id, 8));
    let ledger = [field(0, 61, 1)].into_iter().chain(counters).collect();
    // nfcapd does not look at scopes: to it 10 is whose name it is, and all names would be those
    // of interface 0 without it.
    let names = vec![
        field(0, 10, 4),
        field(0, 82, width(NAME_SIZE)),
        field(0, 83, width(DESCRIPTION_SIZE)),
    ];
    [
        template(scope(SCOPE_SYSTEM), vec![field(0, 34, 4), field(0, 35, 1)]),
        template(scope(SCOPE_INTERFACE), names),
        template(scope(SCOPE_INTERFACE), ledger),
    ]
}

/// A text in so many octets: cut between two characters, filled up with NUL.
fn fixed<const SIZE: usize>(text: &str) -> [u8; SIZE] {
    let text = text.get(..text.floor_char_boundary(SIZE)).unwrap_or_default();
    let mut octets = [0; SIZE];
    for (octet, &byte) in octets.iter_mut().zip(text.as_bytes()) {
        *octet = byte;
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters_and_filled_up() {
        assert_eq!(&fixed::<4>("lo"), b"lo\0\0");
        assert_eq!(&fixed::<4>("eth0"), b"eth0");
        assert_eq!(&fixed::<4>("eth01"), b"eth0");
        assert_eq!(&fixed::<4>("abcä"), b"abc\0");
        assert_eq!(&fixed::<5>("abcä"), "abcä".as_bytes());
    }
}
