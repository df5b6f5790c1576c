//! A counter sample -> one row.

use super::flow::{add_field, known_vlan};
use super::row::{Row, set};
use super::{SampleCounts, elements};
use crate::model::{Column, RecordType};
use crate::wire::sflow::{CounterData, CountersSample, Field, Kind, SourceId};

/// Makes the row of a counter sample; false if its records are damaged.
pub(super) fn counters(
    sample: &CountersSample<'_>,
    row: &mut Row,
    counts: &mut SampleCounts,
) -> bool {
    row.begin(RecordType::Counters);
    row.number(elements::SAMPLING_SOURCE_CLASS, sample.source.class);
    row.number(elements::SAMPLING_SOURCE_INDEX, sample.source.index);
    let (mut sound, mut damaged) = (0u64, 0u64);
    for block in sample.records.clone() {
        match block.and_then(|block| CounterData::decode(&block)) {
            Ok(CounterData::Fields(fields)) => {
                sound = sound.saturating_add(1);
                fields.iter().for_each(|field| add(&field, row));
            }
            Ok(CounterData::Unknown(_)) => {
                sound = sound.saturating_add(1);
                counts.parts_unknown = counts.parts_unknown.saturating_add(1);
            }
            Err(_) => damaged = damaged.saturating_add(1),
        }
    }
    if sound == 0 && damaged > 0 {
        return false;
    }
    counts.parts_malformed = counts.parts_malformed.saturating_add(damaged);
    if !row.has(Column::IngressInterface) && sample.source.class == SourceId::INTERFACE {
        set!(row, ingress_interface, IngressInterface, sample.source.index);
    }
    true
}

/// A counter that the agent does not keep has all bits set: a value that was not sent.
fn is_unknown(field: &Field<'_>) -> bool {
    matches!(field.kind, Kind::Four | Kind::Eight) && field.value.iter().all(|&octet| octet == 255)
}

fn add(field: &Field<'_>, row: &mut Row) {
    let number = || field.value.try_into().map(u32::from_be_bytes).ok();
    match field.number {
        CounterData::INTERFACE_INDEX => {
            if let Some(index) = number() {
                set!(row, ingress_interface, IngressInterface, index);
            }
        }
        CounterData::VLAN_ID => {
            if let Some(vlan) = number().and_then(known_vlan) {
                set!(row, vlan_id, VlanId, vlan);
            }
        }
        _ if is_unknown(field) => {}
        _ => add_field(field, row),
    }
}
