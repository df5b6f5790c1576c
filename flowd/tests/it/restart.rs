//! A collector that ends in the middle of what its exporters send, and the next one on its store.

use crate::support::{Background, Ended, flowd, free_port, info, run, wait_until};
use flowd::model::ObservationDomainId;
use flowd::model::time::SysUptime;
use flowd::wire::{FieldSpecifier, TemplateId, TemplateRecord, ipfix, v9};
use serde_json::Value;
use std::net::UdpSocket;
use std::path::Path;

/// Records of one data set.
const SET_RECORDS: u64 = 3;

/// One collector of several on the same store.
struct Collector {
    process: Background,
    port: u16,
}

impl Collector {
    fn start(store: &Path) -> Self {
        let port = free_port();
        let listen = format!("udp://127.0.0.1:{port}");
        let store_text = store.to_str().unwrap();
        // What a killed one left behind is no sign of life.
        drop(std::fs::remove_file(store.join("control.sock")));
        let mut process = Background::start(flowd().args([
            "collect",
            "--listen",
            &listen,
            "--store",
            store_text,
            "--workers",
            "2",
        ]));
        wait_until("the collector listens", || {
            assert!(!process.has_ended(), "the collector ended: {:?}", process.left());
            store.join("control.sock").exists()
        });
        Self { process, port }
    }

    fn send(&self, exporter: &UdpSocket, messages: &[Vec<u8>]) {
        for message in messages {
            exporter.send_to(message, ("127.0.0.1", self.port)).unwrap();
        }
    }

    fn stop(self) -> Ended {
        self.process.terminate().ok()
    }

    /// Kills it once the counters on disk say that so many datagrams were received, and have been
    /// written once more since: what is saved with them is on disk then.
    fn kill(mut self, store: &Path, datagrams: u64) {
        let saved = || -> Value {
            let text = std::fs::read_to_string(store.join("statistics.json")).unwrap_or_default();
            serde_json::from_str(&text).unwrap_or_default()
        };
        wait_until("the counters are saved", || saved()["collect"]["datagrams"] == datagrams);
        let at = saved()["at"].clone();
        wait_until("they are saved again", || saved()["at"] != at && !saved()["at"].is_null());
        self.process.signal("KILL");
        self.process.left();
    }
}

#[derive(Clone, Copy, Debug)]
enum Format {
    V9,
    Ipfix,
}

/// What one exporter sends: a message after the other, with numbers that follow one another.
struct Messages {
    format: Format,
    sequence_number: u32,
    record_count: u64,
    all: Vec<Vec<u8>>,
}

impl Messages {
    fn new(format: Format) -> Self {
        Self { format, sequence_number: 100, record_count: 0, all: Vec::new() }
    }

    /// Adds a message of templates, and then data sets of these templates. Each record has
    /// another octetDeltaCount.
    fn add(&mut self, templates: &[u16], sets: &[u16]) {
        let templates: Vec<_> = templates
            .iter()
            .map(|&raw| TemplateRecord { id: id(raw), fields: fields(raw) })
            .collect();
        let records = sets.len() as u64 * SET_RECORDS;
        let mut bodies = Vec::new();
        for &raw in sets {
            let mut body = Vec::new();
            for _ in 0..SET_RECORDS {
                body.extend(self.record_count.to_be_bytes());
                body.resize(body.len() + usize::from(raw - 256), 6);
                self.record_count += 1;
            }
            bodies.push((id(raw), body));
        }
        let domain = ObservationDomainId(7);
        let message = match self.format {
            Format::V9 => {
                let mut encoder = v9::MessageEncoder::new(1_400);
                fill(&mut encoder, &templates, &bodies);
                let header = v9::Header {
                    count: 0,
                    sys_uptime: SysUptime(50_000 + self.sequence_number),
                    unix_seconds: 1_700_000_000,
                    sequence_number: self.sequence_number,
                    source_id: domain,
                };
                encoder.finish(header).to_vec()
            }
            Format::Ipfix => {
                let mut encoder = ipfix::MessageEncoder::new(1_400);
                fill(&mut encoder, &templates, &bodies);
                let header = ipfix::Header {
                    length: 0,
                    export_seconds: 1_700_000_000,
                    sequence_number: self.sequence_number,
                    domain,
                };
                encoder.finish(header).to_vec()
            }
        };
        self.sequence_number += match self.format {
            Format::V9 => 1,
            Format::Ipfix => u32::try_from(records).unwrap(),
        };
        self.all.push(message);
    }
}

fn fill<D: flowd::wire::Dialect>(
    encoder: &mut flowd::wire::MessageEncoder<D>,
    templates: &[TemplateRecord],
    sets: &[(TemplateId, Vec<u8>)],
) {
    for template in templates {
        assert!(encoder.template(template));
    }
    for (id, body) in sets {
        assert!(encoder.data(*id, body.len(), |writer| writer.bytes(body)));
    }
}

fn id(raw: u16) -> TemplateId {
    TemplateId::new(raw).unwrap()
}

/// octetDeltaCount, and so much protocolIdentifier that each template has another length.
fn fields(raw: u16) -> Vec<FieldSpecifier> {
    let octets = FieldSpecifier { enterprise: 0, id: 1, length: 8 };
    let protocol = FieldSpecifier { enterprise: 0, id: 4, length: 1 };
    std::iter::once(octets).chain((256..raw).map(|_| protocol)).collect()
}

/// Templates first and data first, several templates, one that comes late and one that is
/// repeated.
fn capture(format: Format) -> Messages {
    let mut messages = Messages::new(format);
    messages.add(&[], &[256]);
    messages.add(&[256], &[256]);
    messages.add(&[], &[256, 257]);
    messages.add(&[], &[257, 258]);
    messages.add(&[257], &[257, 256]);
    messages.add(&[], &[258, 257]);
    messages.add(&[256, 257, 258], &[]);
    messages.add(&[], &[258, 256]);
    messages
}

/// The octetDeltaCount of every record of a store, in order of size.
fn stored(store: &Path) -> Vec<u64> {
    let ended = run(&["query", "--store", store.to_str().unwrap(), "-o", "json", "--quiet"]);
    assert!(matches!(ended.code(), Some(0 | 1)), "{ended:?}");
    let mut octets: Vec<u64> =
        ended.json().iter().map(|record| record["octetDeltaCount"].as_u64().unwrap()).collect();
    octets.sort_unstable();
    octets
}

/// Asserts that the store has every record once, and that its books balance.
fn check(store: &Path, records: u64, what: &str) {
    assert_eq!(stored(store), (0..records).collect::<Vec<_>>(), "{what}");
    let text = std::fs::read_to_string(store.join("statistics.json")).unwrap();
    let statistics: Value = serde_json::from_str(&text).unwrap();
    let count = |name: &str| statistics["collect"][name].as_u64().unwrap();
    assert_eq!(count("sets"), count("setsDecoded"), "{what}: {statistics}");
    assert_eq!((count("setsHeld"), count("records")), (0, records), "{what}: {statistics}");
}

#[test]
fn a_restart_at_any_message_loses_no_record_for_want_of_a_template() {
    for format in [Format::V9, Format::Ipfix] {
        let messages = capture(format);
        for split in 0..=messages.all.len() {
            let folder = tempfile::tempdir().unwrap();
            let store = folder.path();
            let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
            let (before, after) = messages.all.split_at(split);
            for part in [before, after] {
                let collector = Collector::start(store);
                collector.send(&exporter, part);
                // At its end it takes what has arrived already.
                collector.stop();
            }
            let what = format!("{format:?}, split at {split}");
            check(store, messages.record_count, &what);
            let info = info(store);
            assert_eq!(info["exporters"][0]["sequenceGaps"], 0, "{what}: {info}");
            assert_eq!(info["exporters"][0]["restarts"], 0, "{what}: {info}");
            assert_eq!(info["exporters"][0]["messages"], 8, "{what}: {info}");
        }
    }
}

#[test]
fn a_killed_collector_leaves_what_it_has_saved_to_the_next() {
    for (format, split) in [(Format::V9, 1), (Format::Ipfix, 4), (Format::V9, 6)] {
        let messages = capture(format);
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path();
        let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (before, after) = messages.all.split_at(split);
        let collector = Collector::start(store);
        collector.send(&exporter, before);
        collector.kill(store, before.len() as u64);
        let collector = Collector::start(store);
        collector.send(&exporter, after);
        let ended = collector.stop();
        assert!(ended.stderr.contains("data sets that wait"), "{}", ended.stderr);
        check(store, messages.record_count, &format!("{format:?}, killed at {split}"));
    }
}

#[test]
fn what_is_lost_between_two_collectors_is_a_gap() {
    for (format, lost, restarted) in
        [(Format::V9, "messagesLost", false), (Format::Ipfix, "recordsLost", true)]
    {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path();
        let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut messages = Messages::new(format);
        messages.add(&[256], &[256]);
        for _ in 0..9 {
            messages.add(&[], &[256]);
        }
        let collector = Collector::start(store);
        collector.send(&exporter, &messages.all[..3]);
        collector.stop();
        let collector = Collector::start(store);
        // Messages 3 to 5 are lost.
        collector.send(&exporter, &messages.all[6..]);
        if restarted {
            let mut again = Messages::new(format);
            again.sequence_number = 0;
            again.add(&[256], &[256]);
            collector.send(&exporter, &again.all);
        }
        collector.stop();
        let exporter = info(store)["exporters"][0].clone();
        let units = if restarted { 3 * SET_RECORDS } else { 3 };
        assert_eq!((&exporter["sequenceGaps"], &exporter[lost]), (&1.into(), &units.into()));
        assert_eq!(exporter["restarts"], u64::from(restarted), "{exporter}");
    }
}

#[test]
fn files_that_cannot_be_used_are_put_aside_and_no_reason_to_fail() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    Collector::start(store).stop();
    let names = ["templates.bin", "pending.log", "sequences.bin"];
    for name in names {
        std::fs::write(store.join(name), "no such file").unwrap();
    }
    let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
    let messages = capture(Format::V9);
    let collector = Collector::start(store);
    collector.send(&exporter, &messages.all);
    let ended = collector.stop();
    check(store, messages.record_count, "after damage");
    for name in names {
        let warnings = ended.stderr.lines().filter(|line| line.contains(name));
        assert_eq!(warnings.count(), 1, "{}", ended.stderr);
        let aside = std::fs::read(store.join(format!("{name}.damaged"))).unwrap();
        assert_eq!(aside, b"no such file");
    }
}
