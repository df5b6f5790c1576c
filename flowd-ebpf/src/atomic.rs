//! Atomic instructions of BPF (`BPF_ATOMIC`; compare and exchange since Linux 5.12). The Rust
//! target has none of its own.

use core::arch::asm;

/// Adds to a word.
///
/// # Safety
/// The word can be written, is aligned, and is only changed by atomic instructions.
#[inline(always)]
pub(crate) unsafe fn add(word: *mut u64, value: u64) {
    // SAFETY: the caller vouches for the word; nothing else changes.
    unsafe {
        asm!(
            "lock *(u64 *)({word} + 0) += {value}",
            word = in(reg) word,
            value = in(reg) value,
            options(nostack),
        );
    }
}

/// Stores `new` if the word is `expected`. Returns what it was.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub(crate) unsafe fn compare_exchange(word: *mut u64, expected: u64, new: u64) -> u64 {
    let found;
    // SAFETY: as above; the instruction takes and gives r0.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inout("r0") expected => found,
            options(nostack),
        );
    }
    found
}
