//! What all sessions of a worker share, and the data sets that wait for their template.

use super::books::{Books, CollectDrop};
use super::exporters::ExporterBooks;
use super::learn::learn_elements;
use super::lists::{ListMemory, ListReader, ListTemplates};
use super::peer::{Peer, Transport};
use super::pending::{Held, PendingKey, PendingStore};
use super::plan::Plan;
use super::rows::{Output, RecordContext, decode_records};
use super::template_cache::{Announcement, TemplateStore};
use crate::model::time::UnixMillis;
use std::sync::Arc;

/// What is shared by all sessions of a decoder.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) store: Arc<TemplateStore>,
    pub(super) books: Arc<Books>,
    pub(super) pending: Arc<PendingStore>,
    pub(super) announcements: Vec<Announcement>,
    /// Memory of the measuring of records, used again.
    pub(super) offsets: Vec<usize>,
    pub(super) lists: ListMemory,
}

pub(super) fn drop_held(books: &Books, key: &PendingKey, held: &Held, reason: CollectDrop) {
    books.set_drops.count(reason, 1);
    let looked_up;
    let exporter = match &held.exporter {
        Some(exporter) => exporter,
        None => {
            looked_up = books.exporter(&key.origin);
            &looked_up
        }
    };
    exporter.set_drops.count(reason, 1);
}

impl Core {
    pub(super) fn new(
        store: Arc<TemplateStore>,
        pending: Arc<PendingStore>,
        books: Arc<Books>,
    ) -> Self {
        Self {
            store,
            books,
            pending,
            announcements: Vec::new(),
            offsets: Vec::new(),
            lists: ListMemory::default(),
        }
    }

    /// Decodes what waited for a template that is here now.
    pub(super) fn resume(&mut self, key: &PendingKey, output: &mut Output<'_>) {
        let Some(domain) = self.store.domain(&key.origin) else {
            return;
        };
        let mut find = |held: &Held| domain.find(held.source, key.template_id, held.received);
        for (held, template) in self.pending.take(key, &mut find) {
            let exporter = held.exporter.unwrap_or_else(|| self.books.exporter(&key.origin));
            let number = held.sequence_number;
            let mut context = RecordContext {
                record_index: held.record_index,
                templates: Some(ListTemplates { domain: &domain, source: held.source }),
                ..RecordContext::new(&key.origin, held.clocks, number, held.received)
            };
            self.books.sets_late.add(1);
            exporter.sets_late.add(1);
            self.lists.add(held.body.len());
            self.decode_set(&template.plan, &held.body, &mut context, &exporter, output);
            template.plan.facts(&held.body, &mut self.offsets, |facts| {
                exporter.take_late(facts, held.received);
            });
        }
    }

    /// Looks whether another worker has learned a template that is waited for.
    pub(super) fn retry(&mut self, now: UnixMillis, output: &mut Output<'_>) {
        if self.pending.is_empty() {
            return;
        }
        for key in self.pending.due(self.store.epoch(), now) {
            self.resume(&key, output);
        }
    }

    /// Forgets the templates of a connection that has ended, and gives up what waits for some.
    pub(super) fn disconnect(&self, peer: Peer) {
        let Self { store, books, pending, .. } = self;
        store.disconnect(peer);
        if peer.transport == Transport::Tcp {
            pending.disconnect(peer, &mut |key, held| {
                drop_held(books, key, held, CollectDrop::TemplateMissing);
            });
        }
    }

    pub(super) fn expire(&self, now: UnixMillis) {
        let Self { books, pending, .. } = self;
        pending.expire(now, &mut |key, held| {
            drop_held(books, key, held, CollectDrop::TemplateMissing);
        });
    }

    /// Appends the records of a set; false if damage ended it before its last one.
    pub(super) fn decode_set(
        &mut self,
        plan: &Plan,
        body: &[u8],
        context: &mut RecordContext<'_>,
        exporter: &ExporterBooks,
        output: &mut Output<'_>,
    ) -> bool {
        let first_index = context.record_index;
        let Self { offsets, lists, .. } = self;
        let outcome = match context.templates.filter(|_| !plan.lists().is_empty()) {
            Some(ListTemplates { domain, source }) => domain.with_fields(source, |lookup| {
                let mut lists = ListReader::new(lists, lookup);
                decode_records(plan, body, offsets, &mut lists, context, output)
            }),
            None => {
                let mut lists = ListReader::new(lists, &|_| None);
                decode_records(plan, body, offsets, &mut lists, context, output)
            }
        };
        learn_elements(plan, body, context.origin.address, &mut self.offsets, &self.books);
        let records = u64::from(context.record_index.saturating_sub(first_index));
        self.books.records.add(records);
        self.books.lists_over_limit.add(context.lists_over_limit);
        exporter.records.add(records);
        match outcome {
            Ok(()) => self.books.sets_decoded.add(1),
            Err(reason) => {
                self.books.set_drops.count(reason, 1);
                exporter.set_drops.count(reason, 1);
            }
        }
        outcome.is_ok()
    }
}
