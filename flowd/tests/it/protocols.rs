//! One port takes every protocol, and what each exporter told of itself is said with answers.

use crate::support::{Collector, info, run, wait_until};
use flowd::model::ObservationDomainId;
use flowd::model::time::SysUptime;
use flowd::wire::fixed::{Header, Version};
use flowd::wire::{
    FieldSpecifier, OptionsTemplateRecord, TemplateId, TemplateRecord, Writer, ipfix, v9,
};
use std::net::UdpSocket;

const NOW: u32 = 1_700_000_000;

fn field(id: u16, length: u16) -> FieldSpecifier {
    FieldSpecifier { enterprise: 0, id, length }
}

fn id(raw: u16) -> TemplateId {
    TemplateId::new(raw).unwrap()
}

/// A datagram of two records of zeros but for the source address, sampled 1 in 100 where the
/// format can say it.
fn fixed(version: Version) -> Vec<u8> {
    let mut writer = Writer::default();
    Header {
        version,
        count: 2,
        sys_uptime: SysUptime(3_600_000),
        unix_seconds: NOW,
        unix_nanos: 0,
        sequence_number: Some(0),
        engine: 0,
        sampling_interval: 100,
    }
    .encode(&mut writer);
    for _ in 0..2 {
        writer.bytes(&[192, 0, 2, 77]);
        writer.zeros(version.record_size() - 4);
    }
    writer.as_bytes().to_vec()
}

fn template() -> TemplateRecord {
    TemplateRecord { id: id(256), fields: vec![field(8, 4), field(1, 4)] }
}

const RECORD: [u8; 8] = [192, 0, 2, 77, 0, 0, 0, 50];

/// NetFlow v9: a sampler of 1 in 500 in options data, and two flows.
fn v9_message() -> Vec<u8> {
    let mut encoder = v9::MessageEncoder::new(1_432);
    let options = OptionsTemplateRecord {
        id: id(300),
        scopes: vec![field(1, 4)],
        options: vec![field(48, 1), field(50, 2)],
    };
    assert!(encoder.options_template(&options));
    assert!(encoder.data(id(300), 7, |writer| writer.bytes(&[0, 0, 0, 0, 3, 1, 244])));
    assert!(encoder.template(&template()));
    for _ in 0..2 {
        assert!(encoder.data(id(256), 8, |writer| writer.bytes(&RECORD)));
    }
    let header = v9::Header {
        count: 0,
        sys_uptime: SysUptime(3_600_000),
        unix_seconds: NOW,
        sequence_number: 0,
        source_id: ObservationDomainId(9),
    };
    encoder.finish(header).to_vec()
}

fn ipfix_message(sequence_number: u32) -> Vec<u8> {
    let mut encoder = ipfix::MessageEncoder::new(1_432);
    assert!(encoder.template(&template()));
    for _ in 0..2 {
        assert!(encoder.data(id(256), 8, |writer| writer.bytes(&RECORD)));
    }
    let domain = ObservationDomainId(10);
    let header = ipfix::Header { length: 0, export_seconds: NOW, sequence_number, domain };
    encoder.finish(header).to_vec()
}

/// sFlow v5: a flow sample with sampled IPv4 data, 1 in 1,000.
fn sflow_datagram() -> Vec<u8> {
    let mut writer = Writer::default();
    // Agent 192.0.2.200, sub-agent 5, the first datagram, one sample.
    for word in [5, 1, 0xc000_02c8, 5, 0, 3_600_000, 1] {
        writer.u32(word);
    }
    // A flow sample of 32 octets and a record of 8 and 32 more.
    for word in [1, 72, 0, 3, 1_000, 1_000, 0, 3, 4, 1] {
        writer.u32(word);
    }
    // Sampled IPv4: length, protocol, addresses, ports, flags, ToS.
    for word in [3, 32, 60, 17, 0xc000_024d, 0xc000_0201, 53, 1_024, 0, 0] {
        writer.u32(word);
    }
    writer.as_bytes().to_vec()
}

#[test]
fn one_port_takes_every_protocol_and_answers_say_what_was_sampled_and_lost() {
    let store = tempfile::tempdir().unwrap();
    let collector = Collector::start(store.path());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = collector.url();
    let address = url.trim_start_matches("udp://");
    let messages = [
        fixed(Version::V1),
        fixed(Version::V5),
        fixed(Version::V7),
        v9_message(),
        ipfix_message(0),
        // Seven Data Records are missing between the two.
        ipfix_message(9),
        sflow_datagram(),
    ];
    for message in &messages {
        socket.send_to(message, address).unwrap();
    }
    wait_until("all is decoded", || info(store.path())["datagrams"] == 7);
    collector.stop().ok();
    let info = info(store.path());
    let exporters = info["exporters"].as_array().unwrap();
    let count = |protocol: &str, what: &str| {
        let of = exporters.iter().find(|exporter| exporter["protocol"] == protocol);
        of.unwrap_or_else(|| panic!("{info}"))[what].clone()
    };
    for (protocol, records) in [
        ("netflow-v1", 2),
        ("netflow-v5", 2),
        ("netflow-v7", 2),
        ("netflow-v9", 3),
        ("ipfix", 4),
        ("sflow-v5", 1),
    ] {
        assert_eq!(count(protocol, "records"), records, "{protocol}: {info}");
    }
    assert_eq!(count("ipfix", "recordsLost"), 7);
    let store = store.path().to_str().unwrap();
    let answer = run(&["query", "--store", store, "ip 192.0.2.77", "--summary", "-o", "json"]).ok();
    assert_eq!(answer.json()[0]["deltaFlowCount"], 13);
    let said = run(&["query", "--store", store, "ip 192.0.2.77", "--summary", "-o", "table"]).ok();
    for words in ["127.0.0.1/0 1 in 100", "127.0.0.1/9 1 in 500", "192.0.2.200/5 1 in 1000"] {
        assert!(said.stderr.contains(words), "{words}: {}", said.stderr);
    }
    assert!(said.stderr.contains("127.0.0.1/10: 7 never arrived"), "{}", said.stderr);
}
