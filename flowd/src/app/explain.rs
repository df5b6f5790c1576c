//! What the messages of a capture hold, for `flowd decode --explain`: their headers, sets and
//! templates as `wire` reads them, and what the decoder's counters say came of each.

use crate::collect::{Books, ExporterStatistics, Peer, Statistics, Transport};
use crate::model::{ObservationDomainId, Origin, Protocol, Value, ie};
use crate::wire::{
    Dialect, FieldSpecifier, Set, Sets, TemplateChange, Withdrawal, fixed, ipfix, sflow, v9,
};
use hashbrown::HashMap;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

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
    /// Its place in its datagram, from 2 on, where another stands before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
    /// Its sets, up to its end or to damage.
    pub sets: Vec<SetSeen>,
    /// Records that it gave, those of sets that had waited for its templates included. Of
    /// several messages in a datagram the first one tells that, and what was counted, of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// What the decoder counted besides: reasons, with how many datagrams, sets or templates.
    pub counted: BTreeMap<String, u64>,
}

/// A set of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// The templates that it withdraws, in words; over a datagram that means nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<String>,
    /// What is wrong with others of its templates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// Who announces templates: a port has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Announcer {
    address: SocketAddr,
    transport: Transport,
    domain: u32,
    protocol: Protocol,
}

/// The layout of a template: how many of its fields are scopes if it is of options, and all.
type Layout = (Option<usize>, Vec<FieldSpecifier>);

/// Explains one message after another.
#[derive(Debug, Default)]
pub(super) struct Explainer {
    /// The last layout of each template.
    templates: HashMap<Announcer, HashMap<u16, Layout>>,
    /// How many there are.
    count: usize,
}

/// What is counted while a datagram or message is decoded.
#[derive(Debug)]
pub(super) struct Counted {
    totals: Statistics,
    exporter: Option<ExporterStatistics>,
}

/// Templates that are remembered: beyond, all are told as new.
const TEMPLATE_COUNT_MAX: usize = 65_536;

impl Explainer {
    /// Looks at a datagram, or a message of a connection, before it is decoded: its messages with
    /// the templates that each announces. There is one at least.
    pub(super) fn look(
        &mut self,
        octets: &[u8],
        peer: Peer,
        captured_millis: i64,
    ) -> Vec<(MessageSeen, Vec<TemplateSeen>)> {
        let mut seen = Vec::new();
        let mut rest = octets;
        loop {
            let mut message = MessageSeen::new(rest.len(), peer, captured_millis);
            let mut templates = Vec::new();
            message.place = seen.len().checked_add(1).filter(|&place| place > 1);
            let after = self.message(rest, &mut message, peer, &mut templates);
            message.octets = rest.len() - after.len();
            seen.push((message, templates));
            let is_one_more = after.starts_with(&ipfix::VERSION.to_be_bytes());
            if !is_one_more || peer.transport == Transport::Tcp {
                return seen;
            }
            rest = after;
        }
    }

    /// A connection has ended, and its templates with it.
    pub(super) fn forget(&mut self, peer: Peer) {
        let ended =
            |who: &Announcer| (who.address, who.transport) == (peer.address, peer.transport);
        self.templates.retain(|who, _| !ended(who));
        self.count = self.templates.values().map(HashMap::len).sum();
    }

    /// Looks at the message that octets begin with; what stands behind an IPFIX one is left.
    fn message<'a>(
        &mut self,
        octets: &'a [u8],
        message: &mut MessageSeen,
        peer: Peer,
        templates: &mut Vec<TemplateSeen>,
    ) -> &'a [u8] {
        let who = |protocol, domain| Announcer {
            address: peer.address,
            transport: peer.transport,
            domain,
            protocol,
        };
        if let Ok(v9::Message { header, sets }) = v9::Message::decode(octets) {
            message.is_of(Protocol::NetflowV9, header.source_id.0, header.sequence_number);
            message.export_time = Some(Value::Millis(header.export_time().0).to_string());
            self.sets(sets, who(Protocol::NetflowV9, header.source_id.0), message, templates);
        } else if let Ok(ipfix::Message { header, sets, after }) = ipfix::Message::decode(octets) {
            message.is_of(Protocol::Ipfix, header.domain.0, header.sequence_number);
            message.export_time = Some(Value::Millis(header.export_time().0).to_string());
            self.sets(sets, who(Protocol::Ipfix, header.domain.0), message, templates);
            return after;
        } else if sflow::is_announced_by(octets) {
            message.protocol = Some(Protocol::Sflow.name());
        } else if let Some(&[high, low]) = octets.first_chunk() {
            let version = fixed::Version::from_word(u16::from_be_bytes([high, low]));
            message.protocol = version.map(|version| match version {
                fixed::Version::V1 | fixed::Version::V1Short => Protocol::NetflowV1.name(),
                fixed::Version::V5 => Protocol::NetflowV5.name(),
                fixed::Version::V7 => Protocol::NetflowV7.name(),
            });
        }
        &[]
    }

    fn sets<D: Dialect>(
        &mut self,
        sets: Sets<'_, D>,
        who: Announcer,
        message: &mut MessageSeen,
        templates: &mut Vec<TemplateSeen>,
    ) {
        for set in sets {
            let mut seen = SetSeen::default();
            match set {
                Ok(Set::Templates(changes)) => {
                    seen.set_id = changes.id();
                    "templates".clone_into(&mut seen.holds);
                    for change in changes {
                        match change {
                            Ok(change) => self.change(change, who, &mut seen, templates),
                            Err(error) => seen.refused.push(error.to_string()),
                        }
                    }
                }
                Ok(Set::Data(set)) => {
                    let id = set.template_id.get();
                    let known = self.templates.get(&who);
                    let is_known = known.is_some_and(|known| known.contains_key(&id));
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
        who: Announcer,
        set: &mut SetSeen,
        templates: &mut Vec<TemplateSeen>,
    ) {
        let (id, scope_field_count, fields) = match change {
            TemplateChange::Data(template) => (template.id.get(), None, template.fields),
            TemplateChange::Options(template) => {
                (template.id.get(), Some(template.scopes.len()), template.fields().collect())
            }
            TemplateChange::Withdrawal(withdrawal) => {
                set.withdrawn.push(self.withdraw(withdrawal, who));
                return;
            }
        };
        set.templates.push(id);
        if self.count >= TEMPLATE_COUNT_MAX {
            *self = Self::default();
        }
        let layout = (scope_field_count, fields);
        let known = self.templates.entry(who).or_default();
        let state = match known.get(&id) {
            Some(known) if *known == layout => return,
            Some(_) => "changed",
            None => "new",
        };
        self.count += usize::from(state == "new");
        templates.push(TemplateSeen {
            record_type: if scope_field_count.is_some() { "optionsTemplate" } else { "template" },
            exporter: who.address.ip().to_canonical(),
            port: who.address.port(),
            domain: who.domain,
            protocol: who.protocol.name(),
            template_id: id,
            state,
            scope_field_count,
            fields: layout.1.iter().map(|field| FieldSeen::of(*field)).collect(),
        });
        known.insert(id, layout);
    }

    /// What is withdrawn, in words. Only a connection's templates are (RFC 7011 section 8.4).
    fn withdraw(&mut self, withdrawal: Withdrawal, who: Announcer) -> String {
        let words = match withdrawal {
            Withdrawal::One(id) => id.get().to_string(),
            Withdrawal::AllData => "all of data".to_owned(),
            Withdrawal::AllOptions => "all of options".to_owned(),
        };
        if who.transport == Transport::Udp {
            return words + " (ignored over UDP)";
        }
        if let Some(known) = self.templates.get_mut(&who) {
            let before = known.len();
            match withdrawal {
                Withdrawal::One(id) => {
                    known.remove(&id.get());
                }
                Withdrawal::AllData => known.retain(|_, (scopes, _)| scopes.is_some()),
                Withdrawal::AllOptions => known.retain(|_, (scopes, _)| scopes.is_none()),
            }
            self.count -= before - known.len();
        }
        words
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
    fn new(octets: usize, peer: Peer, captured_millis: i64) -> Self {
        Self {
            record_type: "message",
            captured: Value::Millis(captured_millis).to_string(),
            exporter: peer.ip(),
            port: peer.address.port(),
            transport: if peer.transport == Transport::Tcp { "tcp" } else { "udp" },
            protocol: None,
            domain: None,
            sequence: None,
            export_time: None,
            octets,
            place: None,
            sets: Vec::new(),
            records: None,
            counted: BTreeMap::new(),
        }
    }

    fn is_of(&mut self, protocol: Protocol, domain: u32, sequence: u32) {
        self.protocol = Some(protocol.name());
        self.domain = Some(domain);
        self.sequence = Some(sequence);
    }

    /// The counters that matter to it, as they stand: not those of all other exporters, which
    /// may be many.
    pub(super) fn counted(&self, books: &Books) -> Counted {
        let protocol = [Protocol::NetflowV9, Protocol::Ipfix]
            .into_iter()
            .find(|protocol| Some(protocol.name()) == self.protocol);
        let origin = protocol.zip(self.domain).map(|(protocol, domain)| Origin {
            address: self.exporter,
            domain: ObservationDomainId(domain),
            protocol,
        });
        let exporter = origin.and_then(|origin| books.statistics_of(&origin));
        Counted { totals: books.totals(), exporter }
    }

    /// Writes down what the decoder counted while it had the message.
    pub(super) fn note(&mut self, before: &Counted, after: &Counted) {
        let (earlier, later) = (&before.totals, &after.totals);
        self.records = Some(later.records.saturating_sub(earlier.records));
        for (kind, before, after) in [
            ("datagrams", &earlier.drops, &later.drops),
            ("sets", &earlier.set_drops, &later.set_drops),
            ("templates", &earlier.template_drops, &later.template_drops),
        ] {
            for (reason, &count) in after {
                let earlier = before.get(reason).copied().unwrap_or(0);
                self.count(&format!("{kind} {reason}"), earlier, count);
            }
        }
        self.count("sets decoded", earlier.sets_decoded, later.sets_decoded);
        self.count("sets held for their template", earlier.sets_held, later.sets_held);
        let of_exporter = |counted: &Counted| {
            counted.exporter.as_ref().map_or([0; 4], |e| {
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
