//! IPFIX over TCP (RFC 7011 section 10.4): connections from the kernel, their messages to the
//! decoder. One thread an address; it never waits for one connection.

use super::access::Access;
use super::address::{ListenAddress, ListenError};
use super::books::{Books, CollectDrop, ConnectionEnd};
use super::complaints::Complaints;
use super::connections::{Connection, ConnectionLimits, Connections};
use super::decode::Decoder;
use super::listen::{DRAIN_MILLIS_MAX, ListenConfig, WAIT, hand_on};
use super::pending::PendingStore;
use super::rounds::lock;
use super::socket::{open_stream, raise_open_files};
use super::stream::StreamError;
use super::template_cache::TemplateStore;
use super::{Peer, Transport};
use crate::model::FlowBatch;
use crate::model::time::UnixMillis;
use crate::telemetry::Flag;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::warn;

/// Octets that a connection may hand on before it is another's turn: so much for fairness that a
/// loud one holds up a quiet one for no longer than the decoding of these.
const TURN_SIZE_MAX: usize = 128 << 10;
/// Connections that are taken before those that are there have their turn.
const ACCEPTS_A_ROUND_MAX: usize = 64;
/// Turns before the wish to stop is looked at.
const TURNS_A_ROUND_MAX: usize = 256;
/// Events that one call takes from the kernel.
const EVENT_COUNT_MAX: usize = 1_024;
/// Files that the rest of the program may need open: blocks, segments, sockets.
const OTHER_FILES_MAX: usize = 512;
/// How often connections are looked through for those that are silent.
const LOOK_INTERVAL_MILLIS: i64 = 1_000;
const LISTENER: Token = Token(usize::MAX);

/// Opens the socket of a TCP address, whose connections one worker serves.
///
/// # Errors
/// If the address cannot be listened at.
pub fn listen_tcp(
    config: &ListenConfig,
    store: &Arc<TemplateStore>,
    pending: &Arc<PendingStore>,
    books: &Arc<Books>,
) -> Result<TcpWorker, ListenError> {
    let listen = ListenAddress { transport: Transport::Tcp, address: config.address };
    let fail = |source| ListenError::new(listen, source);
    let listener = open_stream(config.address).map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    let mut listener = TcpListener::from_std(listener);
    let poll = Poll::new().map_err(fail)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(fail)?;
    let limits = limits_of_system(config.connections, raise_open_files().map_err(fail)?);
    Ok(TcpWorker {
        address,
        poll,
        listener,
        may_accept: true,
        connections: Connections::new(limits),
        scratch: vec![0; TURN_SIZE_MAX].into(),
        decoder: books.share(Decoder::new(
            &config.decoder,
            Arc::clone(store),
            Arc::clone(pending),
            Arc::clone(books),
        )),
        batch: FlowBatch::new(),
        books: Arc::clone(books),
        access: Arc::clone(&config.access),
        complaints: Complaints::default(),
        clock: config.clock,
        looked: (config.clock)(),
    })
}

/// No more connections than the system lets this process have files.
fn limits_of_system(limits: ConnectionLimits, open_files_max: usize) -> ConnectionLimits {
    let possible = open_files_max.saturating_sub(OTHER_FILES_MAX).max(open_files_max / 2);
    if possible < limits.count_max {
        warn!(
            connections = possible,
            "fewer TCP connections than usual: raise the number of open files (ulimit -n)"
        );
    }
    ConnectionLimits { count_max: limits.count_max.min(possible), ..limits }
}

/// One listening socket with its connections and their decoder: everything that a thread needs.
#[derive(Debug)]
pub struct TcpWorker {
    address: SocketAddr,
    poll: Poll,
    listener: TcpListener,
    /// The listener may have connections; its event came and it has not said that there are none.
    may_accept: bool,
    connections: Connections,
    /// What one turn reads.
    scratch: Box<[u8]>,
    decoder: Arc<Mutex<Decoder>>,
    batch: FlowBatch,
    books: Arc<Books>,
    access: Arc<Access>,
    complaints: Complaints,
    clock: fn() -> UnixMillis,
    /// When connections were looked through last.
    looked: UnixMillis,
}

/// What came of a connection's turn.
enum Turn {
    /// There may be more to read.
    More,
    /// All was read that has come.
    Waits,
    Ends(ConnectionEnd),
}

impl TcpWorker {
    /// Where it listens; the port is the one that it got.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes connections and decodes their messages until `stop` is raised, then what has arrived
    /// already. `sink` and `idle` are called as by [`Worker::run`](super::Worker::run).
    ///
    /// # Errors
    /// If the readiness of sockets cannot be asked for.
    pub fn run(
        &mut self,
        stop: &Flag,
        sink: &mut dyn FnMut(&FlowBatch),
        idle: &mut dyn FnMut(),
    ) -> io::Result<()> {
        let wait_millis = i64::try_from(WAIT.as_millis()).unwrap_or(i64::MAX);
        let mut events = Events::with_capacity(EVENT_COUNT_MAX);
        let mut idle_at = (self.clock)();
        while !stop.is_raised() {
            let now = self.round(&mut events, WAIT, sink)?;
            // A clock that was set back counts as due.
            let since_idle = now.0.saturating_sub(idle_at.0);
            if !(0..wait_millis).contains(&since_idle) {
                idle_at = now;
                self.housekeep(now, sink);
                idle();
            }
        }
        let end = (self.clock)().0.saturating_add(DRAIN_MILLIS_MAX);
        loop {
            let now = self.round(&mut events, Duration::ZERO, sink)?;
            let is_drained = !self.may_accept && self.connections.queued_count() == 0;
            if (is_drained && events.is_empty()) || now.0 > end {
                {
                    let books = Arc::clone(&self.books);
                    let _round = books.round();
                    self.end_all(now);
                }
                self.housekeep(now, sink);
                return Ok(());
            }
        }
    }

    /// Waits for something to do, if there is nothing, and does some of it.
    fn round(
        &mut self,
        events: &mut Events,
        wait: Duration,
        sink: &mut dyn FnMut(&FlowBatch),
    ) -> io::Result<UnixMillis> {
        let has_work = self.may_accept || self.connections.queued_count() > 0;
        match self.poll.poll(events, Some(if has_work { Duration::ZERO } else { wait })) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in events.iter() {
            match event.token() {
                LISTENER => self.may_accept = true,
                Token(place) => self.connections.enqueue(place),
            }
        }
        let books = Arc::clone(&self.books);
        let _round = books.round();
        let now = (self.clock)();
        if self.may_accept {
            self.accept(now);
        }
        let turn_count = self.connections.queued_count().min(TURNS_A_ROUND_MAX);
        for _ in 0..turn_count {
            let Some(place) = self.connections.dequeue() else { break };
            match self.turn(place, now, sink) {
                Turn::More => self.connections.enqueue(place),
                Turn::Waits => {}
                Turn::Ends(end) => self.end(place, end, now),
            }
        }
        hand_on(&mut self.batch, sink);
        Ok(now)
    }

    /// Takes connections that have come.
    fn accept(&mut self, now: UnixMillis) {
        for _ in 0..ACCEPTS_A_ROUND_MAX {
            let (mut stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.may_accept = false;
                    return;
                }
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    // No file or no memory is left. The listener has no further event for those
                    // that wait in it: they are asked for again at the next look.
                    self.may_accept = false;
                    if let Some(suppressed) = self.complaints.pass(self.address.ip(), now) {
                        warn!(
                            %error, suppressed,
                            "connections cannot be taken: they wait; if there are too many open \
                             files, raise `ulimit -n` (LimitNOFILE= of a systemd unit)"
                        );
                    }
                    return;
                }
            };
            self.books.connections.add(1);
            if !self.access.allows(peer.ip()) {
                self.books.connection_ends.count(ConnectionEnd::NotAllowed, 1);
                let reason = "--allow does not name the address";
                self.complain(peer, now, "connection refused", &reason);
                continue;
            }
            if let Err(reason) = self.connections.room_for(peer.ip()) {
                self.books.connection_ends.count(ConnectionEnd::OverLimit, 1);
                self.complain(peer, now, "connection refused", &reason);
                continue;
            }
            let token = Token(self.connections.next_place());
            match self.poll.registry().register(&mut stream, token, Interest::READABLE) {
                Ok(()) => self.connections.insert(stream, peer, now),
                Err(error) => {
                    self.books.connection_ends.count(ConnectionEnd::OverLimit, 1);
                    self.complain(peer, now, "connection refused", &error);
                }
            }
        }
    }

    /// Reads once from a connection and decodes the messages that this completes.
    fn turn(&mut self, place: usize, now: UnixMillis, sink: &mut dyn FnMut(&FlowBatch)) -> Turn {
        let Self { connections, scratch, decoder, batch, books, .. } = self;
        let Some(Connection { stream, peer, messages, heard, begun, .. }) =
            connections.get_mut(place)
        else {
            return Turn::Waits;
        };
        let octets = match stream.read(scratch) {
            Ok(0) => return Turn::Ends(ConnectionEnd::Closed),
            Ok(count) => scratch.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::Waits,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Turn::More,
            // Reset, timed out, no way: the peer is gone.
            Err(_) => return Turn::Ends(ConnectionEnd::Closed),
        };
        let sender = Peer::tcp(*peer);
        let room_before = messages.room();
        let mut left = octets.len().saturating_add(messages.begun_size());
        let mut came = false;
        let outcome = messages.take(octets, &mut |message| {
            came = true;
            left = left.saturating_sub(message.len());
            lock(decoder).decode(message, sender, now, batch, sink);
        });
        if came {
            *heard = now;
            *begun = None;
        }
        if messages.begun_size() > 0 {
            begun.get_or_insert(now);
        }
        let (peer, room) = (*peer, messages.room());
        if let Err(error) = outcome {
            books.received(left);
            let (drop, end) = match error {
                StreamError::Version(_) => {
                    (CollectDrop::UnsupportedVersion, ConnectionEnd::UnsupportedVersion)
                }
                StreamError::Length(_) => (CollectDrop::Malformed, ConnectionEnd::Malformed),
            };
            books.datagram_drops.count(drop, 1);
            self.connections.note_room(room_before, room);
            self.complain(peer, now, "connection closed", &error);
            return Turn::Ends(end);
        }
        if !self.connections.note_room(room_before, room) {
            self.complain(peer, now, "connection closed", &"too much waits for its end");
            return Turn::Ends(ConnectionEnd::OverLimit);
        }
        Turn::More
    }

    /// Takes leave of a connection, and counts the message that it leaves unfinished.
    fn end(&mut self, place: usize, end: ConnectionEnd, now: UnixMillis) {
        let Some(mut connection) = self.connections.remove(place) else {
            return;
        };
        // The kernel forgets a closed socket by itself; this cannot be of consequence.
        drop(self.poll.registry().deregister(&mut connection.stream));
        let unfinished = connection.messages.begun_size();
        let is_judged = matches!(end, ConnectionEnd::Malformed | ConnectionEnd::UnsupportedVersion);
        let end = match end {
            ConnectionEnd::Closed if unfinished > 0 => ConnectionEnd::Truncated,
            _ => end,
        };
        if unfinished > 0 && !is_judged {
            self.books.received(unfinished);
            self.books.datagram_drops.count(CollectDrop::Truncated, 1);
        }
        if end == ConnectionEnd::Truncated {
            self.complain(connection.peer, now, "connection ended", &"within a message");
        }
        self.books.connection_ends.count(end, 1);
        lock(&self.decoder).disconnect(Peer::tcp(connection.peer));
    }

    fn end_all(&mut self, now: UnixMillis) {
        for (place, end) in self.connections.look(|_, _| Some(ConnectionEnd::Stopped)) {
            self.end(place, end, now);
        }
    }

    fn housekeep(&mut self, now: UnixMillis, sink: &mut dyn FnMut(&FlowBatch)) {
        let books = Arc::clone(&self.books);
        let _round = books.round();
        lock(&self.decoder).idle(now, &mut self.batch, sink);
        hand_on(&mut self.batch, sink);
        let since_look = now.0.saturating_sub(self.looked.0);
        if (0..LOOK_INTERVAL_MILLIS).contains(&since_look) {
            return;
        }
        self.looked = now;
        // Connections that could not be taken for want of files may be taken now.
        self.may_accept = true;
        let silent = self.connections.look(|limits, connection| {
            connection.messages.rest();
            silence(limits, connection, now)
        });
        for (place, end) in silent {
            if let Some(connection) = self.connections.get_mut(place) {
                let peer = connection.peer;
                self.complain(peer, now, "connection closed", &"no message came for long");
            }
            self.end(place, end, now);
        }
    }

    fn complain(
        &mut self,
        peer: SocketAddr,
        now: UnixMillis,
        what: &str,
        reason: &dyn std::fmt::Display,
    ) {
        if let Some(suppressed) = self.complaints.pass(peer.ip(), now) {
            let from = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            let at = ListenAddress { transport: Transport::Tcp, address: self.address };
            warn!(%from, %at, %reason, suppressed, "{what}");
        }
    }
}

/// Is a connection silent for too long? One that trickles is, too.
fn silence(
    limits: &ConnectionLimits,
    connection: &mut Connection,
    now: UnixMillis,
) -> Option<ConnectionEnd> {
    let Connection { heard, begun, .. } = connection;
    // A clock that was set back begins the wait anew.
    *heard = UnixMillis(heard.0.min(now.0));
    *begun = begun.map(|begun| UnixMillis(begun.0.min(now.0)));
    let since = |then: UnixMillis| now.0.saturating_sub(then.0);
    if begun.is_some_and(|begun| since(begun) > limits.stalled_millis_max) {
        return Some(ConnectionEnd::Stalled);
    }
    (since(*heard) > limits.idle_millis_max).then_some(ConnectionEnd::Idle)
}

/// Errors of accept(2) that are of the connection that was to be taken.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
    )
}
