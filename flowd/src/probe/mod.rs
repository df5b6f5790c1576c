//! probe: the Observation Point. In: capture files, live interfaces. Out: [`CapturedPacket`]s, in
//! the order in which they came, or [`Harvest`]s of what the kernel has counted. Never: what
//! packets mean (that is the packet parser's) or which flow they belong to.
//!
//! ```text
//! pcap, pcapng --[capture]--> CapturedPacket --> flow
//! libpcap      --[live]-----> CapturedPacket --> flow
//! XDP, TC      --[datapath]-> Harvest        --> flow
//! rtnetlink    --[links]----> Link: what there is to observe
//! ```

pub mod capture;
mod clock;
mod datapath;
mod links;
mod live;
#[cfg(test)]
mod test_namespace;

pub use capture::{CaptureError, CaptureFile, CapturedPacket, Damage, Packets};
pub use datapath::{
    Attachment, Datapath, DatapathConfig, Harvest, HookChoice, ProbeError, Program,
};
pub use flowd_common::packet::LinkType;
pub use links::{Link, LinkCounters, LinkError, LinkEvent, LinkMonitor};
pub use live::{LiveCapture, LiveError, LiveHandle};
