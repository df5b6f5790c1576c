//! NetFlow v1, v5 and v7: records of one layout, decoded by a plan as those of templates are.

use super::books::CollectDrop;
use super::copy::Clocks;
use super::core::Core;
use super::facts::Sampling;
use super::plan::Plan;
use super::rows::{Output, RecordContext};
use super::session::Session;
use crate::model::time::UnixMillis;
use crate::model::{Column, ColumnSet, Protocol, RecordType};
use crate::wire::fixed::{Message, Version};

/// The plans of the three layouts: without and with the header's sampling interval.
#[derive(Debug)]
pub(super) struct FixedDecoder {
    v1: Plan,
    v1_short: Plan,
    v5: Plan,
    v5_sampled: Plan,
    v7: Plan,
}

impl FixedDecoder {
    pub(super) fn new(own_columns: ColumnSet) -> Self {
        let plan = |version: Version, protocol, own_columns| {
            Plan::compile(RecordType::Flow, version.fields(), protocol, own_columns)
                .expect("the layouts have fields")
        };
        let sampled = own_columns.with(Column::SamplingInterval);
        Self {
            v1: plan(Version::V1, Protocol::NetflowV1, own_columns),
            v1_short: plan(Version::V1Short, Protocol::NetflowV1, own_columns),
            v5: plan(Version::V5, Protocol::NetflowV5, own_columns),
            v5_sampled: plan(Version::V5, Protocol::NetflowV5, sampled),
            v7: plan(Version::V7, Protocol::NetflowV7, own_columns),
        }
    }

    fn plan(&self, version: Version, is_sampled: bool) -> &Plan {
        match (version, is_sampled) {
            (Version::V1, _) => &self.v1,
            (Version::V1Short, _) => &self.v1_short,
            (Version::V5, false) => &self.v5,
            (Version::V5, true) => &self.v5_sampled,
            (Version::V7, _) => &self.v7,
        }
    }
}

/// Decodes a datagram whose session is known. What the header says beyond the octets is damage;
/// what is there is decoded.
pub(super) fn decode_fixed_message(
    decoder: &mut FixedDecoder,
    core: &mut Core,
    session: &mut Session,
    message: &Message<'_>,
    received: UnixMillis,
    output: &mut Output<'_>,
) -> Result<(), CollectDrop> {
    let Message { header, records, missing } = *message;
    if let Some(number) = header.sequence_number {
        // The count is what the exporter's sequence goes on by, even where records are cut off.
        session.observe(number, Some(u32::from(header.count)), Some(header.sys_uptime));
    }
    let interval = u32::from(header.sampling_interval);
    if interval > 0 {
        session.note_sampling(Sampling { sampler: 0, interval: interval.into() }, received);
    }
    let clocks = Clocks { export_time: header.export_time(), sys_uptime: Some(header.sys_uptime) };
    let number = header.sequence_number.unwrap_or(0);
    let mut context = RecordContext {
        sampling_interval: interval,
        ..RecordContext::new(&session.origin, clocks, number, received)
    };
    core.books.sets.add(1);
    let plan = decoder.plan(header.version, interval > 0);
    let is_whole = core.decode_set(plan, records, &mut context, &session.books, output);
    if missing > 0 || !is_whole { Err(CollectDrop::Malformed) } else { Ok(()) }
}
