//! What explains records, for people: a message's line, then its sets; a template's line, then its
//! fields.

use crate::app::decode::{Explained, FieldSeen, MessageSeen, SetSeen, TemplateSeen};

/// The lines that explain a message or a template.
#[must_use]
pub fn explain_text(explained: &Explained) -> Vec<String> {
    match explained {
        Explained::Message(message) => message_text(message),
        Explained::Template(template) => template_text(template),
    }
}

fn message_text(message: &MessageSeen) -> Vec<String> {
    let protocol = message.protocol.unwrap_or("unknown protocol");
    let mut line = format!(
        "message {} {}:{} {} {protocol}",
        message.captured, message.exporter, message.port, message.transport
    );
    if let Some(domain) = message.domain {
        line = format!("{line} domain {domain}");
    }
    if let Some(sequence) = message.sequence {
        line = format!("{line} sequence {sequence}");
    }
    if let Some(export_time) = &message.export_time {
        line = format!("{line} exported {export_time}");
    }
    if let Some(place) = message.place {
        line = format!("{line} (number {place} of its datagram)");
    }
    line = format!("{line}: {} octets", message.octets);
    if let Some(records) = message.records {
        line = format!("{line}, {records} records");
    }
    for (what, count) in &message.counted {
        line = format!("{line}, {what} {count}");
    }
    std::iter::once(line).chain(message.sets.iter().map(set_text)).collect()
}

fn set_text(set: &SetSeen) -> String {
    let mut line = format!("  set {}: {}", set.set_id, set.holds);
    if let Some(octets) = set.octets {
        line = format!("{line}, {octets} octets");
    }
    for id in &set.templates {
        line = format!("{line} {id}");
    }
    for withdrawn in &set.withdrawn {
        line = format!("{line}; withdrawn: {withdrawn}");
    }
    for refused in &set.refused {
        line = format!("{line}; refused: {refused}");
    }
    line
}

fn template_text(template: &TemplateSeen) -> Vec<String> {
    let kind = if template.scope_field_count.is_some() { "options template" } else { "template" };
    let head = format!(
        "{kind} {} of {}:{} {} domain {}, {}: {} fields",
        template.template_id,
        template.exporter,
        template.port,
        template.protocol,
        template.domain,
        template.state,
        template.fields.len()
    );
    let scopes = template.scope_field_count.unwrap_or(0);
    let fields = template.fields.iter().enumerate();
    let fields = fields.map(|(place, field)| field_text(field, place < scopes));
    std::iter::once(head).chain(fields).collect()
}

fn field_text(field: &FieldSeen, is_scope: bool) -> String {
    let length = field.length.map_or_else(|| "variable".to_owned(), |length| length.to_string());
    let element_type = field.element_type.as_deref().unwrap_or("not described");
    let scope = if is_scope { " (scope)" } else { "" };
    format!("  {:<12} {length:>8}  {} {element_type}{scope}", field.element, field.name)
}
