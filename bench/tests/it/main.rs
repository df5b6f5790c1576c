//! A collector under load, and under bytes that mean nothing.

#![expect(clippy::unwrap_used, reason = "tests panic rather than return an error")]

mod hostile;
mod load;
mod support;
