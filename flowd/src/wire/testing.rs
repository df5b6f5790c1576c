//! What the tests of each protocol read messages into.

use super::{DataSet, Dialect, Set, Sets, TemplateChange, TemplateId, WireError};

/// A record of any kind, owned, as the encoder takes it and the decoder gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    Change(TemplateChange),
    Data(TemplateId, Vec<u8>),
}

/// Everything in a message: its templates, its data (padding and all), its errors.
pub(super) fn read<D: Dialect>(sets: Sets<'_, D>) -> (Vec<Record>, Vec<WireError>) {
    let (mut records, mut errors) = (Vec::new(), Vec::new());
    for set in sets {
        match set {
            Ok(Set::Templates(templates)) => {
                for template in templates {
                    match template {
                        Ok(change) => records.push(Record::Change(change)),
                        Err(error) => errors.push(error),
                    }
                }
            }
            Ok(Set::Data(DataSet { template_id, body })) => {
                records.push(Record::Data(template_id, body.to_vec()));
            }
            Ok(Set::Unknown(_)) => {}
            Err(error) => errors.push(error),
        }
    }
    (records, errors)
}
