//! flowEndReason (IE 136), RFC 5102 section 5.11.3.

/// Why a flow record was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowEndReason {
    /// No packet for the inactive timeout.
    IdleTimeout,
    /// The flow lasted longer than the active timeout.
    ActiveTimeout,
    /// Its end was seen: a TCP FIN or RST.
    EndOfFlow,
    /// The Metering Process was told to stop.
    ForcedEnd,
    /// Room was needed.
    LackOfResources,
    /// A number that the registry does not name.
    Unknown(u8),
}

impl FlowEndReason {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::IdleTimeout => 1,
            Self::ActiveTimeout => 2,
            Self::EndOfFlow => 3,
            Self::ForcedEnd => 4,
            Self::LackOfResources => 5,
            Self::Unknown(number) => number,
        }
    }

    /// The reason of a number on the wire.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::IdleTimeout,
            2 => Self::ActiveTimeout,
            3 => Self::EndOfFlow,
            4 => Self::ForcedEnd,
            5 => Self::LackOfResources,
            other => Self::Unknown(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives() {
        for number in 0..=u8::MAX {
            assert_eq!(FlowEndReason::from_number(number).number(), number);
        }
    }
}
