//! What a collector knows of its exporters, and how the next one on the same store comes to know
//! it: templates, data sets that wait for theirs, and where the sequences stand.

use super::clock;
use super::elements::Keeper;
use crate::collect::{Books, DecoderConfig, PendingStore, TemplateStore};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an earlier collector of the store had left for this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Templates of its exporters.
    pub templates: usize,
    /// Data sets that wait for their template.
    pub sets: u64,
    /// Sessions whose sequences go on.
    pub sessions: usize,
}

/// What a collector knows of its exporters.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) store: PathBuf,
    pub(super) templates: Arc<TemplateStore>,
    pub(super) pending: Arc<PendingStore>,
    pub(super) books: Arc<Books>,
    elements: Keeper,
}

impl Memory {
    /// One that knows nothing yet. Nothing is read or written before [`Memory::restore`].
    pub(super) fn new(store: &Path, books: &Arc<Books>) -> Self {
        let config = DecoderConfig::default();
        Self {
            store: store.to_owned(),
            templates: Arc::new(TemplateStore::new(&config)),
            pending: Arc::new(PendingStore::in_memory(config.pending)),
            books: Arc::clone(books),
            elements: Keeper::default(),
        }
    }

    /// Takes over what the last collector knew, before the first message is decoded.
    pub(super) fn restore(&mut self) -> Result<Restored> {
        self.elements = Keeper::open(&self.store);
        let Self { store, templates, pending, books, elements: _ } = self;
        let templates = templates.restore(store);
        let sets = pending.keep_in(store).with_context(|| cannot_keep(store))?;
        books.restored_sets(sets);
        let sessions = books.restore_sequences(store);
        Ok(Restored { templates, sets, sessions })
    }

    /// Saves what has changed, as often as the counters are.
    pub(super) fn save(&mut self) -> Result<()> {
        self.elements.keep(&self.store)?;
        let Self { store, templates, pending, books, elements: _ } = self;
        pending
            .save()
            .and_then(|()| books.save_sequences(store))
            .and_then(|()| templates.save_if_due(store, clock::now()))
            .with_context(|| cannot_keep(store))
    }

    /// Saves all, at the end.
    pub(super) fn save_all(&mut self) -> Result<()> {
        self.elements.keep(&self.store)?;
        let Self { store, templates, pending, books, elements: _ } = self;
        pending
            .finish()
            .and_then(|()| books.save_sequences(store))
            .and_then(|()| templates.save(store, clock::now()))
            .with_context(|| cannot_keep(store))
    }
}

fn cannot_keep(store: &Path) -> String {
    format!("write what is known of the exporters to {}", store.display())
}
