//! The dictionary of a block: shapes and origins, stored once when first used. A row names them
//! by number, in the order in which they were stored.
//!
//! An entry is its size, its kind, the XXH3 of its content, and the content, padded to 8 octets.
//! The checksum's seed is the block's identity, so that no entry that another block left holds.
//! Integers are in native byte order, as in the rest of the block.

use crate::model::{
    Column, ColumnSet, ExtraSpec, ObservationDomainId, Origin, Protocol, RecordType, Shape,
};
use hashbrown::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const ENTRY_HEAD_SIZE: usize = 16;
const KIND_SHAPE: u32 = 1;
const KIND_ORIGIN: u32 = 2;
const SHAPE_HEAD_SIZE: usize = 16;
const EXTRA_SPEC_SIZE: usize = 8;
const ORIGIN_SIZE: usize = 24;

/// How many shapes, and how many origins, a block can name.
const ID_COUNT_MAX: usize = 1 << 16;

/// After how many pointers an interner forgets them: a decoder that makes a new `Arc` each time
/// must not make it grow.
const POINTERS_MAX: usize = 4_096;

/// Entries that the block has stored, for finding their numbers again.
#[derive(Debug)]
pub(super) struct Interner<T> {
    by_value: HashMap<Arc<T>, u16>,
    /// The same, by address. Holds the `Arc`, so that no other can have its address.
    by_pointer: HashMap<usize, (Arc<T>, u16)>,
}

impl<T: Eq + Hash> Interner<T> {
    pub(super) fn new() -> Self {
        Self { by_value: HashMap::new(), by_pointer: HashMap::new() }
    }

    /// The number of an entry, if it was stored.
    pub(super) fn find(&mut self, entry: &Arc<T>) -> Option<u16> {
        let pointer = Arc::as_ptr(entry).addr();
        if let Some((_, id)) = self.by_pointer.get(&pointer) {
            return Some(*id);
        }
        let id = *self.by_value.get(entry)?;
        self.remember(pointer, entry, id);
        Some(id)
    }

    /// May one more entry be stored?
    pub(super) fn has_room(&self) -> bool {
        self.by_value.len() < ID_COUNT_MAX
    }

    /// The number of an entry that was just stored.
    pub(super) fn insert(&mut self, entry: &Arc<T>) -> u16 {
        let id = u16::try_from(self.by_value.len()).expect("the caller asks has_room first");
        self.by_value.insert(Arc::clone(entry), id);
        self.remember(Arc::as_ptr(entry).addr(), entry, id);
        id
    }

    fn remember(&mut self, pointer: usize, entry: &Arc<T>, id: u16) {
        if self.by_pointer.len() >= POINTERS_MAX {
            self.by_pointer.clear();
        }
        self.by_pointer.insert(pointer, (Arc::clone(entry), id));
    }
}

/// Something that the dictionary stores.
pub(super) trait Entry: Sized {
    /// The entry as it is stored.
    fn encode(&self, identity: u64) -> Vec<u8>;
}

impl Entry for Shape {
    fn encode(&self, identity: u64) -> Vec<u8> {
        let Self { record_type, columns, extras } = self;
        let mut content = Vec::with_capacity(SHAPE_HEAD_SIZE + EXTRA_SPEC_SIZE * extras.len());
        content.extend_from_slice(&columns.to_bits().to_ne_bytes());
        content.extend_from_slice(&u64::from(*record_type as u8).to_ne_bytes());
        for ExtraSpec { enterprise, id, length } in extras {
            content.extend_from_slice(&enterprise.to_ne_bytes());
            content.extend_from_slice(&id.to_ne_bytes());
            content.extend_from_slice(&length.to_ne_bytes());
        }
        encode_entry(KIND_SHAPE, &content, identity)
    }
}

impl Entry for Origin {
    fn encode(&self, identity: u64) -> Vec<u8> {
        let Self { address, domain, protocol } = self;
        let mut content = [0; ORIGIN_SIZE];
        match address {
            IpAddr::V4(address) => content[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => content[..16].copy_from_slice(&address.octets()),
        }
        content[16..20].copy_from_slice(&domain.0.to_ne_bytes());
        content[20] = u8::from(address.is_ipv6());
        content[21] = *protocol as u8;
        encode_entry(KIND_ORIGIN, &content, identity)
    }
}

fn encode_entry(kind: u32, content: &[u8], identity: u64) -> Vec<u8> {
    let size = u32::try_from(content.len()).expect("a shape has at most 65,535 fields");
    let mut entry = Vec::with_capacity(ENTRY_HEAD_SIZE + content.len().next_multiple_of(8));
    entry.extend_from_slice(&size.to_ne_bytes());
    entry.extend_from_slice(&kind.to_ne_bytes());
    entry.extend_from_slice(&entry_checksum(kind, content, identity).to_ne_bytes());
    entry.extend_from_slice(content);
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}

/// A dictionary as a reader sees it.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    /// By number.
    pub(super) shapes: Vec<Arc<Shape>>,
    /// By number.
    pub(super) origins: Vec<Arc<Origin>>,
}

impl Dictionary {
    /// Reads the entries up to the first that does not hold. `columns` are the block's, in
    /// whose order shapes store their sets.
    pub(super) fn decode(mut bytes: &[u8], columns: &[Column], identity: u64) -> Self {
        let mut dictionary = Self::default();
        while let Some((kind, content, rest)) = split_entry(bytes, identity) {
            let known = match kind {
                KIND_SHAPE => decode_shape(content, columns)
                    .map(|shape| dictionary.shapes.push(Arc::new(shape))),
                KIND_ORIGIN => {
                    decode_origin(content).map(|origin| dictionary.origins.push(Arc::new(origin)))
                }
                _ => None,
            };
            if known.is_none() {
                break;
            }
            bytes = rest;
        }
        dictionary
    }
}

fn entry_checksum(kind: u32, content: &[u8], identity: u64) -> u64 {
    xxh3_64_with_seed(content, identity ^ u64::from(kind))
}

fn split_entry(bytes: &[u8], identity: u64) -> Option<(u32, &[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<8>()?;
    let size = usize::try_from(u32::from_ne_bytes(*size)).ok()?;
    let kind = u32::from_ne_bytes(*kind);
    let (padded, rest) = rest.split_at_checked(size.next_multiple_of(8))?;
    let content = padded.get(..size)?;
    (entry_checksum(kind, content, identity) == u64::from_ne_bytes(*checksum))
        .then_some((kind, content, rest))
}

fn decode_shape(content: &[u8], columns: &[Column]) -> Option<Shape> {
    let (bits, rest) = content.split_first_chunk::<8>()?;
    let (record_type, specs) = rest.split_first_chunk::<8>()?;
    let record_type = u8::try_from(u64::from_ne_bytes(*record_type)).ok()?;
    let specs = specs.chunks_exact(EXTRA_SPEC_SIZE);
    if !specs.remainder().is_empty() {
        return None;
    }
    let extras = specs.map(|spec| match *spec {
        [a, b, c, d, e, f, g, h] => Some(ExtraSpec {
            enterprise: u32::from_ne_bytes([a, b, c, d]),
            id: u16::from_ne_bytes([e, f]),
            length: u16::from_ne_bytes([g, h]),
        }),
        _ => None,
    });
    Some(Shape {
        record_type: RecordType::from_number(record_type)?,
        columns: decode_columns(u64::from_ne_bytes(*bits), columns)?,
        extras: extras.collect::<Option<_>>()?,
    })
}

fn decode_columns(mut bits: u64, columns: &[Column]) -> Option<ColumnSet> {
    let mut set = ColumnSet::EMPTY;
    while bits != 0 {
        set.insert(*columns.get(bits.trailing_zeros() as usize)?);
        bits &= bits - 1;
    }
    Some(set)
}

fn decode_origin(content: &[u8]) -> Option<Origin> {
    let (address, rest) = content.split_first_chunk::<16>()?;
    let (domain, rest) = rest.split_first_chunk::<4>()?;
    let (address, protocol) = match *rest {
        [0, protocol, 0, 0] => (IpAddr::from(*address.first_chunk::<4>()?), protocol),
        [1, protocol, 0, 0] => (IpAddr::from(*address), protocol),
        _ => return None,
    };
    Some(Origin {
        address,
        domain: ObservationDomainId(u32::from_ne_bytes(*domain)),
        protocol: Protocol::from_number(protocol)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTITY: u64 = 0x1234_5678_9abc_def0;

    fn origin(address: &str) -> Origin {
        Origin {
            address: address.parse().unwrap(),
            domain: ObservationDomainId(77),
            protocol: Protocol::Ipfix,
        }
    }

    fn shape() -> Shape {
        Shape {
            record_type: RecordType::Options,
            columns: ColumnSet::of(&[Column::VlanId, Column::ExportRecordIndex]),
            extras: vec![ExtraSpec { enterprise: 9, id: 12_235, length: u16::MAX }],
        }
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = origin("192.0.2.1").encode(IDENTITY);
        bytes.extend(shape().encode(IDENTITY));
        bytes.extend(origin("2001:db8::1").encode(IDENTITY));
        bytes
    }

    #[test]
    fn entries_come_back_in_their_order() {
        let dictionary = Dictionary::decode(&encoded(), Column::ALL, IDENTITY);
        assert_eq!(dictionary.shapes, [Arc::new(shape())]);
        let origins = ["192.0.2.1", "2001:db8::1"].map(|address| Arc::new(origin(address)));
        assert_eq!(dictionary.origins, origins);
    }

    #[test]
    fn entries_of_another_block_do_not_hold() {
        let dictionary = Dictionary::decode(&encoded(), Column::ALL, IDENTITY + 1);
        assert!(dictionary.shapes.is_empty() && dictionary.origins.is_empty());
    }

    #[test]
    fn columns_are_counted_in_the_block_s_order() {
        let mut columns = Column::ALL.to_vec();
        columns.reverse();
        let dictionary = Dictionary::decode(&shape().encode(IDENTITY), &columns, IDENTITY);
        let index = Column::COUNT - 1 - Column::VlanId.index();
        assert!(dictionary.shapes[0].columns.contains(Column::ALL[index]));
        let none = Dictionary::decode(&shape().encode(IDENTITY), &columns[..3], IDENTITY);
        assert!(none.shapes.is_empty());
    }

    #[test]
    fn an_entry_is_found_by_pointer_and_by_value() {
        let mut interner = Interner::new();
        let (first, second) = (Arc::new(shape()), Arc::new(Shape::default()));
        assert_eq!(interner.find(&first), None);
        assert_eq!(interner.insert(&first), 0);
        assert_eq!(interner.insert(&second), 1);
        assert_eq!(interner.find(&first), Some(0));
        for _ in 0..2 * POINTERS_MAX {
            assert_eq!(interner.find(&Arc::new(Shape::default())), Some(1));
        }
        assert!(interner.by_pointer.len() <= POINTERS_MAX);
    }

    proptest! {
        #[test]
        fn damage_ends_the_dictionary_before_it(position in 0..encoded().len() * 8) {
            let mut bytes = encoded();
            bytes[position / 8] ^= 1 << (position % 8);
            let dictionary = Dictionary::decode(&bytes, Column::ALL, IDENTITY);
            let whole = Dictionary::decode(&encoded(), Column::ALL, IDENTITY);
            prop_assert!(whole.shapes.starts_with(&dictionary.shapes));
            prop_assert!(whole.origins.starts_with(&dictionary.origins));
            let complete = dictionary.origins.len() == 2;
            // Only padding may be damaged unseen, and these entries have none.
            prop_assert!(!complete);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let dictionary = Dictionary::decode(&bytes, Column::ALL, IDENTITY);
            prop_assert!(dictionary.shapes.is_empty() && dictionary.origins.is_empty());
        }
    }
}
