//! A message of sets: templates are learned, data sets decoded by them or held.

use super::books::CollectDrop;
use super::copy::Clocks;
use super::core::{Core, drop_held};
use super::decode::{MessageContext, drop_reason};
use super::lists::ListTemplates;
use super::peer::Transport;
use super::pending::{Held, PendingKey};
use super::rows::{Output, RecordContext};
use super::session::Session;
use super::template_cache::{Announcement, Learned, Source, Template};
use crate::model::RecordType;
use crate::wire::{DataSet, Dialect, Set, Sets, TemplateChange, TemplateId, WireError, Withdrawal};
use std::collections::HashSet;
use std::sync::Arc;

/// Times that one message may make the shared templates change: what alternates templates and
/// data more often than that is no exporter.
const LEARN_COUNT_MAX: usize = 16;
/// Withdrawals in one message: as many as an exporter and domain may have templates by default.
const WITHDRAWAL_COUNT_MAX: usize = 1_024;

/// Decodes the sets of a message. How many Data Records it had is known if all their templates
/// are.
pub(super) fn decode_sets<D: Dialect>(
    core: &mut Core,
    session: &mut Session,
    message: MessageContext,
    sets: Sets<'_, D>,
    output: &mut Output<'_>,
) -> (Option<u32>, Result<(), CollectDrop>) {
    let mut work = MessageWork {
        core,
        session,
        message,
        record_index: 0,
        records: Some(0),
        learn_count: 0,
        withdrawals: Vec::new(),
        withdrawal_count: 0,
        announced: HashSet::new(),
    };
    let mut outcome = Ok(());
    for set in sets {
        match set {
            Ok(Set::Templates(templates)) => {
                for change in templates {
                    work.take_change(change, output);
                }
            }
            Ok(Set::Data(set)) => {
                work.learn(output);
                work.data(set, output);
            }
            Ok(Set::Unknown(_)) => work.drop_unknown(),
            Err(error) => {
                // What is cut off may have had records too.
                work.records = None;
                outcome = Err(drop_reason(error));
            }
        }
    }
    work.learn(output);
    (work.records, outcome)
}

/// One message on its way through its sets.
struct MessageWork<'a> {
    core: &'a mut Core,
    session: &'a mut Session,
    message: MessageContext,
    /// Place of the next record. Records decoded so far, and for each set that waits as many as
    /// it has octets, which is the most that it can hold: no two records of a message share a
    /// place, whenever they are decoded. A message has fewer octets than there are places.
    record_index: u32,
    /// Data Records so far, while that is known.
    records: Option<u32>,
    learn_count: usize,
    /// What the message has withdrawn since the templates changed last: it is forgotten before
    /// the templates noted since are learned.
    withdrawals: Vec<Withdrawal>,
    withdrawal_count: usize,
    /// The templates noted since, of a connection.
    announced: HashSet<TemplateId>,
}

impl MessageWork<'_> {
    /// Takes note of a template, or of one that is withdrawn.
    fn take_change(&mut self, change: Result<TemplateChange, WireError>, output: &mut Output<'_>) {
        let announcement = match change {
            Ok(TemplateChange::Data(template)) => Announcement {
                id: template.id,
                record_type: RecordType::Flow,
                fields: template.fields,
            },
            Ok(TemplateChange::Options(template)) => Announcement {
                id: template.id,
                record_type: RecordType::Options,
                fields: template.fields().collect(),
            },
            Ok(TemplateChange::Withdrawal(withdrawal)) => {
                self.withdraw(withdrawal, output);
                return;
            }
            Err(error) => {
                let drops = &self.core.books.template_drops;
                drops.count(drop_reason(error), 1);
                return;
            }
        };
        self.core.books.templates.add(1);
        self.session.books.templates.add(1);
        if self.message.transport == Transport::Tcp {
            self.announced.insert(announcement.id);
        }
        self.core.announcements.push(announcement);
    }

    /// Over a datagram a withdrawal means nothing: it may come late, and name a template that has
    /// been announced anew since (RFC 7011 section 8.4).
    fn withdraw(&mut self, withdrawal: Withdrawal, output: &mut Output<'_>) {
        if self.message.transport == Transport::Udp {
            self.core.books.withdrawals_ignored.add(1);
            return;
        }
        if self.withdrawal_count >= WITHDRAWAL_COUNT_MAX {
            self.count(Learned { over_limit: 1, ..Learned::default() });
            return;
        }
        let is_announced = match withdrawal {
            Withdrawal::One(id) => self.announced.contains(&id),
            Withdrawal::AllData | Withdrawal::AllOptions => !self.announced.is_empty(),
        };
        if is_announced {
            // The templates noted came first.
            self.learn(output);
        }
        self.withdrawal_count = self.withdrawal_count.saturating_add(1);
        self.withdrawals.push(withdrawal);
    }

    /// Forgets what was withdrawn so far, shares the templates noted so far, and decodes what
    /// waited for them.
    fn learn(&mut self, output: &mut Output<'_>) {
        if self.core.announcements.is_empty() && self.withdrawals.is_empty() {
            return;
        }
        self.announced.clear();
        self.learn_count = self.learn_count.saturating_add(1);
        if self.learn_count > LEARN_COUNT_MAX {
            let announced = self.core.announcements.drain(..).count();
            let over_limit = announced.saturating_add(self.withdrawals.drain(..).count());
            self.count(Learned { over_limit, ..Learned::default() });
            return;
        }
        if !self.withdrawals.is_empty() {
            let source = self.source();
            self.core.books.withdrawals.add(as_u64(self.withdrawals.len()));
            self.core.store.withdraw(&self.session.origin, source, &self.withdrawals);
            self.withdrawals.clear();
        }
        if self.core.announcements.is_empty() {
            return;
        }
        let waited_for: Vec<TemplateId> = if self.core.pending.is_empty() {
            Vec::new()
        } else {
            self.core.announcements.iter().map(|a| a.id).collect()
        };
        let learned = self.core.store.learn(
            &self.session.origin,
            self.source(),
            &mut self.core.announcements,
            self.message.received,
        );
        self.count(learned);
        for template_id in waited_for {
            let key = PendingKey { origin: Arc::clone(&self.session.origin), template_id };
            self.core.resume(&key, output);
        }
    }

    fn count(&self, learned: Learned) {
        let Learned { changed: _, redefined, over_limit, over_share, too_often } = learned;
        let books = &self.core.books;
        books.template_drops.count(CollectDrop::OverLimit, as_u64(over_limit));
        books.template_drops.count(CollectDrop::OverShare, as_u64(over_share));
        books.template_drops.count(CollectDrop::ChangedTooOften, as_u64(too_often));
        books.redefinitions.add(as_u64(redefined));
        if self.message.transport == Transport::Tcp {
            // RFC 7011 section 8.1 asks for a withdrawal first.
            books.redefinitions_not_withdrawn.add(as_u64(redefined));
        }
    }

    fn source(&self) -> Source {
        Source { port: self.session.port, transport: self.message.transport }
    }

    /// Decodes a data set, or holds it until its template comes.
    fn data(&mut self, set: DataSet<'_>, output: &mut Output<'_>) {
        self.core.books.sets.add(1);
        let DataSet { template_id, body } = set;
        let Some(template) = self.template(template_id) else {
            self.hold(template_id, body, output);
            return;
        };
        let MessageContext { sequence_number, received, .. } = self.message;
        let (clocks, source) = (self.clocks(), self.source());
        let mut context = RecordContext {
            record_index: self.record_index,
            templates: (self.session.templates.as_deref())
                .map(|domain| ListTemplates { domain, source }),
            ..RecordContext::new(&self.session.origin, clocks, sequence_number, received)
        };
        let is_whole =
            self.core.decode_set(&template.plan, body, &mut context, &self.session.books, output);
        let after = context.record_index;
        template.plan.facts(body, &mut self.core.offsets, |facts| {
            self.session.take(facts, self.message.received);
        });
        let count = after.saturating_sub(self.record_index);
        self.records =
            self.records.filter(|_| is_whole).map(|records| records.saturating_add(count));
        self.record_index = after;
    }

    /// No RFC gives the ids below 256 that are no templates a meaning.
    fn drop_unknown(&mut self) {
        self.core.books.sets.add(1);
        self.core.books.set_drops.count(CollectDrop::UnknownSet, 1);
        self.session.books.set_drops.count(CollectDrop::UnknownSet, 1);
    }

    fn clocks(&self) -> Clocks {
        match self.message.sys_uptime {
            None => Clocks::since_boot(self.message.export_time, self.session.books.booted()),
            sys_uptime => Clocks { export_time: self.message.export_time, sys_uptime },
        }
    }

    fn template(&mut self, id: TemplateId) -> Option<Arc<Template>> {
        let source = self.source();
        let session = &mut *self.session;
        if session.templates.as_ref().is_none_or(|templates| templates.is_forgotten()) {
            session.templates = self.core.store.domain(&session.origin);
        }
        session.templates.as_ref()?.find(source, id, self.message.received)
    }

    fn hold(&mut self, template_id: TemplateId, body: &[u8], output: &mut Output<'_>) {
        self.records = None;
        let key = PendingKey { origin: Arc::clone(&self.session.origin), template_id };
        let held = Held {
            source: self.source(),
            clocks: self.clocks(),
            sequence_number: self.message.sequence_number,
            received: self.message.received,
            record_index: self.record_index,
            exporter: Some(Arc::clone(&self.session.books)),
            body: body.into(),
        };
        let places = u32::try_from(body.len()).unwrap_or(u32::MAX);
        self.record_index = self.record_index.saturating_add(places);
        let Core { books, pending, .. } = &mut *self.core;
        books.sets_waited.add(1);
        pending.hold(key.clone(), held, &mut |key, held| {
            drop_held(books, key, held, CollectDrop::OverLimit);
        });
        // Another worker may have learned the template just before.
        if self.template(template_id).is_some() {
            self.core.resume(&key, output);
        }
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
