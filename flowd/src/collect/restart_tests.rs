//! A collector that is restarted in the middle decodes what one that is not does.

use super::corpus_tests::{corpus, datagrams};
use super::*;
use crate::model::{FlowBatch, FlowRecord, time::UnixMillis};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Restarts of one capture; longer ones are restarted at places that lie even.
const RESTART_COUNT_MAX: usize = 40;

/// One run of a collector on a directory.
struct Run {
    decoder: Decoder,
    templates: Arc<TemplateStore>,
    pending: Arc<PendingStore>,
    books: Arc<Books>,
}

impl Run {
    fn start(dir: &Path) -> Self {
        let config = DecoderConfig { with_collection_time: false, ..DecoderConfig::default() };
        let templates = Arc::new(TemplateStore::new(&config));
        let pending = Arc::new(PendingStore::in_memory(config.pending));
        let books = Arc::new(Books::default());
        templates.restore(dir);
        books.restored_sets(pending.keep_in(dir).unwrap());
        books.restore_sequences(dir, 1);
        let (store, waiting) = (Arc::clone(&templates), Arc::clone(&pending));
        let decoder = Decoder::new(&config, store, waiting, Arc::clone(&books));
        Self { decoder, templates, pending, books }
    }

    /// Ends as a collector does that is told to.
    fn end(mut self, dir: &Path, batch: &mut FlowBatch) -> Statistics {
        self.decoder.idle(UnixMillis(0), batch, &mut |_| panic!("there is room"));
        self.pending.finish().unwrap();
        self.templates.save(dir, UnixMillis(0)).unwrap();
        self.books.save_sequences(dir, self.books.sequences(1)).unwrap();
        let statistics = self.books.statistics();
        assert_eq!(statistics.sets_held, self.pending.count());
        statistics
    }
}

/// Decodes all, with a restart before each message that `is_restart` says. The records, and the
/// sum of what all runs counted.
fn decode(
    messages: &[(SocketAddr, Vec<u8>)],
    is_restart: impl Fn(usize) -> bool,
) -> (Vec<FlowRecord>, Statistics) {
    let dir = tempfile::tempdir().unwrap();
    let mut records = Vec::new();
    let mut take = |batch: &FlowBatch| {
        records.extend((0..batch.len()).map(|row| batch.record(row).unwrap()));
    };
    let mut batch = FlowBatch::new();
    let mut sum = Statistics::default();
    let mut run = Run::start(dir.path());
    for (number, (peer, message)) in messages.iter().enumerate() {
        if is_restart(number) {
            let ended =
                std::mem::replace(&mut run, Run::start(tempfile::tempdir().unwrap().path()));
            sum.add(&ended.end(dir.path(), &mut batch));
            run = Run::start(dir.path());
        }
        run.decoder.decode(message, (*peer).into(), UnixMillis(0), &mut batch, &mut take);
        take(&batch);
        batch.clear();
    }
    sum.add(&run.end(dir.path(), &mut batch));
    take(&batch);
    (records, sum)
}

/// What the runs counted, but for what says that they were several. What came late for a gap of
/// an earlier run is not known to fill it.
fn essential(statistics: Statistics) -> Statistics {
    let exporters = statistics.exporters.into_iter().map(|exporter| ExporterStatistics {
        sequence_gaps: 0,
        messages_missing: 0,
        messages_lost: 0,
        records_missing: 0,
        records_late: 0,
        records_lost: 0,
        messages_late: 0,
        messages_repeated: 0,
        restarts: 0,
        ..exporter
    });
    Statistics { sets_restored: 0, exporters: exporters.collect(), ..statistics }
}

#[test]
fn a_restart_at_any_message_of_real_captures_changes_nothing() {
    let Some(corpus) = corpus() else {
        println!("skipped: there is no corpus beside the workspace");
        return;
    };
    let (mut captures, mut restarts, mut compared) = (0, 0, 0);
    for entry in std::fs::read_dir(corpus.join("collector")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_template_based = name.contains("v9") || name.contains("ipfix");
        if path.extension().is_none_or(|extension| extension != "pcap") || !is_template_based {
            continue;
        }
        let messages = datagrams(&path);
        let (whole, statistics) = decode(&messages, |_| false);
        assert!(statistics.sets_add_up(), "{name}");
        let step = messages.len().div_ceil(RESTART_COUNT_MAX).max(1);
        let (parts, sum) = decode(&messages, |number| number % step == 0);
        assert_eq!(parts.len(), whole.len(), "{name}");
        assert!(parts == whole, "{name}: the records differ");
        assert!(sum.sets_add_up(), "{name}: {sum:?}");
        assert_eq!(essential(sum), essential(statistics), "{name}");
        captures += 1;
        restarts += messages.len().div_ceil(step);
        compared += whole.len();
    }
    println!("{captures} captures, {restarts} restarts, {compared} records");
    assert!(captures > 20);
}
