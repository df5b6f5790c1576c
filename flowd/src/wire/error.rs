//! What can be wrong with octets from outside.

use super::TemplateId;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireErrorKind {
    /// The sender broke the format.
    Malformed,
    /// The sender speaks a format that is not decoded here.
    Unsupported,
    /// The format allows it, a limit of ours does not.
    OverLimit,
}

/// Why octets are not a message, set or template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Fewer octets than the format asks for at this place.
    #[error("{needed} octets expected, {left} are left")]
    Truncated {
        /// How many were expected.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// A first word that is no known version.
    #[error("version {0} is not known")]
    UnsupportedVersion(u16),
    /// A set that is shorter than its header or longer than the message.
    #[error("a set of {length} octets where {left} are left")]
    SetLength {
        /// What its header says.
        length: u16,
        /// Octets from its header to the end of the message.
        left: usize,
    },
    /// A template numbered as a set kind is (RFC 3954 section 5.2: from 256 on).
    #[error("template id {0} is reserved")]
    ReservedTemplateId(u16),
    /// A template whose records would have no octets, so that any set held endlessly many.
    #[error("template {0} describes records of no octets")]
    EmptyRecord(TemplateId),
    /// Scope or option lengths that are no whole number of field specifiers.
    #[error("template {0} has option lengths that are no multiple of 4")]
    OptionLengths(TemplateId),
    /// A message that says it is shorter than its own header.
    #[error("a message of {0} octets is shorter than its header")]
    MessageLength(u16),
    /// More scope fields than the template has fields (RFC 7011 section 3.4.2.2).
    #[error("template {id} has {scopes} scopes of {fields} fields")]
    ScopeCount {
        /// Which template.
        id: TemplateId,
        /// Its scope fields.
        scopes: usize,
        /// All its fields.
        fields: usize,
    },
    /// An sFlow address of a type other than none, IPv4 and IPv6.
    #[error("address type {0} is not known")]
    AddressType(u32),
    /// More fields than are accepted.
    #[error("template {id} has {count} fields, {max} are accepted")]
    FieldCount {
        /// Which template.
        id: TemplateId,
        /// Its fields.
        count: usize,
        /// How many are accepted.
        max: usize,
    },
}

impl WireError {
    /// Whose fault it is.
    #[must_use]
    pub const fn kind(self) -> WireErrorKind {
        match self {
            Self::UnsupportedVersion(_) => WireErrorKind::Unsupported,
            Self::FieldCount { .. } => WireErrorKind::OverLimit,
            Self::Truncated { .. }
            | Self::SetLength { .. }
            | Self::ReservedTemplateId(_)
            | Self::EmptyRecord(_)
            | Self::OptionLengths(_)
            | Self::MessageLength(_)
            | Self::ScopeCount { .. }
            | Self::AddressType(_) => WireErrorKind::Malformed,
        }
    }
}
