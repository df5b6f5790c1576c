//! A counting allocator: how much a piece of work allocates, and how much of it at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts::ZERO) };
}

/// What a thread has allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations, each growth of one included.
    pub allocations: u64,
    /// Their octets.
    pub octets: u64,
    /// Octets held now, less those that other threads had allocated.
    pub held: i64,
    /// The most octets held at once.
    pub held_max: i64,
}

impl Counts {
    const ZERO: Self = Self { allocations: 0, octets: 0, held: 0, held_max: 0 };

    fn change(allocated: usize, freed: usize) {
        COUNTS.with(|cell| {
            let mut counts = cell.get();
            if allocated > 0 {
                counts.allocations += 1;
                counts.octets += allocated as u64;
            }
            counts.held += allocated as i64 - freed as i64;
            counts.held_max = counts.held_max.max(counts.held);
            cell.set(counts);
        });
    }
}

/// What a piece of work allocated on this thread, if the program's allocator is [`Counting`].
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Counts) {
    let before = COUNTS.with(|cell| {
        let counts = cell.get();
        cell.set(Counts { held_max: counts.held, ..counts });
        counts
    });
    let result = work();
    let after = COUNTS.with(Cell::get);
    let counts = Counts {
        allocations: after.allocations - before.allocations,
        octets: after.octets - before.octets,
        held: after.held - before.held,
        held_max: after.held_max - before.held,
    };
    (result, counts)
}

/// The system's allocator, counted by thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

// SAFETY: each call is handed to the system's allocator as it came; counting touches a cell of
// the thread's own that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counts::change(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Counts::change(0, layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`, and the octets came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counts::change(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counts::change(size, layout.size());
        // SAFETY: the caller keeps the contract of `realloc`, and the octets came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
