//! Which element each field of sFlow's records is kept under.

use crate::model::ie::PEN_INMON;

/// An element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) enterprise: u32,
    pub(super) id: u16,
}

const fn iana(id: u16) -> Id {
    Id { enterprise: 0, id }
}

const fn own(id: u16) -> Id {
    Id { enterprise: PEN_INMON, id }
}

pub(super) const BGP_NEXT_HOP_IPV4: Id = iana(18);
pub(super) const MPLS_TOP_LABEL_IPV4: Id = iana(47);
pub(super) const BGP_NEXT_HOP_IPV6: Id = iana(63);
/// The first of the ten elements of a label stack.
pub(super) const MPLS_LABELS: [Id; 10] = [
    iana(70),
    iana(71),
    iana(72),
    iana(73),
    iana(74),
    iana(75),
    iana(76),
    iana(77),
    iana(78),
    iana(79),
];
pub(super) const BGP_NEXT_ADJACENT_AS: Id = iana(128);
pub(super) const BGP_PREVIOUS_ADJACENT_AS: Id = iana(129);
pub(super) const DROPPED_OCTETS: Id = iana(132);
pub(super) const DROPPED_PACKETS: Id = iana(133);
pub(super) const MPLS_TOP_LABEL_IPV6: Id = iana(140);
pub(super) const POST_NAT_SOURCE_IPV4: Id = iana(225);
pub(super) const POST_NAT_DESTINATION_IPV4: Id = iana(226);
pub(super) const POST_NAPT_SOURCE_PORT: Id = iana(227);
pub(super) const POST_NAPT_DESTINATION_PORT: Id = iana(228);
pub(super) const DOT1Q_VLAN_ID: Id = iana(243);
pub(super) const DOT1Q_PRIORITY: Id = iana(244);
pub(super) const DOT1Q_CUSTOMER_VLAN_ID: Id = iana(245);
pub(super) const DOT1Q_CUSTOMER_PRIORITY: Id = iana(246);
pub(super) const ETHERNET_TYPE: Id = iana(256);
pub(super) const POST_NAT_SOURCE_IPV6: Id = iana(281);
pub(super) const POST_NAT_DESTINATION_IPV6: Id = iana(282);
pub(super) const DATA_LINK_FRAME_SIZE: Id = iana(312);
pub(super) const TOTAL_PACKETS_OBSERVED: Id = iana(318);
pub(super) const USER_NAME: Id = iana(371);
pub(super) const HTTP_REQUEST_HOST: Id = iana(460);
pub(super) const HTTP_REQUEST_TARGET: Id = iana(461);
/// What a list of communities holds.
pub(super) const BGP_COMMUNITY: Id = iana(483);
pub(super) const BGP_DESTINATION_COMMUNITY_LIST: Id = iana(485);

pub(super) const SAMPLING_SOURCE_CLASS: Id = own(1);
pub(super) const SAMPLING_SOURCE_INDEX: Id = own(2);
pub(super) const SAMPLING_DROPS: Id = own(3);
pub(super) const DISCARD_REASON: Id = own(4);
pub(super) const EGRESS_INTERFACE_COUNT: Id = own(5);
pub(super) const POST_DOT1Q_PRIORITY: Id = own(6);
pub(super) const ROUTER_AS: Id = own(7);
pub(super) const BGP_DESTINATION_AS_PATH: Id = own(8);
pub(super) const BGP_LOCAL_PREFERENCE: Id = own(9);
pub(super) const DESTINATION_USER_NAME: Id = own(10);
pub(super) const URL_DIRECTION: Id = own(11);
pub(super) const MPLS_OUT_LABEL_STACK: Id = own(12);
pub(super) const SAMPLED_HEADER_PROTOCOL: Id = own(13);

/// The element of a field that stands for itself, by the field's number.
pub(super) const fn of_field(number: u16) -> Id {
    match number {
        81 => iana(249),        // pseudoWireId
        144 | 160 => iana(147), // wlanSSID
        1025 => iana(368),      // ingressInterfaceType
        1376 => iana(82),       // interfaceName
        number => own(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ie;
    use crate::wire::sflow::{CounterData, Kind, Layout, layouts};

    /// Fields that have a column.
    const COLUMNS: [u16; 2] = [CounterData::INTERFACE_INDEX, CounterData::VLAN_ID];

    fn numbers(layout: &Layout) -> impl Iterator<Item = (u16, Kind)> {
        (layout.number..).zip(layout.kinds.iter().copied())
    }

    #[test]
    fn every_field_has_a_name_and_a_type_that_reads_it() {
        for (number, kind) in layouts().flat_map(numbers) {
            if COLUMNS.contains(&number) {
                continue;
            }
            let Id { enterprise, id } = of_field(number);
            let element = ie::find(enterprise, id);
            let element = element.unwrap_or_else(|| panic!("field {number} has no element"));
            use ie::ElementType::*;
            let suits = match kind {
                Kind::Four => {
                    matches!(
                        element.element_type,
                        Unsigned | Signed | Float | Ipv4Address | OctetArray
                    )
                }
                Kind::Eight => element.element_type == Unsigned,
                Kind::Sixteen => matches!(element.element_type, Ipv6Address | OctetArray),
                Kind::Mac => element.element_type == MacAddress,
                Kind::Opaque => element.element_type == String,
                Kind::Words | Kind::Rest => element.element_type == OctetArray,
            };
            assert!(suits, "{} is a {:?} of {kind:?}", element.name, element.element_type);
        }
    }

    #[test]
    fn no_two_fields_share_a_number() {
        let mut all: Vec<u16> =
            layouts().flat_map(numbers).map(|(number, _)| number).chain(1..=13).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        // Those of the table that no field has would be dead.
        let named = ie::all().iter().filter(|element| element.enterprise == PEN_INMON);
        assert!(named.clone().all(|element| all.binary_search(&element.id).is_ok()));
        assert!(named.count() > 390);
    }
}
