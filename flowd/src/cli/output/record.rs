//! Decoded and metered records as rows, for `decode` and `replay`.

use crate::model::{
    Column, ColumnSet, ElementType, ExtraSpec, FlowRecord, Origin, RecordType, TcpControlBits,
    Value, element_value, ie, ie_learned,
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
    names: Vec<(String, ElementType)>,
    /// How many elements exporters had told of when the names were looked up.
    learned: usize,
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
        // The templates of the record's lists are its last extra, and no value of its own.
        let kept = record
            .extras
            .split_last()
            .filter(|(last, _)| (last.spec.enterprise, last.spec.id) == (ie::PEN_SUB_TEMPLATES, 0));
        let (templates, extras) = match kept {
            Some((last, extras)) => (last.value.as_slice(), extras),
            None => (&[][..], record.extras.as_slice()),
        };
        for (extra, (name, element_type)) in extras.iter().zip(&self.names) {
            let value = element_value(*element_type, &extra.value);
            row.push((name, value.with_templates(templates)));
        }
        call(&row)
    }

    /// The first element of a name comes under it, the next as `name#2`, and so on.
    fn name_elements(&mut self, record: &FlowRecord) {
        let specs = record.extras.iter().map(|extra| extra.spec);
        let learned = ie_learned::count();
        if self.columns == record.present
            && self.learned == learned
            && specs.clone().eq(self.specs.iter().copied())
        {
            return;
        }
        self.learned = learned;
        self.columns = record.present;
        self.specs = specs.collect();
        let present = record.present.iter().map(|column| (column.name().to_owned(), 1));
        let mut counts: HashMap<String, u32> = present.collect();
        let mut name = |spec: &ExtraSpec| {
            let name = ie::display_name(spec.enterprise, spec.id);
            let count = counts.entry(name.clone()).or_insert(0);
            *count += 1;
            let name = if *count == 1 { name } else { format!("{name}#{count}") };
            (name, ie::element_type(spec.enterprise, spec.id))
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
