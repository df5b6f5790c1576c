//! flowd's own chores.

fn main() {}
