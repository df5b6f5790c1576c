//! What an Information Element's values are: abstract data type, semantics, units. The numbers
//! are those by which exporters tell them (RFC 5610 section 3).

/// Abstract data type of an element (RFC 7012 section 3.1). Integers of all sizes are one type,
/// since an exporter may send fewer octets than the registry says (RFC 7011 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are RFC 7012's names")]
pub enum ElementType {
    Unsigned,
    Signed,
    Float,
    Boolean,
    MacAddress,
    OctetArray,
    String,
    DateTimeSeconds,
    DateTimeMilliseconds,
    DateTimeMicroseconds,
    DateTimeNanoseconds,
    Ipv4Address,
    Ipv6Address,
    BasicList,
    SubTemplateList,
    SubTemplateMultiList,
}

impl ElementType {
    /// All of them.
    const ALL: [Self; 16] = [
        Self::Unsigned,
        Self::Signed,
        Self::Float,
        Self::Boolean,
        Self::MacAddress,
        Self::OctetArray,
        Self::String,
        Self::DateTimeSeconds,
        Self::DateTimeMilliseconds,
        Self::DateTimeMicroseconds,
        Self::DateTimeNanoseconds,
        Self::Ipv4Address,
        Self::Ipv6Address,
        Self::BasicList,
        Self::SubTemplateList,
        Self::SubTemplateMultiList,
    ];

    /// The type that an informationElementDataType (339) says.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::OctetArray,
            1..=4 | 23 => Self::Unsigned,
            5..=8 => Self::Signed,
            9 | 10 => Self::Float,
            11 => Self::Boolean,
            12 => Self::MacAddress,
            13 => Self::String,
            14 => Self::DateTimeSeconds,
            15 => Self::DateTimeMilliseconds,
            16 => Self::DateTimeMicroseconds,
            17 => Self::DateTimeNanoseconds,
            18 => Self::Ipv4Address,
            19 => Self::Ipv6Address,
            20 => Self::BasicList,
            21 => Self::SubTemplateList,
            22 => Self::SubTemplateMultiList,
            _ => return None,
        })
    }

    /// RFC 7012's name, of numbers that of the widest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned64",
            Self::Signed => "signed64",
            Self::Float => "float64",
            Self::Boolean => "boolean",
            Self::MacAddress => "macAddress",
            Self::OctetArray => "octetArray",
            Self::String => "string",
            Self::DateTimeSeconds => "dateTimeSeconds",
            Self::DateTimeMilliseconds => "dateTimeMilliseconds",
            Self::DateTimeMicroseconds => "dateTimeMicroseconds",
            Self::DateTimeNanoseconds => "dateTimeNanoseconds",
            Self::Ipv4Address => "ipv4Address",
            Self::Ipv6Address => "ipv6Address",
            Self::BasicList => "basicList",
            Self::SubTemplateList => "subTemplateList",
            Self::SubTemplateMultiList => "subTemplateMultiList",
        }
    }

    /// The type of that [name](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Are its values lists (RFC 6313)?
    #[must_use]
    pub const fn is_list(self) -> bool {
        matches!(self, Self::BasicList | Self::SubTemplateList | Self::SubTemplateMultiList)
    }
}

/// What an element's numbers are (RFC 7012 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are RFC 7012's names")]
#[repr(u8)]
pub enum Semantics {
    #[default]
    Default = 0,
    Quantity = 1,
    TotalCounter = 2,
    DeltaCounter = 3,
    Identifier = 4,
    Flags = 5,
    List = 6,
    SnmpCounter = 7,
    SnmpGauge = 8,
}

impl Semantics {
    /// What an informationElementSemantics (344) says; what is not assigned is the default.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Quantity,
            2 => Self::TotalCounter,
            3 => Self::DeltaCounter,
            4 => Self::Identifier,
            5 => Self::Flags,
            6 => Self::List,
            7 => Self::SnmpCounter,
            8 => Self::SnmpGauge,
            _ => Self::Default,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// What an element's numbers count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are the names of IANA's registry")]
#[repr(u16)]
pub enum Units {
    #[default]
    None = 0,
    Bits = 1,
    Octets = 2,
    Packets = 3,
    Flows = 4,
    Seconds = 5,
    Milliseconds = 6,
    Microseconds = 7,
    Nanoseconds = 8,
    FourOctetWords = 9,
    Messages = 10,
    Hops = 11,
    Entries = 12,
    Frames = 13,
    Ports = 14,
    Inferred = 15,
}

impl Units {
    /// What an informationElementUnits (345) says; what is not assigned is none.
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        match number {
            1 => Self::Bits,
            2 => Self::Octets,
            3 => Self::Packets,
            4 => Self::Flows,
            5 => Self::Seconds,
            6 => Self::Milliseconds,
            7 => Self::Microseconds,
            8 => Self::Nanoseconds,
            9 => Self::FourOctetWords,
            10 => Self::Messages,
            11 => Self::Hops,
            12 => Self::Entries,
            13 => Self::Frames,
            14 => Self::Ports,
            15 => Self::Inferred,
            _ => Self::None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_their_numbers_and_names() {
        let numbered: Vec<ElementType> = (0..=255).filter_map(ElementType::from_number).collect();
        for element_type in ElementType::ALL {
            assert!(numbered.contains(&element_type), "{element_type:?}");
            assert_eq!(ElementType::from_name(element_type.name()), Some(element_type));
        }
        assert_eq!(ElementType::from_number(24), None);
        assert_eq!(ElementType::from_name("number"), None);
    }

    #[test]
    fn numbers_not_assigned_say_nothing() {
        for number in 0..=8 {
            assert_eq!(Semantics::from_number(number).number(), number);
        }
        for number in 0..=15 {
            assert_eq!(Units::from_number(number).number(), number);
        }
        assert_eq!(Semantics::from_number(200), Semantics::Default);
        assert_eq!(Units::from_number(16), Units::None);
    }
}
