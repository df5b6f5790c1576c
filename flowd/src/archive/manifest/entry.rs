//! What a line of the manifest says.

use crate::archive::checks::TailEntry;
use crate::archive::index::IndexEntry;
use crate::model::RecordType;
use crate::ring::{Lane, LostRows};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A line as it is written: one of the three, and the digest that chains it to the line before.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segment: Option<SegmentEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss: Option<LossEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    withdrawn: Option<WithdrawnEntry>,
    /// SHA-256 of the line before; empty in the first.
    previous: String,
}

/// One line of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A segment.
    Segment(SegmentEntry),
    /// Records that the ring had and that never reached a segment.
    Loss(LossEntry),
    /// Segments of earlier lines that are held no more.
    Withdrawn(WithdrawnEntry),
}

impl Entry {
    /// The text of its line, after a line of some digest.
    pub(super) fn to_line(&self, previous: String) -> String {
        let mut line = Line { segment: None, loss: None, withdrawn: None, previous };
        match self.clone() {
            Self::Segment(segment) => line.segment = Some(segment),
            Self::Loss(loss) => line.loss = Some(loss),
            Self::Withdrawn(withdrawn) => line.withdrawn = Some(withdrawn),
        }
        serde_json::to_string(&line).expect("plain fields and string keys")
    }

    /// The entry of a line, and the digest of the line before it.
    pub(super) fn from_line(line: &str) -> Result<(Self, String), String> {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let entry = match (line.segment, line.loss, line.withdrawn) {
            (Some(segment), None, None) => Self::Segment(segment),
            (None, Some(loss), None) => Self::Loss(loss),
            (None, None, Some(withdrawn)) => Self::Withdrawn(withdrawn),
            _ => return Err("not one entry".to_owned()),
        };
        Ok((entry, line.previous))
    }

    /// The segment, if it is one.
    #[must_use]
    pub const fn segment(&self) -> Option<&SegmentEntry> {
        match self {
            Self::Segment(segment) => Some(segment),
            Self::Loss(_) | Self::Withdrawn(_) => None,
        }
    }
}

/// Blocks of one lane, from the first to the last number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The writer.
    pub shard: u16,
    /// The kind of records.
    #[serde(serialize_with = "write_lane", deserialize_with = "read_lane")]
    pub lane: Lane,
    /// The first block.
    pub first: u64,
    /// The last block.
    pub last: u64,
}

/// A row group of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowGroupEntry {
    /// Its rows.
    pub rows: usize,
    /// The least start and the greatest end of its flows, in milliseconds since 1970; none if
    /// a flow in it may lie at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<(i64, i64)>,
}

/// A segment: what is in it, and how to know that it is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentEntry {
    /// Its number, never given twice.
    pub id: u64,
    /// Its file, relative to the archive's directory.
    pub path: String,
    /// What its records tell of.
    #[serde(serialize_with = "write_type", deserialize_with = "read_type")]
    pub record_type: RecordType,
    /// The hour in which its records were received, counted from 1970.
    pub hour: i64,
    /// The blocks that it holds.
    pub covered: Vec<Covered>,
    /// Its rows.
    pub rows: u64,
    /// Its row groups.
    pub row_groups: Vec<RowGroupEntry>,
    /// The times of receipt of its first and its last record, in milliseconds since 1970.
    pub received: (i64, i64),
    /// Octets of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Its page index and footer; none if it was written without checksums.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<TailEntry>,
    /// Its index; none if it has none, so that it is read whenever it may matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<IndexEntry>,
}

/// Records that are lost: a gap in what the store covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LossEntry {
    /// The name of the reason.
    pub reason: String,
    /// Of which writer.
    pub shard: u16,
    /// Of which kind.
    #[serde(serialize_with = "write_lane", deserialize_with = "read_lane")]
    pub lane: Lane,
    /// The blocks that are gone whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<(u64, u64)>,
    /// The block that they were in, if its other records are not lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_block: Option<u64>,
    /// How many; 0 if nobody knows.
    pub rows: u64,
    /// The times of receipt between which they lie, in milliseconds since 1970.
    pub received: (i64, i64),
}

impl From<LostRows> for LossEntry {
    fn from(lost: LostRows) -> Self {
        use crate::telemetry::Reason;
        let LostRows { reason, shard, lane, blocks, in_block, rows, received } = lost;
        Self { reason: reason.name().to_owned(), shard, lane, blocks, in_block, rows, received }
    }
}

/// Why segments are held no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WithdrawReason {
    /// Their records are let go: too old, or too many for the room there is.
    Expired,
    /// Their records are in the segment of the line before.
    Merged,
}

/// Segments of earlier lines that are held no more. Their lines stay, so that the chain does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WithdrawnEntry {
    /// Why.
    pub reason: WithdrawReason,
    /// Their numbers.
    pub segments: Vec<u64>,
    /// When, in milliseconds since 1970.
    pub at: i64,
}

fn write_lane<S: Serializer>(lane: &Lane, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(lane.name())
}

fn read_lane<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lane, D::Error> {
    let name = String::deserialize(deserializer)?;
    Lane::from_name(&name).ok_or_else(|| de::Error::custom(format!("unknown lane {name}")))
}

fn write_type<S: Serializer>(record_type: &RecordType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(record_type.name())
}

fn read_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RecordType, D::Error> {
    let name = String::deserialize(deserializer)?;
    [RecordType::Flow, RecordType::Options, RecordType::Counters]
        .into_iter()
        .find(|record_type| record_type.name() == name)
        .ok_or_else(|| de::Error::custom(format!("unknown record type {name}")))
}
