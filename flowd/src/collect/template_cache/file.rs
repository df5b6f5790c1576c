//! The store's templates on disk: `STORE/templates.bin`, so that a collector that starts knows
//! what the last one knew.
//!
//! Templates of connections are not kept, for their connections are gone. Those of datagrams keep
//! the time when they were announced last: their lifetime goes on over a restart.

use super::domain::Snapshot;
use super::{Announcement, Change, Source, Template, TemplateStore};
use crate::collect::peer::Transport;
use crate::collect::saved::{self, Mark, read_origin, write_origin};
use crate::model::time::UnixMillis;
use crate::model::{Origin, RecordType};
use crate::wire::{FieldSpecifier, Reader, TemplateId, Writer};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

const FILE_NAME: &str = "templates.bin";
const MARK: Mark = *b"flowdTP1";
/// Changes reach the disk no more often than this.
const CHANGED_MILLIS: i64 = 2_000;
/// And mere repeats, of which only the time is new, no more often than this: a small part of any
/// lifetime.
const REPEATED_MILLIS: i64 = 60_000;

/// What was saved last.
#[derive(Debug, Default)]
pub(super) struct Saved {
    epoch: u64,
    announcements: u64,
    at: UnixMillis,
}

impl TemplateStore {
    /// Takes in what an earlier collector saved in a store's directory: how many templates. A
    /// file that cannot be used is put aside with a warning.
    pub fn restore(&self, dir: &Path) -> usize {
        let path = path(dir);
        let Some(body) = saved::read(&path, MARK) else {
            return 0;
        };
        let mut reader = Reader::new(&body);
        let mut count = 0_usize;
        while !reader.is_empty() {
            let Some((origin, templates)) = read_domain(&mut reader) else {
                saved::put_aside(&path, "it breaks its own format");
                break;
            };
            count = count.saturating_add(self.restore_domain(&origin, templates));
        }
        count
    }

    fn restore_domain(&self, origin: &Origin, templates: Vec<SavedTemplate>) -> usize {
        let heard_at = templates.iter().map(|template| template.announced).max();
        let mut room = self.room();
        let heard_at = heard_at.unwrap_or_default();
        let Ok((domain, _)) = self.domain_for_writing(origin, heard_at, &mut room) else {
            return 0;
        };
        // It was heard in an earlier life, and is no newcomer.
        domain.heard.add(1);
        let mut change = Change::begin(self, &mut room, origin, domain);
        let mut count = 0_usize;
        for saved in templates {
            let SavedTemplate { announcement, announced, is_newest, ports } = saved;
            let compiled = self.compile(origin, Transport::Udp, &announcement, announced);
            let Ok(template) = compiled else { continue };
            if change.admit(Snapshot::footprint_of(&template), announced).is_err() {
                continue;
            }
            for port in ports {
                let source = Source { port, transport: Transport::Udp };
                change.edit().insert_own(source, &template);
            }
            if is_newest {
                change.edit().insert_newest(&template);
            }
            count = count.saturating_add(1);
        }
        change.end();
        count
    }

    /// Saves the templates if they have changed and it is time to.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_if_due(&self, dir: &Path, now: UnixMillis) -> io::Result<()> {
        let interval = {
            let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
            // A clock that was set back counts as due.
            let since = now.0.saturating_sub(saved.at.0);
            let is_past = |interval: i64| !(0..interval).contains(&since);
            let has_changed = saved.epoch != self.epoch() && is_past(CHANGED_MILLIS);
            let is_repeated = saved.announcements != self.announcements.value();
            has_changed || is_repeated && is_past(REPEATED_MILLIS)
        };
        if interval { self.save(dir, now) } else { Ok(()) }
    }

    /// Saves the templates.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, dir: &Path, now: UnixMillis) -> io::Result<()> {
        // Before the templates are looked at: what changes meanwhile is saved the next time.
        let noted =
            Saved { epoch: self.epoch(), announcements: self.announcements.value(), at: now };
        let mut writer = Writer::default();
        for (origin, domain) in self.domains() {
            write_domain(&mut writer, &origin, &domain.snapshot.load());
        }
        let outcome = saved::replace(&path(dir), MARK, writer.as_bytes());
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => *saved = noted,
            Err(_) => saved.at = now,
        }
        outcome
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

/// A template as it stands in the file.
#[derive(Debug)]
struct SavedTemplate {
    announcement: Announcement,
    announced: UnixMillis,
    is_newest: bool,
    ports: Vec<u16>,
}

fn write_domain(writer: &mut Writer, origin: &Origin, snapshot: &Snapshot) {
    let (own, newest) = snapshot.iter();
    let mut templates: Vec<(Arc<Template>, bool, Vec<u16>)> = Vec::new();
    let mut by_address = std::collections::HashMap::new();
    let mut note = |template: &Arc<Template>, port: Option<u16>| {
        if template.transport == Transport::Tcp {
            return;
        }
        let place = *by_address.entry(Arc::as_ptr(template)).or_insert_with(|| {
            templates.push((Arc::clone(template), false, Vec::new()));
            templates.len().saturating_sub(1)
        });
        if let Some((_, is_newest, ports)) = templates.get_mut(place) {
            ports.extend(port);
            *is_newest |= port.is_none();
        }
    };
    own.for_each(|(source, template)| note(template, Some(source.port)));
    newest.for_each(|template| note(template, None));
    if templates.is_empty() {
        return;
    }
    write_origin(writer, origin);
    writer.u32(u32::try_from(templates.len()).unwrap_or(u32::MAX));
    for (template, is_newest, ports) in &templates {
        let Announcement { id, record_type, fields } = &template.announcement;
        writer.u16(id.get());
        writer.u8(u8::from(*record_type == RecordType::Options));
        writer.u64(template.announced().0.cast_unsigned());
        writer.u8(u8::from(*is_newest));
        writer.u16(u16::try_from(ports.len()).unwrap_or(u16::MAX));
        ports.iter().for_each(|&port| writer.u16(port));
        writer.u16(u16::try_from(fields.len()).unwrap_or(u16::MAX));
        for &FieldSpecifier { enterprise, id, length } in fields {
            writer.u32(enterprise);
            writer.u16(id);
            writer.u16(length);
        }
    }
}

fn read_domain(reader: &mut Reader<'_>) -> Option<(Origin, Vec<SavedTemplate>)> {
    let origin = read_origin(reader)?;
    let count = reader.u32().ok()?;
    let templates = (0..count).map(|_| read_template(reader)).collect::<Option<Vec<_>>>()?;
    Some((origin, templates))
}

fn read_template(reader: &mut Reader<'_>) -> Option<SavedTemplate> {
    let id = TemplateId::new(reader.u16().ok()?)?;
    let record_type = match reader.u8().ok()? {
        0 => RecordType::Flow,
        1 => RecordType::Options,
        _ => return None,
    };
    let announced = UnixMillis(reader.u64().ok()?.cast_signed());
    let is_newest = reader.u8().ok()? != 0;
    let port_count = reader.u16().ok()?;
    let ports = (0..port_count).map(|_| reader.u16().ok()).collect::<Option<_>>()?;
    let field_count = reader.u16().ok()?;
    let fields = (0..field_count).map(|_| read_field(reader)).collect::<Option<_>>()?;
    let announcement = Announcement { id, record_type, fields };
    Some(SavedTemplate { announcement, announced, is_newest, ports })
}

fn read_field(reader: &mut Reader<'_>) -> Option<FieldSpecifier> {
    Some(FieldSpecifier {
        enterprise: reader.u32().ok()?,
        id: reader.u16().ok()?,
        length: reader.u16().ok()?,
    })
}
