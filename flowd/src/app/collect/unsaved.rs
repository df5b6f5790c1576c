//! What a killed collector had in the ring and in no counter yet.

use crate::app::marks::Marks;
use crate::collect::Unsaved;
use crate::model::FlowBatch;
use crate::model::time::UnixMillis;
use crate::ring::{Block, Ring};

/// The messages that are in the ring behind the marks. The counters were read at `counted_at`.
pub(super) fn in_ring(ring: &Ring, marks: &Marks, counted_at: UnixMillis) -> Unsaved {
    let mut unsaved = Unsaved::new(counted_at);
    let mut batch = FlowBatch::new();
    for found in ring.sealed_blocks() {
        let counted = marks.counted_rows(found.id);
        if counted >= found.rows {
            continue;
        }
        // A block that cannot be read is told of by the archiver; here its messages count as lost.
        let Ok(block) = Block::open(&found.path) else {
            continue;
        };
        let mut start = usize::try_from(counted).unwrap_or(usize::MAX);
        while start < block.rows() {
            batch.clear();
            let copied = block.copy_to(start..block.rows(), &mut batch);
            if copied == 0 {
                break;
            }
            unsaved.add(&batch);
            start += copied;
        }
    }
    unsaved
}
