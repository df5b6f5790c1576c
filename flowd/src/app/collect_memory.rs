//! What a collector knows of its exporters, and how the next one on the same store comes to know
//! it: templates, data sets that wait for theirs, and where the sequences stand.

use super::clock;
use super::elements::Keeper;
use crate::collect::{Books, DecoderConfig, PendingStore, Sequences, TemplateStore};
use anyhow::{Context, Result};
use std::io;
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

    /// Takes over what the last collector knew at its save of this number, before the first
    /// message is decoded.
    pub(super) fn restore(&mut self, save: u64) -> Result<Restored> {
        self.elements = Keeper::open(&self.store);
        let Self { store, templates, pending, books, elements: _ } = self;
        let templates = templates.restore(store);
        let sets = pending.keep_in(store).with_context(|| cannot_keep(store))?;
        books.restored_sets(sets);
        let sessions = books.restore_sequences(store, save);
        Ok(Restored { templates, sets, sessions })
    }

    /// Saves what has changed but the sequences, as often as the counters are.
    pub(super) fn save(&mut self) -> Result<()> {
        let Self { store, templates, pending, elements, books: _ } = self;
        let kept = elements.keep(store);
        let saved = [pending.save(), templates.save_if_due(store, clock::now())];
        outcome(store, kept, saved)
    }

    /// Saves all but the sequences, at the end.
    pub(super) fn save_all(&mut self) -> Result<()> {
        let Self { store, templates, pending, elements, books: _ } = self;
        let kept = elements.keep(store);
        let saved = [pending.finish(), templates.save(store, clock::now())];
        outcome(store, kept, saved)
    }

    /// Saves where the sequences stood, just before the counters of that moment.
    pub(super) fn save_sequences(&self, sequences: Option<Sequences>) -> Result<()> {
        let saved = self.books.save_sequences(&self.store, sequences);
        saved.with_context(|| cannot_keep(&self.store))
    }
}

/// The first error. Each file was tried by then: one that cannot be written is no reason to
/// lose what the others would have kept.
fn outcome<const N: usize>(
    store: &Path,
    kept: Result<()>,
    saved: [io::Result<()>; N],
) -> Result<()> {
    kept?;
    saved.into_iter().collect::<io::Result<()>>().with_context(|| cannot_keep(store))
}

fn cannot_keep(store: &Path) -> String {
    format!("write what is known of the exporters to {}", store.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ie_learned::{self, Description};
    use crate::model::{ElementType, Semantics, Units};
    use std::fs;

    #[test]
    fn a_file_that_cannot_be_written_keeps_no_other_from_being_saved() {
        let store = tempfile::tempdir().unwrap();
        let mut memory = Memory::new(store.path(), &Arc::new(Books::default()));
        memory.restore(0).unwrap();
        ie_learned::learn(&Description {
            exporter: None,
            enterprise: 500_067,
            id: 1,
            name: "savedLast",
            element_type: ElementType::Unsigned,
            semantics: Semantics::Default,
            units: Units::None,
            range: None,
        });
        // What stands in the way of one file.
        fs::create_dir(store.path().join("elements.json.new")).unwrap();
        let error = memory.save_all().unwrap_err();
        assert!(error.to_string().contains("elements.json"), "{error:#}");
        assert!(store.path().join("templates.bin").exists());
        fs::remove_dir(store.path().join("elements.json.new")).unwrap();
        memory.save_all().unwrap();
        assert!(store.path().join("elements.json").exists());
    }
}
