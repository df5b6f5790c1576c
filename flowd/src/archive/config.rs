//! What the archiver is told, and what it tells of its work.

use super::retention::Retention;
use super::writer::SegmentConfig;
use crate::ring::RingConfig;
use crate::telemetry::Counter;

/// When blocks are archived, and into what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// Octets of sealed blocks beyond which the oldest are archived, whatever their age.
    pub sealed_size_max: u64,
    /// How long after its receipt a record may wait in a sealed block, in milliseconds.
    pub block_age_max_millis: i64,
    /// How long after its end an hour's blocks are archived, in milliseconds, so that those of
    /// all shards are sealed.
    pub hour_grace_millis: i64,
    /// Rows after which a segment ends at the next block.
    pub segment_rows_max: u64,
    /// How long after a failure the next try is, in milliseconds.
    pub retry_millis: i64,
    /// What segments are made with.
    pub segment: SegmentConfig,
    /// How much is kept.
    pub retention: Retention,
    /// Are slivers merged once their hour is over?
    pub merges: bool,
    /// How long the file of a segment stays that the manifest lists no more, in milliseconds, for
    /// those who read by an older one.
    pub unlink_grace_millis: i64,
}

impl ArchiveConfig {
    /// The configuration that goes with a ring of a size.
    #[must_use]
    pub fn for_ring(ring: &RingConfig) -> Self {
        Self {
            sealed_size_max: ring.ring_size_max / 2,
            block_age_max_millis: 600_000,
            hour_grace_millis: 15_000,
            segment_rows_max: 4 << 20,
            retry_millis: 5_000,
            segment: SegmentConfig::default(),
            retention: Retention::default(),
            merges: true,
            unlink_grace_millis: 900_000,
        }
    }
}

/// What the archiver has done since it began.
#[derive(Debug, Default)]
pub struct ArchiveCounters {
    /// Segments written.
    pub segments: Counter,
    /// Records in them.
    pub rows: Counter,
    /// Octets of them.
    pub bytes: Counter,
    /// Tries that failed; the blocks stay in the ring.
    pub failures: Counter,
    /// Segments let go.
    pub expired_segments: Counter,
    /// Records in them.
    pub expired_rows: Counter,
    /// Octets of them.
    pub expired_bytes: Counter,
    /// Of these records, such as went for want of room.
    pub expired_for_room: Counter,
    /// Segments that were merged into others.
    pub merged_segments: Counter,
    /// Records in them.
    pub merged_rows: Counter,
    /// Looks at which a disk nearly full kept everything from being archived.
    pub held_back: Counter,
}
