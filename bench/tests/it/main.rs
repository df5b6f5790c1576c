//! A collector under load, and under bytes that mean nothing.

mod hostile;
mod load;
mod support;
