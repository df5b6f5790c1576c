//! STORE/elements.json: the elements that exporters described (RFC 5610), so that what a store
//! holds of them has its names in every later process.

use crate::collect::replace_file;
use crate::model::ElementType;
use crate::model::ie_learned::{self, Description, Told};
use crate::model::{Semantics, Units};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use tracing::warn;

const FILE_NAME: &str = "elements.json";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Elements {
    elements: Vec<SavedElement>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedElement {
    enterprise: u32,
    id: u16,
    name: String,
    #[serde(rename = "type")]
    element_type: String,
    #[serde(default)]
    semantics: u8,
    #[serde(default)]
    units: u16,
    #[serde(default)]
    range: Option<(u64, u64)>,
    /// Who told of it, so that its share is known over a restart.
    #[serde(default)]
    exporter: Option<IpAddr>,
}

/// Learns the elements that a store has kept. Without the file they show their numbers: that is
/// said, and no reason to stop.
pub(super) fn load(store: &Path) {
    let path = store.join(FILE_NAME);
    let read = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str::<Elements>(&text).map_err(io::Error::from),
        // That there is no store is said by whoever opens it.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return;
        }
        Err(error) => Err(error),
    };
    match read {
        Ok(Elements { elements }) => elements.iter().for_each(SavedElement::learn),
        Err(error) => {
            warn!(%error, file = %path.display(), "the learned elements cannot be read");
        }
    }
}

impl SavedElement {
    fn learn(&self) {
        let Some(element_type) = ElementType::from_name(&self.element_type) else { return };
        // What is refused was learned otherwise in this process, or is in the table by now.
        ie_learned::learn(&Description {
            enterprise: self.enterprise,
            id: self.id,
            name: &self.name,
            element_type,
            semantics: Semantics::from_number(self.semantics),
            units: Units::from_number(self.units),
            range: self.range,
            exporter: self.exporter,
        });
    }
}

/// Writes what is learned to a store, as it grows.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// How many elements the file has.
    count: usize,
}

impl Keeper {
    /// Begins with what the store has kept.
    pub(super) fn open(store: &Path) -> Self {
        load(store);
        Self { count: ie_learned::count() }
    }

    /// Replaces the file if there is more to keep than it has.
    pub(super) fn keep(&mut self, store: &Path) -> Result<()> {
        let known = ie_learned::all_told();
        if known.len() == self.count {
            return Ok(());
        }
        let elements = known.iter().map(|Told { element, exporter }| SavedElement {
            enterprise: element.enterprise,
            id: element.id,
            name: element.name.to_owned(),
            element_type: element.element_type.name().to_owned(),
            semantics: element.semantics.number(),
            units: element.units.number(),
            range: element.range,
            exporter: *exporter,
        });
        let elements = Elements { elements: elements.collect() };
        let text = serde_json::to_string(&elements).context("elements as JSON")?;
        let path = store.join(FILE_NAME);
        replace_file(&path, |file| file.write_all(text.as_bytes()))
            .with_context(|| format!("write {}", path.display()))?;
        self.count = known.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ie;

    #[test]
    fn what_is_kept_is_known_again_and_damage_is_no_end() {
        let store = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::open(store.path());
        ie_learned::learn(&Description {
            enterprise: 500_010,
            id: 3,
            name: "keptCount",
            element_type: ElementType::Signed,
            semantics: Semantics::Quantity,
            units: Units::Frames,
            range: Some((1, 9)),
            exporter: Some([192, 0, 2, 1].into()),
        });
        keeper.keep(store.path()).unwrap();
        let path = store.path().join(FILE_NAME);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("keptCount") && text.contains("192.0.2.1"), "{text}");
        // In another process none of these would be known.
        let other = text.replace("keptCount", "keptElsewhere").replace("500010", "500011");
        fs::write(&path, other).unwrap();
        load(store.path());
        let element = ie::find(500_011, 3).unwrap();
        assert_eq!(element.name, "keptElsewhere");
        assert_eq!((element.semantics, element.units), (Semantics::Quantity, Units::Frames));
        assert_eq!((element.element_type, element.range), (ElementType::Signed, Some((1, 9))));
        for damage in ["{", r#"{"elements":[{"enterprise":500012,"id":1,"name":"x","type":"?"}]}"#]
        {
            fs::write(&path, damage).unwrap();
            load(store.path());
        }
        assert_eq!(ie::find(500_012, 1), None);
    }
}
