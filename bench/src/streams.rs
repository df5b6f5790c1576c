//! What an exporter of each protocol sends in a busy second: messages of seeded flows, the
//! template in the first one.

use crate::layout::Header;
use crate::message::{self, IPFIX_TEMPLATES, VARIABLE, field, set, template};
use crate::traffic::{self, Flow};
use crate::{ipfix, v9};

/// Messages of one exporter.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What kind of messages.
    pub name: &'static str,
    /// Records of each.
    pub records: usize,
    /// In the order of their sequence.
    pub messages: Vec<Vec<u8>>,
}

/// Records that a NetFlow v5 datagram may have (the format's own limit).
const V5_RECORDS: usize = 30;
/// Samples that an sFlow datagram has room for.
const SFLOW_SAMPLES: usize = 8;
/// Records of a message with extras.
const EXTRAS_RECORDS: usize = 40;
/// Records of a message with lists.
const LISTS_RECORDS: usize = 10;

impl Stream {
    /// `units` is how far a message moves the sequence.
    fn new(
        name: &'static str,
        (count, records, units): (u32, usize, usize),
        encode: impl Fn(Header, &[Flow]) -> Vec<u8>,
    ) -> Self {
        let message = |number: u32| {
            let first = u64::from(number) * records as u64;
            let flows: Vec<_> =
                (first..first + records as u64).map(|index| traffic::flow(1, index)).collect();
            let header = Header {
                unix_seconds: 1_700_000_000,
                uptime_millis: 3_600_000,
                sequence: number * units as u32,
                domain: 0,
            };
            encode(header, &flows)
        };
        Self { name, records, messages: (0..count).map(message).collect() }
    }

    /// NetFlow v9 of 18 fields.
    #[must_use]
    pub fn v9(count: u32) -> Self {
        Self::new("v9/18-fields", (count, v9::RECORDS_MAX, 1), |header, flows| {
            let mut out = Vec::new();
            v9::encode(&mut out, header, header.sequence == 0, flows);
            out
        })
    }

    /// IPFIX of 18 fields.
    #[must_use]
    pub fn ipfix(count: u32) -> Self {
        let records = ipfix::RECORDS_MAX;
        Self::new("ipfix/18-fields", (count, records, records), |header, flows| {
            let mut out = Vec::new();
            ipfix::encode(&mut out, header, header.sequence == 0, flows);
            out
        })
    }

    /// IPFIX with an element that has no column, and one of variable length.
    #[must_use]
    pub fn ipfix_with_extras(count: u32) -> Self {
        let fields = [field(8, 4), field(12, 4), field(4_000, 2), field(82, VARIABLE)];
        let units = (count, EXTRAS_RECORDS, EXTRAS_RECORDS);
        Self::new("ipfix/extras", units, |header, flows| {
            let records: Vec<u8> = flows
                .iter()
                .flat_map(|flow| {
                    let addresses = [flow.source_address, flow.destination_address];
                    [message::long_words(&addresses), vec![7, 7], message::variable(b"eth0")]
                        .concat()
                })
                .collect();
            let mut sets = Vec::new();
            if header.sequence == 0 {
                sets.push(set(IPFIX_TEMPLATES, &template(300, &fields)));
            }
            sets.push(set(300, &records));
            message::ipfix(header, &sets)
        })
    }

    /// IPFIX with lists (RFC 6313), as meters that look into packets send them: records of two
    /// templates in each record, one of which has a list itself.
    #[must_use]
    pub fn ipfix_with_lists(count: u32) -> Self {
        let outer = [field(8, 4), field(12, 4), field(293, VARIABLE)];
        let addresses = [field(56, 6), field(80, 6), field(82, VARIABLE)];
        let names = [field(1, 4), field(291, VARIABLE), field(292, VARIABLE)];
        let units = (count, LISTS_RECORDS, LISTS_RECORDS);
        Self::new("ipfix/lists", units, |header, flows| {
            let block = |id: u16, records: &[u8]| {
                [&message::words(&[id, records.len() as u16 + 4]), records].concat()
            };
            let address = [&[2; 12][..], &message::variable(b"eth0")].concat();
            let basic = [&[3][..], &message::words(&[82, VARIABLE]), &message::variable(b"a.b")];
            let inner = [&[3][..], &message::words(&[301]), &address, &address];
            let name = [
                message::long_words(&[7]),
                message::variable(&basic.concat()),
                message::variable(&inner.concat()),
            ];
            let list = [vec![3], block(301, &address), block(302, &name.concat())].concat();
            let records: Vec<u8> = flows
                .iter()
                .flat_map(|flow| {
                    let addresses = [flow.source_address, flow.destination_address];
                    [message::long_words(&addresses), message::variable(&list)].concat()
                })
                .collect();
            let mut sets = Vec::new();
            if header.sequence == 0 {
                let templates = [(300, &outer), (301, &addresses), (302, &names)];
                let templates = templates.map(|(id, fields)| template(id, fields));
                sets.push(set(IPFIX_TEMPLATES, &templates.concat()));
            }
            sets.push(set(300, &records));
            message::ipfix(header, &sets)
        })
    }

    /// NetFlow v5, full datagrams.
    #[must_use]
    pub fn v5(count: u32) -> Self {
        let units = (count, V5_RECORDS, V5_RECORDS);
        Self::new("v5", units, |header, flows| message::fixed(5, header, flows))
    }

    /// sFlow v5, flow samples with 74 octets of header.
    #[must_use]
    pub fn sflow(count: u32) -> Self {
        Self::new("sflow/header", (count, SFLOW_SAMPLES, 1), |header, flows| {
            let first = header.sequence * SFLOW_SAMPLES as u32;
            let samples: Vec<Vec<u8>> = (first..)
                .zip(flows)
                .map(|(number, flow)| message::flow_sample(number, &message::frame(flow)))
                .collect();
            message::sflow(header, &samples)
        })
    }
}
