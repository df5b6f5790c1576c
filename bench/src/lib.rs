//! flowd's load generator and benchmarks.
