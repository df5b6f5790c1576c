//! Messages with templates -> decoded -> written anew by our encoder -> decoded with a fresh cache:
//! the records are the same.
//!
//! What is written anew are templates and records as this file cuts them out of their sets, by
//! rules of its own: it is a second opinion on where records begin and end.

use super::input;
use flowd::collect::{Books, Decoder, DecoderConfig, Peer, TemplateStore};
use flowd::model::time::UnixMillis;
use flowd::model::{FlowBatch, FlowRecord, Origin};
use flowd::wire::{
    Dialect, FieldSpecifier, MessageEncoder, Set, Sets, TemplateChange, TemplateId, ipfix, v9,
};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
/// The length that says that each record tells it (RFC 7011 section 7).
const VARIABLE: u16 = u16::MAX;
/// The first octet that says that the length stands in the two after it.
const LONG: u8 = 255;

/// Runs an input: its messages, all of one peer.
pub fn run(octets: &[u8]) {
    messages_compared(octets);
}

/// Runs an input; how many of its messages, from the first on, could be written anew.
pub fn messages_compared(octets: &[u8]) -> usize {
    let mut count = 0;
    let mut rewriter = Rewriter::default();
    let (mut first, mut second) = (Reading::new(), Reading::new());
    for sent in input::messages(octets) {
        let Some(written) = rewriter.rewrite(sent.octets) else { break };
        first.message(&written.taken);
        second.message(&written.anew);
        assert_eq!(first.records, second.records, "the same records");
        count += 1;
    }
    count
}

/// A decoder and what it gave.
struct Reading {
    decoder: Decoder,
    records: Vec<(FlowRecord, Origin)>,
}

impl Reading {
    fn new() -> Self {
        let config = DecoderConfig::default();
        let templates = Arc::new(TemplateStore::new(&config));
        let decoder = Decoder::new(&config, templates, Arc::default(), Arc::new(Books::default()));
        Self { decoder, records: Vec::new() }
    }

    fn message(&mut self, octets: &[u8]) {
        let mut batch = FlowBatch::new();
        let Self { decoder, records } = self;
        let peer = Peer::udp(SocketAddr::from((Ipv4Addr::LOCALHOST, 2_055)));
        records.clear();
        decoder.decode(octets, peer, NOW, &mut batch, &mut |full| take(full, records));
        take(&batch, records);
    }
}

fn take(batch: &FlowBatch, records: &mut Vec<(FlowRecord, Origin)>) {
    for run in batch.runs() {
        for row in run.rows.clone() {
            let mut record = batch.record(row).expect("a row of a run is a record");
            // Its place among those of its message: what waits for a template keeps as many
            // places free as it has octets, and padding is not written anew.
            record.export_record_index = 0;
            records.push((record, Origin::clone(&run.origin)));
        }
    }
}

/// A message as far as it can be read, and written anew.
struct Written {
    taken: Vec<u8>,
    anew: Vec<u8>,
}

/// The templates so far, by protocol, domain and number.
#[derive(Default)]
struct Rewriter {
    templates: HashMap<(u16, u32, TemplateId), Vec<FieldSpecifier>>,
}

impl Rewriter {
    /// None for what is no message of a protocol with templates, and for what cannot be written
    /// with certainty.
    fn rewrite(&mut self, octets: &[u8]) -> Option<Written> {
        let version = u16::from_be_bytes(*octets.first_chunk()?);
        match version {
            v9::VERSION => {
                let v9::Message { header, sets } = v9::Message::decode(octets).ok()?;
                let scope = (version, header.source_id.0);
                let mut encoder = v9::MessageEncoder::new(usize::from(u16::MAX));
                self.sets(sets, scope, &mut encoder)?;
                let taken = octets.to_vec();
                Some(Written { taken, anew: encoder.finish(header).to_vec() })
            }
            ipfix::VERSION => {
                let ipfix::Message { header, sets, .. } = ipfix::Message::decode(octets).ok()?;
                let scope = (version, header.domain.0);
                let mut encoder = ipfix::MessageEncoder::new(usize::from(u16::MAX));
                self.sets(sets, scope, &mut encoder)?;
                // What stands behind the message is no part of it.
                let taken = octets.get(..usize::from(header.length)).unwrap_or(octets).to_vec();
                Some(Written { taken, anew: encoder.finish(header).to_vec() })
            }
            _ => None,
        }
    }

    fn sets<D: Dialect>(
        &mut self,
        sets: Sets<'_, D>,
        scope: (u16, u32),
        encoder: &mut MessageEncoder<D>,
    ) -> Option<()> {
        for set in sets {
            match set {
                Ok(Set::Templates(changes)) => {
                    for change in changes.flatten() {
                        self.change(change, scope, encoder)?;
                    }
                }
                Ok(Set::Data(set)) => {
                    let fields = self.templates.get(&(scope.0, scope.1, set.template_id));
                    let Some(fields) = fields else {
                        // Whole words get no padding, which might be read as records later.
                        if !set.body.len().is_multiple_of(4) {
                            return None;
                        }
                        put(encoder, set.template_id, set.body)?;
                        continue;
                    };
                    for record in records(fields, set.body)? {
                        put(encoder, set.template_id, record)?;
                    }
                }
                Ok(Set::Unknown(_)) => {}
                // What came before it stands.
                Err(_) => break,
            }
        }
        Some(())
    }

    fn change<D: Dialect>(
        &mut self,
        change: TemplateChange,
        scope: (u16, u32),
        encoder: &mut MessageEncoder<D>,
    ) -> Option<()> {
        let (id, fields, is_written) = match change {
            TemplateChange::Data(template) => {
                let is_written = encoder.template(&template);
                (template.id, template.fields, is_written)
            }
            TemplateChange::Options(template) => {
                let is_written = encoder.options_template(&template);
                (template.id, template.fields().collect(), is_written)
            }
            // In a datagram it means nothing.
            TemplateChange::Withdrawal(_) => return Some(()),
        };
        self.templates.insert((scope.0, scope.1, id), fields);
        is_written.then_some(())
    }
}

fn put<D: Dialect>(encoder: &mut MessageEncoder<D>, id: TemplateId, record: &[u8]) -> Option<()> {
    encoder.data(id, record.len(), |writer| writer.bytes(record)).then_some(())
}

/// The records of a set; none if it ends in the middle of one, which makes the set malformed.
fn records<'a>(fields: &[FieldSpecifier], body: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let least = |field: &FieldSpecifier| match field.length {
        VARIABLE => 1,
        length => usize::from(length),
    };
    let size_min: usize = fields.iter().map(least).sum();
    let is_variable = fields.iter().any(|field| field.length == VARIABLE);
    let mut rest = body;
    let mut records = Vec::new();
    while rest.len() >= size_min && size_min > 0 {
        // Sets are filled up to words (RFC 7011 section 3.3.1); more zeros are records.
        if is_variable && rest.len() < 4 && rest.iter().all(|&octet| octet == 0) {
            break;
        }
        let mut at = 0;
        for field in fields {
            at += match field.length {
                VARIABLE => match *rest.get(at)? {
                    LONG => {
                        let &[high, low] = rest.get(at + 1..)?.first_chunk()?;
                        3 + usize::from(u16::from_be_bytes([high, low]))
                    }
                    length => 1 + usize::from(length),
                },
                length => usize::from(length),
            };
        }
        let (record, after) = rest.split_at_checked(at)?;
        records.push(record);
        rest = after;
    }
    // A short record of zeros reads as padding once nothing stands behind it.
    let is_like_padding = |record: &&[u8]| record.len() < 4 && record.iter().all(|&it| it == 0);
    let is_lost = is_variable && records.last().is_some_and(is_like_padding);
    (!is_lost).then_some(records)
}
