//! Any messages whatever -> one decoder over all inputs. It must not break, its counters must add
//! up, and each record that it gives must be readable.
//!
//! A fault may need what earlier inputs left behind. When one is found, all messages since the
//! decoder was made are written to the file that `FLOWD_FUZZ_HISTORY` names: an input that finds
//! it again.

use super::input::{self, Sent};
use flowd::collect::{Books, Decoder, DecoderConfig, Peer, TemplateStore};
use flowd::model::FlowBatch;
use flowd::model::time::UnixMillis;
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Octets of messages after which a new decoder takes over.
const HISTORY_SIZE_MAX: usize = 1 << 20;
/// Inputs between two looks at all counters.
const LOOK_INTERVAL: u32 = 64;

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// Runs an input on the decoder of all inputs.
pub fn run(octets: &[u8]) {
    STATE.with_borrow_mut(|state| {
        let state = state.get_or_insert_with(|| {
            note_history_of_panics();
            State::new()
        });
        state.run(octets);
    });
}

/// Runs an input on a decoder of its own.
pub fn run_alone(octets: &[u8]) {
    let mut state = State::new();
    state.run(octets);
    state.look();
}

struct State {
    decoder: Decoder,
    books: Arc<Books>,
    batch: FlowBatch,
    records: u64,
    now: i64,
    inputs: u32,
}

impl State {
    fn new() -> Self {
        let config = DecoderConfig::default();
        let books = Arc::new(Books::default());
        let templates = Arc::new(TemplateStore::new(&config));
        Self {
            decoder: Decoder::new(&config, templates, Arc::default(), Arc::clone(&books)),
            books,
            batch: FlowBatch::new(),
            records: 0,
            now: 1_700_000_000_000,
            inputs: 0,
        }
    }

    fn run(&mut self, octets: &[u8]) {
        if HISTORY.with_borrow(Vec::len) > HISTORY_SIZE_MAX {
            self.look();
            HISTORY.with_borrow_mut(Vec::clear);
            *self = Self::new();
        }
        for sent in input::messages(octets) {
            HISTORY.with_borrow_mut(|history| sent.write(history));
            self.message(sent);
        }
        self.inputs += 1;
        if self.inputs.is_multiple_of(LOOK_INTERVAL) {
            self.look();
        }
    }

    fn message(&mut self, sent: Sent<'_>) {
        let number = sent.number();
        let address = Ipv4Addr::new(192, 0, 2, number >> 2);
        let port = 2_000 + u16::from(number & 3);
        let address = SocketAddr::from((address, port));
        let peer = if sent.is_of_connection() { Peer::tcp(address) } else { Peer::udp(address) };
        // Time enough for some of what waits to be given up.
        self.now += 1_000;
        let Self { decoder, batch, records, now, .. } = self;
        let now = UnixMillis(*now);
        decoder.decode(sent.octets, peer, now, batch, &mut |full| *records += read_all(full));
        if sent.ends() {
            decoder.disconnect(peer);
            decoder.idle(now, batch, &mut |full| *records += read_all(full));
        }
        *records += read_all(batch);
        batch.clear();
    }

    /// Do the counters add up?
    fn look(&self) {
        let counted = self.books.statistics();
        let drops: u64 = counted.drops.values().sum();
        assert_eq!(counted.datagrams, counted.datagrams_decoded + drops, "{counted:?}");
        let drops: u64 = counted.set_drops.values().sum();
        assert!(counted.sets >= counted.sets_decoded + drops, "{counted:?}");
        assert_eq!(counted.records, self.records, "{counted:?}");
    }
}

/// Reads all records of a batch; how many there are.
fn read_all(batch: &FlowBatch) -> u64 {
    let mut count = 0;
    for run in batch.runs() {
        for row in run.rows.clone() {
            let record = batch.record(row).expect("a row of a run is a record");
            for column in record.present.iter() {
                assert!(record.value(column).is_some(), "{column:?} is said to be there");
            }
            count += 1;
        }
    }
    count
}

thread_local! {
    /// What a panic writes down: the state itself is in use then.
    static HISTORY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn note_history_of_panics() {
    let Some(path) = std::env::var_os("FLOWD_FUZZ_HISTORY") else { return };
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        HISTORY.with_borrow(|history| drop(std::fs::write(&path, history)));
        next(panic);
    }));
}
