//! A collector under load, and under bytes that mean nothing; the decoder under bytes that were
//! made to hurt it.

#![expect(clippy::unwrap_used, reason = "tests panic rather than return an error")]

mod allocations;
mod differential;
mod fuzz;
mod hostile;
mod hostile_decode;
mod hostile_storms;
mod load;
mod reading;
mod support;

#[global_allocator]
static ALLOCATOR: bench::alloc::Counting = bench::alloc::Counting;
