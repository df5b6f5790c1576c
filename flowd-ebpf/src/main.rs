//! flowd's XDP and TC programs.

fn main() {}
