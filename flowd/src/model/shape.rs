//! Shape: which elements a record carries. Records of one Template share one shape.

use super::column::ColumnSet;

/// Length that marks a variable-length field (RFC 7011 section 7): its value is preceded by its
/// own length, in one octet or, from 255 on, in an octet 255 and two more.
pub const VARIABLE_LENGTH: u16 = u16::MAX;

/// Splits a value of variable length from what follows it, and drops its length (RFC 7011
/// section 7). None if the octets end before the value does.
///
/// ```
/// use flowd::model::split_variable;
/// assert_eq!(split_variable(&[2, 7, 8, 9]), Some((&[7, 8][..], &[9][..])));
/// assert_eq!(split_variable(&[255, 0, 1, 7]), Some((&[7][..], &[][..])));
/// assert_eq!(split_variable(&[2, 7]), None);
/// ```
#[must_use]
pub fn split_variable(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    match octets {
        [255, high, low, after @ ..] => {
            after.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
        }
        [255, ..] | [] => None,
        [size, after @ ..] => after.split_at_checked(usize::from(*size)),
    }
}

/// What a record tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordType {
    /// A flow.
    #[default]
    Flow = 0,
    /// The exporter itself: options data.
    Options = 1,
    /// An interface's counters (sFlow counter samples).
    Counters = 2,
}

impl RecordType {
    /// The `recordType` that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Options => "options",
            Self::Counters => "counters",
        }
    }

    /// A stored number back to the type.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Flow),
            1 => Some(Self::Options),
            2 => Some(Self::Counters),
            _ => None,
        }
    }
}

/// An element that has no column: its value lies verbatim in the record's extras.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtraSpec {
    /// Private Enterprise Number, 0 for IANA's own.
    pub enterprise: u32,
    /// Element number (for NetFlow v9 the full 16-bit field type).
    pub id: u16,
    /// Octets of the value, or [`VARIABLE_LENGTH`].
    pub length: u16,
}

/// Which elements a record carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    /// What the record tells of.
    pub record_type: RecordType,
    /// Elements that have a column.
    pub columns: ColumnSet,
    /// The rest, in the order of their values in the record's extras.
    pub extras: Vec<ExtraSpec>,
}
