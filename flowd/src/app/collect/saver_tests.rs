//! Whatever a collector is killed between, the next one knows what it has stored.

use super::*;
use crate::app::collect::{Start, take_over};
use crate::archive::{ArchiveConfig, Archiver, StoreSnapshot, open_store};
use crate::collect::{Decoder, DecoderConfig, ExporterStatistics};
use crate::model::FlowBatch;
use crate::ring::RingConfig;
use proptest::prelude::*;
use std::fs;
use std::net::SocketAddr;
use tempfile::TempDir;

/// Records of a message.
const RECORDS: u16 = 5;
const EXPORTERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A round of messages of an exporter, before which it lost some.
    Receive {
        exporter: usize,
        messages: u32,
        lost: u32,
    },
    Save,
    Archive,
    /// `is_torn`: in the middle of a save, the sequences are written and the counters are not.
    Kill {
        is_torn: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..EXPORTERS, 1..9u32, prop_oneof![3 => Just(0), 1 => 1..4u32])
            .prop_map(|(exporter, messages, lost)| Step::Receive { exporter, messages, lost }),
        3 => Just(Step::Save),
        2 => Just(Step::Archive),
        2 => any::<bool>().prop_map(|is_torn| Step::Kill { is_torn }),
    ]
}

/// A collector at work on a store, without its threads.
struct Run {
    dir: TempDir,
    decoder: Decoder,
    batch: FlowBatch,
    appender: Arc<Mutex<Appender>>,
    archiver: Archiver,
    saver: Saver,
}

impl Run {
    fn start(dir: TempDir) -> Self {
        // So small that blocks are sealed and archived all the time.
        let ring = RingConfig { block_rows: 64, stripe_rows: 16, ..RingConfig::default() };
        let archive =
            ArchiveConfig { block_age_max_millis: i64::MIN / 2, ..ArchiveConfig::for_ring(&ring) };
        let opened = open_store(dir.path(), ring, archive).unwrap();
        let books = Arc::new(Books::default());
        let memory = Memory::new(dir.path(), &books);
        let (templates, pending) = (Arc::clone(&memory.templates), Arc::clone(&memory.pending));
        let Start { ring, archiver, memory, counting, .. } =
            take_over(opened, memory, &books).unwrap();
        let writer = ring.writer(0, clock::now()).unwrap();
        let appender = Arc::new(Mutex::new(Appender::new(writer)));
        let decoder = Decoder::new(&DecoderConfig::default(), templates, pending, books);
        let writers = vec![Arc::clone(&appender)];
        let saver = Saver::new(memory, counting, writers, archiver.clearance());
        Self { dir, decoder, batch: FlowBatch::new(), appender, archiver, saver }
    }

    fn receive(&mut self, exporter: usize, numbers: std::ops::Range<u32>) {
        let port = 2_000 + u16::try_from(exporter).unwrap();
        let peer = SocketAddr::from(([192, 0, 2, u8::try_from(exporter).unwrap()], port));
        let now = clock::now();
        let mut append = |batch: &FlowBatch| lock(&self.appender).append(batch);
        for number in numbers {
            self.decoder.decode(&message(number), peer.into(), now, &mut self.batch, &mut append);
        }
        self.decoder.idle(now, &mut self.batch, &mut append);
        append(&self.batch);
        self.batch.clear();
    }

    /// The next collector, on what this one leaves behind when it is killed.
    fn kill(mut self, is_torn: bool) -> Self {
        let counters = self.dir.path().join("statistics.json");
        let before = fs::read(&counters).ok();
        if is_torn {
            self.saver.save().1.unwrap();
            match before {
                Some(before) => fs::write(counters, before).unwrap(),
                None => fs::remove_file(counters).unwrap(),
            }
        }
        let left = tempfile::tempdir().unwrap();
        copy(self.dir.path(), left.path());
        Self::start(left)
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A NetFlow v9 message with its template.
fn message(number: u32) -> Vec<u8> {
    let mut octets = Vec::new();
    for half in [9, 1 + RECORDS] {
        octets.extend(half.to_be_bytes());
    }
    for word in [50_000 + number, 1_700_000_000, number, 7] {
        octets.extend(word.to_be_bytes());
    }
    for half in [0, 12, 256, 1, 8, 4, 256, 4 + 4 * RECORDS] {
        octets.extend(u16::to_be_bytes(half));
    }
    octets.extend((0..u32::from(RECORDS)).flat_map(u32::to_be_bytes));
    octets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn counted_is_what_is_stored_whatever_a_kill_comes_between(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut run = Run::start(tempfile::tempdir().unwrap());
        let (mut next, mut received, mut lost) = ([100; EXPORTERS], [0; EXPORTERS], [0; EXPORTERS]);
        // Is its sequence known, and will it be after a kill?
        let (mut is_known, mut is_saved) = ([false; EXPORTERS], [false; EXPORTERS]);
        for step in steps.into_iter().chain([Step::Kill { is_torn: false }]) {
            match step {
                Step::Receive { exporter, messages, lost: missing } => {
                    // What was lost before the first message nobody can know.
                    let missing = if is_known[exporter] { missing } else { 0 };
                    is_known[exporter] = true;
                    let first = next[exporter] + missing;
                    next[exporter] = first + messages;
                    lost[exporter] += u64::from(missing);
                    received[exporter] += u64::from(messages);
                    run.receive(exporter, first..first + messages);
                }
                Step::Save => {
                    run.saver.save().1.unwrap();
                    is_saved = is_known;
                }
                Step::Archive => drop(run.archiver.archive_due(clock::now()).unwrap()),
                Step::Kill { is_torn } => {
                    run = run.kill(is_torn);
                    is_known = is_saved;
                    for (lost, _) in lost.iter_mut().zip(is_known).filter(|(_, is)| !is) {
                        *lost = 0;
                    }
                }
            }
            let statistics = run.saver.counting.now();
            let collect = &statistics.collect;
            let (messages, records) = (collect.datagrams, collect.records);
            let stored = StoreSnapshot::open(run.dir.path()).unwrap();
            prop_assert_eq!(messages, received.iter().sum::<u64>());
            prop_assert_eq!(messages, collect.datagrams_decoded);
            prop_assert_eq!(records, messages * u64::from(RECORDS));
            prop_assert_eq!(records, stored.flow_records());
            prop_assert_eq!(records, statistics.appended);
            for ExporterStatistics { address, messages, messages_lost, records, .. } in
                &collect.exporters
            {
                let SocketAddr::V4(address) = SocketAddr::new(*address, 0) else { panic!() };
                let exporter = usize::from(address.ip().octets()[3]);
                let known = (received[exporter], lost[exporter]);
                prop_assert_eq!((*messages, *messages_lost), known);
                prop_assert_eq!(*records, messages * u64::from(RECORDS));
            }
        }
    }
}
