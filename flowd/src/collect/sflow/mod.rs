//! sFlow samples -> rows of a batch, one a sample.
//!
//! **Flow samples and discarded packets** become flow records of one packet. Nothing is scaled:
//! `samplingInterval` says how many packets one stands for. The packet's headers are read by
//! flowd-common's parser: `octetDeltaCount` is its IP length, `dataLinkFrameSize` what the frame
//! had on the wire. Where no header was sent, the agent's own reading of it is taken. A frame
//! without IP has MAC addresses, VLAN and `ethernetType`, and no `octetDeltaCount`. sFlow has no
//! times: a record is dated by its receipt.
//!
//! A discarded packet did not pass the device: it has `droppedPacketDeltaCount` and
//! `droppedOctetDeltaCount` (133, 132) in place of the counters of traffic, and no sampling rate.
//!
//! **Interfaces** are ifIndexes; 0x3fffffff is the device itself. A packet that went nowhere has
//! no `egressInterface` but a `forwardingStatus` of dropped (128) and the `discardReason`, one
//! that went to several has their number as `egressInterfaceCount`.
//!
//! **Counter samples** become records of type counters. `ingressInterface` is their ifIndex,
//! `vlanId` the VLAN of VLAN counters. A counter that the agent does not keep is absent
//! (it sends one with all bits set).
//!
//! Everything else is kept as it was sent: under its IANA element where there is one, else under
//! InMon's enterprise number 4300, numbered by flowd and named in `xtask/data/sflow-elements.csv`:
//!
//! | field | element |
//! |---|---|
//! | sampling rate, pool | samplingInterval (34), selectorIdTotalPktsObserved (318) |
//! | source's class and index, drops | 4300:1, 4300:2, 4300:3 |
//! | reason of a discard, number of output interfaces | 4300:4, 4300:5 |
//! | header: frame length, type, a protocol that is not read | 312, ethernetType (256), 4300:13 |
//! | VLAN tags of the header | dot1qVlanId (243), dot1qCustomerVlanId (245), 246 |
//! | switch: VLANs, priorities | vlanId, postVlanId, dot1qPriority (244), 4300:6 |
//! | router: next hop, masks | ipNextHopIPv4Address, sourceIPv4PrefixLength and their kin |
//! | gateway: next hop, source and destination | 18 or 63, bgpSourceAsNumber, bgpDestinationAsNumber |
//! | gateway: source peer, first of the path | bgpPrevAdjacentAsNumber (129), bgpNextAdjacentAsNumber (128) |
//! | gateway: router's AS, path, local preference | 4300:7, 4300:8 as text, 4300:9 |
//! | gateway: communities | bgpDestinationCommunityList (485) of bgpCommunity (483) |
//! | user of source and destination | userName (371), 4300:10 |
//! | URL, host, direction | httpRequestTarget (461), httpRequestHost (460), 4300:11 |
//! | MPLS: labels in, next hop, labels out | 70 to 79, 47 or 140, 4300:12 |
//! | NAT: addresses, ports | 225 and 226 or 281 and 282, 227 and 228 |
//! | pseudowire, SSID, type and name of an interface | 249, 147, 368, 82 |
//! | all other fields of flow records | 4300:64 and on, 16 numbers a format |
//! | all other fields of counter records | 4300:1024 and on, 32 numbers a format |
//!
//! Samples received = records + samples dropped as malformed + samples of unknown formats.

mod books;
#[cfg(test)]
mod count_tests;
mod counters;
mod elements;
mod flow;
mod packet;
mod row;
mod sequence;
#[cfg(test)]
mod tests;

pub(super) use books::SampleBooks;
pub use books::SampleStatistics;
pub(super) use sequence::SampleSequences;

use super::facts::Sampling;
use super::rows::{Output, RecordContext};
use crate::model::ColumnSet;
use crate::wire::sflow::{Block, Datagram, Sample};
use row::{Row, Shapes};
use sequence::StreamKind;

/// What a datagram's samples came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SampleCounts {
    /// Samples that came.
    pub(super) samples: u64,
    /// Records that they became.
    pub(super) records: u64,
    /// Samples that were dropped because they break the format.
    pub(super) malformed: u64,
    /// Samples of formats that are not read.
    pub(super) unknown: u64,
    /// The datagram ends before its samples do, or within one.
    pub(super) is_cut: bool,
    /// Records within samples that are damaged; the sample became a record without them.
    pub(super) parts_malformed: u64,
    /// Records within samples whose format is not read, or which came twice in a sample.
    pub(super) parts_unknown: u64,
    /// Elements that a record had no room for.
    pub(super) elements_over_limit: u64,
    /// Samples that never came, by their sequence numbers.
    pub(super) samples_lost: u64,
    /// Samples that came after later ones: counted as lost before.
    pub(super) samples_late: u64,
    /// Samples that came twice.
    pub(super) samples_repeated: u64,
    /// Sources that began their sequence anew.
    pub(super) restarts: u64,
    /// Samples of sources beyond those that are followed: what they lost is not known.
    pub(super) untracked: u64,
    /// Packets that the agent should have sampled and did not, for want of resources.
    pub(super) flow_drops: u64,
    /// Discarded packets that the agent did not tell of.
    pub(super) discard_drops: u64,
    /// The last flow sample's rate, by its source.
    pub(super) sampling: Option<Sampling>,
}

/// Decodes the sFlow datagrams of one worker.
#[derive(Debug)]
pub(super) struct SflowDecoder {
    own_columns: ColumnSet,
    shapes: Shapes,
    row: Row,
    /// Memory for an AS path.
    text: String,
}

impl SflowDecoder {
    /// A decoder whose records have these columns besides their own: the time of receipt and the
    /// place in the export stream, as far as they are wanted.
    pub(super) fn new(own_columns: ColumnSet) -> Self {
        Self { own_columns, shapes: Shapes::default(), row: Row::default(), text: String::new() }
    }

    /// Appends a record for each sample.
    pub(super) fn decode(
        &mut self,
        datagram: &Datagram<'_>,
        sequences: &mut SampleSequences,
        context: &mut RecordContext<'_>,
        output: &mut Output<'_>,
    ) -> SampleCounts {
        let mut counts = SampleCounts::default();
        sequences.begin(datagram.uptime);
        for block in datagram.samples.clone() {
            let Ok(block) = block else {
                counts.is_cut = true;
                break;
            };
            counts.samples = counts.samples.saturating_add(1);
            match self.sample(&block, sequences, &mut counts) {
                Outcome::Record => {
                    self.row.finish(self.own_columns, &mut self.shapes, context, output);
                    counts.records = counts.records.saturating_add(1);
                }
                Outcome::Malformed => counts.malformed = counts.malformed.saturating_add(1),
                Outcome::Unknown => counts.unknown = counts.unknown.saturating_add(1),
            }
        }
        counts.elements_over_limit = std::mem::take(&mut self.row.over_limit);
        counts
    }

    /// Makes the row of a sample.
    fn sample(
        &mut self,
        block: &Block<'_>,
        sequences: &mut SampleSequences,
        counts: &mut SampleCounts,
    ) -> Outcome {
        let Self { row, text, .. } = self;
        let is_sound = match Sample::decode(block) {
            Ok(Sample::Flow(sample)) => {
                let (source, number) = (sample.source, sample.sequence_number);
                let drops =
                    sequences.observe(StreamKind::Flow, source, number, sample.drops, counts);
                counts.flow_drops = counts.flow_drops.saturating_add(drops);
                counts.sampling = Some(Sampling {
                    // Sources of two classes may have one index.
                    sampler: u64::from(source.class) << 32 | u64::from(source.index),
                    interval: sample.sampling_rate.into(),
                });
                flow::sampled(&sample, row, text, counts)
            }
            Ok(Sample::Discarded(sample)) => {
                let (source, number) = (sample.source, sample.sequence_number);
                let drops =
                    sequences.observe(StreamKind::Discarded, source, number, sample.drops, counts);
                counts.discard_drops = counts.discard_drops.saturating_add(drops);
                flow::discarded(&sample, row, text, counts)
            }
            Ok(Sample::Counters(sample)) => {
                let (source, number) = (sample.source, sample.sequence_number);
                sequences.observe(StreamKind::Counters, source, number, 0, counts);
                counters::counters(&sample, row, counts)
            }
            Ok(Sample::Unknown(_)) => return Outcome::Unknown,
            Err(_) => false,
        };
        if is_sound { Outcome::Record } else { Outcome::Malformed }
    }
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Record,
    Malformed,
    Unknown,
}
