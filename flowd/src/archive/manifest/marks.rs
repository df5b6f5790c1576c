//! Marks: a bit a line, written as hexadecimal.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Which of some lines are marked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(Vec<u8>);

impl Marks {
    pub(super) fn set(&mut self, index: usize) {
        if self.0.len() <= index / 8 {
            self.0.resize(index / 8 + 1, 0);
        }
        if let Some(octet) = self.0.get_mut(index / 8) {
            *octet |= 1 << (index % 8);
        }
    }

    pub(super) fn is_set(&self, index: usize) -> bool {
        self.0.get(index / 8).is_some_and(|octet| octet & (1 << (index % 8)) != 0)
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|&octet| octet == 0)
    }
}

impl Serialize for Marks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::chain::hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Marks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2);
            pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
        });
        let octets: Option<Vec<u8>> = digits.collect();
        octets.map(Self).ok_or_else(|| de::Error::custom("marks are not hexadecimal"))
    }
}
