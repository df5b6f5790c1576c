//! Atomics of the ring: std's, or loom's when the ring is being proved under `--cfg flowd_loom`.
//!
//! Nothing else in the ring imports atomics. Words that lie in a mapped file are std's under
//! either cfg, since loom's cannot lie in foreign memory; the models use heap blocks.

pub(super) use std::sync::atomic::{AtomicU64 as MappedU64, Ordering, fence};

#[cfg(all(test, flowd_loom))]
pub(super) use loom::cell::UnsafeCell as Shadow;
#[cfg(all(test, flowd_loom))]
pub(super) use loom::sync::atomic::AtomicU64 as HeapU64;
#[cfg(all(test, not(flowd_loom)))]
pub(super) use std::sync::atomic::AtomicU64 as HeapU64;
