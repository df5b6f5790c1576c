//! What a killed collector had in the ring and in no counter yet.

use crate::collect::Unsaved;
use crate::model::FlowBatch;
use crate::model::time::UnixMillis;
use crate::ring::{Block, Ring};

/// How long before the last count the sequences may have been noted last, amply.
const NOTE_LAG_MILLIS: i64 = 2_000;

/// The messages that are in the ring and came after the counters were written, or so short a
/// time before that the sequences may not know of them.
pub(super) fn in_ring(ring: &Ring, counted_until: UnixMillis) -> Unsaved {
    let mut unsaved = Unsaved::new(counted_until);
    let since = counted_until.0.saturating_sub(NOTE_LAG_MILLIS);
    let mut batch = FlowBatch::new();
    for found in ring.sealed_blocks().into_iter().filter(|block| block.received.1 >= since) {
        // A block that cannot be read is told of by the archiver; here its messages count as lost.
        let Ok(block) = Block::open(&found.path) else {
            continue;
        };
        let mut start = 0;
        while start < block.rows() {
            batch.clear();
            let copied = block.copy_to(start..block.rows(), &mut batch);
            if copied == 0 {
                break;
            }
            unsaved.add(&batch, UnixMillis(since));
            start += copied;
        }
    }
    unsaved
}
