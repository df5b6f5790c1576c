//! app: stages joined into the work of a subcommand. The only module that starts threads, reads
//! clocks and listens to signals.

mod around;
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
mod marks;
mod priority;
pub mod query;
mod reach;
mod refusals;
pub mod replay;
pub mod resend;
mod ring_use;
pub mod send;
mod shutdown;
mod sidecars;
mod statistics;
pub mod store_care;
pub mod store_index;
pub mod store_info;
mod writer;
