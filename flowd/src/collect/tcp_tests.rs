//! Streams over loopback: whole, cut, hostile, and many.

use super::*;
use crate::model::FlowBatch;
use crate::model::time::UnixMillis;
use crate::telemetry::{Counter, Flag};
use crate::wire::ipfix::Header;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time of all tests that do not set their own: a millisecond passes whenever one looks.
static CLOCK: Counter = Counter::new();

fn clock() -> UnixMillis {
    CLOCK.add(1);
    UnixMillis(i64::try_from(CLOCK.value()).unwrap())
}

fn config() -> ListenConfig {
    ListenConfig::new("127.0.0.1:0".parse().unwrap(), clock)
}

/// A TCP worker on a thread of its own, with what came of it.
struct Running {
    address: SocketAddr,
    books: Arc<Books>,
    stop: Arc<Flag>,
    /// The first octets' source port of each record: which records came, in their order.
    ports: Arc<Mutex<Vec<u16>>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(config: &ListenConfig) -> Self {
        let books = Arc::new(Books::default());
        let store = Arc::new(TemplateStore::new(&config.decoder));
        let mut worker = listen_tcp(config, &store, &Arc::default(), &books).unwrap();
        let address = worker.address();
        let (stop, ports) = (Arc::new(Flag::default()), Arc::new(Mutex::new(Vec::new())));
        let thread = std::thread::spawn({
            let (stop, ports) = (Arc::clone(&stop), Arc::clone(&ports));
            move || {
                let mut sink = |batch: &FlowBatch| ports.lock().unwrap().extend(ports_of(batch));
                worker.run(&stop, &mut sink, &mut || {}).unwrap();
            }
        });
        Self { address, books, stop, ports, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    fn wait(&self, what: &str, mut holds: impl FnMut(&Statistics) -> bool) {
        // Far longer than anything here takes.
        for _ in 0..30_000 {
            if holds(&self.books.statistics()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("waited in vain: {what}: {:?}", self.books.statistics());
    }

    fn ended(&self, reason: &str) -> u64 {
        self.books.statistics().connection_ends.get(reason).copied().unwrap_or(0)
    }

    /// Ends it, and holds its books against the laws.
    fn stop(mut self) -> (Statistics, Vec<u16>) {
        self.stop.raise();
        self.thread.take().unwrap().join().unwrap();
        let statistics = self.books.statistics();
        let dropped: u64 = statistics.drops.values().sum();
        assert_eq!(statistics.datagrams, statistics.datagrams_decoded + dropped, "{statistics:?}");
        assert_eq!(statistics.connections_open, 0, "{statistics:?}");
        (statistics, self.ports.lock().unwrap().clone())
    }
}

fn ports_of(batch: &FlowBatch) -> Vec<u16> {
    (0..batch.len()).map(|row| batch.record(row).unwrap().source_transport_port).collect()
}

/// A message with a template of one port, or with records of it.
fn message(sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(Header::SIZE + body.len()).unwrap();
    let header = Header { length, sequence_number: sequence, ..Header::default() };
    [&header.encode()[..], body].concat()
}

fn template() -> Vec<u8> {
    message(0, &[0, 2, 0, 16, 1, 0, 0, 2, 0, 7, 0, 2, 0, 11, 0, 2])
}

fn records(sequence: u32, ports: &[u16]) -> Vec<u8> {
    let length = u16::try_from(4 + 4 * ports.len()).unwrap();
    let mut set = vec![1, 0];
    set.extend(length.to_be_bytes());
    for port in ports {
        set.extend(port.to_be_bytes());
        set.extend([0, 53]);
    }
    message(sequence, &set)
}

fn ends(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|&(reason, count)| (reason.to_owned(), count)).collect()
}

/// Sends the rest and waits until the collector has taken the connection's end.
fn close(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
    let mut nothing = [0; 1];
    assert_eq!(stream.read(&mut nothing).unwrap(), 0);
}

#[test]
fn a_stream_cut_at_every_octet_gives_all_its_records() {
    let running = Running::start(&config());
    let stream = [template(), records(0, &[1, 2]), records(2, &[3])].concat();
    let mut expected = Vec::new();
    for cut in 0..=stream.len() {
        let mut connection = running.connect();
        connection.set_nodelay(true).unwrap();
        connection.write_all(&stream[..cut]).unwrap();
        let before = running.books.statistics().octets;
        if cut % 8 == 0 {
            // Until what is whole has been taken, so that the rest comes by another read.
            let whole = [0, template().len(), template().len() + records(0, &[1, 2]).len()];
            let whole = whole.into_iter().filter(|size| *size <= cut).max().unwrap() as u64;
            let start = (stream.len() * cut) as u64;
            running.wait("the first part", |s| s.octets >= start + whole && s.octets >= before);
        }
        connection.write_all(&stream[cut..]).unwrap();
        close(connection);
        expected.extend([1, 2, 3]);
    }
    let count = stream.len() as u64 + 1;
    let (statistics, ports) = running.stop();
    assert_eq!((statistics.datagrams, statistics.records), (3 * count, 3 * count));
    assert_eq!(statistics.connection_ends, ends(&[("closed", count)]));
    assert_eq!(ports, expected);
    let exporter = &statistics.exporters[0];
    assert_eq!((exporter.messages, exporter.sequence_gaps), (3 * count, 0));
}

#[test]
fn messages_in_one_segment_and_the_longest_one_are_decoded() {
    let running = Running::start(&config());
    let long: Vec<u16> = (0..16_378).collect();
    let stream = [template(), records(0, &[7]), records(1, &long), records(16_379, &[9])].concat();
    assert!(records(1, &long).len() > 65_500);
    let mut connection = running.connect();
    connection.write_all(&stream).unwrap();
    close(connection);
    let (statistics, ports) = running.stop();
    assert_eq!((statistics.datagrams_decoded, statistics.records), (4, 16_380));
    assert_eq!(ports, [&[7][..], &long, &[9]].concat());
}

#[test]
fn a_message_that_the_end_cuts_is_counted() {
    let running = Running::start(&config());
    let stream = [template(), records(0, &[1, 2])].concat();
    let mut connection = running.connect();
    connection.write_all(&stream[..stream.len() - 1]).unwrap();
    close(connection);
    let (statistics, ports) = running.stop();
    assert_eq!(statistics.drops, ends(&[("truncated", 1)]));
    assert_eq!(statistics.connection_ends, ends(&[("truncated", 1)]));
    assert_eq!(statistics.octets, stream.len() as u64 - 1);
    assert!(ports.is_empty());
}

#[test]
fn what_has_arrived_is_decoded_before_the_end() {
    let mut worker_config = config();
    worker_config.connections.count_max = 100;
    let running = Running::start(&worker_config);
    let connections: Vec<TcpStream> = (0..50)
        .map(|number| {
            let mut connection = running.connect();
            connection.write_all(&[template(), records(0, &[number])].concat()).unwrap();
            connection
        })
        .collect();
    let (statistics, mut ports) = running.stop();
    ports.sort_unstable();
    assert_eq!(ports, (0..50).collect::<Vec<u16>>());
    assert_eq!(statistics.connection_ends, ends(&[("stopped", 50)]));
    drop(connections);
}

#[test]
fn garbage_closes_its_connection_and_no_other() {
    let running = Running::start(&config());
    let mut honest = running.connect();
    honest.write_all(&template()).unwrap();
    for (octets, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "unsupportedVersion"),
        (&[0, 9, 0, 20, 1, 2, 3, 4], "unsupportedVersion"),
        (&[0, 10, 0, 0], "malformed"),
        (&[0, 10, 0, 15, 0, 0, 0, 0], "malformed"),
    ] {
        let before = running.ended(reason);
        let mut connection = running.connect();
        connection.write_all(&records(0, &[])).unwrap();
        connection.write_all(octets).unwrap();
        running.wait(reason, |s| s.connection_ends.get(reason) == Some(&(before + 1)));
        // The peer sees it closed: an end, or a reset where octets were left unread.
        assert!(!matches!(connection.read(&mut [0; 1]), Ok(1)));
    }
    honest.write_all(&records(0, &[5])).unwrap();
    close(honest);
    let (statistics, ports) = running.stop();
    assert_eq!(statistics.drops, ends(&[("malformed", 2), ("unsupportedVersion", 2)]));
    assert_eq!(ports, [5]);
}

/// Time of the tests of timeouts, which they set themselves.
static IDLE_CLOCK: Counter = Counter::new();
static DRIP_CLOCK: Counter = Counter::new();

#[test]
fn a_connection_without_messages_is_closed() {
    let limits = ConnectionLimits::default();
    IDLE_CLOCK.set(1_000_000);
    let clock = || UnixMillis(i64::try_from(IDLE_CLOCK.value()).unwrap());
    let running = Running::start(&ListenConfig { clock, ..config() });
    let mut idle = running.connect();
    running.wait("it is taken", |s| s.connections == 1);
    IDLE_CLOCK.add(u64::try_from(limits.idle_millis_max).unwrap() - 1_000);
    let mut other = running.connect();
    other.write_all(&template()).unwrap();
    running.wait("it is heard", |s| s.datagrams == 1);
    IDLE_CLOCK.add(2_000);
    running.wait("one is closed", |s| s.connection_ends == ends(&[("idle", 1)]));
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
    other.write_all(&records(0, &[1])).unwrap();
    running.wait("the other is heard", |s| s.records == 1);
    running.stop();
}

#[test]
fn an_endless_drip_is_no_message() {
    DRIP_CLOCK.set(1_000_000);
    let clock = || UnixMillis(i64::try_from(DRIP_CLOCK.value()).unwrap());
    let running = Running::start(&ListenConfig { clock, ..config() });
    let mut drip = running.connect();
    drip.set_nodelay(true).unwrap();
    let message = records(0, &[0; 10_000]);
    running.wait("it is taken", |s| s.connections == 1);
    let mut octets = message.iter();
    running.wait("it is closed", |s| {
        if let Some(octet) = octets.next() {
            // It fails once the connection is closed.
            drop(drip.write_all(&[*octet]));
            DRIP_CLOCK.add(2_000);
        }
        s.connection_ends == ends(&[("stalled", 1)])
    });
    let (statistics, _) = running.stop();
    assert_eq!(statistics.drops, ends(&[("truncated", 1)]));
    assert!(statistics.octets < 1_000, "{statistics:?}");
}

#[test]
fn ten_thousand_connections_stay_within_the_limits() {
    let mut worker_config = config();
    worker_config.connections.count_max = 100;
    worker_config.connections.count_per_address_max = 60;
    let running = Running::start(&worker_config);
    let mut open = Vec::new();
    for number in 1..=10_000 {
        let connection = running.connect();
        // The two counters are raised one after the other.
        running.wait("it is taken or refused", |s| {
            let refused = s.connection_ends.get("overLimit").copied().unwrap_or(0);
            s.connections == number && refused == number.saturating_sub(60)
        });
        if number <= 60 {
            open.push(connection);
        }
    }
    assert_eq!(running.books.statistics().connections_open, 60);
    // Each of those that were first is as good as before.
    for (connection, port) in open.iter_mut().zip(0..) {
        connection.write_all(&[template(), records(0, &[port])].concat()).unwrap();
    }
    running.wait("their records", |s| s.records == 60);
    drop(open.pop());
    running.wait("one ends", |s| s.connections_open == 59);
    let _next = running.connect();
    running.wait("another has its place", |s| s.connections_open == 60);
    running.stop();
}

#[test]
fn what_waits_for_its_end_is_limited_in_all() {
    let mut worker_config = config();
    worker_config.connections.unfinished_size_max = 100_000;
    let running = Running::start(&worker_config);
    let long = records(0, &[0; 10_000]);
    let connections: Vec<TcpStream> = (0..5)
        .map(|_| {
            let mut connection = running.connect();
            connection.write_all(&long[..30_000]).unwrap();
            connection
        })
        .collect();
    running.wait("some are closed", |s| s.connection_ends == ends(&[("overLimit", 2)]));
    drop(connections);
    let (statistics, _) = running.stop();
    assert_eq!(statistics.drops, ends(&[("truncated", 5)]));
}

#[test]
fn a_loud_connection_leaves_turns_to_a_quiet_one() {
    let running = Running::start(&config());
    let loud = running.connect();
    let is_heard = Arc::new(Flag::default());
    let shouting = std::thread::spawn({
        let is_heard = Arc::clone(&is_heard);
        let mut loud = loud.try_clone().unwrap();
        move || {
            loud.write_all(&template()).unwrap();
            let stream = records(0, &[1; 1_000]).repeat(20);
            while !is_heard.is_raised() {
                loud.write_all(&stream).unwrap();
            }
        }
    });
    running.wait("the loud one", |s| s.records > 100_000);
    let mut quiet = running.connect();
    quiet.write_all(&[template(), records(0, &[2])].concat()).unwrap();
    running.wait("the quiet one", |_| running.ports.lock().unwrap().contains(&2));
    is_heard.raise();
    shouting.join().unwrap();
    drop(loud);
    running.stop();
}

#[test]
fn only_those_who_may_send_are_heard_over_both_transports() {
    let access = Arc::new(Access::only(&["127.0.0.2/31".parse().unwrap()]));
    let running = Running::start(&ListenConfig { access: Arc::clone(&access), ..config() });
    let mut refused = running.connect();
    running.wait("it is refused", |s| s.connection_ends == ends(&[("notAllowed", 1)]));
    assert!(!matches!(refused.read(&mut [0; 1]), Ok(1)));
    let (statistics, _) = running.stop();
    assert_eq!((statistics.connections, statistics.datagrams), (1, 0));

    let config = ListenConfig { access, ..config() };
    let books = Arc::new(Books::default());
    let store = Arc::new(TemplateStore::new(&config.decoder));
    let mut worker = listen(&config, &store, &Arc::default(), &books).unwrap().remove(0);
    for last in 1..=4 {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).unwrap();
        socket.send_to(&template(), worker.address()).unwrap();
    }
    let stop = Flag::default();
    stop.raise();
    worker.run(&stop, &mut |_| {}, &mut || {}).unwrap();
    let statistics = books.statistics();
    assert_eq!((statistics.datagrams, statistics.datagrams_decoded), (4, 2));
    assert_eq!(statistics.drops, ends(&[("notAllowed", 2)]));
    let heard: Vec<String> =
        statistics.exporters.iter().map(|exporter| exporter.address.to_string()).collect();
    assert_eq!(heard, ["127.0.0.2", "127.0.0.3"]);
}

#[test]
fn an_exporter_that_sends_too_much_is_cut_down_and_no_other() {
    let config = ListenConfig { exporter_rate_max: Some(10), clock: || UnixMillis(7), ..config() };
    let books = Arc::new(Books::default());
    let store = Arc::new(TemplateStore::new(&config.decoder));
    let mut worker = listen(&config, &store, &Arc::default(), &books).unwrap().remove(0);
    for (last, count) in [(1, 100), (2, 10), (3, 11)] {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).unwrap();
        for _ in 0..count {
            socket.send_to(&template(), worker.address()).unwrap();
        }
    }
    let stop = Flag::default();
    stop.raise();
    worker.run(&stop, &mut |_| {}, &mut || {}).unwrap();
    let statistics = books.statistics();
    assert_eq!((statistics.datagrams, statistics.datagrams_decoded), (121, 30));
    assert_eq!(statistics.drops, ends(&[("rateLimited", 91)]));
}

#[test]
fn one_socket_of_ipv6_takes_both_families() {
    let running = Running::start(&ListenConfig::new("[::]:0".parse().unwrap(), clock));
    let port = running.address.port();
    for address in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(&template()).unwrap();
        close(connection);
    }
    let (statistics, _) = running.stop();
    let heard: Vec<String> =
        statistics.exporters.iter().map(|exporter| exporter.address.to_string()).collect();
    assert_eq!(heard, ["127.0.0.1", "::1"]);
}

#[test]
fn a_port_in_use_is_refused_and_one_that_was_is_not() {
    let running = Running::start(&config());
    let taken = ListenConfig::new(running.address, clock);
    let listen = |config| {
        let store = Arc::new(TemplateStore::new(&DecoderConfig::default()));
        listen_tcp(config, &store, &Arc::default(), &Arc::default())
    };
    let error = listen(&taken).unwrap_err();
    assert!(matches!(error, ListenError::InUse(_)), "{error}");
    assert!(error.to_string().starts_with("tcp://127.0.0.1:"), "{error}");
    assert!(error.to_string().contains("ss -tlpn"), "{error}");
    // A connection that the collector closed first lingers in the kernel, and is no obstacle.
    let mut connection = running.connect();
    connection.write_all(b"garbage").unwrap();
    running.wait("it is closed", |s| s.connections_open == 0 && s.connections == 1);
    running.stop();
    listen(&taken).unwrap();
    let error = listen(&ListenConfig::new("192.0.2.77:4739".parse().unwrap(), clock)).unwrap_err();
    assert!(matches!(error, ListenError::NoSuchAddress(_)), "{error}");
}
