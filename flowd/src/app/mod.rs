//! app: stages joined into the work of a subcommand. The only module that starts threads, reads
//! clocks and listens to signals.

mod clock;
pub mod collect;
mod collect_memory;
mod control;
mod datagrams;
pub mod decode;
mod elements;
mod explain;
pub mod export;
pub mod import;
pub mod query;
pub mod replay;
pub mod resend;
pub mod send;
mod shutdown;
mod statistics;
pub mod store_info;
mod writer;
