//! What all sessions of a worker share, and the data sets that wait for their template.

use super::books::{Books, CollectDrop};
use super::decode::DecoderConfig;
use super::exporters::ExporterBooks;
use super::learn::learn_elements;
use super::pending::{Held, Pending, PendingKey};
use super::plan::Plan;
use super::rows::{Output, RecordContext, decode_records};
use super::template_cache::{Announcement, TemplateStore};
use crate::model::time::UnixMillis;
use std::sync::Arc;

/// How often data that waits looks for templates that other workers learned.
const RETRY_INTERVAL_MILLIS: i64 = 1_000;

/// What is shared by all sessions of a decoder.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) store: Arc<TemplateStore>,
    pub(super) books: Arc<Books>,
    pub(super) pending: Pending,
    /// The store's epoch when data that waits last looked for its templates, and the time.
    retried: (u64, UnixMillis),
    pub(super) announcements: Vec<Announcement>,
    /// Memory of the measuring of records, used again.
    pub(super) offsets: Vec<usize>,
}

pub(super) fn drop_held(books: &Books, held: &Held, reason: CollectDrop) {
    books.set_drops.count(reason, 1);
    held.exporter.set_drops.count(reason, 1);
}

impl Core {
    pub(super) fn new(
        config: &DecoderConfig,
        store: Arc<TemplateStore>,
        books: Arc<Books>,
    ) -> Self {
        Self {
            store,
            books,
            pending: Pending::new(config.pending),
            retried: (0, UnixMillis::default()),
            announcements: Vec::new(),
            offsets: Vec::new(),
        }
    }

    /// Decodes what waited for a template that is here now.
    pub(super) fn resume(&mut self, key: &PendingKey, output: &mut Output<'_>) {
        let Some(domain) = self.store.domain(&key.origin) else {
            return;
        };
        let mut sets = self.pending.take(key).into_iter();
        for held in sets.by_ref() {
            let Some(template) = domain.find(held.port, key.template_id) else {
                // It was refused: all of these wait on.
                let Self { books, pending, .. } = self;
                for held in std::iter::once(held).chain(sets) {
                    pending.hold(key.clone(), held, &mut |held| {
                        drop_held(books, held, CollectDrop::OverLimit);
                    });
                }
                return;
            };
            let mut context = RecordContext {
                origin: &key.origin,
                clocks: held.clocks,
                sequence_number: held.sequence_number,
                received: held.received,
                record_index: held.record_index,
                sampling_interval: 0,
            };
            self.decode_set(&template.plan, &held.body, &mut context, &held.exporter, output);
        }
    }

    /// Looks whether another worker has learned a template that is waited for.
    pub(super) fn retry(&mut self, now: UnixMillis, output: &mut Output<'_>) {
        if self.pending.is_empty() {
            return;
        }
        let (epoch, (seen, at)) = (self.store.epoch(), self.retried);
        // A clock that was set back counts as due.
        let since = now.0.saturating_sub(at.0);
        if epoch == seen || (0..RETRY_INTERVAL_MILLIS).contains(&since) {
            return;
        }
        self.retried = (epoch, now);
        for key in self.pending.keys() {
            let domain = self.store.domain(&key.origin);
            // By any port: whether a set of this port is decodable, resume() sees.
            if domain.is_some_and(|domain| domain.find(0, key.template_id).is_some()) {
                self.resume(&key, output);
            }
        }
    }

    pub(super) fn expire(&mut self, now: UnixMillis) {
        let Self { books, pending, .. } = self;
        pending.expire(now, &mut |held| drop_held(books, held, CollectDrop::TemplateMissing));
    }

    /// Appends the records of a set.
    pub(super) fn decode_set(
        &mut self,
        plan: &Plan,
        body: &[u8],
        context: &mut RecordContext<'_>,
        exporter: &ExporterBooks,
        output: &mut Output<'_>,
    ) {
        let first_index = context.record_index;
        let outcome = decode_records(plan, body, &mut self.offsets, context, output);
        learn_elements(plan, body, &mut self.offsets, &self.books);
        let records = u64::from(context.record_index.saturating_sub(first_index));
        self.books.records.add(records);
        exporter.records.add(records);
        match outcome {
            Ok(()) => self.books.sets_decoded.add(1),
            Err(reason) => {
                self.books.set_drops.count(reason, 1);
                exporter.set_drops.count(reason, 1);
            }
        }
    }
}
