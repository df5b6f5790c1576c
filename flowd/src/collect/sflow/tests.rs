//! What samples become.

use super::*;
use crate::collect::copy::Clocks;
use crate::model::ie::display_name;
use crate::model::time::{SysUptime, UnixMillis};
use crate::model::{
    Column, ExtraSpec, FlowBatch, FlowRecord, ObservationDomainId, Origin, Protocol, RecordType,
    element_value, ie,
};
use crate::wire::sflow::tests::{Xdr, datagram};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const RECEIVED: UnixMillis = UnixMillis(1_700_000_000_000);

pub(super) struct Bench {
    pub(super) decoder: SflowDecoder,
    pub(super) sequences: SampleSequences,
    pub(super) batch: FlowBatch,
    pub(super) records: Vec<FlowRecord>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let own = [Column::ExportSequenceNumber, Column::ExportRecordIndex];
        Self {
            decoder: SflowDecoder::new(ColumnSet::of(&own)),
            sequences: SampleSequences::default(),
            batch: FlowBatch::new(),
            records: Vec::new(),
        }
    }

    pub(super) fn decode(&mut self, octets: &[u8]) -> SampleCounts {
        let datagram = Datagram::decode(octets).unwrap();
        let origin = Arc::new(Origin {
            address: datagram.agent.unwrap(),
            domain: ObservationDomainId(datagram.sub_agent),
            protocol: Protocol::Sflow,
        });
        let clocks = Clocks { export_time: RECEIVED, sys_uptime: Some(SysUptime(0)) };
        let mut context = RecordContext::new(&origin, clocks, datagram.sequence_number, RECEIVED);
        let Self { decoder, sequences, batch, records } = self;
        let mut take = |batch: &FlowBatch| {
            records.extend((0..batch.len()).map(|row| batch.record(row).unwrap()));
        };
        let mut output = Output { batch, full: &mut take };
        let counts = decoder.decode(&datagram, sequences, &mut context, &mut output);
        take(&self.batch);
        self.batch.clear();
        assert_eq!(counts.samples, counts.records + counts.malformed + counts.unknown);
        counts
    }
}

/// A record as users see it: names and values as text, in no order.
pub(super) type Shown = BTreeMap<String, String>;

pub(super) fn shown(record: &FlowRecord) -> Shown {
    let mut all = Shown::new();
    for column in record.present.iter() {
        all.insert(column.name().into(), record.value(column).unwrap().to_string());
    }
    for extra in &record.extras {
        let ExtraSpec { enterprise, id, .. } = extra.spec;
        let value = element_value(ie::element_type(enterprise, id), &extra.value);
        let before = all.insert(display_name(enterprise, id), value.to_string());
        assert_eq!(before, None, "{} stands twice", display_name(enterprise, id));
    }
    all
}

/// The only record of these samples.
fn only(samples: &[(u32, Xdr)]) -> Shown {
    let mut bench = Bench::new();
    let counts = bench.decode(&datagram(5, samples));
    assert_eq!((counts.records, bench.records.len()), (1, 1), "{counts:?}");
    shown(&bench.records[0])
}

pub(super) fn flow_sample(records: &[(u32, Xdr)]) -> (u32, Xdr) {
    (1, Xdr::default().words(&[1, 3, 512, 9_000, 2, 3, 4]).blocks(records))
}

/// What a flow sample of these records says, without what all say.
fn told(records: &[(u32, Xdr)]) -> Shown {
    let mut all = only(&[flow_sample(records)]);
    for (name, value) in [
        ("exportSequenceNumber", "5"),
        ("exportRecordIndex", "0"),
        ("samplingInterval", "512"),
        ("selectorIdTotalPktsObserved", "9000"),
        ("samplingSourceClass", "0"),
        ("samplingSourceIndex", "3"),
        ("samplingDrops", "2"),
        ("ingressInterface", "3"),
        ("egressInterface", "4"),
        ("packetDeltaCount", "1"),
    ] {
        assert_eq!(all.remove(name).as_deref(), Some(value), "{name}");
    }
    all
}

fn expect(got: &Shown, expected: &[(&str, &str)]) {
    let expected: Shown =
        expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    assert_eq!(got, &expected);
}

/// A raw header of this protocol.
pub(super) fn raw(protocol: u32, frame_length: u32, header: &[u8]) -> (u32, Xdr) {
    (1, Xdr::default().words(&[protocol, frame_length, 4]).opaque(header))
}

/// A UDP packet of 40 octets, 10.0.0.1:1000 to 10.0.0.2:2000.
pub(super) fn ipv4() -> Vec<u8> {
    let head = [0x45, 8, 0, 40, 0, 0, 0, 0, 61, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    [&head[..], &[0x03, 0xe8, 0x07, 0xd0, 0, 20, 0, 0]].concat()
}

/// A TCP SYN, [2001:db8::1]:80 to [2001:db8::2]:81.
fn ipv6() -> Vec<u8> {
    let mut packet = vec![0x60, 0x01, 0x23, 0x45, 0, 20, 6, 64];
    for last in [1, 2] {
        packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend([0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0, 0, 0, 0, 0, 0]);
    packet
}

/// Behind an Ethernet header with this type field, and what follows it.
fn ethernet(behind: &[&[u8]]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &behind.concat()].concat()
}

const UDP_TOLD: [(&str, &str); 10] = [
    ("sourceIPv4Address", "10.0.0.1"),
    ("destinationIPv4Address", "10.0.0.2"),
    ("sourceTransportPort", "1000"),
    ("destinationTransportPort", "2000"),
    ("protocolIdentifier", "17"),
    ("octetDeltaCount", "40"),
    ("ipClassOfService", "8"),
    ("minimumTTL", "61"),
    ("maximumTTL", "61"),
    ("dataLinkFrameSize", "64"),
];
const MACS: [(&str, &str); 2] =
    [("destinationMacAddress", "02:00:00:00:00:01"), ("sourceMacAddress", "02:00:00:00:00:02")];

#[test]
fn a_header_says_what_its_packet_says() {
    let mut frame = UDP_TOLD.to_vec();
    frame.extend(MACS);
    expect(&told(&[raw(1, 64, &ethernet(&[&[8, 0], &ipv4()]))]), &frame);
    let got = told(&[raw(1, 78, &ethernet(&[&[0x86, 0xdd], &ipv6()]))]);
    let mut expected = MACS.to_vec();
    expected.extend([
        ("sourceIPv6Address", "2001:db8::1"),
        ("destinationIPv6Address", "2001:db8::2"),
        ("sourceTransportPort", "80"),
        ("destinationTransportPort", "81"),
        ("protocolIdentifier", "6"),
        ("octetDeltaCount", "60"),
        ("ipClassOfService", "0"),
        ("minimumTTL", "64"),
        ("maximumTTL", "64"),
        ("tcpControlBits", "2"),
        ("flowLabelIPv6", "74565"),
        ("dataLinkFrameSize", "78"),
    ]);
    expect(&got, &expected);
}

#[test]
fn headers_of_every_protocol_that_leads_to_ip_are_read() {
    let ip = ipv4();
    let llc = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &ip].concat();
    for (protocol, header) in [
        (7, [&[0xff, 3, 0, 0x21][..], &ip].concat()),
        (9, llc.clone()),
        (10, ip.clone()),
        (11, ip.clone()),
        (14, [&[0x0f, 0, 8, 0][..], &ip].concat()),
    ] {
        expect(&told(&[raw(protocol, 64, &header)]), &UDP_TOLD);
    }
    assert_eq!(told(&[raw(12, 64, &ipv6())])["sourceIPv6Address"], "2001:db8::1");
    let labels = [0, 0x01, 0x00, 64, 0, 0x02, 0x01, 64];
    let mut expected = UDP_TOLD.to_vec();
    expected.extend([("mplsTopLabelStackSection", "000100"), ("mplsLabelStackSection2", "000201")]);
    expect(&told(&[raw(13, 64, &[&labels[..], &ip].concat())]), &expected);
    // What an access point decrypted; its 802.11 header holds nothing that is read here.
    let payload = (1013, Xdr::default().words(&[0, 15, 70, 4]).opaque(&llc));
    expect(&told(&[raw(15, 64, &[8, 2, 0, 0]), payload]), &UDP_TOLD);
    let got = told(&[raw(15, 64, &[8, 2, 0, 0])]);
    expect(&got, &[("dataLinkFrameSize", "64"), ("sampledHeaderProtocol", "15")]);
}

#[test]
fn a_frame_without_ip_is_a_record_of_its_link() {
    let got = told(&[raw(1, 64, &ethernet(&[&[0x81, 0, 0xa0, 7, 8, 6], &[0; 28]]))]);
    let mut expected = MACS.to_vec();
    expected.extend([
        ("ethernetType", "2054"),
        ("vlanId", "7"),
        ("dot1qVlanId", "7"),
        ("dot1qPriority", "5"),
        ("dataLinkFrameSize", "64"),
    ]);
    expect(&got, &expected);
    for size in 0..14 {
        let got = told(&[raw(1, 64, &ethernet(&[&[8, 0]])[..size])]);
        assert_eq!(got.contains_key("sourceMacAddress"), size >= 12, "{size}");
    }
}

#[test]
fn vlans_are_the_switch_s_where_it_knows_them() {
    let tagged =
        raw(1, 64, &ethernet(&[&[0x88, 0xa8, 0x60, 10, 0x81, 0, 0x20, 20, 8, 0], &ipv4()]));
    let of = |records: &[(u32, Xdr)]| {
        let got = told(records);
        [
            "vlanId",
            "postVlanId",
            "dot1qVlanId",
            "dot1qPriority",
            "dot1qCustomerVlanId",
            "dot1qCustomerPriority",
            "postDot1qPriority",
        ]
        .map(|name| got.get(name).cloned().unwrap_or_default())
    };
    let switch = |words: [u32; 4]| (1001, Xdr::default().words(&words));
    let unknown = u32::MAX;
    assert_eq!(of(std::slice::from_ref(&tagged)), ["10", "", "10", "3", "20", "1", ""]);
    assert_eq!(of(&[switch([5, 6, 7, 2]), tagged.clone()]), ["5", "7", "10", "6", "20", "1", "2"]);
    let none = switch([unknown; 4]);
    assert_eq!(of(&[none.clone(), tagged]), ["10", "", "10", "3", "20", "1", ""]);
    assert_eq!(of(&[none]), [""; 7]);
    assert_eq!(of(&[switch([0, 0, 4_095, 0])]), ["0", "4095", "", "0", "", "", "0"]);
}

#[test]
fn what_the_agent_read_stands_in_for_a_header() {
    let ip = (3, Xdr::default().words(&[40, 17, 0x0a00_0001, 0x0a00_0002, 1_000, 2_000, 0, 8]));
    let link = (2, Xdr::default().words(&[64]).fixed(&[1; 6]).fixed(&[2; 6]).words(&[0x0800]));
    let mut expected: Vec<_> =
        UDP_TOLD.into_iter().filter(|(name, _)| !name.contains("TTL")).collect();
    expected.extend([
        ("tcpControlBits", "0"),
        ("sourceMacAddress", "01:01:01:01:01:01"),
        ("destinationMacAddress", "02:02:02:02:02:02"),
    ]);
    expect(&told(&[ip.clone(), link]), &expected);
    // The header itself is nearer to the truth.
    let other = (3, Xdr::default().words(&[999, 6, 1, 2, 3, 4, 0x10, 0]));
    let got = told(&[other, raw(11, 64, &ipv4())]);
    assert_eq!(
        (got["octetDeltaCount"].as_str(), got["sourceIPv4Address"].as_str()),
        ("40", "10.0.0.1")
    );
    // ICMP has no ports, whatever stands in their place.
    let icmp = (4, Xdr::default().words(&[64, 58, 1, 0, 0, 1, 1, 0, 0, 2, 128, 0, 0, 0]));
    let got = told(&[icmp]);
    assert_eq!(got["sourceIPv6Address"], "0:1::1");
    assert!(!got.contains_key("sourceTransportPort"));
}

#[test]
fn routes_bear_the_packet_s_family() {
    let router = |words: &[u32]| (1002, Xdr::default().words(words));
    let got = told(&[router(&[1, 0x0a00_0009, 24, 0]), raw(11, 64, &ipv4())]);
    assert_eq!(got["ipNextHopIPv4Address"], "10.0.0.9");
    assert_eq!(got["sourceIPv4PrefixLength"], "24");
    assert_eq!(got["destinationIPv4PrefixLength"], "0");
    let got = told(&[router(&[1, 0x0a00_0009, 64, 300]), raw(12, 64, &ipv6())]);
    assert_eq!(got["sourceIPv6PrefixLength"], "64");
    assert!(!got.contains_key("destinationIPv6PrefixLength"), "no such length");
    expect(
        &told(&[router(&[2, 0x2001_0db8, 0, 0, 9, 48, 32])]),
        &[
            ("ipNextHopIPv6Address", "2001:db8::9"),
            ("sourceIPv6PrefixLength", "48"),
            ("destinationIPv6PrefixLength", "32"),
        ],
    );
    expect(&told(&[router(&[0, 8, 33])]), &[("sourceIPv4PrefixLength", "8")]);
}

#[test]
fn gateways_tell_the_path() {
    let gateway = Xdr::default()
        .words(&[1, 0x0a00_0009, 64_500, 64_501, 64_502, 3, 2])
        .array(&[1, 2])
        .words(&[1])
        .array(&[3, 4])
        .words(&[2])
        .array(&[5])
        .array(&[0x00ff_0001, 2])
        .words(&[100]);
    expect(
        &told(&[(1003, gateway)]),
        &[
            ("bgpSourceAsNumber", "64501"),
            ("bgpDestinationAsNumber", "5"),
            ("bgpNextHopIPv4Address", "10.0.0.9"),
            ("routerAsNumber", "64500"),
            ("bgpPrevAdjacentAsNumber", "64502"),
            ("bgpNextAdjacentAsNumber", "1"),
            ("bgpDestinationAsPath", "1 2 {3,4} 5"),
            ("bgpDestinationCommunityList", "0301e3000400ff000100000002"),
            ("bgpLocalPreference", "100"),
        ],
    );
    let empty = Xdr::default().words(&[0, 1, 2, 3, 0, 0, 0]);
    expect(
        &told(&[(1003, empty)]),
        &[
            ("bgpSourceAsNumber", "2"),
            ("routerAsNumber", "1"),
            ("bgpPrevAdjacentAsNumber", "3"),
            ("bgpLocalPreference", "0"),
        ],
    );
    let numbers: Vec<u32> = (1..=1_025).collect();
    for (count, is_kept) in [(1_024, true), (1_025, false)] {
        let long =
            Xdr::default().words(&[0, 1, 2, 3, 1, 2]).array(&numbers[..count]).words(&[0, 0]);
        let mut bench = Bench::new();
        let counts = bench.decode(&datagram(1, &[flow_sample(&[(1003, long)])]));
        assert_eq!(counts.elements_over_limit, u64::from(!is_kept));
        let got = shown(&bench.records[0]);
        assert_eq!(got.contains_key("bgpDestinationAsPath"), is_kept);
        assert_eq!(got["bgpDestinationAsNumber"], count.to_string());
    }
}

#[test]
fn users_urls_labels_and_translations_have_their_elements() {
    let x = Xdr::default;
    expect(
        &told(&[
            (1004, x().words(&[106]).opaque(b"alice").words(&[106]).opaque(b"")),
            (1005, x().words(&[2]).opaque(b"/index").opaque(b"example.org")),
            (1006, x().words(&[1, 0x0a00_0002]).array(&[0x0001_0040, 0x0002_0140]).array(&[0x141])),
            (1007, x().words(&[1, 0x0a00_0003, 2, 0x2001_0db8, 0, 0, 3])),
            (1020, x().words(&[4_000, 70_000])),
        ]),
        &[
            ("userName", "alice"),
            ("httpRequestTarget", "/index"),
            ("httpRequestHost", "example.org"),
            ("urlDirection", "2"),
            ("mplsTopLabelStackSection", "000100"),
            ("mplsLabelStackSection2", "000201"),
            ("mplsTopLabelIPv4Address", "10.0.0.2"),
            ("mplsOutLabelStack", "00000141"),
            ("postNATSourceIPv4Address", "10.0.0.3"),
            ("postNATDestinationIPv6Address", "2001:db8::3"),
            ("postNAPTSourceTransportPort", "4000"),
        ],
    );
    expect(
        &told(&[
            (1009, x().opaque(b"vpn").words(&[77, 3])),
            (1012, x().array(&[0x8100_0007])),
            (1023, x().words(&[90, 17, 1, 2, 3, 4, 0, 0])),
            (1030, x().words(&[5_000])),
            (1042, x().opaque(b"NO_SOCKET")),
        ])
        .into_iter()
        .filter(|(name, _)| !name.contains("tunnelEgressIPv4"))
        .collect(),
        &[
            ("mplsVcInstanceName", "vpn"),
            ("pseudoWireId", "77"),
            ("mplsVcLabelCos", "3"),
            ("strippedVlanTags", "81000007"),
            ("tunnelEgressSourceIPv4Address", "0.0.0.1"),
            ("tunnelEgressDestinationIPv4Address", "0.0.0.2"),
            ("ingressVni", "5000"),
            ("linuxDropReason", "NO_SOCKET"),
        ],
    );
}

#[test]
fn interfaces_that_are_none_are_no_numbers() {
    let of = |input: u32, output: u32| {
        let got = only(&[(1, Xdr::default().words(&[1, 3, 1, 1, 0, input, output, 0]))]);
        [
            "ingressInterface",
            "egressInterface",
            "forwardingStatus",
            "discardReason",
            "egressInterfaceCount",
        ]
        .map(|name| got.get(name).cloned().unwrap_or_default())
    };
    assert_eq!(of(0, 0x3fff_ffff), ["0", "1073741823", "", "", ""]);
    assert_eq!(of(1, 0x4000_0102), ["1", "", "128", "258", ""]);
    assert_eq!(of(1, 0x8000_0007), ["1", "", "", "", "7"]);
    assert_eq!(of(0x4000_0001, 0xc000_0001), ["", "", "", "", ""]);
}

#[test]
fn a_discarded_packet_is_no_traffic() {
    let sample = Xdr::default().words(&[1, 0, 3, 9, 3, 0, 258]).blocks(&[raw(
        1,
        64,
        &ethernet(&[&[8, 0], &ipv4()]),
    )]);
    let got = only(&[(5, sample)]);
    for (name, value) in [
        ("sourceIPv4Address", "10.0.0.1"),
        ("ingressInterface", "3"),
        ("egressInterface", "0"),
        ("forwardingStatus", "128"),
        ("discardReason", "258"),
        ("samplingDrops", "9"),
        ("droppedPacketDeltaCount", "1"),
        ("droppedOctetDeltaCount", "40"),
    ] {
        assert_eq!(got[name], value);
    }
    for name in ["octetDeltaCount", "packetDeltaCount", "samplingInterval"] {
        assert!(!got.contains_key(name), "{name}");
    }
}

#[test]
fn counters_have_names_and_those_not_kept_are_absent() {
    let x = Xdr::default;
    let generic = x()
        .words(&[9, 6])
        .hyper(1_000_000)
        .words(&[1, 3])
        .hyper(11)
        .words(&[12, u32::MAX, 14, 15, 16, 17])
        .hyper(u64::MAX)
        .words(&[22, 23, 24, 25, 26, 0]);
    let name = x().opaque(b"eth9");
    let vlan = x().words(&[100]).hyper(5).words(&[1, 2, 3, 4]);
    let sample = x().words(&[1, 8]).blocks(&[(1, generic), (1005, name), (5, vlan)]);
    let mut bench = Bench::new();
    let counts = bench.decode(&datagram(5, &[(2, sample)]));
    assert_eq!((counts.records, counts.parts_unknown, counts.parts_malformed), (1, 0, 0));
    assert_eq!(bench.records[0].record_type, RecordType::Counters);
    expect(
        &shown(&bench.records[0]),
        &[
            ("exportSequenceNumber", "5"),
            ("exportRecordIndex", "0"),
            ("samplingSourceClass", "0"),
            ("samplingSourceIndex", "8"),
            ("ingressInterface", "9"),
            ("ingressInterfaceType", "6"),
            ("ifSpeed", "1000000"),
            ("ifDirection", "1"),
            ("ifStatus", "3"),
            ("ifInOctets", "11"),
            ("ifInUcastPkts", "12"),
            ("ifInBroadcastPkts", "14"),
            ("ifInDiscards", "15"),
            ("ifInErrors", "16"),
            ("ifInUnknownProtos", "17"),
            ("ifOutUcastPkts", "22"),
            ("ifOutMulticastPkts", "23"),
            ("ifOutBroadcastPkts", "24"),
            ("ifOutDiscards", "25"),
            ("ifOutErrors", "26"),
            ("ifPromiscuousMode", "0"),
            ("interfaceName", "eth9"),
            ("vlanId", "100"),
            ("vlanOctets", "5"),
            ("vlanUcastPkts", "1"),
            ("vlanMulticastPkts", "2"),
            ("vlanBroadcastPkts", "3"),
            ("vlanDiscards", "4"),
        ],
    );
    let other = only(&[(4, x().words(&[1, 2, 8]).blocks(&[(1001, x().words(&[1, 2, 3]))]))]);
    assert!(!other.contains_key("ingressInterface"), "a source that is no interface");
    assert_eq!(other["cpuFiveMinutes"], "3");
}
