//! Records whose fields stand for themselves: which widths they have, one after another.
//!
//! Each field bears a number, the first one of a layout the layout's own and so on: under it the
//! value is kept and named (`xtask/data/sflow-elements.csv`). Numbers stay what they are, since
//! stored records bear them: new layouts and new fields take free ones.

use super::{Block, DataFormat, Words, mac, opaque};
use crate::wire::{Reader, WireError};
use Kind::{Eight, Four, Mac, Opaque, Rest, Sixteen, Words as Numbers};

/// How a field is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Four octets: a number, an IPv4 address.
    Four,
    /// Eight octets: a number.
    Eight,
    /// Sixteen octets: an IPv6 address, a UUID.
    Sixteen,
    /// A MAC address, which is filled up to eight octets.
    Mac,
    /// Octets behind their number: text.
    Opaque,
    /// Numbers of four octets behind their count.
    Words,
    /// All that is left: what repeats.
    Rest,
}

impl Kind {
    /// Octets of its values; none if they vary.
    #[must_use]
    pub const fn size(self) -> Option<u16> {
        match self {
            Self::Four => Some(4),
            Self::Eight => Some(8),
            Self::Sixteen => Some(16),
            Self::Mac => Some(6),
            Self::Opaque | Self::Words | Self::Rest => None,
        }
    }

    fn take<'a>(self, reader: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
        match self {
            Self::Four => reader.take(4),
            Self::Eight => reader.take(8),
            Self::Sixteen => reader.take(16),
            Self::Mac => {
                let octets = reader.rest();
                mac(reader)?;
                Ok(octets.get(..6).unwrap_or_default())
            }
            Self::Opaque => opaque(reader),
            Self::Words => Words::decode(reader).map(Words::as_bytes),
            Self::Rest => reader.take(reader.left()),
        }
    }
}

/// The fields of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The record's format.
    pub format: DataFormat,
    /// The number of its first field; the others follow.
    pub number: u16,
    /// Its fields.
    pub kinds: &'static [Kind],
}

const fn layout(format: u32, number: u16, kinds: &'static [Kind]) -> Layout {
    Layout { format: DataFormat::new(0, format), number, kinds }
}

/// A field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Which one.
    pub number: u16,
    /// How it is laid out.
    pub kind: Kind,
    /// Its value, without a length or fill.
    pub value: &'a [u8],
}

/// A record's fields. Records of an earlier revision of their format end before the layout does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    layout: &'static Layout,
    octets: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of a record whose layout is among these.
    ///
    /// # Errors
    /// If the record ends within a field.
    pub(super) fn decode(
        layouts: &'static [Layout],
        block: &Block<'a>,
    ) -> Result<Option<Self>, WireError> {
        let Ok(index) = layouts.binary_search_by_key(&block.format.word(), |l| l.format.word())
        else {
            return Ok(None);
        };
        let Some(layout) = layouts.get(index) else {
            return Ok(None);
        };
        let mut reader = Reader::new(block.body);
        for kind in layout.kinds {
            if reader.is_empty() {
                break;
            }
            kind.take(&mut reader)?;
        }
        Ok(Some(Self { layout, octets: block.body }))
    }

    /// The fields that are there.
    pub fn iter(self) -> impl Iterator<Item = Field<'a>> {
        let mut reader = Reader::new(self.octets);
        (self.layout.number..).zip(self.layout.kinds).map_while(move |(number, &kind)| {
            if reader.is_empty() {
                return None;
            }
            Some(Field { number, kind, value: kind.take(&mut reader).ok()? })
        })
    }
}

/// All layouts, of flow and of counter samples.
pub fn layouts() -> impl Iterator<Item = &'static Layout> {
    FLOW_LAYOUTS.iter().chain(COUNTER_LAYOUTS)
}

/// Records of flow samples, by format.
pub(super) const FLOW_LAYOUTS: &[Layout] = &[
    // Extended MPLS tunnel.
    layout(1008, 64, &[Opaque, Four, Four]),
    // Extended MPLS virtual circuit.
    layout(1009, 80, &[Opaque, Four, Four]),
    // Extended MPLS FTN.
    layout(1010, 96, &[Opaque, Four]),
    // Extended MPLS LDP FEC.
    layout(1011, 112, &[Four]),
    // Extended VLAN tunnel.
    layout(1012, 128, &[Numbers]),
    // Extended 802.11 receive.
    layout(1014, 144, &[Opaque, Mac, Four, Four, Eight, Four, Four, Four]),
    // Extended 802.11 transmit.
    layout(1015, 160, &[Opaque, Mac, Four, Four, Four, Four, Four, Eight, Four]),
    // Extended L2 tunnel egress.
    layout(1021, 176, &[Four, Mac, Mac, Four]),
    // Extended L2 tunnel ingress.
    layout(1022, 192, &[Four, Mac, Mac, Four]),
    // Extended IPv4 tunnel egress.
    layout(1023, 208, &[Four, Four, Four, Four, Four, Four, Four, Four]),
    // Extended IPv4 tunnel ingress.
    layout(1024, 224, &[Four, Four, Four, Four, Four, Four, Four, Four]),
    // Extended IPv6 tunnel egress.
    layout(1025, 240, &[Four, Four, Sixteen, Sixteen, Four, Four, Four, Four]),
    // Extended IPv6 tunnel ingress.
    layout(1026, 256, &[Four, Four, Sixteen, Sixteen, Four, Four, Four, Four]),
    // Extended decapsulate egress.
    layout(1027, 272, &[Four]),
    // Extended decapsulate ingress.
    layout(1028, 288, &[Four]),
    // Extended VNI egress.
    layout(1029, 304, &[Four]),
    // Extended VNI ingress.
    layout(1030, 320, &[Four]),
    // Extended VLAN ingress.
    layout(1034, 336, &[Numbers]),
    // Extended VLAN egress.
    layout(1035, 352, &[Numbers]),
    // Extended egress queue.
    layout(1036, 368, &[Four]),
    // Extended ACL.
    layout(1037, 384, &[Four, Opaque, Four]),
    // Extended function.
    layout(1038, 400, &[Opaque]),
    // Extended transit.
    layout(1039, 416, &[Four]),
    // Extended queue.
    layout(1040, 432, &[Four]),
    // Extended hardware trap.
    layout(1041, 448, &[Opaque, Opaque]),
    // Extended Linux drop reason.
    layout(1042, 464, &[Opaque]),
    // Extended socket IPv4.
    layout(2100, 480, &[Four, Four, Four, Four, Four]),
    // Extended socket IPv6.
    layout(2101, 496, &[Four, Sixteen, Sixteen, Four, Four]),
    // Extended proxy socket IPv4.
    layout(2102, 512, &[Four, Four, Four, Four, Four]),
    // Extended proxy socket IPv6.
    layout(2103, 528, &[Four, Sixteen, Sixteen, Four, Four]),
    // Extended TCP information.
    layout(2209, 544, &[Four; 12]),
    // Extended entities.
    layout(2210, 560, &[Four, Four, Four, Four]),
];

/// Records of counter samples, by format.
pub(super) const COUNTER_LAYOUTS: &[Layout] = &[
    // Generic interface.
    layout(
        1,
        1024,
        &[
            Four, Four, Eight, Four, Four, Eight, Four, Four, Four, Four, Four, Four, Eight, Four,
            Four, Four, Four, Four, Four,
        ],
    ),
    // Ethernet interface.
    layout(2, 1056, &[Four; 13]),
    // Token ring.
    layout(3, 1088, &[Four; 18]),
    // 100BaseVG.
    layout(
        4,
        1120,
        &[Four, Eight, Four, Eight, Four, Four, Four, Four, Four, Eight, Four, Eight, Eight, Eight],
    ),
    // VLAN.
    layout(5, 1152, &[Four, Eight, Four, Four, Four, Four]),
    // 802.11.
    layout(6, 1184, &[Four; 20]),
    // LACP.
    layout(7, 1216, &[Mac, Mac, Four, Four, Four, Four, Four, Four, Four, Four, Four, Four]),
    // Optical module.
    layout(10, 1248, &[Four, Four, Four, Four, Rest]),
    // Processor.
    layout(1001, 1280, &[Four, Four, Four, Eight, Eight]),
    // 802.11 radio.
    layout(1002, 1312, &[Four, Four, Four]),
    // OpenFlow port.
    layout(1004, 1344, &[Eight, Four]),
    // Port name.
    layout(1005, 1376, &[Opaque]),
    // Host description.
    layout(2000, 1408, &[Opaque, Sixteen, Four, Four, Opaque]),
    // Host adapters.
    layout(2001, 1440, &[Rest]),
    // Host parent.
    layout(2002, 1472, &[Four, Four]),
    // Host CPU.
    layout(2003, 1504, &[Four; 20]),
    // Host memory.
    layout(2004, 1536, &[Eight, Eight, Eight, Eight, Eight, Eight, Eight, Four, Four, Four, Four]),
    // Host disks.
    layout(2005, 1568, &[Eight, Eight, Four, Four, Eight, Four, Four, Eight, Four]),
    // Host network.
    layout(2006, 1600, &[Eight, Four, Four, Four, Eight, Four, Four, Four]),
    // Host IP.
    layout(2007, 1632, &[Four; 19]),
    // Host ICMP.
    layout(2008, 1664, &[Four; 25]),
    // Host TCP.
    layout(2009, 1696, &[Four; 15]),
    // Host UDP.
    layout(2010, 1728, &[Four, Four, Four, Four, Four, Four, Four]),
    // Virtual node.
    layout(2100, 1760, &[Four, Four, Eight, Eight, Four]),
    // Virtual domain CPU.
    layout(2101, 1792, &[Four, Four, Four]),
    // Virtual domain memory.
    layout(2102, 1824, &[Eight, Eight]),
    // Virtual domain disks.
    layout(2103, 1856, &[Eight, Eight, Eight, Four, Eight, Four, Eight, Four]),
    // Virtual domain network.
    layout(2104, 1888, &[Eight, Four, Four, Four, Eight, Four, Four, Four]),
    // Open vSwitch datapath.
    layout(2207, 1920, &[Four, Four, Four, Four, Four, Four]),
];
