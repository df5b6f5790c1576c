//! What a killed collector had stored, but had not yet counted or noted in its sequences: the
//! store tells of it, message by message.

use super::books::Books;
use super::sequence::{Arrival, GAP_MAX, Sequence};
use super::standing::Standing;
use crate::model::time::UnixMillis;
use crate::model::{Column, ColumnRef, FlowBatch, Origin, Protocol, Run};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Messages that are looked at: what an ordinary collector receives in many seconds. Of more,
/// those beyond count as lost.
const MESSAGE_COUNT_MAX: usize = 1 << 20;

/// Messages whose records are stored.
#[derive(Debug)]
pub struct Unsaved {
    counted_until: UnixMillis,
    /// By who sent them, and by their sequence number.
    messages: HashMap<Arc<Origin>, BTreeMap<u32, StoredMessage>>,
    count: usize,
}

/// What is stored of a message.
#[derive(Clone, Copy, Debug)]
struct StoredMessage {
    records: u64,
    /// Places in the message, up to its last record that is stored.
    places: u32,
    received: i64,
}

impl Unsaved {
    /// Nothing yet. Messages that came after `counted_until` are in no counter.
    #[must_use]
    pub fn new(counted_until: UnixMillis) -> Self {
        Self { counted_until, messages: HashMap::new(), count: 0 }
    }

    /// Takes note of stored records that came since a time. Those that do not tell their message
    /// are passed over.
    pub fn add(&mut self, batch: &FlowBatch, since: UnixMillis) {
        for run in batch.runs() {
            let numbers = column(batch, run, Column::ExportSequenceNumber);
            let places = column(batch, run, Column::ExportRecordIndex);
            let times = column(batch, run, Column::CollectionTimeMilliseconds);
            let (
                Some(ColumnRef::U32(numbers)),
                Some(ColumnRef::U16(places)),
                Some(ColumnRef::I64(times)),
            ) = (numbers, places, times)
            else {
                continue;
            };
            let messages = self.messages.entry(Arc::clone(&run.origin)).or_default();
            for row in run.rows.clone() {
                let (Some(&number), Some(&place), Some(&time)) =
                    (numbers.get(row), places.get(row), times.get(row))
                else {
                    break;
                };
                if time < since.0 {
                    continue;
                }
                if self.count >= MESSAGE_COUNT_MAX && !messages.contains_key(&number) {
                    continue;
                }
                let message = messages.entry(number).or_insert_with(|| {
                    self.count = self.count.saturating_add(1);
                    StoredMessage { records: 0, places: 0, received: time }
                });
                message.records = message.records.saturating_add(1);
                message.places = message.places.max(u32::from(place).saturating_add(1));
            }
        }
    }
}

fn column<'a>(batch: &'a FlowBatch, run: &Run, column: Column) -> Option<ColumnRef<'a>> {
    run.shape.columns.contains(column).then(|| batch.column(column))
}

impl Books {
    /// Counts what an earlier collector stored and had not counted when it was killed, and lets
    /// the sequences go on behind it: how many messages that were. To be called after the
    /// sequences were restored, before the first message is decoded.
    pub fn take_up(&self, unsaved: &Unsaved) -> u64 {
        let mut counted: u64 = 0;
        for (origin, messages) in &unsaved.messages {
            let exporter = self.exporter(origin);
            let late = messages.values().filter(|it| it.received > unsaved.counted_until.0);
            for message in late {
                // How long it was, nobody knows any more.
                self.received(0);
                self.datagrams_decoded.add(1);
                self.records.add(message.records);
                exporter.messages.add(1);
                exporter.records.add(message.records);
                counted = counted.saturating_add(1);
            }
            self.standings.advance(origin, |standing| {
                advance(standing, origin, messages, &mut |arrival| exporter.count(arrival))
            });
        }
        counted
    }
}

/// Where a sequence stands after the messages that lie ahead of it.
fn advance(
    standing: &Standing,
    origin: &Origin,
    messages: &BTreeMap<u32, StoredMessage>,
    count: &mut dyn FnMut(Arrival),
) -> Standing {
    let mut ahead: Vec<(i32, u32, StoredMessage)> = messages
        .iter()
        .map(|(&number, &message)| {
            (number.wrapping_sub(standing.next).cast_signed(), number, message)
        })
        .filter(|(ahead, ..)| (0..=GAP_MAX).contains(ahead))
        .collect();
    ahead.sort_unstable_by_key(|&(ahead, ..)| ahead);
    let mut sequence = Sequence::resume(standing, 0);
    let mut heard = standing.heard;
    for (_, number, message) in ahead {
        let units = match origin.protocol {
            Protocol::Ipfix | Protocol::NetflowV5 | Protocol::NetflowV7 => message.places,
            _ => 1,
        };
        // The uptime that each told is not stored; that of the standing is near enough.
        count(sequence.observe(number, Some(units), standing.sys_uptime));
        heard = heard.max(UnixMillis(message.received));
    }
    let Standing { is_established, booted, .. } = *standing;
    sequence.standing(heard, is_established, booted).unwrap_or(*standing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::tests::{RECEIVED, message, template};
    use crate::collect::{Decoder, DecoderConfig, PendingStore, Statistics, TemplateStore};
    use std::path::Path;

    /// One run of a collector on a directory: messages from, and to before, these numbers.
    fn run(dir: &Path, numbers: &[u32], unsaved: Option<&Unsaved>) -> (Decoder, Arc<Books>) {
        let config = DecoderConfig::default();
        let templates = Arc::new(TemplateStore::new(&config));
        let pending = Arc::new(PendingStore::in_memory(config.pending));
        let books = Arc::new(Books::default());
        books.restore_sequences(dir);
        if let Some(unsaved) = unsaved {
            books.take_up(unsaved);
        }
        let mut decoder = Decoder::new(&config, templates, pending, Arc::clone(&books));
        let mut batch = FlowBatch::new();
        for &number in numbers {
            decode(&mut decoder, number, &mut batch);
        }
        (decoder, books)
    }

    /// Message `number`, of two records, comes a millisecond after the one before.
    fn decode(decoder: &mut Decoder, number: u32, batch: &mut FlowBatch) {
        let octets = message(number, &[template(256, &[(8, 4)])], &[(256, &[1; 8])]);
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 2055)).into();
        let received = UnixMillis(RECEIVED.0 + i64::from(number));
        decoder.decode(&octets, peer, received, batch, &mut |_| panic!("there is room"));
    }

    fn sum(runs: &[Statistics]) -> Statistics {
        let mut sum = Statistics::default();
        runs.iter().for_each(|run| sum.add(run));
        sum
    }

    #[test]
    fn what_was_stored_before_a_kill_is_neither_lost_nor_uncounted() {
        let dir = tempfile::tempdir().unwrap();
        let mut batch = FlowBatch::new();
        let (mut decoder, books) = run(dir.path(), &[], None);
        for number in 0..50 {
            decode(&mut decoder, number, &mut batch);
        }
        decoder.idle(RECEIVED, &mut batch, &mut |_| panic!("there is room"));
        books.save_sequences(dir.path()).unwrap();
        // The counters are written a little later than the sequences were noted.
        for number in 50..60 {
            decode(&mut decoder, number, &mut batch);
        }
        let counted = books.statistics();
        let counted_until = UnixMillis(RECEIVED.0 + 59);
        // Six never come; then the collector is killed.
        for number in (60..90).chain(96..100) {
            decode(&mut decoder, number, &mut batch);
        }
        let mut unsaved = Unsaved::new(counted_until);
        unsaved.add(&batch, RECEIVED);
        // While nobody listens, 100 to 119 are lost.
        let later: Vec<u32> = (120..130).collect();
        let (_, books) = run(dir.path(), &later, Some(&unsaved));
        let sum = sum(&[counted, books.statistics()]);
        let exporter = &sum.exporters[0];
        assert_eq!((exporter.messages, exporter.messages_lost), (104, 26));
        assert_eq!((exporter.records, sum.records), (208, 208));
        assert_eq!((sum.datagrams, sum.datagrams_decoded), (104, 104));
        assert_eq!((exporter.restarts, exporter.messages_repeated), (0, 0));
    }

    #[test]
    fn of_two_ports_nobody_can_tell_whose_messages_are_stored() {
        let dir = tempfile::tempdir().unwrap();
        let mut batch = FlowBatch::new();
        let (mut decoder, books) = run(dir.path(), &[7], None);
        let octets = message(500, &[template(256, &[(8, 4)])], &[(256, &[1; 8])]);
        let other = std::net::SocketAddr::from(([192, 0, 2, 1], 2056)).into();
        decoder.decode(&octets, other, RECEIVED, &mut batch, &mut |_| panic!("there is room"));
        decoder.idle(RECEIVED, &mut batch, &mut |_| panic!("there is room"));
        books.save_sequences(dir.path()).unwrap();
        decode(&mut decoder, 8, &mut batch);
        let mut unsaved = Unsaved::new(RECEIVED);
        unsaved.add(&batch, RECEIVED);
        let (_, books) = run(dir.path(), &[9], Some(&unsaved));
        // Message 8 counts as received and as lost: said too large rather than too small.
        assert_eq!(books.statistics().exporters[0].messages_lost, 1);
    }
}
