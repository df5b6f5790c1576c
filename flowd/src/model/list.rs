//! A list's value, with what is needed to read it.

use super::ie::ElementType;

/// A value of one of the list types (RFC 6313), as it was sent. `wire::ipfix::list` walks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<'a> {
    /// Which of the list types.
    pub element_type: ElementType,
    /// Its octets.
    pub octets: &'a [u8],
    /// The templates that it refers to, as its record keeps them; empty where there are none.
    pub templates: &'a [u8],
}
