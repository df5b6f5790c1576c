//! `cargo xtask demo`: flowd's main job on one machine, with the books at the end.
//!
//! As root where eBPF is permitted, packets of live traffic between two network namespaces are
//! metered; elsewhere those of a capture. Either way NetFlow v9 goes to a running collector, and
//! `query`, `top` and `store info` answer from its store. The books compare packets and octets
//! that were on the wire or in the capture (counted here, by other code than flowd's), exported,
//! and stored.

mod books;
mod flowd;
mod live;
mod pcap;
mod traffic;

use crate::{interrupt, packages, steps};
use anyhow::Result;
use flowd::Flowd;

/// Builds flowd and plays the demo.
pub(crate) fn run() -> Result<()> {
    packages::ensure(&[packages::GCC, packages::LIBPCAP])?;
    println!("building flowd");
    steps::run(steps::cargo().args(["build", "--package", "flowd"]))?;
    play()
}

/// Plays the demo with the flowd that was built last.
pub(crate) fn play() -> Result<()> {
    interrupt::watch()?;
    let flowd = Flowd::new()?;
    match live::obstacle()? {
        None => live::play(&flowd),
        Some(obstacle) => {
            println!("no live traffic here: {obstacle}; a capture is replayed instead");
            pcap::play(&flowd)
        }
    }
}
