//! Whole-program tests: the built flowd, as its users run it, with foreign programs beside it.

mod cli;
mod corpus;
mod errors;
mod export_collect;
mod interop;
mod netflow_v9;
mod pcap_flows;
mod support;
