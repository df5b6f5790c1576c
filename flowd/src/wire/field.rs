//! What templates are made of.

use crate::model::VARIABLE_LENGTH;
use std::fmt;

/// Number of a template: 256 or more, since lower ones number the kinds of sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateId(u16);

impl TemplateId {
    /// The first number that a template can have.
    pub const FIRST: Self = Self(256);

    /// A template's number, unless it is reserved.
    #[must_use]
    pub const fn new(raw: u16) -> Option<Self> {
        if raw >= Self::FIRST.0 { Some(Self(raw)) } else { None }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The number after this one, if there is one.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }
}

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One field of a template: which element, in how many octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldSpecifier {
    /// Private Enterprise Number; 0 for IANA's own and for all NetFlow v9 field types, and
    /// [`PEN_V9_SCOPE`](crate::model::ie::PEN_V9_SCOPE) for NetFlow v9 scope types.
    pub enterprise: u32,
    /// Element number; NetFlow v9's 16-bit field type.
    pub id: u16,
    /// Octets of its value, or [`VARIABLE_LENGTH`].
    pub length: u16,
}

impl FieldSpecifier {
    /// Octets that its value takes at least: a variable-length one has its length before it.
    #[must_use]
    pub fn size_min(self) -> usize {
        match self.length {
            VARIABLE_LENGTH => 1,
            length => usize::from(length),
        }
    }
}
