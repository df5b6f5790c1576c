//! What the messages of a capture hold, for `flowd decode --explain`: their headers, sets and
//! templates as `wire` reads them, and what the decoder's counters say came of each.

use crate::collect::{ExporterStatistics, Peer, Statistics, Transport};
use crate::model::{Protocol, Value, ie};
use crate::wire::{Dialect, FieldSpecifier, Set, Sets, TemplateChange, fixed, ipfix, sflow, v9};
use hashbrown::HashMap;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Something worth telling besides the records. As JSON its keys have the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Explained {
    /// A template that is new, or another than it was.
    Template(TemplateSeen),
    /// A message, and what came of it.
    Message(MessageSeen),
}

/// A template that was announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSeen {
    /// `template` or `optionsTemplate`.
    pub record_type: &'static str,
    /// Who announced it.
    pub exporter: IpAddr,
    /// From which port.
    pub port: u16,
    /// Its Observation Domain, or Source ID.
    pub domain: u32,
    /// The protocol's name.
    pub protocol: &'static str,
    /// Its number.
    pub template_id: u16,
    /// `new` or `changed`; repeats are not told.
    pub state: &'static str,
    /// The first so many fields say what the record is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_field_count: Option<usize>,
    /// Its fields in order.
    pub fields: Vec<FieldSeen>,
}

/// A field of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldSeen {
    /// The element's name, as records show it.
    pub name: String,
    /// `PEN:ID`.
    pub element: String,
    /// Octets in a record; none if each record tells it.
    pub length: Option<u16>,
    /// Its abstract data type; none if nobody described the element.
    #[serde(rename = "type")]
    pub element_type: Option<String>,
}

/// A message, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageSeen {
    /// `message`.
    pub record_type: &'static str,
    /// When it was captured.
    pub captured: String,
    /// Who sent it.
    pub exporter: IpAddr,
    /// From which port.
    pub port: u16,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// The protocol's name; none if its first word is no version that is known.
    pub protocol: Option<&'static str>,
    /// Its Observation Domain, or Source ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<u32>,
    /// Its number in the exporter's sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u32>,
    /// The exporter's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_time: Option<String>,
    /// Octets of it.
    pub octets: usize,
    /// Its sets, up to its end or to damage.
    pub sets: Vec<SetSeen>,
    /// Records that it gave, those of sets that had waited for its templates included.
    pub records: u64,
    /// What the decoder counted besides: reasons, with how many datagrams, sets or templates.
    pub counted: BTreeMap<String, u64>,
}

/// A set of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetSeen {
    /// Its number.
    pub set_id: u16,
    /// `templates`, `data`, `data without template` or `unknown`; what was wrong with it, if
    /// it cannot be read.
    pub holds: String,
    /// Octets behind its header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub octets: Option<usize>,
    /// The templates that it announces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<u16>,
    /// What is wrong with others of its templates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// The exporter, domain and protocol that a template belongs to, and its number.
type TemplateKey = (IpAddr, u32, Protocol, u16);

/// Explains one message after another.
#[derive(Debug, Default)]
pub(super) struct Explainer {
    /// The last layout of each template; as many as the decoder keeps would be kept here.
    templates: HashMap<TemplateKey, (Option<usize>, Vec<FieldSpecifier>)>,
}

/// Templates that are remembered: beyond, all are told as new.
const TEMPLATE_COUNT_MAX: usize = 65_536;

impl Explainer {
    /// Looks at a message before it is decoded.
    pub(super) fn look(
        &mut self,
        octets: &[u8],
        peer: Peer,
        captured_millis: i64,
    ) -> (MessageSeen, Vec<TemplateSeen>) {
        let mut message = MessageSeen {
            record_type: "message",
            captured: Value::Millis(captured_millis).to_string(),
            exporter: peer.ip(),
            port: peer.address.port(),
            transport: if peer.transport == Transport::Tcp { "tcp" } else { "udp" },
            protocol: None,
            domain: None,
            sequence: None,
            export_time: None,
            octets: octets.len(),
            sets: Vec::new(),
            records: 0,
            counted: BTreeMap::new(),
        };
        let mut templates = Vec::new();
        if let Ok(v9::Message { header, sets }) = v9::Message::decode(octets) {
            message.is_of(Protocol::NetflowV9, header.source_id.0, header.sequence_number);
            message.export_time = Some(Value::Millis(header.export_time().0).to_string());
            self.sets(sets, Protocol::NetflowV9, &mut message, &mut templates);
        } else if let Ok(ipfix::Message { header, sets, .. }) = ipfix::Message::decode(octets) {
            message.is_of(Protocol::Ipfix, header.domain.0, header.sequence_number);
            message.export_time = Some(Value::Millis(header.export_time().0).to_string());
            self.sets(sets, Protocol::Ipfix, &mut message, &mut templates);
        } else if sflow::is_announced_by(octets) {
            message.protocol = Some(Protocol::Sflow.name());
        } else if let Some(&[high, low]) = octets.first_chunk() {
            let version = fixed::Version::from_word(u16::from_be_bytes([high, low]));
            message.protocol = version.map(|version| match version {
                fixed::Version::V1 => Protocol::NetflowV1.name(),
                fixed::Version::V5 => Protocol::NetflowV5.name(),
                fixed::Version::V7 => Protocol::NetflowV7.name(),
            });
        }
        (message, templates)
    }

    fn sets<D: Dialect>(
        &mut self,
        sets: Sets<'_, D>,
        protocol: Protocol,
        message: &mut MessageSeen,
        templates: &mut Vec<TemplateSeen>,
    ) {
        for set in sets {
            let mut seen = SetSeen {
                set_id: D::TEMPLATE_SET_ID,
                holds: "templates".to_owned(),
                octets: None,
                templates: Vec::new(),
                refused: Vec::new(),
            };
            match set {
                Ok(Set::Templates(changes)) => {
                    for change in changes {
                        match change {
                            Ok(TemplateChange::Options(_)) => {
                                seen.set_id = D::OPTIONS_TEMPLATE_SET_ID;
                            }
                            Ok(_) => {}
                            Err(error) => seen.refused.push(error.to_string()),
                        }
                        if let Ok(change) = change {
                            self.change(change, protocol, message, &mut seen, templates);
                        }
                    }
                }
                Ok(Set::Data(set)) => {
                    let id = set.template_id.get();
                    let domain = message.domain.unwrap_or_default();
                    let key = (message.exporter, domain, protocol, id);
                    let is_known = self.templates.contains_key(&key);
                    seen.set_id = id;
                    seen.octets = Some(set.body.len());
                    let holds = if is_known { "data" } else { "data without template" };
                    holds.clone_into(&mut seen.holds);
                }
                Ok(Set::Unknown(id)) => {
                    seen.set_id = id;
                    "unknown".clone_into(&mut seen.holds);
                }
                Err(error) => seen.holds = format!("damage: {error}"),
            }
            message.sets.push(seen);
        }
    }

    fn change(
        &mut self,
        change: TemplateChange,
        protocol: Protocol,
        message: &MessageSeen,
        set: &mut SetSeen,
        templates: &mut Vec<TemplateSeen>,
    ) {
        let (id, scope_field_count, fields) = match change {
            TemplateChange::Data(template) => (template.id.get(), None, template.fields),
            TemplateChange::Options(template) => {
                (template.id.get(), Some(template.scopes.len()), template.fields().collect())
            }
            TemplateChange::Withdrawal(withdrawal) => {
                set.refused.push(format!("withdrawal of {withdrawal:?}"));
                return;
            }
        };
        set.templates.push(id);
        if self.templates.len() >= TEMPLATE_COUNT_MAX {
            self.templates.clear();
        }
        let domain = message.domain.unwrap_or_default();
        let key = (message.exporter, domain, protocol, id);
        let layout = (scope_field_count, fields);
        let state = match self.templates.get(&key) {
            Some(known) if *known == layout => return,
            Some(_) => "changed",
            None => "new",
        };
        templates.push(TemplateSeen {
            record_type: if scope_field_count.is_some() { "optionsTemplate" } else { "template" },
            exporter: message.exporter,
            port: message.port,
            domain,
            protocol: protocol.name(),
            template_id: id,
            state,
            scope_field_count,
            fields: layout.1.iter().map(|field| FieldSeen::of(*field)).collect(),
        });
        self.templates.insert(key, layout);
    }
}

impl FieldSeen {
    fn of(field: FieldSpecifier) -> Self {
        let FieldSpecifier { enterprise, id, length } = field;
        let element = if enterprise == ie::PEN_V9_SCOPE {
            format!("scope:{id}")
        } else {
            format!("{enterprise}:{id}")
        };
        let name = ie::display_name(enterprise, id);
        let is_described = name != element || ie::find(enterprise, id).is_some();
        let element_type = is_described.then(|| {
            let name = format!("{:?}", ie::element_type(enterprise, id));
            let (first, rest) = name.split_at(1);
            first.to_lowercase() + rest
        });
        let length = Some(length).filter(|length| *length != u16::MAX);
        Self { name, element, length, element_type }
    }
}

impl MessageSeen {
    fn is_of(&mut self, protocol: Protocol, domain: u32, sequence: u32) {
        self.protocol = Some(protocol.name());
        self.domain = Some(domain);
        self.sequence = Some(sequence);
    }

    /// Writes down what the decoder counted while it had the message.
    pub(super) fn note(&mut self, before: &Statistics, after: &Statistics) {
        self.records = after.records.saturating_sub(before.records);
        for (kind, before, after) in [
            ("datagrams", &before.drops, &after.drops),
            ("sets", &before.set_drops, &after.set_drops),
            ("templates", &before.template_drops, &after.template_drops),
        ] {
            for (reason, &count) in after {
                let earlier = before.get(reason).copied().unwrap_or(0);
                self.count(&format!("{kind} {reason}"), earlier, count);
            }
        }
        self.count("sets decoded", before.sets_decoded, after.sets_decoded);
        self.count("sets held for their template", before.sets_held, after.sets_held);
        let of_exporter = |statistics: &Statistics| {
            let is_it = |e: &&ExporterStatistics| {
                e.address == self.exporter
                    && Some(e.domain) == self.domain
                    && Some(e.protocol.as_str()) == self.protocol
            };
            let exporter = statistics.exporters.iter().find(is_it);
            exporter.map_or([0; 4], |e| {
                [e.sequence_gaps, e.messages_late, e.messages_repeated, e.restarts]
            })
        };
        let (earlier, later) = (of_exporter(before), of_exporter(after));
        let names = ["sequence gaps", "late", "repeated", "restarts"];
        for (name, (earlier, later)) in names.into_iter().zip(earlier.into_iter().zip(later)) {
            self.count(name, earlier, later);
        }
    }

    fn count(&mut self, what: &str, before: u64, after: u64) {
        let count = after.saturating_sub(before);
        if count > 0 {
            self.counted.insert(what.to_owned(), count);
        }
    }
}
