//! flowd's load generator and benchmarks: seeded traffic, encoded apart from flowd's own encoder,
//! so that a mistake in one does not hide in the other.

pub mod alloc;
pub mod cpu;
pub mod in_place;
pub mod ipfix;
pub mod layout;
pub mod message;
pub mod number;
pub mod process;
pub mod random;
pub mod rows;
pub mod seeds;
pub mod send;
pub mod streams;
pub mod traffic;
pub mod v9;
