//! flowd's XDP and TC programs: what the kernel runs for every packet.
//!
//! ```text
//! main.rs     entry points: flowd_xdp, flowd_tc_ingress, flowd_tc_egress; each one call
//! context.rs  the packet between two pointers, as the parser reads it
//! account.rs  parsed packet -> key and delta, or the reason why not
//! maps.rs     how large every map is, and what it costs
//! ```
//!
//! Parsing itself is `flowd_common::packet`, the same that replays captures. Built for the host,
//! the crate has no entry points: it is here so that its parts are compiled, checked and tested
//! with stable Rust on every machine.

#![cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "on the host only the tests call what the entry points call in the kernel"
    )
)]

mod account;
mod context;
mod maps;

fn main() {}
