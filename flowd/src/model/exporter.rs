//! Who sent a record.

use std::net::IpAddr;

/// The scope of an exporter's numbering: IPFIX Observation Domain ID, NetFlow v9 Source ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObservationDomainId(pub u32);

impl std::fmt::Display for ObservationDomainId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How a record reached flowd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// Metered here, from a capture file or a live interface.
    Metered = 0,
    /// NetFlow v1.
    NetflowV1 = 1,
    /// sFlow v5. Its number follows its own version 5, kept apart from NetFlow's.
    Sflow = 2,
    /// NetFlow v5.
    NetflowV5 = 5,
    /// NetFlow v7.
    NetflowV7 = 7,
    /// NetFlow v9 (RFC 3954).
    NetflowV9 = 9,
    /// IPFIX (RFC 7011), whose version number is 10.
    Ipfix = 10,
    /// Not known: imported from a file that does not say how its collector got the record.
    Imported = 255,
}

impl Protocol {
    /// The name that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metered => "metered",
            Self::NetflowV1 => "netflow-v1",
            Self::Sflow => "sflow-v5",
            Self::NetflowV5 => "netflow-v5",
            Self::NetflowV7 => "netflow-v7",
            Self::NetflowV9 => "netflow-v9",
            Self::Ipfix => "ipfix",
            Self::Imported => "imported",
        }
    }

    /// A stored number back to the protocol.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Metered),
            1 => Some(Self::NetflowV1),
            2 => Some(Self::Sflow),
            5 => Some(Self::NetflowV5),
            7 => Some(Self::NetflowV7),
            9 => Some(Self::NetflowV9),
            10 => Some(Self::Ipfix),
            255 => Some(Self::Imported),
            _ => None,
        }
    }
}

/// Which exporter, domain and protocol a record came by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The exporter's address; an IPv4 address is never in its IPv6-mapped form.
    pub address: IpAddr,
    /// Its Observation Domain.
    pub domain: ObservationDomainId,
    /// The protocol it spoke.
    pub protocol: Protocol,
}
