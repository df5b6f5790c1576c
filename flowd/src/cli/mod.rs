//! cli

pub mod output;
