//! Arrow buffers over ring blocks, without copying. The only file of the archive with unsafe
//! code.

#![expect(unsafe_code, reason = "arrow takes foreign memory by pointer")]

use crate::ring::Block;
use arrow_buffer::Buffer;
use std::panic::AssertUnwindSafe;
use std::ptr::NonNull;
use std::sync::Arc;

/// A buffer of octets that lie in a block, which it keeps alive.
pub(super) fn block_buffer<F>(block: &Arc<Block>, octets: F) -> Buffer
where
    F: for<'a> FnOnce(&'a Block) -> &'a [u8],
{
    let bytes = octets(block);
    let start = NonNull::from(bytes).cast();
    // What a reader sees of a block does not change, whether somebody panics or not.
    let owner = Arc::new(AssertUnwindSafe(Arc::clone(block)));
    // SAFETY: `octets` can only return what lives as long as the block (or for ever), the
    // owner keeps the block, and octets that a `Block` hands out are never written again.
    unsafe { Buffer::from_custom_allocation(start, bytes.len(), owner) }
}
