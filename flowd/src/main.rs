//! The flowd program.

fn main() {}
