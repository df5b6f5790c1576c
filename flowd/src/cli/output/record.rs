//! Decoded and metered records as rows, for `decode` and `replay`.

use crate::model::{
    Column, ColumnSet, ExtraSpec, FlowRecord, Origin, RecordType, TcpControlBits, Value,
    element_value, ie,
};
use crate::query::field::Provenance;
use crate::query::tell_twins_apart;
use hashbrown::HashMap;
use std::net::IpAddr;

/// Makes rows of records. It remembers the names of the last record's elements, since records of
/// one template follow one another.
#[derive(Debug, Default)]
pub struct RecordRows {
    columns: ColumnSet,
    specs: Vec<ExtraSpec>,
    names: Vec<String>,
}

impl RecordRows {
    /// Calls with a record as a row: columns in their order, then where it came from if that is
    /// said, then the elements without a column in the order that they were sent.
    pub fn with_row<R>(
        &mut self,
        record: &FlowRecord,
        origin: Option<&Origin>,
        call: impl FnOnce(&[(&str, Value<'_>)]) -> R,
    ) -> R {
        self.name_elements(record);
        let mut row: Vec<(&str, Value<'_>)> = Vec::with_capacity(64);
        if record.record_type != RecordType::Flow {
            row.push(("recordType", Value::Text(record.record_type.name())));
        }
        for column in record.present.iter() {
            row.extend(record.value(column).map(|value| (column.name(), shown(column, value))));
        }
        tell_twins_apart(&mut row);
        if let Some(origin) = origin {
            row.push(match origin.address {
                IpAddr::V4(_) => (Provenance::ExporterIpv4.name(), Value::Address(origin.address)),
                IpAddr::V6(_) => (Provenance::ExporterIpv6.name(), Value::Address(origin.address)),
            });
            let domain = Value::Unsigned(u64::from(origin.domain.0));
            row.push((Provenance::ObservationDomain.name(), domain));
            row.push((Provenance::ExportProtocol.name(), Value::Text(origin.protocol.name())));
        }
        for (extra, name) in record.extras.iter().zip(&self.names) {
            let element_type = ie::element_type(extra.spec.enterprise, extra.spec.id);
            row.push((name, element_value(element_type, &extra.value)));
        }
        call(&row)
    }

    /// The first element of a name comes under it, the next as `name#2`, and so on.
    fn name_elements(&mut self, record: &FlowRecord) {
        let specs = record.extras.iter().map(|extra| extra.spec);
        if self.columns == record.present && specs.clone().eq(self.specs.iter().copied()) {
            return;
        }
        self.columns = record.present;
        self.specs = specs.collect();
        let present = record.present.iter().map(|column| (column.name().to_owned(), 1));
        let mut counts: HashMap<String, u32> = present.collect();
        let mut name = |spec: &ExtraSpec| {
            let name = ie::display_name(spec.enterprise, spec.id);
            let count = counts.entry(name.clone()).or_insert(0);
            *count += 1;
            if *count == 1 { name } else { format!("{name}#{count}") }
        };
        self.names = self.specs.iter().map(&mut name).collect();
    }
}

fn shown(column: Column, value: Value<'_>) -> Value<'_> {
    match value {
        Value::Unsigned(flags) if column == Column::TcpControlBits => {
            Value::Unsigned(flags & u64::from(TcpControlBits::MASK))
        }
        _ => value,
    }
}
