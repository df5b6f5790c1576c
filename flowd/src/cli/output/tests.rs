//! What each printer writes, as a whole.

use super::*;
use crate::model::ie_learned::{self, Description};
use crate::model::time::UnixMillis;
use crate::model::{
    Column, ElementType, Extra, ExtraSpec, FlowRecord, List, ObservationDomainId, Origin, Protocol,
    RecordType, Semantics, Units, VARIABLE_LENGTH, ie,
};
use crate::query::{Coverage, ExporterLoss, Gap, SampledExporter};
use std::net::IpAddr;

const STYLE: Style = Style { headings: true, colour: false };

fn tcp() -> FlowRecord {
    let mut record = FlowRecord {
        source_transport_port: 51_234,
        destination_transport_port: 443,
        protocol_identifier: 6,
        octet_delta_count: 12_345_678,
        packet_delta_count: 9_876,
        flow_start_milliseconds: 1_772_356_500_123,
        flow_end_milliseconds: 1_772_356_561_128,
        tcp_control_bits: 0xf01b,
        source_mac_address: [0, 0x11, 0x22, 0x33, 0x44, 0xff],
        ..FlowRecord::default()
    };
    for column in [
        Column::SourceTransportPort,
        Column::DestinationTransportPort,
        Column::ProtocolIdentifier,
        Column::OctetDeltaCount,
        Column::PacketDeltaCount,
        Column::FlowStartMilliseconds,
        Column::FlowEndMilliseconds,
        Column::TcpControlBits,
        Column::SourceMacAddress,
    ] {
        record.present.insert(column);
    }
    record.set_source_address("192.0.2.1".parse().unwrap());
    record.set_destination_address("198.51.100.7".parse().unwrap());
    record
}

fn extra(enterprise: u32, id: u16, value: &[u8]) -> Extra {
    Extra { spec: ExtraSpec { enterprise, id, length: VARIABLE_LENGTH }, value: value.to_vec() }
}

fn records() -> Vec<FlowRecord> {
    let mut ipv6 = tcp();
    ipv6.present.remove(Column::SourceIpv4Address);
    ipv6.present.remove(Column::DestinationIpv4Address);
    ipv6.set_source_address("2001:db8::1".parse().unwrap());
    ipv6.set_destination_address("2001:db8::2".parse().unwrap());
    ipv6.reverse_octet_delta_count = 1_000;
    ipv6.present.insert(Column::ReverseOctetDeltaCount);
    ipv6.reverse_packet_delta_count = 4;
    ipv6.present.insert(Column::ReversePacketDeltaCount);

    let mut icmp = tcp();
    for column in [
        Column::SourceTransportPort,
        Column::DestinationTransportPort,
        Column::TcpControlBits,
        Column::SourceMacAddress,
    ] {
        icmp.present.remove(column);
    }
    icmp.protocol_identifier = 1;
    icmp.icmp_type_code_ipv4 = 0x0301;
    icmp.present.insert(Column::IcmpTypeCodeIpv4);
    icmp.octet_delta_count = 84;
    icmp.packet_delta_count = 1;

    let mut odd = FlowRecord { protocol_identifier: 200, ..FlowRecord::default() };
    odd.present.insert(Column::ProtocolIdentifier);
    odd.present.insert(Column::OctetDeltaCount);
    odd.set_source_address(IpAddr::from([0, 0, 0, 0]));
    odd.set_source_address("2001:db8::9".parse().unwrap());
    odd.extras = vec![
        extra(424_242, 1, &[0xde, 0xad]),
        extra(424_242, 1, &[0xbe, 0xef]),
        extra(0, 1, &[7]),
        extra(424_242, 2, b""),
    ];

    let mut options =
        FlowRecord { record_type: RecordType::Options, sampler_id: 3, ..FlowRecord::default() };
    options.present.insert(Column::SamplerId);
    options.extras = vec![extra(0, 65_000, &[1])];
    vec![tcp(), ipv6, icmp, odd, options]
}

fn printed(format: Format, style: Style, origin: Option<&Origin>) -> String {
    let mut printer = Printer::new(format, &Columns::Records, style, Vec::new());
    let mut rows = RecordRows::default();
    for record in records() {
        rows.with_row(&record, origin, |row| printer.row(row)).unwrap();
    }
    String::from_utf8(printer.finish().unwrap()).unwrap()
}

#[test]
fn records_as_json() {
    let json = printed(Format::Json, STYLE, None);
    for line in json.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(object.is_object());
    }
    insta::assert_snapshot!(json);
}

#[test]
fn records_as_json_say_where_they_came_from() {
    let origin = Origin {
        address: "192.0.2.9".parse().unwrap(),
        domain: ObservationDomainId(7),
        protocol: Protocol::Ipfix,
    };
    insta::assert_snapshot!(printed(Format::Json, STYLE, Some(&origin)).lines().nth(3).unwrap());
}

#[test]
fn records_as_a_table() {
    insta::assert_snapshot!(printed(Format::Table, STYLE, None));
}

#[test]
fn records_as_csv() {
    insta::assert_snapshot!(printed(Format::Csv, STYLE, None));
}

#[test]
fn into_a_pipe_go_neither_headings_nor_colour() {
    let piped = printed(Format::Table, Style::of_output(false), None);
    assert!(!piped.contains("Source"));
    let terminal = printed(Format::Table, Style::of_output(true), None);
    assert!(terminal.starts_with("\u{1b}[1mStart"));
    assert_eq!(terminal.lines().count(), piped.lines().count() + 1);
}

type Row<'a> = Vec<(&'a str, Value<'a>)>;

/// The answer to `-a srcip,dstport,proto`.
fn groups() -> (Columns, Vec<Row<'static>>) {
    let heading = |label: &str, names: &[&str]| Heading {
        label: label.to_owned(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
    };
    let columns = Columns::Fixed(vec![
        heading("srcip", &["sourceIPv4Address", "sourceIPv6Address"]),
        heading("dstport", &["destinationTransportPort"]),
        heading("proto", &["protocolIdentifier"]),
        heading("flows", &["deltaFlowCount"]),
        heading("packets", &["packetDeltaCount"]),
        heading("bytes", &["octetDeltaCount"]),
        heading("start", &["flowStartMilliseconds"]),
        heading("end", &["flowEndMilliseconds"]),
    ]);
    let group = |name, address: &str, port: Option<u64>, octets| {
        let mut row = vec![(name, Value::Address(address.parse().unwrap()))];
        row.extend(port.map(|port| ("destinationTransportPort", Value::Unsigned(port))));
        row.extend([
            ("protocolIdentifier", Value::Unsigned(17)),
            ("deltaFlowCount", Value::Unsigned(12)),
            ("packetDeltaCount", Value::Unsigned(1_500_000)),
            ("octetDeltaCount", Value::Unsigned(octets)),
            ("flowStartMilliseconds", Value::Millis(1_772_356_500_123)),
            ("flowEndMilliseconds", Value::Millis(1_772_356_561_128)),
        ]);
        row
    };
    let rows = vec![
        group("sourceIPv6Address", "2001:db8::1", Some(53), 2_500_000_000),
        group("sourceIPv4Address", "192.0.2.1", Some(65_535), 999_999),
        group("sourceIPv4Address", "192.0.2.2", None, 1),
    ];
    (columns, rows)
}

fn printed_groups(format: Format) -> String {
    let (columns, rows) = groups();
    let mut printer = Printer::new(format, &columns, STYLE, Vec::new());
    for row in &rows {
        printer.row(row).unwrap();
    }
    String::from_utf8(printer.finish().unwrap()).unwrap()
}

#[test]
fn groups_in_all_formats() {
    let all = [Format::Table, Format::Json, Format::Csv].map(printed_groups);
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn an_answer_without_rows_is_a_csv_header_and_nothing_else() {
    let (columns, _) = groups();
    for (format, lines) in [(Format::Table, 0), (Format::Json, 0), (Format::Csv, 1)] {
        let printer = Printer::new(format, &columns, STYLE, Vec::new());
        let text = String::from_utf8(printer.finish().unwrap()).unwrap();
        assert_eq!(text.lines().count(), lines, "{format:?}");
    }
}

#[test]
fn every_kind_of_value_has_its_form_in_json() {
    let row = [
        ("unsigned", Value::Unsigned(u64::MAX)),
        ("signed", Value::Signed(-1)),
        ("float", Value::Float(0.25)),
        ("nan", Value::Float(f64::NAN)),
        ("infinite", Value::Float(f64::INFINITY)),
        ("boolean", Value::Boolean(true)),
        ("address", Value::Address("2001:db8::".parse().unwrap())),
        ("mac", Value::Mac([0, 1, 2, 0xa, 0xb, 0xff])),
        ("octets", Value::Octets(&[0, 0xab])),
        ("text", Value::Text("a \"b\" \\ \u{1b}[0m\n\u{9b}\u{202e} ä")),
        ("time", Value::Millis(-1)),
    ];
    let mut printer = Printer::new(Format::Json, &Columns::Records, STYLE, Vec::new());
    printer.row(&row).unwrap();
    let text = String::from_utf8(printer.finish().unwrap()).unwrap();
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["text"], "a \"b\" \\ \u{1b}[0m\n\u{9b}\u{202e} ä");
    assert!(!text.trim_end().contains(escape::is_unsafe));
    insta::assert_snapshot!(text);
}

#[test]
fn hostile_text_is_quoted_in_csv_and_harmless_in_tables() {
    let row = [
        ("exportProtocol", Value::Text("a,\"b\"\u{1b}[2J")),
        ("35632:999", Value::Text("x\"\u{1b}]0;title\u{7}")),
    ];
    let heading = Heading { label: "via".to_owned(), names: vec!["exportProtocol".to_owned()] };
    let mut shown = Vec::new();
    for (format, columns) in [
        (Format::Csv, Columns::Records),
        (Format::Csv, Columns::Fixed(vec![heading.clone()])),
        (Format::Table, Columns::Fixed(vec![heading])),
    ] {
        let mut printer = Printer::new(format, &columns, STYLE, Vec::new());
        printer.row(&row).unwrap();
        let text = String::from_utf8(printer.finish().unwrap()).unwrap();
        assert!(!text.contains('\u{1b}'));
        shown.push(text.lines().nth(1).unwrap().to_owned());
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_long_table_is_written_as_it_comes() {
    let (columns, rows) = groups();
    let mut printer = Printer::new(Format::Table, &columns, STYLE, Vec::new());
    for _ in 0..2_500 {
        printer.row(&rows[0]).unwrap();
    }
    assert!(!printer.writer.is_empty());
    let text = String::from_utf8(printer.finish().unwrap()).unwrap();
    assert_eq!(text.lines().count(), 2_501);
}

#[test]
fn coverage_names_what_is_missing() {
    let empty = Coverage::default();
    let complete = Coverage {
        span: Some((UnixMillis(1_772_356_500_000), UnixMillis(1_772_360_100_000))),
        ..Coverage::default()
    };
    let loss = |index: u8, dropped| ExporterLoss {
        address: IpAddr::from([192, 0, 2, index]),
        domain: ObservationDomainId(7),
        sequence_missing: 12,
        dropped,
    };
    let lossy = Coverage {
        damage: vec!["a/b.block: damaged".to_owned()],
        gaps: vec![Gap {
            since: UnixMillis(1_772_356_560_000),
            until: UnixMillis(1_772_356_620_000),
            records: Some(1_234),
            reason: "backlog\u{1b}Full".to_owned(),
        }],
        losses: (1..8).map(|index| loss(index, u64::from(index) % 2)).collect(),
        sampling: vec![SampledExporter {
            address: "2001:db8::9".parse().unwrap(),
            domain: ObservationDomainId(0),
            interval: 1_000,
        }],
        ..complete.clone()
    };
    let mut shown = Vec::new();
    for coverage in [&empty, &complete, &lossy] {
        let json = coverage_json(coverage);
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        shown.extend([coverage_text(coverage), json]);
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn formats_are_named() {
    assert_eq!("json".parse(), Ok(Format::Json));
    assert!("yaml".parse::<Format>().is_err());
}

fn json_of(value: Value<'_>) -> String {
    let mut printer = Printer::new(Format::Json, &Columns::Records, STYLE, Vec::new());
    printer.row(&[("it", value)]).unwrap();
    let text = String::from_utf8(printer.finish().unwrap()).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    let value = text.trim_end().strip_prefix("{\"it\":").unwrap();
    value.strip_suffix('}').unwrap().to_owned()
}

#[test]
fn text_that_is_no_utf_8_is_shown_as_far_as_it_is() {
    assert_eq!(json_of(Value::BrokenText(&[b'a', 0xff, b'"', 0x1b])), "\"a\u{fffd}\\\"\\u001b\"");
}

/// Template 256: an interface, its name, another name.
const SUB_TEMPLATES: &[u8] = &[
    1, 0, 0, 3, 0, 0, 0, 0, 0, 10, 0, 4, 0, 0, 0, 0, 0, 82, 255, 255, 0, 0, 0, 0, 0, 82, 255, 255,
];

#[test]
fn lists_are_objects_in_json() {
    for (element_type, octets, json) in [
        (
            ElementType::BasicList,
            &[3, 0, 82, 255, 255, 2, b'e', b'0', 3, b'a', 0xff, b'"'][..],
            "{'semantic':'allOf','interfaceName':['e0','a\u{fffd}\\\"']}",
        ),
        (
            ElementType::BasicList,
            &[255, 0, 8, 0, 4, 192, 0, 2, 1],
            "{'semantic':'undefined','sourceIPv4Address':['192.0.2.1']}",
        ),
        (
            ElementType::BasicList,
            &[0, 0x83, 0xe7, 0, 1, 0, 6, 0x79, 0x32, 7],
            "{'semantic':'noneOf','424242:999':['07']}",
        ),
        (
            ElementType::BasicList,
            &[1, 0, 6, 0, 2, 0xf0, 0x1b],
            "{'semantic':'exactlyOneOf','tcpControlBits':[27]}",
        ),
        (ElementType::BasicList, &[9, 0, 4, 0, 1], "{'semantic':'9','protocolIdentifier':[]}"),
        (
            ElementType::SubTemplateList,
            &[4, 1, 0, 0, 0, 0, 9, 1, b'a', 1, b'b', 0, 0, 0, 8, 0, 0],
            "{'semantic':'ordered','records':[\
             {'ingressInterface':9,'interfaceName':'a','interfaceName#2':'b'},\
             {'ingressInterface':8,'interfaceName':'','interfaceName#2':''}]}",
        ),
        (
            ElementType::SubTemplateMultiList,
            &[2, 1, 0, 0, 10, 0, 0, 0, 9, 0, 0, 1, 1, 0, 5, 0xab],
            "{'semantic':'oneOrMoreOf','records':[\
             {'ingressInterface':9,'interfaceName':'','interfaceName#2':''},'ab']}",
        ),
        // What is no list, or of a template that is not known, is octets.
        (ElementType::SubTemplateList, &[4, 1, 1, 9], "'04010109'"),
        (ElementType::SubTemplateList, &[4, 1, 0, 9], "'04010009'"),
        (ElementType::BasicList, &[], "''"),
    ] {
        let list = Value::List(List { element_type, octets, templates: &[] });
        let shown = json_of(list.with_templates(SUB_TEMPLATES));
        assert_eq!(shown, json.replace('\'', "\""));
    }
}

#[test]
fn the_templates_of_a_record_s_lists_are_no_value_of_it() {
    let extra = |enterprise, id, value: &[u8]| Extra {
        spec: ExtraSpec { enterprise, id, length: VARIABLE_LENGTH },
        value: value.to_vec(),
    };
    let extras = vec![
        extra(0, 292, &[3, 1, 0, 0, 0, 0, 9, 0, 0]),
        extra(ie::PEN_SUB_TEMPLATES, 0, SUB_TEMPLATES),
    ];
    let record = FlowRecord { extras, ..FlowRecord::default() };
    let mut printer = Printer::new(Format::Json, &Columns::Records, STYLE, Vec::new());
    RecordRows::default().with_row(&record, None, |row| printer.row(row)).unwrap();
    assert_eq!(
        String::from_utf8(printer.finish().unwrap()).unwrap(),
        "{\"subTemplateList\":{\"semantic\":\"allOf\",\"records\":[{\"ingressInterface\":9,\
         \"interfaceName\":\"\",\"interfaceName#2\":\"\"}]}}\n"
    );
}

#[test]
fn an_element_is_called_by_its_name_as_soon_as_that_is_told() {
    let spec = ExtraSpec { enterprise: 500_040, id: 1, length: 2 };
    let extras = vec![Extra { spec, value: b"hi".to_vec() }];
    let record = FlowRecord { extras, ..FlowRecord::default() };
    let mut rows = RecordRows::default();
    let mut name_and_value = || {
        rows.with_row(&record, None, |row| {
            let (name, value) = row[0];
            format!("{name} {value}")
        })
    };
    assert_eq!(name_and_value(), "500040:1 6869");
    ie_learned::learn(&Description {
        enterprise: 500_040,
        id: 1,
        name: "greeting",
        element_type: ElementType::String,
        semantics: Semantics::Default,
        units: Units::None,
        range: None,
        exporter: None,
    });
    assert_eq!(name_and_value(), "greeting hi");
}
