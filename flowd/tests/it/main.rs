//! Whole-program tests: the built flowd, as its users run it, with foreign programs beside it.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests panic rather than return an error, and say why they skip"
)]

mod cli;
mod clock;
mod collect;
mod corpus;
mod counted;
mod damage;
mod datapath;
mod decode;
mod disk;
mod disk_full;
mod errors;
mod export;
mod export_collect;
mod foreign_bpf;
mod host;
mod interop;
mod keep;
mod live_captures;
mod live_counts;
mod live_interop;
mod live_kinds;
mod live_safety;
mod live_tcp;
mod live_traffic;
mod namespace;
mod netflow_v9;
mod numbered;
mod objects;
mod pcap_flows;
mod protocols;
mod resend;
mod restart;
mod ring_dir;
mod schema;
mod store_move;
mod support;
mod system;
mod veth;
