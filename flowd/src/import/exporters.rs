//! Who sent a record: the exporters that a file tells of, by the number that it gives them.

use super::reader::Octets;
use crate::model::{ObservationDomainId, Origin, Protocol};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The version by which nfdump knows sFlow.
const SFLOW_VERSION: u32 = 9_999;
const FAMILY_IPV4: u16 = 2;
const FAMILY_IPV6: u16 = 10;
/// Origins that are kept for the records that follow.
const ORIGIN_COUNT_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug)]
struct Exporter {
    address: IpAddr,
    domain: ObservationDomainId,
    protocol: Protocol,
}

/// The exporters of a file.
#[derive(Debug, Default)]
pub(super) struct Exporters {
    by_number: HashMap<u16, Exporter>,
    origins: HashMap<(u16, Option<IpAddr>), Arc<Origin>>,
}

impl Exporters {
    /// Reads an exporter's record, behind its header: version, address, family, number in the
    /// file, domain.
    pub(super) fn read(&mut self, mut body: Octets<'_>) -> Option<()> {
        let version = body.u32()?;
        let address = body.ipv6()?;
        let family = body.u16()?;
        let number = body.u16()?;
        let domain = ObservationDomainId(body.u32()?);
        let address = match family {
            // It lies in the low half of the second of the two numbers.
            FAMILY_IPV4 => IpAddr::V4(ipv4_of(address)),
            FAMILY_IPV6 => Ipv6Addr::from(address).to_canonical(),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let protocol = match version {
            1 => Protocol::NetflowV1,
            5 => Protocol::NetflowV5,
            7 => Protocol::NetflowV7,
            9 => Protocol::NetflowV9,
            10 => Protocol::Ipfix,
            SFLOW_VERSION => Protocol::Sflow,
            _ => Protocol::Imported,
        };
        self.by_number.insert(number, Exporter { address, domain, protocol });
        // A number may come again in a file that was made of several.
        self.origins.clear();
        Some(())
    }

    /// The origin of a record: its exporter, by the address that the record itself has of it, if
    /// it has one.
    pub(super) fn origin(&mut self, number: u16, address: Option<IpAddr>) -> Arc<Origin> {
        if self.origins.len() >= ORIGIN_COUNT_MAX {
            self.origins.clear();
        }
        let exporter = self.by_number.get(&number);
        let origin = self.origins.entry((number, address)).or_insert_with(|| {
            let unknown = Exporter {
                address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                domain: ObservationDomainId(0),
                protocol: Protocol::Imported,
            };
            let Exporter { address: told, domain, protocol } = exporter.copied().unwrap_or(unknown);
            Arc::new(Origin { address: address.unwrap_or(told), domain, protocol })
        });
        Arc::clone(origin)
    }
}

const fn ipv4_of(address: [u8; 16]) -> Ipv4Addr {
    let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d] = address;
    Ipv4Addr::new(a, b, c, d)
}
