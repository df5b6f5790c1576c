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

/// Messages of which records are stored that no counter tells of.
#[derive(Debug)]
pub struct Unsaved {
    counted_at: UnixMillis,
    /// By who sent them, and by their sequence number and the time of their receipt.
    messages: HashMap<Arc<Origin>, BTreeMap<(u32, i64), StoredMessage>>,
    count: usize,
}

/// What is stored of a message.
#[derive(Clone, Copy, Debug, Default)]
struct StoredMessage {
    records: u64,
    /// Places in the message, up to its last record that is stored.
    places: u32,
}

/// What was counted that an earlier collector had stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenUp {
    /// Messages.
    pub messages: u64,
    /// Records of them, and of messages that had been counted without these.
    pub records: u64,
}

impl Unsaved {
    /// Nothing yet. The counters were read at `counted_at`.
    #[must_use]
    pub fn new(counted_at: UnixMillis) -> Self {
        Self { counted_at, messages: HashMap::new(), count: 0 }
    }

    /// Takes note of stored records that are in no counter. Those that do not tell their message
    /// are passed over.
    pub fn add(&mut self, batch: &FlowBatch) {
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
                let key = (number, time);
                if self.count >= MESSAGE_COUNT_MAX && !messages.contains_key(&key) {
                    continue;
                }
                let message = messages.entry(key).or_insert_with(|| {
                    self.count = self.count.saturating_add(1);
                    StoredMessage::default()
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
    /// the sequences go on behind it. To be called after the sequences were restored, before the
    /// first message is decoded.
    pub fn take_up(&self, unsaved: &Unsaved) -> TakenUp {
        let mut taken = TakenUp::default();
        for (origin, messages) in &unsaved.messages {
            let exporter = self.exporter(origin);
            let next = self.standings.next_of(origin);
            for (&(number, received), message) in messages {
                self.records.add(message.records);
                exporter.records.add(message.records);
                taken.records = taken.records.saturating_add(message.records);
                // One that came before the counters were read is in them: a set of it waited for
                // its template. A clock that was set back tells nothing, but the number may.
                let is_ahead =
                    next.is_some_and(|next| (0..=GAP_MAX).contains(&ahead(number, next)));
                if received < unsaved.counted_at.0 && !is_ahead {
                    continue;
                }
                // How long it was, nobody knows any more.
                self.received(0);
                self.datagrams_decoded.add(1);
                exporter.messages.add(1);
                taken.messages = taken.messages.saturating_add(1);
            }
            self.standings.advance(origin, |standing| {
                advance(standing, origin, messages, &mut |arrival| exporter.count(arrival))
            });
        }
        taken
    }
}

/// How far a number lies behind the one that comes next.
const fn ahead(number: u32, next: u32) -> i32 {
    number.wrapping_sub(next).cast_signed()
}

/// Where a sequence stands after the messages that lie ahead of it.
fn advance(
    standing: &Standing,
    origin: &Origin,
    messages: &BTreeMap<(u32, i64), StoredMessage>,
    count: &mut dyn FnMut(Arrival),
) -> Standing {
    let mut coming: Vec<_> = messages
        .iter()
        .map(|(&(number, received), message)| {
            (ahead(number, standing.next), received, number, message.places)
        })
        .filter(|(ahead, ..)| (0..=GAP_MAX).contains(ahead))
        .collect();
    coming.sort_unstable();
    let mut sequence = Sequence::resume(standing, 0);
    let mut heard = standing.heard;
    for (_, received, number, places) in coming {
        let units = match origin.protocol {
            Protocol::Ipfix | Protocol::NetflowV5 | Protocol::NetflowV7 => places,
            _ => 1,
        };
        // The uptime that each told is not stored; that of the standing is near enough.
        count(sequence.observe(number, Some(units), standing.sys_uptime));
        heard = heard.max(UnixMillis(received));
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
        books.restore_sequences(dir, 1);
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

    fn save(books: &Books, dir: &Path) {
        books.save_sequences(dir, books.sequences(1)).unwrap();
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
        decoder.note_standings();
        save(&books, dir.path());
        let counted = books.statistics();
        batch.clear();
        // Six never come; then the collector is killed.
        for number in (50..90).chain(96..100) {
            decode(&mut decoder, number, &mut batch);
        }
        let mut unsaved = Unsaved::new(UnixMillis(RECEIVED.0 + 50));
        unsaved.add(&batch);
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
        decoder.note_standings();
        save(&books, dir.path());
        batch.clear();
        decode(&mut decoder, 8, &mut batch);
        let mut unsaved = Unsaved::new(UnixMillis(RECEIVED.0 + 8));
        unsaved.add(&batch);
        let (_, books) = run(dir.path(), &[9], Some(&unsaved));
        // Message 8 counts as received and as lost: said too large rather than too small.
        assert_eq!(books.statistics().exporters[0].messages_lost, 1);
    }

    /// What is counted of message 8 if its records are stored after the counters were read.
    fn taken_up_of_a_message_at(number: u32, counted_at: UnixMillis) -> TakenUp {
        let dir = tempfile::tempdir().unwrap();
        let mut batch = FlowBatch::new();
        let (mut decoder, books) = run(dir.path(), &[6, 7], None);
        decoder.note_standings();
        save(&books, dir.path());
        decode(&mut decoder, number, &mut batch);
        let mut unsaved = Unsaved::new(counted_at);
        unsaved.add(&batch);
        let books = Books::default();
        books.restore_sequences(dir.path(), 1);
        books.take_up(&unsaved)
    }

    #[test]
    fn a_set_that_waited_is_no_message_of_its_own_whatever_the_clock_does() {
        let taken = taken_up_of_a_message_at;
        let before = UnixMillis(RECEIVED.0 + 100);
        assert_eq!(taken(7, before), TakenUp { messages: 0, records: 2 }, "it waited");
        assert_eq!(taken(8, before), TakenUp { messages: 1, records: 2 }, "the clock was set back");
        assert_eq!(taken(8, RECEIVED), TakenUp { messages: 1, records: 2 });
    }
}
