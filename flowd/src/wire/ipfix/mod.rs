//! wire::ipfix: what IPFIX has beyond NetFlow v9.

pub mod list;
